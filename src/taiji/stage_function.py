"""The function of each stage, by its name."""

from collections.abc import Callable

from taiji.errors import ConfigError
from taiji.stages.parts.context import StageContext, Summary

StageFunction = Callable[[StageContext], Summary]


def stage_function(name: str) -> StageFunction:
    """The function of a stage; imported here, because some take seconds to import."""
    match name:
        case "construct":
            from taiji.stages.construct import construct

            return construct
        case "ceiling":
            from taiji.stages.ceiling import ceiling

            return ceiling
        case "distill":
            from taiji.stages.distill import distill

            return distill
        case "score":
            from taiji.stages.score import score

            return score
        case "refine":
            from taiji.stages.refine import refine

            return refine
        case "sft":
            from taiji.stages.sft import sft

            return sft
        case "simulate":
            from taiji.stages.simulate import simulate

            return simulate
        case "head":
            from taiji.stages.head import head

            return head
        case "align":
            from taiji.stages.align import align

            return align
        case "infer":
            from taiji.stages.infer import infer

            return infer
        case "features":
            from taiji.stages.features import features

            return features
        case "surplus":
            from taiji.stages.surplus import surplus

            return surplus
        case "rank":
            from taiji.stages.rank import rank

            return rank
        case "abtest":
            from taiji.stages.abtest import abtest

            return abtest
        case "evaluate":
            from taiji.stages.evaluate import evaluate

            return evaluate
        case "report":
            from taiji.stages.report import report

            return report
        case _:
            raise ConfigError(f"{name}: no such stage")
