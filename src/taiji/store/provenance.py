"""Which code a stage ran, and which library versions were installed.

The code of a stage is the stage's own file and every file of Taiji that it imports, directly or
not, so a change to the report does not retrain the model, and a change to Eq. 1 does. The recipe's
own package is left out: the values of the settings are part of a stage's key by themselves.
"""

import ast
import hashlib
import importlib.metadata
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_SETTINGS = "taiji.config"
_LIBRARIES = ("duckdb", "faiss-cpu", "numpy", "pyarrow", "sqlglot", "torch", "transformers", "trl")


def code_digest(module: str) -> str:
    """SHA-256 over the source of `module` (such as `taiji.stages.sft`) and all that it imports.

    Files beside a module that share its name, such as a template, belong to it.
    """
    digest = hashlib.sha256()
    for name in sorted(_closure(module)):
        path = _path(name)
        for file in sorted(path.parent.glob(f"{path.stem}.*")):
            digest.update(file.name.encode())
            digest.update(file.read_bytes())
    return f"sha256:{digest.hexdigest()}"


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _closure(module: str) -> set[str]:
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and name != _SETTINGS and not name.startswith(f"{_SETTINGS}."):
            found.add(name)
            todo.extend(_imports(name))
    return found


def _imports(module: str) -> frozenset[str]:
    path = _path(module)
    return _imports_in(path, path.stat().st_mtime_ns)


@cache
def _imports_in(path: Path, _changed: int) -> frozenset[str]:
    """Of Taiji's own modules; parsed once for each state of a file."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(n for n in names if n.split(".")[0] == "taiji" and _path(n).is_file())


def _path(module: str) -> Path:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
