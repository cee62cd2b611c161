"""Stage 4, `features`: what the policy wrote of each user becomes features of the ranking model.

The text is embedded; a codebook trained on the training split's users turns the embedding into
sparse ids (intra-user), and the nearest other user of the same split lends a sequence
(cross-user). Text that could not be parsed is used for whatever it holds; a user without any
text gets no features, is counted, and is 'missing' to the ranking model.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from taiji.artifacts import read_parquet, replacing, write_parquet
from taiji.data.splits import Calendar
from taiji.errors import DataError
from taiji.language.encode import SentenceEncoder, TextEncoder
from taiji.ranking.features import feature_text, user_features
from taiji.ranking.pairs import AsOf
from taiji.ranking.quantise import code_use, save_codebook, train_codebook
from taiji.schema import EXAMPLES, INTERACTIONS, ITEMS, TEXTS, USER_FEATURES, USERS
from taiji.stages.context import StageContext, Summary

SPLITS = ("rank_train", "rank_test")


def features(ctx: StageContext) -> Summary:
    """Write features.parquet, codebook.faiss, codebook.json and embeddings.npy."""
    encoder = ctx.recipe.encoder
    return build_features(ctx, SentenceEncoder(encoder.model, encoder.batch_size))


def build_features(ctx: StageContext, encoder: TextEncoder) -> Summary:
    """As `features`, with a given encoder.

    Raises:
        DataError: The policy wrote nothing for a ranking example, or a split has too few texts.
        ConfigError: The codebook does not fit the encoder or the number of users.
    """
    written = _written(ctx)
    ctx.progress(0, 2, "embedding")
    embeddings_ND = encoder.encode(written["text"].to_pylist())
    filled = np.array([bool(text) for text in written["text"].to_pylist()])
    written, embeddings_ND = written.filter(filled), embeddings_ND[filled]
    rows = {split: np.flatnonzero(pc.equal(written["split"], split)) for split in SPLITS}
    train_ND = embeddings_ND[rows["rank_train"]]
    codebook = train_codebook(train_ND, ctx.recipe.features, ctx.recipe.seed)
    ctx.progress(1, 2, "codes and neighbours")
    construct = ctx.inputs["construct"]
    asof = AsOf(
        users=read_parquet(construct / "users.parquet", USERS),
        items=read_parquet(construct / "items.parquet", ITEMS),
        interactions=read_parquet(construct / "interactions.parquet", INTERACTIONS),
        calendar=Calendar.read(construct / "windows.json"),
    )
    num_items = ctx.recipe.data.neighbour_items
    parts = [
        user_features(written.take(part), embeddings_ND[part], codebook, asof, num_items)
        for part in rows.values()
    ]
    table = pa.concat_tables(parts)
    figures = {
        "reconstruction_error": codebook.reconstruction_error(train_ND),
        "reconstruction_error_test": codebook.reconstruction_error(
            embeddings_ND[rows["rank_test"]]
        ),
        **code_use(codebook.compute_codes(train_ND), codebook.num_codes),
    }
    save_codebook(codebook, ctx.out, figures)
    _write_embeddings(ctx, np.concatenate([embeddings_ND[part] for part in rows.values()]))
    write_parquet(table, ctx.out / "features.parquet", USER_FEATURES)
    ctx.progress(2, 2, "done")
    return {
        "users_with_features": table.num_rows,
        "users_without_text": int((~filled).sum()),
        "mean_similarity": round(float(pc.mean(table["similarity"]).as_py()), 4),
        **{name: round(figure, 4) for name, figure in figures.items()},
    }


def _written(ctx: StageContext) -> pa.Table:
    """example_id, user_id, split, cutoff and text of every ranking example, in a fixed order."""
    examples = read_parquet(ctx.inputs["construct"] / "examples.parquet", EXAMPLES)
    wanted = examples.filter(pc.is_in(examples["split"], value_set=pa.array(SPLITS)))
    wanted = wanted.select(["example_id", "user_id", "split", "cutoff"]).sort_by("example_id")
    texts = read_parquet(ctx.inputs["infer"] / "texts.parquet", TEXTS)
    texts = texts.filter(pc.equal(texts["model"], "policy"))
    by_example = {
        row["example_id"]: feature_text(row["cot"], row["answer"]) or row["completion"].strip()
        for row in texts.select(["example_id", "cot", "answer", "completion"]).to_pylist()
    }
    unwritten = [name for name in wanted["example_id"].to_pylist() if name not in by_example]
    if unwritten:
        raise DataError(
            f"infer/texts.parquet: the policy wrote nothing for {len(unwritten)} ranking examples, "
            f"e.g. {unwritten[0]!r}: rerun infer"
        )
    texts_N = [by_example[name] for name in wanted["example_id"].to_pylist()]
    return wanted.append_column("text", pa.array(texts_N, pa.string()))


def _write_embeddings(ctx: StageContext, embeddings_ND: NDArray[np.float32]) -> None:
    """One row for each row of features.parquet."""
    with replacing(ctx.out / "embeddings.npy") as temporary, temporary.open("wb") as stream:
        np.save(stream, embeddings_ND, allow_pickle=False)
