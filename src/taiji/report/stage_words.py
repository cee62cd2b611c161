"""What a stage did in one line of words: the two or three of its figures that matter.

Figures come from the summary of the stage's manifest. A phrase whose figures are not there is
left out; a stage without phrases shows all its figures.
"""

from collections.abc import Callable, Iterator, Mapping

from taiji.report.paper_tables import WRITER_TITLES

Figures = Mapping[str, float | int | str]

_PHRASES: Mapping[str, tuple[str, ...]] = {
    "construct": (
        *("{lines read:,} lines read", "{users:,} users", "{exposures:,} exposures"),
        "{sampled exposures:,} sampled exposures",
    ),
    "distill": ("{candidates:,} chains by {teacher}",),
    "score": ("{scored:,} chains", "median perplexity of the answer {median_perplexity:.1f}"),
    "sft": ("{examples:,} examples", "loss {first_loss:.1f} to {last_loss:.1f}"),
    "simulate": ("fit to be a reward: {admitted}",),
    "head": ("NDCG {ndcg:.3f}", "on the prompt alone {ndcg_prompt_alone:.3f}"),
    "align": ("{rollouts:,} rollouts",),
    "infer": ("{texts:,} texts",),
    "ceiling": ("{in words}",),
    "features": ("{users_with_features:,} users and moments with codes and a neighbour",),
    "report": ("report.html",),
}
_MODELS = {"untuned": "untuned", "sft": "SFT", "policy": "policy", "prompt": "the prompt"}
_CATEGORY = "_any_category_l1"


def stage_words(stage: str, figures: Figures) -> str:
    """One line such as `kept 81 of 168 chains under R = 29.95`."""
    phrases = [*_filled(_PHRASES.get(stage, ()), figures)]
    if stage in _NAMED:
        phrases += _NAMED[stage](figures)
    return " · ".join(phrases) or _all(figures)


def _filled(templates: tuple[str, ...], figures: Figures) -> Iterator[str]:
    for template in templates:
        try:
            yield template.format_map(figures)
        except KeyError:
            continue  # a run of another version, or a figure that is not defined here


def _leaks(figures: Figures) -> Iterator[str]:
    if "leak_share" in figures:
        yield f"{percent(float(figures['leak_share']))} give the answer away"


def _refine(figures: Figures) -> Iterator[str]:
    kept = "kept {kept:,} of {chains:,} chains"
    if "threshold" not in figures:
        yield from _filled((f"{kept} ({{rule}})",), figures)
    elif figures.get("filter", "ppl") == "ppl":
        yield from _filled((f"{kept} under R = {{threshold:.2f}}",), figures)
    else:
        yield from _filled((f"{kept} by {{filter}}, limit {{threshold:.3g}}",), figures)


def _weights(figures: Figures) -> Iterator[str]:
    if found := numbers(figures, prefix="w_"):
        yield "weights " + ", ".join(f"{name} {value:.2f}" for name, value in sorted(found.items()))


def _form(figures: Figures) -> Iterator[str]:
    if found := numbers(figures, suffix="_ok"):
        yield f"in form: {by_writer(found)}"


def _surplus(figures: Figures) -> Iterator[str]:
    found = numbers(figures, suffix=" click AUC")
    told = [f"{writer_name(name)} {value:+.4f}" for name, value in found.items() if ":" not in name]
    if told:
        yield f"click AUC over the ranking model: {', '.join(told)}"


def _auc(figures: Figures) -> Iterator[str]:
    task = "ctcvr" if any(name.endswith("_ctcvr_auc") for name in figures) else "click"
    found = numbers(figures, suffix=f"_{task}_auc")
    ends = {n: value for n, value in found.items() if n.endswith(("base", "both"))} or found
    if ends:
        named = ", ".join(f"{n.replace('_', ' ')} {value:.4f}" for n, value in ends.items())
        yield f"{'CTCVR' if task == 'ctcvr' else 'click'} AUC: {named}"


def _reward_ranker(figures: Figures) -> Iterator[str]:
    for task, title in (("ctcvr", "CTCVR"), ("click", "click")):
        if f"{task}_auc" in figures:
            yield f"reward ranker: {title} AUC {figures[f'{task}_auc']:.3f}"
            return


def _lift(figures: Figures) -> Iterator[str]:
    found = numbers(figures, prefix="simulated_both_", suffix="_lift")
    if found:
        named = ", ".join(f"{name} {value:+.2f} %" for name, value in found.items())
        yield f"simulated lift of both: {named}"


def _answers(figures: Figures) -> Iterator[str]:
    """The policy beside the best of the others."""
    found = numbers(figures, suffix=_CATEGORY)
    if found:
        best = max(sorted(name for name in found if name != "policy"), key=found.__getitem__)
        shown = {name: found[name] for name in ("policy", best) if name in found}
        yield f"right L1: {by_writer(shown)}"


_NAMED: Mapping[str, Callable[[Figures], Iterator[str]]] = {
    "distill": _leaks,
    "refine": _refine,
    "align": _weights,
    "infer": _form,
    "surplus": _surplus,
    "rank": _auc,
    "simulate": _reward_ranker,
    "abtest": _lift,
    "evaluate": _answers,
}


def by_writer(shares: Mapping[str, float]) -> str:
    """Shares of models and trivial answers, in the order in which the report has them."""
    names = dict.fromkeys([*(name for name in WRITER_TITLES if name in shares), *shares])
    return ", ".join(f"{writer_name(name)} {percent(shares[name])}" for name in names)


def writer_name(name: str) -> str:
    """A model or a trivial answer in a word or two."""
    return _MODELS.get(name) or WRITER_TITLES.get(name, name).lower()


def count(number: float | int | str, what: str) -> str:
    """`1 step`, `3 steps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """A share in whole per cent."""
    return f"{100 * share:.0f} %"


def numbers(figures: Figures, *, prefix: str = "", suffix: str = "") -> dict[str, float]:
    """Numbers whose names begin and end like this, by the part between."""
    return {
        name.removeprefix(prefix).removesuffix(suffix): float(value)
        for name, value in figures.items()
        if name.startswith(prefix) and name.endswith(suffix) and not isinstance(value, str)
    }


def _all(figures: Figures) -> str:
    return " · ".join(
        f"{key.replace('_', ' ')} {value:,.4g}"
        if isinstance(value, float)
        else f"{key.replace('_', ' ')} {value}"
        for key, value in figures.items()
    )
