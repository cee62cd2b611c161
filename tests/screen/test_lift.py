import io

import finished_run
from rich.console import Console

from taiji.screen.lift import lift_panel


def flat(panel, width: int = 80) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width).print(panel, width=width, highlight=False)
    return " ".join(stream.getvalue().replace("│", " ").split())


def test_the_last_panel_tells_ceiling_reach_and_what_was_planted():
    text = flat(lift_panel(*finished_run.lift()))
    assert "+0.0008 [-0.0026, +0.0034] if 1 is named once" in text
    assert "+0.0433 [+0.0374, +0.0485] if 5 are named before each visit" in text
    assert "texts of this run: +0.0000 [+0.0000, +0.0000]" in text
    assert "they name 0 of 45,779 things that were shown" in text
    assert "+0.0778 [+0.0564, +0.0972] in a made-up world" in text
    assert "`match` recovers 92 % of it; 43 % if the encoder must read the notes" in text


def test_what_cannot_be_measured_is_said():
    ceiling, surplus, planted = finished_run.lift()
    nothing = dict.fromkeys(("value", "low", "high"))
    surplus["texts"]["policy"]["views"]["names"]["groups"]["all"]["click_auc"] = nothing
    planted["recovered"] = {"match": None}
    text = flat(lift_panel(ceiling, surplus, planted))
    assert "texts of this run: not known" in text
    assert "recovers" not in text


def test_it_fits_a_page_of_eighty_columns():
    stream = io.StringIO()
    Console(file=stream, width=80).print(lift_panel(*finished_run.lift()), width=80)
    lines = stream.getvalue().splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) == 80
