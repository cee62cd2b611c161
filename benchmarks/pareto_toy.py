"""A policy with two rewards whose Pareto front is known, trained by GRPO; for `pareto.py`.

The product supplies advantages and weights; here are the rewards, the gradients of a Gaussian
policy, and the loop. All runs of all seeds are trained at once.

Shape suffixes: R runs (B starts of each of S seeds), P prompts, G rollouts per prompt, N all
rollouts, K rewards, D dimensions of an action.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from taiji.alignment.popo.advantages import AdvantageRule
from taiji.alignment.popo.weight_rule import WeightRule
from taiji.rule_settings import RuleSettings

Array = NDArray[np.float64]

PROMPTS, GROUP, DIMENSIONS, SPREAD = 8, 8, 8, 0.25
STEPS, STARTS = 100, 11  # one start for each weight of the sweep
ON_REWARDS, ON_ADVANTAGES = "sum_then_normalize", "normalize_then_sum"


@dataclass(frozen=True)
class Problem:
    """Two rewards, centred at -d and d in the first dimension.

    Attributes:
        right_scale: Factor on the second reward; undone where results are measured.
        noise: Add a third reward, of pure noise.
        scale: TRL's `scale_rewards`.
    """

    half_distance: float
    right_scale: float = 1.0
    noise: bool = False
    scale: str = "group"

    @property
    def names(self) -> list[str]:
        return ["left", "right", "noise"] if self.noise else ["left", "right"]

    @property
    def extremes(self) -> dict[str, dict[str, float]]:
        """The most of each mean reward, and what is left of it at the other's centre.

        Of noise nobody knows that its mean cannot move.
        """
        far, factor = math.exp(-4 * self.half_distance**2), (1 - 2 * SPREAD**2) ** (DIMENSIONS / 2)
        ideal = {"left": factor, "right": factor * self.right_scale, "noise": 1.0}
        worst = {"left": far * ideal["left"], "right": far * ideal["right"], "noise": 0.0}
        return {
            name: {k: of[k] for k in self.names}
            for name, of in (("ideal", ideal), ("worst", worst))
        }


@dataclass(frozen=True)
class Method:
    """A rule, what it acts on, and at which learning rate.

    Attributes:
        given: What a rule of trade-offs is told of the problem: ideal and worst of each reward.
        mirror: Step size of `MirrorDescent`, which then stands in the place of the rule.
        left: w(0) of the first reward, that of the second being 1 - left; None = uniform.
        sweep: w(0), or what is asked for, 0, .1 to 1 of the first reward, one for each start.
        flipped: Feed the rule I with its sign turned, as a control.
    """

    rule: RuleSettings
    aggregation: str = ON_REWARDS
    learning_rate: float = 0.04
    left: float | None = None
    sweep: bool = False
    flipped: bool = False
    given: tuple[str, ...] = ()
    mirror: float | None = None


class MirrorDescent:
    """OMD-TCH (Liu et al., TMLR 2026, arXiv 2410.21764), a peer of the rule `tchebycheff`.

    The player of the largest gap keeps weights of its own and moves them by exponentiated
    gradient, theta_k ~ theta_k exp(eta lambda_k gap_k / range_k); the policy climbs along
    theta_k lambda_k / range_k. Gaps are of one batch, and what is returned is the last policy, as
    for all rules here, and not an average of policies.
    """

    def __init__(self, asked_K: Array, ideal_K: Array, range_K: Array, eta: float) -> None:
        self._asked_K, self._ideal_K, self._eta = asked_K / range_K, ideal_K, eta
        self._logits_K = np.zeros(len(asked_K))

    def step_on_rewards(self, rewards_PGK: Array) -> None:
        gap_K = self._ideal_K - rewards_PGK.mean((0, 1))
        self._logits_K += self._eta * self._asked_K * gap_K
        self._logits_K -= self._logits_K.max()

    @property
    def weights_K(self) -> Array:
        weights_K = np.exp(self._logits_K) * self._asked_K
        return weights_K / weights_K.sum()


@dataclass(frozen=True)
class Outcome:
    """What training ended with.

    Attributes:
        means_SBD: Means of the policies.
        weights_SBK: Weights of the rewards.
        lengths_SB: sum_k |g_k|^2 of one more batch.
        signals_SB: The part of it that is not noise, estimated.
    """

    means_SBD: Array
    weights_SBK: Array
    lengths_SB: Array
    signals_SB: Array


def starts(problem: Problem, generator: torch.Generator) -> torch.Tensor:
    """Along the line between the centres uniformly, and off it in all other dimensions."""
    means_BD = 0.3 * torch.randn(STARTS, DIMENSIONS, generator=generator)
    along_B = 2 * torch.rand(STARTS, generator=generator) - 1
    means_BD[:, 0] = problem.half_distance * along_B
    return means_BD


def rewards(problem: Problem, actions_RPGD: torch.Tensor, noise_RPG: torch.Tensor) -> torch.Tensor:
    """R x P x G x K; the mean over the policy is exp(-|mean - centre|^2) up to a factor."""
    sharpness = 1 / (1 - 2 * SPREAD**2)  # makes up for the spread of the policy
    off_RPG = actions_RPGD[..., 1:].square().sum(-1)
    rewards_KRPG = [
        torch.exp(-sharpness * ((actions_RPGD[..., 0] - centre).square() + off_RPG))
        for centre in (-problem.half_distance, problem.half_distance)
    ]
    rewards_KRPG[1] = problem.right_scale * rewards_KRPG[1]
    if problem.noise:
        rewards_KRPG.append(0.5 + 0.2 * noise_RPG)
    return torch.stack(rewards_KRPG, dim=-1)


def advantages(
    rule: AdvantageRule, rewards_RPGK: torch.Tensor, weights_RK: torch.Tensor
) -> torch.Tensor:
    """All runs in one call of the product's rule.

    GDPO normalises over the batch, which here holds all runs; a second call normalises each run
    by itself. Except for TRL's epsilon the first then has no effect.
    """
    runs, prompts, group, _ = rewards_RPGK.shape
    weights_NK = weights_RK.repeat_interleave(prompts * group, dim=0)
    advantages_N, _ = rule.combined(rewards_RPGK.flatten(0, 2), weights_NK)
    if rule.aggregation == ON_ADVANTAGES:
        batch = AdvantageRule(prompts * group, "group", "sum_then_normalize")
        advantages_N, _ = batch.combined(advantages_N[:, None], torch.ones(1))
    return advantages_N.view(runs, prompts, group)


def inner_products(
    rule: AdvantageRule, rewards_RPGK: torch.Tensor, noise_RPGD: torch.Tensor
) -> tuple[Array, Array]:
    """<g_i, g_j> of each run, and their estimate without products of a group with itself."""
    one_R1 = torch.ones(len(rewards_RPGK), 1)
    alone_RPGK = torch.stack(
        [advantages(rule, column[..., None], one_R1) for column in rewards_RPGK.unbind(-1)], dim=-1
    )
    parts_RPKD = torch.einsum("rpgk,rpgd->rpkd", alone_RPGK, noise_RPGD).double()
    parts_RPKD /= SPREAD * GROUP * PROMPTS
    gram_RKK = parts_RPKD.sum(1) @ parts_RPKD.sum(1).mT
    blocks_RKK = (parts_RPKD @ parts_RPKD.mT).sum(1)
    unbiased_RKK = (gram_RKK - blocks_RKK) * PROMPTS / (PROMPTS - 1)
    return gram_RKK.numpy(), unbiased_RKK.numpy()


def move(
    method: Method,
    rules: list[WeightRule | MirrorDescent],
    rewards_RPGK: torch.Tensor,
    advantage_rule: AdvantageRule,
    noise_RPGD: torch.Tensor,
) -> None:
    """Let each run's rule take its step, on what this batch shows."""
    if method.rule.rule == "fixed" and method.mirror is None:
        return
    if method.mirror is not None or not method.rule.needs_gradients:
        for rule, rewards_PGK in zip(rules, rewards_RPGK.double().numpy(), strict=True):
            rule.step_on_rewards(rewards_PGK)
        return
    gram_RKK, unbiased_RKK = inner_products(advantage_rule, rewards_RPGK, noise_RPGD)
    if method.flipped:  # `popo_split` takes I from its second argument
        unbiased_RKK = -gram_RKK
    for rule, gram_KK, unbiased_KK in zip(rules, gram_RKK, unbiased_RKK, strict=True):
        rule.step_on_gradients(gram_KK, unbiased_KK)


def weight_rules(method: Method, problem: Problem) -> list[WeightRule | MirrorDescent]:
    """A rule for each start of a seed."""
    settings = replace(method.rule, rule="popo_split") if method.flipped else method.rule
    settings = replace(settings, **{name: problem.extremes[name] for name in method.given})
    lefts: list[float | None] = [method.left] * STARTS
    if method.sweep:
        lefts = np.linspace(0, 1, STARTS).tolist()
    asked = [None if left is None else np.array([left, 1 - left]) for left in lefts]
    if method.mirror is None:
        return [WeightRule(settings, problem.names, asked_K) for asked_K in asked]
    ideal_K, worst_K = (np.array(list(of.values())) for of in problem.extremes.values())
    uniform_K = np.ones(len(ideal_K)) / len(ideal_K)
    return [
        MirrorDescent(
            uniform_K if asked_K is None else asked_K, ideal_K, ideal_K - worst_K, method.mirror
        )
        for asked_K in asked
    ]


def rollouts(
    problem: Problem, means_RD: torch.Tensor, generators: list[torch.Generator]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised actions, R x P x G x D, and their rewards, R x P x G x K."""
    # One draw more than there are dimensions, for the reward of noise.
    shape = STARTS, PROMPTS, GROUP, DIMENSIONS + 1
    drawn = torch.cat([torch.randn(shape, generator=generator) for generator in generators])
    noise_RPGD = drawn[..., :DIMENSIONS]
    actions_RPGD = means_RD.detach()[:, None, None] + SPREAD * noise_RPGD
    return noise_RPGD, rewards(problem, actions_RPGD, drawn[..., DIMENSIONS])


def train(method: Method, problem: Problem, seeds: range) -> Outcome:
    """Train from every start of every seed."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    means_RD = torch.cat([starts(problem, g) for g in generators]).requires_grad_()
    optimiser = torch.optim.Adam([means_RD], lr=method.learning_rate)
    rules = [rule for _ in seeds for rule in weight_rules(method, problem)]
    advantage_rule = AdvantageRule(GROUP, problem.scale, method.aggregation)
    for step in range(STEPS):
        noise_RPGD, rewards_RPGK = rollouts(problem, means_RD, generators)
        move(method, rules, rewards_RPGK, advantage_rule, noise_RPGD)
        weights_RK = torch.tensor(np.array([r.weights_K for r in rules]), dtype=torch.float32)
        advantages_RPG = advantages(advantage_rule, rewards_RPGK, weights_RK)
        gradient_RD = torch.einsum("rpg,rpgd->rd", advantages_RPG, noise_RPGD)
        means_RD.grad = -gradient_RD / (SPREAD * PROMPTS * GROUP)
        optimiser.param_groups[0]["lr"] = method.learning_rate * (1 - step / STEPS)
        optimiser.step()
    noise_RPGD, rewards_RPGK = rollouts(problem, means_RD, generators)
    products = inner_products(advantage_rule, rewards_RPGK, noise_RPGD)
    shape = len(seeds), STARTS, -1
    return Outcome(
        means_RD.detach().double().numpy().reshape(shape),
        np.array([rule.weights_K for rule in rules]).reshape(shape),
        *(np.trace(gram_RKK, axis1=1, axis2=2).reshape(shape[:2]) for gram_RKK in products),
    )
