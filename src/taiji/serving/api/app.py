"""The routes. Everything that guards them is in `gate`."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError

from taiji import __version__
from taiji.errors import ConfigError, DataError
from taiji.serving.admission import Admission, Sent
from taiji.serving.api import messages as m
from taiji.serving.api.features import FeatureReader
from taiji.serving.api.gate import Gate
from taiji.serving.api.keys import KeyRing, Scope
from taiji.serving.api.metrics import Metrics
from taiji.serving.api.operator_page import minute_figures, page
from taiji.serving.forget import forget
from taiji.serving.parts import Parts
from taiji.serving.publication import publish, roll_back
from taiji.serving.unavailable import UnavailableError
from taiji.store.files import read_json

SCOPES: Mapping[str, Scope] = {
    "/v1/events": "ingest",
    "/v1/publish": "publish",
    "/v1/rollback": "publish",
    "/v1/forget": "erase",
}
_ROUTES = frozenset(
    {*SCOPES, "/v1/features", "/v1/figures", "/healthz", "/readyz", "/metrics", "/operator"}
)
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": m.Problem, "description": words}
    for code, words in {
        400: "the body is not JSON",
        401: "no API key",
        403: "a key without this scope",
        408: "the body did not come in time",
        409: "not in this state, such as a rollback without a version before",
        413: "the body is too large",
        422: "the body is not what this route takes",
        429: "too many requests; Retry-After says how long to wait",
        503: "the service is busy or the queue away; Retry-After says how long to wait",
    }.items()
}
_RETRY = {"Retry-After": "1"}


@dataclass(frozen=True)
class Service:
    """What the routes work with.

    Attributes:
        parts: Store, queue, log, tombstones.
        admission: Judges events.
        keys: Who may ask.
        on_loopback: Whether the page for the operator is shown.
    """

    parts: Parts
    admission: Admission
    keys: KeyRing
    on_loopback: bool


def build_app(service: Service) -> Gate:
    """The whole server, as ASGI."""
    parts = service.parts
    section = parts.run.recipe.serve
    metrics = Metrics(_ROUTES, lambda: standing(parts), lambda: parts.log.totals())
    codebook = read_json(parts.run.features / "codebook.json")
    sizes = (int(codebook["sub_vectors"]), float(section.stale_after_seconds))
    reader = FeatureReader(parts.store, parts.names, metrics, *sizes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await parts.store.leave_loop()

    app = FastAPI(
        title="Taiji near-online features",
        version=__version__,
        docs_url=None,  # they would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        responses=_REFUSALS,
    )
    _explain_errors(app)
    _add_features(app, reader)
    _add_events(app, service, metrics)
    _add_versions(app, parts)
    _add_operation(app, service, metrics)
    return Gate(app, service.keys, section.limits, SCOPES, metrics.observe)


def standing(parts: Parts) -> dict[str, float]:
    """How things stand now; what cannot be asked is left out."""
    figures: dict[str, float] = {
        "users_waiting": parts.log.num_waiting(),
        "longest_wait_seconds": parts.log.longest_wait(),
        "erased_users": parts.tombstones.number(),
    }
    try:
        figures["queue_depth"] = parts.bus.depth()
        figures["version"] = parts.store.versions().current or 0
        figures["store_up"] = 1
    except UnavailableError:
        figures["store_up"] = 0
    psi = parts.log.totals().get("codes_psi")
    if psi is not None:
        figures["codes_psi"] = psi
        figures["codes_drift_alarm"] = float(psi > parts.run.recipe.serve.drift_alarm)
    return figures


def _explain_errors(app: FastAPI) -> None:
    """Errors say where and what, and never what stood there."""

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:4] if not isinstance(part, str))
        named = [p for p in first["loc"][1:] if isinstance(p, str) and p in _FIELDS]
        place = ".".join([*named, *([where] if where else [])]) or "body"
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)

    @app.exception_handler(UnavailableError)
    async def away(_: Request, error: UnavailableError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 503, _RETRY)

    @app.exception_handler(DataError)
    async def unusable(_: Request, error: DataError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(ConfigError)
    async def not_now(_: Request, error: ConfigError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)


_FIELDS = frozenset({"user_ids", "user_id", "events", "row", "table", "event_id"})


class _FeaturesRoute(APIRoute):
    """The busiest route: FastAPI describes it, and its work of each request is left out."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Reads the question and asks the endpoint, which answers in bytes."""

        async def handle(request: Request) -> Response:
            try:
                question = m.FeaturesQuestion.model_validate_json(await request.body())
            except ValidationError as error:
                places = [{**one, "loc": ("body", *one["loc"])} for one in error.errors()]
                raise RequestValidationError(places) from error
            answer: Response = await self.endpoint(question)
            return answer

        return handle


def _add_features(app: FastAPI, reader: FeatureReader) -> None:
    async def features(question: m.FeaturesQuestion) -> Response:
        """Features of 1 to 500 users, in the order of the question. Nobody is an error."""
        answer = await reader.read(question.user_ids)
        return Response(orjson.dumps(answer), media_type="application/json")

    app.router.add_api_route(
        "/v1/features",
        features,
        methods=["POST"],
        response_model=m.FeaturesAnswer,
        route_class_override=_FeaturesRoute,
    )


def _add_events(app: FastAPI, service: Service, metrics: Metrics) -> None:
    parts = service.parts
    backlog = _Backlog(parts)

    @app.post("/v1/events", response_model=m.EventsAnswer, status_code=202)
    def events(message: m.EventsMessage) -> Response:
        """Take events in: each is safe in the queue, or refused by the code of a rule."""
        if backlog.is_full():
            return JSONResponse({"detail": "too many events wait"}, 503, _RETRY)
        sent = [Sent(one.table, one.row, one.event_id) for one in message.events]
        taken, refused = service.admission.judge(sent)
        erased = parts.tombstones.among([parts.names.of(one.user_id) for one in taken])
        kept = [one for one in taken if not erased or parts.names.of(one.user_id) not in erased]
        if kept:
            parts.bus.publish([one.pack() for one in kept])
        metrics.events.note("taken", len(kept))
        metrics.events.note("erased_user", len(taken) - len(kept))
        for one in refused:
            metrics.events.note(one.code)
        answer = {"taken": len(kept), "refused": [vars(one) for one in refused]}
        return Response(orjson.dumps(answer), 202, media_type="application/json")


class _Backlog:
    """Asks the queue how long it is, at most once a second."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._most = parts.run.recipe.serve.limits.max_backlog
        self._depth, self._asked = 0, -1.0

    def is_full(self) -> bool:
        """Whether further events would only pile up."""
        if time.monotonic() - self._asked > 1:
            self._depth, self._asked = self._parts.bus.depth(), time.monotonic()
        return self._depth >= self._most


def _add_versions(app: FastAPI, parts: Parts) -> None:
    changing = asyncio.Lock()

    async def alone(work: Callable[[], Any]) -> Any:
        async with changing:
            return await asyncio.to_thread(work)

    @app.post("/v1/publish", response_model=m.VersionAnswer)
    async def publish_run() -> m.VersionAnswer:
        """Fill the store from the run that is served, and switch readers to it."""
        done = await alone(lambda: publish(parts.run, parts.state))
        return m.VersionAnswer(version=done.version, users_written=done.num_users)

    @app.post("/v1/rollback", response_model=m.VersionAnswer)
    async def rollback() -> m.VersionAnswer:
        """Switch readers back to the version before."""
        return m.VersionAnswer(version=await alone(lambda: roll_back(parts.state)))

    @app.post("/v1/forget", response_model=m.EraseAnswer)
    async def forget_user(message: m.EraseMessage) -> m.EraseAnswer:
        """Erase a user everywhere; answers when it is done. Again it does nothing more."""
        receipt = await alone(lambda: forget(message.user_id, parts))
        return m.EraseAnswer(receipt=receipt.name)


def _add_operation(app: FastAPI, service: Service, metrics: Metrics) -> None:
    parts = service.parts

    @app.get("/healthz")
    async def healthz() -> m.Health:
        """Whether the process answers."""
        return m.Health(status="ok")

    @app.get("/readyz", response_model=m.Health)
    def readyz() -> Response:
        """Whether the store answers and a version is in force."""
        detail = ""
        try:
            if parts.store.versions().current is None:
                detail = "nothing is published"
        except UnavailableError as error:
            detail = str(error)
        health = m.Health(status="unavailable" if detail else "ok", detail=detail)
        return JSONResponse(health.model_dump(), 503 if detail else 200)

    @app.get("/metrics", response_class=Response)
    def prometheus() -> Response:
        """In Prometheus's format."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/v1/figures")
    def figures() -> dict[str, Any]:
        """What the operator's page draws: how things stand, and the work by minute."""
        now = standing(parts) | {
            f"age_seconds_{q}": seconds for q, seconds in metrics.ages.quantiles().items()
        }
        return {"now": now, "minutes": minute_figures(parts.log)}

    if service.on_loopback:

        @app.get("/operator", response_class=HTMLResponse)
        def operator() -> HTMLResponse:
            """Curves for a person; only where the service is bound to loopback."""
            return HTMLResponse(page())
