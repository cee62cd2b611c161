"""Files that are whole or absent, and the run directory made of them."""
