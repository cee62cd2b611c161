"""Everything that a process of the service holds, opened once."""

from dataclasses import dataclass

from taiji.serving.bus.protocol import EventBus
from taiji.serving.log import EventLog
from taiji.serving.opening import note_backend, open_bus, open_store
from taiji.serving.publication import State
from taiji.serving.run import ServedRun
from taiji.serving.store.protocol import OnlineStore
from taiji.stages.parts.erased import FILE, Tombstones, UserNames, load_names

LOG = "log.sqlite"


@dataclass(frozen=True)
class Parts:
    """Store, queue, log and tombstones of a run's service."""

    run: ServedRun
    store: OnlineStore
    bus: EventBus
    log: EventLog
    tombstones: Tombstones
    names: UserNames

    @property
    def state(self) -> State:
        """What a publication touches."""
        return State(self.store, self.log, self.tombstones, self.names)

    def close(self) -> None:
        """Let go of all of them."""
        for part in (self.store, self.bus, self.log, self.tombstones):
            part.close()


def open_parts(run: ServedRun) -> Parts:
    """Open what the run's recipe asks for.

    Raises:
        ConfigError: Redis's address or the key of pseudonyms is missing.
        UnavailableError: Another process holds a file for too long.
    """
    section = run.recipe.serve
    note_backend(section, run.state)
    return Parts(
        run,
        open_store(section, run.state),
        open_bus(section, run.state),
        EventLog(run.state / LOG, section.refresh.kind_values),
        Tombstones(run.state / FILE),
        load_names(run.recipe.report.pseudonym_key_env),
    )
