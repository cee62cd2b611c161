"""Erased users: how they are known without their ids, and that no log brings them back.

`taiji forget` notes a user here, beside the runs of a folder (`service/erased.sqlite`), by a keyed
hash of the id. Whoever lacks the key can tell of nobody whether they are in it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taiji.config import FeaturesSection
from taiji.data.engine.parquet_stream import write_batches
from taiji.data.ids import read_ids
from taiji.store.pseudonym import load_pseudonyms
from taiji.store.sqlite_files import Connections

FOLDER = "service"
FILE = "erased.sqlite"
NAME_BYTES = 16  # among 400 million users a repetition has a chance of 1 in 10^21

_SCHEMA = """
CREATE TABLE IF NOT EXISTS erased (name BLOB PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
"""
_WITH_USERS = ("interactions", "events", "exposures", "users")


def without_erased(rows: pa.Table, section: FeaturesSection, users: pa.Table) -> pa.Table:
    """Rows of users other than those of `features.erased_users`.

    Args:
        rows: With user_id.
        section: The recipe's.
        users: All that there are.

    Raises:
        DataError: The list cannot be read.
    """
    if section.erased_users is None:
        return rows
    path = Path(section.erased_users).expanduser()
    ids = read_ids(path, users["user_id"].combine_chunks(), "features.erased_users")
    return rows.filter(pc.invert(pc.is_in(rows["user_id"], value_set=ids)))


@dataclass(frozen=True)
class UserNames:
    """Gives users their names; `repr` does not show the key."""

    key: bytes = field(repr=False)

    def of(self, user_id: str) -> bytes:
        """The name of a user, `NAME_BYTES` long."""
        text = user_id.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=NAME_BYTES, key=self.key).digest()


def load_names(key_env: str) -> UserNames:
    """Names under the key of `report.pseudonym_key_env`; see `taiji.store.pseudonym`.

    Raises:
        ConfigError: The key is too short, or its file cannot be read or made.
    """
    return UserNames(hashlib.sha256(b"service\0" + load_pseudonyms(key_env).key).digest())


class Tombstones:
    """The erased users.

    Args:
        path: The file; made if it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._connections = Connections(path, _SCHEMA)

    def add(self, name: bytes, at: float) -> bool:
        """Note a user; False if they were noted before."""
        with self._connections.transaction() as db:
            return db.execute("INSERT OR IGNORE INTO erased VALUES (?, ?)", (name, at)).rowcount > 0

    def among(self, names: Sequence[bytes]) -> set[bytes]:
        """Those of `names` that are erased."""
        found: set[bytes] = set()
        for start in range(0, len(names), 1000):
            part = names[start : start + 1000]
            marks = ",".join("?" * len(part))
            rows = self._connections.own.execute(
                f"SELECT name FROM erased WHERE name IN ({marks})", list(part)
            )
            found |= {row[0] for row in rows}
        return found

    def all(self) -> list[bytes]:
        """All of them."""
        return [row[0] for row in self._connections.own.execute("SELECT name FROM erased")]

    def number(self) -> int:
        """How many there are."""
        return int(self._connections.own.execute("SELECT count(*) FROM erased").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._connections.close()


def drop_erased(tables: Path, runs: Path, key_env: str) -> int:
    """Take erased users out of the tables that `construct` has just written; return how many.

    Args:
        tables: Folder with the canonical tables.
        runs: The folder of all runs.
        key_env: `report.pseudonym_key_env`.
    """
    path = runs / FOLDER / FILE
    if not path.is_file():
        return 0
    tombstones, names = Tombstones(path), load_names(key_env)
    erased: list[str] = []
    for batch in pq.ParquetFile(tables / "users.parquet").iter_batches(columns=["user_id"]):
        users = batch["user_id"].to_pylist()
        own = dict(zip(map(names.of, users), users, strict=True))
        erased += [own[name] for name in tombstones.among(list(own))]
    tombstones.close()
    for name in _WITH_USERS if erased else ():
        drop_rows(tables / f"{name}.parquet", {"user_id": erased})
    if erased and (tables / "outcomes.parquet").is_file():
        drop_rows(tables / "outcomes.parquet", {"user_id": erased})
    if erased and (tables / "quarantine.parquet").is_file():
        drop_rows(tables / "quarantine.parquet", {"key": erased, "value": erased})
    return len(erased)


def drop_rows(path: Path, unwanted: dict[str, list[str]], out: Path | None = None) -> int:
    """Write a Parquet file anew without rows that hold an unwanted value; return how many.

    Args:
        path: The file; left as it is if it holds none.
        unwanted: Column -> values.
        out: Where to; null = in its place.
    """
    columns = [name for name in unwanted if name in pq.read_schema(path).names]
    sets = {name: pa.array(unwanted[name], pa.string()) for name in columns}

    def is_kept(batch: pa.RecordBatch) -> pa.Array:
        keep = pa.array([True] * batch.num_rows)
        for name, values in sets.items():
            keep = pc.and_(keep, pc.invert(pc.is_in(batch[name], value_set=values)))
        return keep

    lost = 0
    for batch in pq.ParquetFile(path).iter_batches(columns=columns):
        lost += batch.num_rows - (pc.sum(is_kept(batch)).as_py() or 0)
    if lost:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        kept = (batch.filter(is_kept(batch)) for batch in file.iter_batches())
        write_batches(kept, out or path, file.schema_arrow)
    return lost
