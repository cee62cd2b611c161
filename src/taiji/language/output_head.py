"""Whether logits are the output head's product and nothing more."""

from typing import Any

from torch import nn
from torch.distributed.tensor import DTensor

_EXTRAS = (  # what some families do to logits after the output head
    "final_logit_softcapping",
    "lm_head_multiplier",
    "logit_scale",
    "logits_scaling",
    "output_multiplier",
)


def has_plain_head(model: Any) -> bool:
    """Whether hidden states of chosen tokens can be multiplied by the output head alone.

    Not where a family scales or caps its logits, nor in a wrapper that must see every forward
    pass, nor where parameters are sharded.
    """
    if not hasattr(model, "get_decoder"):
        return False
    head = model.get_output_embeddings()
    config = model.config.get_text_config()
    return (
        type(head) is nn.Linear
        and not isinstance(head.weight, DTensor)
        and not any(getattr(config, name, None) for name in _EXTRAS)
    )
