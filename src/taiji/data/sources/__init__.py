"""Data sets known by name, each as a mapping of its files."""
