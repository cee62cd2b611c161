"""API keys: random, kept as hashes, each for some scopes; two of a name may be active at once.

A key is rotated by making the second of its name, giving it to the clients, and revoking the first.
The file is read again when it changes, so no restart is needed.
"""

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from taiji.errors import ConfigError
from taiji.store.files import read_json, write_json

Scope = Literal["read", "ingest", "publish", "erase"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
FILE = "keys.json"

_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,63}$")
_MOST_ACTIVE = 2
_LOOK_SECONDS = 1.0


@dataclass(frozen=True)
class Key:
    """What is known of a key.

    Attributes:
        hash: SHA-256 of the key, in hexadecimal digits; the key is 32 random bytes.
        made_at: In seconds since 1970.
    """

    name: str
    hash: str
    scopes: tuple[Scope, ...]
    made_at: float


def add_key(path: Path, name: str, scopes: tuple[Scope, ...]) -> str:
    """Make a key and return it; it is nowhere else.

    Raises:
        ConfigError: The name is none, no scope is given, or two keys of the name are active.
    """
    if not _NAME.match(name):
        raise ConfigError(f"key {name!r}: a name has small letters, digits, dots and dashes")
    if not scopes or set(scopes) - set(SCOPES):
        raise ConfigError(f"key {name}: --scope: one or more of {', '.join(SCOPES)}")
    keys = read_keys(path)
    if sum(key.name == name for key in keys) >= _MOST_ACTIVE:
        raise ConfigError(f"key {name}: two are active: `taiji keys revoke {name}` drops the older")
    secret = f"taiji-{secrets.token_urlsafe(32)}"
    _write(path, [*keys, Key(name, _hash(secret), scopes, time.time())])
    return secret


def revoke_key(path: Path, name: str) -> None:
    """Drop the oldest key of a name.

    Raises:
        ConfigError: There is none.
    """
    keys = read_keys(path)
    oldest = min((k for k in keys if k.name == name), key=lambda k: k.made_at, default=None)
    if oldest is None:
        raise ConfigError(f"key {name}: there is none: `taiji keys list` shows all")
    _write(path, [key for key in keys if key != oldest])


def read_keys(path: Path) -> list[Key]:
    """All active keys; none if there is no file."""
    if not path.is_file():
        return []
    return [Key(**row | {"scopes": tuple(row["scopes"])}) for row in read_json(path)]


class KeyRing:
    """Knows keys by what clients send.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys = read_keys(path)
        self._stamp = self._changed()
        self._looked = time.monotonic()

    @property
    def required(self) -> bool:
        """Whether there is any key, and so whether one must be shown."""
        return bool(self._keys)

    def find(self, secret: str) -> Key | None:
        """The key that was shown, if it is one of ours."""
        if time.monotonic() - self._looked > _LOOK_SECONDS:
            self._looked = time.monotonic()
            if (stamp := self._changed()) != self._stamp:
                self._keys, self._stamp = read_keys(self._path), stamp
        shown = _hash(secret)
        found = None
        for key in self._keys:  # all of them, so that time says nothing
            if hmac.compare_digest(key.hash, shown):
                found = key
        return found

    def _changed(self) -> int:
        try:
            return self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return 0


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _write(path: Path, keys: list[Key]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_json([asdict(key) for key in keys], path)
    path.chmod(0o600)
