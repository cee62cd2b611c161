import asyncio
import logging
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from chat_server import Answer, completion
from endpoint_parts import KEY, teacher

from taiji.errors import ConfigError, EngineError
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.endpoint.protocol import retry_after
from taiji.language.generate import Reply, Sampling
from taiji.language.prompt import Prompt, Segment

SAMPLING = Sampling(max_new_tokens=32, temperature=0.5, seed=7)
PROMPTS = [Prompt("Be brief.", (Segment(f"item {i}"),)) for i in range(6)]
OK = Reply("fine", "ok", 5)


def content_of(request):
    return request.body["messages"][-1]["content"]


def test_a_request_says_what_was_asked(serve):
    server, generator = serve([completion("fine")])
    assert generator.generate(PROMPTS[:1], 2, SAMPLING) == [[OK, OK]]
    assert generator.name == "m-1"
    first, second = server.requests
    assert first.path == "/v1/chat/completions"
    assert first.headers["Authorization"] == f"Bearer {KEY}"
    assert first.body == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "item 0"},
        ],
        "temperature": 0.5,
        "seed": 7,
        "max_tokens": 32,
    }
    assert second.body == first.body | {"seed": 8}  # else many servers repeat themselves


def test_replies_come_in_the_order_of_the_prompts_and_no_more_than_allowed_at_once(serve):
    def script(request, number):
        # Later requests are answered sooner.
        answer = completion(content_of(request))
        return Answer(body=answer.body, seconds=0.1 if number % 2 else 0.02)

    server, generator = serve(script, concurrency=3)
    seen = []
    replies = generator.generate(PROMPTS, 2, SAMPLING, lambda *done: seen.append(done))
    assert [[r.text for r in row] for row in replies] == [[f"item {i}"] * 2 for i in range(6)]
    assert server.most_at_once == 3
    assert seen == [(i, 6) for i in range(1, 7)]


def test_no_key_no_header(serve, monkeypatch):
    monkeypatch.delenv("TEST_KEY")
    server, generator = serve([completion("fine")])
    generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert "Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("answer", "reply"),
    [
        (completion(None), Reply("", "empty", 5)),
        (completion(" \n"), Reply(" \n", "empty", 5)),
        (completion("half a", finish="length"), Reply("half a", "truncated", 5)),
        (completion("x", finish="content_filter"), Reply("", "refused", 5)),
        (completion(None, refusal="I cannot"), Reply("", "refused", 5)),
        (completion("fine", finish="end_turn"), OK),
        (completion(None, reasoning="hm"), Reply("<think>\nhm\n</think>\n", "ok", 5)),
        (
            completion("", finish="length", reasoning_content="hm"),
            Reply("<think>\nhm", "truncated", 5),  # nobody knows whether the chain was over
        ),
        (
            completion("half a", finish="length", reasoning="hm"),
            Reply("<think>\nhm\n</think>\nhalf a", "truncated", 5),
        ),
        (
            completion("Milk", reasoning_content="weekly\n"),
            Reply("<think>\nweekly\n</think>\nMilk", "ok", 5),
        ),
        (completion("Milk", reasoning="weekly"), Reply("<think>\nweekly\n</think>\nMilk", "ok", 5)),
        (
            completion("<think>a</think>Milk", reasoning_content="a"),
            Reply("<think>a</think>Milk", "ok", 5),
        ),
        (completion([{"type": "text", "text": "fi"}, {"type": "text", "text": "ne"}]), OK),
        (Answer(body={"choices": [{"message": {"content": "fi"}}]}), Reply("fi", "truncated", 0)),
    ],
)
def test_what_comes_back_is_understood(serve, answer, reply):
    server, generator = serve([answer])
    assert generator.generate(PROMPTS[:1], 1, SAMPLING) == [[reply]]
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("finish", "status"),
    [
        *((reason, "ok") for reason in ("stop", "STOP", "eos_token", "COMPLETE")),
        *((reason, "truncated") for reason in ("length", "max_tokens", "MAX_TOKENS", "abort")),
        *((reason, "truncated") for reason in ("insufficient_system_resource", "network_error")),
        *((reason, "truncated") for reason in ("model_context_window_exceeded", "tool_calls")),
        *((reason, "truncated") for reason in (None, "", "something new")),
        *((reason, "refused") for reason in ("content_filter", "SAFETY", "sensitive")),
        ("recitation", "refused"),
    ],
)
def test_only_what_the_model_ended_itself_is_whole(serve, finish, status):
    _, generator = serve([completion("half a", finish=finish)])
    [[reply]] = generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert (reply.status, reply.text) == (status, "" if status == "refused" else "half a")


def test_a_reply_that_is_sent_twice_is_not_the_next_call_s(serve):
    def script(request, number):
        answer = completion(content_of(request))
        return Answer(body=answer.body, times=3)

    _, generator = serve(script)
    replies = generator.generate(PROMPTS[:3], 1, SAMPLING)
    assert [reply.text for [reply] in replies] == ["item 0", "item 1", "item 2"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "no credits left", "code": 402}}, "no credits left.*wants money"),
        ({"error": {"message": "who are you", "code": "401"}}, "the key was refused"),
        (
            {"object": "error", "message": "The model `m` does not exist.", "code": 404},
            "`m` does not exist.*check base_url",
        ),
        ({"choices": None, "error": {"message": "slow down", "code": 429}}, "200: slow down"),
        ({"error": "overloaded"}, "200: overloaded"),
        ({"error": {"type": "odd"}}, "200: .*odd"),
    ],
)
def test_an_error_under_the_code_of_success_is_told_and_taken_for_one(serve, body, words):
    server, generator = serve([Answer(body=body)], max_retries=1)
    with pytest.raises(EngineError, match=words):
        generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert len(server.requests) == (2 if "200:" in words else 1)


@pytest.mark.parametrize(
    "failure",
    [
        Answer(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
        Answer(500, "oops"),
        Answer(503, "oops", {"Retry-After": "soon"}),
        Answer(200, "<html>not JSON"),
        Answer(200, "[" * 100_000),
        Answer(200, {"error": {"message": "overloaded"}}),
        Answer(200, {"choices": []}),
        Answer(200, {"choices": [{"message": {"content": 5}}]}),
        Answer(200, "fine", {"Content-Encoding": "gzip"}),
    ],
)
def test_what_may_pass_is_tried_again(serve, failure):
    server, generator = serve([failure, completion("fine")])
    assert generator.generate(PROMPTS[:1], 1, SAMPLING) == [[OK]]
    assert len(server.requests) == 2


def test_a_server_that_asks_to_wait_is_waited_for(serve):
    _, generator = serve([Answer(429, "", {"Retry-After": "0.3"}), completion("fine")])
    start = time.monotonic()
    assert generator.generate(PROMPTS[:1], 1, SAMPLING) == [[OK]]
    assert time.monotonic() - start >= 0.3


def test_retry_after_by_hand():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30))
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30))
    assert 28 < retry_after({"retry-after": soon}) <= 30
    assert retry_after({"retry-after": past}) == 0
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after": "-3"}) == 0
    for nothing in ("", "soon", "nan", "inf"):
        assert retry_after({"retry-after": nothing}) is None


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (401, "the key was refused: set TEST_KEY"),
        (403, "check the rights of the key in TEST_KEY"),
        (404, "has a model 'm-1'"),
        (302, "redirects are not followed"),
    ],
)
def test_what_cannot_pass_ends_the_run_at_once_and_never_shows_the_key(serve, caplog, code, words):
    body = {"error": {"message": f"bad key {KEY}\x1b[31m\nfor you"}}
    server, generator = serve([Answer(code, body)], concurrency=2)
    with caplog.at_level(logging.DEBUG), pytest.raises(EngineError, match=words) as caught:
        generator.generate(PROMPTS, 1, SAMPLING)
    assert len(server.requests) <= 2  # nothing was tried again
    assert "bad key ***[31m for you" in str(caught.value)
    assert KEY not in str(caught.value) + caplog.text + repr(vars(caught.value))


def test_a_redirect_gets_neither_request_nor_key(serve):
    other, _ = serve([completion("stolen")])
    _, generator = serve([Answer(307, "", {"Location": f"{other.url}/chat/completions"})])
    with pytest.raises(EngineError, match="put the final address into base_url"):
        generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert other.requests == []


def test_one_request_that_fails_for_good_costs_one_reply(serve, caplog):
    def script(request, number):
        bad = content_of(request) == "item 1"
        return Answer(400, {"error": "prompt too long"}) if bad else completion("fine")

    server, generator = serve(script, concurrency=2, stop_after_failures=2)
    replies = generator.generate(PROMPTS[:3], 1, SAMPLING)
    assert replies == [[OK], [Reply("", "http_error", 0)], [OK]]
    assert len(server.requests) == 3  # a 400 is not tried again
    assert "prompt too long" in caplog.text


def test_retries_come_to_an_end(serve):
    server, generator = serve([Answer(500, "oops", {"Retry-After": "0"})], max_retries=3)
    with pytest.raises(EngineError, match="500: oops"):
        generator.generate(PROMPTS[:1], 1, SAMPLING)
    assert len(server.requests) == 4


def test_a_server_that_is_gone_ends_the_run(serve):
    def script(request, number):
        return completion("fine") if number <= 4 else Answer(500, "dying")

    server, generator = serve(script, concurrency=2, max_retries=0, stop_after_failures=3)
    # the call that was in flight when the third failed may be counted too
    with pytest.raises(EngineError, match=r"[34] calls in a row failed.*500: dying"):
        generator.generate(PROMPTS, 3, SAMPLING)
    assert len(server.requests) <= 8


def test_nobody_listens(serve):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    generator = EndpointGenerator(teacher(f"http://127.0.0.1:{port}"))
    with pytest.raises(EngineError, match=f":{port}: connection failed: nobody listens"):
        generator.generate(PROMPTS[:1], 1, SAMPLING)


@pytest.mark.parametrize("answer", [{"seconds": 1.5}, {"drip_seconds": 0.1}])
def test_a_reply_that_takes_too_long_is_given_up_and_not_asked_for_again(serve, answer):
    slow = Answer(body=completion("late").body, **answer)

    def script(request, number):
        return slow if content_of(request) == "item 0" else completion("fine")

    server, generator = serve(script, concurrency=2, timeout_seconds=0.5, stop_after_failures=2)
    replies = generator.generate(PROMPTS[:2], 1, SAMPLING)
    assert replies == [[Reply("", "timeout", 0)], [OK]]
    assert len(server.requests) == 2


def test_a_flood_is_cut_off(serve, monkeypatch):
    monkeypatch.setattr("taiji.language.endpoint.client.MAX_BODY_BYTES", 1000)
    server, generator = serve([completion("x" * 5000)], stop_after_failures=2)
    assert generator.generate(PROMPTS[:1], 1, SAMPLING) == [[Reply("", "malformed", 0)]]
    assert len(server.requests) == 1


def test_a_model_that_knows_the_limit_under_its_newer_name(serve):
    def script(request, number):
        if "max_tokens" in request.body:
            return Answer(400, {"error": {"message": "use 'max_completion_tokens' instead"}})
        assert request.body["max_completion_tokens"] == 32
        return completion("fine")

    server, generator = serve(script, max_retries=0)
    assert generator.generate(PROMPTS[:3], 1, SAMPLING) == [[OK]] * 3
    assert len(server.requests) == 4  # learnt once
    _, generator = serve(script, max_retries=0, concurrency=3)  # all learn it at the same time
    assert generator.generate(PROMPTS[:3], 1, SAMPLING) == [[OK]] * 3


def test_works_inside_a_running_loop(serve):
    _, generator = serve([completion("fine")])

    async def notebook():
        return generator.generate(PROMPTS[:1], 1, SAMPLING)

    assert asyncio.run(notebook()) == [[OK]]


def test_no_prompts_no_requests(serve):
    server, generator = serve([completion("fine")])
    assert generator.generate([], 1, SAMPLING) == []
    assert server.requests == []
    with pytest.raises(ValueError, match="at least 1"):
        generator.generate(PROMPTS, 0, SAMPLING)


@pytest.mark.parametrize(
    "base_url",
    [
        "https://",
        "https://me:secret@host/v1",
        "https://host/v1?key=secret",
        "http://169.254.169.254/latest",
        "http://[::ffff:169.254.169.254]/latest",
        "http://127.0.0.1:99999/v1",
        "http://127.0.0.1:port/v1",
        "http://[::1/v1",
        "http://a host/v1",
        "http://host/v1 ",
        "http://host/v1/chat/completions",
    ],
)
def test_addresses_that_cannot_be_meant(base_url):
    with pytest.raises(ConfigError) as caught:
        EndpointGenerator(teacher(base_url))
    assert "secret" not in str(caught.value)


def test_a_key_does_not_travel_in_clear(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    with pytest.raises(EngineError, match="use https, or unset TEST_KEY"):
        EndpointGenerator(teacher("http://gpu-box:8000/v1"))
    for fine in ("https://gpu-box/v1", "http://localhost:1/v1", "http://[::1]:1/v1"):
        EndpointGenerator(teacher(fine))
    monkeypatch.delenv("TEST_KEY")
    EndpointGenerator(teacher("http://gpu-box:8000/v1"))


@pytest.mark.parametrize("key", ["two\nlines", "umlaut-\u00e4"])
def test_a_damaged_key_is_named_not_shown(monkeypatch, key):
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(EngineError, match="TEST_KEY") as caught:
        EndpointGenerator(teacher("https://host/v1"))
    assert key not in str(caught.value)


def test_without_httpx_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(EngineError, match=r"taiji-rec\[endpoint\]"):
        EndpointGenerator(teacher("https://host/v1"))
