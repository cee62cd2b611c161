"""Reading what a chat endpoint sends: replies, complaints and requests to wait.

A server is a stranger: every field may be missing or of another type.
"""

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from taiji.language.generate import Reply, Status
from taiji.safe_text import defang

MAX_COMPLAINT_LENGTH = 300


class NotAReplyError(Exception):
    """The body is not a chat completion."""


def read_reply(raw: bytes) -> Reply:
    """Read the body of a chat completion.

    Servers that keep a model's reasoning apart (`reasoning_content`, or `reasoning`) get it
    put back where the model wrote it, between `<think>` and `</think>`.

    Raises:
        NotAReplyError: It is none.
    """
    try:
        payload = json.loads(raw)
        choice = payload["choices"][0]
        message = choice["message"]
        finish = choice.get("finish_reason")
        content = _text(message.get("content"))
        reasoning = message.get("reasoning_content") or message.get("reasoning")
        refusal = message.get("refusal")
    except (ValueError, RecursionError) as error:
        raise NotAReplyError("not in JSON") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise NotAReplyError("without a message") from error
    if isinstance(reasoning, str) and reasoning.strip() and "</think>" not in content:
        content = f"<think>\n{reasoning.strip()}\n</think>\n{content}"
    status: Status = "ok"
    if refusal or finish == "content_filter":
        status = "refused"
    elif not content.strip():
        status = "empty"
    elif finish == "length":
        status = "truncated"
    return Reply("" if status == "refused" else content, status, _num_tokens(payload))


def read_complaint(raw: bytes, key: str) -> str:
    """What the server says about an error: one short line without control characters or key."""
    text = raw.decode("utf-8", "replace")
    try:
        error = json.loads(text)["error"]
        text = str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, RecursionError, KeyError, TypeError):
        pass  # then the body itself has to do
    if key:
        text = text.replace(key, "***")
    text = defang(text[: 4 * MAX_COMPLAINT_LENGTH]).strip()
    return text[:MAX_COMPLAINT_LENGTH] or "no explanation"


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


def _text(content: Any) -> str:
    """A message's content: text, a list of parts, or nothing."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if isinstance(part.get("text"), str))
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError(type(content).__name__)
    return content


def _num_tokens(payload: Mapping[str, Any]) -> int:
    usage = payload.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) else 0
