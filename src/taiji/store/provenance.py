"""Which code a stage ran, and which library versions were installed.

The code of a stage is the stage's own file and every file of Taiji that it imports, directly or
not, so a change to the report does not retrain the model, and a change to Eq. 1 does. What counts
is the syntax tree: comments, docstrings and formatting do not. Files that lie beside these
modules, such as templates, belong to them. The recipe's own package is left out: the values of
the settings are part of a stage's key by themselves.
"""

import hashlib
import importlib.metadata
import os
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

from taiji.store.sources import Sources, parse_source

_ROOT = Path(__file__).parents[1]
_SETTINGS = "taiji.config"
_LIBRARIES = ("duckdb", "faiss-cpu", "numpy", "pyarrow", "sqlglot", "torch", "transformers", "trl")


def code_digest(module: str) -> str:
    """SHA-256 of what `module` (such as `taiji.stages.sft`) and all that it imports say.

    Raises:
        SyntaxError: A file of Taiji is no Python.
    """
    paths, sources = _modules(), _sources(_ROOT)
    digest = hashlib.sha256()
    closure = sorted(_closure(module, paths, sources))
    for name in closure:
        digest.update(f"{name} {sources.read(paths[name]).digest}\n".encode())
    for path in sorted(_beside({paths[name].parent for name in closure})):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(_ROOT).as_posix()} {content}\n".encode())
    sources.save()
    return f"sha256:{digest.hexdigest()}"


def source_digest(path: Path) -> str:
    """SHA-256 of a Python file's syntax tree, without docstrings, comments and formatting.

    Raises:
        SyntaxError: The file is no Python.
    """
    return parse_source(path).digest


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


_sources = cache(Sources)


def _modules() -> dict[str, Path]:
    """Every module and package of Taiji, by name, and where it lies."""
    found: dict[str, Path] = {}
    for folder, _, files in os.walk(_ROOT):
        inner = Path(folder).relative_to(_ROOT).parts
        for file in files:
            if file.endswith(".py"):
                last = () if file == "__init__.py" else (file.removesuffix(".py"),)
                found[".".join(("taiji", *inner, *last))] = Path(folder, file)
    return found


def _closure(module: str, paths: Mapping[str, Path], sources: Sources) -> set[str]:
    """The module, all that it imports anywhere in its file, and the packages that they lie in."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and name != _SETTINGS and not name.startswith(f"{_SETTINGS}."):
            found.add(name)
            todo += [one for one in sources.read(paths[name]).imports if one in paths]
            todo += [name.rpartition(".")[0] or name]
    return found


def _beside(folders: Iterable[Path]) -> Iterator[Path]:
    """Files in these folders that are no Python, and those of their folders that are no package."""
    for path in (path for folder in folders for path in folder.iterdir()):
        if path.is_dir():
            if path.name != "__pycache__" and not (path / "__init__.py").exists():
                yield from (inner for inner in path.rglob("*") if inner.is_file())
        elif path.suffix not in (".py", ".pyc"):
            yield path
