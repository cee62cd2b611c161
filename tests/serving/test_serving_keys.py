import stat

import pytest

from taiji.errors import ConfigError
from taiji.serving.api import keys
from taiji.serving.api.keys import KeyRing, add_key, read_keys, revoke_key
from taiji.serving.api.server import is_loopback, serve


def test_a_key_is_kept_as_a_hash_for_its_owner_alone(tmp_path):
    path = tmp_path / "state" / "keys.json"
    secret = add_key(path, "ranker", ("read",))
    assert secret.removeprefix("taiji-") not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    found = KeyRing(path).find(secret)
    assert (found.name, found.scopes) == ("ranker", ("read",))
    assert KeyRing(path).find(secret + "x") is None


def test_two_keys_of_a_name_may_be_active_and_the_older_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr(keys, "_LOOK_SECONDS", 0.0)
    path = tmp_path / "keys.json"
    old = add_key(path, "ranker", ("read",))
    ring = KeyRing(path)
    new = add_key(path, "ranker", ("read",))
    assert ring.find(old)
    assert ring.find(new)
    with pytest.raises(ConfigError, match="two are active"):
        add_key(path, "ranker", ("read",))
    revoke_key(path, "ranker")
    assert ring.find(old) is None
    assert ring.find(new)
    assert len(read_keys(path)) == 1


@pytest.mark.parametrize(("name", "scopes"), [("../x", ("read",)), ("a", ()), ("a", ("root",))])
def test_a_key_without_a_name_or_a_scope_is_refused(tmp_path, name, scopes):
    with pytest.raises(ConfigError):
        add_key(tmp_path / "keys.json", name, scopes)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_what_only_this_machine_can_reach(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", ""])
def test_another_address_needs_keys(host, tmp_path):
    class Run:
        state = tmp_path

    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="make an API key first"):
        serve(Run(), host, 0)
