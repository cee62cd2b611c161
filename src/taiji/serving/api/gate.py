"""Before any request is read: who asks, whether they may, how often, how much and how long.

Plain ASGI, outside of the framework, so that no route can be forgotten: a path that nobody knows is
answered 401 too. The body is read here, piece by piece, and never beyond the limit, whatever its
headers say.
"""

import asyncio
import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from taiji.config.serving import LimitsSection
from taiji.serving.api.keys import KeyRing, Scope

_BODY_SECONDS = 10.0
_CHALLENGE = tuple(  # a line each: Chromium reads one challenge a line
    ("WWW-Authenticate", kind) for kind in ("Bearer", 'Basic realm="taiji"')
)

Observe = Callable[[str, int, float], None]
"""Called with path, status and seconds of every request."""


@dataclass(frozen=True)
class _Refusal:
    status: int
    detail: str
    headers: Sequence[tuple[str, str]] = ()


class TokenBucket:
    """So many a second, and as many at once.

    Args:
        rate: Of the long run.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate)
        self._at = time.monotonic()

    def take(self) -> float:
        """Take one; return 0, or the seconds until there is one."""
        now = time.monotonic()
        most = max(1.0, self._rate)
        self._tokens = min(most, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            return (1 - self._tokens) / self._rate
        self._tokens -= 1
        return 0.0


class Gate:
    """See the head of this file.

    Args:
        app: What lies behind.
        keys: Who may pass; without any key everybody may.
        limits: How much.
        scopes: What a path needs; `read` if it is not named.
        observe: Is told of every request.
    """

    def __init__(
        self,
        app: ASGIApp,
        keys: KeyRing,
        limits: LimitsSection,
        scopes: Mapping[str, Scope],
        observe: Observe,
    ) -> None:
        self._app, self._keys, self._limits = app, keys, limits
        self._scopes, self._observe = scopes, observe
        self._buckets: dict[str, TokenBucket] = {}
        self._under_way = 0

    async def __call__(self, connection: Connection, receive: Receive, send: Send) -> None:
        """One request."""
        if connection["type"] == "lifespan":
            await self._app(connection, receive, send)
            return
        if connection["type"] != "http":  # nothing here speaks anything else
            return
        began, status = time.perf_counter(), 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._under_way += 1
        try:
            await self._pass(connection, receive, note)
        finally:
            self._under_way -= 1
            self._observe(connection["path"], status, time.perf_counter() - began)

    async def _pass(self, connection: Connection, receive: Receive, send: Send) -> None:
        headers = Headers(scope=connection)
        refusal = self._refuse(connection["path"], headers)
        body = b""
        if refusal is None:
            found = await self._body(headers, receive)
            refusal, body = (found, b"") if isinstance(found, _Refusal) else (None, found)
        if refusal is None:
            await self._app(connection, _replay(body, receive), send)
            return
        answer = JSONResponse({"detail": refusal.detail}, refusal.status)
        for name, value in refusal.headers:
            answer.headers.append(name, value)
        await answer(connection, receive, send)

    def _refuse(self, path: str, headers: Headers) -> _Refusal | None:
        name = ""
        if self._keys.required:
            key = self._keys.find(_secret(headers))
            if key is None:
                return _Refusal(401, "an API key is needed", _CHALLENGE)
            needed = self._scopes.get(path, "read")
            if needed not in key.scopes:
                return _Refusal(403, f"this key has not the scope {needed}")
            name = key.name
        bucket = self._buckets.setdefault(name, TokenBucket(self._limits.requests_per_second))
        if (seconds := bucket.take()) > 0:
            return _Refusal(429, "too many requests", [("Retry-After", str(int(seconds) + 1))])
        if self._under_way > self._limits.concurrent_requests:
            return _Refusal(503, "too many requests are under way", [("Retry-After", "1")])
        return None

    async def _body(self, headers: Headers, receive: Receive) -> bytes | _Refusal:
        most = self._limits.max_body_bytes
        too_large = _Refusal(
            413, f"the body is larger than {most} bytes", [("Connection", "close")]
        )
        told = headers.get("content-length", "")
        if told.isdigit() and int(told) > most:
            return too_large
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                more = True
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return _Refusal(400, "the client has gone", [("Connection", "close")])
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    more = message.get("more_body", False)
                    if size > most:
                        return too_large
        except TimeoutError:
            return _Refusal(408, "the body did not come in time", [("Connection", "close")])
        return b"".join(pieces)


def _replay(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _secret(headers: Headers) -> str:
    """The key out of `Authorization: Bearer`, of `X-API-Key`, or as a browser's password."""
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return headers.get("x-api-key", "")
