"""Ctrl-C and SIGTERM end a running query of DuckDB.

While a query runs, the main thread is not in Python, so no handler of ours runs; DuckDB looks
for signals itself, but then waits for threads that nobody told. A thread that Python wakes by a
byte for each signal tells them.
"""

import signal
import socket
import threading

import duckdb

_ENDING = frozenset({signal.SIGINT, signal.SIGTERM})
_CLOSED = 0


class Interrupter:
    """Interrupts a connection whenever one of the two signals comes; only in the main thread."""

    def __init__(self, db: duckdb.DuckDBPyConnection) -> None:
        self._db = db
        self._thread: threading.Thread | None = None
        if threading.current_thread() is not threading.main_thread():
            return  # signals go to the main thread alone
        self._ears, self._mouth = socket.socketpair()
        self._mouth.setblocking(False)
        self._before = signal.set_wakeup_fd(self._mouth.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Listen no longer; call it before the connection is closed."""
        if self._thread is None:
            return
        signal.set_wakeup_fd(self._before)
        self._mouth.send(bytes([_CLOSED]))
        self._thread.join()
        self._thread = None
        self._mouth.close()
        self._ears.close()

    def _listen(self) -> None:
        while (heard := self._ears.recv(1)) and heard[0] != _CLOSED:
            if heard[0] in _ENDING:
                self._db.interrupt()
