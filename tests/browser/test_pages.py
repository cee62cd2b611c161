"""Pages in Chromium: what a person sees is what the files hold, and nothing else happens.

Needs the packages `chromium` of the system and `playwright` of Python. The accessibility check
needs axe-core too: `AXE=.../axe.min.js`, from the npm package of that name.
"""

import json
import os
import shutil
import socket
import statistics
import threading
import time
from pathlib import Path

import page_run
import pyarrow.parquet as pq
import pytest
import small_run

from taiji.reasoning.selection import Rule, select
from taiji.report.comparison import render_comparison
from taiji.report.page import render_report
from taiji.report.rendering import share_text
from taiji.report.run_files import read_folder
from taiji.store.files import read_json

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
AXE = os.environ.get("AXE", "")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore"),  # of Playwright's event loop
]
MOST_SLOWER = 3.0


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
    return folder


class Watched:
    """A page, and all that it asked for, complained of or asked a person."""

    def __init__(self, browser, width=1280, scheme="light"):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
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


@pytest.mark.parametrize("name", ["first.html", "both.html"])
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


def first_paint(browser, url):
    """Milliseconds to the first contentful paint, the median of some visits."""
    times = []
    for _ in range(5):
        context = browser.new_context()
        page = context.new_page()
        page.goto(url)
        script = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
        page.wait_for_function(f"{script.split('[0]')[0]}.length > 0")
        times.append(page.evaluate(script))
        context.close()
    return statistics.median(times)


@pytest.mark.slow
def test_100_000_rows_paint_nearly_as_soon_as_100(browser, tmp_path):
    times = {}
    for rows in (100, 100_000):
        page = tmp_path / f"{rows}.html"
        page.write_text(render_report(small_run.whole_run(**page_run.many(rows))), encoding="utf-8")
        times[rows] = first_paint(browser, f"file://{page}")
    assert times[100_000] <= MOST_SLOWER * times[100]


@pytest.mark.skipif(not AXE, reason="AXE does not say where axe.min.js is")
@pytest.mark.parametrize("name", ["first.html", "both.html"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_nothing_serious_stands_in_the_way_of_a_reader(browser, files, name, width, scheme):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(f"file://{files / name}")
    page.add_script_tag(content=Path(AXE).read_text(encoding="utf-8"))
    found = page.evaluate("axe.run({resultTypes: ['violations']})")
    context.close()
    grave = [v for v in found["violations"] if v["impact"] in ("serious", "critical")]
    told = [(v["id"], [n["target"] for n in v["nodes"][:3]]) for v in grave]
    assert grave == [], json.dumps(told)


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
