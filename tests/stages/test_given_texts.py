import json
from datetime import timedelta

import pyarrow as pa
import pytest
from market_run import CUTOFFS, NUM_RANK_USERS, context, recipe, write_construct

from taiji.config import FeaturesSection, InferSection
from taiji.errors import DataError
from taiji.pipeline import upstream
from taiji.schema import TEXTS
from taiji.stages.infer import infer
from taiji.stages.parts.given_texts import GIVEN, read_given
from taiji.store.files import read_parquet, write_parquet

ANSWER = "<think>\nlikes shelves\n</think>\n<answer>\nThing 0 of shelf 3; Grocery\n</answer>"


def line(user, time, text):
    return {"user": user, "time": time.isoformat(), "text": text}


def write_lines(path, *rows):
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def texts_of(folder, path):
    write_construct(folder / "construct")
    settings = recipe(infer=InferSection(texts_from=str(path)))
    infer(context(folder, "infer", settings))
    rows = read_parquet(folder / "infer" / "texts.parquet", TEXTS).to_pylist()
    return {row["example_id"]: row for row in rows}


TRAIN, TEST = CUTOFFS["rank_train"], CUTOFFS["rank_test"]
HOUR = timedelta(hours=1)


def test_the_newest_text_before_each_moment_enters(tmp_path):
    path = write_lines(
        tmp_path / "texts.jsonl",
        line("u000", TRAIN - 2 * HOUR, "old words"),
        line("u000", TRAIN - HOUR, "new words"),
        line("u000", TEST, ANSWER),
        line("u001", TEST + HOUR, "too late for anything"),
    )
    found = texts_of(tmp_path / "run", path)
    assert len(found) == 2 * NUM_RANK_USERS
    assert found["rank_train-u000"]["completion"] == "new words"
    assert found["rank_test-u000"]["answer"] == "Thing 0 of shelf 3; Grocery"
    assert found["rank_test-u000"]["cot"] == "likes shelves"
    assert found["rank_test-u001"]["status"] == "empty"


def test_a_text_of_the_future_changes_nothing_before_it(tmp_path):
    rows = [line("u000", TRAIN - HOUR, "words"), line("u002", TRAIN - HOUR, "others")]
    later = line("u000", TRAIN + HOUR, "knows what came")
    before = texts_of(tmp_path / "a", write_lines(tmp_path / "a.jsonl", *rows))
    after = texts_of(tmp_path / "b", write_lines(tmp_path / "b.jsonl", *rows, later))
    assert after["rank_train-u000"] == before["rank_train-u000"]
    assert after["rank_test-u000"]["completion"] == "knows what came"


def test_what_was_read_can_stand_beside_given_texts(tmp_path):
    path = write_lines(tmp_path / "texts.jsonl", line("u000", TRAIN - HOUR, "words"))
    write_construct(tmp_path / "construct")
    settings = recipe(
        infer=InferSection(texts_from=str(path)),
        features=FeaturesSection(sub_vectors=4, bits=3, texts=("policy", "prompt")),
    )
    infer(context(tmp_path, "infer", settings))
    rows = read_parquet(tmp_path / "infer" / "texts.parquet", TEXTS).to_pylist()
    by_model = {
        model: [row["example_id"] for row in rows if row["model"] == model]
        for model in ("policy", "prompt")
    }
    assert sorted(by_model["prompt"]) == sorted(by_model["policy"])
    with pytest.raises(ValueError, match=r"leave features.texts at \[policy\] or"):
        recipe(infer=settings.infer, features=FeaturesSection(texts=("policy", "sft")))


def test_parquet_says_the_same(tmp_path):
    rows = [{"user": "u000", "time": TRAIN - HOUR, "text": "words"}]
    write_parquet(pa.Table.from_pylist(rows, GIVEN), tmp_path / "t.parquet", GIVEN)
    path = write_lines(tmp_path / "t.jsonl", line("u000", TRAIN - HOUR, "words"))
    assert read_given(tmp_path / "t.parquet").equals(read_given(path))


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ('{"user": "u1"', "line 2: not JSON"),
        ('["u1"]', "line 2: holds a list"),
        ('{"user": 7, "time": "2024-01-01T00:00:00Z", "text": "x"}', "line 2: user: 7"),
        ('{"user": "u", "time": "yesterday", "text": "x"}', "line 2: time: 'yesterday'"),
        ('{"user": "u", "time": "2024-01-01T00:00:00", "text": "x"}', "no time zone"),
        ('{"user": "u", "time": "2024-01-01T00:00:00Z"}', "line 2: text: None"),
        (
            '{"user": "u", "time": "0001-01-01T00:00:00+01:00", "text": "x"}',
            r"line 2: time: '0001-01-01T00:00:00\+01:00': in UTC outside .* write one such as 2024",
        ),
        ('{"user": "u", "time": "9999-12-31T23:59:59-01:00", "text": "x"}', "line 2: time: '9999"),
        (
            '{"user": "u", "time": "2024-01-01T00:00:00Z", "text": "no\\ud800"}',
            r"line 2: text: '\\ud800' at character 3: half of a pair: write the whole",
        ),
        ('{"user": "\\udfff", "time": "2024-01-01T00:00:00Z", "text": "x"}', "line 2: user: '"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, row, words):
    path = tmp_path / "texts.jsonl"
    good = json.dumps(line("u000", TRAIN, "x"))
    path.write_text(f"{good}\n{row}\n", encoding="utf-8")
    with pytest.raises(DataError, match=words):
        read_given(path)


def test_a_character_that_json_spells_in_two_halves_is_one(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", line("u000", TRAIN, "tea \U0001f375"))
    assert r"\ud83c\udf75" in path.read_text(encoding="utf-8")
    assert read_given(path)["text"].to_pylist() == ["tea \U0001f375"]


def test_two_texts_of_one_moment_are_refused(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", *[line("u000", TRAIN, text) for text in "ab"])
    with pytest.raises(DataError, match="one user and time"):
        read_given(path)


def test_texts_of_strangers_are_refused(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", line("nobody", TRAIN, "x"))
    with pytest.raises(DataError, match="none of 1 texts serves"):
        texts_of(tmp_path / "run", path)


def test_few_users_that_the_run_knows_are_told(tmp_path, caplog):
    rows = [line(user, TRAIN - HOUR, "x") for user in ("u000.0", "U1", "U2", "U3", "u001")]
    texts_of(tmp_path / "run", write_lines(tmp_path / "t.jsonl", *rows))
    assert "W213 1 of 5 users with a text are ranking users" in caplog.text
    assert "such as 'u000.0'" in caplog.text


def test_ids_that_became_floats_are_those_of_the_log(tmp_path):
    path = write_lines(tmp_path / "t.jsonl", line("1055.0", TRAIN, "x"))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())  # as Notepad writes it
    assert read_given(path)["user"].to_pylist() == ["1055"]


def test_no_language_model_is_needed(tmp_path):
    names = [stage.name for stage in upstream("rank", texts_given=True)]
    assert names == ["construct", "infer", "features", "rank"]
