"""The stages, one file each: the only code that reads and writes the run directory."""
