"""The gradient of each reward (Eq. 6): exact, cheap, on one process or many."""
