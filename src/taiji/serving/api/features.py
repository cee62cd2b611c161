"""The answer to `POST /v1/features`: one round trip, then nothing but unpacking."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import orjson

from taiji.errors import DataError
from taiji.ranking.missing import MISSING_CODE
from taiji.serving.api.metrics import Metrics
from taiji.serving.blobs import unpack_served
from taiji.serving.store.protocol import Found, OnlineStore
from taiji.serving.unavailable import UnavailableError
from taiji.stages.parts.erased import UserNames

logger = logging.getLogger(__name__)


class FeatureReader:
    """Reads features of users.

    Args:
        store: Where they are.
        names: What the store calls users.
        metrics: Is told what was served.
        sub_vectors: M, the number of codes.
        stale_after: Seconds.
    """

    def __init__(
        self,
        store: OnlineStore,
        names: UserNames,
        metrics: Metrics,
        sub_vectors: int,
        stale_after: float,
    ) -> None:
        self._store, self._names, self._metrics = store, names, metrics
        codes = [MISSING_CODE] * sub_vectors
        self._defaults = {"codes": codes, "sequence": [], "age_seconds": None}
        self._stale_after = stale_after

    async def read(self, user_ids: Sequence[str]) -> dict[str, Any]:
        """The answer, as `FeaturesAnswer` describes it, for orjson.

        A store that does not answer makes everybody missing: a ranking model works with defaults,
        and not with an error.
        """
        names = [self._names.of(user) for user in user_ids]
        self._metrics.store_operations.inc()
        try:
            found = await self._store.read(names)
        except UnavailableError as error:
            logger.warning("%s: answering with defaults", error)
            found = Found(None, [None] * len(names))
        now = time.time()
        pairs = zip(user_ids, found.blobs, strict=True)
        users = [self._user(user, packed, now) for user, packed in pairs]
        for status, number in Counter(user["status"] for user in users).items():
            self._metrics.served.labels(status).inc(number)
        return {"version": found.version, "users": users}

    def _user(self, user_id: str, packed: bytes | None, now: float) -> dict[str, Any]:
        served = None
        try:
            served = None if packed is None else unpack_served(packed)
        except DataError as error:
            logger.error("%s", error)
        if served is None or served.erased:
            status = "missing" if served is None else "erased"
            return {"user_id": user_id, "status": status, **self._defaults}
        age = max(0.0, now - served.made_at)
        self._metrics.ages.add(age)
        return {
            "user_id": user_id,
            "status": "stale" if age > self._stale_after else "fresh",
            "codes": orjson.Fragment(served.codes),
            "sequence": orjson.Fragment(served.items),
            "age_seconds": age,
        }
