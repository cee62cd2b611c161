import json

import page_run
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient

from taiji.report.rendering import script_policy
from taiji.store.pseudonym import load_pseudonyms
from taiji.ui.app import ago, build_app
from taiji.ui.runs import Runs, running_stage

NAME = load_pseudonyms("TAIJI_PSEUDONYM_KEY").of("u0")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    page_run.write(root / "first")
    page_run.write(root / "second", seed=18)
    return root


@pytest.fixture(scope="module")
def client(folder):
    return TestClient(build_app(Runs(folder)), base_url="http://127.0.0.1")


def test_every_run_of_the_folder_is_listed(client):
    page = client.get("/").text
    assert 'href="/run/first"' in page
    assert 'href="/run/second"' in page


def test_a_run_of_another_version_is_named_and_the_others_stay(folder, client):
    (folder / "old").mkdir()
    (folder / "old" / "recipe.resolved.yaml").write_text("name: old\ngone: 1\n")
    page = client.get("/").text
    (folder / "old" / "recipe.resolved.yaml").unlink()
    assert "a recipe of another version" in page
    assert 'href="/run/first"' in page


def test_pages_carry_the_policy_and_no_raw_id(client):
    answer = client.get("/run/first")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith(script_policy(served=True))
    assert NAME in answer.text
    assert ">u0<" not in answer.text


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, 8),
        ({"from": "2", "to": "3"}, 4),
        ({"user": NAME[:12]}, 8),
        ({"user": "u0"}, 8),
        ({"user": "nobody"}, 0),
        ({"semantic": "0.3"}, 4),
        ({"preference": "0.2"}, 2),
        ({"words": "SCRIPT>"}, 8),
        ({"words": "tea"}, 0),
        ({"rung": "exact", "status": "ok"}, 8),
        ({"rung": "none"}, 0),
    ],
)
def test_filters_leave_the_rows_that_the_parquet_has(client, folder, query, found):
    answer = client.get("/run/first/rollouts", params=query).json()
    assert answer["found"] == found
    if not query:
        rows = pq.read_table(folder / "first/align/rollouts.parquet").to_pylist()
        assert [row[4] for row in answer["rows"]] == [row["semantic"] for row in rows]


def test_pages_of_rows_do_not_overlap(client):
    first, second = (
        client.get("/run/first/rollouts", params={"page": n, "size": 3}).json()["rows"]
        for n in (0, 1)
    )
    assert len(first) == len(second) == 3
    assert first != second


def test_a_bound_that_is_no_number_is_refused(client):
    assert client.get("/run/first/rollouts", params={"semantic": "high"}).status_code == 422


def test_a_user_is_found_by_id_and_the_id_leaves_the_address(client):
    answer = client.get("/run/first/user", params={"id": "u0"})
    assert str(answer.url).endswith(f"/run/first/user/{NAME}")
    assert 'data-testid="user-card"' in answer.text
    assert client.get("/run/first/user/user-0000").status_code == 404


def test_runs_are_compared(client):
    page = client.get("/compare", params={"run": ["first", "second"]}).text
    assert 'data-testid="settings"' in page
    assert client.get("/compare", params={"run": "first"}).status_code == 404


@pytest.mark.parametrize("name", ["%2e%2e", "first%2Falign", "nothing", ".lock"])
def test_nothing_outside_the_folder_has_a_page(client, name):
    assert client.get(f"/run/{name}").status_code == 404


def test_another_site_cannot_point_its_name_here(folder):
    stranger = TestClient(build_app(Runs(folder)), base_url="http://evil.example")
    assert stranger.get("/").status_code == 400


@pytest.mark.parametrize("method", ["post", "put", "delete", "patch"])
def test_nothing_can_be_written(client, method):
    assert getattr(client, method)("/run/first").status_code == 405


def test_a_run_that_trains_shows_its_curves_and_newest_rollouts(tmp_path):
    parts = page_run.write_busy(tmp_path / "busy")
    lock = tmp_path / "busy" / ".lock"
    client = TestClient(build_app(Runs(tmp_path)), base_url="http://localhost")
    held = lock.read_text()
    lock.unlink()
    assert client.get("/run/busy/live").json()["stage"] is None
    lock.write_text(held)
    assert running_stage(tmp_path / "busy") == "align"
    state = json.loads(client.get("/run/busy/live").text)
    assert state["stage"] == "align"
    assert state["words"].startswith("step 4")
    weights = state["curves"]["Reward weights"]["semantic"]
    assert weights[0] == [1, pytest.approx(0.55)]
    assert state["rollouts"][0][1] == NAME
    assert not list(parts.glob("**/*damaged*"))


def test_a_page_is_made_anew_when_a_stage_finishes(tmp_path):
    page_run.write(tmp_path / "grows")
    client = TestClient(build_app(Runs(tmp_path)), base_url="http://localhost")
    assert 'data-testid="outcome' not in client.get("/run/grows").text
    assert 'data-testid="table1-any"' in client.get("/run/grows").text
    (tmp_path / "grows/evaluate/manifest.json").unlink()
    assert 'data-testid="missing-evaluate"' in client.get("/run/grows").text


@pytest.mark.parametrize(
    ("seconds", "words"), [(3, "just now"), (60, "1 minute ago"), (7300, "2 hours ago")]
)
def test_time_is_told_in_the_largest_unit(seconds, words):
    assert ago(seconds) == words
