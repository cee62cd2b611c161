"""The API as a client meets it, over the real ASGI server code and without a network."""

import asyncio
import base64
import json
import time
from datetime import timedelta

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts_at_hand import USERS, shop_run, vouch

from taiji.errors import ConfigError
from taiji.serving.admission import Admission
from taiji.serving.api.app import SCOPES, Service, build_app
from taiji.serving.api.keys import FILE, KeyRing, add_key
from taiji.serving.blobs import UserBlob, erased_blob, unpack_served
from taiji.serving.events import Event
from taiji.serving.parts import open_parts
from taiji.serving.publication import publish, require_version, roll_back
from taiji.serving.store import AsOf, Record

JSON = {"Content-Type": "application/json"}
ROW = {"customer": "ann", "sku": "mug", "when": "2024-03-01T10:00:00Z", "order": "o9"}
ROW |= {"pieces": "1", "amount": "9.00"}


class Server:
    """An app and what lies behind it."""

    def __init__(self, run, parts, admission):
        self.run, self.parts, self.admission = run, parts, admission
        self.app = None
        self.restart()

    def restart(self):
        keys = KeyRing(self.run.state / FILE)
        self.app = build_app(Service(self.parts, self.admission, keys, on_loopback=True))

    def ask(self, method, path, key="", **content):
        headers = content.pop("headers", {})
        headers |= {"Authorization": f"Bearer {key}"} if key else {}

        async def once():
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await client.request(method, path, headers=headers, **content)

        return asyncio.run(once())

    def features(self, *users, key=""):
        return self.ask("POST", "/v1/features", key, json={"user_ids": list(users)})

    def send(self, *rows, key="", **more):
        events = [{"table": "interactions", "row": row, **more} for row in rows]
        return self.ask("POST", "/v1/events", key, json={"events": events})


@pytest.fixture(params=[{}])
def server(request, tmp_path):
    run = shop_run(tmp_path, **request.param)
    parts = open_parts(run)
    publish(run, parts.state)
    admission = Admission(run.recipe.data, run.construct / "items.parquet", tmp_path / "scratch")
    yield Server(run, parts, admission)
    admission.close()
    parts.close()


def put(server, user, **changes):
    blob = UserBlob(
        **{"codes": (3, 0), "items": ("rug",), "event_time": 9, "made_at": time.time()} | changes
    )
    record = Record(server.parts.names.of(user), AsOf(9, 1), blob.pack())
    version = server.parts.store.versions().current
    assert server.parts.store.write(version, [record], 60) == [True]


def test_published_features_are_answered_in_the_order_of_the_question(server):
    answer = server.features(USERS[3], "nobody", USERS[0]).json()
    assert answer["version"] == 1
    first, nobody, last = answer["users"]
    assert (first["user_id"], first["status"], first["codes"]) == (USERS[3], "fresh", [1, 2])
    assert first["sequence"] == ["mug", "pot"]
    assert first["age_seconds"] >= 0
    assert last["user_id"] == USERS[0]
    assert nobody == {
        "user_id": "nobody",
        "status": "missing",
        "codes": [-1, -1],
        "sequence": [],
        "age_seconds": None,
    }


def test_old_features_are_stale_and_erased_users_have_none(server):
    put(server, "old", made_at=time.time() - 30 * 86_400)
    server.parts.store.erase([server.parts.names.of("gone")], erased_blob())
    old, gone = server.features("old", "gone").json()["users"]
    assert (old["status"], old["codes"], old["sequence"]) == ("stale", [3, 0], ["rug"])
    assert (gone["status"], gone["codes"], gone["sequence"]) == ("erased", [-1, -1], [])


def test_no_neighbour_is_in_any_answer(server):
    put(server, "ann", lender=server.parts.names.of("lender-canary"))
    answer = server.features("ann", USERS[0])
    assert USERS[7] not in answer.text  # who lends to the first of them
    assert server.parts.names.of("lender-canary").hex() not in answer.text
    assert "lender" not in answer.text


def test_events_are_safe_in_the_queue_or_refused_by_the_code_of_a_rule(server):
    answer = server.send(ROW, ROW | {"sku": "nothing"}, ROW | {"when": "soon"})
    assert answer.status_code == 202
    told = answer.json()
    assert told["taken"] == 1
    assert [(one["index"], one["code"]) for one in told["refused"]] == [(1, "E106"), (2, "E102")]
    assert server.parts.bus.depth() == 1
    text = server.ask("GET", "/metrics").text
    assert 'taiji_events_received_total{verdict="E106"} 1.0' in text
    assert 'taiji_events_received_total{verdict="taken"} 1.0' in text


def test_events_of_an_erased_user_are_dropped(server):
    server.parts.tombstones.add(server.parts.names.of("ann"), 0.0)
    assert server.send(ROW).json() == {"taken": 0, "refused": []}
    assert server.parts.bus.depth() == 0


@pytest.mark.parametrize("server", [{"limits": {"max_backlog": 2}}], indirect=True)
def test_a_full_queue_refuses_further_events(server):
    assert server.send(ROW, ROW | {"order": "2"}).status_code == 202
    server.restart()  # asks for the depth anew
    answer = server.send(ROW)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


def routes(server):
    document = server.ask("GET", "/openapi.json").json()
    return [(m.upper(), path) for path, ways in document["paths"].items() for m in ways]


def test_every_route_answers_401_without_a_key_and_with_a_wrong_one(server):
    known = [*routes(server), ("GET", "/openapi.json"), ("GET", "/nothing")]
    assert len(known) > 10
    key = add_key(server.run.state / FILE, "all", ("read", "ingest", "publish", "erase"))
    server.restart()
    for method, path in known:
        assert server.ask(method, path).status_code == 401, path
        assert server.ask(method, path, "taiji-wrong").status_code == 401, path
    assert server.ask("GET", "/healthz", key).status_code == 200


def test_a_key_may_do_what_its_scope_says_and_nothing_else(server):
    path = server.run.state / FILE
    keys = {
        scope: add_key(path, scope, (scope,)) for scope in ("read", "ingest", "publish", "erase")
    }
    server.restart()
    for route, needed in {**SCOPES, "/v1/features": "read"}.items():
        for scope, key in keys.items():
            status = server.ask("POST", route, key, json={}).status_code
            assert (status == 403) == (scope != needed), (route, scope)


def test_a_browser_may_show_the_key_as_a_password(server):
    key = add_key(server.run.state / FILE, "operator", ("read",))
    server.restart()
    basic = base64.b64encode(f"me:{key}".encode()).decode()
    answer = server.ask("GET", "/operator", headers={"Authorization": f"Basic {basic}"})
    assert answer.status_code == 200
    assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize("server", [{"limits": {"max_body_bytes": 1000}}], indirect=True)
def test_a_large_body_is_refused_whatever_its_headers_say(server):
    read = 0

    async def endless():
        nonlocal read
        for _ in range(50_000):
            read += 1000
            yield b"x" * 1000

    answer = server.ask("POST", "/v1/events", content=endless())
    assert answer.status_code == 413
    assert read < 10_000
    assert server.ask("POST", "/v1/events", content=b"x" * 1001).status_code == 413


@pytest.mark.parametrize("server", [{"limits": {"requests_per_second": 3.0}}], indirect=True)
def test_beyond_the_rate_one_waits(server):
    answers = [server.features("ann") for _ in range(8)]
    assert [answer.status_code for answer in answers[:3]] == [200, 200, 200]
    assert 429 in [answer.status_code for answer in answers]
    late = next(answer for answer in answers if answer.status_code == 429)
    assert int(late.headers["retry-after"]) >= 1


@pytest.mark.parametrize("server", [{"limits": {"concurrent_requests": 2}}], indirect=True)
def test_beyond_the_cap_requests_are_refused_at_once(server):
    async def many():
        gate = asyncio.Event()

        async def slow():
            await gate.wait()
            yield b'{"user_ids": ["ann"]}'

        transport = httpx.ASGITransport(server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            held = [
                asyncio.create_task(client.post("/v1/features", content=slow(), headers=JSON))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            refused = await client.post("/v1/features", json={"user_ids": ["ann"]})
            gate.set()
            return refused, [await one for one in held]

    refused, held = asyncio.run(many())
    assert refused.status_code == 503
    assert [answer.status_code for answer in held] == [200, 200]


@pytest.mark.parametrize(
    "body", [{}, {"user_ids": []}, {"user_ids": ["u"] * 501}, {"user_ids": ["x" * 257]}, [1], "a"]
)
def test_what_is_no_question_is_answered_422_without_being_repeated(server, body):
    answer = server.ask("POST", "/v1/features", json=body)
    assert answer.status_code == 422
    assert "xxx" not in answer.text
    canary = {"user_ids": ["fine", {"secret": "canary"}]}
    assert "canary" not in server.ask("POST", "/v1/features", json=canary).text


def test_five_hundred_users_are_one_operation_of_the_store(server):
    counted = []
    real = server.parts.store.read

    async def counting(names):
        counted.append(len(names))
        return await real(names)

    server.parts.store.read = counting
    assert len(server.features(*(f"x{n}" for n in range(500))).json()["users"]) == 500
    assert counted == [500]


def test_publish_and_rollback_by_http(server):
    assert server.ask("POST", "/v1/publish").json() == {"version": 1, "users_written": 0}
    assert server.ask("POST", "/v1/rollback").status_code == 409
    second = publish(server.run, server.parts.state, anew=True)
    assert (second.version, second.num_users) == (2, len(USERS))
    assert require_version(server.run, server.parts.store) == 2
    assert server.ask("POST", "/v1/rollback").json()["version"] == 1
    assert server.features(USERS[0]).json()["version"] == 1


def test_a_run_that_is_not_in_force_refreshes_nobody(server):
    store = server.parts.store
    newer = store.add_version(json.dumps({"id": "another", "run": "newer"}))
    store.switch(newer)
    with pytest.raises(ConfigError, match="not in force"):
        require_version(server.run, store)


def test_after_a_rollback_whoever_has_events_waits_for_a_refresh(server):
    state = server.parts.state
    publish(server.run, state, anew=True)
    state.log.append([Event("e1", "interactions", USERS[0], 1, "purchase", "mug", "o1", 1.0, None)])
    for one in state.log.claim(9, debounce=0, max_delay=0, lease=60):
        state.log.done({one.user_id: one.position})
    assert state.log.num_waiting() == 0
    assert roll_back(state) == 1
    assert state.log.num_waiting() == 1


def look_again(run, weeks, codes):
    """Each user once more, as `data.refresh: week` has it; nothing happened to anybody since."""
    for stage, name in (("features", "features"), ("construct", "examples")):
        path = run.root / stage / f"{name}.parquet"
        table = pq.read_table(path)
        rows = []
        for row in table.to_pylist()[: len(USERS)]:
            row["example_id"] = f"{weeks} {row['user_id']}"
            if stage == "features":
                row["codes"] = codes
            else:
                row["cutoff"] += timedelta(weeks=weeks)
            rows.append(row)
        pq.write_table(pa.concat_tables([table, pa.Table.from_pylist(rows, table.schema)]), path)
        (run.root / stage / "manifest.json").unlink()
        vouch(run.root, stage)


def test_of_several_looks_at_a_user_the_newest_is_published_and_counted_once(tmp_path):
    run = shop_run(tmp_path)
    for weeks, codes in ((2, [3, 0]), (1, [2, 3])):
        look_again(run, weeks, codes)
    parts = open_parts(run)
    assert publish(run, parts.state).num_users == len(USERS)
    published = {unpack_served(record.blob).codes for record in parts.store.scan(1)}
    parts.close()
    assert published == {b"[3,0]"}


def test_a_new_version_keeps_erased_users_erased(server):
    server.parts.tombstones.add(server.parts.names.of(USERS[0]), 0.0)
    publish(server.run, server.parts.state, anew=True)
    first, second = server.features(USERS[0], USERS[1]).json()["users"]
    assert (first["status"], second["status"]) == ("erased", "fresh")


def test_health_readiness_and_figures(server):
    assert server.ask("GET", "/healthz").json()["status"] == "ok"
    assert server.ask("GET", "/readyz").status_code == 200
    server.features(USERS[0], "nobody")
    server.parts.log.count({"generations": 3})
    figures = server.ask("GET", "/v1/figures").json()
    assert figures["now"]["version"] == 1
    assert figures["now"]["age_seconds_0.99"] >= 0
    assert list(figures["minutes"]["generations"].values()) == [3.0]
    text = server.ask("GET", "/metrics").text
    assert 'taiji_users_served_total{status="missing"} 1.0' in text
    assert 'taiji_worker_total{what="generations"} 3.0' in text
    assert "taiji_store_operations_total 1.0" in text
    assert USERS[0] not in text


@pytest.mark.parametrize(("psi", "alarm"), [(0.24, 0), (0.26, 1)])
def test_drift_beyond_the_setting_is_an_alarm(server, psi, alarm):
    assert "codes_drift_alarm" not in server.ask("GET", "/v1/figures").json()["now"]
    server.parts.log.gauge({"codes_psi": psi})
    now = server.ask("GET", "/v1/figures").json()["now"]
    assert (now["codes_psi"], now["codes_drift_alarm"]) == (psi, alarm)
    assert f"taiji_codes_drift_alarm {alarm}.0" in server.ask("GET", "/metrics").text


def test_the_document_says_every_refusal(server):
    document = server.ask("GET", "/openapi.json").json()
    for path, ways in document["paths"].items():
        for way in ways.values():
            assert {"401", "403", "413", "429", "503"} <= way["responses"].keys(), path
    json.dumps(document)
