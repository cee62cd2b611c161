"""What several stages share; only stages and their parts read and write the run directory."""
