"""The whole product on a small world from fixed seeds: its figures are known and do not move.

Whoever changes a figure on purpose writes the new ones down, and looks at them first:

    TAIJI_WRITE_GOLDEN=1 python -m pytest tests/test_golden.py

The recipe has no related system (docs/related.md), so it also shows that none leaves a trace where
it is not asked for: tables by SHA-256, and of what models computed, which differs over CPUs in the
last bits, the layout.
"""

import json
import os
from pathlib import Path

import pytest
from artifact_digests import contents, layout
from test_runner import Log

from taiji.config import Recipe
from taiji.pipeline import upstream
from taiji.runner import Runner, State, status
from taiji.schema import EXAMPLES
from taiji.store.files import read_json, read_parquet, write_json
from taiji.store.run_directory import RunDirectory

GOLDEN = Path(__file__).with_suffix(".json")
RECIPE = {
    "name": "golden",
    "data": {
        "source": {"kind": "planted", "users": 60},
        "text": {"templates": {"other_events": "{name}: {names}"}},
        "splits": {
            "timezone": "UTC",
            "windows": {
                "kind": "dates",
                "history": "2024-01-01",
                "reward": "2024-01-29",
                "rl": "2024-03-11",
                "ranker": "2024-04-08",
                "test": "2024-05-13",
                "end": "2024-06-17",
            },
        },
        "history_items": 3,
        "num_sft": 6,
        "num_rl": 4,
        "num_test": 4,
        "num_rank_users": 24,
        "exposure_share": 1.0,
    },
    "student": {"max_prompt_tokens": 400, "max_completion_tokens": 120},
    "encoder": {"catalogue_titles": 40},
    "sft": {"num_examples": 4, "batch_size": 2, "checkpoint_steps": 1},
    "ranker": {"epochs": 2, "dim": 4, "hidden": [8]},
    "simulate": {"pool_pairs": 100, "normaliser": "quantile", "admission": "report"},
    "align": {
        "weights": {"rule": "popo", "eta": 1.0},
        "steps": 2,
        "prompts_per_step": 2,
        "num_generations": 2,
        "checkpoint_steps": 1,
    },
    "infer": {"models": ["policy"]},
    "features": {"sub_vectors": 4, "bits": 2, "match": {}},
    "rank": {"arms": ["base", "both", "match"]},
    "evaluate": {"bootstrap": 100},
}

OFF = {
    "head": {"enabled": False},
    "ranker": {"kaml": None, "value": None},
    "align": {"policy_loss": "clipped", "rewards": {"custom": [], "more": []}},
    "evaluate": {"guided": None},
}
"""Every related system, written out as not asked for; those of the mapping belong to `tables`."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def written(root, tiny_student) -> RunDirectory:
    """As far as a student that knows nothing can write: no text of it has the form."""
    tree = RECIPE | {"student": RECIPE["student"] | {"model": str(tiny_student)}}
    return run(root / "run", tree, "infer")


@pytest.fixture(scope="module")
def given(root, tiny_student, written) -> RunDirectory:
    """The same run to its end, with texts that say what everybody bought last."""
    lines = "".join(json.dumps(line) + "\n" for line in last_bought(written))
    (root / "given.jsonl").write_text(lines, "utf-8")
    return run(root / "run", given_tree(root, tiny_student), "report")


def given_tree(root, student) -> dict:
    given = {"texts_from": str(root / "given.jsonl")}
    return RECIPE | {"student": RECIPE["student"] | {"model": str(student)}, "infer": given}


def run(folder: Path, tree: dict, until: str) -> RunDirectory:
    directory = RunDirectory(folder)
    Runner(Recipe.model_validate(tree), directory, Log()).run(until)
    return directory


def last_bought(directory: RunDirectory):
    rows = read_parquet(directory.root / "construct" / "examples.parquet", EXAMPLES).to_pylist()
    asked = [row for row in rows if row["split"].startswith("rank_") and row["history"]]
    for row in asked:
        answer = row["history"][0]["text"].partition(";")[0]
        text = f"<think>\nOnce more.\n</think>\n<answer>\n{answer}\n</answer>"
        yield {"user": row["user_id"], "time": row["cutoff"].isoformat(), "text": text}


def figures(directory: RunDirectory, until: str) -> dict:
    """What every stage says of itself, but for bytes, which follow the words of the page."""
    return {
        stage.name: {
            name: value
            for name, value in directory.manifest(stage.name).summary.items()
            if name != "bytes"
        }
        for stage in upstream(until)
    }


def golden(kind: str, found: dict) -> dict:
    """What was written down of it; written anew where that is asked for."""
    known = read_json(GOLDEN) if GOLDEN.exists() else {}
    if "TAIJI_WRITE_GOLDEN" in os.environ:
        known = known | {kind: found}
        write_json(known, GOLDEN)
    return known[kind]


@pytest.mark.parametrize(("kind", "until"), [("written", "infer"), ("given", "report")])
def test_every_figure_is_as_it_was(kind, until, request):
    found = figures(request.getfixturevalue(kind), until)
    known = golden(kind, found)
    assert found.keys() == known.keys()
    for stage, summary in found.items():
        expected = known[stage]
        assert summary.keys() == expected.keys(), stage
        for name, value in summary.items():
            alike = value if isinstance(value, str) else pytest.approx(value, rel=1e-3, abs=1e-4)
            assert expected[name] == alike, (stage, name)


def test_related_systems_leave_no_trace_where_none_is_asked_for(given):
    stages = [stage.name for stage in upstream("report")]
    found = contents(given.root / "construct")
    found |= {f"layout of {name}": layout(given.root / name) for name in stages}
    assert found == golden("digests", found)


def test_a_recipe_that_writes_them_out_as_off_is_the_same_recipe(given, root, tiny_student):
    tree = given_tree(root, tiny_student)
    told = {name: tree.get(name, {}) | settings for name, settings in OFF.items()}
    stood = dict(status(Recipe.model_validate(tree), given))
    assert dict(status(Recipe.model_validate(tree | told), given)) == stood
    assert {s.name for s in upstream("report")} <= {
        stage.name for stage, state in stood.items() if state is State.CURRENT
    }
