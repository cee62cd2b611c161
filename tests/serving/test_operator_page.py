"""The operator's page in a real browser: Debian's Chromium, driven by Playwright."""

import shutil

import pytest
from parts_at_hand import USERS, shop_run
from service_process import Server

from taiji.serving.api.keys import FILE, add_key
from taiji.serving.log import EventLog
from taiji.serving.parts import LOG

pytestmark = pytest.mark.service


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as made:
        yield made.chromium.launch(executable_path=chromium, args=["--no-sandbox"])


def test_an_operator_sees_curves_and_an_alarm_and_loads_nothing_from_elsewhere(browser, tmp_path):
    run = shop_run(tmp_path)
    key = add_key(run.state / FILE, "operator", ("read",))
    log = EventLog(run.state / LOG, {})
    server = Server(run.root, key=key)
    try:
        server.client.features(list(USERS))
        log.count({"generations": 3, "tokens_spent": 120})
        log.gauge({"codes_psi": 0.5})
        page = browser.new_page(http_credentials={"username": "me", "password": key})
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(error))
        page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
        assert page.goto(f"{server.url}/operator").status == 200
        page.wait_for_function("document.getElementById('state').textContent != 'loading'")
        assert page.inner_text("#state").startswith("ALARM"), wrong
        rows = dict(row.split("\t") for row in page.locator("#now tr").all_inner_texts())
        assert rows["version"] == "1"
        assert rows["codes psi"] == "0.50"
        assert float(rows["age seconds 0.99"]) >= 0
        assert page.locator("tr.alarm").inner_text().startswith("codes drift alarm")
        titles = [text.split("\n")[0] for text in page.locator("h2").all_inner_texts()]
        assert [title.rstrip(" 0123456789.") for title in titles] == [
            "codes psi",
            "generations",
            "tokens spent",
        ]
        points = page.locator("polyline").evaluate_all("all => all.map(e => e.points.length)")
        assert points == [1, 1, 1]
        log.gauge({"codes_psi": 0.05})
        page.locator("#state", has_text="up to date").wait_for()  # it draws again by itself
        assert page.locator("tr.alarm").count() == 0
        assert not wrong
        assert all(url.startswith(server.url) for url in asked)
        text = page.content()
        assert key not in text
        assert not any(user in text for user in USERS)
        server.process.kill()
        page.locator("#state", has_text="no figures").wait_for()
    finally:
        log.close()
        server.close()
