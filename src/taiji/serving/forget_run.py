"""A user is taken out of a run directory: rows, vectors, loans, names in vocabularies, report.

A stage is replaced whole, by the rename that ends every stage, so a kill leaves the old or the new.
The stages are gone through against the flow of data, `construct` last, because its examples say
which rows are the user's; then manifests are made to fit each other again, with the flow, so that a
run that was up to date still is.
"""

import json
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.config.loading import load_recipe
from taiji.pipeline import STAGES
from taiji.runner import State, find_contents, left_out, plan, status
from taiji.stages.parts.erased import drop_rows
from taiji.store import manifest as manifests
from taiji.store.files import read_json, read_parquet, replacing, write_json, write_parquet
from taiji.store.run_directory import RunDirectory

LINEAGE = "lineage.json"
_JOURNAL = ".forgetting.json"
_WORK_KEY = "forget"
_CARD = "\n> Trained on users who have been erased since: see lineage.json of the run ({number}).\n"

# What learns from which part of the user's data.
_LEARNS = {
    "sft": frozenset({"sft"}),
    "head": frozenset({"sft", "rl"}),
    "align": frozenset({"sft", "rl"}),
    "simulate": frozenset({"exposures"}),
    "features": frozenset({"rank_train"}),
    "rank": frozenset({"exposures"}),
}


@dataclass
class Erasure:
    """What was erased from a run.

    Attributes:
        rows: By file.
        models: Stages whose models learnt from the user.
    """

    rows: dict[str, int] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)

    @property
    def anything(self) -> bool:
        """Whether there was anything of the user."""
        return bool(self.rows)


@dataclass(frozen=True)
class _User:
    """What is to be found.

    Attributes:
        examples: Ids of the user's examples.
        words: Profile values that nobody else has.
        parts: Splits that hold an example, and `exposures` if any is the user's.
    """

    user_id: str
    examples: list[str]
    words: frozenset[str]
    parts: frozenset[str]

    @property
    def unwanted(self) -> dict[str, list[str]]:
        """Values by column that make a row theirs."""
        ids = [self.user_id]
        return {"user_id": ids, "example_id": self.examples, "key": ids, "value": ids}


def erase_from_run(root: Path, user_id: str, name: str) -> Erasure:
    """Take a user out of a run.

    Args:
        root: The run directory.
        name: What lineage calls the user.

    Raises:
        LockedError: The run is being written to.
        DataError: An artifact is damaged.
    """
    directory = RunDirectory(root)
    erasure = Erasure()
    with directory.locked():
        for stage in STAGES:
            directory.recover(stage.name)
        if directory.manifest("construct") is None:
            return erasure
        user = _look_up(root / "construct", user_id)
        if not user.parts and not (root / _JOURNAL).is_file():
            return erasure
        current = _remember_current(root, directory)
        _drop_loose_ends(root, erasure)
        if user.parts:
            _note_lineage(root, name, user, erasure)
        for stage in reversed(STAGES):
            if directory.manifest(stage.name) is not None:
                directory.verify(stage.name)
                _rewrite(directory, stage.name, user, erasure)
        _fit_manifests(root, directory, current)
        (root / _JOURNAL).unlink(missing_ok=True)
    return erasure


def _look_up(construct: Path, user_id: str) -> _User:
    table = read_parquet(construct / "examples.parquet")
    own = table.filter(pc.equal(table["user_id"], user_id))
    parts = set(own["split"].to_pylist())
    for name in ("exposures", "interactions", "events", "users"):
        column = pq.read_table(construct / f"{name}.parquet", columns=["user_id"])["user_id"]
        if pc.any(pc.equal(column, user_id)).as_py():
            parts.add(name)
    if _is_quarantined(construct / "quarantine.parquet", user_id):
        parts.add("quarantine")
    words = _own_words(construct / "users.parquet", user_id)
    return _User(user_id, own["example_id"].to_pylist(), words, frozenset(parts))


def _is_quarantined(path: Path, user_id: str) -> bool:
    if not path.is_file():
        return False
    table = pq.read_table(path, columns=["key", "value"])
    found = (pc.any(pc.equal(table[name], user_id)).as_py() for name in ("key", "value"))
    return any(found)


def _own_words(path: Path, user_id: str) -> frozenset[str]:
    """Profile values of the user that no other user has: vocabularies may hold them."""
    own: set[str] = set()
    others: set[str] = set()
    for batch in pq.ParquetFile(path).iter_batches():
        theirs = pc.equal(batch["user_id"], user_id)
        for rows, words in ((batch.filter(theirs), own), (batch.filter(pc.invert(theirs)), others)):
            values = pc.unique(rows["fields"].items) if rows.num_rows else []
            words |= {value.as_py() for value in values if value.as_py()}
    return frozenset(own - others)


def _remember_current(root: Path, directory: RunDirectory) -> list[str]:
    """Stages that were up to date before anything was touched."""
    path = root / _JOURNAL
    if not path.is_file():
        recipe = load_recipe(root / "recipe.resolved.yaml", []).recipe
        stages = [s.name for s, state in status(recipe, directory) if state is State.CURRENT]
        write_json(stages, path)
    current: list[str] = read_json(path)
    return current


def _drop_loose_ends(root: Path, erasure: Erasure) -> None:
    """Unfinished work and kept replies: nobody can say which of it is the user's."""
    for path in [*root.glob("*.tmp"), *root.glob("*.old"), root / "calls"]:
        if path.is_dir():
            shutil.rmtree(path)
            erasure.rows[f"{path.name}/"] = 1
    report = root / "report"
    if report.is_dir():  # it shows users; `taiji report` makes it anew
        gone = root / "report.old"
        report.rename(gone)
        shutil.rmtree(gone)
        erasure.rows["report/"] = 1


def _note_lineage(root: Path, name: str, user: _User, erasure: Erasure) -> None:
    """Write down which models learnt from the user, before the proof of it is gone."""
    learnt = [
        stage for stage, parts in _LEARNS.items() if parts & user.parts and (root / stage).is_dir()
    ]
    path = root / LINEAGE
    lineage: dict[str, Any] = read_json(path) if path.is_file() else {}
    before = lineage.get(name, {})
    erasure.models = sorted({*before.get("models", []), *learnt})
    since = before.get("since", datetime.now(UTC).isoformat(timespec="seconds"))
    write_json({**lineage, name: {"since": since, "models": erasure.models}}, path)


def _rewrite(directory: RunDirectory, stage: str, user: _User, erasure: Erasure) -> None:
    """Replace a stage by itself without the user, if there is anything to change."""
    folder = directory.folder(stage)
    manifest = directory.manifest(stage)
    assert manifest is not None
    shutil.rmtree(directory.root / f"{stage}.tmp", ignore_errors=True)
    work = directory.begin(stage, _WORK_KEY)
    changed = _erased_number(directory.root, stage) != manifest.summary.get("erased_users", 0)
    for name in manifest.outputs:
        source, target = folder / name, work / name
        target.parent.mkdir(parents=True, exist_ok=True)
        lost = _copy_without(source, target, user)
        if not target.exists():
            os.link(source, target)
        if lost:
            erasure.rows[f"{stage}/{name}"] = lost
            changed = True
    if not changed:
        shutil.rmtree(work)
        return
    number = _erased_number(directory.root, stage)
    summary = dict(manifest.summary) | ({"erased_users": number} if number else {})
    _mark_card(work / "model" / "README.md", number)
    directory.commit(replace(manifest, summary=summary))


def _copy_without(source: Path, target: Path, user: _User) -> int:
    """Write a file without the user; return what was lost, 0 and no file if nothing was."""
    if source.name == "features.parquet":
        return _features_without(source, target, user.user_id)
    if source.name == "embeddings.npy":
        return _vectors_without(source, target, user.user_id)
    if source.suffix == ".parquet":
        return drop_rows(source, user.unwanted, target)
    if source.suffix == ".json" and user.words and "model" not in source.parts:
        return _words_without(source, target, user.words)
    return 0


def _features_without(source: Path, target: Path, user_id: str) -> int:
    """Without the user's rows, and with nothing in the place of what the user lent."""
    table = read_parquet(source)
    theirs = pc.equal(table["user_id"], user_id)
    kept = table.filter(pc.invert(theirs))
    lent = pc.equal(kept["neighbour_user_id"], user_id)
    num_lent = pc.sum(lent).as_py() or 0
    if kept.num_rows == table.num_rows and not num_lent:
        return 0
    schema = table.schema
    empty = pa.scalar([], schema.field("neighbour_item_ids").type)
    nobody = {"neighbour_user_id": "", "similarity": pa.scalar(0.0, pa.float32())}
    for name, value in {**nobody, "neighbour_item_ids": empty}.items():
        column = pc.if_else(lent, value, kept[name])
        kept = kept.set_column(schema.get_field_index(name), schema.field(name), column)
    write_parquet(kept, target, schema)
    return int(table.num_rows - kept.num_rows + num_lent)


def _vectors_without(source: Path, target: Path, user_id: str) -> int:
    users = pq.read_table(source.with_name("features.parquet"), columns=["user_id"])["user_id"]
    keep = ~np.asarray(pc.equal(users, user_id))
    if keep.all():
        return 0
    with target.open("wb") as stream:
        np.save(stream, np.load(source, allow_pickle=False)[keep], allow_pickle=False)
    return int((~keep).sum())


def _words_without(source: Path, target: Path, words: Collection[str]) -> int:
    """Names in a vocabulary lose their letters and keep their place, or weights would not fit."""
    num = 0

    def scrub(value: Any) -> Any:
        nonlocal num
        if isinstance(value, dict):
            return {scrub(key): scrub(one) for key, one in value.items()}
        if isinstance(value, list):
            return [scrub(one) for one in value]
        if isinstance(value, str) and value in words:
            num += 1
            return f"erased-{sorted(words).index(value)}-{num}"
        return value

    value = scrub(read_json(source))
    if num:
        target.write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    return num


def _erased_number(root: Path, stage: str) -> int:
    """How many users that a stage's model learnt from have been erased."""
    path = root / LINEAGE
    if not path.is_file():
        return 0
    return sum(stage in told["models"] for told in read_json(path).values())


def _mark_card(card: Path, number: int) -> None:
    if not number or not card.is_file():
        return
    text = card.read_text(encoding="utf-8")
    if "lineage.json" in text:
        return
    card.unlink()  # a link to the old one
    card.write_text(text + _CARD.format(number="erased_users"), encoding="utf-8")


def _fit_manifests(root: Path, directory: RunDirectory, current: Collection[str]) -> None:
    """Have those manifests that were up to date name the inputs that there are now."""
    recipe = load_recipe(root / "recipe.resolved.yaml", []).recipe
    without = left_out(recipe, find_contents(recipe, directory))
    for stage in STAGES:
        manifest = directory.manifest(stage.name)
        # Predictions of `ceiling` name rows of the exposures, which have moved: it is done again.
        if manifest is None or stage.name not in current or stage.name == "ceiling":
            continue
        planned = plan(stage, recipe, directory, without)
        if planned.key != manifest.key:
            fitted = replace(manifest, key=planned.key, inputs=planned.inputs)
            with replacing(root / stage.name / manifests.NAME) as temporary:
                temporary.write_text(manifests.sealed(fitted), encoding="utf-8")
