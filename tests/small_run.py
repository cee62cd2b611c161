"""A run of two users, small enough to read, hostile enough to trust a page that survives it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
from rows import example_row, rollout_row, scored_row, text_row

from taiji import schema
from taiji.config import Recipe
from taiji.report.run_files import ReportData
from taiji.schema import JUDGEMENTS, OUTSIDE

NOON = datetime(2017, 12, 1, 12, tzinfo=UTC)
HOSTILE = (
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    "pay \u202eevil\u202c now",
    "{{7*7}} ${7*7} {% raw %}",
)
SPLITS = ("sft", "rl", "test", "rank_train", "rank_test")
PERPLEXITIES = (1.23456, 4.6, 9.87654)
THRESHOLD = 4.6


def items() -> pa.Table:
    rows = [
        {
            "item_id": f"i{n}",
            "title": title,
            "category_l1": "GROCERY",
            "category_l2": "SNACKS",
            "category_l3": "CHIPS",
            "brand": None,
        }
        for n, title in enumerate(HOSTILE)
    ]
    return pa.Table.from_pylist(rows, schema.ITEMS)


def examples() -> pa.Table:
    def row(user: str, split: str) -> dict[str, Any]:
        line = {"item_id": "i0", "ts": NOON - timedelta(days=1), "price": 1.5, "text": HOSTILE[0]}
        has_target = not split.startswith("rank")
        return example_row(
            f"{split}-{user}",
            split,
            user_id=user,
            profile=f"Household: {HOSTILE[1]}",
            history=[line],
            history_length=7,
            long_tail=user == "u1",
            target_item_id="i1" if has_target else None,
            novel_target_item_id="i2" if has_target and user == "u0" else None,
        )

    rows = [row(user, split) for user in ("u0", "u1") for split in SPLITS]
    return pa.Table.from_pylist(rows, schema.EXAMPLES)


def scored() -> pa.Table:
    rows = [
        scored_row(
            f"sft-{user}",
            n,
            cot=f"chain {n} {HOSTILE[3]}",
            perplexity=perplexity,
            num_answer_tokens=5,
            kept=perplexity < THRESHOLD,
            reason="kept" if perplexity < THRESHOLD else "perplexity",
        )
        for user in ("u0", "u1")
        for n, perplexity in enumerate(PERPLEXITIES)
    ]
    return pa.Table.from_pylist(rows, schema.SCORED)


def texts() -> pa.Table:
    rows = [
        text_row(
            f"test-{user}",
            model,
            status="malformed" if model == "untuned" else "ok",
            completion=HOSTILE[0],
            cot="",
            answer="" if model == "untuned" else HOSTILE[2],
        )
        for user in ("u0", "u1")
        for model in ("untuned", "sft", "policy")
    ]
    return pa.Table.from_pylist(rows, schema.TEXTS)


def rollouts() -> pa.Table:
    rows = [
        rollout_row(
            step,
            "rl-u0",
            completion=HOSTILE[0],
            answer=HOSTILE[1],
            grounded_item_id="i0",
            rung="exact",
            cosine=1.0,
            semantic=0.1 * step,
            preference=0.05 * step + 0.01 * n,
            format=1.0,
            custom=[("brevity", 0.5)],
        )
        for step in range(1, 5)
        for n in range(2)
    ]
    return pa.Table.from_pylist(rows, schema.ROLLOUTS)


def judgements(writers: tuple[str, ...] = ("untuned", "sft", "policy")) -> pa.Table:
    def row(track: str, writer: str, user: str) -> dict[str, Any]:
        good = float(writer == "policy" or user == "u1")
        return {
            "track": track,
            "writer": writer,
            "example_id": f"test-{user}",
            "user_id": user,
            "target_item_id": "i1",
            "true_l1": "GROCERY",
            "answer": HOSTILE[2],
            "think_tag_presence": 1.0,
            "think_non_empty": 1.0,
            "answer_non_empty": good,
            "category_l1": good,
            "category_l2": good,
            "category_l3": 0.0,
            "title_exact": 0.0,
            "title_rank": 60 if good else OUTSIDE,
            "semantic": 0.5,
            "grounded_item_id": "i3" if good else None,
            "rung": "title" if good else "none",
            "ctcvr": 0.02 * good,
        }

    rows = [
        row(track, writer, user)
        for track in ("any", "novel")
        for writer in writers
        for user in ("u0", "u1")
    ]
    return pa.Table.from_pylist(rows, JUDGEMENTS)


def features() -> pa.Table:
    row = {
        "example_id": "rank_test-u0",
        "user_id": "u0",
        "split": "rank_test",
        "codes": [3, 1, 4],
        "neighbour_user_id": "u1",
        "similarity": 0.9,
        "neighbour_item_ids": ["i1", "i2"],
    }
    return pa.Table.from_pylist([row], schema.USER_FEATURES)


def figures(value: float) -> dict[str, dict[str, float]]:
    names = [f"category_l{n}" for n in (1, 2, 3)]
    names += ["title_hit_rate_at_50", "title_hit_rate_at_100", "semantic", "ctcvr"]
    return {name: {"value": value, "low": value - 0.01, "high": value + 0.01} for name in names}


def metrics(rule: str = "popo", selects: bool = True) -> dict[str, Any]:
    def writer(value: float) -> dict[str, Any]:
        return {"kind": "model", "tracks": {"any": figures(value), "novel": figures(value / 2)}}

    return {
        "hit_rate_at": [50, 100],
        "catalogue": {"size": 5000, "coverage_any": 0.95, "coverage_novel": 0.85},
        "writers": {"untuned": writer(0.1), "sft": writer(0.2), "policy": writer(0.3)},
        "differences": [{"of": "sft", "over": "untuned", "metrics": figures(0.1)}],
        "refine": {"selects": selects, "filter": "ppl"},
        "align": {"rule": rule, "last": {"w_semantic": 0.75, "w_preference": 0.25}},
        "ranking": ranking(),
    }


def ranking(**lifts: float) -> dict[str, Any]:
    """Figures of the arms and contrasts that `lifts` names, each known to 0.01."""

    def figures(value: float | None) -> dict[str, Any]:
        names = (f"{task}_{name}" for task in ("click", "ctcvr") for name in ("auc", "log_loss"))
        low, high = (None, None) if value is None else (value - 0.01, value + 0.01)
        return {n: {"value": value, "low": low, "high": high, "spread": None} for n in names}

    kinds = {
        "intra - base": "lift",
        "both - base": "lift",
        "interaction": "effect",
        "both:shuffled - base": "control",
        "both - both:shuffled": "loss",
    }
    lifts = lifts or {"intra - base": 0.02, "both - base": -0.005}
    counts = {"exposures": 1200, "users": 40, "clicks": 50, "conversions": 9}
    whole = {
        **counts,
        "arms": {"base": figures(0.85), "intra": figures(0.87), "both:shuffled": figures(0.85)},
        "contrasts": {name: figures(value) for name, value in lifts.items()},
    }
    few = {**counts, "arms": {"base": figures(None)}, "contrasts": {}}
    return {
        "backbones": {"network": {"all": whole, "covered": few}},
        "contrasts": kinds,
        "seeds": 1,
    }


def align_steps() -> list[dict[str, float]]:
    return [
        {
            "step": step,
            "w_semantic": 0.5 + 0.05 * step,
            "w_preference": 0.5 - 0.05 * step,
            "I_semantic": 1.0,
            "I_preference": 0.5,
        }
        for step in range(1, 5)
    ]


def diagnosed_steps() -> list[dict[str, float]]:
    """Steps with all that alignment logs of them; drawing it takes a second."""
    return [
        {
            **row,
            "grad_norm_semantic": 1.0,
            "grad_norm_preference": 0.8,
            "cos": 0.1 * row["step"],
            **{f"rewards/{name}/mean": 0.1 * row["step"] for name in ("semantic", "preference")},
            "rewards/semantic/variance_share": 0.75,
            "rewards/preference/variance_share": 0.25,
            "rung/exact": 0.5,
            "rung/none": 0.5,
            "format/think": 1.0,
            "hacking/constant_reward": 0.3,
            "kl": 0.01 * row["step"],
        }
        for row in align_steps()
    ]


def manifest(stage: str) -> dict[str, Any]:
    return {
        "stage": stage,
        "key": "sha256:0123456789abcdef",
        "seconds": 1.5,
        "seed": 17,
        "summary": {"rows": 3, "note": HOSTILE[0]},
        "outputs": {"a.parquet": {"bytes": 12, "sha256": "sha256:feed", "rows": 3}},
    }


def whole_run(**changes: Any) -> ReportData:
    parts: dict[str, Any] = {
        "recipe": Recipe(name="small"),
        "sizes": {"users": 2, "items": 4, "interactions": 14, "exposures": 9},
        "examples": examples(),
        "items": items(),
        "scored": scored(),
        "threshold": {"threshold": THRESHOLD, "rule": "median of 6 sampled", "sampled": 6},
        "sft_steps": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
        "align_steps": align_steps(),
        "rollouts": rollouts(),
        "texts": texts(),
        "features": features(),
        "judgements": judgements(),
        "metrics": metrics(),
        "manifests": [manifest("construct"), manifest("align")],
    }
    return ReportData(**{**parts, **changes})
