"""Starts the server of `taiji ui`, reachable from this machine alone."""

from pathlib import Path

import uvicorn

from taiji.errors import ConfigError
from taiji.ui.app import build_app
from taiji.ui.runs import Runs


def serve_pages(folder: Path, port: int) -> None:
    """Answer on loopback until a signal comes.

    Raises:
        ConfigError: There is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no folder: name the one that holds the runs")
    app = build_app(Runs(folder))
    # No access log: a line a request would say who was looked at, and when.
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
    )
