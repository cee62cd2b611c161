"""SHA-256 of what a run left, as far as no two machines may differ in it.

Rows are hashed, not bytes: those of Parquet follow the library that wrote them. Numbers that a
model computed differ over CPUs in their last bits, so of the other stages the layout alone is
hashed: files, columns, names and shapes of weights, the first keys of JSON. A folder `model` is
laid out by Transformers. Keys of stages are not written down: a change of any code changes them.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from safetensors import safe_open

from taiji.store.files import digest_value, read_json

MANIFEST = "manifest.json"


def contents(folder: Path) -> dict[str, str]:
    """File -> SHA-256 of its columns and rows, or of its JSON."""
    return {name: digest_value(_whole(folder / name)) for name in _files(folder)}


def layout(folder: Path) -> str:
    """SHA-256 of the form of everything in a stage's folder."""
    return digest_value({name: _form(folder / name) for name in _files(folder)})


def _files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != MANIFEST and path.parent.name != "model":
            yield path.relative_to(folder).as_posix()


def _whole(path: Path) -> Any:
    if path.suffix == ".json":
        return read_json(path)
    table = pq.read_table(path)
    return [_columns(table.schema), json.loads(json.dumps(table.to_pylist(), default=str))]


def _columns(schema: pa.Schema) -> list[list[str]]:
    return [[field.name, str(field.type)] for field in schema]


def _form(path: Path) -> Any:
    match path.suffix:
        case ".parquet":
            return _columns(pq.read_schema(path))
        case ".json":
            return sorted(read_json(path))
        case ".jsonl":
            return sorted(json.loads(path.read_text(encoding="utf-8").partition("\n")[0]))
        case ".safetensors":
            with safe_open(path, "np") as weights:
                return {
                    name: weights.get_slice(name).get_shape() for name in sorted(weights.keys())
                }
    return ""
