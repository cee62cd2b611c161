"""`surplus`: what the texts of a run know that the ranking model's own inputs do not.

The frozen models are those of `ceiling`; nothing is trained but a logistic regression of a few
columns, so it takes seconds. Every model that wrote for the ranking users is judged, and beside it
the same texts dealt out among the users, which know nothing.
"""

from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from taiji.arrays import Vectors
from taiji.config import MatchSection
from taiji.data.calendar import RANK_SPLITS
from taiji.errors import DataError
from taiji.language.encode import SentenceEncoder, encode_texts
from taiji.lift.dose_response import World
from taiji.lift.surplus import SERVED, Told, surplus_figures
from taiji.ranking.categories import NOTHING, deepest_two
from taiji.ranking.columns import microseconds
from taiji.ranking.features import feature_text
from taiji.ranking.match import COLUMNS, LIKELIHOOD, TextMatch
from taiji.ranking.serving import dealt_out, serving_texts
from taiji.schema import TEXTS
from taiji.stages.parts.category_likelihoods import likelihoods_of, read_likelihoods
from taiji.stages.parts.constructed import Constructed
from taiji.stages.parts.context import StageContext, Summary
from taiji.stages.parts.erased import without_erased
from taiji.stages.parts.frozen_models import FROZEN, read_seeds, read_world
from taiji.stages.parts.match_features import item_vectors, read_names
from taiji.stages.parts.ranking_windows import RankingWindows, read_ranking_windows
from taiji.store.files import read_json, read_parquet, write_json

_SHUFFLED = "shuffled"


def surplus(ctx: StageContext) -> Summary:
    """Write metrics.json: figures of each model's texts, and of the same dealt out at random.

    Raises:
        DataError: No model wrote for a ranking user.
    """
    logs, root = Constructed(ctx.inputs["construct"]), ctx.inputs["ceiling"]
    windows, world = read_ranking_windows(logs), read_world(logs)
    frozen = read_parquet(root / "frozen.parquet", FROZEN)
    seeds = read_seeds(logs, frozen, windows, world, ctx.recipe.seed)
    reached = read_json(root / "metrics.json")
    texts = _texts(ctx, logs)
    models = pc.unique(texts["model"]).to_pylist()
    found: dict[str, Any] = {}
    for done, model in enumerate(models):
        ctx.progress(done, len(models), f"texts by {model}")
        match, users = _match(ctx, logs, texts.filter(pc.equal(texts["model"], model)), world)
        others = dealt_out(users.ids, users.written, f"{ctx.recipe.seed}|surplus")
        others = np.append(others, len(users.ids))
        for name, dealt in ((model, match), (f"{model}:{_SHUFFLED}", match.take(others))):
            found[name] = surplus_figures(
                _told(dealt, users, windows, world),
                seeds,
                reached["points"],
                resamples=ctx.recipe.ceiling.resamples,
                seed=ctx.recipe.seed,
            )
    ctx.progress(len(models), len(models), "done")
    metrics = {"texts": found, "counts": reached["counts"], "base": reached["base"]}
    write_json(metrics, ctx.out / "metrics.json")
    return _summary(metrics)


class _Users:
    """Whose texts they are, and when each was written."""

    def __init__(self, texts: pa.Table) -> None:
        self.ids: list[str] = texts["user_id"].to_pylist()
        self.written = microseconds(texts["cutoff"])


def _texts(ctx: StageContext, logs: Constructed) -> pa.Table:
    """Texts of the ranking users with user and moment."""
    wanted = logs.examples(*RANK_SPLITS, columns=["example_id", "user_id", "split", "cutoff"])
    wanted = without_erased(wanted, ctx.recipe.features, logs.users)
    texts = read_parquet(ctx.inputs["infer"] / "texts.parquet", TEXTS)
    written = pc.not_equal(pc.utf8_trim_whitespace(texts["completion"]), "")
    texts = texts.filter(written)  # given texts leave a row where a moment has none
    joined = texts.join(wanted, keys="example_id", join_type="inner")
    if not joined.num_rows:
        raise DataError(
            "surplus: no text of a ranking user in infer/texts.parquet: name its model in "
            "features.texts and rerun infer"
        )
    return joined.sort_by([("model", "ascending"), ("example_id", "ascending")])


def _match(
    ctx: StageContext, logs: Constructed, texts: pa.Table, world: World
) -> tuple[TextMatch, _Users]:
    """Names of the texts, and their vectors where `features.match` asks for meaning."""
    rows = texts.select(["cot", "answer", "completion"]).to_pylist()
    whole = [feature_text(row["cot"], row["answer"]) or row["completion"].strip() for row in rows]
    section = ctx.recipe.features.match or MatchSection()
    answers = [row["answer"] for row in rows]

    encoder = ctx.recipe.encoder
    load = partial(SentenceEncoder, encoder.model, encoder.batch_size)
    encode = partial(encode_texts, ctx.recipe.compute, load)
    users = _Users(texts)
    names_UK = read_names(
        answers, whole, users.written, logs.items, world.categories, section, encode
    )
    names = np.pad(names_UK, ((0, 1), (0, 0)), constant_values=NOTHING)
    vectors = np.zeros((len(rows), 0), dtype=np.float32)
    of_items = np.zeros((logs.items.num_rows, 0), dtype=np.float32)
    if ctx.recipe.features.match is not None:
        vectors = encode(whole)
        of_items = item_vectors(logs, encode)
    texts_UV = np.pad(vectors, ((0, 1), (0, 0)))
    likely = _likelihoods(ctx, texts, len(world.categories.paths))
    return TextMatch(world.categories, names, texts_UV, of_items, likely), users


def _likelihoods(ctx: StageContext, texts: pa.Table, num_nodes: int) -> Vectors | None:
    """Of one model's texts, if `infer` scored categories for it."""
    path = ctx.inputs["infer"] / "likelihoods.parquet"
    if not path.is_file():
        return None
    scores = likelihoods_of(path, texts["model"][0].as_py())
    if not scores.num_rows:
        return None
    found_UC = read_likelihoods(scores, texts["example_id"].to_pylist(), num_nodes)
    return np.pad(found_UC, ((0, 1), (0, 0)))


def _told(match: TextMatch, users: _Users, windows: RankingWindows, world: World) -> Told:
    columns = []
    for table, pairs in (
        (windows.train, windows.train_pairs),
        (windows.test, windows.test_pairs),
    ):
        serving = serving_texts(users.ids, users.written, pairs.user_ids, microseconds(table["ts"]))
        columns.append(match.columns(serving, pairs.fields["item"].codes))
        served_N = serving >= 0
    node_N = world.categories.of_item[windows.test_pairs.fields["item"].codes]
    levels = deepest_two(world.categories, node_N)
    meaning = [COLUMNS.index(name) for name in ("text_cosine", "has_text")]
    with_meaning = match.texts.shape[1] > 0
    likely = [match.column_names.index(LIKELIHOOD)] if match.likelihoods is not None else []
    views = {
        "names": levels,
        "meaning": meaning if with_meaning else [],
        "both": [*levels, *meaning] if with_meaning else [],
        "likelihood": likely,
    }
    given = match.names[:-1] != NOTHING
    named = float(given.sum(axis=1).mean()) if len(given) else 0.0
    train_NF, test_NF = columns
    return Told(train_NF, test_NF, views, named, served_N)


def _summary(metrics: dict[str, Any]) -> Summary:
    summary: Summary = {}
    for name, found in metrics["texts"].items():
        figures = found["views"]["names"]
        served = figures["groups"].get(SERVED)
        equal = figures["equivalent_accuracy"]["value"]
        if served is not None and served["click_auc"]["value"] is not None:
            summary[f"{name} click AUC"] = round(served["click_auc"]["value"], 5)
        if equal is not None and not name.endswith(_SHUFFLED):
            summary[f"{name} equals an oracle of"] = round(equal, 3)
    return summary
