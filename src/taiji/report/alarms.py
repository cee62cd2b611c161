"""What went wrong as a whole, though every stage went through: nothing of it passes in silence.

A run may end with a report in which no text could be read, every user has one code, or four people
stand behind a difference. Each is told where a person looks: when the stage ends, in the last lines
of the run, and first on the page.
"""

from collections.abc import Iterator, Mapping

from taiji.report.cells import Metrics
from taiji.report.stage_words import Figures, numbers, writer_name

FEW_USERS = 30
"""A group with fewer carries no difference."""

SAME_COSINE = 0.9995
"""A mean cosine to the neighbour that reads 1.000."""


def alarms(figures: Mapping[str, Figures], metrics: Metrics | None = None) -> list[str]:
    """All that a run should be looked at for.

    Args:
        figures: Summary of each stage's manifest.
        metrics: `metrics.json` of `evaluate`, if it has run.
    """
    found = [text for stage, own in figures.items() for text in stage_alarms(stage, own)]
    titles = (metrics or {}).get("titles") or {}
    found += [f"titles: {text}" for text in titles.get("problems", ())]
    return [*found, *_few_users((metrics or {}).get("ranking"))]


def stage_alarms(stage: str, figures: Figures) -> Iterator[str]:
    """Those that the summary of one stage gives."""
    match stage:
        case "score":
            if float(figures.get("median_gain", 0)) < 0:
                yield (
                    "score: under most chains the true answer is less likely than without any: "
                    "they argue past it"
                )
        case "infer":
            for name, share in numbers(figures, suffix="_ok").items():
                if share == 0 and name != "untuned":  # which nobody has told the form
                    yield f"infer: no text of {writer_name(name)} is in the form asked for"
        case "features":
            yield from _features(figures)


def _features(figures: Figures) -> Iterator[str]:
    if "entropy_bits" in figures and float(figures["entropy_bits"]) == 0:
        yield "features: all users have the same codes: they tell a ranking model nothing"
    if float(figures.get("mean_similarity", 0)) >= SAME_COSINE:
        yield (
            "features: neighbours are at cosine 1.000: the texts are all but the same, or the "
            "encoder cannot read them"
        )


def _few_users(ranking: Metrics | None) -> Iterator[str]:
    groups: dict[str, int] = {}
    for backbone in (ranking or {}).get("backbones", {}).values():
        for name, group in backbone.items():
            if group.get("contrasts") and group.get("users", FEW_USERS) < FEW_USERS:
                groups[name] = int(group["users"])
    for name, users in groups.items():
        people = "1 user stands" if users == 1 else f"{users} users stand"
        yield f"rank: {people} behind the differences of the group {name.replace('_', ' ')}"
