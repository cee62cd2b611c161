"""`sft` and `align` in two processes of this machine: the model of one, whoever is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import test_align
import test_sft
import torch
from reasoning_run import context
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from taiji.config import AlignSection, LocalCompute, Recipe, StudentSection, WeightsSection
from taiji.schema import ROLLOUTS
from taiji.stage_process import launch
from taiji.stages.align import align
from taiji.stages.parts.context import StageContext
from taiji.stages.sft import sft
from taiji.store.files import read_jsonl, read_parquet

pytestmark = pytest.mark.slow

refined, upstream, student_of_align = test_sft.refined, test_align.upstream, test_align.student
STEPS = 5
KILLS = int(os.environ.get("TAIJI_KILL_MOMENTS", "2"))
MOMENTS = sorted({round(n * (STEPS - 1) / max(KILLS - 1, 1)) for n in range(KILLS)})
"""Steps after which somebody is killed: each costs a minute, so by default few; 5 asks for all."""


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def two(strategy: str) -> LocalCompute:
    return LocalCompute.model_validate({"training": {"processes": 2, "strategy": strategy}})


def untied(folder: Path, out: Path) -> Path:
    """The same model with a head of its own, as models beyond a few billion weights have."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    config.tie_word_embeddings = False
    whole = LlamaForCausalLM(config)
    state = model.state_dict()
    whole.load_state_dict({**state, "lm_head.weight": state["model.embed_tokens.weight"]})
    whole.save_pretrained(out)
    for path in folder.iterdir():
        if "token" in path.name or path.suffix == ".jinja":
            (out / path.name).write_bytes(path.read_bytes())
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    """Of the model that a stage left, loaded as anybody would."""
    model = AutoModelForCausalLM.from_pretrained(out / "model", local_files_only=True)
    return model.state_dict()


def assert_same_model(found: Path, expected: Path, before: Path) -> None:
    """To 1e-5 of each matrix, and trained at all."""
    moved = 0.0
    start = AutoModelForCausalLM.from_pretrained(before).state_dict()
    ours = weights(found)
    for name, value in weights(expected).items():
        assert ours[name].dtype == value.dtype == torch.float32
        assert (ours[name] - value).norm() <= 1e-5 * value.norm(), name
        moved = max(moved, float((value - start[name]).norm() / start[name].norm()))
    assert moved > 1e-3


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_sft_in_two_processes_leaves_the_model_of_one(refined, student, tmp_path, strategy):
    folder = untied(student, tmp_path / "untied")
    here = context(refined, "sft", folder, sft=test_sft.SECTION)
    summary = sft(here)
    there = context(refined, "there", folder, sft=test_sft.SECTION, compute=two(strategy))
    told = []
    found = launch("sft", replace(there, progress=lambda *row: told.append(row)))
    assert summary["steps"] == STEPS
    assert found == {**summary, **{n: pytest.approx(summary[n], rel=1e-3) for n in LOSSES}}
    assert told == [(step, STEPS, "steps") for step in range(1, STEPS + 1)]
    assert_same_model(there.out, here.out, folder)
    shown = {path.name for path in there.out.iterdir() if not path.name.startswith(".")}
    assert shown == {"model", "metrics.jsonl"}


LOSSES = ("first_loss", "last_loss")


def of_align(upstream: Path, folder: Path, out: str, every: int = 2, **compute) -> StageContext:
    """POPO on what the fixtures leave behind and on the student in the folder's `sft`."""
    (folder / out).mkdir(exist_ok=True)
    section = AlignSection(
        weights=WeightsSection(rule="popo", eta=5.0), steps=STEPS, prompts_per_step=2,
        learning_rate=1e-4, temperature=0.7, checkpoint_steps=every,
    )  # fmt: skip
    recipe = Recipe(
        name="tiny", student=StudentSection(max_completion_tokens=96), align=section, **compute
    )
    inputs = {name: upstream / name for name in ("construct", "simulate")}
    return StageContext(recipe, folder / out, inputs | {"sft": folder / "sft"}, lambda *_: None)


@pytest.mark.parametrize("strategy", ["ddp", "fsdp2"])
def test_popo_in_two_processes_leaves_the_model_and_the_weights_of_one(
    upstream, student_of_align, tmp_path, monkeypatch, strategy
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(upstream / "cache"))
    (tmp_path / "sft").mkdir()
    folder = untied(student_of_align, tmp_path / "sft" / "model")
    here = of_align(upstream, tmp_path, "here")
    there = of_align(upstream, tmp_path, "there", compute=two(strategy))
    align(here)
    launch("align", there)
    rollouts = [read_parquet(one.out / "rollouts.parquet", ROLLOUTS) for one in (here, there)]
    for name in ("step", "example_id", "completion"):
        assert rollouts[0][name].to_pylist() == rollouts[1][name].to_pylist()
    steps = [read_jsonl(one.out / "metrics.jsonl") for one in (here, there)]
    for left, right in zip(*steps, strict=True):
        for name in ("w_semantic", "w_preference"):
            assert right[name] == pytest.approx(left[name], abs=1e-6)
    assert abs(steps[0][-1]["w_semantic"] - 0.5) > 1e-3, "they should have moved"
    assert_same_model(there.out, here.out, folder)


def killable(stage: str, upstream: Path, folder: Path, out: str) -> StageContext:
    """A stage in two processes that keeps every step; `folder` has its student."""
    if stage == "align":
        return of_align(upstream, folder, out, every=1, compute=two("ddp"))
    settings = test_sft.SECTION | {"checkpoint_steps": 1}
    return context(upstream, out, folder, sft=settings, compute=two("ddp"))


def command(*arguments: object) -> subprocess.Popen[bytes]:
    tests = Path(__file__).parents[1]
    paths = [os.environ.get("PYTHONPATH", ""), str(tests)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    line = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(line, env=environment, stderr=subprocess.PIPE)


def until_step(out: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    metrics = next((out / ".parts").glob("checkpoints.*"), out) / "metrics.jsonl"
    while not metrics.is_file() or metrics.read_bytes().count(b"\n") < step:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
        metrics = next((out / ".parts").glob("checkpoints.*"), out) / "metrics.jsonl"


def runs(process: psutil.Process) -> bool:
    """Whether it does anything; who has ended may wait for a parent to take note."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("victim", ["rank", "launcher", "command"])
def test_sft_killed_at_any_step_leaves_nobody_and_ends_the_same(refined, student, victim):
    peace = killable("sft", refined, student, "peace")
    launch("sft", peace)
    out = refined / "killed"
    kill_and_go_on(out, victim, lambda: command("sft", refined, student))
    assert_same_course(peace.out, out, "loss")


@pytest.mark.parametrize("victim", ["rank", "launcher", "command"])
def test_popo_killed_at_any_step_leaves_nobody_and_ends_the_same(
    upstream, student_of_align, tmp_path, monkeypatch, victim
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(upstream / "cache"))
    (tmp_path / "sft").mkdir()
    (tmp_path / "sft" / "model").symlink_to(student_of_align)
    peace = killable("align", upstream, tmp_path, "peace")
    launch("align", peace)
    out = tmp_path / "killed"
    kill_and_go_on(out, victim, lambda: command("align", upstream, tmp_path))
    assert_same_course(peace.out, out, "w_semantic")
    assert (out / "rollouts.parquet").read_bytes() == (peace.out / "rollouts.parquet").read_bytes()


def kill_and_go_on(out: Path, victim: str, begin: Callable[[], subprocess.Popen[bytes]]) -> None:
    """Kills somebody at each of the moments; each time all are gone, and the next goes on."""
    for step in MOMENTS:
        process = begin()
        if step:
            until_step(out, step, process)
        while len(psutil.Process(process.pid).children(recursive=True)) < 3:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        (launcher,) = psutil.Process(process.pid).children()
        ranks = launcher.children()
        target = {"rank": ranks[-1].pid, "launcher": launcher.pid, "command": process.pid}[victim]
        os.kill(target, signal.SIGKILL)
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        assert victim == "command" or b"was ended by SIGKILL" in said
        until = time.monotonic() + 10
        while any(map(runs, [launcher, *ranks])):
            assert time.monotonic() < until, "somebody was left"
            time.sleep(0.05)
    last = begin()
    _, said = last.communicate(timeout=300)
    assert last.returncode == 0, said


def assert_same_course(left: Path, right: Path, column: str) -> None:
    """The same figure at every step, and in the end the same model, byte for byte."""
    steps = [[row[column] for row in read_jsonl(one / "metrics.jsonl")] for one in (left, right)]
    assert steps[0] == steps[1]
    name = "model/model.safetensors"
    assert (left / name).read_bytes() == (right / name).read_bytes()


def main() -> None:
    """The command that is killed."""
    stage, upstream, folder = sys.argv[1:]
    launch(stage, killable(stage, Path(upstream), Path(folder), "killed"))


if __name__ == "__main__":
    main()
