import time
from dataclasses import replace

import pytest
from chat_server import Answer, completion

from taiji.config import BudgetSection
from taiji.config.loading import load_recipe
from taiji.errors import ConfigError, EngineError
from taiji.language.endpoint import patience
from taiji.language.endpoint.budget import Budget, Usage
from taiji.language.endpoint.call_store import CallStore
from taiji.language.endpoint.patience import CircuitBreaker, Pacer, backoff_seconds
from taiji.language.generate import Reply, Sampling
from taiji.language.prompt import Prompt, Segment

SAMPLING = Sampling(max_new_tokens=32, temperature=0.5, seed=7)
PROMPTS = [Prompt("Be brief.", (Segment(f"item {i}"),)) for i in range(12)]
OK = Reply("fine", "ok", 5)  # and 9 tokens of prompt: 14 together


def test_the_budget_ends_the_run_names_what_was_spent_and_keeps_it(serve, tmp_path):
    limits = {"max_tokens": 50}

    def start():
        return serve(
            [Answer(body=completion("fine").body, seconds=0.05)],
            CallStore(tmp_path),
            concurrency=3,
            budget=limits,
        )

    server, generator = start()
    with pytest.raises(EngineError, match=r"max_tokens: 50 tokens are used up: spent \d+ tokens"):
        generator.generate(PROMPTS, 1, SAMPLING)
    paid = len(server.requests)
    assert 4 <= paid <= 3 + 3  # what was under way was let finish, and kept
    assert CallStore(tmp_path).spent("m-1") == Usage(9 * paid, 5 * paid)

    # The next attempt of the run knows what the first one has spent ...
    server, generator = start()
    with pytest.raises(EngineError, match="used up"):
        generator.generate(PROMPTS, 1, SAMPLING)
    assert server.requests == []
    # ... but what was paid for can be read,
    assert CallStore(tmp_path).spent("m-1").total >= 50
    # and with a larger budget only the rest is asked for.
    limits["max_tokens"] = 1000
    server, generator = start()
    assert generator.generate(PROMPTS, 1, SAMPLING) == [[OK]] * 12
    assert len(server.requests) == 12 - paid


def test_a_finished_batch_costs_nothing_however_small_the_budget(serve, tmp_path):
    _, generator = serve([completion("fine")], CallStore(tmp_path))
    generator.generate(PROMPTS[:2], 1, SAMPLING)
    server, generator = serve([completion("fine")], CallStore(tmp_path), budget={"max_tokens": 1})
    assert generator.generate(PROMPTS[:2], 1, SAMPLING) == [[OK]] * 2
    assert server.requests == []


def test_cost_by_hand():
    # 2 million tokens in at 0.5, a quarter of a million out at 4: 1 + 1
    budget = Budget(BudgetSection(max_cost=2.5, input_price=0.5, output_price=4.0), Usage(0, 0))
    budget.note(Usage(2_000_000, 250_000))
    assert budget.cost == pytest.approx(2.0)
    budget.check()
    budget.note(Usage(1_000_000, 0))
    with pytest.raises(EngineError, match=r"max_cost: 2\.5 .* 3,000,000 .* 250,000 .* for 2\.50"):
        budget.check()


def test_time_is_a_budget_too():
    with pytest.raises(EngineError, match="max_hours"):
        Budget(BudgetSection(max_hours=1e-12), Usage(0, 0)).check()


def test_a_cost_without_prices_is_refused(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("name: x\n")
    teacher = "distill.teacher={kind: openai, base_url: http://localhost, model: m, budget: "
    with pytest.raises(ConfigError, match="needs input_price or output_price"):
        load_recipe(path, [teacher + "{max_cost: 5.0}}"])


def test_a_server_that_counts_nothing_is_counted_for_at_the_most(serve):
    # "Be brief." and "item 0" are 15 bytes, so at most 15 tokens, and a reply has at most 32.
    silent = Answer(body={"choices": [{"message": {"content": "fine"}}]})
    server, generator = serve([silent], budget={"max_tokens": 90})
    with pytest.raises(EngineError, match="spent 30 tokens of prompts and 64 of replies"):
        generator.generate(PROMPTS, 1, SAMPLING)
    assert len(server.requests) == 2


def test_equal_calls_are_one_and_greedy_ones_are_equal(serve):
    server, generator = serve([completion("fine")])
    assert generator.generate([PROMPTS[0]] * 3, 2, SAMPLING) == [[OK, OK]] * 3
    assert len(server.requests) == 2  # indices 0 and 1
    greedy = Sampling(32, 0.0, 7)
    assert generator.generate(PROMPTS[:2], 3, greedy) == [[OK] * 3] * 2
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "change",
    [
        {"sampling": Sampling(33, 0.5, 7)},
        {"sampling": Sampling(32, 0.6, 7)},
        {"sampling": Sampling(32, 0.5, 8)},
        {"model": "m-2"},
        {"extra_body": {"top_p": 0.9}},
        {"prompts": [Prompt("Be long.", (Segment("item 0"),))]},
    ],
)
def test_another_question_is_asked_anew(serve, tmp_path, change):
    _, generator = serve([completion("fine")], CallStore(tmp_path))
    generator.generate(PROMPTS[:1], 1, SAMPLING)
    change = dict(change)
    prompts = change.pop("prompts", PROMPTS[:1])
    sampling = change.pop("sampling", SAMPLING)
    server, generator = serve([completion("fine")], CallStore(tmp_path), **change)
    generator.generate(prompts, 1, sampling)
    assert len(server.requests) == 1


def test_further_fields_of_a_request_and_fields_left_out(serve):
    extra = {"top_p": 0.9, "seed": None, "chat_template_kwargs": {"enable_thinking": False}}
    server, generator = serve([completion("fine")], extra_body=extra)
    generator.generate(PROMPTS[:1], 1, SAMPLING)
    body = server.requests[0].body
    assert body["top_p"] == 0.9
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "seed" not in body
    with pytest.raises(ValueError, match="extra_body: messages"):
        serve([], extra_body={"messages": []})


def test_an_error_lets_finish_what_is_under_way(serve, tmp_path):
    slow = Answer(body=completion("fine").body, seconds=0.3)
    _, generator = serve(
        lambda _, number: Answer(401, "no") if number == 3 else slow,
        CallStore(tmp_path),
        concurrency=3,
    )
    with pytest.raises(EngineError, match="the key was refused"):
        generator.generate(PROMPTS, 1, SAMPLING)
    assert CallStore(tmp_path).spent("m-1") == Usage(18, 10)


def test_failures_in_a_row_count_across_batches_and_a_success_ends_the_row():
    breaker = CircuitBreaker("m", 3)
    for complaint in ("a", "b"):
        breaker.failure(complaint)
    breaker.success()
    for complaint in ("c", "d"):
        breaker.failure(complaint)
    with pytest.raises(EngineError, match="model m: 3 calls in a row failed, the last with: e:"):
        breaker.failure("e")


def test_a_wait_beyond_the_deadline_is_not_begun(serve):
    answers = [Answer(429, "later", {"Retry-After": "3600"}), completion("fine")]
    server, generator = serve(answers, deadline_seconds=5.0)
    start = time.monotonic()
    with pytest.raises(EngineError, match="3600 s of waiting would exceed retry"):
        generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert time.monotonic() - start < 3
    assert len(server.requests) == 1


def test_who_is_asked_to_wait_holds_back_everyone(serve):
    seen = []

    def script(request, number):
        seen.append(time.monotonic())
        # The second is answered late: the client knows of the wait before a place is free.
        later = replace(completion("fine"), seconds=0.2)
        return Answer(429, "", {"Retry-After": "0.4"}) if number == 1 else later

    _, generator = serve(script, concurrency=2)
    generator.generate(PROMPTS[:6], 1, SAMPLING)
    # The first two go out together; no other begins before the wait is over.
    assert min(seen[2:]) - seen[0] >= 0.4


def test_pauses_double_up_to_a_minute_less_up_to_half(monkeypatch):
    monkeypatch.setattr(patience.random, "uniform", lambda low, high: high)
    assert [backoff_seconds(i, 0.5) for i in (0, 1, 2, 3, 100)] == [0.5, 1, 2, 4, 60]
    monkeypatch.setattr(patience.random, "uniform", lambda low, high: low)
    assert backoff_seconds(3, 0.5) == 2
    pacer = Pacer()
    assert pacer.held_seconds() == 0
    pacer.hold(30)
    pacer.hold(10)  # an earlier end does not shorten the wait
    assert 29 < pacer.held_seconds() <= 30
