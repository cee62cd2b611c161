import shutil
from pathlib import Path

import pytest

from taiji.store import provenance
from taiji.store.provenance import code_digest, library_versions


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of the package that a test may change."""
    root = tmp_path / "taiji"
    shutil.copytree(Path(provenance.__file__).parents[1], root)
    monkeypatch.setattr(provenance, "_ROOT", root)
    return root


def touch(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


def test_a_change_reaches_the_stages_that_import_it_and_no_other(copy):
    before = {name: code_digest(f"taiji.stages.{name}") for name in ("sft", "score", "construct")}
    touch(copy / "reasoning" / "perplexity.py")
    after = {name: code_digest(f"taiji.stages.{name}") for name in before}
    assert after["score"] != before["score"]
    assert after["construct"] == before["construct"]


def test_a_template_belongs_to_its_module(copy):
    before = code_digest("taiji.stages.report")
    touch(next(copy.glob("evaluation/report.*j2")))
    assert code_digest("taiji.stages.report") != before


def test_settings_are_not_code(copy):
    before = code_digest("taiji.stages.construct")
    touch(copy / "config" / "data.py")
    assert code_digest("taiji.stages.construct") == before


def test_versions_are_those_installed():
    assert library_versions()["numpy"] == __import__("numpy").__version__
