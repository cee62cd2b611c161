"""Judges answers against the true next item: one row per writer, example and track.

A writer is a language model or a trivial baseline; both are judged by the same measures. The
track says which truth counts: any line of the next basket, or a title new to the user.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.alignment.rewards.grounding import Grounded
from taiji.alignment.rewards.preference import PreferenceScorer
from taiji.alignment.rewards.semantic import semantic_reward
from taiji.data.item_text import item_text, item_texts, plain_name
from taiji.evaluation.metrics import category_hits, title_ranks
from taiji.language.completions import find_tags, split_answer
from taiji.language.encode import TextEncoder
from taiji.schema import JUDGEMENTS, OUTSIDE, TRACKS


@dataclass(frozen=True)
class Writer:
    """What one writer says to the examples, in their order.

    Attributes:
        answers: In the form `title; L1; L2; L3`; empty where there is none.
        completions: The whole text of a model; None for a baseline.
    """

    name: str
    answers: Sequence[str]
    completions: Sequence[str] | None = None


def best_of(judged: Sequence[pa.Table], name: str) -> pa.Table:
    """What a list is worth whose every line was judged alone: the best line in each measure.

    Args:
        judged: Rows of `JUDGEMENTS` of the first lines, the second, and so on; the same examples.
        name: Of the list, as a writer.
    """
    first = judged[0]
    columns = {field: first[field] for field in JUDGEMENTS.names}
    for field in (*_RISING, "title_rank"):
        values_KN = np.array([one[field].to_numpy() for one in judged], dtype=np.float64)
        best_N = values_KN.min(axis=0) if field == "title_rank" else values_KN.max(axis=0)
        columns[field] = pa.array(best_N, from_pandas=True)  # NaN: the truth has no such level
    for one in reversed(judged):  # the likeliest line that names an item of the catalogue
        grounds = pc.is_valid(one["grounded_item_id"])
        for field in ("grounded_item_id", "rung"):
            columns[field] = pc.if_else(grounds, one[field], columns[field])
    columns["writer"] = pa.array([name] * first.num_rows)
    return pa.table(columns).cast(JUDGEMENTS)


_RISING = ("category_l1", "category_l2", "category_l3", "title_exact", "semantic", "ctcvr")


class Grounding(Protocol):
    """Finds the catalogue item that an answer names."""

    def ground(
        self, answers: Sequence[str], embeddings_ND: NDArray[np.float32] | None = None
    ) -> list[Grounded]:
        """One verdict per answer, from its embedding where the caller has it."""
        ...


class Judge:
    """Compares answers with truths through one encoder, one grounder and one ranker.

    Args:
        items: All items; truths and categories come from here.
        catalogue: The items among which a title hit is looked for, one row per title.
        ctcvr: The reward ranker, if there is one.
        gold: A judge that nothing optimised, if there is one.
    """

    def __init__(
        self,
        items: pa.Table,
        catalogue: pa.Table,
        encoder: TextEncoder,
        grounder: Grounding,
        ctcvr: PreferenceScorer | None,
        gold: PreferenceScorer | None = None,
    ) -> None:
        self._items = {row["item_id"]: row for row in items.to_pylist()}
        self._titles = [plain_name(title) for title in catalogue["title"].to_pylist()]
        self._encoder = encoder
        self._catalogue_CD = encoder.encode(item_texts(catalogue))
        self._grounder = grounder
        self._ctcvr = ctcvr
        self._gold = gold

    def judge(self, writer: Writer, examples: pa.Table) -> pa.Table:
        """Rows of `JUDGEMENTS` for every track, for examples that have that truth."""
        rows = examples.to_pylist()
        answers_ND = self._encoder.encode(list(writer.answers))
        own = self._own_figures(writer, rows, answers_ND)
        tables = []
        for track, column in TRACKS.items():
            kept = [n for n, row in enumerate(rows) if row[column] is not None]
            truths = [self._items[rows[n][column]] for n in kept]
            figures = self._against(
                [writer.answers[n] for n in kept], answers_ND[np.array(kept, dtype=int)], truths
            )
            columns = {
                "track": [track] * len(kept),
                "writer": [writer.name] * len(kept),
                "target_item_id": [truth["item_id"] for truth in truths],
                "true_l1": [truth["category_l1"] for truth in truths],
                **{name: [values[n] for n in kept] for name, values in own.items()},
                **figures,
            }
            tables.append(pa.table({name: columns[name] for name in JUDGEMENTS.names}, JUDGEMENTS))
        return pa.concat_tables(tables)

    def _own_figures(
        self,
        writer: Writer,
        rows: Sequence[Mapping[str, Any]],
        answers_ND: NDArray[np.float32],
    ) -> dict[str, list[Any]]:
        """What does not depend on the truth."""
        grounded = self._grounder.ground(writer.answers, answers_ND)
        example_ids = [row["example_id"] for row in rows]
        items = [verdict.item_id for verdict in grounded]
        return {
            "example_id": example_ids,
            "user_id": [row["user_id"] for row in rows],
            "answer": list(writer.answers),
            **_tag_figures(writer),
            "grounded_item_id": items,
            "rung": [verdict.rung for verdict in grounded],
            "ctcvr": _scores(self._ctcvr, example_ids, items),
            "gold_ctcvr": _scores(self._gold, example_ids, items),
        }

    def _against(
        self,
        answers: Sequence[str],
        answers_ND: NDArray[np.float32],
        truths: Sequence[Mapping[str, Any]],
    ) -> dict[str, list[Any]]:
        """What compares each answer with its truth."""
        parts = [split_answer(answer) for answer in answers]
        guessed = [tuple(_plain(level) for level in part[1:]) for part in parts]
        true = [tuple(_plain(t[f"category_l{n}"]) for n in (1, 2, 3)) for t in truths]
        hits_NL = category_hits(guessed, true).reshape(-1, 3)
        titles = [plain_name(truth["title"]) for truth in truths]
        truths_ND = self._encoder.encode([item_text(truth) for truth in truths])
        return {
            **{f"category_l{n + 1}": _nullable(hits_NL[:, n]) for n in range(3)},
            "title_exact": [
                float(plain_name(guess) == title)
                for (guess, *_), title in zip(parts, titles, strict=True)
            ],
            "title_rank": self._ranks(answers_ND, titles),
            "semantic": semantic_reward(answers_ND, truths_ND).tolist(),
        }

    def _ranks(self, answers_ND: NDArray[np.float32], titles: Sequence[str]) -> list[int]:
        known = set(self._titles)
        inside = np.array([title in known for title in titles], dtype=bool)
        ranks_N = np.full(len(titles), OUTSIDE, dtype=np.int64)
        ranks_N[inside] = title_ranks(
            answers_ND[inside],
            self._catalogue_CD,
            self._titles,
            [title for title, there in zip(titles, inside, strict=True) if there],
        )
        return [int(rank) for rank in ranks_N]


def _scores(
    scorer: PreferenceScorer | None, example_ids: Sequence[str], item_ids: Sequence[str | None]
) -> list[float | None]:
    """CTCVR of each answer's item; 0 where it names none, None where nobody judges."""
    if scorer is None:
        return [None] * len(item_ids)
    pairs = [(e, i) for e, i in zip(example_ids, item_ids, strict=True) if i is not None]
    if not pairs:
        return [0.0] * len(item_ids)
    scores = iter(scorer.score([e for e, _ in pairs], [i for _, i in pairs]).tolist())
    return [0.0 if item is None else next(scores) for item in item_ids]


def _tag_figures(writer: Writer) -> dict[str, list[Any]]:
    if writer.completions is None:
        nothing = [None] * len(writer.answers)
        names = ("think_tag_presence", "think_non_empty", "answer_non_empty")
        return dict.fromkeys(names, nothing)
    tags = [find_tags(completion) for completion in writer.completions]
    return {
        "think_tag_presence": [float(found.think) for found in tags],
        "think_non_empty": [float(found.chain) for found in tags],
        "answer_non_empty": [float(found.answer) for found in tags],
    }


def _plain(level: str | None) -> str | None:
    return None if level is None else plain_name(level)


def _nullable(values_N: NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in values_N]
