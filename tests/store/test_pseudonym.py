import hashlib
import hmac
import multiprocessing
import os
import stat

import pyarrow as pa
import pytest
import small_run
from hypothesis import given
from hypothesis import strategies as st

from taiji import schema
from taiji.config import Recipe
from taiji.errors import ConfigError
from taiji.stages.parts.context import StageContext
from taiji.stages.report import report
from taiji.store.files import write_parquet
from taiji.store.pseudonym import Pseudonyms, key_file, load_pseudonyms

KEY = b"a key of tests"
ENV = "TAIJI_PSEUDONYM_KEY"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A person without a key in the environment, and with an empty configuration folder."""
    monkeypatch.delenv(ENV)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_a_pseudonym_is_a_keyed_hash():
    digest = hmac.new(KEY, b"80", hashlib.sha256).hexdigest()
    assert Pseudonyms(KEY).of("80") == f"user-{digest[:20]}"
    assert Pseudonyms(b"another key").of("80") != Pseudonyms(KEY).of("80")


@given(st.lists(st.text(st.characters()), unique=True, max_size=8))
def test_any_id_has_a_pseudonym_of_its_own(user_ids):
    names = [Pseudonyms(KEY).of(user_id) for user_id in [*user_ids, "\ud800"]]
    assert len(set(names)) == len({*user_ids, "\ud800"})


def test_the_key_is_not_shown():
    assert "tests" not in repr(Pseudonyms(KEY))


def test_the_environment_goes_before_the_file(home, monkeypatch):
    monkeypatch.setenv("MY_KEY", "0123456789abcdef\n")
    assert load_pseudonyms("MY_KEY") == Pseudonyms(b"0123456789abcdef")
    assert not key_file().exists()


def test_the_file_is_made_once_and_is_its_owners_alone(home):
    first = load_pseudonyms(ENV)
    assert len(first.key) == 64
    assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert list(key_file().parent.iterdir()) == [key_file()]
    assert load_pseudonyms(ENV) == first
    assert key_file().is_relative_to(home / "config")


def _key(queue):
    queue.put(load_pseudonyms(ENV).key)


def test_processes_that_start_together_agree_on_the_key(home):
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    workers = [context.Process(target=_key, args=(queue,)) for _ in range(4)]
    for worker in workers:
        worker.start()
    assert len({queue.get(timeout=30) for _ in workers}) == 1
    for worker in workers:
        worker.join()


@pytest.mark.parametrize(("text", "mode", "message"), [
    ("f" * 64, 0o644, "others may read this key: chmod 600"),
    ("", 0o600, "too short"),
    ("\n", 0o600, "too short"),
])  # fmt: skip
def test_a_file_that_is_no_good_is_refused(home, text, mode, message):
    key_file().parent.mkdir(parents=True)
    key_file().write_text(text)
    key_file().chmod(mode)
    with pytest.raises(ConfigError, match=message):
        load_pseudonyms(ENV)


def test_a_folder_that_cannot_hold_the_file_is_named(home):
    (home / "config").write_text("in the way")
    with pytest.raises(ConfigError, match=f"set {ENV} instead"):
        load_pseudonyms(ENV)


def test_a_short_key_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv(ENV, "")
    with pytest.raises(ConfigError, match="too short"):
        load_pseudonyms(ENV)


def renamed(table, names):
    """The table with other user ids, wherever it has any."""
    rows = [
        row | {name: names[row[name]] for name in ("user_id", "neighbour_user_id") if name in row}
        for row in table.to_pylist()
    ]
    return pa.Table.from_pylist(rows, table.schema)


def test_no_raw_user_id_is_in_the_report(tmp_path):
    raw = {"u0": "raw-id-4711", "u1": "raw-id-4712"}
    files = {
        "construct/examples": (small_run.examples(), schema.EXAMPLES),
        "construct/items": (small_run.items(), schema.ITEMS),
        "refine/scored": (small_run.scored(), schema.SCORED),
        "infer/texts": (small_run.texts(), schema.TEXTS),
        "features/features": (small_run.features(), schema.USER_FEATURES),
    }
    for name, (table, columns) in files.items():
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_parquet(renamed(table, raw), path, columns)
    (tmp_path / "report").mkdir()
    inputs = {path.name: path for path in tmp_path.iterdir() if path.name != "report"}
    recipe = Recipe(name="small")
    report(StageContext(recipe, tmp_path / "report", inputs, lambda *_: None))
    page = (tmp_path / "report" / "report.html").read_text()
    assert "raw-id" not in page
    names = load_pseudonyms(ENV)
    assert all(names.of(user_id) in page for user_id in raw.values())
    assert os.environ[ENV] not in page
