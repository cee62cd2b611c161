"""Each log of "Which log is yours?" from `taiji data check` to the last stage that it allows.

The student is a Llama of two blocks that knows nothing, the encoder is the packaged one, a teacher
that writes Chinese is a server here; the rest is what a user runs.

    python -m pytest tests/test_which_log_runs.py -m slow
"""

import json
import random
from datetime import datetime, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest
from chat_server import ChatServer, completion
from endpoint_parts import teacher
from ruamel.yaml import YAML
from typer.testing import CliRunner
from which_logs import CARRIES, RECIPES, write_logs

from taiji.cli import app
from taiji.errors import TaijiError
from taiji.pipeline import STAGES, upstream
from taiji.schema import EXPOSURES, PREDICTIONS
from taiji.store.files import read_json, read_parquet

pytestmark = pytest.mark.slow

SIZES = {
    **{"history_items": 3, "num_sft": 4, "num_rl": 2, "num_test": 6, "num_rank_users": 8},
    **{"min_history": 3, "exposure_share": 1.0, "holdout_share": 0.0},
}
SMALL = {
    "distill": {"candidates": 2},
    "refine": {"drop_leaks": False},
    "sft": {"num_examples": 4, "batch_size": 2, "trainable_layers": 1},
    "ranker": {"epochs": 1},
    "simulate": {"pool_pairs": 100, "admission": "report"},
    "align": {"steps": 1, "prompts_per_step": 1, "num_generations": 2, "trainable_layers": 1},
    "infer": {"models": ["policy"]},
    "features": {"sub_vectors": 2, "bits": 2},
    "rank": {"arms": ["base", "both"]},
    "evaluate": {"bootstrap": 100},
    "abtest": {"worlds": 2},
}


@pytest.fixture
def chinese(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    started = ChatServer(
        lambda _, number: completion(f"常喝绿茶的人，多半会再来一盒，其{number}。")
    )
    yield teacher(started.url)
    started.close()


def write_recipe(path, tree, student, chinese=None):
    student_of = {"model": str(student), "max_prompt_tokens": 1024, "max_completion_tokens": 220}
    whole = {"name": "log", "student": student_of, **SMALL, **tree}
    whole["data"] = tree["data"] | SIZES
    if "distill" in tree:
        whole["distill"] = SMALL["distill"] | {"teacher": chinese.model_dump(mode="json")}
        whole["sft"] = SMALL["sft"] | {"learning_rate": 1e-2}  # from empty lines to any words
    with path.open("w", encoding="utf-8") as stream:
        YAML().dump(whole, stream)


def taiji(*words):
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return result.exit_code, " ".join(result.output.split())


@pytest.mark.parametrize("title", CARRIES)
def test_a_log_goes_from_the_check_to_the_last_stage_that_it_allows(
    tmp_path, monkeypatch, tiny_student, chinese, title
):
    monkeypatch.chdir(tmp_path)
    write_logs(tmp_path, users=24, days=60, items=12)
    tree, known = YAML(typ="safe").load(RECIPES[title]), CARRIES[title]
    write_recipe(tmp_path / "log.yaml", tree, tiny_student, chinese)
    code, said = taiji("data", "check", "log.yaml")
    assert code == 0, said
    for stage in known.left_out:
        assert stage in said.split("This log carries:")[1].split("To have it")[0].split(".", 1)[1]
    code, said = taiji("run", "log.yaml")
    assert code == 0, said
    run = tmp_path / "runs" / "log"
    wanted = {stage.name for stage in upstream("report")} - known.left_out
    assert {stage.name for stage in STAGES if (run / stage.name).is_dir()} == wanted
    for name in known.left_out & {"simulate", "rank"}:
        assert name in said.split("construct")[0]  # said at the start
        with pytest.raises(TaijiError, match=name):  # and refused, where asked for by name
            taiji(name, "log.yaml")
    metrics = read_json(run / "evaluate" / "metrics.json")
    figures = json.dumps(metrics["writers"])
    assert ("category_l1" in figures) == (known.levels > 0)
    assert ("ctcvr" in json.dumps(metrics.get("ranking"))) == (known.goal == "conversion")
    if known.kinds != ("purchase",):
        chains = read_parquet(run / "distill" / "candidates.parquet")["cot"].to_pylist()
        assert not any("shopper" in chain or "purchase" in chain for chain in chains)


def write_mind(folder, *, users=60, impressions=2400):
    """MIND's layout: each user likes one of three topics and clicks on it four times in ten."""
    rng, topics = random.Random(3), ("sports", "news", "money")
    news = [(f"N{n}", topics[n % 3]) for n in range(60)]
    lines = [f"{n}\t{topic}\tsub{n[-1]}\t{topic} story {n}\t\t\t[]\t[]\n" for n, topic in news]
    (folder / "news.tsv").write_text("".join(lines))
    start, rows = datetime(2019, 11, 9), []
    for number in range(impressions):
        user = rng.randrange(users)
        moment = start + timedelta(minutes=number * 30)
        shown = [
            f"{name}-{int(rng.random() < (0.4 if topic == topics[user % 3] else 0.05))}"
            for name, topic in rng.sample(news, 5)
        ]
        when = f"{moment:%m/%d/%Y %I:%M:%S %p}"
        rows.append(f"{number}\tU{user}\t{when}\t\t{' '.join(shown)}\n")
    (folder / "behaviors.tsv").write_text("".join(rows))


def auc_by_hand(labels, scores):
    """P(a click is scored above what was not clicked), ties by half, pair by pair."""
    ups, downs = scores[labels == 1], scores[labels == 0]
    if not len(ups) or not len(downs):
        return float("nan")
    wins = (ups[:, None] > downs).sum() + 0.5 * (ups[:, None] == downs).sum()
    return wins / (len(ups) * len(downs))


def test_a_mind_log_reaches_the_ranking_tables_with_clicks_as_the_goal(
    tmp_path, monkeypatch, tiny_student
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mind").mkdir()
    write_mind(tmp_path / "mind")
    tree = {"data": {"source": {"kind": "mind", "path": "mind"}}}
    write_recipe(tmp_path / "log.yaml", tree, tiny_student)
    code, said = taiji("data", "check", "log.yaml")
    assert code == 0, said
    code, said = taiji("run", "log.yaml")
    assert code == 0, said
    assert "click AUC" in said
    assert "CTCVR" not in said.split("abtest")[-1]
    run = tmp_path / "runs" / "log"
    found = read_json(run / "rank" / "metrics.json")["backbones"]["network"]["all"]["arms"]
    predictions = read_parquet(run / "rank" / "predictions.parquet", PREDICTIONS)
    shown = read_parquet(run / "construct" / "exposures.parquet", EXPOSURES)
    assert pc.sum(shown["conversion"]).as_py() is None  # of these nobody knows
    for arm, measures in found.items():
        own = predictions.filter(pc.equal(predictions["arm"], arm))
        labels, scores = (np.asarray(own[name]) for name in ("click", "ctr"))
        assert measures["click_auc"]["value"] == pytest.approx(
            auc_by_hand(labels, scores), abs=1e-5
        )
        users = np.asarray(own["user_id"])
        by_user = [
            (auc_by_hand(labels[users == user], scores[users == user]), (users == user).sum())
            for user in np.unique(users)
        ]
        told = [(value, size) for value, size in by_user if value == value]
        gauc = sum(value * size for value, size in told) / sum(size for _, size in told)
        assert measures["click_gauc"]["value"] == pytest.approx(gauc, abs=1e-5)
        assert "ctcvr_auc" not in measures
    assert found["base"]["click_auc"]["value"] > 0.6  # what was planted is found
    code, said = taiji("show", "tables", "--run", run)
    assert "GAUC" in said
    assert "CTCVR" not in said
