import pytest
from chat_server import Answer, ChatServer, completion
from endpoint_parts import teacher
from reasoning_run import NUM_EXAMPLES, context

from taiji.errors import EngineError
from taiji.schema import CANDIDATES
from taiji.stages.distill import distill
from taiji.store.files import read_parquet


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def script(request, number):
        if number == 5:
            return completion(None)  # empty, and paid for
        return Answer(body=completion(f"Milk is due, {request.body['seed']}.").body)

    started = ChatServer(script)
    yield started
    started.close()


def section(server, k, budget):
    asked = teacher(server.url, budget={"max_tokens": budget}).model_dump()
    return {"teacher": asked, "candidates": k}


def test_a_run_stopped_by_its_budget_goes_on_under_changed_settings(run, student, server):
    # The shop's prompts of one target are equal, so fewer calls than examples may be made.
    with pytest.raises(EngineError, match="max_tokens: 100 tokens are used up"):
        distill(context(run, "first", student, distill=section(server, 1, 100)))
    paid = len(server.requests)
    assert 100 / 14 <= paid <= 100 / 14 + 1

    whole = context(run, "second", student, distill=section(server, 2, 10_000))
    summary = distill(whole)
    asked = [(r.body["messages"][-1]["content"], r.body["seed"]) for r in server.requests]
    assert len(asked) == len(set(asked))  # two for each prompt, and none of them twice
    rows = read_parquet(whole.out / "candidates.parquet", CANDIDATES).to_pylist()
    assert len(rows) == 2 * NUM_EXAMPLES
    assert summary["candidates"] == 2 * NUM_EXAMPLES
    assert {row["status"] for row in rows} == {"ok", "empty"}
    assert all(row["cot"] for row in rows if row["status"] == "ok")
