"""PopoTrainer for long prompts and short completions on a CPU."""

from typing import Any

import torch
from transformers import PreTrainedModel
from trl.kernels import ChunkedLogProbFunction

from taiji.alignment.trainer import PopoTrainer

_TILE = 32_768  # columns of the vocabulary at a time, as in TRL
_HEAD_EXTRAS = (  # what some families do to logits after the output head
    "final_logit_softcapping",
    "lm_head_multiplier",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
)


class PolicyTrainer(PopoTrainer):
    """Spares the output head of the prompt's positions where TRL does not.

    TRL's fused head skips masked positions only where Triton runs. On a CPU it multiplies every
    prompt token with the whole vocabulary, in each forward and again in each backward pass, and
    masks the result. The same kernel is called here on the completion's positions alone.
    """

    def _forward(
        self,
        model: PreTrainedModel,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        if not self._is_plain(model):
            plain = (model, input_ids, attention_mask, logits_to_keep, batch_size)
            out: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]
            out = super()._forward(*plain, **kwargs)
            return out
        size = batch_size or len(input_ids)
        parts = [
            self._completion_logprobs(model, ids, mask, logits_to_keep)
            for ids, mask in zip(
                torch.split(input_ids, size), torch.split(attention_mask, size), strict=True
            )
        ]
        logprobs, entropies = (torch.cat(part) for part in zip(*parts, strict=True))
        return logprobs, entropies if kwargs.get("compute_entropy") else None, None

    def _completion_logprobs(
        self, model: Any, input_ids: torch.Tensor, attention_mask: torch.Tensor, num_tokens: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        decoder, head = model.get_decoder(), model.get_output_embeddings()
        output = decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
        hidden_NTD = output.last_hidden_state[:, -num_tokens - 1 : -1]
        targets_NT = input_ids[:, -num_tokens:]
        logprobs, entropies, *_ = ChunkedLogProbFunction.apply(
            hidden_NTD.reshape(-1, hidden_NTD.shape[-1]),
            head.weight,
            head.bias,
            targets_NT.reshape(-1),
            self.temperature,
            _TILE,
            None,  # no soft cap on the logits
            1.0,  # nor a scale
            ("log_probs", "entropy"),
        )
        # TRL gives 0 where the padding would stand.
        there_NT = attention_mask[:, -num_tokens:].bool()
        shape = targets_NT.shape
        return logprobs.view(shape) * there_NT, entropies.view(shape) * there_NT

    def _is_plain(self, model: PreTrainedModel) -> bool:
        """Whether log-probabilities are those of decoder and head and nothing more."""
        config = model.config.get_text_config()
        return (
            self.args.device.type == "cpu"
            and not self.args.bf16
            and not self.aux_loss_enabled
            and not self._is_vlm
            and not any(getattr(config, name, None) for name in _HEAD_EXTRAS)
        )
