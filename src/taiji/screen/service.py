"""The commands of the service: `serve`, `worker`, `features publish`, `forget`, `keys`."""

import importlib
import logging
import signal
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from taiji.errors import EngineError

_LIBRARIES = ("fastapi", "httpx", "msgpack", "orjson", "prometheus_client", "redis", "uvicorn")

STAGE_COMMAND = "stage"

RunFolder = Annotated[
    Path, typer.Argument(help="A finished run, such as runs/demo.", show_default=False)
]
Settings = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SERVE.KEY=VALUE]...", help="Settings, such as serve.backend=redis."),
]
OfRun = Annotated[Path, typer.Option("--run", help="A finished run whose service is meant.")]


class StageOrCommand(TyperGroup):
    """A group that is a stage too: what is no command of it is the stage's recipe."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the stage's command before a recipe."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = [STAGE_COMMAND, *args]
        rest: list[str] = super().parse_args(ctx, args)
        return rest


def add_service_commands(app: typer.Typer, features: typer.Typer, out: Console) -> None:
    """Add them to the command line.

    Args:
        app: Takes `serve`, `worker`, `forget` and `keys`.
        features: Takes `publish` and `feast`.
        out: Where to print.
    """
    _add_serve(app)
    _add_worker(app)
    _add_publish(features, out)
    _add_feast(features, out)
    _add_forget(app, out)
    _add_keys(app, out)


def _add_serve(app: typer.Typer) -> None:
    @app.command(rich_help_panel="Near-online service")
    def serve(
        run: RunFolder,
        settings: Settings = None,
        host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
        port: Annotated[int, typer.Option(help="Port to listen at.")] = 8100,
        with_worker: Annotated[
            bool, typer.Option("--with-worker", help="Keep a worker running beside.")
        ] = False,
    ) -> None:
        """Answer with users' features over HTTP and take events in (extra serve).

        Example:  taiji serve runs/demo --with-worker

        Publishes the run if nothing is published yet. Only this machine can reach it, unless
        --host says otherwise, which needs API keys (taiji keys add).
        """
        _require_extra()
        from taiji.serving.api.server import serve as start
        from taiji.serving.api.server import worker_command
        from taiji.serving.run import open_run

        logging.getLogger("taiji").info("listening at http://%s:%d", host, port)
        command = worker_command(run, settings or []) if with_worker else None
        start(open_run(run, settings), host, port, command)


def _add_worker(app: typer.Typer) -> None:
    @app.command(rich_help_panel="Near-online service")
    def worker(run: RunFolder, settings: Settings = None) -> None:
        """Turn events into new features of their users (extra serve).

        Example:  taiji worker runs/demo

        Any number of workers of a machine may run. The run must have been published.
        """
        _require_extra()
        from taiji.serving.parts import open_parts
        from taiji.serving.publication import require_version
        from taiji.serving.run import open_run
        from taiji.serving.worker import Refreshes, Worker

        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        served = open_run(run, settings)
        parts = open_parts(served)

        def load() -> Refreshes:
            from taiji.serving.refresher import Refresher  # models: when the first user is due

            return Refresher(served, parts.log, parts.store, parts.names, parts.tombstones)

        try:
            Worker(
                parts.bus,
                parts.log,
                parts.tombstones,
                parts.names,
                load,
                lambda: require_version(served, parts.store),
                served.recipe.serve.refresh,
            ).run(stop)
        finally:
            parts.close()


def _add_publish(features: typer.Typer, out: Console) -> None:
    @features.command()
    def publish(
        run: RunFolder,
        settings: Settings = None,
        rollback: Annotated[
            bool, typer.Option("--rollback", help="Go back to the version before.")
        ] = False,
    ) -> None:
        """Fill the online store from a run, then switch readers to it (extra serve).

        Example:  taiji features publish runs/demo
        """
        _require_extra()
        from taiji.serving.parts import open_parts
        from taiji.serving.publication import publish as fill
        from taiji.serving.publication import roll_back
        from taiji.serving.run import open_run

        parts = open_parts(open_run(run, settings))
        try:
            if rollback:
                version = roll_back(parts.state)
                out.print(f"version {version} is in force again", highlight=False)
                return
            done = fill(parts.run, parts.state)
        finally:
            parts.close()
        told = f"{done.num_users:,} users" if done.num_users else "was in force already"
        waiting = f"; {done.num_waiting:,} wait for a refresh" if done.num_waiting else ""
        known = f"; {done.num_dropped:,} events left the log" if done.num_dropped else ""
        out.print(f"version {done.version}: {told}{waiting}{known}", highlight=False)


def _add_feast(features: typer.Typer, out: Console) -> None:
    @features.command()
    def feast(
        run: RunFolder,
        folder: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("feast"),
    ) -> None:
        """Write definitions and a table for Feast, so that `feast apply` registers the features.

        Example:  taiji features feast runs/demo --out feast
        """
        from taiji.serving.feast import write_feast
        from taiji.serving.run import open_run

        num_rows = write_feast(open_run(run), folder)
        out.print(f"{folder}: {num_rows:,} rows: cd {folder} && feast apply", highlight=False)


def _add_forget(app: typer.Typer, out: Console) -> None:
    @app.command(rich_help_panel="Near-online service")
    def forget(
        user: Annotated[str, typer.Argument(help="A user id.", show_default=False)],
        settings: Settings = None,
        runs: Annotated[Path, typer.Option(help="The folder of the runs.")] = Path("runs"),
        run: Annotated[
            Path | None, typer.Option(help="Instead: a run; all beside it are meant too.")
        ] = None,
    ) -> None:
        """Erase a user from the service and from all runs of a folder (extra serve).

        Example:  taiji forget 900

        Killed on the way, the same command goes on. Prints where the receipt is.
        """
        _require_extra()
        from taiji.serving.forget import forget as erase
        from taiji.serving.parts import open_parts
        from taiji.serving.run import open_any_run, open_run

        parts = open_parts(open_run(run, settings) if run else open_any_run(runs, settings))
        try:
            receipt = erase(user, parts)
        finally:
            parts.close()
        out.print(f"erased; receipt: {receipt}", highlight=False, soft_wrap=True)


def _add_keys(app: typer.Typer, out: Console) -> None:
    keys = typer.Typer(no_args_is_help=True, help="API keys of the service.")
    app.add_typer(keys, name="keys", rich_help_panel="Near-online service")

    @keys.command()
    def add(
        name: Annotated[str, typer.Argument(help="Whom the key is for.", show_default=False)],
        run: OfRun,
        scope: Annotated[
            list[str], typer.Option(help="read, ingest, publish or erase; may be repeated.")
        ],
    ) -> None:
        """Make a key and print it; it is kept as a hash alone.

        Example:  taiji keys add ranker --scope read --run runs/demo
        """
        from taiji.serving.api.keys import FILE, add_key
        from taiji.serving.run import open_run

        secret = add_key(open_run(run).state / FILE, name, tuple(scope))  # type: ignore[arg-type]
        out.print(secret, highlight=False, soft_wrap=True)

    @keys.command()
    def revoke(
        name: Annotated[str, typer.Argument(help="Whose key.", show_default=False)], run: OfRun
    ) -> None:
        """Drop the oldest key of a name.

        Example:  taiji keys revoke ranker --run runs/demo
        """
        from taiji.serving.api.keys import FILE, revoke_key
        from taiji.serving.run import open_run

        revoke_key(open_run(run).state / FILE, name)

    @keys.command("list")
    def list_keys(run: OfRun) -> None:
        """Show names, scopes and ages of the keys.

        Example:  taiji keys list --run runs/demo
        """
        from taiji.serving.api.keys import FILE, read_keys
        from taiji.serving.run import open_run

        table = Table("name", "scopes", "days old", header_style="bold")
        for key in read_keys(open_run(run).state / FILE):
            days = (time.time() - key.made_at) / 86_400
            table.add_row(key.name, ", ".join(key.scopes), f"{days:.0f}")
        out.print(table)


def _require_extra() -> None:
    for name in _LIBRARIES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise EngineError(f"{name}: not installed: pip install 'taiji-rec[serve]'") from error
