"""docs/paper.md, table Hops: every chain of files is one, and none is long."""

import ast
import re
from itertools import pairwise
from pathlib import Path

import pytest

import taiji

SOURCE = Path(taiji.__file__).parent
ROOT = SOURCE.parents[1]
PAGE = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
HOPS = PAGE.partition("## Hops")[2].partition("\n## ")[0]
CHAINS = [
    (cells[1], re.findall(r"`([^`]+)`", cells[2]))
    for cells in (line.split("|") for line in HOPS.splitlines() if line.startswith("| Eq."))
]
MOST = 3  # files below the stage


def used_from(path: str, below: str) -> set[str]:
    """What a file imports from another one and names outside its import lines."""
    module = "taiji." + below.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    found, known = ast.parse((SOURCE / path).read_text(encoding="utf-8")), {}
    for node in ast.walk(found):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                if module in (node.module, whole):
                    known[alias.asname or alias.name] = whole
    named = {node.id for node in ast.walk(found) if isinstance(node, ast.Name)}
    attributes = {
        node.attr
        for node in ast.walk(found)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and known.get(node.value.id) == module
    }
    return {name for name, whole in known.items() if name in named and whole != module} | attributes


@pytest.mark.parametrize(("equation", "chain"), CHAINS, ids=[e.strip() for e, _ in CHAINS])
def test_an_equation_is_at_most_three_files_below_its_stage(equation, chain):
    *files, last = chain
    path, _, function = last.partition(": ")
    files.append(path)
    assert files[0].startswith("stages/")
    assert len(files) - 1 <= MOST
    for above, below in pairwise(files):
        assert used_from(above, below), f"{above} takes nothing from {below}"
    assert function in used_from(files[-2], path), f"{files[-2]} does not call {function}"


def test_every_equation_of_the_page_has_a_chain():
    told = re.findall(r"^\| (Eq\. \d)", PAGE.partition("## Hops")[0], re.MULTILINE)
    assert len(told) == 9
    assert {equation.strip()[:5] for equation, _ in CHAINS} == set(told)
