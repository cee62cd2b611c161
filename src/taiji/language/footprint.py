"""What a decoder takes in memory, by arithmetic: weights, training, activations, caches, logits.

For models of the Llama family (Qwen, SmolLM, Mistral): RMS norms, rotary positions, gated MLP,
heads that may share keys and values. Bytes throughout.

    weights      V H (twice without tied embeddings) + L (2 H Q + 2 H K + 3 H I + 2 H) + H
    training     4 bytes a weight in float32, 4 of its gradient, 8 of Adam's moments
    activations  a block keeps 5 H + 3 Q + 4 K + 4 I numbers a token for its backward pass;
                 checkpointed, H a token and block, and those of one block at a time
    logits       V numbers a completion token, in float32, and as many of their gradient
    cache        2 K numbers a token and block

with V vocabulary, H width, L blocks, I inner width, Q = heads x head width, K = the same of keys.
"""

import json
from dataclasses import dataclass
from typing import Any

from taiji.errors import EngineError
from taiji.language.model_folders import SMOLLM2, local_model

_FLOAT32 = 4
_ADAM = 8


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a decoder.

    Attributes:
        queries: Heads times their width.
        keys: Heads of keys times their width; values have as much.
        biased: Whether queries, keys and values have a bias, as Qwen2's.
    """

    vocabulary: int
    width: int
    blocks: int
    inner: int
    queries: int
    keys: int
    tied: bool
    biased: bool = False

    @property
    def block_parameters(self) -> int:
        """Weights of one block."""
        attention = 2 * self.width * (self.queries + self.keys)
        bias = (self.queries + 2 * self.keys) * self.biased
        return attention + bias + 3 * self.width * self.inner + 2 * self.width

    @property
    def parameters(self) -> int:
        """All weights."""
        embeddings = self.vocabulary * self.width * (1 if self.tied else 2)
        return embeddings + self.blocks * self.block_parameters + self.width

    def activations(self, tokens: int, *, checkpointed: bool, bytes_each: int) -> int:
        """What a backward pass over so many tokens needs of the forward pass."""
        block = 5 * self.width + 3 * self.queries + 4 * self.keys + 4 * self.inner
        kept = self.blocks * self.width + block if checkpointed else self.blocks * block
        return tokens * kept * bytes_each

    def logits(self, tokens: int) -> int:
        """Logits of so many tokens, and their gradient."""
        return 2 * tokens * self.vocabulary * _FLOAT32

    def cache(self, tokens: int, bytes_each: int) -> int:
        """Keys and values of so many tokens."""
        return 2 * tokens * self.blocks * self.keys * bytes_each

    def flops(self, tokens: int, context: float) -> float:
        """Operations of a forward pass: two a weight and token, and attention to the tokens before.

        Args:
            tokens: That are computed.
            context: The mean number of tokens that one attends to.
        """
        weights = self.blocks * self.block_parameters + self.vocabulary * self.width
        return float(tokens) * (2 * weights + 4 * self.blocks * self.queries * context)


@dataclass(frozen=True)
class TrainingMemory:
    """Bytes on each device, by what they are for."""

    weights: int
    gradients: int
    optimiser: int
    activations: int
    logits: int
    cache: int = 0
    by_reward: int = 0

    @property
    def total(self) -> int:
        """All of it at once, which is the worst case."""
        return sum(vars(self).values())


def training_memory(
    shape: ModelShape, *, shards: int, copies: int, trained_share: float = 1.0
) -> TrainingMemory:
    """Weights in float32, gradients and Adam's moments on one device; activations are none yet.

    Args:
        shape: Of the model.
        shards: Devices that share one copy (FSDP2); they hold one block whole at a time, twice
            while the next one is fetched.
        copies: Devices with a copy each (DDP), which keeps gradients once more in its buckets.
        trained_share: Of the weights.
    """
    trained = round(shape.parameters * trained_share)
    whole = 2 * shape.block_parameters * _FLOAT32 if shards > 1 else 0
    buckets = 2 if copies > 1 else 1
    return TrainingMemory(
        weights=_FLOAT32 * shape.parameters // shards + whole,
        gradients=_FLOAT32 * trained * buckets // shards,
        optimiser=_ADAM * trained // shards,
        activations=0,
        logits=0,
    )


def model_shape(name: str) -> ModelShape | None:
    """The sizes of a model by its folder's configuration, or of one that the paper names.

    None if it is not here, or of another family.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    try:
        folder = local_model(name)
    except EngineError:  # whoever loads it says so
        return None
    if folder is None or not (folder / "config.json").is_file():
        return None
    return shape_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))


def shape_of(config: dict[str, Any]) -> ModelShape | None:
    """The sizes that a `config.json` tells; None if it is of another family."""
    if "rms_norm_eps" not in config:
        return None
    try:
        heads = int(config["num_attention_heads"])
        width = int(config["hidden_size"])
        head = int(config.get("head_dim") or width // heads)
        return ModelShape(
            vocabulary=int(config["vocab_size"]),
            width=width,
            blocks=int(config["num_hidden_layers"]),
            inner=int(config["intermediate_size"]),
            queries=heads * head,
            keys=int(config.get("num_key_value_heads") or heads) * head,
            tied=bool(config.get("tie_word_embeddings", False)),
            biased=config.get("model_type") == "qwen2",
        )
    except (KeyError, TypeError, ValueError):
        return None


_KNOWN = {
    SMOLLM2: ModelShape(49152, 576, 30, 1536, 576, 192, tied=True),
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B": ModelShape(
        152064, 3584, 28, 18944, 3584, 512, tied=False, biased=True
    ),
    "Qwen/QwQ-32B": ModelShape(152064, 5120, 64, 27648, 5120, 1024, tied=False, biased=True),
    "Qwen/Qwen3-Embedding-0.6B": ModelShape(151669, 1024, 28, 3072, 2048, 1024, tied=True),
}
"""By their published configurations."""
