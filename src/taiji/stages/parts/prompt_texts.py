"""The text `prompt`: what the models read of a ranking user, as it is.

No model wrote it. Features of a language model's text are worth the model only where they gain more
than features of what it was told.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from taiji.config import PROMPT
from taiji.schema import TEXTS
from taiji.store.stored_rows import StoredRows

_ROWS_AT_A_TIME = 1 << 12


def prompt_texts(examples: StoredRows) -> Iterator[pa.Table]:
    """One row of `schema.TEXTS` for each example: profile and history, the newest line first.

    Args:
        examples: Rows of `schema.EXAMPLES`; all that is read of them lies before their cut-off.
    """
    for start in range(0, examples.num_rows, _ROWS_AT_A_TIME):
        rows = examples.slice(start, _ROWS_AT_A_TIME).to_pylist()
        yield pa.Table.from_pylist([_text_row(row) for row in rows], TEXTS)


def _text_row(example: dict[str, Any]) -> dict[str, Any]:
    facts = "\n".join([example["profile"], *(line["text"] for line in example["history"])])
    return {
        "example_id": example["example_id"],
        "model": PROMPT,
        "status": "ok",
        "completion": facts,
        "cot": facts,
        "answer": "",  # nothing is foreseen
    }
