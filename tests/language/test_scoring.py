import shutil

import numpy as np
import pytest
import torch
from shop import ITEMS, example
from transformers import MistralConfig, MistralForCausalLM

from taiji.data.item_text import item_text
from taiji.errors import DivergenceError
from taiji.language import scoring
from taiji.language.prompt import ChatScaffold
from taiji.language.scoring import ModelScorer, Question, compiled_scorer
from taiji.language.tree import refuses_tree_mask
from taiji.reasoning.evidence import write_chains
from taiji.reasoning.prompts import student_prompt
from taiji.templates import ENGLISH


@pytest.fixture
def task(smollm2_tokenizer):
    scaffold = ChatScaffold(smollm2_tokenizer)
    row = example((3, 2, 0.99), (0, 9), (5, 20))
    chains = [*write_chains(row, ITEMS[8], 3), ""]
    branches = [scaffold.completion_ids(chain, item_text(ITEMS[8])) for chain in chains]
    return scaffold.prompt_ids(student_prompt(row, ENGLISH)), branches


def score_branches(model, prompt_ids, branches):
    return ModelScorer(model).score([Question(prompt_ids, branches)])[0]


def naive(model, prompt_ids, branch):
    """One row, all logits, log-softmax everywhere."""
    ids = torch.tensor([[*prompt_ids, *branch.ids]])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
    first = len(prompt_ids) + branch.answer_start
    stop = len(prompt_ids) + branch.answer_stop
    return np.array([logprobs[t - 1, ids[0, t]].item() for t in range(first, stop)])


def test_packed_scores_equal_the_naive_ones(tiny_model, task):
    prompt_ids, branches = task
    scores = score_branches(tiny_model, prompt_ids, branches)
    for score, branch in zip(scores, branches, strict=True):
        np.testing.assert_allclose(score, naive(tiny_model, prompt_ids, branch), atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
def test_a_compiled_scorer_says_the_same_and_compiles_no_more(tiny_model, task):
    prompt_ids, branches = task
    asked = [Question(prompt_ids[:length], branches) for length in (200, 150, 90, 40)]
    expected = [score for one in asked for score in ModelScorer(tiny_model).score([one])[0]]
    torch.compiler.reset()
    scorer = compiled_scorer(tiny_model)
    with torch.compiler.set_stance("fail_on_recompile"):
        alone = [score for one in asked for score in scorer.score([one])[0]]
        together = [score for scores in scorer.score(asked) for score in scores]
    assert len(expected) == 4 * len(branches)
    for one, *others in zip(expected, alone, together, strict=True):
        for other in others:
            np.testing.assert_allclose(other, one, atol=1e-5)
    blocks = tiny_model.model.layers
    assert all(block._compiled_call_impl is not None for block in blocks)


def test_chains_of_different_length_give_different_scores(tiny_model, task):
    scores = score_branches(tiny_model, *task)
    assert len({round(score.sum(), 6) for score in scores}) == len(scores)


def test_a_model_with_a_sliding_window_is_scored_one_by_one(smollm2_tokenizer, task):
    torch.manual_seed(3)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(smollm2_tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            sliding_window=16,
            attn_implementation="sdpa",
        )
    ).eval()
    prompt_ids, branches = task
    assert refuses_tree_mask(model) == "its attention slides a window"
    for score, branch in zip(score_branches(model, prompt_ids, branches), branches, strict=True):
        np.testing.assert_allclose(score, naive(model, prompt_ids, branch), atol=1e-5)


def test_a_plain_llama_takes_a_tree_mask(tiny_model):
    assert refuses_tree_mask(tiny_model) is None


def test_the_context_never_holds_the_answer(smollm2_tokenizer, task):
    prompt_ids, branches = task
    for branch in branches:
        context = smollm2_tokenizer.decode([*prompt_ids, *branch.ids[: branch.answer_start]])
        assert ITEMS[8]["title"] not in context
        answer = smollm2_tokenizer.decode(branch.ids[branch.answer_start : branch.answer_stop])
        assert answer == item_text(ITEMS[8])


def test_what_follows_the_answer_does_not_matter(tiny_model, task):
    prompt_ids, (branch, *_) = task
    longer = type(branch)([*branch.ids, 5, 6, 7], branch.answer_start, branch.answer_stop)
    first, second = score_branches(tiny_model, prompt_ids, [branch, longer])
    np.testing.assert_allclose(first, second, atol=1e-5)


def test_a_broken_model_is_reported(tiny_model, task):
    with torch.no_grad():
        tiny_model.get_output_embeddings().weight[7] = float("nan")
    with pytest.raises(DivergenceError, match="not finite"):
        score_branches(tiny_model, *task)


def test_in_double_precision_packed_scores_are_the_naive_ones(tiny_model, task):
    model = tiny_model.double()
    prompt_ids, branches = task
    scores = score_branches(model, prompt_ids, branches)
    for score, branch in zip(scores, branches, strict=True):
        np.testing.assert_allclose(score, naive(model, prompt_ids, branch), rtol=0, atol=1e-10)


def test_branches_that_begin_alike_share_their_beginning(tiny_model, task):
    prompt_ids, (branch, other, *_) = task
    seen = []
    tiny_model.get_decoder().register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    twice = score_branches(tiny_model, prompt_ids, [branch, branch])
    np.testing.assert_allclose(twice[0], twice[1], atol=1e-6)
    num_answer = branch.answer_stop - branch.answer_start
    assert seen == [len(prompt_ids) + branch.answer_start + 2 * num_answer]
    np.testing.assert_allclose(twice[0], naive(tiny_model, prompt_ids, branch), atol=1e-5)
    score_branches(tiny_model, prompt_ids, [branch, other])
    assert seen[-1] < len(prompt_ids) + branch.answer_stop + other.answer_stop


@pytest.mark.parametrize("limit", [100, 900, 10**6])
def test_batches_of_questions_change_nothing_but_the_order_of_work(
    tiny_model, task, limit, monkeypatch
):
    monkeypatch.setattr(scoring, "_BATCH_TOKENS", limit)
    prompt_ids, branches = task
    asked = [
        Question(prompt_ids, branches[:2]),
        Question(prompt_ids[:40], branches[1:]),
        Question(prompt_ids[:90], branches[:1]),
    ]
    told = []
    scores = ModelScorer(tiny_model).score(asked, lambda *done: told.append(done))
    for question, group in zip(asked, scores, strict=True):
        for score, branch in zip(group, question.branches, strict=True):
            expected = naive(tiny_model, question.prompt_ids, branch)
            np.testing.assert_allclose(score, expected, atol=1e-5)
    assert told[-1] == (3, 3)
    assert len(told) == {100: 3, 10**6: 1}.get(limit, len(told))


def test_a_model_that_caps_its_logits_is_scored_one_by_one(tiny_model, task):
    tiny_model.config.final_logit_softcapping = 30.0
    prompt_ids, branches = task
    assert not ModelScorer(tiny_model)._packs
    for score, branch in zip(score_branches(tiny_model, *task), branches, strict=True):
        np.testing.assert_allclose(score, naive(tiny_model, prompt_ids, branch), atol=1e-5)
