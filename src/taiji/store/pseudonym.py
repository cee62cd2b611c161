"""Names for users in what leaves the machine: a keyed hash instead of their id.

Whoever lacks the key can neither turn a pseudonym back nor test a guess, and the same user has
the same pseudonym in every report made with the same key. The key comes from an environment
variable or from a file of the person who runs Taiji; it never enters a run directory or a log.
"""

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from taiji.errors import ConfigError
from taiji.store.user_folders import config_folder

PREFIX = "user-"

_MIN_KEY_CHARACTERS = 16
_DIGITS = 20  # 80 bits: among 400 million users a repetition has a chance of 1 in 10 million


@dataclass(frozen=True)
class Pseudonyms:
    """Gives users names; `repr` does not show the key."""

    key: bytes = field(repr=False)

    def of(self, user_id: str) -> str:
        """The user's name: `user-` and the first 20 digits of HMAC-SHA256 of the id."""
        digest = hmac.new(self.key, user_id.encode("utf-8", "surrogatepass"), hashlib.sha256)
        return PREFIX + digest.hexdigest()[:_DIGITS]


def load_pseudonyms(key_env: str) -> Pseudonyms:
    """Take the key from an environment variable, else from `key_file`, made on first use.

    Raises:
        ConfigError: The key is too short, others may read its file, or it cannot be made.
    """
    text = os.environ.get(key_env)
    where = key_env
    if text is None:
        path = key_file()
        where, text = str(path), _read_or_make(path, key_env)
    if len(text.strip()) < _MIN_KEY_CHARACTERS:
        raise ConfigError(
            f"{where}: too short for a key: give it at least {_MIN_KEY_CHARACTERS} characters, "
            "such as `openssl rand -hex 32` prints"
        )
    return Pseudonyms(text.strip().encode("utf-8", "surrogateescape"))


def key_file() -> Path:
    """`taiji/pseudonym.key` in the configuration folder of the person who runs this."""
    return config_folder() / "pseudonym.key"


def _read_or_make(path: Path, key_env: str) -> str:
    try:
        if not path.exists():
            _make(path)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ConfigError(f"{path}: others may read this key: chmod 600 {path}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: the key of pseudonyms cannot be read or made: {error}: set {key_env} instead"
        ) from error


def _make(path: Path) -> None:
    """Whole or not at all, and never over a key that another process made meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(secrets.token_hex(32) + "\n")
        path.hardlink_to(name)
    except FileExistsError:
        pass
    finally:
        Path(name).unlink()
