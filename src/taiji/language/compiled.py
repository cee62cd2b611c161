"""Blocks of a model fused by torch.compile, for long work on it."""

import logging
from collections.abc import Callable

from torch import nn
from transformers import PreTrainedModel

from taiji.errors import EngineError
from taiji.language.models import blocks_of

logger = logging.getLogger(__name__)


def compile_blocks(model: PreTrainedModel, rehearse: Callable[[], object]) -> None:
    """Compile a model's blocks, which are alike to the compiler: it works on one of them.

    Args:
        model: In evaluation mode; its blocks are changed in place.
        rehearse: Uses the model in every way in which it will be used. The compiler works during
            this call, some 20 seconds, and not again where only lengths differ later.

    Raises:
        EngineError: The blocks are not found, or nothing can be compiled on this machine.
    """
    logger.info("compiling %s, once", type(model).__name__)
    for block in blocks_of(model):
        nn.Module.compile(block, dynamic=True)
    try:
        rehearse()
    except RuntimeError as error:  # of which torch's own errors are kinds
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise EngineError(
            f"{type(model).__name__}: cannot be compiled: {why}: install a C++ compiler such as "
            "g++, or leave compile at false"
        ) from error
