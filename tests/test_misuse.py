"""Wrong uses of the command line: each ends in a documented exit code and names the mend.

They run in this process, where an error that nobody foresaw is a failed test.
"""

import json
import sys
import time
from pathlib import Path

import pytest

from taiji import cli
from taiji.config import Recipe
from taiji.pipeline import find_stage
from taiji.runner import plan
from taiji.screen import process
from taiji.store.run_directory import RunDirectory

DEMO = str(Path(__file__).parents[1] / "recipes" / "smoke.yaml")
SECRET = "sk-live-0123456789abcdef"
MOST_SECONDS = 10


@pytest.fixture
def taiji(monkeypatch, tmp_path, capsys):
    """Runs a command in an empty folder; gives exit code and what was printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(process, "signals", [])

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["taiji", *arguments])
        began = time.process_time()
        code = process.answer(cli.app, cli._complain)
        assert time.process_time() - began < MOST_SECONDS
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out + err

    return call


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
CODEC = (
    "name: a\ndata: {{source: {{kind: tables, items: {{files: i, item_id: i, title: t, encoding: "
    "{}}}, interactions: {{files: x, user_id: u, item_id: i, ts: t}}}}}}\n"
)
RECIPES = {
    "empty": "",
    "a list": "- a\n",
    "a word": "demo\n",
    "a number": "3\n",
    "null": "null\n",
    "only comments": "# nothing\n" * 5_000,
    "not closed": "name: [\n",
    "two documents": "name: a\n---\nname: b\n",
    "a tab": "name: a\n\tseed: 3\n",
    "a NUL": "name: a\0\n",
    "a control sign": "name: a\x07\n",
    "a key twice": "name: a\nname: b\n",
    "anchors that multiply": f"{LAUGHS}name: a\n",
    "a cycle": "name: &a [*a]\n",
    "a cycle of sections": "name: a\nsft: &s {lora: *s}\n",
    "a merge of itself": "name: a\nsft: &s\n  <<: *s\n",
    "a merge of null": "name: a\nsft:\n  <<: null\n",
    "a merge of a number": "name: a\nsft: {<<: 3}\n",
    "a merge of a list": "name: a\nsft: {<<: [1, 2]}\n",
    "an alias of nothing": "name: *a\n",
    "deep lists": f"name: {'[' * 5_000}\n",
    "deep sections": "".join(f"{' ' * depth}a:\n" for depth in range(300)),
    "deep dashes": "- " * 20_000,
    "many keys": "".join(f"k{n}: 1\n" for n in range(9_000)),
    "many more keys": "".join(f"k{n}: 1\n" for n in range(200_000)),
    "a long word": f"name: {'x' * 100_000}\n",
    "a long number": f"name: a\nseed: {'9' * 5_000}\n",
    "a huge number": "name: a\nseed: 99999999999999999999\n",
    "a seed beyond 32 bits": "name: a\nseed: 4294967296\n",
    "infinity": "name: a\nsft: {learning_rate: .inf}\n",
    "not a number": "name: a\nsft: {learning_rate: .nan}\n",
    "a tag of Python": "name: !!python/object/apply:os.getcwd []\n",
    "a tag of nobody": "name: !mine a\n",
    "binary": "name: !!binary aGk=\n",
    "a date": "name: 2020-01-01\n",
    "no date": "name: 2020-99-99\n",
    "a set": "name: !!set {a, b}\n",
    "a complex key": "? [a, b]\n: 1\n",
    "a number as key": "1: 2\nname: a\n",
    "a name that climbs": "name: ../x\n",
    "a name that is a path": "name: /etc/x\n",
    "an unknown section": "name: a\nsfft: {}\n",
    "a section that is a word": "name: a\nsft: many\n",
    "a section that is a list": "name: a\nsft: [1]\n",
    "a person who is not there": "name: a\nfeatures: {erased_users: ~nobody-here/list}\n",
    "a log of nobody": "name: a\ndata: {source: {kind: movielens, path: ~nobody-here}}\n",
    "a path with a NUL": 'name: a\nalign: {rewards: {scores: "a\\0b"}}\n',
    "windows at the calendar's end": "name: a\ndata: {splits: {windows: {end: 9999-12-31}}}\n",
    "windows at its beginning": "name: a\ndata: {splits: {windows: {history: 0001-01-01}}}\n",
    "a zone of nowhere": "name: a\ndata: {splits: {timezone: ../../etc/passwd}}\n",
    "a key in place of its name": f"name: a\ndistill: {{teacher: {{kind: openai, model: m, "
    f"base_url: 'http://h', api_key_env: {SECRET}}}}}\n",
    "a key under a name that we lack": f"name: a\ndistill: {{teacher: {{kind: openai, model: m, "
    f"base_url: 'http://h', api_key: {SECRET}}}}}\n",
    "a key in a teacher of no kind": f"name: a\ndistill: {{teacher: {{kind: oops, "
    f"api_key_env: {SECRET}}}}}\n",
    "a key that is a list": f"name: a\nreport: {{pseudonym_key_env: [{SECRET}]}}\n",
    "code that is no path": "name: a\nalign: {rewards: {custom: [{name: m, path: 'os.system'}]}}\n",
    "a codec that is no text": CODEC.format("base64"),
    "a codec that never works": CODEC.format("undefined"),
}


@pytest.mark.parametrize("what", RECIPES)
def test_a_recipe_that_cannot_be_used_is_refused(taiji, tmp_path, what):
    (tmp_path / "r.yaml").write_text(RECIPES[what], encoding="utf-8")
    code, said = taiji("config", "show", "r.yaml")
    assert code == 2
    assert "r.yaml" in said
    assert SECRET not in said
    assert len(said) < 20_000


def test_merges_and_aliases_that_stay_small_are_fine(taiji, tmp_path):
    text = "name: a\nsft: &s {epochs: 2}\nalign: {trainer: &t {max_grad_norm: 1.0}}\n"
    (tmp_path / "r.yaml").write_text(text + "student: {model: &m x}\nencoder: {model: *m}\n")
    assert taiji("config", "show", "r.yaml")[0] == 0


@pytest.mark.parametrize(
    "content", [b"\xff\xfen\0a\0", b"\x00" * 64, b"name: \xe9\n", b"PK\x03\x04", b"\x1f\x8b\x08"]
)
def test_bytes_that_are_no_text_are_refused(taiji, tmp_path, content):
    (tmp_path / "r.yaml").write_bytes(content)
    assert taiji("config", "show", "r.yaml")[0] == 2


@pytest.mark.parametrize(
    "path", ["absent.yaml", ".", "/dev/zero", "/dev/null", "/dev/stdin/x", "a" * 5_000, "~nobody/r"]
)
def test_a_recipe_that_is_no_file_is_refused(taiji, path):
    code, said = taiji("config", "show", path)
    assert code == 2
    assert "name a recipe" in said or "cannot be read" in said


OVERRIDES = [
    *("", "=", "=3", "sft", "sft.epochs", ".=1", "sft.=1", ".sft=1", "sft..epochs=1", " =1"),
    *("sft.epochs=[", "sft.epochs={", "sft.epochs='", "sft.epochs=*a", "sft.epochs=&a [*a]"),
    *("sft.epochs=many", "sft.epochs=-1", "sft.epochs=.nan", "sft.epochs=null", "sft.epochs=[2]"),
    *("name.x=1", "seed.x=1", "seed=1.5", "seed='1'", "seed=true", "seed=-1", "sfft.epochs=1"),
    *("name=../../x", "name=A B", "name=", "data.source=nothing", "data.source.kind=nothing"),
    *("data.splits.windows.test=2017-13-01", "data.splits.timezone=Mars/Olympus"),
    *("align.weights.initial=[1]", "align.rewards.custom=1", "engine=sqlite", "compute=gpu"),
    *(f"{'a.' * 300}b=1", "sft.epochs=" + "[" * 3_000, "sft.epochs=" + "9" * 6_000),
    *(f"distill.teacher.api_key_env={SECRET}", f"report.pseudonym_key_env=[{SECRET}"),
    *("sft.lora.rank=0", "infer.models=[nobody]", "features.bits=99", "rank.backbones=[a b]"),
]


@pytest.mark.parametrize("override", OVERRIDES, ids=lambda text: text[:32] or "nothing")
def test_an_override_that_cannot_be_used_is_refused(taiji, override):
    code, said = taiji("config", "show", DEMO, override)
    assert code == 2
    assert "error:" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("run",),
        ("run", DEMO, "--until", "sfft"),
        ("run", DEMO, "--until", ""),
        ("run", DEMO, "--no-such-option"),
        ("run", DEMO, "--runs"),
        ("sft",),
        ("config",),
        ("config", "nothing", DEMO),
        ("show", "user"),
        ("show", "user", "1", "--run", "nowhere"),
        ("show", "user", "1", "--run", DEMO),
        ("show", "user", "1", "--run", "/dev/null"),
        ("show", "user", "1"),
        ("show", "tables", "--run", "."),
        ("data", "check"),
        ("data", "day", DEMO),
        ("doctor", "absent.yaml"),
        ("status", "absent.yaml"),
    ],
)
def test_a_command_that_cannot_be_meant_is_refused(taiji, arguments):
    assert taiji(*arguments)[0] == 2


PLACES = ["/dev/null", "/dev/zero", "f", "f/below", "~nobody-here", "x" * 300, "/proc/1/x", "loop"]


@pytest.mark.parametrize("command", ["status", "run", "construct"])
@pytest.mark.parametrize("place", PLACES, ids=lambda text: text[:16])
def test_a_place_where_no_run_can_be_is_refused(taiji, tmp_path, monkeypatch, command, place):
    from taiji import runner

    monkeypatch.setattr(runner.Runner.__init__, "__defaults__", (None, lambda *_: None))
    (tmp_path / "f").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    code, _said = taiji(command, DEMO, "--runs", place)
    missing = command == "status" and place == "/proc/1/x"  # nothing there: not run
    assert code in ((0, 2, 3) if missing else (2, 3))
    assert (tmp_path / "f").read_text() == "mine"


@pytest.mark.parametrize(
    "day",
    [
        *("", "today", "2017", "2017-12", "2017-13-01", "2017-02-30", "01.12.2017", "1e9"),
        *(
            "2017-W01-9",
            "0001-01-01",
            "9999-12-31",
            "-2017-01-01",
            "\uff12\uff10\uff11\uff17-12-01",
        ),
        *("2017-12-01T00:00", "99999-01-01"),
    ],
)
def test_a_day_that_is_none_is_refused(taiji, tmp_path, day):
    code, said = taiji("data", "day", DEMO, "--out", "prompts", "--", day)
    assert code == 2
    assert "day" in said
    assert not (tmp_path / "prompts").exists()


@pytest.mark.parametrize("place", ["/dev/null", "f", "~nobody-here", "f/below"])
def test_prompts_go_into_a_folder(taiji, tmp_path, place):
    (tmp_path / "f").write_text("mine")
    assert taiji("data", "day", DEMO, "2017-12-01", "--out", place)[0] in (2, 3)


def a_run(root: Path) -> RunDirectory:
    """A run whose first stage has finished, as far as its manifest says."""
    recipe = Recipe(name="smoke")
    directory = RunDirectory(root / "runs" / "smoke")
    planned = plan(find_stage("construct"), recipe, directory)
    work = directory.begin("construct", planned.key)
    (work / "users.parquet.txt").write_text("u1\n")
    directory.commit(planned)
    return directory


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "long"),
        ("seed", None),
        ("key", 3),
        ("outputs", []),
        ("summary", 0),
        ("stage", "x"),
    ],
)
def test_an_edited_manifest_is_named_with_its_mend(taiji, tmp_path, field, value):
    path = a_run(tmp_path).folder("construct") / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    code, said = taiji("status", DEMO)
    assert code == 4
    assert "damaged" in said


def test_a_file_that_was_changed_shows_in_the_status(taiji, tmp_path):
    directory = a_run(tmp_path)
    (directory.folder("construct") / "users.parquet.txt").write_text("u2\n")
    manifest = directory.manifest("construct")
    assert manifest is not None
    with pytest.raises(ValueError, match=r"users\.parquet\.txt"):
        directory.verify("construct", contents=False)


def test_a_message_of_a_closed_terminal_ends_quietly(taiji, monkeypatch):
    def closed(*_args, **_kwargs):
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(cli._out, "print", closed)
    assert taiji("version")[0] == 141


def test_an_error_after_a_signal_is_the_signals(taiji, monkeypatch):
    def interrupted(*_args, **_kwargs):
        process.signals.append(2)
        raise RuntimeError("Query interrupted")

    monkeypatch.setattr(cli._out, "print", interrupted)
    assert taiji("version")[0] == 130
