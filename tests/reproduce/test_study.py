"""The planner with small stages: what is shared is made once, and a kill costs one stage."""

import pytest
import small_run
from test_runner import Log, load

from taiji.report.cells import NOT_RUN, Measured
from taiji.report.comparison import Section
from taiji.reproduce.arms import ARMS, WORLDS, run_name
from taiji.reproduce.paper import paper_tables
from taiji.reproduce.results import markdown
from taiji.reproduce.study import Study, run_study
from taiji.reproduce.tables import world_tables


class KilledError(BaseException):
    pass


class Counting:
    """Stages that count how often they ran; one of them may die."""

    def __init__(self, dies_at: int = 0) -> None:
        self.ran: list[tuple[str, str]] = []
        self.dies_at = dies_at

    def load(self, name):
        def stage(ctx):
            self.ran.append((ctx.out.parent.name, name))
            if len(self.ran) == self.dies_at:
                raise KilledError
            return load(name)(ctx)

        return stage


def bring_up(folder, stages):
    study = Study(folder, ["planted"], "quick")
    run_study(study, Log(), lambda *_: None, stages.load, check=lambda *_: None)
    return study


def keys(study):
    return {
        (run_name(w, a), stage): study.directory(w, a).manifest(stage).outputs_digest
        for w, a in study.runs()
        for stage in ("construct", "sft", "align", "evaluate")
    }


@pytest.mark.slow
def test_stages_that_arms_share_are_made_once(tmp_path):
    stages = Counting()
    study = bring_up(tmp_path, stages)
    times = [name for _, name in stages.ran]
    assert times.count("construct") == times.count("simulate") == 1
    assert times.count("sft") == 2  # with RUPR and without
    assert times.count("align") == times.count("evaluate") == len(ARMS)
    assert times.count("rank") == times.count("report") == 1
    assert {key for key, _ in keys(study)} == {f"planted-{arm.name}" for arm in ARMS}


@pytest.mark.slow
@pytest.mark.parametrize("places", [(1,), (4, 2, 3), (13, 1, 1)])
def test_a_study_that_was_killed_goes_on_and_ends_the_same(tmp_path, places):
    peace = keys(bring_up(tmp_path / "peace", Counting()))
    for place in places:
        with pytest.raises(KilledError):
            bring_up(tmp_path / "killed", Counting(place))
    last = Counting()
    assert keys(bring_up(tmp_path / "killed", last)) == peace
    again = Counting()
    bring_up(tmp_path / "killed", again)
    assert again.ran == []


@pytest.mark.parametrize("size", ["quick", "laptop", "large"])
@pytest.mark.parametrize("world", WORLDS)
def test_every_arm_of_every_size_is_a_recipe(tmp_path, size, world):
    study = Study(tmp_path, [world], size)
    recipes = {arm.name: study.recipe(w, arm) for w, arm in study.runs()}
    budgets = {
        (r.sft.max_tokens, r.data.num_sft, r.seed, r.align.steps)
        for name, r in recipes.items()
        if name != "direct"
    }
    assert len(budgets) == 1
    assert recipes["direct"].sft == recipes["popo"].sft
    assert recipes["direct"].distill.mode == "direct"
    assert {r.align.weights.rule for r in recipes.values()} >= {"popo", "popo_light", "fixed"}


def test_rows_of_the_tables_are_figures_of_the_runs():
    runs = {"popo": small_run.whole_run(), "light": small_run.whole_run()}
    first, third, fourth, *_ = world_tables("journey", runs)
    rows = {row[0]: row[1:] for row in first.rows}
    untuned = rows["Untuned student"][0]
    assert isinstance(untuned, Measured)
    assert (untuned.value, untuned.low) == (0.1, pytest.approx(0.09))
    assert rows["ORFT"][0].value == 0.2
    assert rows["ORFT + POPO"][0].value == 0.3
    assert set(rows["Teacher: not a language model here"]) == {NOT_RUN}
    assert {row[0]: row[1] for row in third.rows}["With RUPR"] == "–"  # tags were not judged
    assert [row[1] == NOT_RUN for row in fourth.rows] == [False, False, True, True, True]


def test_a_key_names_one_table_of_a_study():
    arms = {"fixed": small_run.whole_run(), "popo": small_run.whole_run()}
    keys = [one.key for world in WORLDS for one in world_tables(world, arms)]
    assert "journey-paired-any" in keys
    assert len(keys) == len(set(keys))  # results.json holds tables by key


def test_the_papers_figures_stand_as_printed():
    tables = {table.key: table for table in paper_tables()}
    assert tables["paper1"].rows[4] == (
        *("+ POPO", ".2433", ".0888", ".0347", ".0567", ".0720", ".003816"),
    )
    assert all(len(row) == len(t.columns) for t in tables.values() for row in t.rows)
    text = markdown([Section("paper", "Paper", "why", list(tables.values()))])
    assert "| QwQ-32B | .1974 | .0767 | .0039 | .0563 | .0733 | .003675 |" in text
