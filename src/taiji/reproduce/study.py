"""Brings all arms of a study up to date, one after another, each from what the others share.

There is no pipeline here: an arm is a run, and the runner decides what is up to date. A stage that
an earlier arm has made with the same key is linked instead of made again. So a study that was
killed goes on with the same command, and so does any single arm by `taiji run`.
"""

import gc
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import MissingArtifactError
from taiji.pipeline import upstream
from taiji.reproduce.arms import ARMS, Arm, Size, World, recipe_of, run_name, settings_of
from taiji.runner import Listener, Runner, plan
from taiji.stage_function import StageFunction
from taiji.store.run_directory import Manifest, RunDirectory

Announce = Callable[[str, int, int], None]
"""Called as `announce(run, number, of)` before an arm is brought up to date."""


@dataclass(frozen=True)
class Study:
    """What is to be run.

    Attributes:
        folder: Holds a run directory for each arm, and the results.
        worlds: On which data.
        size: How much of everything.
        further: Settings for all arms, as `section.key=value`.
    """

    folder: Path
    worlds: Sequence[World]
    size: Size
    further: Sequence[str] = ()

    def runs(self) -> list[tuple[World, Arm]]:
        """Every arm of every world, in the order in which they run."""
        return [(world, arm) for world in self.worlds for arm in ARMS]

    def recipe(self, world: World, arm: Arm) -> Recipe:
        """The resolved recipe of an arm.

        Raises:
            ConfigError: A setting cannot be used.
        """
        settings = settings_of(world, self.size, arm, self.further)
        return load_recipe(recipe_of(world), settings).recipe

    def directory(self, world: World, arm: Arm) -> RunDirectory:
        """Where an arm runs."""
        return RunDirectory(self.folder / run_name(world, arm))


def run_study(
    study: Study,
    listener: Listener,
    announce: Announce,
    load: Callable[[str], StageFunction] | None = None,
    **checks: Callable[..., None],
) -> None:
    """Bring every arm up to date.

    Args:
        study: What to run.
        listener: Hears of each stage.
        announce: Hears of each arm.
        load: Gives the function of a stage; tests have small ones.
        checks: Further arguments of `Runner`.

    Raises:
        ConfigError: A setting cannot be used; no work was done.
        TaijiError: A stage failed; what had finished stays.
    """
    runs = study.runs()
    recipes = {
        run_name(*run): study.recipe(*run) for run in runs
    }  # all are read before the first one runs
    for number, (world, arm) in enumerate(runs, start=1):
        recipe, directory = recipes[run_name(world, arm)], study.directory(world, arm)
        others = [study.directory(w, a) for w, a in runs if w == world and a is not arm]
        announce(recipe.name, number, len(runs))
        with directory.locked():
            borrow(recipe, directory, others, arm.until)
        Runner(recipe, directory, listener, load, **checks).run(arm.until)
        gc.collect()  # the models of this arm, before those of the next are loaded


def borrow(
    recipe: Recipe, directory: RunDirectory, others: Sequence[RunDirectory], until: str
) -> list[str]:
    """Link every stage that another run has made with the key that it would have here.

    Args:
        recipe: Of the run.
        directory: Of the run.
        others: Runs that may have it.
        until: The last stage that is wanted.

    Returns:
        Names of the stages that were linked.
    """
    linked = []
    for stage in upstream(until, texts_given=recipe.infer.texts_from is not None):
        if directory.manifest(stage.name) is not None:
            continue
        try:
            key = plan(stage, recipe, directory).key
        except MissingArtifactError:
            continue  # what it reads has to be made first
        source = next((one for one in others if _key(one.manifest(stage.name)) == key), None)
        if source is not None and stage.name != "report":  # which is of its own run
            link_whole(source.verify(stage.name, contents=False), directory.folder(stage.name))
            linked.append(stage.name)
    return linked


def link_whole(source: Path, target: Path) -> None:
    """A copy that is whole or absent; links will do, since artifacts are never written again."""
    unfinished = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        shutil.copytree(source, unfinished, copy_function=os.link)
    except OSError:  # a file system without links
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.copytree(source, unfinished)
    unfinished.rename(target)


def _key(manifest: Manifest | None) -> str | None:
    return None if manifest is None else manifest.key


def finished(study: Study) -> Mapping[str, Path]:
    """The run directories that have been judged, by name."""
    found = {run_name(*run): study.directory(*run) for run in study.runs()}
    return {name: one.root for name, one in found.items() if one.manifest("evaluate") is not None}
