"""Which code a stage ran, and which library versions were installed.

The code of a stage is the stage's own file and every file of Taiji that it imports, directly or
not, so a change to the report does not retrain the model, and a change to Eq. 1 does. What counts
is the syntax tree: comments, docstrings and formatting do not. Files that lie beside these
modules, such as templates, belong to them. The recipe's own package is left out: the values of
the settings are part of a stage's key by themselves.
"""

import ast
import hashlib
import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]
_SETTINGS = "taiji.config"
_LIBRARIES = ("duckdb", "faiss-cpu", "numpy", "pyarrow", "sqlglot", "torch", "transformers", "trl")


def code_digest(module: str) -> str:
    """SHA-256 of what `module` (such as `taiji.stages.sft`) and all that it imports say.

    Raises:
        SyntaxError: A file of Taiji is no Python.
    """
    digest = hashlib.sha256()
    closure = sorted(_closure(module))
    for name in closure:
        digest.update(f"{name} {source_digest(_path(name))}\n".encode())
    for path in sorted({file for name in closure for file in _beside(_path(name))}):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(_ROOT).as_posix()} {content}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def source_digest(path: Path) -> str:
    """SHA-256 of a Python file's syntax tree, without docstrings, comments and formatting."""
    return _read(path, path.stat().st_mtime_ns)[0]


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that results depend on."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _closure(module: str) -> set[str]:
    """The module, all that it imports anywhere in its file, and the packages that they lie in."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        if name not in found and name != _SETTINGS and not name.startswith(f"{_SETTINGS}."):
            found.add(name)
            path = _path(name)
            todo += _read(path, path.stat().st_mtime_ns)[1]
            todo += [name.rpartition(".")[0] or name]
    return found


@cache
def _read(path: Path, _changed: int) -> tuple[str, frozenset[str]]:
    """Digest of the syntax tree and names of imported modules; once for each state of a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text: list[str] = []
    _write(tree, text)
    imported = frozenset(name for name in _imports(tree) if _is_ours(name))
    return hashlib.sha256("".join(text).encode("utf-8", "surrogatepass")).hexdigest(), imported


def _write(node: object, out: list[str]) -> None:
    """Append a tree as text, alike in all versions of Python that parse it alike.

    `ast.dump` shows fields that newer versions add, empty ones too; here an empty field is absent.
    """
    if isinstance(node, ast.AST):
        kind = type(node)
        out.append(f"{kind.__name__}(")
        for name in kind._fields:
            value = getattr(node, name, None)
            if kind is ast.Constant or value not in (None, []):
                out.append(f"{name}=")
                _write(value, out)
        out.append(")")
    elif isinstance(node, list):
        for child in node:
            if not _is_words(child):
                out.append(",")
                _write(child, out)
    else:
        out.append(repr(node))


def _is_words(node: object) -> bool:
    """A docstring, or any other text that stands alone and does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_ours(name: str) -> bool:
    return name.split(".")[0] == "taiji" and _path(name).is_file()


def _beside(module: Path) -> Iterator[Path]:
    """Files of the module's folder that are no Python, and those of folders that are no package."""
    for path in module.parent.iterdir():
        if path.is_dir():
            if path.name != "__pycache__" and not (path / "__init__.py").exists():
                yield from (inner for inner in path.rglob("*") if inner.is_file())
        elif path.suffix not in (".py", ".pyc"):
            yield path


def _path(module: str) -> Path:
    path = _ROOT.joinpath(*module.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
