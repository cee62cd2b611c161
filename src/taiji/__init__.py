"""Taiji: a recommender, made better with a language model (arXiv 2606.03866)."""

__version__ = "0.2.0"
