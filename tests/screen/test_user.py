import io
import re
from pathlib import Path

import pyarrow as pa
import pytest
import small_run
from rich.console import Console

from taiji import schema
from taiji.config import Recipe
from taiji.config.loading import dump_recipe
from taiji.errors import DataError
from taiji.screen.user import print_user
from taiji.store.files import write_parquet
from taiji.store.pseudonym import load_pseudonyms


@pytest.fixture
def run(tmp_path) -> Path:
    files = {
        "construct/examples": (small_run.examples(), schema.EXAMPLES),
        "construct/items": (small_run.items(), schema.ITEMS),
        "refine/scored": (small_run.scored(), schema.SCORED),
        "align/rollouts": (small_run.rollouts(), schema.ROLLOUTS),
        "infer/texts": (small_run.texts(), schema.TEXTS),
        "features/features": (small_run.features(), schema.USER_FEATURES),
    }
    for name, (table, columns) in files.items():
        path = tmp_path / f"{name}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_parquet(table, path, columns)
    return tmp_path


def shown(run: Path, user: str = "u0") -> str:
    stream = io.StringIO()
    print_user(user, run, Console(file=stream, width=200, force_terminal=True, color_system=None))
    return stream.getvalue()


def test_a_card_shows_prompt_chains_rewards_answers_and_neighbour(run):
    text = shown(run)
    for part in ("Really bought next", "Candidates (RUPR)", "Rollouts (POPO)", "neighbour"):
        assert part in text
    assert "1.23" in text
    assert "kept" in text


def test_hostile_words_are_shown_and_do_nothing(run):
    text = shown(run)
    assert "<img src=x onerror=alert(1)>" in text
    assert "\u202e" not in text


def test_stages_that_have_not_run_are_left_out(run):
    (run / "align" / "rollouts.parquet").unlink()
    assert "Rollouts" not in shown(run)


def write_recipe(run: Path, **student) -> None:
    recipe = Recipe.model_validate({"name": "small", "student": student})
    (run / "recipe.resolved.yaml").write_text(dump_recipe(recipe))


def test_a_card_says_what_the_prompt_left_out(run, smollm2_tokenizer):
    assert "the prompt shows is not known" in shown(run)
    write_recipe(run)
    assert "The prompt shows all of this history, within 1024 tokens" in shown(run)
    rows = small_run.examples().to_pylist()
    long = [row | {"history": row["history"] * 40} for row in rows]
    table = pa.Table.from_pylist(long, schema.EXAMPLES)
    write_parquet(table, run / "construct" / "examples.parquet", schema.EXAMPLES)
    write_recipe(run, max_prompt_tokens=300)
    text = shown(run)
    lines = len(long[0]["history"])
    kept = int(re.search(rf"shows the newest (\d+) of {lines} lines", text)[1])
    assert 0 < kept < lines
    assert f"the oldest {lines - kept} do not fit into 300 tokens" in text


def test_a_card_takes_what_a_stage_has_counted(run):
    """No tokenizer is loaded for it: this recipe names a model that is not there."""
    write_recipe(run, model="./nowhere", max_prompt_tokens=300)
    rows = [row | {"lines_dropped": 1} for row in small_run.texts().to_pylist()]
    write_parquet(
        pa.Table.from_pylist(rows, schema.TEXTS), run / "infer" / "texts.parquet", schema.TEXTS
    )
    text = shown(run)
    assert "the oldest 1 do not fit into 300 tokens" in text  # of the test example
    assert "is not known: model './nowhere'" in text  # of those that no stage has counted


def test_a_user_is_found_by_the_pseudonym_of_the_report(run):
    name = load_pseudonyms("TAIJI_PSEUDONYM_KEY").of("u0")
    with pytest.raises(DataError):
        shown(run, name)
    write_recipe(run)
    assert "user u0 " in shown(run, name)


def test_an_unknown_user_is_refused_with_some_that_exist(run):
    with pytest.raises(DataError, match=r"no example of user nobody.*u0"):
        shown(run, "nobody")
