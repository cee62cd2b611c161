"""Everything that a run holds of one user, for `taiji show user`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from taiji import schema
from taiji.config import Recipe
from taiji.config.loading import load_recipe
from taiji.errors import DataError, MissingArtifactError, TaijiError
from taiji.safe_text import printable
from taiji.store.files import read_parquet
from taiji.store.pseudonym import PREFIX, load_pseudonyms
from taiji.templates import ENGLISH, KINDS

Row = Mapping[str, Any]
_NUM_BORROWED = 5


def print_user(user_id: str, run: Path, console: Console) -> None:
    """Print prompt, chains with PPL, answers, rewards and neighbour of one user.

    Reads the rows of this user alone, and loads no model library unless a prompt has to be
    counted that no stage has counted.

    Args:
        user_id: The id as the log has it, or the user's pseudonym in the run's report.
        run: The run's folder.
        console: Where to print.

    Raises:
        DataError: The run has no example of this user.
        MissingArtifactError: The run has not even constructed its examples.
    """
    mine = _examples(user_id, run)
    keys = [example["example_id"] for example in mine]
    chains = _rows(run / "refine" / "scored.parquet", schema.SCORED, keys)
    rollouts = _rows(run / "align" / "rollouts.parquet", schema.ROLLOUTS, keys)
    texts = _rows(run / "infer" / "texts.parquet", schema.TEXTS, keys)
    features = _rows(run / "features" / "features.parquet", schema.USER_FEATURES, keys)
    scores = _rows(run / "score" / "scores.parquet", schema.SCORES, keys)
    titles, recipe = _titles(run, mine, features), _recipe(run)
    counted = {row["example_id"]: row["lines_dropped"] for row in (*texts, *scores)}
    for example, key in zip(mine, keys, strict=True):
        fit = _fit(example, run, recipe, counted.get(key))
        done = past_of(recipe) if isinstance(recipe, Recipe) else ENGLISH.purchase
        _print_example(example, titles, fit, done, console)
        _print_chains(_of(chains, key), console)
        _print_rollouts(_of(rollouts, key), console)
        _print_texts(_of(texts, key), console)
        _print_features(_of(features, key), titles, console)


def _examples(user_id: str, run: Path) -> list[Row]:
    path = run / "construct" / "examples.parquet"
    mine = read_parquet(path, schema.EXAMPLES, only=("user_id", [user_id])).to_pylist()
    if not mine:
        ids = pa.schema([schema.EXAMPLES.field("user_id")])
        known = sorted(read_parquet(path, ids)["user_id"].unique().to_pylist())
        behind = _behind(user_id, known, run)
        mine = read_parquet(path, schema.EXAMPLES, only=("user_id", [behind])).to_pylist()
        if not mine:
            some = ", ".join(known[:8])
            raise DataError(f"{run}: no example of user {user_id}: some that have one: {some}")
    return list(mine)


def _behind(name: str, user_ids: Sequence[str], run: Path) -> str:
    """The user behind a pseudonym; the name itself if it is none that this key gave."""
    path = run / "recipe.resolved.yaml"
    if not name.startswith(PREFIX) or not path.is_file():
        return name
    pseudonyms = load_pseudonyms(load_recipe(path).recipe.report.pseudonym_key_env)
    return next((user_id for user_id in user_ids if pseudonyms.of(user_id) == name), name)


def _recipe(run: Path) -> Recipe | str:
    """The recipe of the run, read once; or why it cannot be read."""
    try:
        return load_recipe(run / "recipe.resolved.yaml").recipe
    except (TaijiError, OSError, ValueError) as error:
        return str(error).splitlines()[0]


def past_of(recipe: Recipe) -> str:
    """What users of a log did, such as `bought` or `listened to`: in English, as a screen is."""
    kind = recipe.data.text.unsaid_kind
    return str(getattr(ENGLISH, kind)) if kind in KINDS else kind.replace("_", " ")


def _fit(example: Row, run: Path, recipe: Recipe | str, dropped: int | None) -> str:
    """How much of a history the student's prompt shows.

    As a stage has counted it, or by the run's recipe and tokenizer. Where those are missing it
    says that this is not known; the rest of the card needs neither.
    """
    try:
        if isinstance(recipe, str):
            raise DataError(recipe)
        if dropped is None:
            from taiji.screen.prompt_fit import lines_dropped  # takes seconds

            dropped = lines_dropped(example, run, recipe)
    except (TaijiError, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        return f"How many of these lines the prompt shows is not known: {reason}"
    num_lines = len(example["history"])
    budget = f"{recipe.student.max_prompt_tokens} tokens (student.max_prompt_tokens)"
    if not dropped:
        return f"The prompt shows all of this history, within {budget}"
    return (
        f"The prompt shows the newest {num_lines - dropped} of {num_lines} lines; "
        f"the oldest {dropped} do not fit into {budget}"
    )


def _print_example(
    example: Row, titles: Mapping[str, str], fit: str, done: str, console: Console
) -> None:
    lines = [example["profile"], ""]
    lines += [f"{i}. {item['text']}" for i, item in enumerate(example["history"], start=1)]
    lines += ["", fit]
    target = example["target_item_id"]
    if target is not None:
        lines += ["", f"Really {done} next: {titles.get(target, target)}"]
    title = f"user {example['user_id']} · {example['split']} · before {example['cutoff']:%Y-%m-%d}"
    console.print(Panel(_plain("\n".join(lines)), title=_plain(title), title_align="left"))


def _print_chains(rows: list[Row], console: Console) -> None:
    if not rows:
        return
    table = Table("chain", "PPL", "", "reasoning", title="Candidates (RUPR)", title_justify="left")
    for row in rows:
        perplexity = "–" if row["perplexity"] is None else f"{row['perplexity']:.2f}"
        verdict = "[green]kept[/]" if row["kept"] else f"[red]{_plain(row['reason'])}[/]"
        table.add_row(str(row["candidate"]), perplexity, verdict, _plain(row["cot"]))
    console.print(table)


def _print_rollouts(rows: list[Row], console: Console) -> None:
    if not rows:
        return
    table = Table(
        "step", "semantic", "preference", "grounded by", "answer", title="Rollouts (POPO)"
    )
    for row in rows:
        rewards = (
            f"{row['semantic']:.3f}",
            "–" if row["preference"] is None else f"{row['preference']:.3f}",
        )
        table.add_row(str(row["step"]), *rewards, row["rung"], _plain(row["answer"]))
    console.print(table)


def _print_texts(rows: list[Row], console: Console) -> None:
    if not rows:
        return
    table = Table("model", "status", "reasoning", "answer", title="What the models wrote")
    for row in rows:
        table.add_row(row["model"], row["status"], _plain(row["cot"]), _plain(row["answer"]))
    console.print(table)


def _print_features(rows: list[Row], titles: Mapping[str, str], console: Console) -> None:
    for row in rows:
        borrowed = [titles.get(item, item) for item in row["neighbour_item_ids"][:_NUM_BORROWED]]
        lines = [
            f"codes      {' '.join(map(str, row['codes']))}",
            f"neighbour  user {row['neighbour_user_id']}, cosine {row['similarity']:.3f}",
            f"borrowed   {len(row['neighbour_item_ids'])} interactions: {'; '.join(borrowed)} ...",
        ]
        panel = Panel(_plain("\n".join(lines)), title="Ranking features", title_align="left")
        console.print(panel)


def _plain(text: str) -> str:
    """Words of strangers and of models: no terminal control, no markup."""
    return escape(printable(text))


def _titles(run: Path, examples: list[Row], features: list[Row]) -> dict[str, str]:
    """Titles of what these rows name."""
    named = {example["target_item_id"] for example in examples} - {None}
    named |= {item for row in features for item in row["neighbour_item_ids"][:_NUM_BORROWED]}
    path = run / "construct" / "items.parquet"
    items = read_parquet(path, schema.ITEMS, only=("item_id", sorted(named)))
    return dict(zip(items["item_id"].to_pylist(), items["title"].to_pylist(), strict=True))


def _rows(path: Path, columns: pa.Schema, example_ids: list[str]) -> list[Row]:
    """The rows of these examples; none where the stage has not run yet."""
    try:
        return list(read_parquet(path, columns, only=("example_id", example_ids)).to_pylist())
    except MissingArtifactError:
        return []


def _of(rows: list[Row], example_id: str) -> list[Row]:
    return [row for row in rows if row["example_id"] == example_id]
