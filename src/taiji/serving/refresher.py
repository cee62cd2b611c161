"""One refresh: prompts -> text -> embedding -> codes -> lender -> one record a user, if newer.

Each step is the code of the stage that does it offline: `construct` tells the past, `infer` writes,
`features` decides what stands for a user.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc

from taiji.arrays import Array
from taiji.language.encode import SentenceEncoder, TextEncoder
from taiji.ranking.features import described_user
from taiji.ranking.missing import MISSING_CODE
from taiji.ranking.quantise import Codebook, load_codebook
from taiji.schema import USER_FEATURES
from taiji.serving.blobs import UserBlob
from taiji.serving.drift import CodeDrift, count_codes
from taiji.serving.histories import Histories
from taiji.serving.lenders import Lenders, Loan
from taiji.serving.loans import blank_loans
from taiji.serving.log import EventLog
from taiji.serving.outcome import Outcome
from taiji.serving.past import Past
from taiji.serving.run import ServedRun
from taiji.serving.store.protocol import AsOf, OnlineStore, Record
from taiji.serving.writer import RETRIED, Writer
from taiji.stages.parts.erased import Tombstones, UserNames
from taiji.store.files import read_parquet

Row = Mapping[str, Any]


class Refresher:
    """Makes features of users anew.

    Args:
        run: Whose policy, encoder, codebook and lenders.
        log: What came in since.
        store: Where the features go.
        names: What the store calls users.
        tombstones: Who must lend nothing.

    Raises:
        DataError: An artifact is damaged.
        EngineError: A model cannot be loaded.
    """

    def __init__(
        self,
        run: ServedRun,
        log: EventLog,
        store: OnlineStore,
        names: UserNames,
        tombstones: Tombstones,
    ) -> None:
        run.verified  # noqa: B018  # raises
        self._run, self._log, self._store = run, log, store
        self._names, self._tombstones = names, tombstones
        scratch = run.state / f".worker-{time.time_ns()}"
        section = run.recipe.data
        memory = run.recipe.engine_memory_gib
        self._histories = Histories(run.construct, section, scratch, memory)
        self._lenders = Lenders(
            run.features,
            run.construct / "items.parquet",
            self._histories.engine,
            run.recipe.features.neighbours,
            section.neighbour_items,
        )
        self._codebook: Codebook = load_codebook(run.features)
        self._writer = Writer(run)
        encoder = run.recipe.encoder
        self._encoder: TextEncoder = SentenceEncoder(encoder.model, encoder.batch_size)
        self._drift = CodeDrift(_trained_on(run, self._codebook))

    def reload(self) -> None:
        """A user was erased: lend nothing of theirs any more."""
        self._lenders.reload(self._run.features)

    def psi(self) -> float | None:
        """Drift of the codes since the worker began; None as long as few users came by."""
        return self._drift.psi

    def refresh(self, users: Sequence[str], version: int) -> Outcome:
        """Make the features of some users and write those that are newer.

        Raises:
            UnavailableError: The store does not answer.
            EngineError: The engine does not work at all.
        """
        past = self._log.past(users)
        told = self._histories.tell(users, past)
        outcome = Outcome()
        examples = told.examples.to_pylist()
        for user in set(users) - {row["user_id"] for row in examples}:
            outcome.positions[user] = past.positions.get(user, 0)  # erased meanwhile
        examples, prompts = self._within_budget(examples, outcome)
        if not examples:
            return outcome
        written = self._writer.write(examples, prompts)
        outcome.count("generations", len(written))
        good: list[tuple[Row, Row]] = []
        for example, one in zip(examples, written, strict=True):
            outcome.count(f"replies_{one.row['status']}")
            outcome.count("tokens_spent", one.tokens)
            if one.row["status"] in RETRIED:
                outcome.failed.append(example["user_id"])
            else:
                good.append((example, one.row))
        self._store_records(self._blobs(good, told.event_times), past, version, outcome)
        return outcome

    def close(self) -> None:
        """Let go of the engine."""
        self._histories.close()

    def _within_budget(
        self, examples: list[dict[str, Any]], outcome: Outcome
    ) -> tuple[list[dict[str, Any]], list[Any]]:
        """Those for whom this minute has tokens left, and their prompts."""
        limit = self._run.recipe.serve.refresh.tokens_per_minute
        kept, prompts = [], []
        for example in examples:
            prompt, tokens = self._writer.fit(example)
            if limit is not None and not self._log.reserve_tokens(tokens, limit):
                outcome.left.append(example["user_id"])
                continue
            kept.append(example)
            prompts.append(prompt)
        return kept, prompts

    def _blobs(
        self, good: Sequence[tuple[Row, Row]], event_times: Mapping[str, int]
    ) -> dict[str, UserBlob]:
        """Features by user."""
        described = [(example, *described_user(example, reply)) for example, reply in good]
        own = [(example, text) for example, text, reason in described if reason is None]
        made: dict[str, tuple[list[int], Loan]] = {}
        if own:
            vectors_ND = self._encoder.encode([text for _, text in own])
            codes_NM = self._codebook.compute_codes(vectors_ND)
            self._drift.add(codes_NM)
            users = [example["user_id"] for example, _ in own]
            lent = self._lenders.lend(users, [row["cutoff"] for row, _ in own], vectors_ND)
            made = dict(zip(users, zip(codes_NM.tolist(), lent, strict=True), strict=True))
        nobody = ([MISSING_CODE] * self._codebook.sub_vectors, Loan("", []))
        blobs, now = {}, time.time()
        for example, _, reason in described:
            user = example["user_id"]
            codes, loan = made.get(user, nobody)
            lender = self._names.of(loan.lender) if loan.lender else b""
            blobs[user] = UserBlob(codes, loan.items, event_times[user], now, reason or "", lender)
        return blobs

    def _store_records(
        self, blobs: Mapping[str, UserBlob], past: Past, version: int, outcome: Outcome
    ) -> None:
        records = [
            Record(
                self._names.of(user),
                AsOf(blob.event_time, past.positions.get(user, 0)),
                blob.pack(),
            )
            for user, blob in blobs.items()
        ]
        newer = self._store.write(version, records, self._run.recipe.serve.ttl_seconds)
        blank_loans(self._store, version, records, self._tombstones)
        outcome.count("records_written", sum(newer))
        outcome.count("records_older", len(newer) - sum(newer))
        for user, blob in blobs.items():
            outcome.positions[user] = past.positions.get(user, 0)
            if blob.reason:
                outcome.count(f"defaults_{blob.reason}")


def _trained_on(run: ServedRun, codebook: Codebook) -> Array:
    """Users by code and value when the codebook was trained."""
    table = read_parquet(run.features / "features.parquet", USER_FEATURES)
    codes = table.filter(pc.equal(table["split"], "rank_train"))["codes"].to_pylist()
    codes_NM = np.array(codes, dtype=np.int32).reshape(-1, codebook.sub_vectors)
    return count_codes(codes_NM, codebook.num_codes)
