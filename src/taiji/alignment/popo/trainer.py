"""POPO on TRL: a GRPOTrainer whose reward weights adapt (Eq. 5-9).

    from taiji.alignment import PopoConfig, PopoTrainer
    PopoTrainer(model, [reward_a, reward_b], PopoConfig(rule="popo"), train_dataset=ds).train()

Nothing here knows of recommenders. Each generation: rewards are kept apart; I(t) is computed
on the very micro-batches that the update will see; the weights step; advantages are mixed anew
with the weights of the same step; from there TRL goes on as ever.

Shape suffixes: K rewards, N rollouts of one generation, B rollouts on this process.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from trl import GRPOTrainer

from taiji.alignment.gradients.by_reward import ALONE, RewardGradients, measure
from taiji.alignment.gradients.forward import CompletionScorer
from taiji.alignment.gradients.known_update import Update, known_update
from taiji.alignment.gradients.probe import LossProbe
from taiji.alignment.gradients.shared_prompts import shared_prefill
from taiji.alignment.popo import guards, state, step_log, update
from taiji.alignment.popo.advantages import AdvantageRule, mixed_rewards
from taiji.alignment.popo.batches import ROW, EpochSampler, with_whole_groups
from taiji.alignment.popo.config import PopoConfig
from taiji.alignment.popo.draws import draws_by_temperature_alone, own_draws
from taiji.alignment.popo.weight_rule import WeightRule
from taiji.alignment.popo.weights import Array, heard
from taiji.alignment.trl_surface import Batch, Metrics
from taiji.errors import ConfigError, DivergenceError
from taiji.language.sharded import ShardedCheckpoints

logger = logging.getLogger(__name__)


class PopoTrainer(ShardedCheckpoints, GRPOTrainer):  # type: ignore[misc]  # TRL ships no types
    """GRPO with reward weights that follow a rule: Eq. 5-6, Eq. 7, or one of their peers.

    Arguments are GRPOTrainer's. Beyond it: weights of the same step, their state in every
    checkpoint, prompts computed once for all their completions, prompts that may be token ids,
    and per-reward metrics. `I` is made of the gradients of Eq. 8 without its KL term, averaged over
    the update windows of one generation: the KL is no reward's, and enters the update alone.

    Args:
        rule: Moves the weights; made of `args` if missing. Its rewards are those of
            `reward_funcs`, in the same order.
        bonus: Added to advantages after they were normalised, if there is one.
        token_factor: Stands in the place of the clipped ratio, if there is one.

    Raises:
        ConfigError: A setting cannot work with the rule, or no weight of the model is trained.
        DataError: There are fewer prompts than one generation takes.
        EngineError: DeepSpeed runs the backward pass and the rule needs each reward's own.
    """

    _name = "POPO"
    _tag_names: ClassVar[list[str]] = ["trl", "popo"]
    _paper: ClassVar[dict[str, str]] = {"title": "Taiji", "id": "2606.03866"}

    def __init__(
        self,
        model: Any,
        reward_funcs: Any,
        args: PopoConfig | None = None,
        *,
        rule: WeightRule | None = None,
        bonus: update.Bonus | None = None,
        token_factor: update.TokenFactor | None = None,
        **kwargs: Any,
    ) -> None:
        args = PopoConfig(output_dir="popo") if args is None else args
        if not isinstance(args, PopoConfig):
            raise ConfigError(f"PopoTrainer: args: needs a PopoConfig, not {type(args).__name__}")
        # Of TRL's attributes, those that are replaced here for a while.
        self._metrics: Metrics
        self._entropy_bonus_enabled: bool
        self.aux_loss_enabled: bool
        self.beta: float
        self.reward_weights: torch.Tensor
        self._buffered_inputs: list[Batch]
        self._probe: LossProbe | None = None
        self._update: Update | None = None
        self._rewards_NK: torch.Tensor | None = None
        self._fresh_NK: torch.Tensor | None = None
        self._trains_N: torch.Tensor | None = None
        self._drawn_at, self._generations = -1, 0
        self._bonus, self._token_factor = bonus, token_factor
        self._factored: Batch | None = None
        super().__init__(model=model, reward_funcs=reward_funcs, args=args, **kwargs)
        guards.guard_rewards(self.reward_funcs, self.reward_func_names)
        if rule is None:
            initial = args.reward_weights
            initial_K = None if initial is None else np.array(initial, np.float64)
            rule = WeightRule(args.rule_settings(), self.reward_func_names, initial_K)
        self.rule = rule
        guards.refuse_what_cannot_work(self, rule.settings, rule.names)
        if bonus is not None:
            update.refuse_bonus(self)
        if token_factor is not None:
            update.make_room_for_factor(self, rule.settings)
        if rule.settings.rule != "fixed":
            self._publish_weights()
        self._scorer = CompletionScorer(self)
        self._warn_if_inert()
        state.warn_of_inexact_resume(args)

    @property
    def weights(self) -> dict[str, float]:
        """The weights in force, by reward name."""
        return dict(zip(self.reward_func_names, self.reward_weights.tolist(), strict=True))

    # -- What TRL calls ------------------------------------------------------------------------

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[Sequence[Any], Any, dict[str, Any]]:
        """Prompts that are token ids already pass untouched; TRL tokenises all others.

        Text that strangers wrote must be tokenised apart from the chat template, or it can forge
        control tokens. TRL knows only whole texts and conversations, so such prompts arrive here
        as ids, in the dataset's column `prompt`.
        """
        guards.refuse_empty_prompts(prompts)
        if all(isinstance(prompt, list) and isinstance(prompt[0], int) for prompt in prompts):
            return prompts, None, {}
        tokenized: tuple[Sequence[Any], Any, dict[str, Any]] = super()._tokenize_prompts(prompts)
        guards.refuse_empty_prompts(tokenized[0])
        return tokenized

    def _generate_single_turn(self, prompt_ids: Any, *args: Any, **kwargs: Any) -> Any:
        model = self.accelerator.unwrap_model(self.model_wrapped)
        shared = self._scorer.shares(model) and not self.use_vllm
        with (
            shared_prefill(model) if shared else nullcontext(),
            self._own_draws(model, len(prompt_ids)),
        ):
            return super()._generate_single_turn(prompt_ids, *args, **kwargs)

    def _own_draws(self, model: Any, num_rows: int) -> AbstractContextManager[None]:
        """Streams that hang on the seed, the step and the place among all processes' rollouts."""
        if not (self.args.popo_own_draws and draws_by_temperature_alone(self.args)):
            return nullcontext()
        step = int(self.state.global_step)
        self._generations = self._generations + 1 if step == self._drawn_at else 0
        self._drawn_at = step
        first = self.accelerator.process_index * num_rows
        now = (self.args.seed, step, self._generations, int(self.model.training))
        return own_draws(model, [(*now, first + row) for row in range(num_rows)])

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._rewards_NK = super()._calculate_rewards(*args, **kwargs)
        guards.refuse_broken_models(self, self._rewards_NK)
        if self.rule.settings.steps_on_rewards and self.model.training and self._due:
            # Needs no gradient, so it is done before TRL mixes: nothing has to be undone.
            self.rule.step_on_rewards(*self._groups())
            self._publish_weights()
        return self._rewards_NK

    def _generate_and_score_completions(self, inputs: Any) -> Batch:
        if not self.model.training:
            return self._evaluated(inputs)
        batch: Batch = super()._generate_and_score_completions(inputs)
        rewards_NK = self._rewards_NK
        assert rewards_NK is not None, "TRL scored completions without rewards"
        combined_N, _ = self._advantages.combined(rewards_NK, self.reward_weights)
        guards.refuse_other_advantages(self._local(combined_N), batch["advantages"])
        # Both columns are shuffled and split along with the rollouts.
        rows = torch.arange(len(batch["advantages"]), device=rewards_NK.device)
        batch[ROW] = rows
        if self.rule.settings.needs_gradients:
            self._trains_N = self.accelerator.gather(batch["completion_mask"].any(dim=1))
            batch[ALONE] = self._local(self._advantages.alone(rewards_NK))
        self._fresh_NK = rewards_NK
        return batch

    def _prepare_inputs(self, generation_batch: Any) -> Batch:
        inputs: Batch = super()._prepare_inputs(generation_batch)
        fresh_NK, self._fresh_NK = self._fresh_NK, None
        if fresh_NK is None:
            return inputs
        args, settings = self.args, self.rule.settings
        if args.share_prompts or args.popo_keep_micro_batches or settings.needs_unbiased:
            self._buffered_inputs = with_whole_groups(self._buffered_inputs, self.num_generations)
        gradients = None
        if settings.needs_gradients and self._due:
            gradients = self._step_on_gradients(fresh_NK)
        if self._bonus is not None:
            self._add_bonus(self._bonus, fresh_NK)
        if gradients is not None:
            self._update = known_update(gradients, self)
        for batch in self._buffered_inputs:
            batch.pop(ROW)
            batch.pop(ALONE, None)
        self._log_weights()
        fresh: Batch = self._buffered_inputs[self._step % self.args.steps_per_generation]
        return fresh

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        if self._probe is not None:
            return self._probe.forward(self._forward, *args, **kwargs)
        answer = self._forward(*args, **kwargs)
        if self._factored is not None and self._token_factor is not None:
            update.put_factor(self._factored, answer[0], self._token_factor)
        return answer

    def _forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model: in the cheaper way where there is one, else as TRL does."""
        scored = self._scorer(*args, **kwargs)
        if scored is None:
            return super()._get_per_token_logps_and_entropies(*args, **kwargs)
        return scored.logprobs_BC, scored.entropies_BC, None

    def _compute_loss(self, model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
        if self._probe is None and self._update is not None:
            self._probe = self._update.take(inputs)
            try:
                loss: torch.Tensor = super()._compute_loss(model, inputs)
            finally:
                self._probe = None
        elif self._token_factor is not None and self.model.training:
            self._factored = dict(inputs)
            try:
                loss = super()._compute_loss(model, self._factored)
            finally:
                self._factored = None
        else:
            loss = super()._compute_loss(model, inputs)
        if not torch.isfinite(loss):  # the Trainer would put the last average in its place
            raise DivergenceError(f"step {self._step_number}: the loss is {loss.item()}")
        return loss

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        return EpochSampler(sampler, self) if self.shuffle_dataset else sampler

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
        if self.args.should_save:  # before TRL's files: the trainer state marks it complete
            state.save(folder, self.rule, self._bonus)
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None:
            state.load(Path(checkpoint), self.rule, self._bonus)
            if self.rule.settings.rule != "fixed":
                self._publish_weights()

    def _send_telemetry(self) -> None:
        """Nothing is reported to anyone."""

    # -- One step of the rule ------------------------------------------------------------------

    def _step_on_gradients(self, rewards_NK: torch.Tensor) -> RewardGradients:
        """Eq. 6, Eq. 5, then Eq. 9 on the buffered micro-batches, in place."""
        batches = self._buffered_inputs
        try:
            gradients, geometry = measure(self, unbiased=self.rule.settings.needs_unbiased)
            alignment_K = self.rule.step_on_gradients(
                geometry.gram_KK, geometry.unbiased_KK, self._present()
            )
        except DivergenceError as error:
            raise DivergenceError(f"step {self._step_number}: {error}") from error
        self._publish_weights()
        advantages_N, flat_N = self._advantages.combined(rewards_NK, self.reward_weights)
        local_B = self._local(advantages_N)
        for batch in batches:
            batch["advantages"] = local_B[batch[ROW]]
        mixed_N = mixed_rewards(rewards_NK, self.reward_weights)
        step_log.correct_mix(self._metrics["train"], mixed_N, flat_N)
        step_log.correct_last(self._logs["advantages"], advantages_N.tolist())
        self._log(step_log.gradients(self.reward_func_names, alignment_K, geometry.gram_KK))
        return gradients

    def _add_bonus(self, bonus: update.Bonus, rewards_NK: torch.Tensor) -> None:
        """After normalising, and after the rewards were mixed anew: only the update sees it."""
        mixed_PG = mixed_rewards(rewards_NK, self.reward_weights).view(-1, self.num_generations)
        step = int(self.state.global_step)
        bonus_B = update.add_bonus(bonus, self._buffered_inputs, mixed_PG, step)
        self._log({"popo/bonus": bonus_B.mean().item()})

    def probed_loss(self, inputs: Mapping[str, Any], probe: LossProbe) -> torch.Tensor:
        """The policy's part of TRL's loss as the probe answers it; nothing is logged or moved."""
        with self._silenced(), self.compute_loss_context_manager():
            self._probe = probe
            try:
                loss: torch.Tensor = super()._compute_loss(self.model, inputs)
            finally:
                self._probe = None
        return loss

    @contextmanager
    def _silenced(self) -> Iterator[None]:
        """Leave out of TRL's loss what is no reward's: KL, entropy bonus, the router's, figures."""
        kept = self._metrics, self._entropy_bonus_enabled, self.aux_loss_enabled, self.beta
        self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
        self._entropy_bonus_enabled = self.aux_loss_enabled = False
        self.beta = 0.0
        try:
            yield
        finally:
            self._metrics, self._entropy_bonus_enabled, self.aux_loss_enabled, self.beta = kept

    def _evaluated(self, inputs: Any) -> Batch:
        """Mixed with the initial weights: those of the moment would compare apples and pears."""
        weights_K = self.reward_weights
        self.reward_weights = torch.tensor(self.rule.initial_weights_K, dtype=torch.float32)
        try:
            batch: Batch = super()._generate_and_score_completions(inputs)
        finally:
            self.reward_weights = weights_K
        return batch

    # -- Small parts ---------------------------------------------------------------------------

    @property
    def _step_number(self) -> int:
        return int(self.state.global_step) + 1

    @property
    def _due(self) -> bool:
        updates = self.args.steps_per_generation * self.num_iterations
        stride = max(1, updates // self.args.gradient_accumulation_steps)
        return self.rule.due(self._step_number, stride)

    @property
    def _advantages(self) -> AdvantageRule:
        return AdvantageRule(
            self.num_generations, self.scale_rewards, self.multi_objective_aggregation
        )

    def _local(self, values_N: torch.Tensor) -> torch.Tensor:
        """The rows of this process."""
        share = len(values_N) // self.accelerator.num_processes
        start = self.accelerator.process_index * share
        return values_N[start : start + share]

    def _groups(self) -> tuple[Array, NDArray[np.bool_]]:
        """Rewards as P x G x K, and where they apply (TRL writes NaN where one returned None)."""
        assert self._rewards_NK is not None, "no rewards yet"
        shape = (-1, self.num_generations, len(self.reward_funcs))
        rewards_PGK = self._rewards_NK.double().cpu().numpy().reshape(shape)
        return rewards_PGK, ~np.isnan(rewards_PGK)

    def _present(self) -> NDArray[np.bool_]:
        """Which rewards could rank anything in this generation."""
        assert self._trains_N is not None, "no completions yet"
        trains_PG = self._trains_N.cpu().numpy().reshape(-1, self.num_generations)
        return heard(self._groups()[1], trains_PG)

    def _publish_weights(self) -> None:
        """Hand w(t) to TRL, which mixes with it and reports the mixed reward."""
        self.reward_weights = torch.tensor(self.rule.weights_K, dtype=torch.float32)

    def _log(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._metrics["train"][name].append(value)

    def _log_weights(self) -> None:
        self._log({f"popo/w_{name}": weight for name, weight in self.weights.items()})
        self._log(self.rule.gaps())
        self._log(step_log.spread(self.reward_func_names, *self._groups()))
        self._warn_if_inert()

    def _warn_if_inert(self) -> None:
        if warning := self.rule.inert_warning():
            logger.warning(warning)
