"""What `rank` compares: arms, negative controls, and texts of other models.

A control is a variant of an arm that keeps everything but the meaning of its features; what it
gains, the features did not.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from taiji.config import POLICY, RankSection, TextName
from taiji.ranking.inputs import Arm, LanguageFeatures
from taiji.ranking.serving import dealt_out, random_others

Control = Literal["shuffled", "swapped", "random_neighbour", "reseeded"]

_RESEED = 1_000_003  # added to the seed of a control that changes nothing else


@dataclass(frozen=True)
class Variant:
    """One row of the comparison.

    Attributes:
        name: As in the column `arm` of the predictions.
        arm: The blocks that its ranking model sees.
        text: Whose text its features come from.
        control: What was done to the features, or to the seed.
    """

    name: str
    arm: Arm
    text: TextName = POLICY
    control: Control | None = None


def plan_variants(section: RankSection) -> list[Variant]:
    """The arms, then each control beside the arms that it can spoil, then the other texts."""
    variants = [Variant(arm, arm) for arm in section.arms]
    for control in section.controls:
        match control:
            case "shuffled" | "swapped":
                spoilt: Sequence[Arm] = ("both", "vectors", "match")
            case "random_neighbour":
                spoilt = ("cross",)
            case "reseeded":
                spoilt = ("base",)
        variants += [
            Variant(f"{arm}:{control}", arm, control=control)
            for arm in spoilt
            if arm in section.arms
        ]
    others = [text for text in section.texts if text != POLICY]
    told: Sequence[Arm] = ("both", "match")
    return variants + [
        Variant(f"{arm}:{text}", arm, text=text)
        for text in others
        for arm in told
        if arm in section.arms
    ]


def reseed(variant: Variant, seed: int) -> int:
    """The seed that a variant trains with."""
    return seed + _RESEED if variant.control == "reseeded" else seed


@dataclass(frozen=True)
class Contrast:
    """A weighted sum of arms, whose weights add up to 0.

    Attributes:
        name: Of the figures.
        kind: `lift`: over the base. `effect`: of a factor in the 2 x 2 design. `control`: what
            a control shows over the base, where there should be nothing. `loss`: what an arm
            keeps over its control, or over another text.
        weights: By variant.
    """

    name: str
    kind: Literal["lift", "effect", "control", "loss"]
    weights: dict[str, float]


def plan_contrasts(variants: Sequence[Variant]) -> list[Contrast]:
    """Every difference that the variants allow."""
    names = {variant.name for variant in variants}
    contrasts = []
    if "base" in names:
        contrasts = [_over("lift", one.name, "base") for one in variants if _is_real(one)]
    if {"base", "intra", "cross", "both"} <= names:
        contrasts += _FACTORIAL
    for variant in variants:
        if variant.control is not None and "base" in names:
            contrasts.append(_over("control", variant.name, "base"))
        if variant.name != variant.arm and variant.arm != "base":
            contrasts.append(_over("loss", variant.arm, variant.name))
    return contrasts


_FACTORIAL = [
    Contrast("codes", "effect", {"intra": 0.5, "base": -0.5, "both": 0.5, "cross": -0.5}),
    Contrast("sequence", "effect", {"cross": 0.5, "base": -0.5, "both": 0.5, "intra": -0.5}),
    Contrast("interaction", "effect", {"both": 1.0, "intra": -1.0, "cross": -1.0, "base": 1.0}),
]
"""Main effects, each averaged over the other factor, and what both have beyond their sum."""


def _is_real(variant: Variant) -> bool:
    return variant.control is None and variant.arm != "base"


def _over(kind: Literal["lift", "control", "loss"], of: str, over: str) -> Contrast:
    return Contrast(f"{of} - {over}", kind, {of: 1.0, over: -1.0})


def swapped(language: LanguageFeatures, salt: str) -> LanguageFeatures:
    """Every user gets all features of another.

    Under one salt a user who stands in two splits has, nearly always, one and the same other:
    the meaning is lost, but users can still be recognised. Under two salts nothing is left.
    """
    if language.since is None:
        others = random_others(language.user_ids, salt)
    else:
        others = dealt_out(language.user_ids, language.since, salt)
    donors = np.append(others, len(language.user_ids))
    return replace(
        language,
        codes=language.codes[donors],
        neighbour_items=language.neighbour_items[donors],
        vectors=language.vectors[donors],
        match=None if language.match is None else language.match.take(donors),
    )


def with_sequences(
    language: LanguageFeatures, sequences: Sequence[Sequence[str]], item_ids: Sequence[str]
) -> LanguageFeatures:
    """The features with other borrowed sequences, one a user, newest first."""
    place = {item: row for row, item in enumerate(item_ids)}
    items = np.full_like(language.neighbour_items, -1)
    length = items.shape[1]
    for row, sequence in enumerate(sequences):
        rows = [place[item] for item in sequence[:length]]
        items[row, : len(rows)] = rows
    return replace(language, neighbour_items=items)
