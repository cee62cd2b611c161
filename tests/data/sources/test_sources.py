"""Each known layout, written as it is published, becomes the canonical tables."""

import gzip
import json
from datetime import UTC, datetime

import pytest
from data_shop import prepared, said, shop, write_shop
from pydantic import ValidationError

from taiji.config import DataSection, Recipe
from taiji.config.loading import dump_recipe, load_recipe
from taiji.data.problems import UnusableError
from taiji.data.sources.movielens import _GENRES_100K


def moment(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_a_source_by_its_bare_name():
    assert DataSection.model_validate({"source": "complete_journey"}) == DataSection()
    with pytest.raises(ValidationError, match="path"):
        DataSection.model_validate({"source": "movielens"})


def test_a_described_source_survives_the_saved_recipe(tmp_path):
    write_shop(tmp_path)
    recipe = Recipe.model_validate({"name": "x", "data": {"source": shop(tmp_path)}})
    (tmp_path / "saved.yaml").write_text(dump_recipe(recipe))
    assert load_recipe(tmp_path / "saved.yaml").recipe == recipe


def test_movielens_1m(tmp_path):
    (tmp_path / "movies.dat").write_bytes(
        "1::Toy Story (1995)::Animation|Children's|Comedy\n"
        '73::"Misérables, Les" (1995)::Drama|Musical\n'.encode("latin-1")
    )
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n")
    (tmp_path / "ratings.dat").write_text("1::1::5::978300760\n2::73::3::978302109\n")
    result, tables = prepared({"kind": "movielens", "path": str(tmp_path)}, tmp_path / "out")
    assert [(row["title"], row["category_l1"], row["category_l2"]) for row in tables["items"]] == [
        ("Toy Story (1995)", "Animation", None),
        ('"Misérables, Les" (1995)', "Drama", None),
    ]
    assert tables["users"][0]["fields"] == [
        ("age", "under 18"),
        ("gender", "female"),
        ("occupation", "school student"),
    ]
    assert [(row["user_id"], row["ts"], row["kind"]) for row in tables["interactions"]] == [
        ("1", moment(2000, 12, 31, 22, 12, 40), "like"),
        ("2", moment(2000, 12, 31, 22, 35, 9), "dislike"),
    ]
    assert result.problems == []


def test_movielens_100k(tmp_path):
    flags = ["1" if genre in ("Comedy", "Drama") else "0" for genre in _GENRES_100K]
    line = ["3", "Cité (1995)", "01-Jan-1995", "", "http://x", *flags]
    (tmp_path / "u.item").write_bytes(("|".join(line) + "\n").encode("latin-1"))
    (tmp_path / "u.user").write_text("7|24|M|technician|85711\n")
    (tmp_path / "u.data").write_text("7\t3\t3\t881250949\n")
    result, tables = prepared({"kind": "movielens", "path": str(tmp_path)}, tmp_path / "out")
    assert tables["items"][0]["title"] == "Cité (1995)"
    assert tables["items"][0]["category_l1"] == "Comedy"
    assert dict(tables["users"][0]["fields"]) == {
        "age": "24",
        "gender": "male",
        "occupation": "technician",
    }
    assert tables["interactions"][0]["ts"] == moment(1997, 12, 4, 15, 55, 49)
    assert result.problems == []


REVIEW = {
    "rating": 5.0,
    "title": "Such a lovely scent",
    "text": "Nice",
    "asin": "B1-RED",
    "parent_asin": "B1",
    "user_id": "AG1",
    "timestamp": 1588687728923,
    "verified_purchase": True,
}
META = {
    "main_category": "All Beauty",
    "title": "Hair spray 12 oz",
    "price": "from 12.99",
    "store": "Yes To",
    "categories": ["Beauty", "Hair", "Sprays", "Men"],
    "details": {"Brand": "x"},
    "parent_asin": "B1",
}


@pytest.mark.parametrize("zipped", [False, True])
def test_amazon_takes_the_item_title_not_the_headline_of_the_review(tmp_path, zipped):
    blank = META | {"parent_asin": "B2", "title": "", "categories": [], "price": None}
    lines = [json.dumps(REVIEW), json.dumps(REVIEW | {"parent_asin": "B2"})] * 30
    files = {
        "All_Beauty.jsonl": lines[:59],
        "meta_All_Beauty.jsonl": map(json.dumps, [META, blank]),
    }
    for name, rows in files.items():
        data = "\n".join(rows).encode()
        path = tmp_path / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(data) if zipped else data)
    source = {"kind": "amazon", "path": str(tmp_path), "category": "All_Beauty"}
    result, tables = prepared(source, tmp_path / "out")
    assert [tuple(row.values()) for row in tables["items"]] == [
        ("B1", "Hair spray 12 oz", "Beauty", "Hair", "Sprays", "Yes To")
    ]
    (review,) = tables["interactions"]
    assert review["ts"] == moment(2020, 5, 5, 14, 8, 48, 923_000)
    assert (review["kind"], review["price"]) == ("like", None)
    assert result.counts["interactions"]["merged: same item and kind in the same order"] == 29
    assert result.counts["interactions"]["E106 item not in the catalogue"] == 29
    assert "E104 blank title: 1 of 2 rows" in said(result)


def test_amazon_items_without_a_path_are_of_their_main_category(tmp_path):
    """All_Beauty as published: `categories` are empty everywhere."""
    (tmp_path / "All_Beauty.jsonl").write_text(json.dumps(REVIEW))
    meta = META | {"categories": []}
    (tmp_path / "meta_All_Beauty.jsonl").write_text(json.dumps(meta))
    source = {"kind": "amazon", "path": str(tmp_path), "category": "All_Beauty"}
    _, tables = prepared(source, tmp_path / "known")
    assert tables["items"][0]["category_l1"] == "All Beauty"
    del meta["main_category"]
    (tmp_path / "meta_All_Beauty.jsonl").write_text(json.dumps(meta))
    _, tables = prepared(source, tmp_path / "unknown")
    assert tables["items"][0]["category_l1"] is None


def test_amazon_says_which_files_it_looked_for(tmp_path):
    with pytest.raises(UnusableError, match=r"none of meta_Toys\.jsonl"):
        prepared({"kind": "amazon", "path": str(tmp_path), "category": "Toys"}, tmp_path / "out")


NEWS = (
    'N1\tsports\tsoccer\tA "late" goal\tabstract\thttp://x\t[]\t[]\n'
    "N2-1\tnews\tworld\tElection\t\thttp://y\t[]\t[]\n"
)


@pytest.mark.parametrize(("conversion", "expected"), [("unknown", None), ("click", 1)])
def test_mind_impressions_become_exposures_and_clicks(tmp_path, conversion, expected):
    (tmp_path / "news.tsv").write_text(NEWS.replace("N2-1", "N2"))
    (tmp_path / "behaviors.tsv").write_text(
        "1\tU1\t11/15/2019 12:22:32 PM\tN9 N8\tN1-1 N2-0\n2\tU2\t11/11/2019 3:00:00 AM\t\tN2-0\n"
        "3\tU3\t11/11/2019 3:00:00 AM\t\t\n"
    )
    source = {"kind": "mind", "path": str(tmp_path), "conversion": conversion}
    result, tables = prepared(source, tmp_path / "out")
    shown = [(r["user_id"], r["item_id"], r["click"]) for r in tables["exposures"]]
    assert shown == [("U1", "N1", 1), ("U1", "N2", 0), ("U2", "N2", 0)]
    assert tables["exposures"][0]["conversion"] == expected
    assert tables["exposures"][0]["ts"] == moment(2019, 11, 15, 12, 22, 32)
    (click,) = tables["interactions"]
    assert (click["user_id"], click["item_id"], click["kind"], click["order_id"]) == (
        *("U1", "N1", "click"),
        "1",
    )
    assert tables["items"][0]["title"] == 'A "late" goal'
    # An impression of nothing is no row that is lost.
    assert result.counts["exposures"] == {"kept": 3, "E103 no item_id": 1}
    assert result.counts["interactions"] == {"kept": 1, "left out by only": 3}


def write_recbole(folder):
    (folder / "ml.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n7\t3\t4\t881250949.0\n"
    )
    (folder / "ml.item").write_text(
        'item_id:token\tmovie_title:token_seq\tclass:token_seq\n3\tFour "Rooms"\tDrama Thriller\n'
    )
    (folder / "ml.user").write_text("user_id:token\tage:token\tgender:token\n7\t24\tM\n")
    return {"kind": "recbole", "path": str(folder), "name": "ml", "title": "movie_title"}


def test_recbole_atomic_files(tmp_path):
    source = write_recbole(tmp_path) | {"categories": "class", "interaction": "rating"}
    result, tables = prepared(source, tmp_path / "out")
    assert tables["items"][0]["title"] == 'Four "Rooms"'
    assert tables["items"][0]["category_l2"] == "Thriller"
    assert tables["users"][0]["fields"] == [("age", "24"), ("gender", "M")]
    assert tables["interactions"][0]["ts"] == moment(1997, 12, 4, 15, 55, 49)
    assert tables["interactions"][0]["kind"] == "rating"
    assert result.problems == []


def test_recbole_categories_may_stand_between_commas(tmp_path):
    source = write_recbole(tmp_path) | {"categories": "class"}
    item = tmp_path / "ml.item"
    item.write_text(
        item.read_text().replace("Thriller", "Coffee & Tea").replace(" Coffee", ", Coffee")
    )
    _, tables = prepared(source, tmp_path / "out")
    assert tables["items"][0]["category_l2"] == "Coffee & Tea"


def test_recbole_in_milliseconds_is_told_what_can_be_done(tmp_path):
    source = write_recbole(tmp_path)
    log = tmp_path / "ml.inter"
    log.write_text(log.read_text().replace("881250949.0", "881250949000"))
    result, _ = prepared(source, tmp_path / "out")
    assert "E109 time outside 1990-01-01" in said(result)
    assert "where the source has no ts.format, convert the file to seconds" in said(result)


def test_recbole_without_titles_or_items_is_refused(tmp_path):
    source = write_recbole(tmp_path)
    with pytest.raises(UnusableError, match="no column title: columns here: item_id, movie_title"):
        prepared(source | {"title": "title"}, tmp_path / "out")
    (tmp_path / "ml.item").unlink()
    with pytest.raises(UnusableError, match=r"ml\.item: E101 cannot be read"):
        prepared(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["movielens", "mind"])
def test_a_folder_without_the_files_is_refused(tmp_path, kind):
    with pytest.raises(UnusableError, match="E101"):
        prepared({"kind": kind, "path": str(tmp_path)}, tmp_path / "out")
    with pytest.raises(UnusableError, match="no such folder"):
        prepared({"kind": kind, "path": str(tmp_path / "nowhere")}, tmp_path / "out")
