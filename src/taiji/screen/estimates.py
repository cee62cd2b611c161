"""How much a recipe asks for, and about how long it takes on this machine.

The arithmetic counts floating-point operations of the bundled student and divides them by the
speed of a matrix product timed here. `_SHARE_OF_PEAK` was measured once per stage with
`recipes/demo.yaml` on two idle cores; for any other student there is no estimate.
"""

import time

import numpy as np

from taiji.config import POLICY, PROMPT, Recipe

KNOWN_MODEL = "smollm2-135m-instruct"

_BODY = 106.2e6  # parameters in the blocks
_HEAD = 28.3e6  # parameters of the tied embedding and head
_LAYERS = 30
_ANSWER_TOKENS = 32
_COT_TOKENS = 42

# Share of the speed of a large matrix product that a stage reaches, data handling included.
_SHARE_OF_PEAK = {"score": 0.69, "sft": 0.86, "align": 0.45, "infer": 0.45}
_FIXED_SECONDS = {
    "construct": 13.0,
    "distill": 7.0,
    "score": 5.0,
    "refine": 1.0,
    "sft": 6.0,
    "simulate": 20.0,
    "head": 60.0,
    "align": 12.0,
    "infer": 6.0,
    "features": 6.0,
    "rank": 20.0,
    "abtest": 60.0,
    "ceiling": 280.0,
    "surplus": 30.0,
    "evaluate": 10.0,
    "report": 2.0,
}
_FIT_SECONDS, _FIT_SHARE = 5.0, 0.05  # of one ranking model, at the demo's share of exposures


def stage_size(name: str, recipe: Recipe) -> str:
    """In a few words, how much a stage has to do."""
    data, align = recipe.data, recipe.align
    sizes = {
        "construct": f"{data.num_sft + data.num_rl + data.num_test} targets",
        "distill": f"{data.num_sft} x {recipe.distill.candidates} chains",
        "score": f"{data.num_sft * recipe.distill.candidates} chains",
        "sft": f"{sft_examples(recipe)} examples",
        "simulate": f"{100 * data.exposure_share:.0f} % of exposures",
        "head": f"{data.num_rl} texts",
        "align": f"{align.steps} steps of {align.prompts_per_step} x {align.num_generations}",
        "infer": f"{num_texts(recipe)} texts",
        "features": f"{num_rank_texts(recipe)} texts",
        "abtest": f"{recipe.abtest.requests} requests x {recipe.abtest.candidates}",
        "rank": f"{_num_fits(recipe)} models",
    }
    return sizes.get(name, "")


def estimate_seconds(recipe: Recipe) -> dict[str, float]:
    """Seconds for each stage; empty when the student is not the bundled one."""
    if recipe.student.model != KNOWN_MODEL or recipe.distill.teacher.kind != "evidence":
        return {}
    speed = _matmul_speed()
    operations = {
        "score": _score(recipe),
        "sft": _sft(recipe),
        "align": _align(recipe),
        "infer": _infer(recipe),
    }
    fixed_seconds = _FIXED_SECONDS | {"rank": _FIXED_SECONDS["rank"] + _fitting_seconds(recipe)}
    return {
        name: fixed + operations.get(name, 0.0) / (speed * _SHARE_OF_PEAK.get(name, 1.0))
        for name, fixed in fixed_seconds.items()
    }


def _score(recipe: Recipe) -> float:
    branches = recipe.distill.candidates * (_COT_TOKENS + _ANSWER_TOKENS)
    return 2 * _BODY * recipe.data.num_sft * (_prompt_tokens(recipe) + branches)


def _sft(recipe: Recipe) -> float:
    tokens = _prompt_tokens(recipe) + _COT_TOKENS + _ANSWER_TOKENS
    trained = min(1.0, (recipe.sft.trainable_layers or _LAYERS) / _LAYERS)
    return sft_examples(recipe) * recipe.sft.epochs * tokens * _training(trained)


def _align(recipe: Recipe) -> float:
    """Generation, a probe where the rule needs gradients and moves, and the update."""
    align = recipe.align
    tokens = _prompt_tokens(recipe) + recipe.student.max_completion_tokens
    trained = min(1.0, (align.trainable_layers or _LAYERS) / _LAYERS)
    probes = 1 / align.weights.every if align.weights.needs_gradients else 0.0
    rollouts = align.steps * align.prompts_per_step * align.num_generations
    return rollouts * tokens * (2 * _BODY + (1 + probes) * _training(trained))


def _infer(recipe: Recipe) -> float:
    tokens = _prompt_tokens(recipe) + recipe.longest_text()
    return 2 * (_BODY + _HEAD) * num_texts(recipe) * tokens


def _training(trained: float) -> float:
    """Operations per token: forward, then backward through the trained share of the blocks."""
    return 2 * (_BODY + _HEAD) + 4 * _BODY * trained + 2 * _HEAD


def _prompt_tokens(recipe: Recipe) -> int:
    return min(recipe.student.max_prompt_tokens, 120 + 38 * recipe.data.history_items)


def sft_examples(recipe: Recipe) -> int:
    """About how many chains are learnt from in an epoch."""
    if recipe.sft.max_tokens is not None:
        return max(1, recipe.sft.max_tokens // (_COT_TOKENS + _ANSWER_TOKENS))
    kept = recipe.data.num_sft * recipe.distill.candidates * recipe.refine.quantile
    return min(recipe.sft.num_examples, max(1, round(kept)))


def num_texts(recipe: Recipe) -> int:
    """What `infer` has written."""
    written = [text for text in recipe.features.texts if text != PROMPT]
    tests = recipe.data.num_test * len(recipe.infer.models)
    return tests + 2 * recipe.data.num_rank_users * len(written)


def num_rank_texts(recipe: Recipe) -> int:
    """Of the users of the ranking model, in both of its windows."""
    return 2 * recipe.data.num_rank_users * len(recipe.features.texts)


def _num_fits(recipe: Recipe) -> int:
    """Arms, what controls spoil of them, and other texts; for each backbone and seed."""
    rank = recipe.rank
    controls = sum(2 if control in ("shuffled", "swapped") else 1 for control in rank.controls)
    variants = len(rank.arms) + controls + sum(text != POLICY for text in rank.texts)
    return variants * len(rank.backbones) * rank.seeds


def _fitting_seconds(recipe: Recipe) -> float:
    return _num_fits(recipe) * _FIT_SECONDS * recipe.data.exposure_share / _FIT_SHARE


def _matmul_speed(size: int = 1024, repeats: int = 5) -> float:
    """Floating-point operations a second of a square fp32 product, the best of a few."""
    a = np.ones((size, size), dtype=np.float32)
    a @ a
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - began)
    return float(2 * size**3 / min(seconds))
