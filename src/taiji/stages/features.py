"""Stage 4, `features`: what the policy wrote of each user becomes features of the ranking model.

The text is embedded; a codebook trained on the training split's users turns the embedding into
sparse ids (intra-user), and the nearest other user of the same split lends a sequence
(cross-user). Text that could not be parsed is used for whatever it holds. Who has nothing to go
by gets the default features, with the reason; erased users get none and lend none. Texts of the
models before the policy become features in the same way, for the ablations, each in a folder of
the model's name and with a codebook of its own.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Ints, Vectors
from taiji.config import POLICY, PROMPT
from taiji.data.calendar import RANK_SPLITS
from taiji.errors import DataError
from taiji.language.encode import SentenceEncoder, TextEncoder, encode_texts
from taiji.language.stored_vectors import StoredVectors, store_vectors
from taiji.ranking.as_of import AsOf
from taiji.ranking.columns import microseconds
from taiji.ranking.features import (
    DEFAULTS,
    default_features,
    described_user,
    user_features,
)
from taiji.ranking.neighbours import (
    Neighbours,
    most_similar_earlier,
    most_similar_other_user,
    recall_at_1,
)
from taiji.ranking.quantise import (
    Codebook,
    Codes,
    code_use,
    collisions,
    save_codebook,
    train_codebook,
)
from taiji.schema import TEXTS, USER_FEATURES
from taiji.stages.parts.category_likelihoods import LIKELIHOODS, likelihoods_of
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.erased import without_erased
from taiji.stages.parts.language_features import features_folder
from taiji.stages.parts.match_features import write_item_vectors, write_names
from taiji.store.files import read_parquet, replacing, write_parquet

_ROWS_AT_A_TIME = 4096

Row = dict[str, Any]
Encode = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True)
class Written:
    """What one model wrote of the ranking users.

    Attributes:
        users: example_id, user_id, split, cutoff, text and answer of those with features of their
            own.
        defaults: example_id, user_id, split and reason of the others.
    """

    users: pa.Table
    defaults: list[Row]


def features(ctx: StageContext, load: Callable[[], TextEncoder] | None = None) -> Summary:
    """Write features.parquet, defaults.parquet, codebook.faiss, codebook.json, embeddings.npy.

    Args:
        ctx: Of the run.
        load: Makes the encoder where the work is done; the recipe's own unless given.

    Raises:
        DataError: A model wrote nothing for a ranking example, or a split has too few texts.
        ConfigError: The codebook does not fit the encoder or the number of users.
    """
    wanted, num_erased = _ranking_users(ctx)
    models = ctx.recipe.features.texts
    written = {model: _written(ctx, wanted, model) for model in models}
    ctx.progress(0, len(models) + 1, "embedding")
    texts = pa.chunked_array(
        [chunk for one in written.values() for chunk in one.users["text"].chunks], pa.string()
    )
    if not len(texts):
        raise DataError(
            f"features: of {wanted.num_rows} ranking examples none has a text "
            f"({_reasons(written.values())}): tune the student on more (sft.num_examples, "
            "sft.learning_rate), or bring texts of your own (infer.texts_from)"
        )
    sizes = [one.users.num_rows for one in written.values()]
    section = ctx.recipe.encoder
    load = load or partial(SentenceEncoder, section.model, section.batch_size)
    vectors = store_vectors(ctx.recipe.compute, load, texts, _scratch(ctx) / "texts.f32")
    of_model = np.split(np.arange(len(texts)), np.cumsum(sizes)[:-1])
    encode = partial(encode_texts, ctx.recipe.compute, load)
    logs = Constructed(ctx.inputs["construct"])
    asof = logs.as_of
    summary: Summary = {"users_erased": num_erased}
    for done, (model, rows_N) in enumerate(zip(models, of_model, strict=True), start=1):
        ctx.progress(done, len(models) + 1, f"codes and neighbours from texts by {model}")
        folder, of_policy = features_folder(ctx.out, model), model == POLICY
        folder.mkdir(exist_ok=True)
        own = partial(_vectors, vectors, rows_N)
        figures = _write_features(ctx, folder, written[model], own, asof)
        if ctx.recipe.features.match is not None:
            figures |= _write_match(ctx, folder, written[model].users, logs.items, encode)
        if ctx.recipe.infer.likelihoods and model != PROMPT:
            scores = likelihoods_of(ctx.inputs["infer"] / "likelihoods.parquet", model)
            write_parquet(scores, folder / "likelihoods.parquet", LIKELIHOODS)
        summary |= {name if of_policy else f"{model}_{name}": f for name, f in figures.items()}
    if ctx.recipe.features.match is not None:
        summary["items_embedded"] = write_item_vectors(logs, ctx.out, encode)
    ctx.progress(len(models) + 1, len(models) + 1, "done")
    return summary


def _reasons(written: Iterable[Written]) -> str:
    """Why there is no text, and how often."""
    found = Counter(row["reason"] for one in written for row in one.defaults)
    return ", ".join(f"{reason}: {number}" for reason, number in found.most_common())


def _ranking_users(ctx: StageContext) -> tuple[pa.Table, int]:
    """The ranking examples in a fixed order without erased users, and how many users those are.

    Of their histories only whether there is one.
    """
    constructed = Constructed(ctx.inputs["construct"])
    columns = ["example_id", "user_id", "split", "cutoff", "profile", "history_length"]
    examples = constructed.examples(*RANK_SPLITS, columns=columns)
    has_history = pc.greater(examples["history_length"], 0)
    wanted = examples.drop_columns("history_length").append_column("history", has_history)
    wanted = wanted.sort_by("example_id")
    kept = without_erased(wanted, ctx.recipe.features, constructed.users)
    return kept, len(wanted["user_id"].unique()) - len(kept["user_id"].unique())


def _written(ctx: StageContext, wanted: pa.Table, model: str) -> Written:
    """What `model` wrote of each wanted user."""
    texts = read_parquet(ctx.inputs["infer"] / "texts.parquet", TEXTS)
    texts = texts.filter(pc.equal(texts["model"], model))
    places = pc.index_in(wanted["example_id"], value_set=texts["example_id"])
    if places.null_count:
        unwritten = wanted.filter(pc.is_null(places))["example_id"]
        raise DataError(
            f"infer/texts.parquet: {model} wrote nothing for {len(unwritten)} ranking examples, "
            f"e.g. {unwritten[0].as_py()!r}: rerun infer"
        )
    columns = ["example_id", "user_id", "split", "cutoff"]
    told_fields = [pa.field(name, pa.string()) for name in ("text", "answer")]
    schema = pa.schema([*(wanted.schema.field(name) for name in columns), *told_fields])
    parts: list[pa.Table] = [schema.empty_table()]
    defaults: list[Row] = []
    for start in range(0, wanted.num_rows, _ROWS_AT_A_TIME):  # as Python a row is kilobytes
        asked = wanted.slice(start, _ROWS_AT_A_TIME)
        replies = texts.take(places.slice(start, _ROWS_AT_A_TIME)).to_pylist()
        filled: list[Row] = []
        for row, reply in zip(asked.to_pylist(), replies, strict=True):
            text, reason = described_user(row, reply)
            told = {"text": text, "answer": reply["answer"], "reason": reason}
            (defaults if reason else filled).append(row | told)
        parts.append(pa.Table.from_pylist(filled, schema))
    return Written(pa.concat_tables(parts), defaults)


def _scratch(ctx: StageContext) -> Path:
    """A folder that the stage leaves nothing in."""
    folder = ctx.parts("vectors")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _vectors(stored: StoredVectors, rows_N: Ints, chosen: Ints) -> Vectors:
    """Vectors of the chosen among one model's texts, which are these rows of all."""
    return stored.take(rows_N[chosen])


def _write_features(
    ctx: StageContext,
    folder: Path,
    written: Written,
    vectors_of: Callable[[Ints], Vectors],
    asof: AsOf,
) -> Summary:
    """All files of one model's texts; its figures. The vectors of one split at a time are here."""
    users, section = written.users, ctx.recipe.features
    rows = {split: np.flatnonzero(pc.equal(users["split"], split)) for split in RANK_SPLITS}
    parts, recalls, codes, errors = [], [], [], []
    with _embeddings(folder, users.num_rows) as write:
        for split in RANK_SPLITS:
            part_ND = vectors_of(rows[split])
            if split == "rank_train":
                codebook = train_codebook(part_ND, section, ctx.recipe.seed)
            write(part_ND)
            own = users.take(rows[split])
            nearest, recall = _neighbours(ctx, own, part_ND)
            recalls += recall
            codes.append(codebook.compute_codes(part_ND))
            errors.append(codebook.reconstruction_error(part_ND))
            length = ctx.recipe.data.neighbour_items
            parts.append(user_features(own, part_ND, codebook, asof, nearest, length))
    table = pa.concat_tables(parts)
    figures = _codebook_figures(codebook, codes, errors)
    save_codebook(codebook, folder, figures)
    write_parquet(table, folder / "features.parquet", USER_FEATURES)
    defaults = default_features(written.defaults, section.sub_vectors)
    write_parquet(defaults, folder / "defaults.parquet", DEFAULTS)
    reasons = Counter(row["reason"] for row in written.defaults)
    figures["mean_similarity"] = float(pc.mean(table["similarity"]).as_py())
    if recalls:
        figures["neighbour_recall_at_1"] = float(np.mean(recalls))
    return {
        "users_with_features": table.num_rows,
        "users_with_default_features": len(written.defaults),
        **{f"default_{reason}": count for reason, count in sorted(reasons.items())},
        **{name: round(figure, 4) for name, figure in figures.items()},
    }


def _write_match(
    ctx: StageContext, folder: Path, users: pa.Table, items: pa.Table, encode: Encode
) -> Summary:
    """Which categories each text names, split by split as in features.parquet."""
    section = ctx.recipe.features.match
    assert section is not None
    by_split = [users.filter(pc.equal(users["split"], split)) for split in RANK_SPLITS]
    figures = write_names(folder, pa.concat_tables(by_split), items, section, encode)
    return {name: round(figure, 4) for name, figure in figures.items()}


def _neighbours(
    ctx: StageContext, own: pa.Table, vectors_ND: Vectors
) -> tuple[Neighbours, list[float]]:
    """Whom each user of a split borrows from, and the recall of a search that is not exact."""
    search, ids = ctx.recipe.features.neighbours, own["user_id"].to_pylist()
    if len(own["cutoff"].unique()) > 1:  # nobody borrows from a text of a later moment
        return most_similar_earlier(vectors_ND, ids, microseconds(own["cutoff"])), []
    nearest = most_similar_other_user(vectors_ND, ids, search)
    if search == "exact":
        return nearest, []
    return nearest, [recall_at_1(nearest, vectors_ND, ids, seed=ctx.recipe.seed)]


def _codebook_figures(
    codebook: Codebook, codes: Sequence[Codes], errors: Sequence[float]
) -> dict[str, float]:
    """Of the training split's users, then of the test split's."""
    return {
        "reconstruction_error": errors[0],
        "reconstruction_error_test": errors[1],
        "collisions": collisions(codes[0]),
        "collisions_test": collisions(codes[1]),
        **code_use(codes[0], codebook.num_codes),
    }


@contextmanager
def _embeddings(folder: Path, num_rows: int) -> Iterator[Callable[[Vectors], None]]:
    """Write embeddings.npy part by part: one row for each row of features.parquet."""
    with replacing(folder / "embeddings.npy") as temporary, temporary.open("wb") as stream:

        def write(part_ND: Vectors) -> None:
            if not stream.tell():
                shape = (num_rows, part_ND.shape[1])
                header = {"descr": "<f4", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(stream, header)
            np.ascontiguousarray(part_ND, dtype="<f4").tofile(stream)

        yield write
