"""Asking a server many things side by side, with patience that ends.

What may pass by itself (429, 5xx, a broken connection, a body that is no answer) is tried again,
when the server asks for it or after growing pauses, until the call's deadline; what cannot pass
(a wrong key, an unknown model) ends the run at once. However a run ends, calls that are under
way are let finish, because they will be paid for. Redirects are not followed, nothing compressed
is asked for or read. The key comes from the environment alone, goes to this one host (`route`), is
written nowhere, and is cut out of whatever the server says.
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from taiji.config.engines import ServerSection
from taiji.errors import EngineError
from taiji.language.completions import Status
from taiji.language.endpoint.patience import CircuitBreaker, Pacer, backoff_seconds
from taiji.language.endpoint.protocol import (
    NotAReplyError,
    read_complaint,
    read_hidden_code,
    retry_after,
)
from taiji.language.endpoint.route import find_route

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 * 2**20

Body = dict[str, Any]
T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """An attempt, or in the end a call, that brought nothing."""

    complaint: str
    status: Status = "http_error"
    again: bool = True
    asked_seconds: float | None = None  # to wait, by the server
    paid: bool = False  # something was written, though nothing can be made of it


@dataclass(frozen=True)
class Job(Generic[T]):
    """Many calls of one kind.

    Attributes:
        path: Below the base URL.
        bodies: One for each call; taken one by one.
        read: Makes an answer of the body of a response; raises `NotAReplyError`.
        on_outcome: Called with the number of the call and what became of it, as they end.
        allowed: Called before each call; raises to end the run.
    """

    path: str
    bodies: Iterable[Body]
    read: Callable[[bytes], T]
    on_outcome: Callable[[int, T | Failure], None]
    allowed: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class _Run(Generic[T]):
    """A job on its way."""

    job: Job[T]
    halted: asyncio.Event

    async def pause(self, seconds: float) -> None:
        """Wait, unless the run is halted meanwhile."""
        if seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.halted.wait()


class EndpointClient:
    """One model at one address.

    Args:
        section: Where it is and how patient to be.
        model: Which one, for what is said of it.

    Raises:
        ConfigError: The address cannot be used.
        EngineError: httpx is missing, or the key must not travel to this address.
    """

    def __init__(self, section: ServerSection, model: str) -> None:
        try:
            import httpx
        except ImportError as error:
            raise EngineError("endpoint: needs httpx: pip install 'taiji-rec[endpoint]'") from error
        self._httpx = httpx
        self._section, self._model = section, model
        self._key = os.environ.get(section.api_key_env, "").strip()
        self._route = find_route(
            section.base_url, has_key=bool(self._key), key_env=section.api_key_env
        )
        if not (self._key.isascii() and self._key.isprintable()):
            raise EngineError(
                f"{section.api_key_env}: holds characters that no key has: set it again"
            )
        self._pacer = Pacer()
        self._breaker = CircuitBreaker(model, section.retry.stop_after_failures)
        self._newer_limit = False

    def ask(self, job: Job[T]) -> None:
        """Make all calls of a job.

        Raises:
            EngineError: The key, the address or the model is refused; too many calls in a row
                have failed; or the job does not allow another one.
        """
        work = self._all(job)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            asyncio.run(work)
            return
        with ThreadPoolExecutor(1) as pool:  # a notebook already runs a loop in this thread
            pool.submit(asyncio.run, work).result()

    async def _all(self, job: Job[T]) -> None:
        """Let `concurrency` workers share the calls; the first error stops them all."""
        calls = enumerate(job.bodies)
        run = _Run(job, asyncio.Event())
        workers = [
            asyncio.create_task(self._work(run, calls)) for _ in range(self._section.concurrency)
        ]
        try:
            await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
            run.halted.set()
            await asyncio.wait(workers)
        finally:
            for worker in workers:  # still there only if someone has interrupted us
                worker.cancel()
        errors = [error for worker in workers if (error := worker.exception())]
        if errors:
            raise errors[0]

    async def _work(self, run: _Run[T], calls: Iterator[tuple[int, Body]]) -> None:
        # A client each: in a shared one every request looks through all connections, which
        # takes three times the CPU at 32 of them.
        async with self._http() as http:
            while not run.halted.is_set():
                index, body = next(calls, (-1, None))
                if body is None:
                    return
                run.job.allowed()
                outcome = await self._call(run, http, body)
                if outcome is None:
                    return
                run.job.on_outcome(index, outcome)
                if isinstance(outcome, Failure):
                    self._breaker.failure(outcome.complaint)
                else:
                    self._breaker.success()

    async def _call(
        self, run: _Run[T], http: "httpx.AsyncClient", body: Body
    ) -> T | Failure | None:
        """One call with its attempts; None if the run was halted before it had an outcome."""
        retry = self._section.retry
        await run.pause(self._pacer.held_seconds())
        deadline = time.monotonic() + retry.deadline_seconds
        for attempt in range(retry.max_retries + 1):
            if run.halted.is_set():
                break
            seconds = min(self._section.timeout_seconds, deadline - time.monotonic())
            outcome = await self._attempt(run.job, http, body, seconds)
            if not isinstance(outcome, Failure) or not outcome.again:
                return outcome
            pause = backoff_seconds(attempt, retry.first_pause_seconds)
            if outcome.asked_seconds is not None:
                pause = outcome.asked_seconds
            if attempt == retry.max_retries:
                return outcome
            if time.monotonic() + max(pause, self._pacer.held_seconds()) >= deadline:
                return replace(
                    outcome,
                    complaint=f"{outcome.complaint}: another {pause:.0f} s of waiting would exceed"
                    " retry.deadline_seconds",
                )
            if outcome.asked_seconds is not None:
                self._pacer.hold(pause)
            logger.debug("%s: %s; again in %.1f s", body["model"], outcome.complaint, pause)
            await run.pause(max(pause, self._pacer.held_seconds()))
        return None

    async def _attempt(
        self, job: Job[T], http: "httpx.AsyncClient", body: Body, seconds: float
    ) -> T | Failure:
        if self._newer_limit and "max_tokens" in body:
            body["max_completion_tokens"] = body.pop("max_tokens")
        try:
            async with asyncio.timeout(seconds):
                code, headers, raw = await self._post(http, job.path, body)
        except TimeoutError:
            # Not again: the server may well be busy with the first one.
            return Failure(f"no reply in {seconds:.3g} s", "timeout", again=False)
        except self._httpx.RequestError as error:
            return Failure(self._route.complaint(error))
        hidden = read_hidden_code(raw) if code == 200 else None
        if code == 200 and hidden is None:
            return _read(job, headers, raw)
        complaint = f"{code}: {read_complaint(raw, self._key)}"
        code = hidden or code
        if code in (401, 402, 403, 404) or 300 <= code < 400:
            raise EngineError(self._refusal(code, complaint))
        if code == 400 and "max_completion_tokens" in complaint and "max_tokens" in body:
            self._newer_limit = True  # newer models know the limit under this name only
            return await self._attempt(job, http, body, seconds)
        again = code in (408, 409, 425, 429) or code >= 500
        return Failure(complaint, again=again, asked_seconds=retry_after(headers))

    async def _post(
        self, http: "httpx.AsyncClient", path: str, body: Body
    ) -> tuple[int, "httpx.Headers", bytes]:
        """Send, and read one byte more than an answer can sensibly be."""
        url = f"{self._route.base_url}/{path}"
        async with http.stream("POST", url, json=body) as response:
            raw = bytearray()
            async for chunk in response.aiter_raw():
                raw += chunk[: MAX_BODY_BYTES + 1 - len(raw)]
                if len(raw) > MAX_BODY_BYTES:
                    break
            return response.status_code, response.headers, bytes(raw)

    def _http(self) -> "httpx.AsyncClient":
        headers = {"Accept-Encoding": "identity"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return self._route.client(headers)

    def _refusal(self, code: int, complaint: str) -> str:
        section = self._section
        mend = {
            401: f"the key was refused: set {section.api_key_env}",
            402: f"the account of the key in {section.api_key_env} wants money",
            403: f"access was refused: check the rights of the key in {section.api_key_env}",
            404: f"check base_url, and that the server has a model {self._model!r}",
        }.get(code, "redirects are not followed: put the final address into base_url")
        return f"endpoint {section.base_url}: {complaint}: {mend}"


def _read(job: Job[T], headers: "httpx.Headers", raw: bytes) -> T | Failure:
    if len(raw) > MAX_BODY_BYTES:
        complaint = f"answered, but in more than {MAX_BODY_BYTES // 2**20} MiB"
        return Failure(complaint, "malformed", again=False, paid=True)
    if headers.get("content-encoding", "identity") != "identity":
        return Failure("answered, but compressed, which nobody asked for", "malformed")
    try:
        return job.read(raw)
    except NotAReplyError as error:
        return Failure(f"answered, but {error}", "malformed")
