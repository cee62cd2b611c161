import random

import pytest
import torch

from taiji.errors import DivergenceError, EngineError
from taiji.language.generate import Reply, Sampling, TransformersGenerator
from taiji.language.prompt import ChatScaffold, Prompt, Segment

GREEDY = Sampling(max_new_tokens=6, temperature=0.0, seed=3)
WARM = Sampling(max_new_tokens=6, temperature=1.0, seed=3)
PROMPTS = [Prompt("Be brief.", (Segment("milk " * words),)) for words in (1, 30, 4, 12, 4, 50, 2)]


@pytest.fixture
def tiny_model(tiny_model):
    # At the usual initialisation attention hardly matters and sampling is nearly uniform, so
    # that a wrong mask or position would go unnoticed: turn both up.
    with torch.no_grad():
        for name, parameter in tiny_model.named_parameters():
            if "self_attn" in name:
                parameter.mul_(10)
        tiny_model.model.norm.weight.mul_(30)
    return tiny_model


@pytest.fixture
def generator(tiny_model, smollm2_tokenizer):
    return TransformersGenerator(tiny_model, smollm2_tokenizer, "tiny", batch_size=4)


def test_greedy_is_the_likeliest_token_each_time(tiny_model, smollm2_tokenizer, generator):
    ids = ChatScaffold(smollm2_tokenizer).prompt_ids(PROMPTS[1])
    written = []
    for _ in range(GREEDY.max_new_tokens):
        with torch.inference_mode():
            logits = tiny_model(input_ids=torch.tensor([ids + written])).logits[0, -1]
        written.append(int(logits.argmax()))
    text = smollm2_tokenizer.decode(written, skip_special_tokens=True)
    assert generator.generate(PROMPTS[1:2], 1, GREEDY) == [[Reply(text, "truncated", 6)]]


@pytest.mark.parametrize("sampling", [GREEDY, WARM])
def test_neither_padding_nor_company_nor_order_changes_a_reply(
    tiny_model, smollm2_tokenizer, generator, sampling
):
    together = generator.generate(PROMPTS, 1, sampling)
    alone = [generator.generate([prompt], 1, sampling)[0] for prompt in PROMPTS]
    assert together == alone
    assert generator.generate(PROMPTS[::-1], 1, sampling) == together[::-1]
    # two shards, the second without the first, in batches of another size
    other = TransformersGenerator(tiny_model, smollm2_tokenizer, "tiny", batch_size=3)
    assert other.generate(PROMPTS[3:], 1, sampling) == together[3:]


def test_more_replies_keep_the_first_ones(generator):
    one = generator.generate(PROMPTS[:3], 1, WARM)
    three = generator.generate(PROMPTS[:3], 3, WARM)
    assert [row[:1] for row in three] == one
    assert all(len(set(row)) == 3 for row in three)  # a vocabulary of 49,152: no accidents


def test_greedy_replies_to_one_prompt_are_the_same(generator):
    (row,) = generator.generate(PROMPTS[:1], 3, GREEDY)
    assert len(set(row)) == 1


def test_the_seed_decides_and_the_world_does_not(generator):
    first = generator.generate(PROMPTS[:2], 2, WARM)
    torch.manual_seed(99)
    random.seed(99)
    assert generator.generate(PROMPTS[:2], 2, WARM) == first
    assert generator.generate(PROMPTS[:2], 2, Sampling(6, 1.0, seed=4)) != first


def test_sampling_follows_the_softmax(tiny_model, smollm2_tokenizer):
    # Two tokens share all the mass: logits ln 3 and 0 at temperature 0.5 give 9 : 1.
    class TwoTokens(torch.nn.Module):
        def forward(self, x):
            out = torch.full((*x.shape[:-1], 49152), -1e9)
            out[..., 100], out[..., 101] = 1.0986123, 0.0
            return out

    tiny_model.lm_head = TwoTokens()
    generator = TransformersGenerator(tiny_model, smollm2_tokenizer, "two", batch_size=100)
    (row,) = generator.generate(PROMPTS[:1], 200, Sampling(5, 0.5, 1))
    first, second = (smollm2_tokenizer.decode([i]) for i in (100, 101))
    text = "".join(reply.text for reply in row)
    assert len(text) == 1000
    assert set(text) == {first, second}
    # 900 expected of 1000, standard deviation 9.5: within 4
    assert 862 <= text.count(first) <= 938


class Scripted(torch.nn.Module):
    """A head that writes a fixed text, whatever the prompt."""

    def __init__(self, script):
        super().__init__()
        self.script, self.calls = script, 0

    def forward(self, x):
        out = torch.zeros((*x.shape[:-1], 49152))
        out[..., self.script[self.calls % len(self.script)]] = 9.0
        self.calls += 1
        return out


@pytest.mark.parametrize(
    ("words", "status", "text", "num_tokens"),
    [
        ("yes<|im_end|>no", "ok", "yes", 2),
        ("yes no yes no yes no yes", "truncated", "yes no yes no yes no", 6),
        (" \n<|im_end|>", "empty", " \n", 2),
        ("<|im_end|>", "empty", "", 1),
    ],
)
def test_how_a_reply_ends(tiny_model, smollm2_tokenizer, words, status, text, num_tokens):
    tiny_model.lm_head = Scripted(smollm2_tokenizer.encode(words))
    generator = TransformersGenerator(tiny_model, smollm2_tokenizer, "scripted")
    assert generator.generate(PROMPTS[:1], 1, GREEDY) == [[Reply(text, status, num_tokens)]]


def test_rows_that_end_early_leave_the_others_alone(tiny_model, smollm2_tokenizer, generator):
    open_ended = generator.generate(PROMPTS, 2, WARM)
    # Call the third token of the first reply an end: only texts that hold it get shorter.
    ids = smollm2_tokenizer.encode(open_ended[0][0].text)
    tiny_model.generation_config.eos_token_id = [smollm2_tokenizer.eos_token_id, ids[2]]
    shorter = TransformersGenerator(tiny_model, smollm2_tokenizer, "tiny", batch_size=14)
    ended = [reply for row in shorter.generate(PROMPTS, 2, WARM) for reply in row]
    before = [reply for row in open_ended for reply in row]
    assert ended[0].status == "ok"
    assert ended[0].num_tokens < 6
    untouched = [pair for pair in zip(before, ended, strict=True) if pair[1].status != "ok"]
    assert untouched
    assert all(old == new for old, new in untouched)


def test_the_prefill_opens_the_reply(tiny_model, smollm2_tokenizer):
    tiny_model.lm_head = Scripted(smollm2_tokenizer.encode("why<|im_end|>"))
    generator = TransformersGenerator(tiny_model, smollm2_tokenizer, "scripted")
    prompt = Prompt("Be brief.", (Segment("milk"),), prefill="<think>\n")
    assert generator.generate([prompt], 1, GREEDY)[0][0].text == "<think>\nwhy"


def test_progress_counts_prompts(generator):
    seen = []
    generator.generate(PROMPTS, 2, GREEDY, lambda done, total: seen.append((done, total)))
    assert seen == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_no_prompts_no_replies_and_no_n_is_an_error(generator):
    assert generator.generate([], 1, GREEDY) == []
    with pytest.raises(ValueError, match="at least 1"):
        generator.generate(PROMPTS, 0, GREEDY)


def test_a_prompt_beyond_the_window_is_refused_before_any_work(generator):
    with pytest.raises(EngineError, match="window of 2048"):
        generator.generate(PROMPTS[:1], 1, Sampling(2048, 0.0, 1))


def test_broken_weights_are_noticed(tiny_model, generator):
    with torch.no_grad():
        tiny_model.model.norm.weight.fill_(float("nan"))
    with pytest.raises(DivergenceError, match="tiny"):
        generator.generate(PROMPTS[:1], 1, GREEDY)
