"""What travels over HTTP: the contract that OpenAPI describes and the client is typed by."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_USERS = 500
MOST_EVENTS = 1000

UserId = Annotated[str, Field(min_length=1, max_length=256)]
Status = Literal["fresh", "stale", "missing", "erased"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeaturesQuestion(_Message):
    """Whose features are asked for."""

    user_ids: list[UserId] = Field(min_length=1, max_length=MOST_USERS)


class UserFeatures(_Message):
    """Features of one user."""

    user_id: UserId
    status: Status = Field(
        description="stale: older than serve.stale_after_seconds; missing: defaults"
    )
    codes: list[int] = Field(description="intra-user features; -1 is the code of the missing")
    sequence: list[str] = Field(description="cross-user features: item ids, newest first")
    age_seconds: float | None = Field(description="since they were made; null for defaults")


class FeaturesAnswer(_Message):
    """Features in the order of the question."""

    version: int | None = Field(description="in force; null: nothing published, or no store")
    users: list[UserFeatures]


class SentEvent(_Message):
    """A row of a table of the recipe's mapping."""

    table: str = Field(
        "interactions",
        max_length=64,
        description="interactions or events; where the recipe has several, such as events.1",
    )
    row: dict[str, Any] = Field(description="columns of the raw table and their values")
    event_id: str = Field(
        "", max_length=256, description="an event of this id counts once; empty: equal rows are one"
    )


class EventsMessage(_Message):
    """Events to be taken in."""

    events: list[SentEvent] = Field(min_length=1, max_length=MOST_EVENTS)


class RefusedEvent(_Message):
    """Why an event was not taken in."""

    index: int
    code: str = Field(description="of the rule; docs/data.md lists them")
    reason: str
    field: str
    mend: str


class EventsAnswer(_Message):
    """How many events are safe in the queue, and which are not."""

    taken: int
    refused: list[RefusedEvent]


class VersionAnswer(_Message):
    """The version in force."""

    version: int
    users_written: int = 0


class EraseMessage(_Message):
    """Whom to forget."""

    user_id: UserId


class EraseAnswer(_Message):
    """Where the receipt is kept."""

    receipt: str


class Health(_Message):
    """How the service is."""

    status: Literal["ok", "unavailable"]
    detail: str = ""


class Problem(_Message):
    """Why a request was refused."""

    detail: str
