"""What a step of alignment says about its rollouts, beside what TRL logs.

Shape suffixes: P prompts, I items.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields

import numpy as np

from taiji.alignment.rewards.grounding import RUNGS, Grounded
from taiji.alignment.rewards.hacking import answer_shares, mean_over
from taiji.alignment.rewards.lists import ListReward, list_reward
from taiji.alignment.rewards.preference import PreferenceReward
from taiji.alignment.rewards.reward import Reward, Rollout
from taiji.language.completions import Form, check_form
from taiji.ranking.admission import constant_reward

NUM_CONSTANTS = 8  # of the pool, and as many of the step's own answers


@dataclass(frozen=True)
class Diagnosis:
    """Figures of a step's rollouts.

    Attributes:
        preference: Prices constant answers, if anything can.
        constants: Items of the pool that promise most as an answer to everybody.
        popularity: Percentile of each item by how often it was sold.
        targets: The true item of each example.
        num_answers: How many items a rollout is asked for.
        of_lists: What a list of several earns.
        watchers: Who pays nothing and has an opinion of each rollout, by the reward it watches.
    """

    preference: PreferenceReward | None
    constants: Sequence[str]
    popularity: Mapping[str, float]
    targets: Mapping[str, str]
    num_answers: int = 1
    of_lists: ListReward = "best"
    watchers: Mapping[str, Reward] = field(default_factory=dict)

    def figures(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Figures by the name that they have in metrics.jsonl."""
        num = len(rollouts)
        figures = {
            "ok_share": sum(r.status == "ok" for r in rollouts) / num,
            "grounded_share": sum(r.grounded_item_id is not None for r in rollouts) / num,
        }
        for rung in RUNGS:
            figures[f"rung/{rung}"] = sum(r.rung == rung for r in rollouts) / num
        forms = [astuple(check_form(r.completion, self.num_answers)) for r in rollouts]
        met = np.array(forms).mean(axis=0)
        for part, share in zip(fields(Form), met.tolist(), strict=True):
            figures[f"format/{part.name}"] = share
        for name, watcher in self.watchers.items():
            seen = [value for value in watcher(rollouts) if value is not None]
            figures[f"hacking/second_{name}"] = sum(seen) / max(len(seen), 1)
        return figures | self._hacking(rollouts)

    def _hacking(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        answered = [rollout.grounded_item_id for rollout in rollouts]
        shares = answer_shares(answered)
        figures: dict[str, float | None] = {
            "top_answer_share": shares[0][1] if shares else 0.0,
            "distinct_answers": len(shares),
            "popularity": mean_over(answered, self.popularity),
            "target_popularity": mean_over(
                [self.targets[rollout.example_id] for rollout in rollouts], self.popularity
            ),
            "constant_reward": self._constant(rollouts, [item for item, _ in shares]),
        }
        earned = np.mean([r.preference or 0.0 for r in rollouts])
        constant = figures["constant_reward"]
        if constant is not None and earned > 0:
            figures["constant_over_earned"] = float(constant / earned)
        return {f"hacking/{name}": value for name, value in figures.items() if value is not None}

    def _constant(self, rollouts: Sequence[Rollout], answered: Sequence[str]) -> float | None:
        """What the best of some constant answers would have earned on these prompts."""
        items = list(dict.fromkeys([*self.constants, *answered[:NUM_CONSTANTS]]))
        if self.preference is None or not items:
            return None
        prompts = list(dict.fromkeys(rollout.example_id for rollout in rollouts))
        pairs = [(prompt, item) for prompt in prompts for item in items]
        grounded = [Grounded((item,), (1.0,), "exact", 1.0) for _, item in pairs]
        rewards_M = self.preference.reward([prompt for prompt, _ in pairs], grounded)
        rewards_PI = rewards_M.reshape(len(prompts), len(items))
        if self.num_answers == 1:
            return constant_reward(rewards_PI)
        best_K = (-rewards_PI.mean(axis=0)).argsort(kind="stable")[: self.num_answers]
        listed = [
            list_reward(row, self.num_answers, self.of_lists) for row in rewards_PI[:, best_K]
        ]
        return float(np.mean(listed))
