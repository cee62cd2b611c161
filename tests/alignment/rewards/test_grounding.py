import numpy as np
import pyarrow as pa
import pytest

from taiji import schema
from taiji.alignment.rewards.grounding import Grounder, Ladder
from taiji.alignment.rewards.title_index import TitleIndex

# Directions: 0 milk, 1 bread, 2 soap
VECTORS = {
    "milk": [1, 0, 0],
    "bread": [0, 1, 0],
    "soap": [0, 0, 1],
}


class WordEncoder:
    """Adds up the directions of the words that it knows."""

    name, dimension = "words", 3

    def __init__(self):
        self.calls = []

    def encode(self, texts):
        self.calls.append(list(texts))
        out = np.zeros((len(texts), 3), np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(";", " ").split():
                out[row] += VECTORS.get(word, [0, 0, 0])
            length = np.linalg.norm(out[row])
            out[row] /= length if length else 1
        return out


def item(item_id, title, l1="Food", l2=None, l3=None):
    return {
        "item_id": item_id,
        "title": title,
        "category_l1": l1,
        "category_l2": l2,
        "category_l3": l3,
        "brand": None,
    }


ITEMS = [
    item("milk", "Fresh Milk 1 L", "Food", "Dairy", "Milks"),
    item("bread", "Brown Bread", "Food", "Bakery", "Loaves"),
    item("soap", "Green Soap", "Drug", "Bath", "Soaps"),
    item("soap2", "Green Soap", "Gifts", "Bath", "Soaps"),
    item("odd", "Salt; Pepper", "Food", None, None),
]


@pytest.fixture
def encoder():
    return WordEncoder()


@pytest.fixture
def grounder(encoder):
    return Grounder(pa.Table.from_pylist(ITEMS, schema.ITEMS), encoder)


def one(grounder, answer):
    return grounder.ground([answer])[0]


@pytest.mark.parametrize(
    "answer",
    ["Fresh Milk 1 L; Food; Dairy; Milks", "fresh  MILK 1 l", "Fresh Milk 1 L; Drug; Bath; Soaps"],
)
def test_an_exact_title_wins_whatever_its_case_spacing_or_category(grounder, encoder, answer):
    verdict = one(grounder, answer)
    assert (verdict.item_id, verdict.rung, verdict.cosine) == ("milk", "exact", 1.0)
    assert encoder.calls == [], "an exact title needs no embedding"


@pytest.mark.parametrize(
    ("answer", "item_id"),
    [
        ("1 L fresh milk; Food; Bakery; Loaves", "milk"),  # all words, another order
        ("brown bread sliced", "bread"),  # brown, bread: log 6 each; sliced: log 6. 2/3
        ("GREEN-SOAP; Gifts", "soap2"),  # two items of one title: the category decides
        ("soap, green", "soap"),
    ],
)
def test_shared_words_name_an_item_without_any_embedding(grounder, encoder, answer, item_id):
    verdict = one(grounder, answer)
    assert (verdict.item_id, verdict.rung, verdict.cosine) == (item_id, "overlap", 1.0)
    assert encoder.calls == []


def test_the_overlap_is_weighted_by_rarity_and_its_threshold_is_inclusive():
    # Five titles: `green` is in two of them, log(1 + 5/2) = 1.2528; `soap` and `pear` in one,
    # log 6 = 1.7918. Answer and title share soap: 1.7918 / (1.7918 + 1.2528 + 1.7918) = 0.3705
    titles = ["Green Pear", "Green Soap", "Salt", "Pepper", "Tea"]
    index = TitleIndex([item(str(n), title) for n, title in enumerate(titles)])
    assert index.overlap("pear soap", 0.3) == ("0", pytest.approx(0.3705, abs=1e-4))  # tie: by id
    _, overlap = index.overlap("green soap dish", 0.1)
    assert overlap == pytest.approx((1.2528 + 1.7918) / (1.2528 + 2 * 1.7918), abs=1e-4)
    assert index.overlap("green soap dish", overlap) is not None
    assert index.overlap("green soap dish", overlap + 1e-6) is None
    assert index.overlap("; Food", 0.1) is None


def test_without_the_second_rung_shared_words_are_left_to_the_embedding(encoder):
    table = pa.Table.from_pylist(ITEMS, schema.ITEMS)
    assert one(Grounder(table, encoder, ladder=Ladder(overlap=None)), "soap green").rung == (
        "catalogue"
    )


def test_among_items_of_one_title_the_category_decides_then_the_id(grounder):
    assert one(grounder, "Green Soap; Gifts; Bath; Soaps").item_id == "soap2"
    assert one(grounder, "Green Soap").item_id == "soap"


def test_a_title_with_the_separator_is_found_in_the_form_that_prompts_show(grounder):
    assert one(grounder, "Salt, Pepper; Food").item_id == "odd"


def test_the_named_category_limits_the_choice(grounder):
    # The words say milk, the category says bakery.
    verdict = one(grounder, "some milk; Food; Bakery; Loaves")
    assert (verdict.item_id, verdict.rung) == ("bread", "category")


def test_the_deepest_category_that_the_catalogue_knows_serves(grounder):
    verdict = one(grounder, "bread thing; Food; Dairy; Cheeses")
    assert (verdict.item_id, verdict.rung) == ("milk", "category")
    verdict = one(grounder, "bread thing; Food; Meat; Sausages")
    assert (verdict.item_id, verdict.rung) == ("bread", "category")


def test_a_level_without_its_parents_is_no_category(grounder):
    assert one(grounder, "bread soap soap; Toys; Bath; Soaps").rung == "catalogue"


def test_without_category_the_nearest_of_all_above_the_floor(grounder):
    verdict = one(grounder, "soap")
    assert (verdict.item_id, verdict.rung) == ("soap", "catalogue")
    assert verdict.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("answer", ["nothing of the sort", "", "  ", ";;;"])
def test_idle_talk_names_nothing(grounder, answer):
    verdict = one(grounder, answer)
    assert (verdict.item_id, verdict.rung) == (None, "none")


def test_the_floor_is_inclusive_below_it_nothing_counts(encoder):
    table = pa.Table.from_pylist(ITEMS, schema.ITEMS)
    answer = "milk bread soap"  # cosine 0.577 to each
    assert one(Grounder(table, encoder, ladder=Ladder(floor=0.57)), answer).rung == "catalogue"
    assert one(Grounder(table, encoder, ladder=Ladder(floor=0.58)), answer).rung == "none"


def test_a_soft_answer_stands_for_the_nearest_items_by_hand(encoder):
    # "milk milk bread" has cosines 0.894 to milk, 0.447 to bread. tau 0.5: e^(0.4472/0.5) =
    # 2.4459 to one: 0.7098 and 0.2902.
    table = pa.Table.from_pylist([ITEMS[2], ITEMS[1], ITEMS[0]], schema.ITEMS)
    soft = Ladder(soft_items=2, temperature=0.5, gate=(0.5, 1.0))
    verdict = one(Grounder(table, encoder, ladder=soft), "milk milk bread")
    assert verdict.item_ids == ("milk", "bread")
    assert verdict.weights == pytest.approx((0.7098, 0.2902), abs=1e-4)
    assert verdict.cosine == pytest.approx(0.8944, abs=1e-4)
    assert verdict.gate == pytest.approx((0.8944 - 0.5) / 0.5, abs=1e-4)


def test_more_soft_items_than_a_category_holds_are_all_of_it(encoder):
    table = pa.Table.from_pylist(ITEMS, schema.ITEMS)
    soft = Ladder(soft_items=50, gate=(0.5, 0.75))
    verdict = one(Grounder(table, encoder, ladder=soft), "bread; Drug")
    assert (verdict.item_ids, verdict.rung, verdict.gate) == (("soap",), "category", 0.0)


def test_the_gate_opens_between_its_bounds_and_words_pass_it():
    ladder = Ladder(gate=(0.5, 0.75))
    assert [ladder.openness(c) for c in (-1, 0.5, 0.625, 0.75, 1)] == [0, 0, 0.5, 1, 1]
    assert Ladder().openness(-1) == 1


def test_equally_near_items_are_taken_in_their_order(encoder):
    rows = [item(f"i{n}", f"milk {n}") for n in range(4)]
    table = pa.Table.from_pylist(rows, schema.ITEMS)
    soft = Ladder(overlap=None, soft_items=2, gate=(0.5, 0.75))
    verdict = one(Grounder(table, encoder, ladder=soft), "milk milk")
    assert verdict.item_ids == ("i0", "i1")
    assert verdict.weights == (0.5, 0.5)


def test_embeddings_look_only_into_the_given_catalogue_exact_titles_everywhere(encoder):
    table = pa.Table.from_pylist(ITEMS, schema.ITEMS)
    grounder = Grounder(table, encoder, catalogue=table.slice(1, 1))
    assert one(grounder, "Fresh Milk 1 L").item_id == "milk"
    assert one(grounder, "milk").rung == "none"
    assert one(grounder, "milk; Food").item_id == "bread"


def test_answers_keep_their_order_and_items_are_embedded_once(grounder, encoder):
    answers = ["soap", "", "Brown Bread", "milk"]
    verdicts = grounder.ground(answers)
    assert [v.item_id for v in verdicts] == ["soap", None, "bread", "milk"]
    assert [v.item_id for v in grounder.ground(answers)] == [v.item_id for v in verdicts]
    assert sum(len(call) == len(ITEMS) for call in encoder.calls) == 1


def test_embeddings_that_the_caller_has_are_not_computed_again(grounder, encoder):
    vectors = encoder.encode(["soap", "x"])
    encoder.calls.clear()
    assert grounder.ground(["soap", "x"], vectors)[0].item_id == "soap"
    assert encoder.calls == [[*encoder.calls[0]]]
    assert len(encoder.calls[0]) == len(ITEMS)
