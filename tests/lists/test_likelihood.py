import pyarrow as pa
import pytest
import torch

from taiji import schema
from taiji.language.prompt import ChatScaffold
from taiji.lists.likelihood import TitleScorer
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
    return TitleScorer(tiny_model, fitter, CATALOGUE)


def naive(model, fitter, cot: str, place: int) -> float:
    """One row: prompt, chain, whole answer; the sum over the title and the mark that ends it."""
    scaffold = fitter.scaffold
    title, *levels = SHELF[place]
    answer = "; ".join([title, *filter(None, levels)])
    completion = scaffold.completion_ids(cot, answer)
    prompt = scaffold.prompt_ids(fitter.fit(EXAMPLE)[0])
    num = len(scaffold.data_ids(title + (";" if levels[0] else "")))
    ids = [*prompt, *completion.ids[: completion.answer_start + num]]
    with torch.inference_mode():
        logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    return sum(float(logprobs[t - 1, ids[t]]) for t in range(len(ids) - num, len(ids)))


def test_titles_are_scored_as_the_opening_of_an_answer(likelihood, tiny_model, fitter):
    scores = likelihood.score(EXAMPLE, "The list shows milk.", [2, 0, 1])
    expected = [naive(tiny_model, fitter, "The list shows milk.", place) for place in (2, 0, 1)]
    assert scores == pytest.approx(expected, abs=1e-3)


def test_for_anybody_neither_shopper_nor_chain_matter(likelihood):
    other = EXAMPLE | {"example_id": "f", "profile": "Buys soap.", "history": []}
    first = likelihood.score_for_anybody(EXAMPLE, [0, 1])
    assert likelihood.score_for_anybody(other, [1, 0]).tolist() == first[::-1].tolist()
    assert likelihood.score(EXAMPLE, "", [0, 1]) != pytest.approx(first)
