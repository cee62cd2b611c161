"""Table 3: direct distillation against RUPR, and within RUPR the ways of selecting chains.

    OMP_WAIT_POLICY=passive python benchmarks/reasoning.py recipes/reasoning.yaml

Five arms: the teacher is not shown the true item (`direct`), or it is (`rupr`) and its chains are
kept all, by perplexity (the paper), by gain, or by clipped perplexity. Construct runs once, distill
and score once for each way of asking, refine and SFT once an arm, on equal budgets of tokens
(sft.max_tokens). Then the untuned student and each arm answer the test examples greedily; they lie
in later weeks than all training. Both tracks, intervals and paired differences over users, beside
what the log alone gives. `--arms` names some of the arms only. With `--candidates N` the arms of
`--catalogue` also say how likely they find N titles an example, for answers that know the
catalogue. `--also NAME=MODEL` judges any other model. Settings may follow the recipe's path.

Nothing is done twice: a killed study goes on with the same command. Results lie in the run's
folder: answers/, study.json, study.md, reasoning.svg. The last line is JSON too.
"""

import argparse
import gc
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import vl_convert
from rules import Progress, copy_whole, say

from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.evaluation.figures import paired_figures, writer_figures
from taiji.language.encode import SentenceEncoder
from taiji.language.encoder_caches import CachedEncoder
from taiji.pipeline import upstream
from taiji.report.cells import cell_text
from taiji.report.list_tables import list_tables
from taiji.report.paper_tables import TRACK_TITLES, difference_table, language_table, list_columns
from taiji.runner import Runner, State, status
from taiji.schema import TRACKS
from taiji.stages.evaluate import as_writer, baseline_writers, build_judge, catalogue_figures
from taiji.stages.parts.asked_models import AskedModel
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext
from taiji.stages.parts.title_lists import list_figures, list_judge
from taiji.store.files import digest_value, replacing, write_json
from taiji.store.run_directory import RunDirectory

ARMS = {
    "direct": ("direct", "none"),
    "rupr-none": ("rupr", "none"),
    "rupr-ppl": ("rupr", "ppl"),
    "rupr-gain": ("rupr", "gain"),
    "rupr-clipped": ("rupr", "clipped"),
}
UNTUNED = "untuned"
FORM = ("think_tag_presence", "think_non_empty", "answer_non_empty")
LEAST_FORM = 0.97  # what a tuned student should reach in each of them
HARDEST = ("most_popular_new", "most_frequent")

Row = dict[str, Any]


def run_of(arm: str, base: RunDirectory) -> RunDirectory:
    return RunDirectory(base.root.with_name(f"{base.root.name}-{arm}"))


def train(path: Path, overrides: Sequence[str], arm: str, base: RunDirectory) -> Row:
    """Bring the student of an arm up to date; what its stages say of themselves."""
    mode, chosen = ARMS[arm]
    directory = run_of(arm, base)
    name, twin = directory.root.name, first_of(mode, base)
    own = [*overrides, f"name={name}", f"distill.mode={mode}", f"refine.filter={chosen}"]
    recipe = load_recipe(path, own).recipe
    shared = {"construct": base}
    if twin.root != directory.root:
        shared |= {"distill": twin, "score": twin}
    for stage, source in shared.items():
        if not directory.folder(stage).exists():
            directory.root.mkdir(parents=True, exist_ok=True)
            copy_whole(source.folder(stage), directory.folder(stage))
    states = {stage.name: state for stage, state in status(recipe, directory)}
    stale = [stage for stage in shared if states[stage] is not State.CURRENT]
    assert not stale, f"{directory.root}: {stale} are not those of {base.root}: remove the folder"
    Runner(recipe, directory, Progress(arm)).run("sft")
    gc.collect()  # this arm's model, before the next one's is loaded
    stages = [stage.name for stage in upstream("sft")]
    return {"mode": mode, "filter": chosen} | {s: dict(manifest_of(directory, s)) for s in stages}


def manifest_of(directory: RunDirectory, stage: str) -> Mapping[str, Any]:
    manifest = directory.manifest(stage)
    assert manifest is not None, f"{directory.folder(stage)}: gone while the study ran"
    return manifest.summary


def first_of(mode: str, base: RunDirectory) -> RunDirectory:
    """The arm that asks the teacher; the others of this mode take its chains."""
    return run_of(next(arm for arm, (asked, _) in ARMS.items() if asked == mode), base)


class Exam:
    """The test examples, and all that judges answers to them."""

    def __init__(self, recipe: Recipe, base: RunDirectory, num_users: int | None) -> None:
        self.recipe, self.base = recipe, base
        inputs = {stage: base.verify(stage) for stage in ("construct", "simulate")}
        self.ctx = StageContext(recipe, base.root, inputs, Progress("answers").progress)
        self.logs = Constructed(inputs["construct"])
        self.tests = self.logs.targeted_examples("test").slice(0, num_users)
        self.catalogue = self.logs.catalogue(self.tests, recipe.encoder.catalogue_titles)
        encoder = SentenceEncoder(recipe.encoder.model, recipe.encoder.batch_size)
        self.encoder = CachedEncoder(encoder)

    def asked(self, name: str, source: str | Path, made_of: object) -> AskedModel:
        """A model that is asked; what it said is kept as long as it is the same model."""
        construct = self.base.manifest("construct")
        assert construct is not None
        settings = [self.recipe.student.model_dump(), self.recipe.infer.model_dump()]
        settings += [self.recipe.encoder.model, self.recipe.evaluate.calibration]
        asked = [construct.outputs_digest, self.tests.num_rows, self.recipe.seed, settings]
        key = digest_value([made_of, asked]).removeprefix("sha256:")[:12]
        folder = self.base.root / "answers" / f"{name}-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        ctx = replace(self.ctx, out=folder, progress=Progress(name).progress)
        return AskedModel(name, source, ctx)

    def judge(self, models: Mapping[str, AskedModel], asked: Sequence[str]) -> Row:
        """All figures: writers, their differences, lists.

        Args:
            models: Untuned, arms and others, in the order of the tables.
            asked: Those that say how likely they find titles.
        """
        texts = {name: model.texts("test", self.tests) for name, model in models.items()}
        judge = build_judge(self.ctx, self.logs, self.catalogue, self.tests, self.encoder)
        writers = [as_writer(name, written) for name, written in texts.items()]
        writers += baseline_writers(self.logs, self.tests)
        judged = {writer.name: judge.judge(writer, self.tests) for writer in writers}
        of_lists = list_judge(self.ctx, self.logs, self.catalogue, self.encoder, self.encoder)
        listings = of_lists.judge(self.tests, models, {name: texts[name] for name in asked})
        section = self.recipe.evaluate
        return {
            "hit_rate_at": list(section.hit_rate_at),
            "catalogue": catalogue_figures(self.catalogue, self.logs.items, self.tests),
            "writers": {name: {"tracks": self._figures(part)} for name, part in judged.items()},
            "differences": self._differences(judged),
            **list_figures(listings, of_lists, section, self.recipe.seed),
        }

    def _settings(self) -> Row:
        section = self.recipe.evaluate
        return {
            "hit_rate_at": section.hit_rate_at,
            "resamples": section.bootstrap,
            "seed": self.recipe.seed,
        }

    def _figures(self, judged: pa.Table) -> Row:
        return {t: writer_figures(part_of(judged, t), **self._settings()) for t in TRACKS}

    def _differences(self, judged: Mapping[str, pa.Table]) -> list[Row]:
        pairs = [(arm, over) for arm in ARMS for over in (UNTUNED, *HARDEST)]
        pairs += [(arm, "direct") for arm in ARMS if arm != "direct"]
        pairs += [(arm, "rupr-none") for arm in ARMS if ARMS[arm][1] != "none"]
        return [
            {
                "of": of,
                "over": over,
                "track": track,
                "metrics": paired_figures(
                    part_of(judged[of], track), part_of(judged[over], track), **self._settings()
                ),
            }
            for of, over in pairs
            for track in TRACKS
            if {of, over} <= judged.keys()
        ]


def part_of(judged: pa.Table, track: str) -> pa.Table:
    return judged.filter(pc.equal(judged["track"], track))


def verdicts(found: Row) -> Row:
    """What a student should reach: form, and more than it knew before, beyond the intervals."""
    writers, verdict = found["writers"], {}
    untuned = writers[UNTUNED]["tracks"]["novel"]
    for arm in found["arms"]:
        form, novel = (writers[arm]["tracks"][track] for track in ("any", "novel"))
        verdict[arm] = {name: form[name]["value"] >= LEAST_FORM for name in FORM}
        for name in ("category_l3", f"title_hit_rate_at_{found['hit_rate_at'][0]}"):
            if name in novel:
                verdict[arm][f"novel {name} above untuned"] = (
                    novel[name]["low"] > untuned[name]["high"]
                )
    return verdict


def markdown(found: Row) -> str:
    """study.md: the tables, and what was trained on."""
    ranks = found["hit_rate_at"]
    novel = {**found, "differences": [d for d in found["differences"] if d["track"] == "novel"]}
    tables = [language_table(found, track, ranks) for track in ("novel", "any")]
    tables += [difference_table(novel, ranks)]
    tables += list_tables(found, TRACK_TITLES, list_columns(ranks))
    lines = [f"# Table 3, {found['users']:,} users; teacher: {found['teacher']}", ""]
    for table in tables:
        lines += [f"## {table.title}", "", table.caption, "", row_of(table.columns)]
        lines.append(row_of(["---"] * len(table.columns)))
        lines += [row_of([cell_text(cell) for cell in row]) for row in table.rows]
        lines.append("")
    names = ("examples", "completion_tokens", "steps", "last_loss")
    lines += ["## What each arm was trained on", "", row_of(("arm", "leak share", "kept", *names))]
    lines.append(row_of(["---"] * (3 + len(names))))
    for arm, told in found["arms"].items():
        kept = [told["distill"].get("leak_share", "–"), told["refine"].get("kept", "–")]
        lines.append(row_of([arm, *kept, *(told["sft"].get(name, "–") for name in names)]))
    return "\n".join(lines) + "\n"


def row_of(cells: Sequence[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def picture(found: Row) -> str:
    """Two measures of novel titles for each writer, with intervals."""
    hit = f"title_hit_rate_at_{found['hit_rate_at'][0]}"
    drawn = []
    for name in ("category_l3", hit):
        measured = {w: f["tracks"]["novel"].get(name) for w, f in found["writers"].items()}
        if name == hit:
            measured |= {
                f"{w} (list)": f.get("novel", {}).get(name) for w, f in found["lists"].items()
            }
        values = [{"writer": w, **figure} for w, figure in measured.items() if figure]
        y = {"field": "writer", "type": "nominal", "sort": None, "title": None}
        x = {"type": "quantitative", "title": f"{name}, novel titles"}
        layers = [
            {
                "mark": "rule",
                "encoding": {"y": y, "x": {**x, "field": "low"}, "x2": {"field": "high"}},
            },
            {"mark": "point", "encoding": {"y": y, "x": {**x, "field": "value"}}},
        ]
        drawn.append({"data": {"values": values}, "width": 330, "layer": layers})
    return vl_convert.vegalite_to_svg({"background": "white", "hconcat": drawn})


def last_line(found: Row) -> Row:
    """The figures that a text would quote."""
    names = [
        "category_l2",
        "category_l3",
        *(f"title_hit_rate_at_{k}" for k in found["hit_rate_at"]),
    ]
    return {
        "users": found["users"],
        "teacher": found["teacher"],
        "novel": {
            writer: {name: round(figures["tracks"]["novel"][name]["value"], 4) for name in names}
            for writer, figures in found["writers"].items()
            if figures["tracks"]["novel"]
        },
        "verdicts": found["verdicts"],
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("overrides", nargs="*", help="section.key=value, for every arm")
    parser.add_argument("--arms", nargs="*", choices=ARMS, default=[*ARMS], help="all if not given")
    parser.add_argument("--users", type=int, help="judge on the first so many test users only")
    parser.add_argument("--candidates", type=int, default=0, help="titles whose likelihood counts")
    parser.add_argument("--catalogue", nargs="*", default=["rupr-ppl"], help="by these arms")
    parser.add_argument("--also", nargs="*", default=[], help="NAME=MODEL, folder or Hub name")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    arguments = parser.parse_args()
    arguments.arms = [arm for arm in ARMS if arm in arguments.arms]
    if "rupr-none" not in arguments.arms and len(arguments.arms) > ("direct" in arguments.arms):
        parser.error("--arms: rupr-none asks the teacher for the other arms of rupr: name it too")
    return arguments


def main() -> None:
    arguments = parse()
    overrides = [*arguments.overrides, f"evaluate.candidates={arguments.candidates}"]
    recipe = load_recipe(arguments.recipe, overrides).recipe
    base = RunDirectory(arguments.runs / recipe.name)
    Runner(recipe, base, Progress("shared")).run("simulate")
    arms = {arm: train(arguments.recipe, overrides, arm, base) for arm in arguments.arms}
    exam = Exam(recipe, base, arguments.users)
    models = {UNTUNED: exam.asked(UNTUNED, recipe.student.model, recipe.student.model)}
    for arm in arms:
        manifest, folder = run_of(arm, base).manifest("sft"), run_of(arm, base).verify("sft")
        assert manifest is not None
        models[arm] = exam.asked(arm, folder / "model", manifest.outputs_digest)
    for name, _, source in (text.partition("=") for text in arguments.also):
        models[name] = exam.asked(name, source, source)
    asked = arguments.catalogue if arguments.candidates else []
    found = {"arms": arms, "users": len(set(exam.tests["user_id"].to_pylist()))}
    found |= {"teacher": recipe.distill.teacher.kind, **exam.judge(models, asked)}
    found["verdicts"] = verdicts(found)
    write_json(found, base.root / "study.json")
    for name, text in (("study.md", markdown(found)), ("reasoning.svg", picture(found))):
        with replacing(base.root / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    say(f"{base.root}: study.json, study.md, reasoning.svg")
    print(markdown(found))
    print(json.dumps(last_line(found)))


if __name__ == "__main__":
    main()
