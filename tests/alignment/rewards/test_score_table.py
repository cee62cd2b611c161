from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from taiji.alignment.rewards.score_table import ScoreTable, item_means, known_at, read_scores
from taiji.errors import DataError, MissingArtifactError

MAY, JUNE = (datetime(2017, month, 1, tzinfo=UTC) for month in (5, 6))
CONTEXTS = {"e1": ("u1", JUNE), "e2": ("u2", JUNE)}
PLAIN = "user_id,item_id,score\nu1,milk,0.2\nu1,soap,0.1\nu2,milk,0.4\n"


def csv(tmp_path, text):
    path = tmp_path / "scores.csv"
    path.write_text(text)
    return path


def scorer(tmp_path, text=PLAIN, missing="floor"):
    return ScoreTable(read_scores(csv(tmp_path, text)), CONTEXTS, missing)


def test_scores_are_looked_up_for_the_user_of_the_context(tmp_path):
    out = scorer(tmp_path).score(["e1", "e2", "e1"], ["milk", "milk", "soap"])
    assert out.tolist() == [0.2, 0.4, 0.1]


@pytest.mark.parametrize(
    ("missing", "expected"), [("floor", [0, 0, 0]), ("item_mean", [0.1, 0.1, 0])]
)
def test_a_missing_pair_gets_what_the_rule_says(tmp_path, missing, expected):
    out = scorer(tmp_path, missing=missing).score(["e2"] * 3, ["soap", "soap", "unheard of"])
    assert out.tolist() == expected


def test_a_missing_pair_can_be_refused(tmp_path):
    with pytest.raises(DataError, match=r"'soap' for user 'u2' at 2017-06-01.*scores_missing"):
        scorer(tmp_path, missing="refuse").score(["e1", "e2"], ["milk", "soap"])


def test_the_newest_score_that_the_cutoff_may_know_counts(tmp_path):
    text = (
        "user_id,item_id,score,as_of\n"
        "u1,milk,0.9,2017-07-01T00:00:00Z\n"
        "u1,milk,0.2,2017-05-01T00:00:00Z\n"
        "u1,milk,0.3,2017-06-01T00:00:00Z\n"
        "u1,soap,0.8,2017-06-01T00:00:01Z\n"
    )
    assert scorer(tmp_path, text).score(["e1", "e1"], ["milk", "soap"]).tolist() == [0.3, 0]


def test_means_and_pools_know_nothing_of_later_scores(tmp_path):
    text = (
        "user_id,item_id,score,as_of\n"
        "u1,milk,0.2,2017-05-01T00:00:00Z\n"
        "u3,milk,0.4,2017-06-01T00:00:00Z\n"
        "u3,milk,0.9,2017-09-01T00:00:00Z\n"
        "u3,soap,0.9,2017-09-01T00:00:00Z\n"
    )
    out = scorer(tmp_path, text, "item_mean").score(["e2", "e2"], ["milk", "soap"])
    assert out.tolist() == [pytest.approx(0.3), 0]
    table = read_scores(csv(tmp_path, text))
    assert known_at(table, MAY)["score"].to_pylist() == [0.2]
    with pytest.raises(DataError, match=r"as_of: no score stands for 2017-04-30 00:00"):
        known_at(table, datetime(2017, 4, 30, tzinfo=UTC))
    assert known_at(table.drop_columns("as_of"), MAY).num_rows == 4


def test_ids_that_became_floats_are_those_of_the_run(tmp_path):
    table = pa.table({"user_id": [1.0, 2.0], "item_id": ["7.0", "x"], "score": [0.1, 0.2]})
    pq.write_table(table, tmp_path / "scores.parquet")
    read = read_scores(tmp_path / "scores.parquet")
    assert read["user_id"].to_pylist() == ["1", "2"]
    assert read["item_id"].to_pylist() == ["7", "x"]
    pq.write_table(table.set_column(0, "user_id", pa.array([1e16, 2e16])), tmp_path / "big.parquet")
    with pytest.raises(DataError, match=r"column user_id: ids are floats beyond"):
        read_scores(tmp_path / "big.parquet")


def test_parquet_and_csv_hold_the_same_and_ids_stay_text(tmp_path):
    table = pa.table({"score": [1, 0], "item_id": ["7", "007"], "user_id": [5, 6], "more": [0, 0]})
    pq.write_table(table, tmp_path / "scores.parquet")
    from_parquet = read_scores(tmp_path / "scores.parquet")
    assert from_parquet.to_pydict() == {
        "user_id": ["5", "6"],
        "item_id": ["7", "007"],
        "score": [1.0, 0.0],
    }
    same = csv(tmp_path, "user_id,item_id,score\n5,7,1\n6,007,0\n")
    assert read_scores(same).equals(from_parquet)


def test_a_time_without_a_zone_is_utc(tmp_path):
    times = pa.array([datetime(2017, 5, 1)], pa.timestamp("ns"))
    table = pa.table({"user_id": ["u"], "item_id": ["i"], "score": [0.5], "as_of": times})
    pq.write_table(table, tmp_path / "scores.parquet")
    assert read_scores(tmp_path / "scores.parquet")["as_of"].to_pylist() == [MAY]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("user_id,item_id\nu,i\n", "no column score: has user_id, item_id"),
        ("user_id,item_id,score\n", "holds no row"),
        ("user_id,item_id,score\nu,i,1\nu,j,high\n", "row 2: column score: 'high' is no double"),
        ("user_id,item_id,score\nu,i,1\nu,j,-0.1\n", "row 2: column score: -0.1.*not logits"),
        ("user_id,item_id,score\nu,i,nan\n", "row 1: column score"),
        ("user_id,item_id,score\nu,i,1\nu,j,\n", "row 2: column score"),
        ("user_id,item_id,score\nu,i,1\n,j,1\n", "row 2: column user_id: is empty"),
        ("user_id,item_id,score\nu,i,1\nu,j,1\nu,i,2\n", "row 3: columns user_id, item_id.*twice"),
        ("user_id,item_id,score,as_of\nu,i,1,soon\n", "row 1: column as_of: 'soon' is no time"),
        ("user_id,item_id,score\nu,i\n", "cannot be read"),
    ],
)
def test_a_damaged_table_says_where(tmp_path, text, message):
    with pytest.raises(DataError, match=rf"scores\.csv.*{message}"):
        read_scores(csv(tmp_path, text))


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(MissingArtifactError, match=r"align\.rewards\.scores"):
        read_scores(tmp_path / "none.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 broken")
    with pytest.raises(DataError, match="cannot be read"):
        read_scores(tmp_path / "bad.parquet")


def test_item_means_by_hand(tmp_path):
    items, means = item_means(read_scores(csv(tmp_path, PLAIN)))
    assert dict(zip(items, means.tolist(), strict=True)) == {
        "milk": pytest.approx(0.3),
        "soap": 0.1,
    }
