"""Norms and feed-forward layers fused by torch.compile, for long work on one model.

Attention stays as it is: its masks and kernels change from call to call, and compiling it too
gained nothing.
"""

import logging

import torch
from torch import nn
from transformers import PreTrainedModel

from taiji.errors import EngineError
from taiji.language.models import blocks_of

logger = logging.getLogger(__name__)


def compile_between_attention(model: PreTrainedModel) -> None:
    """Compile what each block of a model does to its tokens one by one.

    The compiler's work is done here, some 10 to 20 seconds, for passes without gradients over
    one row and over several, of any length.

    Args:
        model: In evaluation mode; its blocks are changed in place.

    Raises:
        EngineError: The blocks are not found, or nothing can be compiled on this machine.
    """
    logger.info("compiling the model's norms and feed-forward layers, once")
    for block in blocks_of(model):
        for name, part in block.named_children():
            if not name.endswith(("attn", "attention")):
                nn.Module.compile(part, dynamic=True)
    try:
        with torch.inference_mode():
            for num_rows in (1, 2):  # a single row is a case of its own to the compiler
                ids = torch.zeros(num_rows, 16, dtype=torch.long, device=model.device)
                model.get_decoder()(input_ids=ids, use_cache=False)  # type: ignore[no-untyped-call]
    except RuntimeError as error:  # of which torch's own errors are kinds
        why = str(error).strip().splitlines()[0]
        raise EngineError(
            f"{type(model).__name__}: cannot be compiled: {why}: install a C++ compiler such as "
            "g++, or leave compile at false"
        ) from error
