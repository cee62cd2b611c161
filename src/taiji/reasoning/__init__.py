"""Stage 2: RUPR writes chains of thought, ORFT keeps and learns the ones that help."""
