"""What became of the users of one refresh."""

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What became of the users of one refresh.

    Attributes:
        positions: Of the last event that each finished user's features know.
        failed: Users to try again.
        left: Users for whom this minute's tokens did not suffice.
        figures: To be counted.
    """

    positions: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def count(self, name: str, number: float = 1) -> None:
        """Add to a figure."""
        self.figures[name] = self.figures.get(name, 0) + number
