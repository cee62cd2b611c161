"""One category of Amazon Reviews 2023: JSON lines, gzipped or not, or Parquet.

An item whose `categories` are empty, as all of All_Beauty are, is of its `main_category`, where the
meta file has one.

A review is an interaction: `like` with four stars or more, `dislike` with fewer. Three traps
of the files: `title` of a review is the review's headline, the item's stands in the meta file;
the id that both share is `parent_asin`, not `asin`; a price is what the shop asked when it was
crawled (a number, text or nothing), not what the reviewer paid, so interactions have none. Times
are milliseconds. There are no exposures.
"""

import gzip
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from taiji.config.sources import TablesSource
from taiji.data.problems import Problem, UnusableError

TOLERANCE = 0.05
"""Crawled meta data has blank titles and missing items; more than this is another matter."""

_MAIN = "main_category"

_REVIEWS = (
    "{0}.jsonl",
    "{0}.jsonl.gz",
    "raw/review_categories/{0}.jsonl",
    "raw_review_{0}/*.parquet",
    "raw_review_{0}/*/*.parquet",
)
_META = (
    "meta_{0}.jsonl",
    "meta_{0}.jsonl.gz",
    "raw/meta_categories/meta_{0}.jsonl",
    "raw_meta_{0}/*.parquet",
    "raw_meta_{0}/*/*.parquet",
)


def describe(folder: Path, category: str) -> TablesSource:
    """Return the tables of one category.

    Raises:
        UnusableError: Its reviews or its meta data are not there.
    """
    meta = _find(folder, _META, category)
    return TablesSource.model_validate(
        {
            "kind": "tables",
            "path": str(folder),
            "tolerance": TOLERANCE,
            "items": {
                "files": meta,
                "item_id": "parent_asin",
                "title": "title",
                "categories": _categories(folder, meta),
                "brand": "store",
            },
            "interactions": {
                "files": _find(folder, _REVIEWS, category),
                "user_id": "user_id",
                "item_id": "parent_asin",
                "ts": {"column": "timestamp", "format": "ms"},
                "kind": {"constant": "review"},
                "rating": "rating",
                "liked": {"rating": ">= 4"},
            },
        }
    )


def _find(folder: Path, patterns: tuple[str, ...], category: str) -> str:
    """The first layout of which there is a file."""
    candidates = [pattern.format(category) for pattern in patterns]
    for candidate in candidates:
        if any(folder.glob(candidate)):
            return candidate
    what, mend = f"none of {', '.join(candidates)}", "correct data.source.path or category"
    raise UnusableError(Problem("E101", str(folder), what, mend, fatal=True))


def _categories(folder: Path, meta: str) -> dict[str, Any]:
    """The path of categories and, if the first file knows it, what stands for an empty one."""
    path = min(folder.glob(meta))
    if path.suffix == ".parquet":
        known = _MAIN in pq.read_schema(path).names
    else:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            known = f'"{_MAIN}"'.encode() in stream.readline()
    path_column = {"column": "categories", "list": True}
    return path_column | ({"otherwise": _MAIN} if known else {})
