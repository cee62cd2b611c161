"""What Taiji touches of TRL's GRPOTrainer, in one place: when TRL moves, read this file.

TRL ships no types, and half of what POPO needs there is private. `GrpoTrainer` lists every
attribute that we read or replace and every method that we call or override, with the signature
that we count on. Whoever is handed a trainer knows it by this protocol; PopoTrainer itself is a
child of TRL's class. `tests/alignment/test_trl_surface.py` holds the list against the installed
release, and PopoTrainer's source against the list.

Shape suffixes: K rewards, N rollouts of one generation, B rollouts of a micro-batch, C completion
tokens, T prompt and completion tokens.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from transformers import TrainerState

Batch = dict[str, Any]
"""A micro-batch: TRL's columns, and ours while a generation is being measured."""

Metrics = dict[str, dict[str, list[float]]]
"""TRL's figures since the last log line: mode, name, values."""


class GrpoTrainer(Protocol):
    """The part of TRL's GRPOTrainer that PopoTrainer and its gradients stand on.

    Attributes:
        model: The policy, as the user gave it, with its adapter.
        model_wrapped: The same in the engine's wrapper.
        args: GRPOConfig; ours is PopoConfig.
        reward_weights: w, K numbers in fp32 on the CPU; TRL mixes rewards with them.
        beta: Weight of the KL term; 0 leaves it out of the loss.
        epsilon_low, epsilon_high: How far a ratio may move before it is clipped.
        num_iterations: Updates on the same rollouts.
        current_gradient_accumulation_steps: Micro-batches of the coming update.
        _buffered_inputs: Micro-batches of the current generation.
        _step: Micro-batches so far.
        _metrics: Figures to be logged.
        _logs: Completions to be shown, with their advantages.
    """

    model: Any
    model_wrapped: Any
    args: Any
    accelerator: Any
    state: TrainerState
    processing_class: Any
    train_dataset: Any
    reward_funcs: list[Any]
    reward_func_names: list[str]
    reward_weights: torch.Tensor
    num_generations: int
    num_iterations: int
    beta: float
    loss_type: str
    epsilon_low: float
    epsilon_high: float
    temperature: float
    scale_rewards: str
    multi_objective_aggregation: str
    use_vllm: bool
    shuffle_dataset: bool | None
    aux_loss_enabled: bool
    is_deepspeed_enabled: bool
    current_gradient_accumulation_steps: int
    _entropy_bonus_enabled: bool
    _is_vlm: bool
    _buffered_inputs: list[Batch]
    _step: int
    _metrics: Metrics
    _logs: dict[str, Any]

    # -- Called and not replaced ----------------------------------------------------------------

    def compute_loss_context_manager(self) -> AbstractContextManager[Any]:
        """Mixed precision, as training has it."""
        ...

    def _get_output_dir(self, trial: Any) -> str:
        """Where checkpoints go."""
        ...

    # -- Replaced, and called through `super()` -------------------------------------------------

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """The order of prompts, each repeated for its rollouts."""
        ...

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Sequence[Any], Any, dict[str, Any]]:
        """Token ids, images and other fields of prompts."""
        ...

    def _generate_single_turn(
        self,
        prompt_ids: Any,
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> Any:
        """Completions of token ids."""
        ...

    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any
    ) -> torch.Tensor:
        """Raw rewards, N x K over all processes; NaN where a reward returned None."""
        ...

    def _generate_and_score_completions(self, inputs: Any) -> Batch:
        """Rollouts of this process with their advantages."""
        ...

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        """The next micro-batch; generates where the buffer is used up."""
        ...

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        pixel_values: Any = None,
        image_grid_thw: Any = None,
        num_images: Any = None,
        pixel_attention_mask: Any = None,
        spatial_shapes: Any = None,
        num_tiles: Any = None,
        image_sizes: Any = None,
        token_type_ids: Any = None,
        mm_token_type_ids: Any = None,
        image_position_ids: Any = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """log-probabilities B x C, entropies B x C, the router's loss: the only pass of a model."""
        ...

    def _compute_loss(self, model: Any, inputs: Any) -> torch.Tensor:
        """Eq. 8 on a micro-batch; it also writes into `_metrics`."""
        ...

    def _send_telemetry(self) -> None:
        """Says to TRL's makers that a trainer was built."""
        ...

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes a checkpoint; the trainer's state goes last."""
        ...

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Called on resume, after the weights are loaded."""
        ...
