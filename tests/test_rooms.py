"""The house: no circle of files, and docs/paper.md leads to names that exist."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "taiji"
PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
PLACES = re.findall(r"`((?:[a-z_]+/)+(?:[a-z0-9_]+\.py)?)(?:: ([A-Za-z0-9_, ]+))?`", PAPER)


def modules():
    names = {}
    for path in SOURCE.rglob("*.py"):
        parts = ("taiji", *path.relative_to(SOURCE).with_suffix("").parts)
        names[".".join(parts).removesuffix(".__init__")] = path
    return names


def imports(path, known):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from [name for name in (inner, node.module) if name in known][:1]


def test_no_files_import_one_another_in_a_circle():
    known = modules()
    graph = {name: set(imports(path, known)) - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # names the circle if there is one


def defined(path):
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names


@pytest.mark.parametrize(("place", "names"), sorted(set(PLACES)))
def test_docs_paper_names_what_exists(place, names):
    found = [room / place for room in (SOURCE, ROOT / "tests") if (room / place).exists()]
    assert found, f"docs/paper.md: {place}: no such file"
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    assert not wanted or any(wanted <= defined(path) for path in found if path.is_file())


def test_docs_paper_is_read_at_all():
    assert len(PLACES) > 40
