"""`taiji serve` in a process of its own, and a client of it."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from taiji.serving.client import ServiceClient, ServiceError


class Server:
    """A server at a free port, ready when this is made."""

    def __init__(self, root, *settings, key="", env=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        words = ["serve", str(root), *settings, "--port", str(self.port)]
        environment = os.environ | {"PYTHONWARNINGS": "ignore"} | (env or {})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "taiji.cli", *words], env=environment, stderr=subprocess.PIPE
        )
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = ServiceClient(self.url, key, timeout_seconds=30.0)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                self.client.features(["nobody"])
                return
            except ServiceError:
                assert self.process.poll() is None, self.process.stderr.read().decode()
                time.sleep(0.1)
        raise TimeoutError("the server does not come up")

    @property
    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    @property
    def children(self) -> list[int]:
        """Processes that it has started."""
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]

    def close(self) -> bytes:
        """Stop it; return what it wrote to its log."""
        self.client.close()
        self.process.terminate()
        _, errors = self.process.communicate(timeout=60)
        return errors
