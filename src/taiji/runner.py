"""Runs the pipeline: what is up to date is reused, what was interrupted goes on.

A stage's key is the hash of its code, its settings, the seed and its upstream outputs. Heavy
libraries are imported when a stage that needs them starts, so reuse and status stay quick.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import Enum
from functools import reduce
from operator import getitem
from typing import Protocol

from taiji.config import Recipe
from taiji.config.loading import dump_recipe
from taiji.config.section import Section
from taiji.data.tables.reach import Contents, declared
from taiji.errors import ConfigError, DataError, MissingArtifactError
from taiji.pipeline import STAGES, Stage, find_stage, reads, upstream
from taiji.stage_function import StageFunction, stage_function
from taiji.stage_process import TRAINED, launch
from taiji.stages.parts.constructed import CONTENTS, read_contents
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.outside import contents
from taiji.stages.parts.preflight import check_before_work
from taiji.store.exhausted import resource_errors
from taiji.store.files import append_jsonl, digest_value, replacing
from taiji.store.provenance import code_digest, library_versions
from taiji.store.run_directory import ATTEMPTS, UNFINISHED, Manifest, RunDirectory

logger = logging.getLogger(__name__)

_GONE = digest_value(None)
_OF_TEXTS = frozenset({"features", "surplus", "rank", "abtest"})
_LESS = "close other programs, or take a larger machine,"
_LESS_MEMORY = {
    "construct": "lower engine_memory_gib, which lets the engine go to the disk earlier,",
    "distill": "lower distill.teacher.batch_size",
    "sft": "lower sft.batch_size, sft.trainable_layers or student.max_prompt_tokens",
    "align": "lower align.prompts_per_step, align.num_generations or align.trainable_layers",
    "infer": "lower infer.engine.batch_size",
    "features": "lower encoder.batch_size",
    "rank": "lower ranker.batch_size or data.exposure_share",
    "simulate": "lower ranker.batch_size or data.exposure_share",
    "evaluate": "lower encoder.catalogue_titles or encoder.batch_size",
}


class State(Enum):
    """How a stage stands in a run directory."""

    CURRENT = "up to date"
    STALE = "changed"
    PARTIAL = "interrupted"
    MISSING = "not run"
    DAMAGED = "damaged"


class Listener(Protocol):
    """Where a run reports to; the command line shows it."""

    def reused(self, stage: Stage, manifest: Manifest) -> None:
        """The stage was up to date."""

    def started(self, stage: Stage, *, resumed: bool) -> None:
        """The stage begins, or goes on from what a killed run left."""

    def progress(self, done: int, total: int, what: str) -> None:
        """The running stage has got this far."""

    def finished(self, stage: Stage, manifest: Manifest) -> None:
        """The stage's artifact is whole."""


class Runner:
    """Brings the stages of one recipe up to date in one run directory.

    Args:
        load: Gives the function of a stage by its name.
        check: Refuses what the recipe names, before any work of the stages to come.
    """

    def __init__(
        self,
        recipe: Recipe,
        directory: RunDirectory,
        listener: Listener,
        load: Callable[[str], StageFunction] | None = None,
        check: Callable[[Recipe, Sequence[Stage]], None] = check_before_work,
    ) -> None:
        self._recipe = recipe
        self._directory = directory
        self._listener = listener
        self._load = load or stage_function
        self._check = check
        self._without: frozenset[str] = frozenset()
        self._known = False

    def run(self, until: str = "report") -> None:
        """Run every stage up to `until` that is not up to date.

        Raises:
            ConfigError, DataError, EngineError: What the recipe names cannot be used; no work was
                done.
            LockedError: Another process writes here.
            ResourceError: Memory or disk ran out.
            TaijiError: A stage failed; what had finished stays.
        """
        self._directory.refuse_if_held()
        self._find_reach(until)
        stages = stages_of(self._recipe, until, self._without)
        states = dict(status(self._recipe, self._directory))
        self._check(self._recipe, [s for s in stages if states[s] is not State.CURRENT])
        with resource_errors(self._directory.root, "free some"), self._directory.locked():
            self._write_recipe()
            done = set[str]()
            while stage := self._next(until, done):
                self._directory.recover(stage.name)
                with resource_errors(self._directory.root, _LESS_MEMORY.get(stage.name, _LESS)):
                    self._update(stage)
                done.add(stage.name)
                if stage.name == "construct":
                    self._find_reach(until)  # the rows may hold less than the recipe describes

    def _next(self, until: str, done: Collection[str]) -> Stage | None:
        stages = stages_of(self._recipe, until, self._without)
        return next((stage for stage in stages if stage.name not in done), None)

    def _find_reach(self, until: str) -> None:
        """Which stages this log cannot have; said aloud where the rows hold less than expected.

        Raises:
            DataError: The last stage is one of them.
        """
        contents = find_contents(self._recipe, self._directory)
        without = left_out(self._recipe, contents)
        if until in without:
            raise unreachable(until, contents)
        for lack in contents.lacks() if self._known and without > self._without else ():
            logger.warning("the log: %s", lack)
        self._without, self._known = without, True

    def run_only(self, names: Sequence[str]) -> None:
        """Bring some stages up to date on what the others wrote, however old that is.

        Raises:
            MissingArtifactError: A stage that one of them reads has not finished.
            LockedError: Another process writes here.
            TaijiError: A stage failed.
        """
        with self._directory.locked():
            for name in names:
                self._directory.recover(name)
                with resource_errors(self._directory.root, _LESS_MEMORY.get(name, _LESS)):
                    self._update(find_stage(name))

    def _write_recipe(self) -> None:
        path = self._directory.root / "recipe.resolved.yaml"
        with replacing(path) as temporary:
            temporary.write_text(dump_recipe(self._recipe), encoding="utf-8")

    def _update(self, stage: Stage) -> None:
        names = _inputs(stage, self._recipe, self._directory, self._without)
        inputs = {name: self._directory.verify(name, contents=False) for name in names}
        planned = plan(stage, self._recipe, self._directory, self._without)
        existing = self._directory.manifest(stage.name)
        if existing is not None and existing.key == planned.key:
            self._directory.verify(stage.name, contents=False)
            self._listener.reused(stage, existing)
            return
        for name in names:  # from here on they are used, so their contents count
            self._directory.verify(name)
        work = self._directory.begin(stage.name, planned.key)
        resumed = (work / UNFINISHED).is_dir()
        self._note_attempt(planned, resumed=resumed)
        self._listener.started(stage, resumed=resumed)
        began = time.monotonic()
        context = StageContext(self._recipe, work, inputs, self._listener.progress, key=planned.key)
        summary = self._do(stage.name, context)
        ending = replace(
            planned,
            seconds=round(time.monotonic() - began, 1),
            finished=datetime.now(UTC).isoformat(timespec="seconds"),
            versions=library_versions(),
            summary=summary,
        )
        whole = self._directory.commit(ending)
        self._directory.digests.save()
        self._listener.finished(stage, whole)

    def _do(self, name: str, context: StageContext) -> Summary:
        """Here, or in the processes that the recipe asks for."""
        if name in TRAINED and self._recipe.compute.training.total > 1:
            return launch(name, context)
        return self._load(name)(context)

    def _note_attempt(self, planned: Manifest, *, resumed: bool) -> None:
        """A line in the run directory: no artifact, so no key depends on how often a run died."""
        row = {"stage": planned.stage, "key": planned.key, "resumed": resumed}
        row["began"] = datetime.now(UTC).isoformat(timespec="seconds")
        append_jsonl(row, self._directory.root / ATTEMPTS)


def plan(
    stage: Stage, recipe: Recipe, directory: RunDirectory, without: Collection[str] = ()
) -> Manifest:
    """The manifest that `stage` would have now, without outputs.

    Args:
        without: Stages that this log cannot have.

    Raises:
        MissingArtifactError: An upstream stage has not finished.
    """
    tree = recipe.model_dump(mode="json")
    settings = {
        name: digest_value(reduce(getitem, name.split("."), tree)) for name in stage.sections
    }
    settings |= _contents(stage, recipe, directory)
    inputs: dict[str, str] = {}
    for name in _inputs(stage, recipe, directory, without):
        manifest = directory.manifest(name)
        if manifest is None:
            raise MissingArtifactError(f"{directory.folder(name)}: not there: run that stage first")
        inputs[name] = manifest.outputs_digest
    code = code_digest(f"taiji.stages.{stage.name}")
    key = digest_value([stage.name, code, settings, inputs, recipe.seed])
    return Manifest(stage.name, key, code, settings, inputs, recipe.seed)


def _contents(stage: Stage, recipe: Recipe, directory: RunDirectory) -> dict[str, str]:
    """What lies outside the recipe, by content; what is gone since the stage ran is unchanged."""
    found: dict[str, str] = {}
    for name in stage.contents:
        section: Section = reduce(getattr, name.split("."), recipe)
        for setting, digest in contents(section, directory.digests).items():
            found[f"content of {name}.{setting}".rstrip(".")] = digest or ""
    if "" in found.values():
        existing = directory.manifest(stage.name)
        known = {} if existing is None else existing.settings
        found = {name: digest or known.get(name, _GONE) for name, digest in found.items()}
    return found


def stages_of(recipe: Recipe, until: str, without: Collection[str] = ()) -> list[Stage]:
    """What a run up to a stage consists of, on a log that cannot have the stages `without`."""
    return upstream(until, _optional(recipe), without, texts_given=_texts_given(recipe))


def find_contents(recipe: Recipe, directory: RunDirectory) -> Contents:
    """What the log holds: as `construct` counted it, or as the recipe describes it before that."""
    folder = directory.folder("construct")
    if (folder / CONTENTS).is_file() and _is_current(find_stage("construct"), recipe, directory):
        return read_contents(folder)
    return declared(recipe.data)


def left_out(recipe: Recipe, contents: Contents) -> frozenset[str]:
    """Stages that a run goes without: the log carries less far, or no text is to be ranked."""
    without = contents.left_out()
    return without if recipe.features.texts else without | _OF_TEXTS


def unreachable(stage: str, contents: Contents) -> ConfigError | DataError:
    """Why a stage cannot run, and how it could."""
    lack = next((lack for lack in contents.lacks() if stage in lack.leaves_out), None)
    if lack is None:
        return ConfigError(f"{stage}: features.texts is empty: name a text, such as [policy]")
    return DataError(f"{stage}: this log does not carry that far: {lack}")


def _optional(recipe: Recipe) -> set[str]:
    """Stages that the recipe asks for and that nothing needs."""
    asked = {"abtest": recipe.abtest.enabled, "head": recipe.head.enabled}
    return {name for name, enabled in asked.items() if enabled}


def _inputs(
    stage: Stage, recipe: Recipe, directory: RunDirectory, without: Collection[str]
) -> list[str]:
    """What a stage reads now: all that it needs, and what it may read where that is current."""
    needed = reads(stage, texts_given=_texts_given(recipe))
    may = (
        name
        for name in stage.may_read
        if name not in without and _is_current(find_stage(name), recipe, directory)
    )
    return [*(name for name in needed if name not in without), *may]


def _texts_given(recipe: Recipe) -> bool:
    return recipe.infer.texts_from is not None


def _is_current(stage: Stage, recipe: Recipe, directory: RunDirectory) -> bool:
    manifest = directory.manifest(stage.name)
    needed = reads(stage, texts_given=_texts_given(recipe))
    if manifest is None or any(directory.manifest(name) is None for name in needed):
        return False
    return plan(stage, recipe, directory).key == manifest.key


def status(
    recipe: Recipe, directory: RunDirectory, *, verify: bool = False
) -> Iterator[tuple[Stage, State]]:
    """How every stage stands; a stage downstream of a changed one counts as changed.

    Args:
        recipe: Of the run.
        directory: Of the run.
        verify: Read every file of every artifact, also those that have not changed since they
            were last read.
    """
    stale: set[str] = set()
    without = left_out(recipe, find_contents(recipe, directory))
    for stage in STAGES:
        try:
            state = _state(stage, recipe, directory, stale, without)
            if state is State.CURRENT:
                directory.verify(stage.name, contents=verify)
        except (DataError, MissingArtifactError) as error:
            state = State.DAMAGED
            logger.warning("%s", error)
        if state is not State.CURRENT:
            stale.add(stage.name)
        yield stage, state
    directory.digests.save()


def _state(
    stage: Stage,
    recipe: Recipe,
    directory: RunDirectory,
    stale: set[str],
    without: Collection[str],
) -> State:
    manifest = directory.manifest(stage.name)
    if manifest is None:
        partial = directory.folder(f"{stage.name}.tmp").exists()
        return State.PARTIAL if partial else State.MISSING
    needs = set(reads(stage, texts_given=_texts_given(recipe)))
    needs |= set(stage.may_read) & _optional(recipe)
    needs -= set(without)
    if stale & needs or plan(stage, recipe, directory, without).key != manifest.key:
        return State.STALE
    return State.CURRENT
