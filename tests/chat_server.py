"""A chat endpoint on this machine: speaks the real protocol over a real socket."""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal


@dataclass(frozen=True)
class Answer:
    """What to send back: a status, a body (a dict becomes JSON), headers, a wait before."""

    code: int = 200
    body: Any = ""
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drip_seconds: float = 0.0  # one byte, then this long, and so on
    hang_up: Literal["before headers", "after headers", "in the body"] | None = None
    length_error: int = 0  # the body's length as told, less its true one
    times: int = 1  # so often on one connection, whatever was asked


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def completion(content: Any, finish: str | None = "stop", **message: Any) -> Answer:
    return Answer(
        body={
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": content, **message},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14},
        }
    )


def _whole(raw: bytes) -> bytes:
    """A response that nobody asked for."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)


class ChatServer:
    """Answers each request as `script(request, number)` says; remembers all of them."""

    def __init__(self, script: Callable[[Request, int], Answer]) -> None:
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._script = script
        self._at_once = 0
        self._lock = threading.Lock()
        self._closing = threading.Event()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                server._serve(self)

            def log_message(self, *args):
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                if not isinstance(sys.exception(), ConnectionError):  # a client may hang up
                    super().handle_error(request, client_address)

        self._http = Server(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers["Content-Length"]))
        request = Request(handler.path, dict(handler.headers), json.loads(raw))
        with self._lock:
            self.requests.append(request)
            number = len(self.requests)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            answer = self._script(request, number)
            self._closing.wait(answer.seconds)
            self._send(handler, answer)
        except OSError:
            handler.close_connection = True  # the client has hung up
        finally:
            with self._lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, answer: Answer) -> None:
        raw = answer.body if isinstance(answer.body, (str, bytes)) else json.dumps(answer.body)
        raw = raw.encode() if isinstance(raw, str) else raw
        handler.close_connection = answer.hang_up is not None or answer.length_error != 0
        if answer.hang_up == "before headers":
            return
        for _ in range(answer.times - 1):  # in one packet with what follows
            handler.wfile.write(_whole(raw))
        handler.send_response(answer.code)
        for name, value in {"Content-Type": "application/json", **answer.headers}.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(raw) + answer.length_error))
        handler.end_headers()
        if answer.hang_up:
            raw = raw[: len(raw) // 2] if answer.hang_up == "in the body" else b""
        if not answer.drip_seconds:
            handler.wfile.write(raw)
            return
        for byte in raw:
            handler.wfile.write(bytes([byte]))
            if self._closing.wait(answer.drip_seconds):
                return
