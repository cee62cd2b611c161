import numpy as np
import pyarrow as pa
import pytest
from chat_server import ChatServer
from endpoint_parts import Echo
from pydantic import ValidationError
from reasoning_run import context
from rows import KilledError

from taiji.config.reasoning import ScoreSection
from taiji.language import scoring
from taiji.language.scoring import ModelScorer
from taiji.schema import CANDIDATES, SCORES
from taiji.stages import score as score_module
from taiji.stages.score import score
from taiji.store.files import read_parquet, write_parquet


def scores(ctx):
    return read_parquet(ctx.out / "scores.parquet", SCORES).to_pylist()


def test_every_chain_that_is_ok_has_all_scores(distilled, student):
    ctx = context(distilled, "score", student)
    summary = score(ctx)
    rows = scores(ctx)
    names = ("perplexity", "gain", "clipped", "num_answer_tokens")
    assert [rows[1][name] for name in names] == [None] * 4  # it is truncated
    assert all(row[name] is not None for row in rows[:1] + rows[2:] for name in names)
    assert all(row["perplexity"] > 1 for row in rows[2:])
    assert (summary["chains"], summary["scored"]) == (60, 59)
    ok = [row["perplexity"] for row in rows if row["status"] == "ok"]
    assert summary["median_perplexity"] == round(float(np.median(ok)), 4)
    assert [path.name for path in ctx.out.glob("[!.]*")] == ["scores.parquet"]


def test_what_a_chain_gains_is_measured_against_none(distilled, student):
    path = distilled / "distill" / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()
    for row in rows[3:6]:
        row["cot"] = ""
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    ctx = context(distilled, "score", student, score={"clip": 7.0})
    score(ctx)
    found = scores(ctx)
    assert [row["gain"] for row in found[3:6]] == pytest.approx([0.0] * 3, abs=1e-6)
    assert all(abs(row["gain"]) > 1e-6 for row in found[6:])
    assert all(row["clipped"] < row["perplexity"] for row in found[3:])  # random weights


def test_a_killed_run_scores_the_rest_and_ends_the_same(distilled, student, monkeypatch):
    monkeypatch.setattr(score_module, "_SHARD_ROWS", 8)
    monkeypatch.setattr(scoring, "_BATCH_TOKENS", 1)
    whole = context(distilled, "score", student)
    score(whole)
    calls = []
    packed = scoring._packed

    def mortal(*arguments):
        calls.append(1)
        if len(calls) == 12:
            raise KilledError
        return packed(*arguments)

    monkeypatch.setattr(scoring, "_packed", mortal)
    killed = context(distilled, "again", student)
    with pytest.raises(KilledError):
        score(killed)
    score(killed)
    assert len(calls) == 12 + 20 - 8
    assert scores(killed) == scores(whole)


@pytest.mark.parametrize("wanted", [False, True])
def test_the_scorer_is_compiled_on_demand(distilled, student, monkeypatch, wanted):
    compiled = []
    scorer = lambda model: compiled.append(model) or ModelScorer(model)  # noqa: E731
    monkeypatch.setattr(score_module, "compiled_scorer", scorer)
    score(context(distilled, "score", student, score={"compile": wanted}))
    assert [type(model).__name__ for model in compiled] == ["LlamaForCausalLM"] * wanted


def test_a_server_is_not_compiled():
    server = {"base_url": "http://localhost:1/v1", "model": "some"}
    with pytest.raises(
        ValidationError, match=r"score\.compile: the weights are at score\.endpoint"
    ):
        ScoreSection.model_validate({"compile": True, "endpoint": server})


def test_lines_beyond_the_budget_are_counted_once_a_prompt(distilled, student):
    small = {"model": str(student), "max_prompt_tokens": 270, "max_completion_tokens": 256}
    summary = score(context(distilled, "score", student, student=small))
    assert summary["prompts_cut"] == 20
    assert 20 <= summary["history_lines_dropped"] <= 40


def test_a_server_scores_in_the_place_of_the_weights(distilled, student, tiny_model, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    path = distilled / "distill" / "candidates.parquet"
    rows = read_parquet(path, CANDIDATES).to_pylist()[:6]
    write_parquet(pa.Table.from_pylist(rows, schema=CANDIDATES), path, CANDIDATES)
    server = ChatServer(Echo(tiny_model))
    try:
        section = {"endpoint": {"base_url": server.url, "model": "m-1"}}
        ctx = context(distilled, "score-there", student, score=section)
        score(ctx)
    finally:
        server.close()
    here = context(distilled, "score-here", student)
    score(here)
    assert server.requests
    for there, local in zip(scores(ctx), scores(here), strict=True):
        assert (there["perplexity"] is None) == (local["perplexity"] is None)
        if local["perplexity"] is not None:
            assert there["perplexity"] == pytest.approx(local["perplexity"], rel=1e-5)
