"""User cards: one person's way through all stages, side by side.

The users are chosen by how many stages saw them and then by a hash, never by how well
anything came out.
"""

import hashlib
import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from taiji.report.run_files import with_histories
from taiji.store.stored_rows import StoredRows

NUM_CARDS = 12
_NUM_CHAINS = 24
_NUM_ROLLOUTS = 8
_NUM_BORROWED = 10

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Episode:
    """One moment of a user: what was known, and what was bought next."""

    example: Row
    target: Row | None
    novel_target: Row | None


@dataclass(frozen=True)
class Card:
    """What the run knows about one user; a part is empty where a stage did not see the user.

    Attributes:
        taught: The SFT example and the teacher's chains for it, with perplexity and verdict; the
            first ones, whatever became of them.
        num_chains: How many chains there are.
        asked: The test example, and each model's answer with its judgement.
        rewarded: The alignment example and some of its rollouts, the last ones.
        neighbour: The most similar other user, with the titles of the borrowed sequence.
    """

    user_id: str
    taught: tuple[Episode, Sequence[Row]] | None
    asked: tuple[Episode, Sequence[Row]] | None
    rewarded: tuple[Episode, Sequence[Row]] | None
    neighbour: Row | None
    num_chains: int = 0

    @property
    def num_parts(self) -> int:
        """How many stages saw the user."""
        parts = (self.taught, self.asked, self.rewarded, self.neighbour)
        return sum(part is not None for part in parts)


@dataclass(frozen=True)
class CardTables:
    """Where cards come from; a table is None if its stage has not run.

    Attributes:
        examples: As `run_files.ReportData` has them, and `histories`.
    """

    examples: pa.Table
    items: pa.Table
    chains: pa.Table | None
    texts: pa.Table | None
    judgements: pa.Table | None
    rollouts: pa.Table | None
    features: pa.Table | None
    histories: StoredRows | None = None


def build_cards(tables: CardTables, num_cards: int = NUM_CARDS) -> list[Card]:
    """The cards of the users whom most stages saw."""
    chosen = _most_seen(tables, num_cards)
    sources = _Sources(_about(tables, chosen))
    cards = (sources.card(user_id) for user_id in chosen)
    ordered = sorted(cards, key=lambda card: (-card.num_parts, shuffled(card.user_id)))
    return [card for card in ordered if card.num_parts]


def user_card(tables: CardTables, user_id: str) -> Card | None:
    """The card of one user; None if no stage saw the user."""
    card = _Sources(_about(tables, [user_id])).card(user_id)
    return card if card.num_parts else None


def _most_seen(tables: CardTables, num_cards: int) -> list[str]:
    """Users in the order of how many stages saw them, then of a hash; the first of them."""
    seen_by = [pa.chunked_array([], pa.string())]
    for split, rows in (("sft", tables.chains), ("rl", tables.rollouts), ("test", tables.texts)):
        if rows is not None:
            asked = tables.examples.filter(pc.equal(tables.examples["split"], split))
            known = pc.is_in(asked["example_id"], value_set=_values(rows, "example_id"))
            seen_by.append(asked.filter(known)["user_id"].unique())
    if tables.features is not None:
        served = tables.features.filter(pc.equal(tables.features["split"], "rank_test"))
        seen_by.append(served["user_id"].unique())
    users = pa.chunked_array([part for one in seen_by for part in _chunks(one)], pa.string())
    counted = users.value_counts()
    ranks = zip(
        counted.field("counts").to_pylist(), counted.field("values").to_pylist(), strict=True
    )
    best = heapq.nsmallest(num_cards, ranks, key=lambda pair: (-pair[0], shuffled(pair[1])))
    return [user for _, user in best]


def _chunks(column: pa.Array | pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]


def _values(table: pa.Table, column: str) -> pa.Array:
    return table[column].combine_chunks()


def _about(tables: CardTables, user_ids: Sequence[str]) -> CardTables:
    """The rows of these users alone, and the items that they name."""
    users = pa.array(user_ids, pa.string())
    are_theirs = pc.is_in(tables.examples["user_id"], value_set=users)
    examples = with_histories(tables.examples, are_theirs, tables.histories)
    names = _values(examples, "example_id")
    parts = {
        name: None if part is None else part.filter(pc.is_in(part["example_id"], value_set=names))
        for name in ("chains", "texts", "judgements", "rollouts", "features")
        for part in [getattr(tables, name)]
    }
    return replace(tables, examples=examples, items=_named_items(tables, examples, parts), **parts)


def _named_items(
    tables: CardTables, examples: pa.Table, parts: Mapping[str, pa.Table | None]
) -> pa.Table:
    wanted = [*_chunks(examples["target_item_id"]), *_chunks(examples["novel_target_item_id"])]
    if (judged := parts["judgements"]) is not None:
        wanted += _chunks(judged["grounded_item_id"])
    if (features := parts["features"]) is not None:
        wanted += _chunks(pc.list_flatten(features["neighbour_item_ids"]))
    known = pa.chunked_array(wanted, pa.string()).unique()
    return tables.items.filter(pc.is_in(tables.items["item_id"], value_set=known))


class _Sources:
    """The tables, indexed by what a card asks for."""

    def __init__(self, tables: CardTables) -> None:
        self._items = {row["item_id"]: row for row in tables.items.to_pylist()}
        self._by_user = _group(tables.examples.to_pylist(), "user_id")
        self._chains = _group(_rows(tables.chains), "example_id")
        self._rollouts = _group(_rows(tables.rollouts), "example_id")
        self._texts = _group(_rows(tables.texts), "example_id")
        self._judged = {
            (row["example_id"], row["writer"]): row
            for row in _rows(tables.judgements)
            if row["track"] == "any"
        }
        self._neighbours = {
            row["user_id"]: row for row in _rows(tables.features) if row["split"] == "rank_test"
        }

    def card(self, user_id: str) -> Card:
        examples = sorted(
            self._by_user.get(user_id, ()), key=lambda row: shuffled(row["example_id"])
        )
        taught = self._part(examples, "sft", self._chains)
        return Card(
            user_id=user_id,
            taught=None if taught is None else (taught[0], taught[1][:_NUM_CHAINS]),
            num_chains=0 if taught is None else len(taught[1]),
            asked=self._asked(examples),
            rewarded=self._rewarded(examples),
            neighbour=self._neighbour(user_id),
        )

    def _part(
        self, examples: Sequence[Row], split: str, rows: Mapping[str, Sequence[Row]]
    ) -> tuple[Episode, Sequence[Row]] | None:
        """The first example of the split for which there is anything to show."""
        for example in examples:
            if example["split"] == split and example["example_id"] in rows:
                return self._episode(example), rows[example["example_id"]]
        return None

    def _asked(self, examples: Sequence[Row]) -> tuple[Episode, Sequence[Row]] | None:
        part = self._part(examples, "test", self._texts)
        if part is None:
            return None
        episode, texts = part
        return episode, [{**text, **self._judgement(text)} for text in texts]

    def _judgement(self, text: Row) -> Row:
        judged = self._judged.get((text["example_id"], text["model"]))
        if judged is None:
            return {"judged": None}
        grounded = self._items.get(judged["grounded_item_id"])
        return {"judged": {**judged, "grounded_title": grounded and grounded["title"]}}

    def _rewarded(self, examples: Sequence[Row]) -> tuple[Episode, Sequence[Row]] | None:
        part = self._part(examples, "rl", self._rollouts)
        return None if part is None else (part[0], part[1][-_NUM_ROLLOUTS:])

    def _neighbour(self, user_id: str) -> Row | None:
        row = self._neighbours.get(user_id)
        if row is None:
            return None
        borrowed = [self._items.get(item) for item in row["neighbour_item_ids"][:_NUM_BORROWED]]
        return {
            **row,
            "titles": [item["title"] for item in borrowed if item],
            "num_borrowed": len(row["neighbour_item_ids"]),
        }

    def _episode(self, example: Row) -> Episode:
        return Episode(
            example=example,
            target=self._items.get(example["target_item_id"]),
            novel_target=self._items.get(example["novel_target_item_id"]),
        )


def _rows(table: pa.Table | None) -> list[Row]:
    return [] if table is None else table.to_pylist()


def _group(rows: Iterable[Row], column: str) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row[column]].append(row)
    return dict(groups)


def shuffled(key: str) -> str:
    """An order that has nothing to do with any outcome."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
