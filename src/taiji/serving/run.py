"""A finished run as the service reads it, and the service's own folder beside the runs."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import ConfigError, MissingArtifactError, RunDirectoryError
from taiji.stages.parts.erased import FOLDER
from taiji.store.files import digest_value, read_json
from taiji.store.run_directory import RunDirectory

STAGES = ("construct", "align", "features")


@dataclass(frozen=True)
class ServedRun:
    """A run whose features are served.

    Attributes:
        root: The run directory.
        recipe: Its recipe, with the settings of `serve` that the command gave.
    """

    root: Path
    recipe: Recipe

    @property
    def construct(self) -> Path:
        """Its tables."""
        return self.root / "construct"

    @property
    def policy(self) -> Path:
        """Its tuned model."""
        return self.root / "align" / "model"

    @property
    def features(self) -> Path:
        """Its codebook, vectors and features."""
        return self.root / "features"

    @property
    def state(self) -> Path:
        """What the service keeps: store, queue, log, keys, tombstones. All runs beside share it."""
        return self.root.absolute().parent / FOLDER

    @cached_property
    def version_id(self) -> str:
        """Digest of encoder and codebook: features of two runs with one id may be mixed."""
        codebook = read_json(self.features / "codebook.json")
        return digest_value([self.recipe.encoder.model, codebook])

    @cached_property
    def verified(self) -> RunDirectory:
        """The run directory, once every file that is served from is as it was written.

        Raises:
            MissingArtifactError: A stage has not finished.
            DataError: A file is damaged.
        """
        directory = RunDirectory(self.root)
        for stage in STAGES:
            directory.verify(stage)
        return directory


def open_run(root: Path, overrides: list[str] | None = None) -> ServedRun:
    """A run by its directory.

    Args:
        root: Such as `runs/demo`.
        overrides: Settings such as `serve.backend=redis`.

    Raises:
        MissingArtifactError: There is no run.
        RunDirectoryError: The run is in the way of the service's own folder.
        ConfigError: A setting is wrong.
    """
    path = root / "recipe.resolved.yaml"
    if not path.is_file():
        raise MissingArtifactError(f"{root}: no run here: `taiji run RECIPE` makes one")
    if root.absolute().name == FOLDER:
        raise RunDirectoryError(f"{root}: a run of this name cannot be served: choose name=...")
    return ServedRun(root, load_recipe(path, overrides or []).recipe)


def open_any_run(runs: Path, overrides: list[str] | None = None) -> ServedRun:
    """A run of a folder, for what concerns the service that all of them share.

    Args:
        runs: Such as `runs`.
        overrides: Settings such as `serve.backend=redis`.

    Raises:
        MissingArtifactError: There is none.
        ConfigError: They do not agree on where the service keeps features, or on its key.
    """
    roots = [path.parent for path in sorted(runs.glob("*/recipe.resolved.yaml"))]
    if not roots:
        raise MissingArtifactError(f"{runs}: no run here: --run names one, or --runs their folder")
    found = [open_run(root, overrides) for root in roots]
    for other in found[1:]:
        if _keeps_in(other) != _keeps_in(found[0]):
            raise ConfigError(
                f"{roots[0]} and {other.root} differ in serve.backend, serve.redis_url_env or "
                "report.pseudonym_key_env: name with --run the one whose service is meant"
            )
    return found[-1]


def _keeps_in(run: ServedRun) -> tuple[str, str, str]:
    serve = run.recipe.serve
    return serve.backend, serve.redis_url_env, run.recipe.report.pseudonym_key_env
