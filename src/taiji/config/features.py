"""Settings of the features: what a ranking model gets of a text."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, field_validator

from taiji.config.lift import MatchSection
from taiji.config.section import POLICY, Count, Named, PathText, Section, TextName


class FeaturesSection(Section):
    """Intra-user codes by a quantiser; cross-user sequence of the nearest other user."""

    texts: tuple[TextName, ...] = Field(
        (POLICY,),
        strict=False,
        description="whose texts become features; others are ablations, `prompt` what the models "
        "read, written by none; none: the run ends with the judgement of its texts, and nothing "
        "is ranked",
    )
    quantiser: Literal["pq", "opq", "rq"] = Field(
        "pq", description="product (paper), product after a learned rotation, or residual"
    )
    sub_vectors: Count = Field(8, description="M codes a user; pq, opq: divides the dimension")
    bits: int = Field(6, ge=2, le=12, description="2^bits values of each code")
    neighbours: Literal["exact", "ivf", "hnsw"] = Field(
        "exact", description="search for the nearest user; the two others report their recall"
    )
    match: MatchSection | None = Field(
        None, description="make what the arm `match` of `rank` compares; null = not"
    )
    erased_users: PathText | None = Field(
        None,
        description="text file, a user id a line: they get no features and lend nothing",
    )

    def named(self) -> Iterator[Named]:
        """The list of erased users."""
        if self.erased_users is not None:
            yield Named("file", "erased_users", self.erased_users)

    @field_validator("texts")
    @classmethod
    def _with_the_policy(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        if (texts and POLICY not in texts) or len(set(texts)) < len(texts):
            raise ValueError("names each model once, policy among them, or none at all")
        return texts
