"""Canonical tables become histories, targets and the text of prompts."""
