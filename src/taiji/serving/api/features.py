"""The answer to `POST /v1/features`: one round trip, then nothing but unpacking."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from taiji.errors import DataError
from taiji.ranking.missing import MISSING_CODE
from taiji.serving.api.metrics import Metrics
from taiji.serving.blobs import unpack_blob
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
        self._defaults = [MISSING_CODE] * sub_vectors
        self._stale_after = stale_after

    async def read(self, user_ids: Sequence[str]) -> dict[str, Any]:
        """The answer, as `FeaturesAnswer` describes it.

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
        return {"version": found.version, "users": [self._user(*pair, now) for pair in pairs]}

    def _user(self, user_id: str, packed: bytes | None, now: float) -> dict[str, Any]:
        status, age = "missing", None
        codes: Sequence[int] = self._defaults
        items: Sequence[str] = ()
        try:
            blob = None if packed is None else unpack_blob(packed)
        except DataError as error:
            logger.error("%s", error)
            blob = None
        if blob is not None and blob.erased:
            status = "erased"
        elif blob is not None:
            age = max(0.0, now - blob.made_at)
            status = "stale" if age > self._stale_after else "fresh"
            codes, items = blob.codes, blob.items
            self._metrics.ages.add(age)
        self._metrics.served.labels(status).inc()
        return {
            "user_id": user_id,
            "status": status,
            "codes": codes,
            "sequence": items,
            "age_seconds": age,
        }
