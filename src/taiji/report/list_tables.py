"""Tables of ordered lists of titles, and of answers that name suspicious titles."""

from collections.abc import Mapping

from taiji.report.cells import Cell, Metrics, Table, figure_cell

_LISTS = {
    "popular": "Most popular",
    "popular_new": "Most popular, new to user",
    "own_frequent": "User's most frequent",
    "own_recent": "User's last bought",
    "item_to_item": "Bought together with the user's items",
    "item_to_item_new": "Bought together, new to user",
    "paths": "By a trained scorer of paths (no language model)",
    "prior_only": "All of these, weighed (no language model)",
}
_MODEL_LISTS = {
    "nearest": "nearest to the answer",
    "reranked": "candidates by likelihood",
    "fused": "weighed with the log",
    "head": "by a trained head that read the text",
    "fused_head": "weighed with the log and the head",
    "guided": "by a beam that the scorer of paths guides",
}

_CAPTION = (
    "Whole lists instead of one answer: a hit at K is a true title among the first K, a category "
    "is the one that holds most of a list's weight. Rows of a model are answers that know the "
    "catalogue; on the track of new titles they, and the weighed list, strike out what the user "
    "has. Weights were fitted on {num} examples before the test window. What a language model adds "
    "is the difference of its weighed list to the one without it."
)


def list_tables(
    metrics: Metrics, tracks: Mapping[str, str], columns: Mapping[str, str]
) -> tuple[Table, ...]:
    """One table a track, and one of paired differences if models were asked.

    Args:
        metrics: Of the run; without lists there are no tables.
        tracks: Title of each track.
        columns: Key and name of each measure.
    """
    lists = metrics.get("lists")
    if not lists:
        return ()
    num = max((f["choices"] for by in metrics["fusions"].values() for f in by.values()), default=0)
    tables = [
        Table(
            key=f"lists-{track}",
            title=f"Lists of titles: {tracks[track]}",
            caption=_CAPTION.format(num=num) if track == "novel" and num else "",
            columns=("List", *columns.values()),
            rows=tuple(
                (
                    list_title(name),
                    *(figure_cell(lists[name][track], key, "share") for key in columns),
                )
                for name in _in_order(lists)
                if track in lists[name]
            ),
        )
        for track in ("novel", "any")
    ]
    differences: list[tuple[Cell, ...]] = [
        (
            f"{list_title(pair['of'])} – {list_title(pair['over'])}: {tracks[pair['track']]}",
            *(figure_cell(pair["metrics"], key, "share") for key in columns),
        )
        for pair in metrics["list_differences"]
    ]
    if differences:
        caption = (
            "Paired by user, in points of per cent, with 95 % intervals. An interval that spans 0 "
            "is no evidence that the language model adds anything."
        )
        title = "What language models add to lists"
        names = ("Difference", *columns.values())
        tables.append(Table("lists-differences", title, caption, names, tuple(differences)))
    return tuple(tables)


def list_title(name: str) -> str:
    """A list by name, such as `popular` or `sft/fused`."""
    model, _, listed = name.rpartition("/")
    return f"{model}: {_MODEL_LISTS[listed]}" if model else _LISTS[name]


def suspicious_table(metrics: Metrics, titles: Mapping[str, str]) -> tuple[Table, ...]:
    """How often suspicious titles are answered; nothing for a log without any."""
    found = metrics.get("suspicious")
    if not found or not found["titles"]:
        return ()
    rows: list[tuple[Cell, ...]] = [
        (
            titles.get(name, name),
            *(figure_cell(row, key, "share") for key in ("answered", "true", "difference")),
            "FLAGGED" if row["flagged"] else "no",
        )
        for name, row in found["writers"].items()
    ]
    caption = (
        f"{found['titles']:,} titles carry markup or template tokens ({found['markup']:,}) or read "
        f"like an order to a model ({found['instruction']:,}). Flagged: a model answers them more "
        "often than they are what comes next, beyond the interval."
    )
    columns = ("Answer by", "Answered", "True", "Difference", "Flagged")
    return (Table("suspicious", "Suspicious titles", caption, columns, tuple(rows)),)


def _in_order(lists: Metrics) -> list[str]:
    return [*(name for name in _LISTS if name in lists), *sorted(set(lists) - set(_LISTS))]
