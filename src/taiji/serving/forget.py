"""`taiji forget USER`: a user is erased from all that Taiji keeps, and from features of others.

The tombstone comes first, so that nothing comes back while the rest is done. Then what is online:
queue, log, store, and what the user lent to others, in files and in Redis if the service has used
both. Then the runs beside. Each step can be killed
and repeated; a user who is gone already is no error. What cannot be undone, models that learnt from
the user, is written down in the run's lineage; what others must do, in the receipt.
"""

import hashlib
import hmac
import json
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taiji.serving.blobs import erased_blob
from taiji.serving.bus.protocol import EventBus
from taiji.serving.events import unpack_event
from taiji.serving.forget_run import Erasure, erase_from_run
from taiji.serving.loans import blank_loans
from taiji.serving.opening import open_others
from taiji.serving.parts import Parts
from taiji.serving.publication import description, version_of
from taiji.serving.store.protocol import OnlineStore
from taiji.stages.parts.erased import Tombstones
from taiji.store.files import read_json, write_json

RECEIPTS = "receipts"
_OTHERS_MUST = (
    "erase the user from the source of the log; a log that is read again is filtered by tombstone",
    "erase backups of the run directory, of Redis and of the service's folder",
    "ask the providers of endpoints (teacher, worker) to erase their logs of requests",
    "weigh training marked models anew: weights cannot forget",
)


@dataclass
class Done:
    """What this call erased.

    Attributes:
        online: Messages, events and loans.
        runs: By name of the run.
    """

    online: dict[str, int] = field(default_factory=dict)
    runs: dict[str, Erasure] = field(default_factory=dict)


def forget(user_id: str, parts: Parts) -> Path:
    """Erase a user; return the receipt, which names nobody.

    Raises:
        UnavailableError: The store or the queue does not answer; the tombstone stands.
        ConfigError: The service has used Redis, and its address is not in the environment.
        LockedError: A run is being written to; wait and repeat.
        DataError: An artifact is damaged.
    """
    name = parts.names.of(user_id)
    others = open_others(parts.run.recipe.serve, parts.run.state)  # before anything: they may fail
    places = [(parts.store, parts.bus), *others]
    try:
        parts.tombstones.add(name, time.time())
        done = Done({"events": parts.log.erase(user_id)})
        for store, bus in places:
            _erase_online(user_id, name, store, bus, parts.tombstones, done.online)
        for recipe in sorted(parts.run.state.parent.glob("*/recipe.resolved.yaml")):
            erasure = erase_from_run(recipe.parent, user_id, name.hex())
            if erasure.anything:
                done.runs[recipe.parent.name] = erasure
        for store, _ in places:
            if (own := version_of(parts.run, store)) is not None:
                store.describe(own, description(parts.run))
    finally:
        for store, bus in others:
            store.close()
            bus.close()
    return _write_receipt(name, done, parts)


def _erase_online(
    user_id: str,
    name: bytes,
    store: OnlineStore,
    bus: EventBus,
    tombstones: Tombstones,
    figures: dict[str, int],
) -> None:
    def is_theirs(message: bytes) -> bool:
        return unpack_event(message).user_id == user_id

    loans = sum(
        blank_loans(store, version, store.scan(version), tombstones)
        for version in store.versions().described
    )
    for what, number in (("messages", bus.erase(is_theirs)), ("loans", loans)):
        figures[what] = figures.get(what, 0) + number
    store.erase([name], erased_blob())


def _write_receipt(name: bytes, done: Done, parts: Parts) -> Path:
    """One receipt a user; a repetition adds to it what it found left."""
    path = parts.run.state / RECEIPTS / f"{name.hex()}.json"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    before: dict[str, Any] = read_json(path) if path.is_file() else {}
    online = {
        what: number + before.get("online", {}).get(what, 0) for what, number in done.online.items()
    }
    runs: dict[str, Any] = before.get("runs", {})
    for run, erasure in done.runs.items():
        rows = runs.get(run, {}).get("rows", {})
        for what, number in erasure.rows.items():
            rows[what] = rows.get(what, 0) + number
        models = sorted({*runs.get(run, {}).get("models_trained_on_them", []), *erasure.models})
        runs[run] = {"rows": rows, "models_trained_on_them": models}
    told = {
        "name": name.hex(),
        "since": before.get("since", datetime.now(UTC).isoformat(timespec="seconds")),
        "online": online,
        "runs": runs,
        "others_must": list(_OTHERS_MUST),
    }
    text = json.dumps(told, sort_keys=True).encode()
    signature = hmac.new(parts.names.key, text, hashlib.sha256).hexdigest()
    write_json({**told, "signature": signature}, path)
    return path


def is_genuine(receipt: Path, parts: Parts) -> bool:
    """Whether a receipt was written under this key and not changed since."""
    told = read_json(receipt)
    shown = told.pop("signature", "")
    text = json.dumps(told, sort_keys=True).encode()
    return hmac.compare_digest(shown, hmac.new(parts.names.key, text, hashlib.sha256).hexdigest())
