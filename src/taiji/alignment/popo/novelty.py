"""Novelty of whole rollouts as a bonus: i-MENTOR (arXiv 2505.17621), and its noise control.

    e = (target(x) - predictor(x))^2,  x = embedded prompt and completion, laid end to end
    b = 1/2 (e - min e) / (max e - min e) * 40 / (40 + t)       over the generation
    A = A + b * 1[the rollout is no winner of its group]

The predictor learns from every generation what the target, a random network, says of it: what it
has seen often is no news. Two differences, both ours: embedding and target are frozen (in the
released code a trained embedding moves the target too; `frozen=False` is that), and "wrong", which
a recommender does not know, is "mixed reward not above the group's median".

Shape suffixes: P prompts, G rollouts per prompt, B = P * G, L tokens, D dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

_DIMENSIONS, _HIDDEN = 16, (16, 8)
_MOST = 0.5
_HALF_LIFE = 40
_RATE = 1e-3


@dataclass(frozen=True)
class NoveltySettings:
    """What is paid as a bonus, and to whom.

    Attributes:
        prompt_tokens: How many of a prompt's tokens are looked at, the last ones.
        completion_tokens: How many of a completion's, the first ones.
        losers_only: Pay only rollouts whose mixed reward is not above their group's median, which
            are all where all earn the same.
        frozen: Whether the embedding stays as it was drawn.
        seed: Of the networks' weights.
    """

    prompt_tokens: int
    completion_tokens: int
    losers_only: bool = True
    frozen: bool = True
    seed: int = 0


class Novelty(nn.Module):
    """Random network distillation on rollouts; a `Bonus`.

    Args:
        num_tokens: Size of the vocabulary.
        settings: Of the bonus.
    """

    generations: torch.Tensor

    def __init__(self, num_tokens: int, settings: NoveltySettings) -> None:
        super().__init__()
        self._settings = settings
        length = settings.prompt_tokens + settings.completion_tokens
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.embedding = nn.Embedding(num_tokens, _DIMENSIONS)
            self.target = _network(length * _DIMENSIONS)
            self.predictor = _network(length * _DIMENSIONS)
        self.target.requires_grad_(False)
        self.embedding.requires_grad_(not settings.frozen)
        learns = [parameter for parameter in self.parameters() if parameter.requires_grad]
        self._optimizer = torch.optim.AdamW(learns, lr=_RATE)
        self.register_buffer("generations", torch.zeros((), dtype=torch.int64))

    def forward(
        self, tokens: Mapping[str, torch.Tensor], mixed_PG: torch.Tensor, step: int
    ) -> torch.Tensor:
        """See `Bonus`; learns from the rollouts after it has judged them."""
        with torch.enable_grad():
            error_B = self.errors(tokens)
            self._optimizer.zero_grad(set_to_none=True)
            error_B.mean().backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
        seen = int(self.generations.item())
        self.generations += 1
        error_B = error_B.detach().to(mixed_PG.device)
        return bonus_of(error_B, mixed_PG, seen, self._settings.losers_only)

    def errors(self, tokens: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """e of each rollout, B."""
        settings = self._settings
        prompt_BL = _last(tokens["prompt_ids"], settings.prompt_tokens)
        prompt_mask_BL = _last(tokens["prompt_mask"], settings.prompt_tokens)
        completion_BL = _first(tokens["completion_ids"], settings.completion_tokens)
        completion_mask_BL = _first(tokens["completion_mask"], settings.completion_tokens)
        ids_BL = torch.cat([prompt_BL, completion_BL], dim=1).cpu()  # small enough for it
        mask_BL = torch.cat([prompt_mask_BL, completion_mask_BL], dim=1).cpu()
        x_BLD = self.embedding(ids_BL) * mask_BL[:, :, None]
        x_BD = x_BLD.flatten(1)
        x_BD = nn.functional.batch_norm(x_BD, None, None, training=True)
        difference_B1: torch.Tensor = self.target(x_BD) - self.predictor(x_BD)
        return difference_B1.square().squeeze(1)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, torch.Tensor]:  # type: ignore[override]
        """Weights, and what the optimiser remembers of them."""
        state: dict[str, torch.Tensor] = super().state_dict()
        for number, kept in self._optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{number}.{name}": value for name, value in kept.items()}
        return state

    def load_state_dict(self, state: Mapping[str, torch.Tensor], *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """The inverse of `state_dict`."""
        own = {name: value for name, value in state.items() if not name.startswith("optimizer.")}
        super().load_state_dict(own)
        optimizer = self._optimizer.state_dict()
        for name in state.keys() - own.keys():
            number, entry = name.split(".")[1:]
            optimizer["state"].setdefault(int(number), {})[entry] = state[name]
        self._optimizer.load_state_dict(optimizer)


class Noise:
    """The control: Gaussian noise in the place of e, scaled, decayed and paid alike; a `Bonus`."""

    def __init__(self, losers_only: bool, seed: int) -> None:
        self._losers_only, self._seed = losers_only, seed
        self._generations = 0

    def __call__(
        self, tokens: Mapping[str, torch.Tensor], mixed_PG: torch.Tensor, step: int
    ) -> torch.Tensor:
        """See `Bonus`."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + step)
        error_B = torch.randn(mixed_PG.numel(), generator=generator).to(mixed_PG.device)
        self._generations += 1
        return bonus_of(error_B, mixed_PG, self._generations - 1, self._losers_only)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """How many generations there were."""
        return {"generations": torch.tensor(self._generations)}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """The inverse of `state_dict`."""
        self._generations = int(state["generations"].item())


def bonus_of(
    error_B: torch.Tensor, mixed_PG: torch.Tensor, seen: int, losers_only: bool
) -> torch.Tensor:
    """b = 1/2 (e - min e) / (max e - min e) * 40 / (40 + t), P x G.

    Args:
        error_B: e.
        mixed_PG: Mixed rewards; NaN is no winner.
        seen: t, generations before this one.
        losers_only: Pay none that is above its group's median.
    """
    least, spread = error_B.min(), error_B.max() - error_B.min()
    scaled_B = torch.zeros_like(error_B) if spread == 0 else (error_B - least) / spread
    bonus_PG = _MOST * scaled_B.view(mixed_PG.shape) * _HALF_LIFE / (_HALF_LIFE + seen)
    if not losers_only:
        return bonus_PG
    median_P1 = mixed_PG.nanquantile(0.5, dim=1, keepdim=True)
    return torch.where(mixed_PG > median_P1, torch.zeros_like(bonus_PG), bonus_PG)


def _network(inputs: int) -> nn.Sequential:
    first, second = _HIDDEN
    return nn.Sequential(
        nn.Linear(inputs, first),
        nn.LeakyReLU(),
        nn.Linear(first, second),
        nn.LeakyReLU(),
        nn.Linear(second, 1),
        nn.Sigmoid(),
    )


def _last(values_BL: torch.Tensor, length: int) -> torch.Tensor:
    """The last columns, with zeros before them where there are fewer; prompts end on the right."""
    kept_BL = values_BL[:, -length:] if length else values_BL[:, :0]
    return nn.functional.pad(kept_BL, (length - kept_BL.shape[1], 0))


def _first(values_BL: torch.Tensor, length: int) -> torch.Tensor:
    kept_BL = values_BL[:, :length]
    return nn.functional.pad(kept_BL, (0, length - kept_BL.shape[1]))
