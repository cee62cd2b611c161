"""The runner with small stages that write real files; only the mathematics is missing."""

import json
import multiprocessing
import os
import signal
import time
from functools import reduce
from operator import attrgetter
from pathlib import Path

import pytest

from taiji import runner
from taiji.config import Recipe
from taiji.config.section import Section
from taiji.data.tables.reach import Contents
from taiji.errors import (
    ConfigError,
    DataError,
    LockedError,
    MissingArtifactError,
    ResourceError,
    RunDirectoryError,
)
from taiji.pipeline import STAGES, find_stage, upstream
from taiji.runner import Runner, State, status
from taiji.stage_function import stage_function
from taiji.store import digests as known_digests
from taiji.store.files import digest_file, write_json
from taiji.store.run_directory import UNFINISHED, RunDirectory


class Log:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def reused(self, stage, manifest):
        self.lines.append(("reused", stage.name))

    def started(self, stage, *, resumed):
        self.lines.append(("resumed" if resumed else "started", stage.name))

    def progress(self, done, total, what):
        pass

    def finished(self, stage, manifest):
        self.lines.append(("finished", stage.name))

    def ran(self) -> list[str]:
        return [name for what, name in self.lines if what == "finished"]


def load(name):
    """Each stage writes what it read and the settings it depends on."""

    def stage(ctx):
        texts = [(path / "out.txt").read_text() for path in ctx.inputs.values()]
        sections = [str(attrgetter(section)(ctx.recipe)) for section in find_stage(name).sections]
        (ctx.out / "out.txt").write_text(name + str(sorted(texts + sections)))
        return {"rows": 1}

    return stage


def recipe(**sections) -> Recipe:
    return Recipe.model_validate({"name": "t", **sections})


def run(directory, recipe_, until="report", loader=load) -> Log:
    log = Log()
    Runner(recipe_, RunDirectory(directory), log, loader, lambda *_: None).run(until)
    return log


ALL = [stage.name for stage in upstream("report")]  # all that nobody has to ask for


def test_every_stage_reads_only_earlier_ones():
    for i, stage in enumerate(STAGES):
        assert {*stage.reads, *stage.may_read} <= {earlier.name for earlier in STAGES[:i]}
        for section in stage.sections:
            assert attrgetter(section)(Recipe(name="t")) is not None


def test_all_stages_run_once_and_are_then_up_to_date(tmp_path):
    assert run(tmp_path, recipe()).ran() == ALL
    again = run(tmp_path, recipe())
    assert again.lines == [("reused", name) for name in ALL]


def test_until_runs_only_what_is_needed(tmp_path):
    assert run(tmp_path, recipe(), "sft").ran() == [
        "construct",
        "distill",
        "score",
        "refine",
        "sft",
    ]
    assert [stage.name for stage in upstream("simulate")] == ["construct", "simulate"]


def test_a_stage_that_nobody_asked_for_does_not_run(tmp_path):
    assert "abtest" not in run(tmp_path, recipe()).ran()
    assert run(tmp_path, recipe(), "abtest").ran() == ["abtest"]
    asked_for = recipe(abtest={"enabled": True}, head={"enabled": True})
    never = {"ceiling", "surplus"}  # which only a person asks for
    wanted = [stage.name for stage in STAGES if stage.name not in never]
    assert run(tmp_path / "asked", asked_for).ran() == wanted


def test_what_a_stage_may_read_counts_once_it_has_run_and_while_it_is_current(tmp_path):
    run(tmp_path, recipe())
    run(tmp_path, recipe(), "abtest")
    assert dict(status_of(tmp_path, recipe()))["evaluate"] is State.STALE
    assert run(tmp_path, recipe()).ran() == ["evaluate", "report"]
    assert "abtest" in (tmp_path / "evaluate" / "out.txt").read_text()
    changed = recipe(ranker={"epochs": 3})
    assert "abtest" not in run(tmp_path, changed).ran()
    assert "abtest" not in (tmp_path / "evaluate" / "out.txt").read_text()
    assert dict(status_of(tmp_path, changed))["abtest"] is State.STALE


def test_a_recipe_that_asks_for_a_stage_is_not_done_before_it_has_run(tmp_path):
    run(tmp_path, recipe())
    states = dict(status_of(tmp_path, recipe(abtest={"enabled": True})))
    assert states["abtest"] is State.MISSING
    assert states["evaluate"] is states["report"] is State.STALE


def test_a_changed_setting_reruns_only_what_depends_on_it(tmp_path):
    run(tmp_path, recipe())
    changed = recipe(simulate={"pool_pairs": 500})
    assert dict(status_of(tmp_path, changed))["simulate"] is State.STALE
    ran = run(tmp_path, changed).ran()
    assert ran == ["simulate", "align", "infer", "features", "rank", "evaluate", "report"]


def test_every_section_of_contents_names_something():
    for stage in STAGES:
        sections = [attrgetter(name)(Recipe(name="t")) for name in stage.contents]
        assert all(isinstance(section, Section) for section in sections)


def a_folder(path: Path) -> Path:
    path.mkdir()
    (path / "model.safetensors").write_text("weights")
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return path / "chat_template.jinja"


def a_log(path: Path) -> Path:
    path.mkdir()
    (path / "b.csv").write_text("u,i\n")
    (path / "a.csv").write_text("u,i\n")
    return path / "b.csv"


def a_file(path: Path) -> Path:
    path.write_text("u1\n")
    return path


TABLES = {
    "kind": "tables",
    "items": {"files": "items.csv", "item_id": "i", "title": "t"},
    "interactions": {"files": "*.csv", "user_id": "u", "item_id": "i", "ts": "t"},
    # With all that every stage needs.
    "exposures": {
        **{"files": "*.csv", "user_id": "u", "item_id": "i", "ts": "t", "click": "c"},
        "conversion": "v",
    },
}


@pytest.mark.parametrize(
    ("make", "setting", "stages"),
    [
        (a_file, "features.erased_users", {"features"}),
        (a_file, "align.rewards.scores", {"align", "evaluate"}),
        (a_folder, "student.model", {"distill", "score", "sft", "infer", "evaluate"}),
        (a_folder, "encoder.model", {"align", "features", "evaluate"}),
        (a_folder, "score.model", {"score"}),
        (a_folder, "distill.teacher.model", {"distill"}),
        (a_folder, "evaluate.models.mine", {"evaluate"}),
        (a_log, "data.source.path", {"construct"}),
    ],
)
def test_what_a_setting_names_counts_by_its_content(tmp_path, make, setting, stages):
    inner = make(tmp_path / "named")
    tree: dict = {"data": {"source": TABLES}, "distill": {"teacher": {"kind": "transformers"}}}
    tree = json.loads(json.dumps(tree))
    *above, last = setting.split(".")
    reduce(lambda at, name: at.setdefault(name, {}), above, tree)[last] = str(tmp_path / "named")
    wanted, run_folder = recipe(**tree), tmp_path / "run"
    run(run_folder, wanted)
    assert set(dict(status_of(run_folder, wanted)).values()) <= {State.CURRENT, State.MISSING}
    before = inner.stat()
    inner.write_text(inner.read_text().upper() + "v")
    os.utime(inner, ns=(before.st_atime_ns, before.st_mtime_ns))
    inner.write_text(inner.read_text()[:-1])  # of the old size and the old time
    states = dict(status_of(run_folder, wanted))
    first = min(ALL.index(name) for name in stages)
    assert states[ALL[first]] is State.STALE
    assert {states[name] for name in ALL[:first]} <= {State.CURRENT}
    keys = {name: RunDirectory(run_folder).manifest(name).key for name in ALL}
    directory = RunDirectory(run_folder)
    assert {
        name for name in ALL if runner.plan(find_stage(name), wanted, directory).key != keys[name]
    } == stages


def test_a_log_named_by_an_absolute_path_counts_by_its_content(tmp_path):
    elsewhere = a_log(tmp_path / "elsewhere")
    (tmp_path / "named").mkdir()
    tables = TABLES | {"path": str(tmp_path / "named")}
    tables["interactions"] = TABLES["interactions"] | {"files": str(elsewhere)}
    wanted, run_folder = recipe(data={"source": tables}), tmp_path / "run"
    run(run_folder, wanted)
    assert dict(status_of(run_folder, wanted))["construct"] is State.CURRENT
    elsewhere.write_text("u,i,t\n")
    assert dict(status_of(run_folder, wanted))["construct"] is State.STALE


@pytest.mark.parametrize(
    ("changed", "stage"),
    [
        ({"simulate": {"normaliser": "rank"}}, "align"),
        ({"simulate": {"popularity_discount": 0.5}}, "align"),
        ({"compute": {"training": {"mixed_precision": "bf16"}}}, "align"),
        ({"compute": {"training": {"mixed_precision": "bf16"}}}, "sft"),
        ({"evaluate": {"bootstrap": 177}}, "head"),
    ],
)
def test_what_changes_a_result_stands_in_the_key_of_its_stage(tmp_path, changed, stage):
    run(tmp_path, recipe())
    directory = RunDirectory(tmp_path)
    keys = {runner.plan(find_stage(stage), r, directory).key for r in (recipe(), recipe(**changed))}
    assert len(keys) == 2


def test_code_of_the_users_own_counts_by_what_it_does(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own_pack").mkdir()
    code = tmp_path / "own_pack" / "mine.py"
    code.write_text("raise SystemExit  # not to be imported to be looked at\n")
    section = {"rewards": {"custom": [{"name": "mine", "path": "own_pack.mine:reward"}]}}
    wanted = recipe(align=section, rank={"backbones": ["own_pack.mine:Model"]})
    run(tmp_path / "run", wanted)
    code.write_text("raise SystemExit\n")
    assert dict(status_of(tmp_path / "run", wanted))["align"] is State.CURRENT
    code.write_text("x = 1\n")
    states = dict(status_of(tmp_path / "run", wanted))
    assert (states["infer"], states["align"]) == (State.STALE, State.STALE)
    assert states["simulate"] is State.CURRENT


def test_what_is_gone_since_a_stage_ran_has_not_changed(tmp_path):
    named = a_file(tmp_path / "erased.txt")
    wanted = recipe(features={"erased_users": str(named)})
    run(tmp_path / "run", wanted)
    named.unlink()
    assert run(tmp_path / "run", wanted).ran() == []


def test_equal_contents_are_read_once_for_all_runs_of_a_command(tmp_path, monkeypatch):
    inner = a_folder(tmp_path / "student")
    wanted = recipe(student={"model": str(inner.parent)})
    monkeypatch.setattr(known_digests, "_SETTLED_NS", -1)
    run(tmp_path / "run", wanted)
    read: list[Path] = []
    monkeypatch.setattr(
        known_digests, "digest_file", lambda path: read.append(path) or digest_file(path)
    )
    status_of(tmp_path / "run", wanted)
    assert run(tmp_path / "run", wanted).ran() == []
    assert read == []


def test_equal_outputs_stop_a_rerun_early(tmp_path):
    def constant(name):
        def stage(ctx):
            (ctx.out / "out.txt").write_text(name)
            return {}

        return stage

    run(tmp_path, recipe(), loader=constant)
    ran = run(tmp_path, recipe(simulate={"pool_pairs": 500}), loader=constant).ran()
    assert ran == ["simulate"]


def test_the_seed_reruns_everything(tmp_path):
    run(tmp_path, recipe())
    assert run(tmp_path, recipe(seed=18)).ran() == ALL


def test_a_changed_byte_is_refused_before_it_is_used(tmp_path):
    run(tmp_path, recipe())
    (tmp_path / "construct" / "out.txt").write_text("tampered")
    with pytest.raises(DataError, match=r"construct/out\.txt.*rm -r"):
        run(tmp_path, recipe())
    (tmp_path / "construct" / "out.txt").unlink()
    with pytest.raises(MissingArtifactError, match="gone"):
        run(tmp_path, recipe())


def test_a_failed_stage_leaves_the_finished_ones(tmp_path):
    def failing(name):
        if name != "refine":
            return load(name)

        def stage(ctx):
            ctx.parts("work").mkdir(parents=True)
            (ctx.out / "half.txt").write_text("half")
            raise DataError("bad row")

        return stage

    with pytest.raises(DataError, match="bad row"):
        run(tmp_path, recipe(), loader=failing)
    states = dict(status_of(tmp_path, recipe()))
    assert states["distill"] is State.CURRENT
    assert states["refine"] is State.PARTIAL
    log = run(tmp_path, recipe())
    assert ("resumed", "refine") in log.lines
    assert ("reused", "distill") in log.lines


def test_leftovers_of_another_key_are_not_reused(tmp_path):
    work = RunDirectory(tmp_path).begin("construct", "old")
    (work / UNFINISHED).mkdir()
    log = run(tmp_path, recipe(), "construct")
    assert log.lines[0] == ("started", "construct")


def test_only_parts_outlive_a_kill_and_nothing_hidden_is_published(tmp_path):
    attempts = []

    def leaving(name):
        def stage(ctx):
            attempts.append({path.relative_to(ctx.out).parts[0] for path in ctx.out.rglob("*")})
            (ctx.out / ".raw-1").mkdir()
            (ctx.out / ".raw-1" / "rows.parquet").write_text("users' rows")
            (ctx.out / "out.txt").write_text("half")
            ctx.parts("work").mkdir(parents=True, exist_ok=True)
            (ctx.parts("work") / "0").write_text("part")
            (ctx.parts("work") / ".1.77.tmp").write_text("cut")
            if len(attempts) == 1:
                raise DataError("killed here")
            return {}

        return stage

    with pytest.raises(DataError, match="killed here"):
        run(tmp_path, recipe(), "construct", leaving)
    run(tmp_path, recipe(), "construct", leaving)
    assert attempts == [{".key"}, {".key", UNFINISHED}]
    found = {path.name for path in (tmp_path / "construct").rglob("*")}
    assert found == {"manifest.json", "out.txt"}


def test_a_file_that_no_manifest_names_is_refused(tmp_path):
    run(tmp_path, recipe(), "construct")
    (tmp_path / "construct" / ".raw").mkdir()
    (tmp_path / "construct" / ".raw" / "log.csv").write_text("u,i\n")
    with pytest.raises(DataError, match=r"raw/log\.csv: no run wrote it.*move it away"):
        run(tmp_path, recipe(), "construct")


@pytest.mark.parametrize("kind", ["file", "link", "dangling"])
def test_work_in_progress_that_is_no_folder_is_refused(tmp_path, kind):
    run(tmp_path, recipe(), "construct")
    work = tmp_path / "run" / "construct.tmp"
    work.parent.mkdir()
    if kind == "file":
        work.write_text("mine")
    else:
        work.symlink_to(tmp_path / ("construct" if kind == "link" else "nowhere"))
    with pytest.raises(RunDirectoryError, match=r"construct\.tmp: .*move it away"):
        run(tmp_path / "run", recipe(), "construct")
    assert (tmp_path / "construct" / "out.txt").is_file()


def test_a_run_directory_that_is_a_file_or_lies_below_one_is_refused(tmp_path):
    (tmp_path / "f").write_text("mine")
    for place in (tmp_path / "f", tmp_path / "f" / "run", Path("/dev/null"), Path("/dev/null/x")):
        with pytest.raises(RunDirectoryError, match="choose another folder"):
            run(place, recipe(), "construct")
    assert (tmp_path / "f").read_text() == "mine"


def test_files_that_no_run_wrote_are_not_overwritten(tmp_path):
    (tmp_path / "distill").mkdir()
    (tmp_path / "distill" / "notes.txt").write_text("mine")
    with pytest.raises(RunDirectoryError, match="move them away"):
        run(tmp_path, recipe())
    assert (tmp_path / "distill" / "notes.txt").read_text() == "mine"


def test_a_full_disk_is_a_resource_error(tmp_path):
    def full(name):
        def stage(ctx):
            raise OSError(28, "No space left on device", "out.txt")

        return stage

    with pytest.raises(ResourceError, match=r"out\.txt: no space left: free some \([0-9.]+ GiB"):
        run(tmp_path, recipe(), loader=full)


def test_too_little_memory_names_the_settings_of_its_stage(tmp_path):
    def large(name):
        def stage(ctx):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")

        return load(name) if name != "sft" else stage

    with pytest.raises(ResourceError, match=r"lower sft\.batch_size"):
        run(tmp_path, recipe(), loader=large)


def test_what_the_recipe_names_is_looked_at_before_any_stage_works(tmp_path):
    seen = []

    def refuse(recipe_, stages):
        seen.append([stage.name for stage in stages])
        raise ConfigError("encoder.model: no such folder")

    with pytest.raises(ConfigError):
        Runner(recipe(), RunDirectory(tmp_path / "run"), Log(), load, refuse).run()
    assert not (tmp_path / "run").exists()
    run(tmp_path / "run", recipe(), "simulate")
    with pytest.raises(ConfigError):
        Runner(recipe(), RunDirectory(tmp_path / "run"), Log(), load, refuse).run("sft")
    assert seen == [ALL, ["distill", "score", "refine", "sft"]]


def test_a_second_writer_is_turned_away(tmp_path):
    with RunDirectory(tmp_path).locked(), pytest.raises(LockedError, match=str(os.getpid())):
        run(tmp_path, recipe())
    run(tmp_path, recipe())


def test_status_of_nothing(tmp_path):
    assert {state for _, state in status_of(tmp_path, recipe())} == {State.MISSING}


def status_of(directory, recipe_):
    return [(stage.name, state) for stage, state in status(recipe_, RunDirectory(directory))]


def slow(name):
    def stage(ctx):
        ctx.parts("work").mkdir(parents=True, exist_ok=True)
        for i in range(4):
            part = ctx.parts("work") / f"{i}.txt"
            if not part.exists():
                time.sleep(0.005)
                part.write_text(f"{name} {i}")
        (ctx.out / "out.txt").write_text("".join(sorted(p.name for p in part.parent.iterdir())))
        return {}

    return stage


def child(directory):
    run(directory, recipe(), loader=slow)


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(n, marks=pytest.mark.slow) for n in range(3, 8))]
)
def test_kill_at_any_moment_ends_in_the_same_artifacts(tmp_path, seed):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    child(undisturbed)
    context = multiprocessing.get_context("spawn")
    for attempt in range(3):
        process = context.Process(target=child, args=(killed,))
        process.start()
        while not killed.exists():
            time.sleep(0.002)
        time.sleep(0.02 * attempt + 0.031 * seed % 0.2)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    child(killed)
    assert digests(killed) == digests(undisturbed)
    assert not [path for path in killed.iterdir() if path.suffix in (".tmp", ".old")]


def digests(root: Path) -> dict[str, str]:
    directory = RunDirectory(root)
    return {name: directory.manifest(name).outputs_digest for name in ALL}


def test_every_stage_of_the_pipeline_has_its_function():
    for name in ALL:
        assert stage_function(name).__name__ == name


SHOP = {
    "kind": "tables",
    "items": {"files": "i.csv", "item_id": "i", "title": "t"},
    "interactions": {"files": "o.csv", "user_id": "u", "item_id": "i", "ts": "t"},
}


def test_a_log_without_exposures_runs_to_the_report_without_what_needs_them(tmp_path):
    """It failed at simulate, after SFT had been trained."""
    shop = recipe(data={"source": SHOP})
    assert run(tmp_path, shop).ran() == [n for n in ALL if n not in ("simulate", "rank")]
    assert run(tmp_path, shop).ran() == []
    states = dict(status_of(tmp_path, shop))
    assert states["report"] is State.CURRENT
    assert states["rank"] is State.MISSING


def test_a_stage_that_the_log_does_not_carry_is_refused_at_its_start_with_the_reason(tmp_path):
    shop = recipe(data={"source": SHOP})
    with pytest.raises(DataError, match=r"rank: .*no exposures.*data\.sampled_negatives"):
        run(tmp_path, shop, "rank")
    assert not (tmp_path / "construct").exists()


def test_what_the_rows_lack_is_found_after_construct_and_said(tmp_path, caplog):
    """The recipe maps exposures, and the files hold none."""

    def empty(name):
        def stage(ctx):
            summary = load(name)(ctx)
            if name == "construct":
                contents = Contents(exposures=0, clicks=0, conversions=0, goal="click")
                write_json(contents.to_json(), ctx.out / "contents.json")
            return summary

        return stage

    assert "rank" not in run(tmp_path, recipe(), loader=empty).ran()
    assert "no exposures" in caplog.text
    with pytest.raises(DataError, match="does not carry that far"):
        run(tmp_path, recipe(), "simulate", loader=empty)
