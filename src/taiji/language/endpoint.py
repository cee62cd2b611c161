"""Text from any server that speaks the OpenAI chat protocol.

Requests run side by side up to a bound. What may pass by itself (429, 5xx, a broken
connection) is tried again, when the server asks for it or after growing pauses; what cannot
pass (a wrong key, an unknown model) ends the run at once. Redirects are not followed. The key
comes from the environment alone, goes to this one host, is written nowhere, and is cut out of
whatever the server says.
"""

import asyncio
import ipaddress
import logging
import os
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from taiji.errors import ConfigError, EngineError
from taiji.language.chat_protocol import NotAReplyError, read_complaint, read_reply, retry_after
from taiji.language.generate import Reply, Sampling, Status
from taiji.language.prompt import Prompt

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 2**20
MAX_PAUSE_SECONDS = 60.0
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class _Failure:
    """An attempt that brought no reply."""

    complaint: str
    status: Status = "http_error"
    again: bool = True
    pause_seconds: float | None = None  # what the server asked for


class EndpointGenerator:
    """A chat endpoint as a `TextGenerator`.

    Attributes:
        name: The model's name at the endpoint.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        concurrency: int = 8,
        timeout_seconds: float = 120.0,
        max_retries: int = 5,
    ) -> None:
        """Check the address and the key; nothing is sent yet.

        Args:
            base_url: Up to and without `/chat/completions`.
            model: As the endpoint calls it.
            api_key_env: The environment variable with the key. Unset: no key is sent, which
                suits a server of one's own.
            concurrency: Requests at a time.
            timeout_seconds: For a whole request, from connecting to the last byte.
            max_retries: Further attempts after the first.

        Raises:
            ConfigError: The address cannot be used.
            EngineError: httpx is missing, or the key must not travel to this address.
        """
        try:
            import httpx
        except ImportError as error:
            raise EngineError("endpoint: needs httpx: pip install 'taiji-rec[endpoint]'") from error
        self._httpx = httpx
        self.name = model
        self._key = os.environ.get(api_key_env, "").strip()
        _check_address(base_url, has_key=bool(self._key), api_key_env=api_key_env)
        if not (self._key.isascii() and self._key.isprintable()):
            raise EngineError(f"{api_key_env}: holds characters that no key has: set it again")
        self._base_url = base_url.rstrip("/")
        self._api_key_env = api_key_env
        self._concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._max_retries = max_retries
        self._limit_field = "max_tokens"

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Reply]]:
        """See `TextGenerator.generate`; each reply is a request of its own.

        A single request that fails for good gives an empty reply whose status says why.

        Raises:
            EngineError: The key, the address or the model is refused; or as many requests in a
                row have failed as run side by side; or all have failed.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        work = self._all(prompts, n, sampling, on_progress)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(work)
        with ThreadPoolExecutor(1) as pool:  # a notebook already runs a loop in this thread
            return pool.submit(asyncio.run, work).result()

    async def _all(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None,
    ) -> list[list[Reply]]:
        """Let `concurrency` workers share the requests."""
        replies: list[list[Reply | None]] = [[None] * n for _ in prompts]
        jobs = ((p, i) for p in range(len(prompts)) for i in range(n))
        patience = _Patience(min(self._concurrency, n * len(prompts)))
        open_replies = [n] * len(prompts)

        async def work(client: "httpx.AsyncClient", jobs: Iterator[tuple[int, int]]) -> None:
            for p, i in jobs:
                outcome = await self._ask(client, self._body(prompts[p], i, sampling))
                replies[p][i] = patience.note(outcome, self.name)
                open_replies[p] -= 1
                if on_progress and not open_replies[p]:
                    on_progress(sum(not left for left in open_replies), len(prompts))

        try:
            async with self._client() as client, asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(work(client, jobs))
        except* EngineError as errors:
            raise errors.exceptions[0] from None
        return [[reply for reply in row if reply is not None] for row in replies]

    def _client(self) -> "httpx.AsyncClient":
        return self._httpx.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=self._httpx.Timeout(
                self._timeout_seconds, connect=min(CONNECT_SECONDS, self._timeout_seconds)
            ),
            follow_redirects=False,
        )

    def _body(self, prompt: Prompt, index: int, sampling: Sampling) -> dict[str, Any]:
        return {
            "model": self.name,
            "messages": prompt.messages(),
            "temperature": sampling.temperature,
            "seed": (sampling.seed + index) % 2**31,
            self._limit_field: sampling.max_new_tokens,
        }

    async def _ask(self, client: "httpx.AsyncClient", body: dict[str, Any]) -> Reply | _Failure:
        """One request with its retries."""
        outcome = await self._attempt(client, body)
        for attempt in range(self._max_retries):
            if isinstance(outcome, Reply) or not outcome.again:
                break
            pause = _pause_seconds(attempt, outcome.pause_seconds)
            logger.debug("%s: %s; again in %.1f s", self.name, outcome.complaint, pause)
            await asyncio.sleep(pause)
            outcome = await self._attempt(client, body)
        return outcome

    async def _attempt(self, client: "httpx.AsyncClient", body: dict[str, Any]) -> Reply | _Failure:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                code, headers, raw = await self._post(client, body)
        except (TimeoutError, self._httpx.ReadTimeout, self._httpx.WriteTimeout):
            # Not again: the server may well be busy with the first one.
            return _Failure(f"no reply in {self._timeout_seconds:g} s", "timeout", again=False)
        except self._httpx.RequestError as error:
            return _Failure(f"connection failed ({type(error).__name__})")
        if code == 200:
            try:
                return read_reply(raw)
            except NotAReplyError as error:
                return _Failure(f"answered, but {error}")
        complaint = f"{code}: {read_complaint(raw, self._key)}"
        if code in (401, 403, 404) or 300 <= code < 400:
            raise EngineError(self._refusal(code, complaint))
        if code == 400 and "max_completion_tokens" in complaint and "max_tokens" in body:
            # Newer models know the limit under this name only.
            self._limit_field = "max_completion_tokens"
            body[self._limit_field] = body.pop("max_tokens")
            return _Failure(complaint, pause_seconds=0.0)
        again = code in (408, 409, 425, 429) or code >= 500
        return _Failure(complaint, again=again, pause_seconds=retry_after(headers))

    async def _post(
        self, client: "httpx.AsyncClient", body: dict[str, Any]
    ) -> tuple[int, "httpx.Headers", bytes]:
        """Send, and read no more than a reply can sensibly be."""
        url = f"{self._base_url}/chat/completions"
        async with client.stream("POST", url, json=body) as response:
            raw = bytearray()
            async for chunk in response.aiter_bytes():
                raw += chunk
                if len(raw) > MAX_BODY_BYTES:
                    break
            return response.status_code, response.headers, bytes(raw[:MAX_BODY_BYTES])

    def _refusal(self, code: int, complaint: str) -> str:
        mend = {
            401: f"the key was refused: set {self._api_key_env}",
            403: f"access was refused: check the rights of the key in {self._api_key_env}",
            404: f"check base_url, and that the server has a model {self.name!r}",
        }.get(code, "redirects are not followed: put the final address into base_url")
        return f"endpoint {self._base_url}: {complaint}: {mend}"


class _Patience:
    """Tells a request that failed from a server that is gone."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failures = 0

    def note(self, outcome: Reply | _Failure, name: str) -> Reply:
        """Turn an outcome into a reply, or raise if too many in a row have failed."""
        if isinstance(outcome, Reply):
            self._failures = 0
            return outcome
        self._failures += 1
        logger.warning("%s: gave up on a request: %s", name, outcome.complaint)
        if self._failures >= self._limit:
            raise EngineError(
                f"endpoint model {name}: {self._failures} requests in a row failed, the last with:"
                f" {outcome.complaint}: check that the server runs, then start again"
            )
        return Reply("", outcome.status, 0)


def _check_address(base_url: str, *, has_key: bool, api_key_env: str) -> None:
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme not in ("http", "https") or not host:
        raise ConfigError(f"base_url {base_url!r}: not an http address")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("base_url: holds more than an address: credentials belong into the key")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        loopback, link_local = host == "localhost" or host.endswith(".localhost"), False
    else:
        mapped = getattr(address, "ipv4_mapped", None) or address
        loopback, link_local = mapped.is_loopback, mapped.is_link_local
    if link_local:
        raise ConfigError(f"base_url {base_url!r}: link-local addresses serve metadata, not models")
    if has_key and parts.scheme == "http" and not loopback:
        raise EngineError(
            f"endpoint {base_url}: the key would travel in clear: use https, or unset {api_key_env}"
        )


def _pause_seconds(attempt: int, asked: float | None) -> float:
    """As long as the server asks, else 0.5, 1, 2 ... s less up to half, so that clients spread."""
    if asked is not None:
        return min(asked, MAX_PAUSE_SECONDS)
    return min(0.5 * 2.0**attempt, MAX_PAUSE_SECONDS) * random.uniform(0.5, 1.0)
