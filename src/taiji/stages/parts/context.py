"""What a stage is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from taiji.config import Recipe
from taiji.store.run_directory import UNFINISHED

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
            It is empty when the stage begins, but for `parts`.
        inputs: Verified artifacts of the upstream stages, by stage name.
        progress: Where to report progress.
        key: Hash of all that the result depends on.
    """

    recipe: Recipe
    out: Path
    inputs: Mapping[str, Path]
    progress: Progress
    key: str = ""

    def parts(self, what: str) -> Path:
        """A folder for unfinished work: shards and checkpoints, which vouch for themselves.

        After a kill the same stage with the same key finds here what it had finished. None of
        it gets into the artifact.
        """
        return self.out / UNFINISHED / f"{what}.{self.key.removeprefix('sha256:')[:16]}"

    @property
    def calls(self) -> Path:
        """Where replies that were paid for are kept by their content, across changed settings."""
        return self.out.parent / "calls"
