"""How a server is reached: its address, a proxy, certificates. Checked before the first call.

Requests and key go to this one host, by a proxy only where the environment names one, and never
by a proxy to the machine itself. A connection serves one call: a server that answers twice on a
connection that is kept would answer the next call with what belongs to the last.
"""

import importlib.util
import ipaddress
import os
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies

from taiji.errors import ConfigError, EngineError

if TYPE_CHECKING:
    import httpx

_SCHEMES = ("http", "https", "socks5", "socks5h")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Route:
    """The way to one server.

    Attributes:
        base_url: Of the server, without a slash at its end.
        proxy: The address of a proxy, its password included; None for none.
        tls: Whom to trust.
    """

    base_url: str
    proxy: str | None = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)

    def client(self, headers: dict[str, str]) -> "httpx.AsyncClient":
        """A client that takes this way and asks the environment for nothing more."""
        import httpx

        return httpx.AsyncClient(
            headers={"Connection": "close", **headers},
            verify=self.tls,
            proxy=self.proxy,
            trust_env=False,
            limits=httpx.Limits(max_keepalive_connections=0),
            # whoever calls has a clock for the whole; connecting gets a shorter one
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
        )

    def complaint(self, error: "httpx.RequestError") -> str:
        """Why a request brought nothing, in words that say where to look."""
        import httpx

        causes = list(_causes(error))
        where = f"the proxy {_shown(self.proxy)}" if self.proxy else _shown(self.base_url)
        if isinstance(error, httpx.ProxyError):
            return f"{where}: refused the connection ({error})"
        if any(isinstance(cause, ssl.SSLError) for cause in causes):
            told = next(cause for cause in causes if isinstance(cause, ssl.SSLError))
            reason = told.reason or type(told).__name__
            return f"{_shown(self.base_url)}: TLS failed ({reason}): check https and certificates"
        if any(isinstance(cause, socket.gaierror) for cause in causes):
            return f"{where}: connection failed: no such host is known"
        if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
            return f"{where}: connection failed: nobody listens there"
        if isinstance(error, httpx.ConnectTimeout):
            return f"{where}: connection failed: no answer in {CONNECT_SECONDS:g} s"
        if isinstance(error, httpx.ConnectError):
            return f"{where}: connection failed ({error})"
        return f"{where}: connection broke off ({type(error).__name__})"


def find_route(base_url: str, *, has_key: bool, key_env: str) -> Route:
    """The way to a server, by its address and the environment.

    Args:
        base_url: Its address.
        has_key: Whether a key will be sent there.
        key_env: Where the key comes from.

    Raises:
        ConfigError: The address cannot be used, or a variable of the environment.
        EngineError: The key must not travel to this address, or a SOCKS proxy needs a package.
    """
    parts = _address(base_url)
    loopback = _check_host(parts, base_url)
    if has_key and parts.scheme == "http" and not loopback:
        raise EngineError(
            f"endpoint {base_url}: the key would travel in clear: use https, or unset {key_env}"
        )
    proxy = None if loopback else _proxy(parts)
    return Route(base_url.rstrip("/"), proxy, _tls(*(os.environ.get(v) for v in _CERTIFICATES)))


def _address(base_url: str) -> SplitResult:
    import httpx

    try:
        parts = urlsplit(base_url)
        host, _port = parts.hostname, parts.port
        httpx.URL(base_url)
    except (ValueError, httpx.InvalidURL) as error:
        raise ConfigError(f"base_url: is no address ({error}): correct it") from error
    if not host:
        raise ConfigError(f"base_url {base_url!r}: names no host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError("base_url: holds more than an address: credentials belong into the key")
    if re.search(r"\s", base_url):
        raise ConfigError(f"base_url {base_url!r}: holds a blank: take it out")
    if parts.path.rstrip("/").endswith("/completions"):
        raise ConfigError(
            f"base_url {base_url!r}: ends with the path of a call: leave out /chat/completions"
        )
    return parts


def _check_host(parts: SplitResult, base_url: str) -> bool:
    """Whether the host is this machine; one that cannot be meant is refused."""
    host = parts.hostname or ""
    address = _ip(host)
    if address is None:
        return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    if address.is_link_local:
        raise ConfigError(f"base_url {base_url!r}: link-local addresses serve metadata, not models")
    return bool(address.is_loopback)


def _proxy(parts: SplitResult) -> str | None:
    """The proxy that the environment names for an address, in a form that httpx takes."""
    named = getproxies()
    value = named.get(parts.scheme) or named.get("all")
    if not value or _is_exempt(parts, named.get("no", "")):
        return None
    variable = f"{parts.scheme if named.get(parts.scheme) else 'all'}_proxy".upper()
    if "://" not in value:
        value = f"http://{value}"
    if value.startswith("socks://"):  # as desktops write it
        value = value.replace("socks", "socks5", 1)
    try:
        proxy = urlsplit(value)
        known = proxy.scheme in _SCHEMES and proxy.hostname and proxy.port != 0
    except ValueError:
        known = False
    if not known:
        raise ConfigError(
            f"{variable}: is no address of a proxy such as http://host:3128 or socks5://host:1080: "
            "correct it, unset it, or name the server in NO_PROXY"
        )
    if value.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise EngineError(f"{variable}: a SOCKS proxy: pip install 'taiji-rec[endpoint]'")
    return value


def _is_exempt(parts: SplitResult, no_proxy: str) -> bool:
    """Whether `NO_PROXY` names the host: `*`, a name and all below it, an address, a network."""
    host, port = parts.hostname or "", str(parts.port or "")
    address = _ip(host)
    for entry in filter(None, (part.strip() for part in no_proxy.lower().split(","))):
        if entry == "*":
            return True
        with suppress(ValueError):
            network = ipaddress.ip_network(entry.strip("[]"), strict=False)
            if address is not None and address in network:
                return True
            continue
        name, _, only = entry.partition(":")
        name = name.removeprefix("*").lstrip(".")
        if (host == name or host.endswith(f".{name}")) and only in ("", port):
            return True
    return False


def _ip(host: str) -> Any:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@cache
def _tls(file: str | None, _folder: str | None) -> ssl.SSLContext:
    """Reading all certificates takes as long as a hundred requests: once is enough."""
    import httpx

    try:
        return httpx.create_ssl_context()
    except OSError as error:  # what ssl raises is one too
        raise ConfigError(
            f"SSL_CERT_FILE: {file}: holds no certificates that can be read ({error}): correct it "
            "or unset it"
        ) from error


def _shown(url: str | None) -> str:
    """Scheme, host and port of an address, and nothing secret."""
    parts = urlsplit(url or "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{parts.port}" if parts.port else "")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and all that led to it."""
    todo: list[BaseException | None] = [error]
    seen: set[int] = set()
    while todo:
        cause = todo.pop()
        if cause is None or id(cause) in seen:
            continue
        seen.add(id(cause))
        yield cause
        todo += [cause.__cause__, cause.__context__]
        if isinstance(cause, BaseExceptionGroup):
            todo += cause.exceptions
