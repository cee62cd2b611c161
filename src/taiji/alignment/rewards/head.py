"""The ranking of a trained head as a reward: r_ndcg of RPORec (arXiv 2605.21967).

A head (`language.text_head`) reads prompt, chain and answer and ranks the true item among others.
It must not have learnt from the user whom it judges, and whoever watches it must share no user with
it. So there are three heads, each trained on a third of the users: of a user in third f, head f + 1
pays and head f + 2 watches.

Shape suffixes: N rollouts or examples, I items, K others, D dimensions of a text's vector.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import log_softmax

from taiji.alignment.rewards.form import has_tags
from taiji.alignment.rewards.reward import Rollout
from taiji.arrays import Array, Flags, Ints, Vectors
from taiji.data.item_text import item_texts
from taiji.language.encode import TextEncoder
from taiji.language.text_head import HeadTexts, TextHead, load_head, ndcg_of_true, save_head

THIRDS = 3
_LINES = 20  # of a history, the newest; an encoder reads little more


def third_of(user_id: str) -> int:
    """Which third of the users somebody belongs to, in every run."""
    digest = hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % THIRDS


def prompt_text(example: Mapping[str, Any]) -> str:
    """x: the newest lines of a history, then the profile, of a row of `schema.EXAMPLES`."""
    lines = [line["text"] for line in example["history"][:_LINES]]
    return "\n".join([*lines, example["profile"]])


@dataclass(frozen=True)
class Heads:
    """Three heads, head f trained on the users of third f."""

    heads: tuple[TextHead, ...]

    def paying(self, user_id: str) -> TextHead:
        """The head whose ranking is this user's reward."""
        return self.heads[(third_of(user_id) + 1) % THIRDS]

    def watching(self, user_id: str) -> TextHead:
        """The second head: it knows neither the user nor anybody that the first one knows."""
        return self.heads[(third_of(user_id) + 2) % THIRDS]

    def log_shares(self, user_ids: Sequence[str], texts: HeadTexts, items_ID: Vectors) -> Array:
        """Mean log-softmax over the items of the two heads that do not know the user, N x I."""
        third_N = np.array([third_of(user) for user in user_ids])
        shares_NI = np.zeros((len(user_ids), len(items_ID)))
        for number, head in enumerate(self.heads):
            rows_N = np.flatnonzero(third_N != number)
            if rows_N.size:
                scores_NI = head.scores(texts.rows(rows_N), items_ID)
                shares_NI[rows_N] += log_softmax(scores_NI, axis=1) / (THIRDS - 1)
        return shares_NI

    def save(self, folder: Path) -> None:
        """Write each head into a folder of its own."""
        for number, head in enumerate(self.heads):
            save_head(head, folder / f"head{number}")


def load_heads(folder: Path) -> Heads:
    """Read what `Heads.save` wrote.

    Raises:
        MissingArtifactError: A file is not there.
        DataError: A file is damaged.
    """
    return Heads(tuple(load_head(folder / f"head{number}") for number in range(THIRDS)))


@dataclass(frozen=True)
class TrueItems:
    """What heads are asked: where does the true item stand among itself and K others?

    Attributes:
        user_of: The user of each example.
        prompts: Vector of each example's x.
        targets: Vector of each example's true item.
        place: Where an item of the true item's title stands among the items, if one does.
        items_ID: Vectors of the items that others are drawn from.
        negatives: K.
        seed: Of the draws; an example meets the same others always.
    """

    user_of: Mapping[str, str]
    prompts: Mapping[str, Vectors]
    targets: Mapping[str, Vectors]
    place: Mapping[str, int]
    items_ID: Vectors
    negatives: int
    seed: int

    def texts(
        self, example_ids: Sequence[str], chain_ND: Vectors, answer_ND: Vectors, readable_N: Flags
    ) -> HeadTexts:
        """What a head reads of examples and of what was written for them."""
        prompt_ND = np.stack([self.prompts[example_id] for example_id in example_ids])
        return HeadTexts(prompt_ND, chain_ND, answer_ND, readable_N)

    def ndcg(
        self, heads: Heads, example_ids: Sequence[str], texts: HeadTexts, *, watching: bool = False
    ) -> Array:
        """r_ndcg = 1 / log2(1 + rank) under the paying heads, or those that watch; N numbers."""
        ndcg_N = np.empty(len(example_ids))
        for row, example_id in enumerate(example_ids):
            user = self.user_of[example_id]
            head = heads.watching(user) if watching else heads.paying(user)
            others_KD = self.items_ID[self._others(example_id)]
            compared_JD = np.concatenate([self.targets[example_id][None], others_KD])
            scores_1J = head.scores(texts.rows(np.array([row])), compared_JD)
            ndcg_N[row] = ndcg_of_true(scores_1J[:, 0], scores_1J[:, 1:])[0]
        return ndcg_N

    def _others(self, example_id: str) -> Ints:
        """K items beside the true one, or all there are."""
        digest = hashlib.blake2b(example_id.encode("utf-8", "surrogatepass"), digest_size=8)
        random = np.random.default_rng((self.seed, int.from_bytes(digest.digest())))
        drawn_I: Ints = random.permutation(len(self.items_ID))[: self.negatives + 1]
        others_I: Ints = drawn_I[drawn_I != self.place.get(example_id, -1)][: self.negatives]
        return others_I


def true_items(
    examples: pa.Table,
    items: pa.Table,
    catalogue: pa.Table,
    encoders: tuple[TextEncoder, TextEncoder],
    *,
    negatives: int,
    seed: int,
) -> TrueItems:
    """What is needed to judge heads on examples.

    Args:
        examples: Rows of `schema.EXAMPLES` with a target.
        items: All items, `schema.ITEMS`.
        catalogue: Those that others are drawn from, one for each title.
        encoders: Of prompts, which are nobody else's business, and of items.
        negatives: K.
        seed: Of the draws.
    """
    of_prompts, of_items = encoders
    example_ids: list[str] = examples["example_id"].to_pylist()
    prompts_ND = of_prompts.encode([prompt_text(row) for row in examples.to_pylist()])
    targets = items.take(pc.index_in(examples["target_item_id"], value_set=items["item_id"]))
    places = pc.index_in(targets["title"], value_set=catalogue["title"]).to_pylist()
    return TrueItems(
        user_of=dict(zip(example_ids, examples["user_id"].to_pylist(), strict=True)),
        prompts=dict(zip(example_ids, prompts_ND, strict=True)),
        targets=dict(zip(example_ids, of_items.encode(item_texts(targets)), strict=True)),
        place={e: at for e, at in zip(example_ids, places, strict=True) if at is not None},
        items_ID=of_items.encode(item_texts(catalogue)),
        negatives=negatives,
        seed=seed,
    )


@dataclass(frozen=True)
class HeadReward:
    """r_ndcg of what was written, in [0, 1]; never None.

    Attributes:
        heads: Whose ranking counts.
        asked: What they are asked.
        encoder: Of chains and answers; the one that the heads were trained on.
        gated: Pay nothing where `has_tags` says no, as r_fmt does there.
        watching: Ask the second head, whom nobody pays by.
    """

    heads: Heads
    asked: TrueItems
    encoder: TextEncoder
    gated: bool
    watching: bool = False

    def __call__(self, rollouts: Sequence[Rollout], **call: Any) -> list[float | None]:
        """See `Reward`."""
        example_ids = [rollout.example_id for rollout in rollouts]
        texts = self.asked.texts(
            example_ids,
            self.encoder.encode([rollout.chain for rollout in rollouts]),
            self.encoder.encode([rollout.answer for rollout in rollouts]),
            np.array([rollout.status == "ok" for rollout in rollouts]),
        )
        ndcg_N = self.asked.ndcg(self.heads, example_ids, texts, watching=self.watching)
        unpaid_N = [self.gated and not has_tags(rollout.completion) for rollout in rollouts]
        earned_N: list[float | None] = np.where(unpaid_N, 0.0, ndcg_N).tolist()
        return earned_N
