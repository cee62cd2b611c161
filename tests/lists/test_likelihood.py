import pyarrow as pa
import pytest
import torch

from taiji import schema
from taiji.language.prompt import ChatScaffold
from taiji.lists.likelihood import OpeningScorer, category_openings, title_openings
from taiji.reasoning.prompts import PromptFitter
from taiji.templates import resolve_templates

SHELF = [("Green tea", "Grocery", "Drinks"), ("Soap 3 oz", "Drug", None), ("Cola", None, None)]
CATALOGUE = pa.Table.from_pylist(
    [
        {"item_id": f"i{n}", "title": title, "category_l1": l1, "category_l2": l2}
        for n, (title, l1, l2) in enumerate(SHELF)
    ],
    schema.ITEMS,
)
EXAMPLE = {"example_id": "e", "profile": "Buys tea.", "history": [{"text": "Milk; 1 day before"}]}


@pytest.fixture
def fitter(smollm2_tokenizer):
    return PromptFitter(ChatScaffold(smollm2_tokenizer), 300, resolve_templates("en", {}))


@pytest.fixture
def likelihood(tiny_model, fitter):
    return OpeningScorer(tiny_model, fitter, title_openings(CATALOGUE, 1))


def naive(model, fitter, cot: str, place: int) -> float:
    """One row: prompt, chain, whole answer; the sum over the title and the mark that ends it."""
    title, *levels = SHELF[place]
    answer = "; ".join([title, *filter(None, levels)])
    return summed(model, fitter, cot, answer, title + (";" if levels[0] else ""))


def summed(model, fitter, cot: str, answer: str, opening: str) -> float:
    """log P of an answer's opening, one token after the other."""
    scaffold = fitter.scaffold
    completion = scaffold.completion_ids(cot, answer)
    prompt = scaffold.prompt_ids(fitter.fit(EXAMPLE)[0])
    num = len(scaffold.data_ids(opening))
    ids = [*prompt, *completion.ids[: completion.answer_start + num]]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(len(ids) - num, len(ids)))


def test_titles_are_scored_as_the_opening_of_an_answer(likelihood, tiny_model, fitter):
    scores = likelihood.score(EXAMPLE, "The list shows milk.", [2, 0, 1])
    expected = [naive(tiny_model, fitter, "The list shows milk.", place) for place in (2, 0, 1)]
    assert scores == pytest.approx(expected, abs=1e-3)


def test_of_several_answers_a_title_is_scored_as_a_whole_line(tiny_model, fitter):
    openings = title_openings(CATALOGUE, 5)
    assert [one.alone for one in openings] == [
        "Grocery; Drinks; Green tea\n",
        "Drug; Soap 3 oz\n",
        "Cola\n",
    ]
    cot = "The list shows milk."
    want = summed(tiny_model, fitter, cot, "Grocery; Drinks; Green tea\nCola", openings[0].alone)
    scores = OpeningScorer(tiny_model, fitter, openings).score(EXAMPLE, cot, [0])
    assert scores == pytest.approx([want], abs=1e-3)


def test_for_anybody_neither_shopper_nor_chain_matter(likelihood):
    other = EXAMPLE | {"example_id": "f", "profile": "Buys soap.", "history": []}
    first = likelihood.score_for_anybody(EXAMPLE, [0, 1])
    assert likelihood.score_for_anybody(other, [1, 0]).tolist() == first[::-1].tolist()
    assert likelihood.score(EXAMPLE, "", [0, 1]) != pytest.approx(first)


def test_for_anybody_the_offer_is_that_of_the_example(likelihood, tiny_model, fitter):
    early, late = (EXAMPLE | {"offer": [name]} for name in ("Grocery", "Drug; soap and more"))
    likelihood.score_for_anybody(late, [0])
    afresh = OpeningScorer(tiny_model, fitter, title_openings(CATALOGUE, 1))
    assert likelihood.score_for_anybody(early, [0]) == afresh.score_for_anybody(early, [0])


def test_categories_open_an_answer_by_their_path_or_stand_where_a_title_would(fitter):
    path = ("Grocery", "Drinks; hot", "Tea")
    (line,) = category_openings([path], answers=5)
    assert line.alone == "Grocery; Drinks, hot; Tea;"
    assert line.whole.startswith(line.alone)
    (single,) = category_openings([path], answers=1)
    assert (single.alone, single.whole) == ("Tea;", "Tea; Grocery; Drinks, hot; Tea")


def test_a_category_is_scored_as_the_opening_of_an_answer(tiny_model, fitter):
    scorer = OpeningScorer(tiny_model, fitter, category_openings([("Grocery", "Drinks")], 5))
    cot = "The list shows milk."
    want = summed(tiny_model, fitter, cot, "Grocery; Drinks; Green tea", "Grocery; Drinks;")
    assert scorer.score(EXAMPLE, cot, [0]) == pytest.approx([want], abs=1e-3)
