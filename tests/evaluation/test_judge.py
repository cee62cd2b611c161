from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from rows import example_row

from taiji import schema
from taiji.alignment.rewards.grounding import Grounder
from taiji.evaluation.judge import Judge, Writer, best_of
from taiji.schema import OUTSIDE

SHELF = {
    "tea": ("Green tea", "Grocery", "Drinks", "Tea"),
    "cola": ("Cola", "Grocery", "Drinks", "Soda"),
    "soap": ("Soap; mild", "Drug", "Bath", None),
    "rare": ("Truffle", "Grocery", "Fancy", "Fungi"),
}
ITEMS = pa.Table.from_pylist(
    [
        {"item_id": item, "title": t, "category_l1": a, "category_l2": b, "category_l3": c}
        | {"brand": None}
        for item, (t, a, b, c) in SHELF.items()
    ],
    schema.ITEMS,
)
CATALOGUE = ITEMS.slice(0, 3)  # the truffle is hardly ever sold


class LetterEncoder:
    """Counts letters: near texts share letters, an empty text is the zero vector."""

    name, dimension = "letters", 26

    def encode(self, texts):
        rows = np.zeros((len(texts), 26), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            for letter in text.lower():
                if "a" <= letter <= "z":
                    row[ord(letter) - ord("a")] += 1
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


class FixedCtcvr:
    """An item's CTCVR is the same for everyone."""

    def score(self, context_ids, item_ids):
        return np.array([{"tea": 0.03, "cola": 0.01}.get(item, 0.002) for item in item_ids])


def asked(*targets: tuple[str, str | None]) -> pa.Table:
    moment = datetime(2017, 12, 1, tzinfo=UTC)
    rows = [
        example_row(
            f"e{n}",
            user_id=f"u{n}",
            cutoff=moment,
            target_item_id=any_,
            novel_target_item_id=novel,
        )
        for n, (any_, novel) in enumerate(targets)
    ]
    return pa.Table.from_pylist(rows, schema.EXAMPLES)


def judged(writer: Writer, examples: pa.Table) -> dict[str, list]:
    encoder = LetterEncoder()
    grounder = Grounder(ITEMS, encoder, catalogue=CATALOGUE)
    table = Judge(ITEMS, CATALOGUE, encoder, grounder, FixedCtcvr()).judge(writer, examples)
    tracks = {"any": [], "novel": []}
    for row in table.to_pylist():
        tracks[row["track"]].append(row)
    return tracks


def test_the_right_answer_is_right_in_every_measure():
    answer = "<think>thirst</think><answer>x</answer>"
    (row,) = judged(
        Writer("sft", ["Green tea; Grocery; Drinks; Tea"], [answer]), asked(("tea", None))
    )["any"]
    right = ("category_l1", "category_l2", "category_l3", "title_exact", "think_tag_presence")
    assert [row[name] for name in (*right, "think_non_empty", "answer_non_empty")] == [1.0] * 7
    assert row["title_rank"] == 1
    assert row["semantic"] == pytest.approx(1.0)
    assert (row["grounded_item_id"], row["rung"], row["ctcvr"]) == ("tea", "exact", 0.03)


def test_the_case_of_letters_and_a_semicolon_in_a_title_do_not_matter():
    (row,) = judged(Writer("sft", ["soap, mild; drug; bath"]), asked(("soap", None)))["any"]
    assert row["title_exact"] == row["category_l1"] == row["category_l2"] == 1.0
    assert row["category_l3"] is None  # the truth has no third level


def test_a_level_counts_only_below_the_right_one():
    (row,) = judged(Writer("sft", ["x; Drug; Drinks; Tea"]), asked(("tea", None)))["any"]
    assert [row[f"category_l{n}"] for n in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_no_answer_hits_nothing_and_earns_nothing():
    (row,) = judged(Writer("untuned", [""], ["I would buy tea"]), asked(("tea", None)))["any"]
    assert row["title_rank"] == CATALOGUE.num_rows  # as far away as everything else
    assert (row["semantic"], row["ctcvr"], row["grounded_item_id"]) == (0.0, 0.0, None)
    assert row["think_tag_presence"] == row["think_non_empty"] == row["answer_non_empty"] == 0.0


def test_tags_without_a_chain_are_present_but_empty():
    text = "<think>\n</think><answer>Cola</answer>"
    (row,) = judged(Writer("sft", ["Cola"], [text]), asked(("tea", None)))["any"]
    assert (row["think_tag_presence"], row["think_non_empty"]) == (1.0, 0.0)


def test_a_baseline_has_no_tags():
    (row,) = judged(Writer("last_bought", ["Cola"]), asked(("tea", None)))["any"]
    assert row["think_tag_presence"] is row["answer_non_empty"] is None


def test_a_truth_outside_the_catalogue_is_a_miss_even_for_the_right_answer():
    writer = Writer("sft", ["Truffle; Grocery; Fancy; Fungi"])
    (row,) = judged(writer, asked(("rare", None)))["any"]
    assert row["title_rank"] == OUTSIDE
    assert row["title_exact"] == 1.0


def test_each_track_keeps_the_examples_that_have_its_truth_in_their_order():
    writer = Writer("sft", ["Cola", "Green tea", "Cola"])
    tracks = judged(writer, asked(("tea", None), ("cola", "tea"), ("tea", "cola")))
    assert [row["example_id"] for row in tracks["any"]] == ["e0", "e1", "e2"]
    assert [row["example_id"] for row in tracks["novel"]] == ["e1", "e2"]
    assert [row["title_exact"] for row in tracks["any"]] == [0.0, 0.0, 0.0]
    assert [row["title_exact"] for row in tracks["novel"]] == [1.0, 1.0]
    assert [row["ctcvr"] for row in tracks["novel"]] == [0.03, 0.01]


def test_a_track_without_any_truth_has_no_rows():
    assert judged(Writer("sft", ["Cola"]), asked(("tea", None)))["novel"] == []


def test_a_list_is_grounded_by_its_first_line_that_names_an_item():
    lines = []
    for answers in ([""], ["Green tea; Grocery; Drinks; Tea"]):
        encoder = LetterEncoder()
        grounder = Grounder(ITEMS, encoder, catalogue=CATALOGUE)
        judge = Judge(ITEMS, CATALOGUE, encoder, grounder, FixedCtcvr())
        lines.append(judge.judge(Writer("sft", answers), asked(("tea", None))))
    assert lines[0]["grounded_item_id"].to_pylist() == [None]
    best = best_of(lines, "best of 2")
    assert best["grounded_item_id"].to_pylist() == ["tea"]
    assert best["rung"].to_pylist() == lines[1]["rung"].to_pylist()
