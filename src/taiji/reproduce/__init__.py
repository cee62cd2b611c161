"""`taiji reproduce`: the paper's tables from runs of ordinary recipes, in one folder."""
