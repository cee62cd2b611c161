from typing import get_args

import pytest
import small_run

from taiji.config import WeightsSection
from taiji.report.cells import NOT_APPLICABLE, NOT_RUN, Measured, cell_text
from taiji.report.paper_tables import build_tables, weighting_title
from taiji.rule_settings import RuleKind


def table(key: str, **changes):
    return {t.key: t for t in build_tables(small_run.metrics(**changes))}[key]


def rows(table) -> dict:
    return {row[0]: row[1:] for row in table.rows}


def test_every_row_has_a_cell_for_every_column():
    for each in build_tables(small_run.metrics()):
        assert {len(row) for row in each.rows} == {len(each.columns)}, each.key


def test_table_1_shows_figures_of_its_track():
    novel = rows(table("table1-novel"))["Student after SFT"]
    hit = table("table1-novel").columns.index("Title_Hit-Rate@50") - 1
    assert novel[hit].value == pytest.approx(0.1)
    assert rows(table("table1-any"))["Student after SFT"][hit].value == pytest.approx(0.2)


def test_an_answer_that_no_model_wrote_has_no_tags_to_count():
    assert rows(table("table1-any"))["Untuned student"][0] == NOT_APPLICABLE


def test_table_2_is_never_measured_offline():
    assert set(rows(table("table2")).values()) == {(NOT_RUN,)}


def test_table_3_measures_selection_only_where_something_was_selected():
    selected = rows(table("table3", selects=True))
    assert selected["RUPR + ORFT"][0].value == pytest.approx(0.2)
    assert set(selected["RUPR, without selection"]) == {NOT_RUN}
    assert selected["RUPR + ORFT + POPO"][0].value == pytest.approx(0.3)
    unselected = rows(table("table3", selects=False))
    assert unselected["RUPR, without selection"][0].value == pytest.approx(0.2)
    assert set(unselected["RUPR + ORFT"]) == set(unselected["RUPR + ORFT + POPO"]) == {NOT_RUN}


def test_direct_distillation_is_not_run_by_a_run_that_shows_the_answer():
    assert set(rows(table("table3"))["Direct distillation (teacher not shown the answer)"]) == {
        NOT_RUN
    }


@pytest.mark.parametrize(
    ("mode", "chosen", "name"),
    [
        ("direct", "none", "Direct distillation (teacher not shown the answer)"),
        ("rupr", "none", "RUPR, without selection"),
        ("rupr", "ppl", "RUPR + ORFT"),
        ("rupr", "gain", "RUPR, kept by gain"),
    ],
)
def test_table_3_measures_the_row_of_this_runs_settings_alone(mode, chosen, name):
    refine = {"selects": chosen != "none", "filter": chosen}
    metrics = small_run.metrics() | {"refine": refine, "distill": {"mode": mode}}
    measured = {
        row: cells
        for row, *cells in {t.key: t for t in build_tables(metrics)}["table3"].rows
        if set(cells) != {NOT_RUN} and "POPO" not in row
    }
    assert set(measured) == {"Untuned", name}
    assert measured[name][0].value == pytest.approx(0.2)


def test_a_model_of_ones_own_has_a_row_under_its_name():
    metrics = small_run.metrics()
    metrics["writers"]["mine"] = metrics["writers"]["sft"]
    tables = {t.key: t for t in build_tables(metrics)}
    assert list(rows(tables["table1-novel"]))[-1] == "mine"


@pytest.mark.parametrize(
    ("rule", "measured"),
    [("fixed", "GRPO, fixed weights"), ("popo_light", "POPO-light"), ("popo", "POPO")],
)
def test_table_4_measures_the_rule_of_this_run_alone(rule, measured):
    weighting = rows(table("table4", rule=rule))
    assert weighting.pop(measured)[2:] == (
        Measured(0.75, unit="number"),
        Measured(0.25, unit="number"),
    )
    assert all(set(cells) == {NOT_RUN} for cells in weighting.values())


@pytest.mark.parametrize(
    ("rule", "title"),
    [
        ("gdpo", "GDPO, fixed weights"),
        ("popo_split", "POPO without noise bias"),
        ("popo on advantages", "POPO, on advantages"),
    ],
)
def test_table_4_has_a_row_for_a_weighting_that_is_not_the_papers(rule, title):
    weighting = rows(table("table4", rule=rule))
    assert weighting.pop(title)[2] == Measured(0.75, unit="number")
    assert list(weighting) == ["GRPO, fixed weights", "POPO-light", "POPO"]
    assert all(set(cells) == {NOT_RUN} for cells in weighting.values())


def test_every_weighting_has_a_title():
    for rule in get_args(RuleKind):
        for act_on in ("rewards", "advantages"):
            assert weighting_title(WeightsSection(rule=rule, act_on=act_on).scheme)


def test_only_popo_counts_as_popo_in_table_3():
    assert set(rows(table("table3", rule="fixed"))["RUPR + ORFT + POPO"]) == {NOT_RUN}


def test_a_run_without_alignment_has_tables_too():
    metrics = small_run.metrics() | {"align": None}
    tables = {t.key: t for t in build_tables(metrics)}
    assert all(set(row[1:]) == {NOT_RUN} for row in tables["table4"].rows)


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (NOT_RUN, "not run"),
        (Measured(0.1234), "12.3 %"),
        (Measured(0.1234, 0.1, 0.15), "12.3 % [10.0, 15.0]"),
        (Measured(0.5, 0.4, 0.6, "fine", 0.01), "0.5000 [0.4000, 0.6000] ±0.0100"),
        (Measured(0.012345, unit="number"), "0.0123"),
        (Measured(0.012345, unit="rate"), "1.23 %"),
    ],
)
def test_cells_read_as_text(cell, text):
    assert cell_text(cell) == text
