"""A typed client of the service; needs httpx alone.

with ServiceClient("http://127.0.0.1:8100", api_key) as client:
    features = client.features(["ann", "bob"])
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

import httpx

from taiji.errors import EngineError

Status = Literal["fresh", "stale", "missing", "erased"]


@dataclass(frozen=True)
class UserFeatures:
    """Features of one user.

    Attributes:
        status: `missing` and `erased` users have the default features.
        codes: Intra-user features; -1 is the code of the missing.
        sequence: Cross-user features: item ids, newest first.
        age_seconds: Since they were made; None for defaults.
    """

    user_id: str
    status: Status
    codes: tuple[int, ...]
    sequence: tuple[str, ...]
    age_seconds: float | None


@dataclass(frozen=True)
class Event:
    """A row of a table of the recipe's mapping.

    Attributes:
        row: Columns of the raw table and their values.
        table: `interactions` or `events`; where the recipe has several, such as `events.1`.
        event_id: An event of this id counts once; empty: equal rows are one.
    """

    row: Mapping[str, Any]
    table: str = "interactions"
    event_id: str = ""


@dataclass(frozen=True)
class Refused:
    """Why the event at `index` was not taken in."""

    index: int
    code: str
    reason: str
    field: str
    mend: str


@dataclass(frozen=True)
class Taken:
    """How many events are safe in the queue, and which were refused."""

    taken: int
    refused: tuple[Refused, ...] = field(default=())


class ServiceError(EngineError):
    """The service refused a request, or could not be reached.

    Attributes:
        status: Of the answer; 0 if there was none.
        retry_after: Seconds that the service asks to wait before the same request; else None.
    """

    def __init__(self, message: str, status: int = 0, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class ServiceClient:
    """Asks one server.

    Args:
        base_url: Such as `http://127.0.0.1:8100`.
        api_key: Empty: none is needed.
        timeout_seconds: Of one request.
    """

    def __init__(self, base_url: str, api_key: str = "", timeout_seconds: float = 5.0) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(
            base_url=base_url, headers=headers, timeout=timeout_seconds, follow_redirects=False
        )

    def features(self, user_ids: Sequence[str]) -> list[UserFeatures]:
        """Features of 1 to 500 users, in their order.

        Raises:
            ServiceError: The service refused, or could not be reached.
        """
        answer = self._post("/v1/features", {"user_ids": list(user_ids)})
        return [
            UserFeatures(
                row["user_id"],
                row["status"],
                tuple(row["codes"]),
                tuple(row["sequence"]),
                row["age_seconds"],
            )
            for row in answer["users"]
        ]

    def send(self, events: Sequence[Event]) -> Taken:
        """Send 1 to 1,000 events. With event ids it is safe to send them again after an error.

        Raises:
            ServiceError: The service refused, or could not be reached.
        """
        rows = [
            {"table": one.table, "row": dict(one.row), "event_id": one.event_id} for one in events
        ]
        answer = self._post("/v1/events", {"events": rows})
        return Taken(answer["taken"], tuple(Refused(**row) for row in answer["refused"]))

    def publish(self) -> int:
        """Publish the run that is served; return the version in force."""
        return int(self._post("/v1/publish")["version"])

    def rollback(self) -> int:
        """Go back to the version before; return it."""
        return int(self._post("/v1/rollback")["version"])

    def forget(self, user_id: str) -> str:
        """Erase a user everywhere; return the name of the receipt."""
        return str(self._post("/v1/forget", {"user_id": user_id})["receipt"])

    def close(self) -> None:
        """Let go of connections."""
        self._http.close()

    def __enter__(self) -> "ServiceClient":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    def _post(self, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        try:
            answer = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise ServiceError(f"{path}: the service cannot be reached: {error}") from error
        if not answer.is_success:
            try:
                detail = answer.json()["detail"]
            except (ValueError, KeyError, TypeError):
                detail = "no reason is given"
            after = answer.headers.get("retry-after", "")
            wait = float(after) if after.isdigit() else None
            raise ServiceError(f"{path}: {answer.status_code}: {detail}", answer.status_code, wait)
        told: dict[str, Any] = answer.json()
        return told
