"""The negative controls of the simulation; apart, so that tables need no model to be imported."""

AA = "aa"
"""The arm that is the base once more, for other users."""

OVERRATED = 1.5
"""Factor of the predictions in the control that shows what cost control is for."""
