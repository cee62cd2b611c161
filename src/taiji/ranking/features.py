"""The language features of users, from their texts' embeddings.

Shape suffixes: N users with text, D dimensions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.ranking.as_of import AsOf
from taiji.ranking.columns import microseconds
from taiji.ranking.missing import MISSING_CODE
from taiji.ranking.neighbours import Neighbours
from taiji.ranking.quantise import Codebook
from taiji.schema import USER_FEATURES

DEFAULTS = pa.schema([*USER_FEATURES, pa.field("reason", pa.string(), nullable=False)])
"""Users without features of their own: the row that stands for the missing, and why."""

FAILURES = frozenset({"refused", "http_error", "timeout"})
"""Statuses whose text, if there is any, is not about the user."""


def feature_text(cot: str, answer: str) -> str:
    """What stands for a user: the reasoning and the predicted item, whichever there is."""
    return "\n".join(part for part in (cot.strip(), answer.strip()) if part)


def why_default(*, known: bool, status: str, text: str) -> str | None:
    """Why a user gets the default features; None if they get their own.

    Args:
        known: Whether the prompt said anything of the user: a profile or a history. Without,
            the text is made up and would bring strangers together.
        status: Of the reply.
        text: What was made of the reply.
    """
    if not known:
        return "nothing_known"
    if status in FAILURES:
        return status
    return None if text.strip() else "empty"


def described_user(example: Mapping[str, Any], reply: Mapping[str, Any]) -> tuple[str, str | None]:
    """The text that stands for a user, and why they get the default features, if they do.

    Args:
        example: Profile and history of a row of `schema.EXAMPLES`.
        reply: A row of `schema.TEXTS`.
    """
    text = feature_text(reply["cot"], reply["answer"]) or reply["completion"].strip()
    known = bool(example["profile"].strip() or example["history"])
    return text, why_default(known=known, status=reply["status"], text=text)


def user_features(
    examples: pa.Table,
    embeddings_ND: NDArray[np.float32],
    codebook: Codebook,
    asof: AsOf,
    nearest: Neighbours,
    neighbour_items: int,
) -> pa.Table:
    """Codes and borrowed sequence of the users of one split, as `schema.USER_FEATURES`.

    The neighbour lends what they had bought before the *borrower's* cut-off: nothing that a
    service could not have known then.

    Args:
        examples: example_id, user_id, split and cutoff of N users.
        embeddings_ND: Unit vectors of their texts.
        codebook: Frozen.
        asof: The event log.
        nearest: The most similar other user of each, among the same split.
        neighbour_items: How many items are borrowed (paper: 100).
    """
    users = examples["user_id"].combine_chunks()
    neighbours = users.take(pa.array(nearest.rows, mask=nearest.rows < 0))
    codes_NM = codebook.compute_codes(embeddings_ND)
    ends = np.arange(len(codes_NM) + 1, dtype=np.int32) * codes_NM.shape[1]
    return pa.table(
        {
            "example_id": examples["example_id"],
            "user_id": examples["user_id"],
            "split": examples["split"],
            "codes": pa.ListArray.from_arrays(pa.array(ends), pa.array(codes_NM.ravel())),
            "neighbour_user_id": pc.fill_null(neighbours, ""),
            "similarity": nearest.similarity,
            "neighbour_item_ids": asof.item_lists(
                neighbours, microseconds(examples["cutoff"]), neighbour_items
            ),
        },
        schema=USER_FEATURES,
    )


def default_features(examples: Sequence[Mapping[str, Any]], sub_vectors: int) -> pa.Table:
    """The same for users without features of their own, as `DEFAULTS`.

    Every code is that of the missing and nothing is borrowed: what the ranking model is given
    for any user that it finds no features of.

    Args:
        examples: example_id, user_id, split and reason of each.
        sub_vectors: M of the codebook that the others have.
    """
    nobody = {
        "codes": [MISSING_CODE] * sub_vectors,
        "neighbour_user_id": "",
        "similarity": 0.0,
        "neighbour_item_ids": [],
    }
    return pa.Table.from_pylist([{**row, **nobody} for row in examples], DEFAULTS)
