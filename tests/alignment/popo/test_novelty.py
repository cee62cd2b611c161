import pytest
import torch
from rule_toy import rule

from taiji.alignment.popo import state
from taiji.alignment.popo.novelty import Noise, Novelty, NoveltySettings, bonus_of
from taiji.errors import ConfigError, DataError

SETTINGS = NoveltySettings(prompt_tokens=2, completion_tokens=4)
NO_WINNER_PG = torch.zeros(2, 4)


def rollouts(seed, length=4):
    generator = torch.Generator().manual_seed(seed)
    completion_ids = torch.randint(50, (8, length), generator=generator)
    prompt_ids = torch.randint(50, (8, 3), generator=generator)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": completion_ids,
        "completion_mask": torch.ones_like(completion_ids),
    }


def test_the_bonus_by_hand():
    # e from 0 to 4 is 0, .25, .5, 1 of the way; half of it, and after 10 generations 40/50 of that.
    error_B = torch.tensor([0.0, 1.0, 2.0, 4.0])
    everybody = bonus_of(error_B, torch.zeros(2, 2), 10, losers_only=False)
    assert everybody.tolist() == [[0, pytest.approx(0.1)], [pytest.approx(0.2), pytest.approx(0.4)]]
    # Above the median of its group is only the second rollout; where all are alike nobody is.
    mixed_PG = torch.tensor([[0.0, 1.0], [1.0, 1.0]])
    losers = bonus_of(error_B, mixed_PG, 10, losers_only=True)
    assert losers.tolist() == [[0, 0], [pytest.approx(0.2), pytest.approx(0.4)]]


def test_rollouts_that_are_all_alike_are_no_news():
    assert bonus_of(torch.ones(8), NO_WINNER_PG, 0, losers_only=False).tolist() == [[0] * 4] * 2


def test_a_rollout_without_any_reward_is_no_winner():
    mixed_PG = torch.tensor([[0.0, 1.0, torch.nan]])
    bonus = bonus_of(torch.tensor([0.0, 1.0, 2.0]), mixed_PG, 0, losers_only=True)
    assert bonus.tolist() == [[0, 0, pytest.approx(0.5)]]


def test_what_was_seen_often_is_no_news():
    novelty, seen = Novelty(50, SETTINGS), rollouts(1)
    before = novelty.errors(seen).mean().item()
    for step in range(100):
        novelty(seen, NO_WINNER_PG, step)
    assert novelty.errors(seen).mean().item() < 0.5 * before


def test_what_stands_behind_the_mask_does_not_count():
    novelty = Novelty(50, SETTINGS)
    one, other = rollouts(1), rollouts(1)
    for tokens in (one, other):
        tokens["completion_mask"][:, 2:] = 0
    other["completion_ids"][:, 2:] = 49 - other["completion_ids"][:, 2:]
    assert torch.equal(novelty.errors(one), novelty.errors(other))


def test_shorter_rollouts_are_padded():
    assert Novelty(50, SETTINGS).errors(rollouts(1, length=2)).shape == (8,)


@pytest.mark.parametrize("frozen", [True, False])
def test_the_embedding_is_frozen_or_learns(frozen):
    novelty = Novelty(50, NoveltySettings(2, 4, frozen=frozen))
    before = novelty.embedding.weight.clone()
    target = novelty.target[0].weight.clone()
    novelty(rollouts(1), NO_WINNER_PG, 0)
    assert torch.equal(novelty.embedding.weight, before) == frozen
    assert torch.equal(novelty.target[0].weight, target)


@pytest.mark.parametrize("build", [lambda: Novelty(50, SETTINGS), lambda: Noise(True, 3)])
def test_a_bonus_goes_on_from_its_state(build):
    through, killed = build(), build()
    for step in range(2):
        assert torch.equal(
            through(rollouts(step), NO_WINNER_PG, step), killed(rollouts(step), NO_WINNER_PG, step)
        )
    resumed = build()
    resumed.load_state_dict({name: value.clone() for name, value in killed.state_dict().items()})
    for step in (2, 3):
        assert torch.equal(
            through(rollouts(step), NO_WINNER_PG, step), resumed(rollouts(step), NO_WINNER_PG, step)
        )


def test_weights_come_of_the_seed_alone():
    one, other = Novelty(50, SETTINGS), Novelty(50, SETTINGS)
    torch.manual_seed(1)
    assert torch.equal(one.errors(rollouts(0)), other.errors(rollouts(0)))


def test_a_checkpoint_brings_a_bonus_back(tmp_path):
    through, resumed = Novelty(50, SETTINGS), Novelty(50, SETTINGS)
    through(rollouts(0), NO_WINNER_PG, 0)
    state.save(tmp_path, rule(), through)
    state.load(tmp_path, rule(), resumed)
    again = resumed(rollouts(1), NO_WINNER_PG, 1)
    assert torch.equal(through(rollouts(1), NO_WINNER_PG, 1), again)


def test_a_checkpoint_of_another_bonus_or_none_is_refused(tmp_path):
    state.save(tmp_path, rule())
    with pytest.raises(ConfigError, match="without a bonus"):
        state.load(tmp_path, rule(), Novelty(50, SETTINGS))
    state.save(tmp_path, rule(), Noise(True, 3))
    with pytest.raises(DataError, match="another bonus"):
        state.load(tmp_path, rule(), Novelty(50, SETTINGS))
