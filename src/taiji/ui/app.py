"""The routes of `taiji ui`. All of them read, none of them writes."""

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.middleware.trustedhost import TrustedHostMiddleware

from taiji.errors import MissingArtifactError, TaijiError
from taiji.report.comparison import render_comparison
from taiji.report.explorer import ROLLOUT_COLUMNS, chains_data
from taiji.report.page import render_report, render_user
from taiji.report.rendering import json_island, render, script_policy, seen
from taiji.report.run_files import ReportData
from taiji.store.pseudonym import PREFIX, load_pseudonyms
from taiji.ui.live import live_state
from taiji.ui.rows import Asked, find_rollouts, values_of
from taiji.ui.runs import Runs, state_of

HOSTS = ["127.0.0.1", "localhost", "[::1]"]
"""Names that a browser may call this server; another site that points its name here is refused."""

_PAGES = 4
_MOST_ROWS = 200
_MOST_COMPARED = 12


def build_app(runs: Runs) -> FastAPI:
    """The server of a folder of runs."""
    app = FastAPI(title="Taiji runs", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)
    _guard(app)
    _add_list(app, runs)
    _add_run(app, runs)
    _add_user(app, runs)
    _add_comparison(app, runs)
    return app


def _guard(app: FastAPI) -> None:
    @app.middleware("http")
    async def headers(
        request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        answer = await go_on(request)
        answer.headers["Content-Security-Policy"] = (
            f"{script_policy(served=True)}; frame-ancestors 'none'"
        )
        answer.headers["X-Content-Type-Options"] = "nosniff"
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    @app.exception_handler(TaijiError)
    async def problem(_: Request, error: TaijiError) -> HTMLResponse:
        missing = isinstance(error, MissingArtifactError)
        page = render(
            "problem.html.j2",
            served=True,
            title="not to be shown",
            words=str(error),
            island=json_island({}),
        )
        return HTMLResponse(page, 404 if missing else 409)


def _add_list(app: FastAPI, runs: Runs) -> None:
    @app.get("/", response_class=HTMLResponse)
    def index() -> str:
        """Every run of the folder, the newest first."""
        return render(
            "runs.html.j2",
            served=True,
            title="runs",
            runs=list(runs.standing()),
            ago=lambda seconds: ago(time.time() - seconds),
            island=json_island({}),
        )


def _add_run(app: FastAPI, runs: Runs) -> None:
    pages: dict[str, tuple[Any, str]] = {}

    @app.get("/run/{name}", response_class=HTMLResponse)
    def run(name: str) -> str:
        """The report of a run as far as it has come; rendered once for each state."""
        root = runs.root(name)
        state = (state_of(root), script_policy(served=True))
        if name not in pages or pages[name][0] != state:
            page = render_report(runs.data(name), explored=_explored(name, runs.data(name)))
            pages.pop(next(iter(pages)) if len(pages) >= _PAGES else "", None)
            pages[name] = (state, page)
        return pages[name][1]

    @app.get("/run/{name}/rollouts")
    def rollouts(request: Request, name: str, page: int = 0, size: int = 25) -> JSONResponse:
        """One page of the rollouts that the filters leave."""
        asked = {key: value[:200] for key, value in request.query_params.items()}
        data = runs.data(name)
        wanted = Asked(
            **{key: asked.get(key, "") for key in ("words", "rung", "status")},
            **{key: asked.get(key, "") for key in ("semantic", "preference")},
            user=_user_filter(data, asked.get("user", "")),
            first=asked.get("from", ""),
            last=asked.get("to", ""),
        )
        try:
            found = find_rollouts(data, wanted, max(0, page), min(max(1, size), _MOST_ROWS))
        except (ValueError, OverflowError):
            return JSONResponse({"detail": "a bound is no number"}, 422)
        return JSONResponse(seen(found))

    @app.get("/run/{name}/live")
    def live(name: str) -> JSONResponse:
        """What the stage that is at work has so far."""
        found = live_state(runs.root(name), runs.data(name))
        return JSONResponse(seen({**found, "users": f"/run/{name}/user/"}))


def _explored(name: str, data: ReportData) -> dict[str, Any]:
    """What the script of a served page reads: chains in the page, rollouts from here."""
    found: dict[str, Any] = {"live": f"/run/{name}/live"}
    if (chains := chains_data(data)) is not None:
        found["chains"] = chains
    if data.rollouts is not None:
        found["rollouts"] = {
            "columns": ROLLOUT_COLUMNS,
            "total": data.rollouts.num_rows,
            "source": f"/run/{name}/rollouts",
            "users": f"/run/{name}/user/",
            "rungs": values_of(data, "rung"),
            "statuss": values_of(data, "status"),
        }
    return found


def _add_user(app: FastAPI, runs: Runs) -> None:
    @app.get("/run/{name}/user")
    def find_user(name: str, id: str = "") -> Response:
        """To the page of a user, by id or pseudonym; an id does not stay in the address."""
        return RedirectResponse(
            f"/run/{name}/user/{quote(pseudonym(runs.data(name), id), safe='')}"
        )

    @app.get("/run/{name}/user/{user}", response_class=HTMLResponse)
    def user(name: str, user: str) -> str:
        """All that a run holds of one user."""
        page = render_user(runs.data(name), user, f"/run/{name}")
        if page is None:
            raise MissingArtifactError("no stage of this run saw such a user")
        return page


def _user_filter(data: ReportData, typed: str) -> str:
    """The beginning of a pseudonym, or the whole one of an id."""
    typed = typed.strip()
    return typed if not typed or PREFIX.startswith(typed[: len(PREFIX)]) else pseudonym(data, typed)


def pseudonym(data: ReportData, user: str) -> str:
    """The name of a user in pages: what is one already, or that of an id."""
    user = user.strip()
    if user.startswith(PREFIX):
        return user
    return load_pseudonyms(data.recipe.report.pseudonym_key_env).of(user)


def _add_comparison(app: FastAPI, runs: Runs) -> None:
    @app.get("/compare", response_class=HTMLResponse)
    def compare(run: Annotated[list[str], Query()] = []) -> str:  # noqa: B006
        """Several runs beside one another."""
        names = list(dict.fromkeys(run))[:_MOST_COMPARED]
        if len(names) < 2:
            raise MissingArtifactError("choose two runs or more to compare")
        found = {name: runs.data(name) for name in names}
        return render_comparison(found, "Runs compared", served=True)


def ago(seconds: float) -> str:
    """How long it is, in the largest unit that fits."""
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        number = int(seconds // size)
        if number:
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"
