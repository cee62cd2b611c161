"""Per-token log-probabilities of completions, in fewer tokens than rollouts would take.

Two savings, each equal to the long way up to rounding. Rollouts of one prompt share its
computation (`shared_prompts`). And on a CPU the output head sees completion positions alone:
TRL skips the prompt's only where Triton runs.

Shape suffixes: B rollouts, C completion tokens, R rows, T tokens of a row, N real completion
tokens.
"""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction

from taiji.alignment.gradients.shared_prompts import SharedRows, share_prompts
from taiji.alignment.trl_surface import GrpoTrainer
from taiji.language.output_head import has_plain_head
from taiji.language.tree import refuses_tree_mask, tree_mask

logger = logging.getLogger(__name__)

_TILE = 32_768  # columns of the vocabulary at a time, as in TRL


@dataclass(frozen=True)
class Scored:
    """What a forward pass says of B x C completion tokens; 0 where there is padding."""

    logprobs_BC: torch.Tensor
    entropies_BC: torch.Tensor | None


@dataclass(frozen=True)
class Rows:
    """What the model is given, and where the completion tokens lie in it.

    Attributes:
        inputs: Keyword arguments of the model.
        labels_RT: Completion tokens; -100 elsewhere.
        places_BC: Position of each completion token in the flattened R x T.
        there_BC: False for padding.
    """

    inputs: dict[str, torch.Tensor]
    labels_RT: torch.Tensor
    places_BC: torch.Tensor
    there_BC: torch.Tensor

    @property
    def targets_N(self) -> torch.Tensor:
        """The real completion tokens, rollout by rollout."""
        return self.labels_RT.flatten()[self.places_BC[self.there_BC]]

    @property
    def predictors_N(self) -> torch.Tensor:
        """Flat positions of the tokens before them."""
        return self.places_BC[self.there_BC] - 1


def shared_rows(rows: SharedRows, model: PreTrainedModel, there_BC: torch.Tensor) -> Rows:
    """Rows in which neighbours share their prompt."""
    inputs = {
        "input_ids": rows.input_ids_RT,
        "position_ids": rows.position_ids_RT,
        "attention_mask": tree_mask(rows.owners_RT, model),
    }
    return Rows(inputs, rows.labels_RT, rows.places_BC, there_BC)


def plain_rows(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, num_completion_tokens: int
) -> Rows:
    """One row for each rollout, as TRL has them."""
    there_BC = attention_mask[:, -num_completion_tokens:].bool()
    places = torch.arange(input_ids.numel(), device=input_ids.device).view(input_ids.shape)
    return Rows(
        {"input_ids": input_ids, "attention_mask": attention_mask},
        input_ids,
        places[:, -num_completion_tokens:],
        there_BC,
    )


def score_with_own_head(model: Any, rows: Rows, temperature: float) -> Scored:
    """Run the decoder, then the head where completions are, by TRL's own kernel."""
    output = model.get_decoder()(**rows.inputs, use_cache=False)
    head = model.get_output_embeddings()
    logprobs_N, entropies_N, *_ = ChunkedLogProbFunction.apply(
        output.last_hidden_state.flatten(0, 1)[rows.predictors_N],
        head.weight,
        head.bias,
        rows.targets_N,
        temperature,
        _TILE,
        None,  # no soft cap on the logits
        1.0,  # nor a scale
        ("log_probs", "entropy"),
    )
    empty = logprobs_N.new_zeros(rows.there_BC.shape)
    return Scored(
        empty.masked_scatter(rows.there_BC, logprobs_N),
        empty.masked_scatter(rows.there_BC, entropies_N),
    )


def score_with_fused_head(model: Any, rows: Rows) -> Scored:
    """Let the model, wrapped as it may be, score next-token labels by TRL's fused head."""
    output = model(**rows.inputs, labels=rows.labels_RT, fused_lm_head=True)

    def picked(values: torch.Tensor) -> torch.Tensor:
        aligned = torch.nn.functional.pad(values, (1, 0)).flatten()
        return aligned[rows.places_BC] * rows.there_BC

    entropy = output.entropy  # TRL computes none for a reference model
    return Scored(picked(output.log_probs), None if entropy is None else picked(entropy))


class CompletionScorer:
    """Chooses the cheapest forward pass that says the same as TRL's.

    Args:
        trainer: A GRPOTrainer with PopoConfig's `share_prompts`.
    """

    def __init__(self, trainer: GrpoTrainer) -> None:
        self._trainer = trainer
        self._warned = False

    def shares(self, model: Any) -> bool:
        """Whether prompts are computed once; says why not, once, where they were meant to be."""
        if not self._trainer.args.share_prompts:
            return False
        reason: str | None
        if self._trainer._is_vlm:
            reason = "it reads images"
        elif self._trainer.aux_loss_enabled:
            reason = "its router balances over the tokens that it sees"
        else:
            reason = refuses_tree_mask(self._trainer.accelerator.unwrap_model(model))
        if reason is not None and not self._warned:
            self._warned = True
            logger.warning("prompts are computed once for each completion: the model: %s", reason)
        return reason is None

    def __call__(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **others: Any,
    ) -> Scored | None:
        """Score completions as TRL's `_get_per_token_logps_and_entropies` would.

        Returns:
            None where TRL's own way is the only one.
        """
        wanted = {
            name for name, value in others.items() if value is not None and value is not False
        }
        if wanted - {"compute_entropy"}:
            return None
        size = batch_size or len(input_ids)
        parts = [
            self._score(model, ids, mask, logits_to_keep)
            for ids, mask in zip(
                torch.split(input_ids, size), torch.split(attention_mask, size), strict=True
            )
        ]
        return _joined([part for part in parts if part is not None], len(parts))

    def _score(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        num_tokens: int,
    ) -> Scored | None:
        temperature = self._trainer.temperature
        plain = plain_rows(input_ids, attention_mask, num_tokens)
        shared = (
            share_prompts(input_ids, attention_mask, num_tokens) if self.shares(model) else None
        )
        base = self._trainer.accelerator.unwrap_model(model)
        rows = plain if shared is None else shared_rows(shared, base, plain.there_BC)
        args = self._trainer.args
        if base.device.type == "cpu" and not (args.bf16 or args.fp16) and has_plain_head(model):
            return score_with_own_head(model, rows, temperature)
        if shared is None:
            return None
        with self._trainer.accelerator.autocast():
            return score_with_fused_head(model, rows)


def _joined(parts: list[Scored], expected: int) -> Scored | None:
    if len(parts) < expected:
        return None
    entropies = [part.entropies_BC for part in parts if part.entropies_BC is not None]
    return Scored(
        torch.cat([part.logprobs_BC for part in parts]),
        torch.cat(entropies) if len(entropies) == len(parts) else None,
    )
