"""How far a log carries: what it holds decides which stages can run, and what they can say.

Asked before any work of what a recipe describes, and again of what the tables really hold.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from taiji.config import DataSection
from taiji.config.sources import CompleteJourneySource
from taiji.data.engine.protocol import Engine
from taiji.data.problems import UnusableError
from taiji.data.sources.known import described
from taiji.schema import Goal

RANKING_STAGES = ("simulate", "rank", "abtest")
"""What learns from exposures."""


@dataclass(frozen=True)
class Lack:
    """Something that a log does not hold.

    Attributes:
        what: In a word or two.
        costs: What the run is without it.
        mend: The cheapest way to get it.
        leaves_out: Stages that cannot run.
    """

    what: str
    costs: str
    mend: str
    leaves_out: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line."""
        return f"{self.what}: {self.costs}. To have them: {self.mend}"


@dataclass(frozen=True)
class Contents:
    """What a log holds, as far as stages and figures depend on it; counts, or 1 for some.

    Attributes:
        exposures: Rows of what was shown.
        clicks: Of those.
        conversions: Of those; all that are known.
        goal: What ranking models predict.
        category_levels: The deepest level that any item has.
        profiles: Users of whom anything is known.
        prices: Interactions with a price.
        sampled: The exposures were drawn, and never shown to anybody.
        target_kinds: Kinds of interaction that can be foreseen; empty: not known yet.
    """

    exposures: int = 1
    clicks: int = 1
    conversions: int = 1
    goal: Goal = "conversion"
    category_levels: int = 3
    profiles: int = 1
    prices: int = 1
    sampled: bool = False
    target_kinds: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> "Contents":
        """Read what `to_json` gave."""
        known = {name: tree[name] for name in asdict(cls())}
        return cls(**known | {"target_kinds": tuple(known["target_kinds"])})

    def to_json(self) -> dict[str, Any]:
        """As JSON, with what is lacking in words for whoever reads the file."""
        return asdict(self) | {"lacks": [str(lack) for lack in self.lacks()]}

    def lacks(self) -> list[Lack]:
        """What is not there, what that costs, and the cheapest way to get it."""
        return [*self._lacks_of_exposures(), *self._lacks_of_text()]

    def left_out(self) -> frozenset[str]:
        """Stages that cannot run on such a log."""
        return frozenset(stage for lack in self.lacks() for stage in lack.leaves_out)

    def _lacks_of_exposures(self) -> list[Lack]:
        without = "no reward ranker, no ranking comparison; alignment pays no preference"
        if not self.exposures:
            mend = "map data.source.exposures, or draw some: data.sampled_negatives=4"
            return [Lack("no exposures", without, mend, RANKING_STAGES)]
        if not self.clicks:
            mend = "map data.source.exposures.click to what was clicked"
            return [Lack("no clicks", without, mend, RANKING_STAGES)]
        if self.goal == "conversion":
            return []
        what = "sampled exposures" if self.sampled else "no conversions"
        costs = "the click is the goal, one task: figures of clicks, none of CTCVR; no A/B test"
        mend = "map data.source.exposures.conversion, or own_top of a time watched"
        return [Lack(what, costs, mend, ("abtest",))]

    def _lacks_of_text(self) -> list[Lack]:
        found = []
        if self.category_levels < 2:
            none = not self.category_levels
            what = "no categories" if none else "one category level"
            costs = "no figures of categories" if none else "no figures of L2 and L3"
            mend = "map data.source.items.categories, such as [department, aisle]"
            found.append(Lack(what, costs, mend))
        if not self.profiles:
            mend = "map data.source.users"
            found.append(Lack("no profiles", "prompts tell of habits and history alone", mend))
        if not self.prices:
            mend = "map data.source.interactions.price"
            found.append(Lack("no prices", "neither prompts nor ranking models know any", mend))
        return found


def declared(section: DataSection) -> Contents:
    """What a recipe describes, without a look at any row.

    A source whose files are not there is taken to hold everything: whoever opens it will say so.
    """
    if isinstance(section.source, CompleteJourneySource):
        return Contents(goal=section.goal or "conversion")
    try:
        source = described(section.source)
    except UnusableError:
        return Contents(goal=section.goal or "conversion")
    categories = source.items.categories
    sampled = section.sampled_negatives is not None
    known = any(
        table.conversion or table.conversions or table.own_top for table in source.exposures
    )
    shown = int(bool(source.exposures) or sampled)
    return Contents(
        exposures=shown,
        clicks=shown,
        conversions=int(known),
        goal=section.goal or ("conversion" if known and not sampled else "click"),
        category_levels=0 if categories is None else categories.depth,
        profiles=int(source.users is not None and bool(source.users.profile)),
        prices=int(any(table.price is not None for table in source.interactions)),
        sampled=sampled,
    )


# A log whose conversions are its clicks, row for row, knows of clicks alone.
_COUNTS = """
SELECT
    (SELECT count(*) FROM {0}exposures) AS exposures,
    (SELECT coalesce(sum(click), 0) FROM {0}exposures) AS clicks,
    (SELECT coalesce(sum(conversion), 0) FROM {0}exposures) AS conversions,
    (SELECT count_if(conversion IS NOT NULL AND conversion <> click) FROM {0}exposures) AS apart,
    (SELECT coalesce(max(CASE WHEN category_l3 IS NOT NULL THEN 3
        WHEN category_l2 IS NOT NULL THEN 2
        WHEN category_l1 IS NOT NULL THEN 1 ELSE 0 END), 0) FROM {0}items) AS category_levels,
    (SELECT count_if(cardinality(filter(map_values(fields), one -> one IS NOT NULL)) > 0)
        FROM {0}users) AS profiles,
    (SELECT count(price) FROM {0}interactions) AS prices
"""


def counted(
    engine: Engine, section: DataSection, kinds: tuple[str, ...], prefix: str = ""
) -> Contents:
    """What the canonical tables hold, which the engine knows under their names.

    Args:
        engine: Has the tables.
        section: What the recipe says of goal and sampling.
        kinds: Of interactions that can be foreseen.
        prefix: Before each of the names.
    """
    (row,) = engine.query(_COUNTS.format(prefix)).to_pylist()
    numbers = {name: int(value or 0) for name, value in row.items()}  # sums are decimals
    apart = numbers.pop("apart")
    found: Goal = "conversion" if numbers["conversions"] and apart else "click"
    return Contents(
        **numbers,
        goal=section.goal or found,
        sampled=section.sampled_negatives is not None,
        target_kinds=kinds,
    )
