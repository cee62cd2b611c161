"""What erased users lent to others: found by the lender's name in each record, and taken back."""

from collections.abc import Iterable

from taiji.serving.blobs import unpack_blob, without_loan
from taiji.serving.store.protocol import OnlineStore, Record
from taiji.stages.parts.erased import Tombstones


def blank_loans(
    store: OnlineStore, version: int, records: Iterable[Record], tombstones: Tombstones
) -> int:
    """Take what erased users lent out of records; return out of how many.

    After every write too: a user may be erased while others are being refreshed.
    """
    loans = {
        record.name: (record.blob, blob)
        for record in records
        if (blob := unpack_blob(record.blob)).lender
    }
    erased = tombstones.among(list({blob.lender for _, blob in loans.values()}))
    changed = 0
    for name, (packed, blob) in loans.items() if erased else ():
        if blob.lender in erased:
            changed += store.amend(version, name, packed, without_loan(blob).pack())
    return changed
