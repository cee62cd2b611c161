"""A scripted endpoint and a generator that asks it."""

import pytest
from chat_server import ChatServer
from endpoint_parts import KEY, teacher

from taiji.language.endpoint.generator import EndpointGenerator


@pytest.fixture(scope="session")
def smollm2_tokenizer(whole_smollm2_tokenizer):
    """In this room the real one is what is tested."""
    return whole_smollm2_tokenizer


@pytest.fixture
def serve(monkeypatch):
    """serve(script or list of answers) -> (server, generator), all closed in the end."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TEST_KEY", KEY)
    servers = []

    def start(script, store=None, **options):
        if isinstance(script, list):
            answers = script
            script = lambda _, number: answers[min(number, len(answers)) - 1]  # noqa: E731
        server = ChatServer(script)
        servers.append(server)
        return server, EndpointGenerator(teacher(server.url, **options), store)

    yield start
    for server in servers:
        server.close()
