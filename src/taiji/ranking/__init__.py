"""Stage 4: the ranking model, and the features that the language model gives it."""
