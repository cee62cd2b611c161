"""Ways in which a chat endpoint misbehaves, and what must come of each.

A case is what the server answers to a call's first, second, ... attempt (the last one again and
again), the status of the reply in the end, and how many attempts it takes.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from chat_server import Answer, completion

FORM = "<think>\nweekly\n</think>\n<answer>\nMilk\n</answer>"
FINE = completion(FORM)
USAGE = {"prompt_tokens": 9, "completion_tokens": 5}
TIMEOUT_SECONDS = 2.0
MAX_RETRIES = 2


@dataclass(frozen=True)
class Case:
    name: str
    answers: tuple[Answer, ...]
    status: str
    attempts: int


def _now() -> str:
    return format_datetime(datetime.now(UTC) - timedelta(seconds=1), usegmt=True)


def passes(name: str, *failures: Answer) -> Case:
    """A fault that is over after a while."""
    return Case(name, (*failures, FINE), "ok", len(failures) + 1)


def stays(name: str, status: str, answer: Answer) -> Case:
    """A fault that is there at every attempt."""
    return Case(name, (answer,), status, MAX_RETRIES + 1)


def paid(name: str, status: str, answer: Answer) -> Case:
    """A reply that was counted for, whatever it is worth: asked for once."""
    return Case(name, (answer,), status, 1)


def _chosen(*choices: object) -> Answer:
    return Answer(body={"choices": list(choices), "usage": USAGE})


def _text(answer: Answer) -> str:
    return json.dumps(answer.body)


CASES = (
    passes("429, wait so many seconds", Answer(429, "", {"Retry-After": "0.1"})),
    passes("429, wait until a date", Answer(429, "", {"Retry-After": _now()})),
    passes("500", Answer(500, "oops")),
    passes("502 in HTML", Answer(502, "<html>Bad Gateway", {"Content-Type": "text/html"})),
    passes("503 twice", Answer(503, ""), Answer(503, "")),
    stays("503 for ever", "http_error", Answer(503, "")),
    passes("cut before the headers", Answer(hang_up="before headers")),
    passes("cut after the headers", Answer(body=FINE.body, hang_up="after headers")),
    passes("cut in the body", Answer(body=FINE.body, hang_up="in the body")),
    Case("slow drip", (Answer(body=FINE.body, drip_seconds=0.05),), "timeout", 1),
    Case("hangs", (Answer(body=FINE.body, seconds=60),), "timeout", 1),
    stays("not JSON", "malformed", Answer(body="{'choices': oops}")),
    passes("JSON that ends too early", Answer(body=_text(FINE)[:-40])),
    paid("null content", "empty", completion(None)),
    paid("no choices", "malformed", _chosen()),
    paid("two choices", "malformed", _chosen(FINE.body["choices"][0], FINE.body["choices"][0])),
    stays("choices missing", "malformed", Answer(body={"object": "chat.completion"})),
    paid("two answers", "malformed", completion(f"{FORM}\n<answer>\nBread\n</answer>")),
    paid(
        "thoughts without an end",
        "malformed",
        completion("<think>\nweekly\n<answer>\nMilk\n</answer>"),
    ),
    paid("cut by length", "truncated", completion("<think>\nweek", finish="length")),
    paid("content filter", "refused", completion("no", finish="content_filter")),
    paid("a refusal", "refused", completion(None, refusal="I cannot")),
    paid(
        "invalid UTF-8",
        "malformed",
        Answer(body=_text(FINE).encode().replace(b"week", b"\xff\xfe")),
    ),
    paid("10 MB", "malformed", Answer(body="x" * 10_000_000)),
    paid("a byte-order mark", "ok", Answer(body=b"\xef\xbb\xbf" + _text(FINE).encode())),
    stays("a stream of events", "malformed", Answer(body=b"data: {}\n\ndata: [DONE]\n\n")),
    paid("wrong content type", "ok", Answer(body=FINE.body, headers={"Content-Type": "text/html"})),
    paid("a key twice", "malformed", Answer(body=_text(FINE)[:-1] + ', "choices": []}')),
    paid("a number for a text", "malformed", completion(5)),
    paid("half a character", "malformed", completion("\ud83d")),
    paid("empty text", "empty", completion(" \n")),
    stays(
        "compressed unasked",
        "malformed",
        Answer(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}),
    ),
    passes("told too long", Answer(body=FINE.body, length_error=50)),
    passes("told too short", Answer(body=FINE.body, length_error=-60)),
    Case("400, prompt too long", (Answer(400, {"error": "context length"}),), "http_error", 1),
    passes("200 with an error", Answer(body={"error": {"message": "overloaded"}})),
    stays("200 with an error for ever", "http_error", Answer(body={"object": "error"})),
    paid("broken off by another name", "truncated", completion("half", finish="MAX_TOKENS")),
    paid("thoughts cut at the limit", "truncated", completion(None, "length", reasoning="hm")),
)
