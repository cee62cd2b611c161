"""`taiji ui`: the pages of a folder of runs, read-only, live while a run trains."""
