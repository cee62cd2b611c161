"""Settings of the ranking models: their sizes, the reward that one becomes, the comparison."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from taiji.config.section import POLICY, Count, Named, Section, Share, TextName

Backbone = Annotated[
    str, Field(pattern=r"^(network|lightgbm|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*)$")
]

_BESIDE = {
    "shuffled": ("both", "vectors", "match"),
    "swapped": ("both", "vectors", "match"),
    "random_neighbour": ("cross",),
    "reseeded": ("base",),
}
"""Arms that a control can stand beside; other texts stand beside `both` and `match`."""


class BoostingSection(Section):
    """LightGBM, the second ranking model and the gold judge (extra `lightgbm`)."""

    rounds: Count = Field(200, description="trees of each of its two models")
    leaves: int = Field(31, ge=2, description="the most that a tree has")
    learning_rate: float = Field(0.05, gt=0, description="share of each tree that counts")
    min_leaf: Count = Field(50, description="impressions that a leaf holds at least")
    category_rows: Count = Field(
        400,
        description="impressions that an item, a code or another name has before trees split on it",
    )


class RqSection(Section):
    """Residual codes (arXiv 2602.23012); the values are ours, the paper gives none."""

    levels: Count = Field(3, description="L, codes of a number")
    codes: int = Field(16, ge=2, description="K, of a level; fewer where rows are few")
    epochs: Count = Field(30, description="passes over the values; of every network of values")
    learning_rate: float = Field(
        2e-3, gt=0, description="of Adam, falling to 0; of every network of values"
    )
    number_weight: float = Field(1.0, ge=0, description="of the regressor's Huber loss")
    contrast_weight: float = Field(0.1, ge=0, description="of Rank-N-Contrast")
    own_codes: float = Field(
        0.5, ge=0, le=1, description="chance at the end of training that a step reads its own code"
    )


class ValueSection(Section):
    """A value head: what a conversion is worth, from a log that maps values."""

    kind: Literal["tweedie", "ziln", "bins", "rq"] = Field(
        "tweedie",
        description="LightGBM with Tweedie's loss, zero-inflated log-normal, one softmax over "
        "bins, or residual codes",
    )
    bins: int = Field(48, ge=2, description="of bins; fewer where rows are few")
    tweedie_power: float = Field(1.5, gt=1, lt=2, description="of the variance, of tweedie")
    trees: Count = Field(200, description="of tweedie")
    rq: RqSection = RqSection()


class KamlSection(Section):
    """KAML (arXiv 2512.13300): several kinds of conversions, reported in part."""

    mask: Literal["attribution", "goal", "all"] = Field(
        "attribution",
        description="which kinds an exposure teaches: its advertiser's goal and what it is seen to "
        "report (ADM); the goal alone; all of them, what was not reported counting as 0",
    )
    alpha: Count = Field(
        5, description="reports of a kind that show that an advertiser reports it (ours)"
    )
    split_towers: bool = Field(
        True,
        description="what the mask lets in beyond the goals is seen by a part of its own (HKE)",
    )
    gamma: float = Field(
        0.9, gt=0, le=1, description="weight of the likelihood; the rest is the ranking loss (RLU)"
    )


class RankerSection(Section):
    """The CTCVR ranking model: two towers over the entire space, target attention."""

    dim: Count = Field(16, description="width of each embedding")
    hidden: tuple[int, ...] = Field(
        (128, 64), strict=False, min_length=1, description="widths of the towers' hidden layers"
    )
    attention: Literal["dot", "din"] = Field(
        "dot", description="dot: one product a pair; din: a small network over each pair"
    )
    own_items: Count = Field(50, description="length of the user's own sequence")
    epochs: Count = Field(1, description="passes over the exposures")
    batch_size: Count = Field(512, description="exposures a step")
    learning_rate: float = Field(2e-3, gt=0, description="of Adam")
    keep_negatives: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of non-clicks to train on; pCTR is put right afterwards",
    )
    boosting: BoostingSection = BoostingSection()
    value: ValueSection | None = Field(
        None, description="learn what a conversion is worth, for the reward `value`; null = not"
    )
    kaml: KamlSection | None = Field(
        None,
        description="learn several kinds of conversions, of a log that maps them; null = the one "
        "that is the goal",
    )


class SimulateSection(Section):
    """The offline simulation of Eq. 4: a reward ranker, its score pool, a frozen normaliser."""

    pool_pairs: Count = Field(
        20_000, ge=100, description="user-item pairs whose scores fit the normaliser"
    )
    normaliser: Literal["minmax", "quantile", "winsorised", "log", "rank"] = Field(
        "minmax", description="minmax as in the paper; docs/rewards.md compares them all"
    )
    popularity_discount: Share = Field(
        0.0, description="lambda: CTCVR over the item's mean to this power; 1 = the full lift"
    )
    admission: Literal["refuse", "report"] = Field(
        "refuse", description="what becomes of a ranking model outside the four bounds below"
    )
    min_interaction_share: Share = Field(
        0.05, description="of the variance of log pCTCVR: what only user and item together explain"
    )
    max_constant_capture: Share = Field(
        0.95, description="of what a perfect policy wins, what one answer to everybody may win"
    )
    min_best_items: Count = Field(3, description="different items that are somebody's best")
    min_gauc_lead: float = Field(
        0.0, ge=-1, le=1, description="CTCVR GAUC minus that of the items' popularity"
    )
    gold: bool = Field(
        True, description="train LightGBM on the held-out users, to judge and never to be optimised"
    )


class RankSection(Section):
    """The comparison: ranking models with and without the language features."""

    backbones: tuple[Backbone, ...] = Field(
        ("network",),
        strict=False,
        min_length=1,
        description="network, lightgbm, or a class of your own as `package.module:name`",
    )
    arms: tuple[Literal["base", "intra", "cross", "both", "vectors", "match"], ...] = Field(
        ("base", "intra", "cross", "both"),
        strict=False,
        min_length=1,
        description="which features each ranking model gets: none, codes, borrowed sequence, both, "
        "dense vectors (paper: codes and sequence, each and both); match of text and item is ours",
    )
    seeds: Count = Field(
        1, description="times that each ranking model is trained; one seed shows no lift"
    )
    controls: tuple[Literal["shuffled", "swapped", "random_neighbour", "reseeded"], ...] = Field(
        (), strict=False, description="arms whose features mean nothing, beside the real ones"
    )
    texts: tuple[TextName, ...] = Field(
        (POLICY,),
        strict=False,
        description="whose text the features of `both` and `match` come from",
    )

    def named(self) -> Iterator[Named]:
        """Ranking models of the user's own."""
        for number, backbone in enumerate(self.backbones):
            if ":" in backbone:
                yield Named("code", f"backbones.{number}", backbone)

    @model_validator(mode="after")
    def _every_entry_has_an_effect(self) -> "RankSection":
        for name in ("backbones", "arms", "controls", "texts"):
            entries = getattr(self, name)
            if len(set(entries)) < len(entries):
                raise ValueError(f"{name}: an entry stands there twice")
        if POLICY not in self.texts:
            raise ValueError("texts: the arms use the text of `policy`: keep it in the list")
        others = [text for text in self.texts if text != POLICY]
        for entry in (*self.controls, *others):
            arms = _BESIDE.get(entry, ("both", "match"))
            if not set(arms) & set(self.arms):
                raise ValueError(f"{entry}: has no arm to stand beside: add {' or '.join(arms)}")
        return self
