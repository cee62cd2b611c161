import ast
import re
from pathlib import Path

import finished_run
import pytest

import taiji
from taiji.pipeline import STAGES
from taiji.report import stage_words as words
from taiji.report.stage_words import stage_words

SOURCE = Path(taiji.__file__).parent


@pytest.mark.parametrize(
    ("stage", "line"),
    [
        ("construct", "1,469,307 lines read · 2,467 users · 450,431 exposures"),
        ("distill", "108 chains by evidence · 0 % give the answer away"),
        ("refine", "kept 54 of 108 chains under R = 28.87"),
        ("sft", "48 examples · loss 3.3 to 1.3"),
        ("align", "16 rollouts · weights preference 0.50, semantic 0.50"),
        ("infer", "60 texts · in form: untuned 0 %, SFT 67 %, policy 78 %"),
        ("rank", "CTCVR AUC: base 0.9165, both 0.9146"),
        ("surplus", "click AUC over the ranking model: policy +0.0000"),
        ("evaluate", "right L1: policy 10 %, most popular, new to user 70 %"),
    ],
)
def test_a_stage_says_what_it_did_in_words(stage, line):
    assert stage_words(stage, finished_run.SUMMARIES[stage]) == line


def test_other_filters_do_not_speak_of_r():
    figures = {"chains": 9, "kept": 4, "filter": "gain", "threshold": 0.0518, "rule": "q"}
    assert stage_words("refine", figures) == "kept 4 of 9 chains by gain, limit 0.0518"
    best = {"chains": 9, "kept": 4, "filter": "ppl", "rule": "best 2 of each prompt"}
    assert stage_words("refine", best) == "kept 4 of 9 chains (best 2 of each prompt)"


def test_a_figure_that_is_not_there_takes_its_phrase_along():
    assert stage_words("construct", {"users": 5}) == "5 users"


def test_figures_without_phrases_are_all_shown():
    assert stage_words("construct", {"odd_share": 0.123456, "n": 3}) == "odd share 0.1235 · n 3"


def test_the_simulated_lift_is_called_simulated():
    figures = {"simulated_both_revenue_lift": 0.123, "simulated_intra_revenue_lift": 9.0}
    assert stage_words("abtest", figures) == "simulated lift of both: revenue +0.12 %"


def test_every_figure_named_in_a_phrase_is_written_by_some_stage():
    files = [*(SOURCE / "stages").rglob("*.py"), *(SOURCE / "data" / "examples").glob("*.py")]
    files += (SOURCE / "data" / "tables").glob("*.py")
    written = {
        node.value
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    for stage, templates in words._PHRASES.items():
        named = {name for template in templates for name in re.findall(r"{([^:}]+)", template)}
        of_parts = {n for n in named for end in written if end.endswith("_") and n.startswith(end)}
        assert named <= written | of_parts, stage


def test_every_line_of_words_fits_beside_its_stage():
    for stage in STAGES:
        if stage.name in finished_run.SUMMARIES and stage.name != "ceiling":  # a sentence
            assert len(stage_words(stage.name, finished_run.SUMMARIES[stage.name])) <= 61
