"""`taiji data check`: its figures by hand, its warnings, its exit code, and docs/data.md."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from data_shop import ITEMS, ORDERS, shop, write_shop
from ruamel.yaml import YAML
from typer.testing import CliRunner

from taiji.cli import app
from taiji.config import DataSection
from taiji.data.engine.duckdb_engine import DuckDbEngine
from taiji.data.tables.check import check
from taiji.data.tables.files import open_files
from taiji.data.tables.labels import LABEL_RULES
from taiji.data.tables.rules import ITEM_RULES, NUMBER_RULES, ORPHAN, time_rules
from taiji.store.files import read_json

DOCS = Path(__file__).parents[3] / "docs" / "data.md"
SHARES = {"windows": {"kind": "shares"}, "timezone": "UTC"}


def report_of(source, out, **section):
    out.mkdir()
    data = {"exposure_share": 1.0, "splits": SHARES, "source": source, **section}
    engine = DuckDbEngine(out / "scratch")
    try:
        return check(engine, DataSection.model_validate(data), 17, out)
    finally:
        engine.close()


def daily_orders(num_days=20):
    """Ann buys every day; every fourth time a pot, else a mug."""
    start = datetime(2024, 1, 1, 12, tzinfo=UTC)
    lines = [
        f"ann,{'pot' if n % 4 == 3 else 'mug'},{start + timedelta(days=n):%FT%TZ},o{n},1,5"
        for n in range(num_days)
    ]
    return "\n".join([ORDERS.split("\n")[0], *lines, ""])


def codes(report):
    return {problem.code for problem in report.problems}


def test_figures_by_hand(tmp_path):
    write_shop(tmp_path, orders=daily_orders() + "bob,mug,2024-01-02T00:00:00Z,b,1,\n")
    report = report_of(shop(tmp_path), tmp_path / "out")
    log = report.figures["interactions"]
    assert (log["rows"], log["users"], log["items"], log["pairs"]) == (21, 2, 2, 3)
    assert log["with price"] == 20
    assert log["first"] == datetime(2024, 1, 1, 12, tzinfo=UTC)
    assert log["history length"] == {
        **{"p5": 1, "p25": 1, "p50": 1},
        **{"p75": 20, "p95": 20, "p100": 20},
    }
    items = report.figures["items"]
    assert (items["without category"], items["two levels"], items["three levels"]) == (1, 1, 1)
    assert items["with interactions"] == 2
    assert sum(w["interactions"] for w in report.figures["windows"].values()) == 21
    assert report.usable
    # One top category, every item bought again and again.
    assert codes(report) == {"W202", "W205"}


def test_windows_outside_the_log_are_an_error_that_says_what_to_set(tmp_path):
    write_shop(tmp_path, orders=daily_orders())
    report = report_of(shop(tmp_path), tmp_path / "out", splits=dict(DataSection().splits))
    assert not report.usable
    (problem,) = [problem for problem in report.problems if problem.fatal]
    assert problem.code == "E115"
    assert "from 2024-01-01 to 2024-01-20" in str(problem)
    assert "{kind: shares}" in problem.mend


def test_a_log_of_one_day_is_too_short_for_five_windows(tmp_path):
    write_shop(tmp_path, orders=daily_orders(1))
    assert "E115" in codes(report_of(shop(tmp_path), tmp_path / "out"))


def test_exposures_whose_outcome_is_already_in_the_log_are_told(tmp_path):
    write_shop(tmp_path, orders=daily_orders())
    rows = ["c,i,t,click,buy"]
    for day in range(1, 21):
        rows.append(f"ann,mug,2024-01-{day:02}T12:30:00Z,{int(day > 12)},{int(day > 12)}")
    (tmp_path / "ads.csv").write_text("\n".join(rows))
    ads = {"files": "ads.csv", "user_id": "c", "item_id": "i", "ts": "t"}
    source = shop(tmp_path, exposures=ads | {"click": "click", "conversion": "buy"})
    report = report_of(source, tmp_path / "out")
    shown = report.figures["exposures"]
    assert (shown["rows"], shown["clicks"], shown["conversions"]) == (20, 8, 8)
    # Bought at noon, shown at half past: not on days 16 and 20, when it was a pot. The mugs of
    # the days before were bought 24.5 hours earlier, which is too long ago.
    assert shown["conversions already in the log"] == 6
    assert "W211" in codes(report)


def test_warnings_on_profiles_titles_and_words(tmp_path):
    items = ITEMS + "cup,Blue mug,Kitchen > Mugs\n"
    write_shop(tmp_path, items=items, orders=daily_orders() + ORDERS.split("\n", 1)[1])
    (tmp_path / "people.csv").write_text("id,town\ncat,Unknown\n")
    people = {"files": "people.csv", "user_id": "id", "profile": {"city": "town"}}
    report = report_of(shop(tmp_path, users=people), tmp_path / "out")
    assert {"W201", "W203", "W204", "W207"} <= codes(report)
    assert report.figures["users"]["known fields"] == {"city": 1}
    assert report.figures["users"]["without history"] == 1


@pytest.mark.parametrize(
    ("title", "code", "words"), [("name", 0, "Usable."), ("nmae", 4, "E101 no column nmae")]
)
def test_the_command_prints_and_exits(tmp_path, title, code, words):
    write_shop(tmp_path, orders=daily_orders())
    recipe = {"name": "x", "data": {"source": shop(tmp_path, items={"title": title})}}
    recipe["data"]["splits"] = SHARES
    path = tmp_path / "r.yaml"
    YAML().dump(recipe, path)
    before = set(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["data", "check", str(path)])
    assert result.exit_code == code, result.output
    assert words in result.output
    result = CliRunner().invoke(app, ["data", "check", str(path), "--json"])
    assert result.exit_code == code
    assert json.loads(result.output)["usable"] is (code == 0)
    assert set(tmp_path.rglob("*")) == before


def test_the_walk_through_of_the_docs_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = DOCS.read_text(encoding="utf-8")
    (tmp_path / "shop").mkdir()
    files = re.findall(r"^`(shop[^`\n]*)`\n```\w+\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert len(files) == 5
    for name, content in files:
        (tmp_path / name).write_text(content, encoding="utf-8")
    (commands,) = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    check_it, build_it = [line.split()[1:] for line in commands.strip().split("\n")]
    result = CliRunner().invoke(app, check_it)
    assert result.exit_code == 0, result.output
    assert "Usable." in result.output
    assert "W207" in result.output
    result = CliRunner().invoke(app, build_it)
    assert result.exit_code == 0, result.output
    counts = read_json(tmp_path / "runs/shop/construct/quarantine.json")
    assert counts["interactions"] == {"kept": 21}
    message = re.search(r"^shop/products.csv: items.title: E101.*$", text, re.MULTILINE)[0]
    broken = [*check_it, "data.source.items.title=nmae"]
    assert message in CliRunner().invoke(app, broken).output


def test_every_code_is_in_the_docs():
    text = DOCS.read_text(encoding="utf-8")
    rules = (*ITEM_RULES, *LABEL_RULES, *NUMBER_RULES, ORPHAN, *time_rules(datetime.now(UTC)))
    source = Path(check.__code__.co_filename).parent
    written = {rule.fault[:4] for rule in rules}
    legible = source.parents[1] / "stages" / "parts" / "legible.py"
    for path in (*source.glob("*.py"), *source.parent.glob("*.py"), legible):
        written |= set(re.findall(r'"([EW]\d{3})\b', path.read_text(encoding="utf-8")))
    documented = set(re.findall(r"^\| ([EW]\d{3}) \|", text, re.MULTILINE))
    assert written == documented


def test_a_file_that_feeds_three_tables_is_read_once(tmp_path, monkeypatch):
    lines = ["customer,sku,name,when,country"] + [
        f"u{n},{'pot' if n % 2 else 'mug'},Thing,2024-01-{n + 1:02d}T09:00:00Z,FR" for n in range(9)
    ]
    (tmp_path / "lines.csv").write_text("\n".join(lines) + "\n")
    read = []

    def reading(table, *rest, **options):
        read.append(table.files)
        return open_files(table, *rest, **options)

    monkeypatch.setattr("taiji.data.tables.opening.open_files", reading)
    one = {"files": "lines.csv"}
    source = {
        **{"kind": "tables", "path": str(tmp_path)},
        "items": one | {"item_id": "sku", "title": "name"},
        "users": one | {"user_id": "customer", "profile": {"country": "country"}},
        "interactions": one | {"user_id": "customer", "item_id": "sku", "ts": "when"},
    }
    report = report_of(source, tmp_path / "out")
    assert report.figures["interactions"]["rows"] == 9
    assert read == ["lines.csv"]
