"""Reading what an OpenAI-compatible endpoint sends: answers, complaints and requests to wait.

A server is a stranger: every field may be missing or of another type, and what can be read in
two ways is not read at all. What the server counts tokens for was paid for, and becomes a reply
whatever it holds; anything else is no answer and may be asked for again.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from taiji.language.completions import Status, join_chain
from taiji.language.endpoint.budget import Usage
from taiji.language.generate import Reply
from taiji.safe_text import defang

MAX_COMPLAINT_LENGTH = 300
_WHOLE = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "complete"})
"""Finish reasons of replies that the model ended itself; any other says that it was broken off."""

_REFUSED = frozenset(
    {"content_filter", "refusal", "safety", "sensitive", "recitation", "blocklist"}
    | {"prohibited_content", "spii"}
)
"""Finish reasons of replies that were held back for what they say."""


class NotAReplyError(Exception):
    """The body is not what was asked for; the message goes on from "answered, but"."""


@dataclass(frozen=True)
class Answer:
    """A reply that was paid for.

    Attributes:
        usage: What the server counted; None if it counts nothing.
    """

    reply: Reply
    usage: Usage | None


def read_answer(raw: bytes) -> Answer:
    """Read the body of a chat completion.

    A body that is no chat completion but holds a count of tokens becomes a `malformed` reply.

    Raises:
        NotAReplyError: It is no chat completion, and nothing says that it was paid for.
    """
    return _answer(raw, _chat_reply)


def read_text(raw: bytes) -> Answer:
    """Read the body of a plain completion, like `read_answer`.

    Raises:
        NotAReplyError: It is no completion, and nothing says that it was paid for.
    """
    return _answer(raw, _text_reply)


def _answer(raw: bytes, read: Callable[[Any], Reply]) -> Answer:
    try:
        payload = read_json(raw)
        reply = read(payload)
    except NotAReplyError:
        usage = read_usage(_leniently(raw))
        if usage is None:
            raise
        return Answer(Reply("", "malformed", usage.completion_tokens), usage)
    return Answer(reply, read_usage(payload))


def read_json(raw: bytes) -> Any:
    """Strict JSON: UTF-8, a byte-order mark or none, no key twice in an object, no NaN.

    Raises:
        NotAReplyError: It is something else.
    """
    try:
        return json.loads(
            raw.decode("utf-8-sig"), object_pairs_hook=_each_key_once, parse_constant=_no_number
        )
    except UnicodeDecodeError as error:
        raise NotAReplyError("not in UTF-8") from error
    except (ValueError, RecursionError) as error:
        is_stream = raw.lstrip().startswith((b"data:", b"event:"))
        what = "with a stream of events, which nobody asked for" if is_stream else "not in JSON"
        raise NotAReplyError(what) from error


def read_usage(payload: Any) -> Usage | None:
    """The tokens that the server counted, if any."""
    usage = payload.get("usage") if isinstance(payload, dict) else None
    if not isinstance(usage, dict):
        return None
    counts = [usage.get("prompt_tokens"), usage.get("completion_tokens")]
    prompt, completion = (count if type(count) is int and count > 0 else 0 for count in counts)
    return Usage(prompt, completion) if prompt + completion else None


def read_complaint(raw: bytes, key: str) -> str:
    """What the server says about an error: one short line without control characters or key."""
    payload = _leniently(raw)
    text = raw.decode("utf-8", "replace")
    if isinstance(payload, dict):
        error = payload.get("error") or payload.get("message") or payload.get("detail")
        told = error.get("message") if isinstance(error, dict) else error
        text = str(told or error) if told or error else text  # else the body itself has to do
    if key:
        text = text.replace(key, "***")
    text = defang(text[: 4 * MAX_COMPLAINT_LENGTH]).strip()
    return text[:MAX_COMPLAINT_LENGTH] or "no explanation"


def read_hidden_code(raw: bytes) -> int | None:
    """The code of an error that came under the code of success; None if the body is no error.

    An error without a code of its own counts as 500, which may pass.
    """
    payload = _leniently(raw)
    if not isinstance(payload, dict) or payload.get("choices") or read_usage(payload):
        return None
    error = payload.get("error")
    if not error and payload.get("object") != "error":
        return None
    for place in (error, payload):
        code = place.get("code") if isinstance(place, dict) else None
        if str(code).isdecimal() and 400 <= int(str(code)) < 600:
            return int(str(code))
    return 500


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by the `Retry-After` header, a number or a date; None if it asks nothing."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return None
        if moment.tzinfo is None:  # "-0000" in the date: UTC by the standard
            moment = moment.replace(tzinfo=UTC)
        seconds = (moment - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _chat_reply(payload: Any) -> Reply:
    """The one reply of a chat completion.

    Servers that keep a model's reasoning apart (`reasoning_content`, or `reasoning`) get it
    put back where the model wrote it, between `<think>` and `</think>`; without the latter if the
    reply was broken off before anything else came.
    """
    try:
        (choice,) = payload["choices"]
        message = choice["message"]
        finish = choice.get("finish_reason")
        content = _text(message.get("content"))
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        refusal = message.get("refusal")
    except (KeyError, TypeError, AttributeError) as error:
        raise NotAReplyError("without a message") from error
    except ValueError as error:
        raise NotAReplyError("with no choice, or with several") from error
    whole = _is_whole(finish)
    if isinstance(reasoning, str) and reasoning.strip() and "</think>" not in content:
        broken_off = not whole and not content.strip()  # while it was still reasoning
        content = join_chain(reasoning.strip(), content, closed=not broken_off)
    return _reply(payload, content, finish, refused=bool(refusal))


def _text_reply(payload: Any) -> Reply:
    """The one reply of a plain completion."""
    try:
        (choice,) = payload["choices"]
        content = _text(choice["text"])
        finish = choice.get("finish_reason")
    except (KeyError, TypeError, AttributeError) as error:
        raise NotAReplyError("without a text") from error
    except ValueError as error:
        raise NotAReplyError("with no choice, or with several") from error
    return _reply(payload, content, finish)


def _is_whole(finish: object) -> bool:
    return str(finish).lower() in _WHOLE


def _reply(payload: Any, content: str, finish: object, *, refused: bool = False) -> Reply:
    status: Status = "ok" if _is_whole(finish) else "truncated"
    if refused or str(finish).lower() in _REFUSED:
        status = "refused"
    elif not content.strip():
        status = "empty"
    try:
        content.encode()
    except UnicodeEncodeError as error:  # JSON can hold lone surrogates, which no file can
        raise NotAReplyError("with half a character") from error
    usage = read_usage(payload)
    num_tokens = usage.completion_tokens if usage else 0
    return Reply("" if status == "refused" else content, status, num_tokens)


def _text(content: Any) -> str:
    """A message's content: text, a list of parts, or nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError(type(content).__name__)
    return content


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise NotAReplyError("with a key twice")
    return values


def _no_number(constant: str) -> NoReturn:
    raise NotAReplyError(f"with {constant}")


def _leniently(raw: bytes) -> Any:
    """The body as far as it can be read at all; None if it cannot."""
    try:
        return json.loads(raw.decode("utf-8-sig", "replace"))
    except (ValueError, RecursionError):
        return None
