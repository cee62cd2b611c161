"""Starts the server, and if asked the worker beside it."""

import ipaddress
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvicorn

from taiji.errors import ConfigError
from taiji.serving.admission import Admission
from taiji.serving.api.app import Service, build_app
from taiji.serving.api.keys import FILE, KeyRing
from taiji.serving.parts import open_parts
from taiji.serving.publication import publish_first
from taiji.serving.run import ServedRun

logger = logging.getLogger(__name__)

_RESTART_SECONDS = 1.0


def serve(run: ServedRun, host: str, port: int, worker: Sequence[str] | None = None) -> None:
    """Answer requests until a signal comes. A run is published if nothing is yet.

    Args:
        host: An address of this machine; another than loopback needs API keys.
        worker: The command of a worker to keep running beside; it starts anew when it dies.

    Raises:
        ConfigError: The address needs keys and there are none.
        DataError: The run is damaged.
    """
    keys = KeyRing(run.state / FILE)
    on_loopback = is_loopback(host)
    if not on_loopback and not keys.required:
        raise ConfigError(
            f"--host {host}: others can reach this address: make an API key first with "
            f"`taiji keys add NAME --scope read`, or leave --host out"
        )
    parts = open_parts(run)
    scratch = run.state / f".admission-{os.getpid()}-{time.time_ns()}"
    section = run.recipe.data
    admission = Admission(section, run.construct / "items.parquet", scratch)
    stop = threading.Event()
    try:
        publish_first(run, parts.state)
        app = build_app(Service(parts, admission, keys, on_loopback))
        if worker is not None:
            threading.Thread(target=_keep_running, args=(worker, stop), daemon=True).start()
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            log_level="warning",
            access_log=False,  # a line a request would say who is asked for when
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=1 << 16,
        )
        uvicorn.Server(config).run()
    finally:
        stop.set()
        admission.close()
        parts.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def worker_command(run: Path, overrides: Sequence[str]) -> list[str]:
    """The command of a worker of this run in this environment."""
    return [sys.executable, "-m", "taiji.cli", "worker", str(run), *overrides]


def _keep_running(command: Sequence[str], stop: threading.Event) -> None:
    while not stop.is_set():
        process = subprocess.Popen(command)
        while process.poll() is None and not stop.wait(0.2):
            pass
        if stop.is_set():
            process.terminate()
            return
        logger.warning("the worker ended (%s): starting it again", process.returncode)
        stop.wait(_RESTART_SECONDS)
