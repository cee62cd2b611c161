"""A run of a page of figures, as the screen reads it: manifests, metrics, one user."""

import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import small_run

from taiji import schema
from taiji.pipeline import upstream
from taiji.report.stage_words import Figures
from taiji.store.files import digest_value, write_json, write_parquet
from taiji.store.run_directory import Manifest, RunDirectory

SUMMARIES: dict[str, Figures] = {
    "construct": {"lines read": 1469307, "users": 2467, "exposures": 450431},
    "distill": {"candidates": 108, "teacher": "evidence", "leak_share": 0.0},
    "score": {"scored": 108, "median_perplexity": 28.9},
    "refine": {"filter": "ppl", "chains": 108, "kept": 54, "threshold": 28.87, "rule": "q"},
    "sft": {"examples": 48, "first_loss": 3.3, "last_loss": 1.3},
    "simulate": {"ctcvr_auc": 0.9079, "admitted": "yes"},
    "align": {"rollouts": 16, "steps": 2, "w_semantic": 0.504, "w_preference": 0.496},
    "infer": {"texts": 60, "untuned_ok": 0.0, "sft_ok": 0.67, "policy_ok": 0.7778},
    "features": {"users_with_features": 24},
    "rank": {"base_click_auc": 0.87, "base_ctcvr_auc": 0.9165, "both_ctcvr_auc": 0.9146},
    "evaluate": {"policy_any_category_l1": 0.1, "most_popular_new_any_category_l1": 0.7},
    "report": {"bytes": 345_634},
    "ceiling": {
        "in words": "Text of one name a window cannot show here, however good; five names at a "
        "visit can, from 4 % right."
    },
    "surplus": {"policy click AUC": 0.0, "policy:shuffled click AUC": 0.0},
}
KEY = digest_value("a run that was never run")
SECONDS = {
    **{"construct": 20, "distill": 2, "score": 68, "refine": 0, "sft": 83, "simulate": 28},
    **{"align": 86, "infer": 143, "features": 7, "rank": 45, "evaluate": 17, "report": 2},
}


LIFT_STAGES = (
    ("ceiling", 36, SUMMARIES["ceiling"]),
    ("surplus", 8, SUMMARIES["surplus"]),
    ("report", 2, SUMMARIES["report"]),
    ("selftest", 5, {}),
)
"""What the demo does after its report."""


def metrics() -> dict[str, Any]:
    whole = copy.deepcopy(small_run.metrics())
    whole["catalogue"] |= {"targets_any": 12, "targets_novel": 11}
    whole["ranking"] = small_run.ranking(**{"intra - base": 0.02})
    arms = whole["ranking"]["backbones"]["network"]["all"]["arms"]
    network = whole["ranking"]["backbones"]["network"]
    network["covered"] = copy.deepcopy(network["all"]) | {"users": 11}
    for arm, value in {"base": 0.9165, "intra": 0.9146}.items():
        arms[arm]["ctcvr_auc"]["value"] = value
    first, last = ({"w_semantic": 1 - weight, "w_preference": weight} for weight in (0.5, 0.496))
    whole["align"] |= {"steps": 2, "first": first, "last": last}
    for name, (value, low, high) in {
        "policy": (0.1, 0.0, 0.3),
        "most_popular_new": (0.7, 0.4, 1.0),
    }.items():
        level = {"value": value, "low": low, "high": high}
        kind = "model" if name == "policy" else "baseline"
        whole["writers"][name] = {
            "kind": kind,
            "tracks": {"any": {"category_l1": level}, "novel": {}},
        }
    return whole


def lift() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Metrics of `ceiling` and `surplus`, and what the selftest found, as far as a panel reads."""

    def gain(value: float, low: float, high: float) -> dict[str, float]:
        return {"value": value, "low": low, "high": high}

    points = [
        {
            **{"refresh": refresh, "among": "all", "names": names, "accuracy": accuracy},
            "groups": {"all": {"click_auc": gain(*figures) if accuracy else gain(0, 0, 0)}},
        }
        for refresh, names, figures in (
            ("window", 1, (0.0008, -0.0026, 0.0034)),
            ("window", 5, (0.0054, 0.0022, 0.0082)),
            ("visit", 1, (0.0090, 0.0068, 0.0116)),
            ("visit", 5, (0.0433, 0.0374, 0.0485)),
        )
        for accuracy in (0.0, 1.0)
    ]
    groups = {"all": {"click_auc": gain(0.0, 0.0, 0.0)}}
    policy = {"views": {"names": {"groups": groups}}, "reach": 0.0}
    planted = {
        "figures": {"oracle": gain(0.0778, 0.0564, 0.0972)},
        "recovered": {"oracle": 1.0, "match": 0.92, "notes": 0.43, "shuffled": 0.03},
    }
    surplus = {"texts": {"policy": policy}, "counts": {"test_exposures": 45_779}}
    return {"points": points}, surplus, planted


def write(root: Path) -> RunDirectory:
    """The run on disk, as far as the screen reads it."""
    directory = RunDirectory(root)
    for stage in upstream("report"):
        work = directory.begin(stage.name, KEY)
        if stage.name == "construct":
            examples: pa.Table = small_run.examples()
            write_parquet(examples, work / "examples.parquet", schema.EXAMPLES)
        if stage.name == "evaluate":
            write_json(metrics(), work / "metrics.json")
        summary = SUMMARIES[stage.name]
        directory.commit(
            Manifest(stage.name, KEY, KEY, {}, {}, 17, seconds=SECONDS[stage.name], summary=summary)
        )
    return directory
