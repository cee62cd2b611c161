"""How a source is accounted for."""

from collections.abc import Mapping

Counts = Mapping[str, int]
"""Rows by what became of them: `kept`, or the reason why not."""
