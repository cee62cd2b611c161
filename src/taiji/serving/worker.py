"""The worker: events from the queue into the log, users whose turn it is through a refresh.

Killed at any point it loses nothing: an event is acknowledged when the log has it, a user is done
when the store has what their events made of them. What a dead worker held is taken over after a
lease. Any number of workers of a machine share a log.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from taiji.config.serving import RefreshSection
from taiji.errors import DataError, TaijiError
from taiji.serving.bus.protocol import EventBus
from taiji.serving.events import Event, unpack_event
from taiji.serving.log import EventLog, Waiting
from taiji.serving.outcome import Outcome
from taiji.serving.unavailable import UnavailableError
from taiji.stages.parts.erased import Tombstones, UserNames

logger = logging.getLogger(__name__)

_EVENTS_AT_ONCE = 500
_IDLE_SECONDS = 0.2
_REST_SECONDS = 0.5
_PATIENCE_SECONDS = 5.0
_LONGEST_BACKOFF = 600.0
_LOOK_SECONDS = 5.0


class Refreshes(Protocol):
    """What a worker needs of `Refresher`."""

    def refresh(self, users: Sequence[str], version: int) -> Outcome:
        """Make the features of some users and write those that are newer."""

    def reload(self) -> None:
        """A user was erased."""

    def psi(self) -> float | None:
        """Drift of the codes."""


class Worker:
    """Works until it is stopped.

    Args:
        bus: Where events come from.
        log: Where they go.
        tombstones: Whose events are dropped.
        names: What tombstones call users.
        refresher: Made when the first user is due, because models take time to load.
        version: Which version to write to; raises if there is none.
        section: When users are due.
    """

    def __init__(
        self,
        bus: EventBus,
        log: EventLog,
        tombstones: Tombstones,
        names: UserNames,
        refresher: Callable[[], Refreshes],
        version: Callable[[], int],
        section: RefreshSection,
    ) -> None:
        self._bus, self._log, self._tombstones, self._names = bus, log, tombstones, names
        self._load, self._version, self._section = refresher, version, section
        self._refresher: Refreshes | None = None
        self._num_erased = tombstones.number()
        self._written_to: int | None = None
        self._looked = -np.inf

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set.

        What may change is waited for: a store or an engine that is away, a run that is not, or no
        longer, published.
        """
        parent = os.getppid()
        while not stop.is_set():
            try:
                moved = self.take_in(0.0)
                if not self.refresh() and not moved:
                    self.take_in(_IDLE_SECONDS)
            except UnavailableError as error:
                logger.warning("%s: waiting for it", error)
                stop.wait(_REST_SECONDS)
            except TaijiError as error:
                logger.warning("%s: trying again", error)
                stop.wait(_PATIENCE_SECONDS)
            if os.getppid() != parent:  # the server that started us is gone
                return

    def take_in(self, wait_seconds: float) -> int:
        """Move events from the queue into the log; return how many came."""
        deliveries = self._bus.take(_EVENTS_AT_ONCE, wait_seconds)
        if not deliveries:
            return 0
        events: list[Event] = []
        for delivery in deliveries:
            try:
                events.append(unpack_event(delivery.message))
            except DataError as error:
                logger.error("%s", error)
                self._log.count({"events_unreadable": 1})
        own = {e.event_id: self._names.of(e.user_id) for e in events}
        erased = self._tombstones.among(list(set(own.values())))
        kept = [e for e in events if own[e.event_id] not in erased]
        new = self._log.append(kept)
        late = self._tombstones.among(list(set(own.values()))) - erased
        for user in {e.user_id for e in kept if own[e.event_id] in late}:
            self._log.erase(user)  # erased while we looked
        self._bus.acknowledge([delivery.token for delivery in deliveries])
        figures = {"events_new": new, "events_known": len(kept) - new}
        self._log.count(figures | {"events_of_erased_users": len(events) - len(kept)})
        return len(deliveries)

    def refresh(self) -> int:
        """Refresh users whose turn it is; return how many were tried."""
        section = self._section
        due = self._log.claim(
            section.batch_users,
            debounce=section.debounce_seconds,
            max_delay=section.max_delay_seconds,
            lease=section.lease_seconds,
        )
        if not due:
            return 0
        users = [one.user_id for one in due]
        try:
            outcome = self._ready().refresh(users, self._current_version())
        except BaseException:
            self._log.put_back(users, _backoff(due))
            self._log.count({"refreshes_failed": 1})
            raise
        self._settle(due, outcome)
        return len(due)

    def _settle(self, due: Sequence[Waiting], outcome: Outcome) -> None:
        # What was claimed is known too: events that a newer run knows are in the log no more.
        claimed = {one.user_id: one.position for one in due}
        done = {user: max(at, claimed[user]) for user, at in outcome.positions.items()}
        self._log.done(done)
        if outcome.left:
            self._log.put_back(outcome.left, _PATIENCE_SECONDS)
        if outcome.failed:
            self._log.put_back(outcome.failed, _backoff(due))
        self._log.count(outcome.figures)
        now = time.time()
        waits = [now - one.since for one in due if one.user_id in outcome.positions]
        gauges: dict[str, float] = {}
        if waits:
            p50, p99 = np.percentile(waits, [50, 99])
            gauges = {"refresh_seconds_p50": float(p50), "refresh_seconds_p99": float(p99)}
        if self._refresher is not None and (psi := self._refresher.psi()) is not None:
            gauges["codes_psi"] = psi
        self._log.gauge(gauges)

    def _ready(self) -> Refreshes:
        if self._refresher is None:
            self._refresher = self._load()
        if (num_erased := self._tombstones.number()) != self._num_erased:
            self._refresher.reload()
            self._num_erased = num_erased
        return self._refresher

    def _current_version(self) -> int:
        if self._written_to is None or time.monotonic() - self._looked > _LOOK_SECONDS:
            self._written_to = self._version()
            self._looked = time.monotonic()
        return self._written_to


def _backoff(due: Sequence[Waiting]) -> float:
    """Doubles with every attempt of whoever has had most."""
    attempts = max(one.attempts for one in due)
    return float(min(_LONGEST_BACKOFF, _REST_SECONDS * 2.0 ** (attempts - 1)))
