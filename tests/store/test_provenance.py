import shutil
from pathlib import Path

import pytest

from taiji.pipeline import STAGES
from taiji.store import provenance
from taiji.store.provenance import code_digest, library_versions, source_digest


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the package that a test may change."""
    root = tmp_path / "taiji"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(provenance.__file__).parents[1], root, ignore=ignored)
    monkeypatch.setattr(provenance, "_ROOT", root)
    return root


def code_of_all() -> dict[str, str]:
    return {stage.name: code_digest(f"taiji.stages.{stage.name}") for stage in STAGES}


def changed(before: dict[str, str]) -> set[str]:
    after = code_of_all()
    return {name for name in before if after[name] != before[name]}


def test_a_change_reaches_the_stages_that_import_it_and_no_other(copy):
    before = code_of_all()
    path = copy / "reasoning" / "perplexity.py"
    path.write_text(path.read_text() + "\nEXTRA = 1\n")
    assert "score" in changed(before)
    assert not changed(before) & {"construct", "simulate", "features"}


def test_words_and_formatting_are_not_code(copy):
    before = code_of_all()
    for path in copy.rglob("*.py"):
        text = path.read_text()
        path.write_text(f'# changed\n{text}\n\n\n"""Words about the line above."""\n')
    assert not changed(before)


def test_a_docstring_counts_nowhere(tmp_path):
    path = tmp_path / "m.py"
    path.write_text('"""M."""\n\n\nclass A:\n    """A."""\n\n    x: int = 1\n    """Of A."""\n')
    with_words = source_digest(path)
    path.write_text("class A:  # bare\n    x : int = 1")
    assert source_digest(path) == with_words
    path.write_text("class A:\n    x: int = 2")
    assert source_digest(path) != with_words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = None", "x = ''"),
        ("x = 'a'", "x = b'a'"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("f(*a)", "f(a)"),
        ("def f(a, /): pass", "def f(a): pass"),
        ("def f(*, a): pass", "def f(a): pass"),
        ("{**a}", "{a: a}"),
        ("return_ = -1", "return_ = +1"),
        ("[a, [b]]", "[[a], b]"),
        ("f'{x!r}'", "f'{x}'"),
        ("f'{x:>3}'", "f'{x:>4}'"),
        ("async def f(): pass", "def f(): pass"),
        ("from a import b", "from a import b as c"),
    ],
)
def test_code_that_does_another_thing_has_another_digest(tmp_path, one, other):
    path = tmp_path / "m.py"
    path.write_text(one)
    digest = source_digest(path)
    path.write_text(other + "\n")
    assert source_digest(path) != digest


def test_an_import_inside_a_function_counts(copy):
    (copy / "reasoning" / "late.py").write_text("X = 1\n")
    stage = copy / "stages" / "refine.py"
    stage.write_text(
        stage.read_text() + "\n\ndef later():\n    from taiji.reasoning import late\n    late.X\n"
    )
    before = code_of_all()
    (copy / "reasoning" / "late.py").write_text("X = 2\n")
    assert changed(before) == {"refine"}


@pytest.mark.parametrize("name", ["page.html.j2", "page.css", "page.card.html.j2"])
def test_every_template_of_the_report_belongs_to_it(copy, name):
    before = code_of_all()
    path = copy / "report" / name
    path.write_text(path.read_text() + " ")
    assert changed(before) == {"ceiling", "report"}


def test_a_file_beside_a_module_belongs_to_it_also_in_a_folder_of_its_own(copy):
    before = code_of_all()
    folder = copy / "report" / "templates"
    folder.mkdir()
    (folder / "card.html").write_text("new")
    assert changed(before) == {"ceiling", "report"}


def test_settings_are_not_code(copy):
    before = code_of_all()
    path = copy / "config" / "data.py"
    path.write_text(path.read_text() + "\nEXTRA = 1\n")
    assert not changed(before)


def test_versions_are_those_installed():
    assert library_versions()["numpy"] == __import__("numpy").__version__
