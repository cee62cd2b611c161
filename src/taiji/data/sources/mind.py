"""MIND, the news log: `behaviors.tsv` and `news.tsv`.

An impression lists what was shown at one moment, each with its click. It becomes exposures, and
its clicks become interactions. Two things are not known: what came of a click, so conversion is
null unless the recipe takes the click for it; and when the clicks of the `history` column
happened, so they are no interactions, which need a time.
"""

from pathlib import Path

from taiji.config.sources import MindSource, TablesSource

_SHOWN = {
    "files": "behaviors.tsv",
    "names": ["impression", "user", "time", "history", "shown"],
    "quote": "",
    "explode": {"column": "shown", "separator": " ", "names": ["news", "click"], "inner": "-"},
    "user_id": "user",
    "item_id": "news",
    "ts": {"column": "time", "format": "%m/%d/%Y %I:%M:%S %p", "timezone": "UTC"},
}


def describe(folder: Path, source: MindSource) -> TablesSource:
    """Return the tables of one folder, such as MINDsmall_train."""
    goal = {"conversion": "click"} if source.conversion == "click" else {}
    return TablesSource.model_validate(
        {
            "kind": "tables",
            "path": str(folder),
            "items": {
                "files": "news.tsv",
                "names": [
                    *("news", "category", "subcategory", "title"),
                    *("abstract", "link", "title_entities", "abstract_entities"),
                ],
                "quote": "",
                "item_id": "news",
                "title": "title",
                "categories": ["category", "subcategory"],
            },
            "interactions": _SHOWN
            | {"kind": {"constant": "click"}, "order_id": "impression", "only": {"click": ["1"]}},
            "exposures": _SHOWN | {"click": "click"} | goal,
        }
    )
