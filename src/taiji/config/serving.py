"""Settings of the near-online service: what answers, what refreshes, and how much of it.

A run's stages do not depend on them, so they may differ from those that the run was made with.
"""

from typing import Annotated, Literal

from pydantic import Field

from taiji.config.engines import TransformersEngine
from taiji.config.section import Count, Section
from taiji.config.teachers import OpenAITeacher

Engine = Annotated[
    TransformersEngine | OpenAITeacher,
    Field(discriminator="kind"),
]
"""Of an endpoint, `infer.temperature` and the longest text of the recipe count, not its own."""


class RefreshSection(Section):
    """When a user's features are made anew, and how many tokens that may cost."""

    debounce_seconds: float = Field(
        20.0, ge=0, description="quiet time after an event; further events begin it again"
    )
    max_delay_seconds: float = Field(
        60.0, ge=0, description="after the first event a user waits no longer than this"
    )
    batch_users: Count = Field(16, description="users that are asked about at once")
    tokens_per_minute: Count | None = Field(
        None, description="prompts and replies of all workers of a log; null = no limit"
    )
    kind_values: dict[str, float] = Field(
        default_factory=lambda: {"purchase": 4.0, "redeem": 4.0, "cart": 2.0},
        description="worth of an event by its kind, 1 if not named: who waits with more goes first",
    )
    lease_seconds: float = Field(
        120.0, gt=0, description="after this the work of a dead worker is taken over"
    )


class LimitsSection(Section):
    """What a client may ask of the service."""

    max_body_bytes: Count = Field(1 << 20, description="of a request; 413 beyond")
    requests_per_second: float = Field(1000.0, gt=0, description="of one key; 429 beyond")
    concurrent_requests: Count = Field(64, description="under way at once; 503 beyond")
    max_backlog: Count = Field(
        100_000, description="events that wait in the queue; 503 for further ones"
    )
    store_timeout_seconds: float = Field(
        0.1, gt=0, description="after this a request is answered without the store"
    )


class ServeSection(Section):
    """The near-online service."""

    backend: Literal["sqlite", "redis"] = Field(
        "sqlite", description="of store and queue: files of this machine, or a Redis server"
    )
    redis_url_env: str = Field(
        "TAIJI_REDIS_URL",
        pattern=r"^[A-Z_][A-Z0-9_]*$",
        description="variable with the address of Redis, such as redis://:password@host:6379/0",
    )
    engine: Engine = Field(
        TransformersEngine(), description="what writes of users whose turn it is"
    )
    refresh: RefreshSection = RefreshSection()
    limits: LimitsSection = LimitsSection()
    ttl_seconds: Count = Field(90 * 86_400, description="features that nobody renews are gone then")
    stale_after_seconds: Count = Field(7 * 86_400, description="older features are called stale")
    drift_alarm: float = Field(
        0.25, gt=0, description="PSI of codes against the codebook's training that is an alarm"
    )
