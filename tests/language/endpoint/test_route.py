import socket
import threading
from contextlib import suppress

import pytest
from chat_server import ChatServer, completion
from endpoint_parts import KEY, teacher

from taiji.errors import ConfigError, EngineError
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.endpoint.route import find_route
from taiji.language.generate import Sampling
from taiji.language.prompt import Prompt, Segment

SAMPLING = Sampling(max_new_tokens=32, temperature=0.5, seed=7)
PROMPTS = [Prompt("Be brief.", (Segment("item"),))]
FAR = "http://models.example:8000/v1"  # reached by a proxy alone


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "TEST_KEY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    server = ChatServer(lambda request, number: completion("fine"))
    yield server
    server.close()


def authority(server):
    return server.url.removeprefix("http://").removesuffix("/v1")


def ask(base_url, **options):
    [[reply]] = EndpointGenerator(teacher(base_url, **options)).generate(PROMPTS, 1, SAMPLING)
    return reply.text


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_carries_the_call(server, monkeypatch, variable, scheme):
    monkeypatch.setenv(variable, scheme + authority(server))
    assert ask(FAR) == "fine"
    assert server.requests[0].path == f"{FAR}/chat/completions"


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_no_proxy_hears_of_a_server_on_this_machine(server, monkeypatch, variable):
    thief = ChatServer(lambda request, number: completion("stolen"))
    monkeypatch.setenv(variable, f"http://{authority(thief)}")
    monkeypatch.setenv("TEST_KEY", KEY)
    try:
        assert ask(server.url) == "fine"
        assert ask(server.url.replace("127.0.0.1", "localhost")) == "fine"
        assert thief.requests == []
    finally:
        thief.close()


def pump(source, target):
    with suppress(OSError):
        while block := source.recv(65536):
            target.sendall(block)
        target.shutdown(socket.SHUT_WR)


class Socks:
    """A SOCKS5 proxy without a password that takes every call to one server."""

    def __init__(self, port):
        self.asked = []
        self._target = port
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        client, _ = self._socket.accept()
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            client.recv(64)
            client.sendall(b"\x05\x00")
            wanted = client.recv(256)
            self.asked.append(wanted[5 : 5 + wanted[4]].decode())
            client.sendall(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50")
            there = threading.Thread(target=pump, args=(client, server))
            there.start()
            pump(server, client)
            there.join(5)

    def close(self):
        self._thread.join(5)
        self._socket.close()


@pytest.mark.parametrize("scheme", ["socks5", "socks5h", "socks"])
def test_a_socks_proxy_carries_the_call(server, monkeypatch, scheme):
    pytest.importorskip("socksio")
    socks = Socks(int(authority(server).split(":")[1]))
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://127.0.0.1:{socks.port}/")
    try:
        assert ask(FAR) == "fine"
        assert socks.asked == ["models.example"]
    finally:
        socks.close()


def test_a_socks_proxy_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    with pytest.raises(EngineError, match=r"ALL_PROXY.*pip install 'taiji-rec\[endpoint\]'"):
        find_route(FAR, has_key=False, key_env="TEST_KEY")


@pytest.mark.parametrize("value", ["gopher://h:1", "http://", "http://h:port", "http://[::1"])
def test_a_proxy_that_is_none_is_named_by_its_variable(monkeypatch, value):
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(ConfigError, match=r"HTTP_PROXY.*NO_PROXY"):
        find_route(FAR, has_key=False, key_env="TEST_KEY")


@pytest.mark.parametrize(
    ("host", "exempt", "is_exempt"),
    [
        ("models.example", "*", True),
        ("models.example", "other, models.example", True),
        ("models.example", ".example", True),
        ("models.example", "*.example", True),
        ("models.example", "odels.example", False),
        ("models.example:8000", "models.example:8000", True),
        ("models.example:8000", "models.example:9", False),
        ("10.1.2.3", "10.0.0.0/8", True),
        ("10.1.2.3", "10.1.2.3", True),
        ("11.1.2.3", "10.0.0.0/8", False),
        ("[fd07:b51a::9]", "localhost,fd07:b51a::/32", True),
        ("[fd07::9]", "localhost,[fd07::9]", True),
        ("models.example", "localhost,127.0.0.1,fd07:b51a:cc66:f0::/64,[::1],::1/128", False),
    ],
)
def test_no_proxy_names_hosts_addresses_and_networks(monkeypatch, host, exempt, is_exempt):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", exempt)
    route = find_route(f"http://{host}/v1", has_key=False, key_env="TEST_KEY")
    assert (route.proxy is None) == is_exempt


@pytest.mark.parametrize("path", ["/nowhere/ca.pem", __file__])
def test_certificates_that_cannot_be_read_are_named(monkeypatch, path):
    monkeypatch.setenv("SSL_CERT_FILE", path)
    with pytest.raises(ConfigError, match=f"SSL_CERT_FILE: {path}"):
        find_route("https://models.example/v1", has_key=False, key_env="TEST_KEY")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_a_dead_proxy_is_blamed_and_its_password_kept(monkeypatch):
    port = free_port()
    monkeypatch.setenv("HTTP_PROXY", f"http://me:secret@127.0.0.1:{port}")
    with pytest.raises(EngineError, match=f"the proxy http://127.0.0.1:{port}") as caught:
        ask(FAR)
    assert "secret" not in str(caught.value)
    assert "secret" not in repr(find_route(FAR, has_key=False, key_env="TEST_KEY"))


def test_an_unknown_host_is_called_unknown(monkeypatch):
    def unknown(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(EngineError, match=r"models\.example:8000.*no such host is known"):
        ask(FAR)


def test_tls_against_a_server_without_it_is_called_so(server):
    with pytest.raises(EngineError, match=r"TLS failed.*check https and certificates"):
        ask(server.url.replace("http://", "https://"))
