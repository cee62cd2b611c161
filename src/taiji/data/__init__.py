"""Stage 1: logs become tables, histories, targets and text."""
