"""What a stage is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taiji.config import Recipe

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, what)`, as often as the stage likes."""

Summary = dict[str, float | int | str]
"""A few figures that a stage ends with; they go into its manifest and onto the terminal."""


@dataclass(frozen=True)
class StageContext:
    """Everything a stage may touch.

    Attributes:
        recipe: The whole resolved recipe; a stage reads only the sections that it declares.
        out: The folder to write into. It becomes the stage's artifact when the stage returns.
            After a kill the same stage finds here what it had written, so finished shards and
            checkpoints are reused.
        inputs: Verified artifacts of the upstream stages, by stage name.
        progress: Where to report progress.
    """

    recipe: Recipe
    out: Path
    inputs: Mapping[str, Path]
    progress: Progress

    @property
    def calls(self) -> Path:
        """Where replies that were paid for are kept by their content, across changed settings."""
        return self.out.parent / "calls"
