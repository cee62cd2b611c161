"""Which rule for the reward weights: one student and seed, each rule, held-out prompts.

    OMP_WAIT_POLICY=passive python benchmarks/rules.py recipes/rules.yaml

The stages up to `simulate` run once; each rule goes on from a copy of them in a run of its own.
Then the student before alignment and each policy answer the test examples, which lie in later
weeks than all training, greedily and by sampling. They are paid as in alignment: Eq. 3, and Eq. 4
with the frozen normaliser. Intervals and paired differences are bootstrapped over users. Settings
may follow the recipe's path.

Nothing is done twice: a killed study goes on with the same command. Results lie in the run's
folder: judged-<writer>.json (every answer), study.json (figures, curves), rules.svg. The last line
is JSON too.
"""

import argparse
import gc
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

from taiji.alignment.rewards.grounding import Grounder
from taiji.alignment.rewards.hacking import answer_shares
from taiji.alignment.rewards.reward import Rollout
from taiji.alignment.rollouts import RolloutJudge
from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.data.item_text import item_texts
from taiji.evaluation.baselines import baseline_answers
from taiji.evaluation.metrics import bootstrap_difference, bootstrap_interval, mean_statistic
from taiji.language.completions import render_completion
from taiji.language.encode import SentenceEncoder
from taiji.language.encoder_caches import CachedEncoder, RecentTexts
from taiji.language.generate import Sampling, TransformersGenerator
from taiji.language.models import load_causal_lm
from taiji.language.prompt import ChatScaffold
from taiji.pipeline import Stage, upstream
from taiji.reasoning.prompts import prompt_fitter
from taiji.runner import Runner, State, status
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.preferences import ladder, load_preferences
from taiji.store.files import (
    digest_value,
    read_json,
    read_jsonl,
    replacing,
    write_json,
)
from taiji.store.run_directory import Manifest, RunDirectory

ETA = 1.0  # of Eq. 5 with mu = 1, raw: none of the settings that temper it
RULES = {
    "fixed": "{rule: fixed}",
    "popo_light": "{rule: popo_light}",
    "popo": f"{{rule: popo, eta: {ETA}}}",
    "popo_split": f"{{rule: popo_split, eta: {ETA}}}",
}
SHARED = [stage.name for stage in upstream("align") if stage.name != "align"]
TRIVIAL = ("most_popular", "last_bought", "best_constant", "true_item")
WAYS = ("greedy", "sampled")
MEASURES = ("semantic", "preference", "ctcvr", "format", "well_formed", "grounded")
SMOOTH = 10  # steps of two prompts are noisy
ENDED = 0  # stands for a token that ends a completion

Row = dict[str, Any]


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


class Progress:
    """A line with the time of day, now and then."""

    def __init__(self, run: str) -> None:
        self._run, self._last = run, 0.0

    def reused(self, stage: Stage, manifest: Manifest) -> None:
        say(f"{self._run}: {stage.name} up to date")

    def started(self, stage: Stage, *, resumed: bool) -> None:
        say(f"{self._run}: {stage.name}{' goes on' if resumed else ''}")

    def progress(self, done: int, total: int, what: str) -> None:
        if time.monotonic() - self._last > 30:
            self._last = time.monotonic()
            say(f"{self._run}: {what}: {done}/{total}")

    def finished(self, stage: Stage, manifest: Manifest) -> None:
        say(f"{self._run}: {stage.name} took {manifest.seconds:.0f} s: {dict(manifest.summary)}")


def align_under(path: Path, overrides: Sequence[str], rule: str, base: RunDirectory) -> None:
    """Align from a copy of the shared stages; the run is called after base and rule."""
    directory = run_of(rule, base)
    own = [*overrides, f"name={directory.root.name}", f"align.weights={RULES[rule]}"]
    recipe = load_recipe(path, own).recipe
    for stage in SHARED:
        if not directory.folder(stage).exists():
            copy_whole(base.folder(stage), directory.folder(stage))
    states = {stage.name: state for stage, state in status(recipe, directory)}
    stale = [stage for stage in SHARED if states[stage] is not State.CURRENT]
    assert not stale, f"{directory.root}: {stale} are not those of {base.root}: remove the folder"
    Runner(recipe, directory, Progress(rule)).run("align")
    gc.collect()  # the model of this rule, before the next one's is loaded


def run_of(rule: str, base: RunDirectory) -> RunDirectory:
    return RunDirectory(base.root.with_name(f"{base.root.name}-{rule.replace('_', '-')}"))


def copy_whole(source: Path, target: Path) -> None:
    """A copy that is whole or absent. Links will do, since artifacts are never written again."""
    unfinished = target.with_name(f".{target.name}.copy")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished, copy_function=os.link)
    unfinished.rename(target)


@dataclass(frozen=True)
class HeldOut:
    """The examples that judge, and what their answers earn."""

    recipe: Recipe
    examples: Sequence[Row]
    judge: RolloutJudge
    trivial: Mapping[str, Sequence[str]]  # answers by writer

    def answers_of(self, model_folder: Path, samples: int) -> list[Row]:
        """What a model writes: one greedy answer to each example, and some drawn ones."""
        section = self.recipe.infer
        model, tokenizer = load_causal_lm(str(model_folder), section.dtype)
        fitter = prompt_fitter(self.recipe, ChatScaffold(tokenizer))
        prompts = [fitter.fit(example)[0] for example in self.examples]
        name = model_folder.parent.parent.name
        generator = TransformersGenerator(model, tokenizer, name, section.batch_size)
        greedy = Sampling(self.recipe.student.max_completion_tokens, 0.0, self.recipe.seed)
        drawn = replace(greedy, temperature=self.recipe.align.temperature)
        rows: list[Row] = []
        for way, sampling, num in (("greedy", greedy, 1), ("sampled", drawn, samples)):
            groups = generator.generate(prompts, num, sampling) if num else []
            replies = [reply for group in groups for reply in group]
            asked = [example for example in self.examples for _ in range(num)]
            ended = [reply.status == "ok" for reply in replies]
            rows += self._paid(way, asked, [reply.text for reply in replies], ended)
        return rows

    def trivial_answers(self, writer: str) -> list[Row]:
        """The same for an answer that needs no model."""
        texts = [render_completion("-", answer) for answer in self.trivial[writer]]
        return self._paid("greedy", self.examples, texts, [True] * len(texts))

    def _paid(
        self, way: str, examples: Sequence[Row], texts: Sequence[str], ended: Sequence[bool]
    ) -> list[Row]:
        if not texts:
            return []
        example_ids = [example["example_id"] for example in examples]
        ids = [[ENDED] if whole else [] for whole in ended]
        rollouts = self.judge.judge(example_ids, texts, ids)
        return [
            {
                "user_id": example["user_id"],
                "way": way,
                **{name: value for name, value in vars(rollout).items() if name != "custom"},
                "ctcvr": ctcvr,
                "well_formed": float(rollout.status == "ok"),
                "grounded": float(rollout.grounded_item_id is not None),
            }
            for example, rollout, ctcvr in zip(
                examples, rollouts, self._ctcvr(rollouts), strict=True
            )
        ]

    def _ctcvr(self, rollouts: Sequence[Rollout]) -> list[float]:
        """What the reward ranker says of the items, before discount and normaliser; 0 for none."""
        pairs = [(r.example_id, r.grounded_item_id) for r in rollouts if r.grounded_item_id]
        scores: Iterator[float] = iter(())
        if pairs:
            contexts, items = zip(*pairs, strict=True)
            scores = iter(self.judge.preference.scorer.score(contexts, items).tolist())
        return [next(scores) if r.grounded_item_id else 0.0 for r in rollouts]


def held_out(recipe: Recipe, base: RunDirectory) -> HeldOut:
    """The test examples, judged as alignment judges its own."""
    inputs = {stage: base.verify(stage) for stage in ("construct", "simulate")}
    logs = Constructed(inputs["construct"])
    tests = logs.targeted_examples("test")
    catalogue = logs.catalogue(tests, recipe.encoder.catalogue_titles)
    context = StageContext(recipe, base.root, inputs, lambda *_: None)
    preferences = load_preferences(context, logs, tests)
    encoder = SentenceEncoder(recipe.encoder.model, recipe.encoder.batch_size)
    cached, rewards = CachedEncoder(encoder), recipe.align.rewards
    texts = dict(zip(logs.items["item_id"].to_pylist(), item_texts(logs.items), strict=True))
    targets: list[str] = tests["target_item_id"].to_pylist()
    vectors_ND = cached.encode([texts[item] for item in targets])
    judge = RolloutJudge(
        targets=dict(zip(tests["example_id"].to_pylist(), vectors_ND, strict=True)),
        encoder=RecentTexts(encoder),
        grounder=Grounder(logs.items, cached, catalogue=catalogue, ladder=ladder(rewards)),
        preference=preferences.reward,
        form="binary" if rewards.format == "binary" else "graded",
        end_ids=frozenset({ENDED}),
    )
    items = baseline_answers(logs.interactions, tests)
    items |= {"best_constant": preferences.constants[:1] * len(targets), "true_item": [*targets]}
    trivial = {name: [texts[i] if i else "" for i in items[name]] for name in TRIVIAL}
    return HeldOut(recipe, tests.to_pylist(), judge, trivial)


def judged(writer: str, base: RunDirectory, samples: int, users: HeldOut) -> list[Row]:
    """Every answer of a writer with its rewards; kept, and made again if its model is another."""
    stage, directory = ("sft", base) if writer == "sft" else ("align", run_of(writer, base))
    stages = {s: base.manifest(s).outputs_digest for s in ("construct", "simulate")}
    if writer not in TRIVIAL:
        stages[stage] = directory.manifest(stage).outputs_digest
    settings = [getattr(users.recipe, name).model_dump() for name in ("encoder", "infer")]
    key = digest_value([stages, samples, users.recipe.seed, settings])
    path = base.root / f"judged-{writer}.json"
    if not path.is_file() or read_json(path)["key"] != key:
        began = time.monotonic()
        users.judge.encoder.forget()  # so that a resumed study finds the same to the last bit
        if writer in TRIVIAL:
            rows = users.trivial_answers(writer)
        else:
            rows = users.answers_of(directory.verify(stage) / "model", samples)
        write_json({"key": key, "rows": rows}, path)
        say(f"judged {len(rows)} answers of {writer} in {time.monotonic() - began:.0f} s")
    return read_json(path)["rows"]


def intervals(rows: Sequence[Row], recipe: Recipe, over: Sequence[Row] = ()) -> dict[str, Any]:
    """Each measure with its interval over users, or its paired difference over another writer's."""
    users = [row["user_id"] for row in rows]
    drawing = {"resamples": recipe.evaluate.bootstrap, "seed": recipe.seed}
    found = {}
    for name in MEASURES:
        own, other = (mean_statistic([row[name] for row in part]) for part in (rows, over))
        if over:
            assert [row["example_id"] for row in rows] == [row["example_id"] for row in over]
            found[name] = vars(bootstrap_difference(own, other, users, **drawing))
        else:
            found[name] = vars(bootstrap_interval(own, users, **drawing))
    return found


def variety(rows: Sequence[Row]) -> dict[str, Any]:
    shares = answer_shares([row["grounded_item_id"] for row in rows])
    top = shares[0][1] if shares else 0.0
    return {"answers": len(rows), "distinct_items": len(shares), "top_item_share": top}


def study(recipe: Recipe, base: RunDirectory, answers: Mapping[str, list[Row]]) -> dict[str, Any]:
    """Writers by way of answering, paired differences, and the curves of training."""
    pairs = [(rule, over) for rule in RULES for over in ("sft", "fixed") if rule != over]
    found: dict[str, Any] = {"rules": RULES, "writers": {}, "differences": {}}
    for way in WAYS:
        part = {w: [row for row in rows if row["way"] == way] for w, rows in answers.items()}
        part = {writer: rows for writer, rows in part.items() if rows}
        found["writers"][way] = {w: intervals(r, recipe) | variety(r) for w, r in part.items()}
        found["differences"][way] = {
            f"{of} - {over}": intervals(part[of], recipe, part[over])
            for of, over in pairs
            if of in part
        }
    curves = {r: run_of(r, base).folder("align") / "metrics.jsonl" for r in RULES}
    return found | {
        "users": len({row["user_id"] for row in answers["sft"]}),
        "curves": {rule: read_jsonl(path) for rule, path in curves.items()},
        "simulate": dict(base.manifest("simulate").summary),
    }


def picture(curves: Mapping[str, Sequence[Row]]) -> str:
    """Weight and rewards over steps for each rule, side by side."""
    panels = {
        "w_semantic": ("weight of the semantic reward", 1),
        "rewards/semantic/mean": (f"semantic reward, mean of {SMOOTH} steps", SMOOTH),
        "rewards/preference/mean": (f"preference reward, mean of {SMOOTH} steps", SMOOTH),
    }
    drawn = []
    for column, (title, window) in panels.items():
        values = []
        for rule, rows in curves.items():
            y = [row[column] for row in rows]
            means = [float(np.mean(y[max(0, n - window) : n])) for n in range(1, len(y) + 1)]
            values += [{"rule": rule, "step": n, "y": mean} for n, mean in enumerate(means, 1)]
        encoding = {
            "x": {"field": "step", "type": "quantitative"},
            "y": {"field": "y", "type": "quantitative", "title": title, "scale": {"zero": False}},
            "color": {"field": "rule", "type": "nominal", "scale": {"domain": list(RULES)}},
        }
        spec = {"data": {"values": values}, "mark": "line", "encoding": encoding}
        drawn.append({**spec, "width": 300, "height": 230})
    return vl_convert.vegalite_to_svg({"background": "white", "hconcat": drawn})


def print_tables(found: Mapping[str, Any]) -> None:
    def cells(row: Mapping[str, Any], names: Sequence[str], form: str) -> str:
        texts = [
            [f"{row[name][part]:{form}}" for part in ("value", "low", "high")] for name in names
        ]
        return "".join(f"  {value} [{low}, {high}]" for value, low, high in texts)

    print(f"\n{found['users']} users; 95 % intervals over users")
    for way, writers in found["writers"].items():
        print(f"\n{way}: {', '.join(MEASURES)}; items; share of the most used")
        for writer, row in writers.items():
            varied = f"  {row['distinct_items']}  {row['top_item_share']:.2f}"
            print(f"{writer:14s}{cells(row, MEASURES, '6.3f')}{varied}")
        for pair, row in found["differences"][way].items():
            print(f"{pair:24s}{cells(row, MEASURES[:3], '+.3f')}")


def last_line(found: Mapping[str, Any]) -> dict[str, Any]:
    """The figures that a text would quote."""
    rewards, curves = ("semantic", "preference"), found["curves"].items()
    return {
        "users": found["users"],
        "held_out": {
            way: {w: {r: round(row[r]["value"], 4) for r in rewards} for w, row in writers.items()}
            for way, writers in found["writers"].items()
        },
        "last_weights": {
            rule: {r: round(rows[-1][f"w_{r}"], 4) for r in rewards} for rule, rows in curves
        },
        "median_step_seconds": {
            rule: round(float(np.median([row["step_time"] for row in rows])), 2)
            for rule, rows in curves
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="section.key=value, for every rule")
    parser.add_argument("--samples", type=int, default=4, help="drawn answers to each example")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.overrides).recipe
    base = RunDirectory(arguments.runs / recipe.name)
    for stage in ("sft", "simulate"):
        Runner(recipe, base, Progress("shared")).run(stage)
    for rule in RULES:
        align_under(arguments.recipe, arguments.overrides, rule, base)
    users = held_out(recipe, base)
    answers = {w: judged(w, base, arguments.samples, users) for w in (*TRIVIAL, "sft", *RULES)}
    found = study(recipe, base, answers)
    write_json(found, base.root / "study.json")
    with replacing(base.root / "rules.svg") as temporary:
        temporary.write_text(picture(found["curves"]), encoding="utf-8")
    print_tables(found)
    print(json.dumps(last_line(found)))


if __name__ == "__main__":
    main()
