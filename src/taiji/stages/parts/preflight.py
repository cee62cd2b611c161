"""What can be found wrong before any work is done: whatever a recipe names must be usable.

A mistyped encoder would show after hours, when the stage that embeds begins. Here everything
that the stages to come will load is looked at: lists and tables are read, tokenizers,
configurations and the encoder loaded, the heads of weights' files read, code imported. Heavy
libraries are imported only for what they are needed for.
"""

from collections.abc import Sequence
from functools import reduce
from importlib.util import find_spec
from pathlib import Path

from taiji.config import Engine, Recipe
from taiji.config.section import Named, Section
from taiji.errors import ConfigError, EngineError
from taiji.pipeline import Stage

_EXTRAS = {"spark": "pyspark", "ray": "ray", "vllm": "vllm"}


def check_before_work(recipe: Recipe, stages: Sequence[Stage]) -> None:
    """Refuse what the stages to come could not use.

    Args:
        recipe: Of the run.
        stages: Those that will run; what only others need may be gone.

    Raises:
        ConfigError: A trainer setting is unknown, a file is not there, a class or a function
            cannot be imported, or two settings do not fit.
        DataError: A list or a table of scores is damaged.
        EngineError: A model cannot be loaded, or an extra is not installed.
    """
    names = {stage.name for stage in stages}
    check_trainer_settings(recipe)
    if custom := recipe.align.rewards.custom:
        from taiji.alignment.rewards.custom import import_rewards

        import_rewards(custom)
    if "features" in names and recipe.features.texts:
        _check_codes(recipe)
    if "rank" in names:
        check_backbones(recipe)
    if "abtest" in names:
        from taiji.abtest.statistics import check_library

        check_library()
    if names:
        _check_extras(recipe, names)
    if "distill" in names:
        _check_teacher(recipe)
    for engine in _engines(recipe, names):
        if engine.kind == "openai":
            from taiji.language.endpoint.client import EndpointClient

            EndpointClient(engine, engine.model or "")  # its address, and where its key goes
    checked: set[tuple[str, str]] = set()
    for stage in stages:
        for path in stage.contents:
            if path == "student" and stage.name == "infer" and recipe.infer.texts_from is not None:
                continue  # nobody is asked
            section: Section = reduce(getattr, path.split("."), recipe)
            for named in section.named():
                if (named.kind, named.name) not in checked:
                    checked.add((named.kind, named.name))
                    _check(named, f"{path}.{named.setting}", recipe)


def check_trainer_settings(recipe: Recipe) -> None:
    """Refuse further trainer settings that TRL does not have.

    Raises:
        ConfigError: A key of `sft.trainer` or `align.trainer` is unknown.
    """
    if not recipe.sft.trainer and not recipe.align.trainer:
        return  # importing TRL takes seconds
    from trl import SFTConfig

    from taiji.alignment import PopoConfig
    from taiji.reasoning.sft import check_trainer_arguments

    check_trainer_arguments(SFTConfig, recipe.sft.trainer, "sft.trainer")
    check_trainer_arguments(PopoConfig, recipe.align.trainer, "align.trainer")


def check_backbones(recipe: Recipe) -> None:
    """Refuse ranking models that are not installed.

    Raises:
        ConfigError: A class of the user's own cannot be imported or made.
        EngineError: LightGBM is asked for and not installed.
    """
    if recipe.rank.backbones == ("network",):
        return  # importing PyTorch takes seconds
    from taiji.ranking.backbones import build_backbones

    build_backbones(recipe.rank.backbones, recipe.ranker)


def _check_codes(recipe: Recipe) -> None:
    """Each user has one text in the window that the codebook is trained on, or less than one."""
    bits, users = recipe.features.bits, recipe.data.num_rank_users
    if recipe.data.refresh == "window" and users < 1 << bits:
        raise ConfigError(
            f"features.bits: 2^{bits} codes need as many users with text, and data.num_rank_users "
            f"draws {users}: lower the one or raise the other"
        )


def _check_extras(recipe: Recipe, names: set[str]) -> None:
    wanted = {
        "spark": "construct" in names and recipe.engine == "spark",
        "ray": recipe.compute.kind == "ray",
        "vllm": ("distill" in names and recipe.distill.teacher.kind == "vllm")
        or any(engine.kind == "vllm" for engine in _engines(recipe, names)),
    }
    for extra, package in _EXTRAS.items():
        if wanted[extra] and find_spec(package) is None:
            raise EngineError(f"{extra}: not installed: pip install 'taiji-rec[{extra}]'")


def _engines(recipe: Recipe, names: set[str]) -> list[Engine]:
    """How the stages to come ask the tuned models."""
    asking = {"head"} if recipe.infer.texts_from is not None else {"head", "infer", "evaluate"}
    if not names & asking:
        return []
    return [recipe.infer.engine, *recipe.infer.engines.values()]


def _check_teacher(recipe: Recipe) -> None:
    """A teacher without weights is made; of one with weights, `contents` tells what to look at."""
    section = recipe.distill.teacher
    if section.kind in ("evidence", "openai"):
        from taiji.reasoning.teachers import build_teacher

        if section.kind == "evidence":
            section = section.model_copy(update={"encoder": None})
        build_teacher(section, recipe.data.text, recipe.seed)


def _check(named: Named, setting: str, recipe: Recipe) -> None:
    match named.kind:
        case "file":
            _check_file(named, setting)
        case "model":
            from taiji.language.models import check_causal_lm

            check_causal_lm(named.name)
        case "encoder":
            _check_encoder(recipe)
        case "code" | "log":
            pass  # imported above; the log is read by the first stage of all


def _check_file(named: Named, setting: str) -> None:
    path = Path(named.name).expanduser()
    if not path.is_file():
        raise ConfigError(f"{setting}: {path}: no such file: correct the path, or set it to null")
    if setting == "align.rewards.scores":
        from taiji.alignment.rewards.score_table import read_scores

        read_scores(path)
        return
    if setting == "infer.texts_from":
        from taiji.stages.parts.given_texts import read_given

        read_given(path)
        return
    from taiji.data.ids import read_list

    read_list(path, setting)


def _check_encoder(recipe: Recipe) -> None:
    from taiji.language.encode import SentenceEncoder

    dimension = SentenceEncoder(recipe.encoder.model).dimension
    features = recipe.features
    if features.quantiser != "rq" and dimension % features.sub_vectors:
        raise ConfigError(
            f"features.sub_vectors: {features.sub_vectors} does not divide the encoder's "
            f"{dimension} dimensions: choose a divisor, or features.quantiser=rq"
        )
