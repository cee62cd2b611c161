from collections import Counter

import pytest
from misbehaviour import CASES, MAX_RETRIES, TIMEOUT_SECONDS

from taiji.language.completions import parse_completion
from taiji.language.endpoint.call_store import CallStore
from taiji.language.generate import Sampling
from taiji.language.prompt import Prompt, Segment

SAMPLING = Sampling(max_new_tokens=32, temperature=0.5, seed=7)
PROMPTS = [Prompt("Be brief.", (Segment(case.name),)) for case in CASES]
BY_NAME = {case.name: case for case in CASES}


def content_of(request):
    return request.body["messages"][-1]["content"]


def row_status(reply):
    """As a table tells it: what the engine says, then what the form of the text says."""
    return parse_completion(reply.text).status if reply.status == "ok" else reply.status


class Moods:
    """Answers each call's attempts as its case says."""

    def __init__(self):
        self.attempts = Counter()

    def __call__(self, request, number):
        case = BY_NAME[content_of(request)]
        self.attempts[case.name] += 1
        return case.answers[min(self.attempts[case.name], len(case.answers)) - 1]


@pytest.fixture
def faulty(serve, tmp_path):
    moods = Moods()

    def again():
        store = CallStore(tmp_path / "calls")
        _, generator = serve(
            moods,
            store,
            concurrency=4,
            timeout_seconds=TIMEOUT_SECONDS,
            max_retries=MAX_RETRIES,
            stop_after_failures=len(CASES),
        )
        return generator

    return moods, again


def test_every_misbehaviour_ends_in_its_status_and_nothing_is_lost_or_paid_twice(faulty):
    assert len(CASES) >= 25
    moods, start = faulty
    generator = start()
    replies = generator.generate(PROMPTS, 1, SAMPLING)
    assert [len(row) for row in replies] == [1] * len(CASES)
    found = {case.name: row_status(row[0]) for case, row in zip(CASES, replies, strict=True)}
    assert found == {case.name: case.status for case in CASES}
    assert not any(row[0].text == "" and row[0].status == "ok" for row in replies)
    assert moods.attempts == {case.name: case.attempts for case in CASES}

    # Once more: what was paid for comes from the store, and the rest is asked for again.
    before = Counter(moods.attempts)
    generator = start()
    assert generator.generate(PROMPTS, 1, SAMPLING) == replies
    unpaid = {
        case.name: case.attempts
        for case in CASES
        if case.status in ("http_error", "timeout")
        or (case.status == "malformed" and case.attempts > 1)
    }
    assert moods.attempts - before == unpaid
