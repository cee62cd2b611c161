"""Pages in Chromium: what a person sees is what the files hold, and nothing else happens.

Needs the packages `chromium` of the system and `playwright` of Python. The accessibility check
needs axe-core too: `AXE=.../axe.min.js`, from the npm package of that name.
"""

import os
import shutil
import socket
import threading
import time
from pathlib import Path

import page_run
import pyarrow.parquet as pq
import pytest
import small_run

from taiji.reasoning.selection import Rule, select
from taiji.report.comparison import Section, render_comparison
from taiji.report.comparison_charts import comparison_charts
from taiji.report.page import render_report
from taiji.report.rendering import share_text
from taiji.report.run_files import read_folder
from taiji.reproduce.tables import world_tables
from taiji.store.files import read_json
from taiji.store.pseudonym import load_pseudonyms

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = os.environ.get("AXE", "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore"),  # of Playwright's event loop
]
sync_api.expect.set_options(timeout=30_000)  # a busy machine is slow, not wrong
MOST_SLOWER = 3.0
NAME = load_pseudonyms("TAIJI_PSEUDONYM_KEY").of("u0")


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two runs, their reports and their comparison, on disk."""
    folder = tmp_path_factory.mktemp("runs")
    for name, seed in (("first", 17), ("second", 18)):
        page_run.write(folder / name, seed=seed)
        page = render_report(read_folder(folder / name))
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    both = {name: read_folder(folder / name) for name in ("first", "second")}
    (folder / "both.html").write_text(render_comparison(both, "Both"), encoding="utf-8")
    (folder / "study.html").write_text(study(both), encoding="utf-8")
    page_run.write_busy(folder / "busy")
    return folder


def study(both):
    arms = {"popo": both["first"], "light": both["second"]}
    tables = world_tables("planted", arms)
    charts = comparison_charts(arms, tables[:1], "L1", "planted")
    part = Section("planted", "A world", small_run.HOSTILE[0], tables, charts)
    return render_comparison(both, "A study", [part])


class Watched:
    """A page, and all that it asked for, complained of or asked a person."""

    def __init__(self, browser, width=1280, scheme="light", **further):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, **further
        )
        self.page = self.context.new_page()
        self.requests, self.errors = [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.errors.append("dialog"), dialog.dismiss()))

    def open(self, url):
        self.page.goto(url)
        return self.page

    def close(self):
        self.context.close()


@pytest.fixture
def watched(browser):
    found = Watched(browser)
    yield found
    found.close()


def text(page, test_id, nth=0):
    return page.get_by_test_id(test_id).nth(nth).inner_text()


@pytest.mark.parametrize("name", ["first.html", "both.html", "study.html"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_page_asks_for_nothing_and_complains_of_nothing(browser, files, name, width, scheme):
    watched = Watched(browser, width, scheme)
    page = watched.open(f"file://{files / name}")
    page.mouse.wheel(0, 20000)
    page.wait_for_timeout(100)
    assert [url for url in watched.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in watched.requests if url.startswith("file:")]) == 1
    assert watched.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    watched.close()


def test_planted_markup_stays_text(watched, files):
    page = watched.open(f"file://{files / 'first.html'}")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert page.locator("a[href^='javascript:']").count() == 0
    shown = page.locator("body").inner_text()
    for planted in ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"):
        assert planted in shown
    assert "pay ⟨U+202E⟩evil⟨U+202C⟩ now" in shown
    assert "\u202e" not in shown
    page.get_by_test_id("browser-rows").locator("tr").first.click()
    assert page.locator("tr.whole td").inner_text() == small_run.HOSTILE[0]
    assert watched.errors == []


@pytest.mark.parametrize("limit", [0.5, 1.3, 4.6, 4.61, 1000])
def test_the_slider_keeps_what_python_keeps(watched, files, limit):
    page = watched.open(f"file://{files / 'first.html'}")
    rows = pq.read_table(files / "first/refine/scored.parquet").to_pylist()
    kept = select(rows, Rule(threshold=limit)).reasons.count("kept")
    page.locator("[data-r=number]").fill(str(limit))
    assert text(page, "slider-kept") == str(kept)
    assert text(page, "slider-share") == share_text(kept, len(rows))
    moved = [row for row in rows if (row["perplexity"] < limit) != (row["perplexity"] < 4.6)]
    assert page.get_by_test_id("slider-chains").locator(".side").count() == len(moved)
    page.locator("[data-r=reset]").click()
    assert text(page, "slider-share") == text(page, "share-kept")


def test_the_browser_shows_the_rows_of_the_parquet(watched, files):
    page = watched.open(f"file://{files / 'first.html'}")
    rows = pq.read_table(files / "first/align/rollouts.parquet").to_pylist()
    lines = page.get_by_test_id("browser-rows").locator("tr")
    shown = [[cell.strip() for cell in line.split("\t")] for line in lines.all_inner_texts()]
    assert [[c[0], c[4], c[5], c[8]] for c in shown] == [
        [str(r["step"]), f"{r['semantic']:.3f}", f"{r['preference']:.3f}", r["status"]]
        for r in rows
    ]
    page.locator("[data-f=from]").fill("3")
    page.locator("[data-f=semantic]").fill("0.4")
    assert text(page, "browser-count") == "2 rollouts"


def test_cards_are_filtered(watched, files):
    page = watched.open(f"file://{files / 'first.html'}")
    cards = page.locator("details.card:visible")
    assert cards.count() == 2
    page.locator("[data-c=rewarded]").check()
    assert cards.count() == 1  # u1 was never in a rollout
    page.locator("[data-c=words]").fill("no such word")
    assert cards.count() == 0


def test_the_first_screen_has_the_figures_of_the_files(watched, files):
    page = watched.open(f"file://{files / 'first.html'}")
    rows = pq.read_table(files / "first/refine/scored.parquet").to_pylist()
    assert text(page, "funnel-chains-kept") == str(sum(row["kept"] for row in rows))
    assert text(page, "funnel-rollouts-rewarded") == "8"
    kept, rejected = (text(page, "twin-ppl", n) for n in (0, 1))
    assert (kept, rejected) == ("1.2346", "9.8765")
    metrics = read_json(files / "first/evaluate/metrics.json")
    value = metrics["writers"]["policy"]["tracks"]["any"]["category_l1"]["value"]
    table = page.get_by_test_id("table1-any").locator("tbody tr", has_text="Policy")
    assert f"{100 * value:.1f} %" in table.inner_text()


def test_scripts_of_all_directions_are_laid_out_apart(watched, tmp_path):
    title = "شاي نعناع 茶 👩‍👩‍👧"
    rows = small_run.items().to_pylist()
    items = small_run.items().from_pylist(
        [{**r, "title": title} for r in rows], small_run.items().schema
    )
    path = tmp_path / "page.html"
    path.write_text(render_report(small_run.whole_run(items=items)), encoding="utf-8")
    page = watched.open(f"file://{path}")
    isolated = page.locator("bdi", has_text=title).first
    assert isolated.evaluate("node => getComputedStyle(node).unicodeBidi") == "isolate"
    assert title in page.locator("body").inner_text()


def visit(browser, url):
    """Milliseconds to the first contentful paint and to the end of loading."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(url)
    painted = "performance.getEntriesByName('first-contentful-paint')"
    page.wait_for_function(f"{painted}.length > 0")
    found = page.evaluate(f"""[
        {painted}[0].startTime, performance.getEntriesByType('navigation')[0].loadEventStart
    ]""")
    context.close()
    return found


@pytest.mark.slow
def test_100_000_rows_are_painted_and_loaded_nearly_as_soon_as_100(browser, tmp_path):
    pages = {}
    for rows in (100, 100_000):
        pages[rows] = tmp_path / f"{rows}.html"
        page = render_report(small_run.whole_run(**page_run.many(rows)))
        pages[rows].write_text(page, encoding="utf-8")
    # By turns, and the least of several: what else the machine does can only add to a time.
    visits = [{n: visit(browser, f"file://{page}") for n, page in pages.items()} for _ in range(6)]
    for moment in (0, 1):
        few, many = (min(one[rows][moment] for one in visits) for rows in (100, 100_000))
        assert many <= MOST_SLOWER * few


def grave(page):
    """What axe-core calls serious or critical in the page as it stands."""
    page.add_script_tag(content=Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    return [
        (one["id"], [node["target"] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


needs_axe = pytest.mark.skipif(not AXE, reason="AXE does not say where axe.min.js is")
LOOKS = [(1280, "light"), (1280, "dark"), (390, "light")]


@needs_axe
@pytest.mark.parametrize("name", ["first.html", "both.html", "study.html"])
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_serious_stands_in_the_way_of_a_reader(browser, files, name, width, scheme):
    watched = Watched(browser, width, scheme, bypass_csp=True)
    assert grave(watched.open(f"file://{files / name}")) == []
    watched.close()


@pytest.fixture(scope="module")
def server(files):
    uvicorn = pytest.importorskip("uvicorn")
    from taiji.ui.app import build_app
    from taiji.ui.runs import Runs

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = uvicorn.Config(build_app(Runs(files)), port=port, log_level="error")
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run, daemon=True)
    thread.start()
    while not served.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    served.should_exit = True
    thread.join(5)


def test_a_served_run_pages_its_rows_and_leads_to_a_user(watched, server):
    page = watched.open(f"{server}/")
    page.get_by_role("link", name="first").click()
    count = page.get_by_test_id("browser-count")
    sync_api.expect(count).to_have_text("8 rollouts")
    page.locator("[data-f=from]").fill("4")
    sync_api.expect(count).to_have_text("2 rollouts")
    page.get_by_test_id("browser-rows").locator("a").first.click()
    assert page.get_by_test_id("user-card").is_visible()
    assert all(url.startswith((server, "data:")) for url in watched.requests)
    assert watched.errors == []


def test_runs_are_compared_by_ticking_them(watched, server):
    page = watched.open(f"{server}/")
    for name in ("first", "second"):
        page.get_by_label(f"Compare {name}").check()
    page.get_by_role("button", name="Compare").click()
    assert page.get_by_test_id("settings").locator("tbody tr").count() == 1
    assert "seed" in text(page, "settings")
    assert watched.errors == []


VIEWS = {
    "list": "/",
    "run": "/run/first",
    "live": "/run/busy",
    "user": f"/run/first/user/{NAME}",
    "compare": "/compare?run=first&run=second",
}
"""Every view of `taiji ui`; the rollouts are part of that of a run."""


def look_at(watched, server, view):
    """The view, when all that it asks its server for has come."""
    page = watched.open(server + VIEWS[view])
    if view in ("run", "live"):
        page.get_by_test_id("browser-rows").locator("tr").first.wait_for()
    if view == "live":
        page.get_by_test_id("live").locator("svg").first.wait_for()
    return page


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_a_view_asks_its_server_alone_and_keeps_markup_text(browser, server, view, width, scheme):
    watched = Watched(browser, width, scheme)
    page = look_at(watched, server, view)
    assert [u for u in watched.requests if not u.startswith((server + "/", "data:"))] == []
    assert watched.errors == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("img, iframe, a[href^='javascript:']").count() == 0
    assert page.locator("script").count() == 2
    if view not in ("list", "compare"):  # which hold no texts of users
        shown = page.locator("body").inner_text()
        assert "</script><script>alert(2)</script>" in shown
        assert "\u202e" not in shown
    watched.close()


@needs_axe
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("width", "scheme"), LOOKS)
def test_nothing_serious_stands_in_the_way_of_a_view(browser, server, view, width, scheme):
    watched = Watched(browser, width, scheme, bypass_csp=True)
    assert grave(look_at(watched, server, view)) == []
    watched.close()


def test_the_list_says_how_far_each_run_is(watched, server, files):
    page = look_at(watched, server, "list")
    rows = page.get_by_test_id("runs").locator("tbody tr")
    shown = {line.split("\t")[0]: line.split("\t")[2] for line in rows.all_inner_texts()}
    done = len(list((files / "first").glob("*/manifest.json")))
    assert shown == {"first": f"{done} stages", "second": f"{done} stages", "busy": "align runs"}


def test_a_run_that_trains_shows_the_rows_that_its_stage_has_written(watched, server):
    page = look_at(watched, server, "live")
    live = page.get_by_test_id("live")
    steps = small_run.align_steps()
    series = live.locator("figure", has_text="Reward weights").locator(".series")
    assert series.all_inner_texts() == [
        f"{name} {steps[-1][f'w_{name}']:.3f}" for name in ("semantic", "preference")
    ]
    line = live.locator("tbody tr").first.inner_text().split("\t")
    row = small_run.rollouts().to_pylist()[0]
    assert [line[0], *line[3:]] == [str(row["step"]), *(f"{row[k]:.3f}" for k in REWARDS)]


REWARDS = ("semantic", "preference")


def test_the_page_of_a_user_has_the_figures_of_the_files(watched, server, files):
    page = look_at(watched, server, "user")
    rows = pq.read_table(files / "first/refine/scored.parquet").to_pylist()
    own = [row for row in rows if row["example_id"] == "sft-u0"]
    shown = page.get_by_test_id("ppl").all_inner_texts()
    assert shown == [f"{row['perplexity']:.4f}" for row in own]
    verdicts = page.get_by_test_id("verdict").all_inner_texts()
    assert verdicts == ["kept" if row["kept"] else "rejected" for row in own]
    rollouts = pq.read_table(files / "first/align/rollouts.parquet").to_pylist()[-8:]
    cells = [line.split("\t") for line in page.get_by_test_id("rollout").all_inner_texts()]
    assert [line[1:4] for line in cells] == [
        [str(row["step"]), f"{row['semantic']:.3f}", f"{row['preference']:.3f}"] for row in rollouts
    ]


@pytest.mark.parametrize("place", ["served", "both.html", "study.html"])
def test_a_comparison_has_the_figures_of_each_runs_metrics(watched, server, files, place):
    served = place == "served"
    page = watched.open(server + VIEWS["compare"] if served else f"file://{files / place}")
    rows = page.get_by_test_id("outcome-any").locator("tbody tr")
    assert rows.count() == 2
    for name, line in zip(("first", "second"), rows.all_inner_texts(), strict=True):
        writers = read_json(files / name / "evaluate/metrics.json")["writers"]
        figure = writers["policy"]["tracks"]["any"]["category_l1"]
        low, high = (f"{100 * figure[key]:.1f}" for key in ("low", "high"))
        assert line.startswith(name)
        assert f"{100 * figure['value']:.1f} %" in line
        assert f"[{low}, {high}]" in line
