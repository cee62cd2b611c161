"""What stands for language features that nobody has."""

MISSING_CODE = -1
