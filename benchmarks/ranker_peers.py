"""The ranking model again, from the layers of FuxiCTR 2.3.10 and torch-rechub 0.9.0.

Neither library has a model with two tasks and two sequences, so each peer here is the network of
`taiji.ranking.model` put together from a library's own embedding, attention and tower layers, as
they ship: torch-rechub's towers and attention normalise each batch, FuxiCTR's do not. What no
library has (how often a sequence holds the target) is the same few lines for both.
"""

from abc import ABC, abstractmethod
from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

import torch
from fuxictr.pytorch.layers import DIN_Attention, FeatureEmbeddingDict, MLP_Block
from torch import Tensor, nn
from torch_rechub.basic.features import SequenceFeature, SparseFeature
from torch_rechub.basic.layers import MLP, EmbeddingLayer
from torch_rechub.models.ranking.din import ActivationUnit

from taiji.ranking.model import Batch, Logits, ModelShape

UNITS = 36
SEQUENCES = ("own", "neighbour")


class Peer(nn.Module, ABC):
    """What both peers share: the order of parts, and matches."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.names = [f"field{k}" for k in range(len(shape.field_rows))]
        self.l3 = self.names[shape.l3_field]
        width = shape.num_dense + shape.dim * len(self.names) + 2 * (2 * shape.dim + 2)
        self.build(width)

    @abstractmethod
    def build(self, width: int) -> None:
        """Make the library's own embeddings, attention and towers."""

    @abstractmethod
    def embed(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Embedding (B, D) of each field, and (B, L, D) of each sequence."""

    @abstractmethod
    def attend(self, name: str, target: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        """Summary (B, D) of one sequence."""

    def forward(self, batch: Batch) -> Logits:
        fields, sequences = self.embed(batch)
        parts = [batch.dense, *fields.values()]
        target = fields[self.names[0]] + fields[self.l3]
        item, l3 = batch.fields[:, 0], batch.fields[:, self.shape.l3_field]
        for name in SEQUENCES:
            items, categories = getattr(batch, f"{name}_items"), getattr(batch, f"{name}_l3")
            seen = self.attend(name, target, sequences[name], items != 0)
            counts = [_matches(item, items), _matches(l3, categories)]
            parts += [seen, seen * target, torch.log1p(torch.stack(counts, dim=1))]
        x = torch.cat(parts, dim=1)
        return Logits(self.ctr(x).squeeze(1), self.cvr(x).squeeze(1))


class FuxiCTR(Peer):
    def build(self, width: int) -> None:
        shape = self.shape
        table = {"source": "", "padding_idx": 0}
        features: OrderedDict[str, dict[str, Any]] = OrderedDict(
            (name, table | {"type": "categorical", "vocab_size": rows})
            for name, rows in zip(self.names, shape.field_rows, strict=True)
        )
        for name in SEQUENCES:
            for column, of in (("items", 0), ("l3", shape.l3_field)):
                features[f"{name}_{column}"] = features[self.names[of]] | {
                    "type": "sequence",
                    "share_embedding": self.names[of],
                }
        self.embedding = FeatureEmbeddingDict(
            SimpleNamespace(features=features),
            shape.dim,
            embedding_initializer="partial(nn.init.normal_, std=0.05)",
        )
        self.attention = nn.ModuleDict(
            {name: DIN_Attention(shape.dim, attention_units=[UNITS]) for name in SEQUENCES}
        )
        hidden = list(shape.hidden)
        self.ctr, self.cvr = (MLP_Block(width, hidden, output_dim=1) for _ in range(2))

    def embed(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        asked = {name: batch.fields[:, k] for k, name in enumerate(self.names)}
        for name in SEQUENCES:
            asked[f"{name}_items"] = getattr(batch, f"{name}_items")
            asked[f"{name}_l3"] = getattr(batch, f"{name}_l3")
        found = self.embedding(asked)
        sequences = {name: found[f"{name}_items"] + found[f"{name}_l3"] for name in SEQUENCES}
        return {name: found[name] for name in self.names}, sequences

    def attend(self, name: str, target: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.attention[name](target, keys, mask)


class TorchRechub(Peer):
    def build(self, width: int) -> None:
        shape = self.shape
        self.sparse = [
            SparseFeature(name, vocab_size=rows, embed_dim=shape.dim, padding_idx=0)
            for name, rows in zip(self.names, shape.field_rows, strict=True)
        ]
        for feature in self.sparse:
            feature.initializer.std = 0.05
        self.sequences = {
            f"{name}_{column}": SequenceFeature(
                f"{name}_{column}",
                vocab_size=shape.field_rows[of],
                embed_dim=shape.dim,
                pooling="concat",
                shared_with=self.names[of],
                padding_idx=0,
            )
            for name in SEQUENCES
            for column, of in (("items", 0), ("l3", shape.l3_field))
        }
        self.embedding = EmbeddingLayer([*self.sparse, *self.sequences.values()])
        self.attention = nn.ModuleDict(
            {name: ActivationUnit(shape.dim, dims=[UNITS], activation="relu") for name in SEQUENCES}
        )
        self.ctr, self.cvr = (MLP(width, dims=list(shape.hidden)) for _ in range(2))

    def embed(self, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        asked = {name: batch.fields[:, k] for k, name in enumerate(self.names)}
        for name in SEQUENCES:
            asked[f"{name}_items"] = getattr(batch, f"{name}_items")
            asked[f"{name}_l3"] = getattr(batch, f"{name}_l3")
        found = self.embedding(asked, self.sparse)
        both = {
            key: self.embedding(asked, [feature]).squeeze(1)
            for key, feature in self.sequences.items()
        }
        sequences = {name: both[f"{name}_items"] + both[f"{name}_l3"] for name in SEQUENCES}
        return {name: found[:, k] for k, name in enumerate(self.names)}, sequences

    def attend(self, name: str, target: Tensor, keys: Tensor, mask: Tensor) -> Tensor:
        return self.attention[name](keys, target)


def _matches(target: Tensor, sequence: Tensor) -> Tensor:
    return (sequence == target[:, None]).sum(dim=1) * (target > 1).float()
