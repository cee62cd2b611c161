"""What Python files say: a digest of the syntax tree, and what they import.

To parse all of Taiji takes two CPU seconds. So what was found is kept as Python keeps bytecode: in
the package's `__pycache__`, for each file as long as its size and times are the same. Where that
cannot be written, or is damaged, files are parsed again.
"""

import ast
import hashlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from taiji.errors import DataError
from taiji.store.files import digest_value, read_json, write_json

logger = logging.getLogger(__name__)

_RECORD = "sources.json"


class Source(NamedTuple):
    """What a Python file says.

    Attributes:
        digest: SHA-256 of its syntax tree, without docstrings, comments and formatting.
        imports: Absolute names that it imports anywhere: modules, or what lies in them.
    """

    digest: str
    imports: list[str]


class Sources:
    """Python files under one folder, each parsed once for a state of the file.

    Args:
        root: The folder of a package.
    """

    def __init__(self, root: Path) -> None:
        self._record = root / "__pycache__" / _RECORD
        self._known: dict[str, tuple[list[int], Source]] = _known(self._record)
        self._new = False

    def read(self, path: Path) -> Source:
        """What a file says.

        Raises:
            SyntaxError: It is no Python.
        """
        found = path.stat()
        state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
        at, source = self._known.get(str(path), ([], None))
        if source is None or at != state:
            source = parse_source(path)
            self._known[str(path)] = state, source
            self._new = True
        return source

    def save(self) -> None:
        """Keep what was parsed for other processes, unless Python is to leave no bytecode either.

        Where that is impossible they parse again.
        """
        if not self._new or sys.dont_write_bytecode:
            return
        files = {name: [state, *source] for name, (state, source) in self._known.items()}
        try:
            self._record.parent.mkdir(exist_ok=True)
            write_json({"files": files, "digest": digest_value(files)}, self._record)
        except OSError as error:
            logger.debug("%s: not written: %s", self._record, error)
        self._new = False


def parse_source(path: Path) -> Source:
    """What one file says, parsed now.

    Raises:
        SyntaxError: It is no Python.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text: list[str] = []
    _write(tree, text)
    said = "".join(text).encode("utf-8", "surrogatepass")
    return Source(hashlib.sha256(said).hexdigest(), sorted(set(_imports(tree))))


def _known(record: Path) -> dict[str, tuple[list[int], Source]]:
    if not record.is_file():
        return {}
    try:
        value = read_json(record)
        if value["digest"] == digest_value(value["files"]):
            return {
                name: (list(state), Source(digest, list(imports)))
                for name, (state, digest, imports) in value["files"].items()
            }
    except (DataError, OSError, KeyError, TypeError, ValueError, AttributeError):
        pass
    logger.debug("%s: damaged: all files are parsed again", record)
    return {}


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
