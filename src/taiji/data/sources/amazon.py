"""One category of Amazon Reviews 2023: JSON lines, gzipped or not, or Parquet.

A review is an interaction: `like` with four stars or more, `dislike` with fewer. Three traps
of the files: `title` of a review is the review's headline, the item's stands in the meta file;
the id that both share is `parent_asin`, not `asin`; a price is what the shop asked when it was
crawled (a number, text or nothing), not what the reviewer paid, so interactions have none. Times
are milliseconds. There are no exposures.
"""

from pathlib import Path

from taiji.config.sources import TablesSource
from taiji.data.problems import Problem, UnusableError

TOLERANCE = 0.05
"""Crawled meta data has blank titles and missing items; more than this is another matter."""

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
    return TablesSource.model_validate(
        {
            "kind": "tables",
            "path": str(folder),
            "tolerance": TOLERANCE,
            "items": {
                "files": _find(folder, _META, category),
                "item_id": "parent_asin",
                "title": "title",
                "categories": {"column": "categories", "list": True},
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
