"""The story on one page: sixteen stages, what each does, and what it reads.

    logs -> construct -> distill -> score -> refine -> sft ---+-> (head)
                 |                                            v     v
                 +-> simulate ---------------------------> align <--+
                 |                                            v
                 |                                          infer -> features -> rank (-> abtest)
                 |                                            |
                 +-> (ceiling) ----------------------> (surplus)
    everything -> evaluate -> report

`abtest` runs where a person or the recipe asks for it, `head` where the recipe does, `ceiling` and
`surplus` where a person does; the others always. Each stage is one
function in `taiji.stages`, in the file of its name. How stages are run, reused and resumed is in
`taiji.runner`.
"""

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        does: What it does, in the words of `taiji --help`.
        paper: Which of the paper's stages it belongs to, 1 to 4, or 0 for judgement.
        reads: Stages whose artifacts it reads.
        sections: Recipe sections that its result depends on, or parts such as `data.text`.
        may_read: Stages whose artifacts it reads if they have run and are up to date.
        contents: Sections whose settings name what it reads: files, models, code of the user's own.
    """

    name: str
    does: str
    paper: int
    reads: tuple[str, ...]
    sections: tuple[str, ...]
    may_read: tuple[str, ...] = ()
    contents: tuple[str, ...] = ()


STAGES = (
    Stage(
        "construct",
        "Turn logs into profiles, histories, targets and exposures.",
        1,
        (),
        ("data",),
        contents=("data.source",),
    ),
    Stage(
        "ceiling",
        "Say what any text could lift here, before one is written (only if asked for).",
        0,
        ("construct",),
        ("ceiling", "ranker"),
    ),
    Stage(
        "distill",
        "RUPR: the teacher, shown the true next item, writes k chains of thought.",
        1,
        ("construct",),
        ("distill", "student", "data.text"),
        contents=("distill.teacher", "student"),
    ),
    Stage(
        "score",
        "ORFT: how likely the true answer is under each chain (Eq. 1).",
        2,
        ("construct", "distill"),
        ("score", "student", "data.text"),
        contents=("score", "student"),
    ),
    Stage(
        "refine",
        "ORFT: keep the chains under which the true answer has low perplexity.",
        2,
        ("score",),
        ("refine",),
    ),
    Stage(
        "sft",
        "ORFT: fine-tune the student on the kept chains (Eq. 2).",
        2,
        ("construct", "refine"),
        ("sft", "student", "data.text", "compute.training.mixed_precision"),
        contents=("student",),
    ),
    Stage(
        "simulate",
        "Train the CTCVR reward ranker; fit the normaliser on its score pool (Eq. 4).",
        3,
        ("construct",),
        ("simulate", "ranker"),
    ),
    Stage(
        "head",
        "RPORec: train heads that rank items, on the student's own chains (only if asked for).",
        3,
        ("construct", "sft"),
        ("head", "infer", "student", "encoder", "data.text", "evaluate.bootstrap"),
        contents=("student", "infer", "encoder"),
    ),
    Stage(
        "align",
        "POPO: reinforcement learning with adaptive reward weights (Eq. 3 to 9).",
        3,
        ("construct", "sft", "simulate"),
        (
            "align",
            "student",
            "encoder",
            "data.text",
            "simulate.normaliser",
            "simulate.popularity_discount",
            "compute.training.mixed_precision",
        ),
        may_read=("head",),
        contents=("align.rewards", "encoder"),
    ),
    Stage(
        "infer",
        "Let the tuned models reason and answer for each user.",
        4,
        ("construct", "sft", "align"),
        ("infer", "student", "data.text", "features.texts"),
        contents=("student", "infer"),
    ),
    Stage(
        "features",
        "Quantise the text into sparse ids; borrow the nearest user's sequence.",
        4,
        ("construct", "infer"),
        ("features", "encoder", "data"),
        contents=("features", "encoder"),
    ),
    Stage(
        "surplus",
        "Say what the texts know that the ranking model does not (only if asked for).",
        0,
        ("construct", "infer", "ceiling"),
        ("ceiling", "encoder", "features"),
        contents=("encoder", "features"),
    ),
    Stage(
        "rank",
        "Train the ranking model with and without the features.",
        4,
        ("construct", "features"),
        ("rank", "ranker"),
        contents=("rank",),
    ),
    Stage(
        "abtest",
        "Simulate the online A/B test in an advertising market (only if asked for).",
        4,
        ("construct", "features", "rank"),
        ("abtest", "ranker", "rank"),
        contents=("rank",),
    ),
    Stage(
        "evaluate",
        "Compute the paper's metrics, with intervals and baselines.",
        0,
        ("construct", "distill", "refine", "sft", "simulate", "align", "infer", "rank"),
        ("evaluate", "encoder", "align", "distill", "student", "infer", "data.text"),
        may_read=("head", "abtest"),
        contents=("align.rewards", "encoder", "evaluate", "student"),
    ),
    Stage(
        "report",
        "Write report.html: user cards, curves and tables in one offline page.",
        0,
        (
            "construct",
            "distill",
            "score",
            "refine",
            "sft",
            "simulate",
            "align",
            "infer",
            "features",
            "rank",
            "evaluate",
        ),
        (
            "data",
            "student",
            "encoder",
            "distill",
            "score",
            "refine",
            "sft",
            "align",
            "infer",
            "rank",
            "evaluate",
            "report",
        ),
        may_read=("ceiling", "surplus"),
    ),
)


def find_stage(name: str) -> Stage:
    """The stage of this name."""
    return next(stage for stage in STAGES if stage.name == name)


def reads(stage: Stage, *, texts_given: bool = False) -> tuple[str, ...]:
    """What a stage needs; where texts are given, `infer` asks no model."""
    return ("construct",) if texts_given and stage.name == "infer" else stage.reads


def upstream(
    target: str,
    also: Collection[str] = (),
    without: Collection[str] = (),
    *,
    texts_given: bool = False,
) -> list[Stage]:
    """`target` and all that it needs, in order.

    Args:
        target: Name of the last stage.
        also: Of what a stage may read, these are wanted.
        without: Stages that cannot run on this log; whoever reads them goes without.
        texts_given: Whether `infer` takes texts that exist.
    """
    needed = {target}
    for stage in reversed(STAGES):
        if stage.name in needed:
            needed |= set(reads(stage, texts_given=texts_given))
            needed |= set(stage.may_read) & set(also)
            needed -= set(without)
    return [stage for stage in STAGES if stage.name in needed]
