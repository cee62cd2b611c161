"""MovieLens 1M and 100K as they are published.

A rating is an interaction: `like` with four stars or more, `dislike` with fewer; there are no
exposures. Genres
have no order of rank, so the first one listed is the only category. The codes that stand for
ages and occupations are spelled out as the data sets' own notes give them; postcodes stay out.
Both logs were collected in Minnesota, but their times count seconds from 1970 in UTC.
"""

from pathlib import Path
from typing import Any

from taiji.config.sources import TablesSource
from taiji.data.problems import Problem, UnusableError

_AGES_1M = {
    "1": "under 18",
    "18": "18-24",
    "25": "25-34",
    "35": "35-44",
    "45": "45-49",
    "50": "50-55",
    "56": "56+",
}
_OCCUPATIONS_1M = (
    "other",
    "academic or educator",
    "artist",
    "clerical or administrative work",
    "college or graduate student",
    "customer service",
    "doctor or health care",
    "executive or manager",
    "farmer",
    "homemaker",
    "school student",
    "lawyer",
    "programmer",
    "retired",
    "sales or marketing",
    "scientist",
    "self-employed",
    "technician or engineer",
    "tradesman or craftsman",
    "unemployed",
    "writer",
)
_GENRES_100K = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)
_GENDERS = {"F": "female", "M": "male"}
_RATING = {
    "user_id": "user",
    "item_id": "item",
    "ts": {"column": "time", "format": "s"},
    "kind": {"constant": "rating"},
    "rating": "rating",
    "liked": {"rating": ">= 4"},
}


def describe(folder: Path) -> TablesSource:
    """Return the tables of `ratings.dat` (1M) or `u.data` (100K).

    Raises:
        UnusableError: Neither is there.
    """
    if (folder / "ratings.dat").is_file():
        tables = _one_million()
    elif (folder / "u.data").is_file():
        tables = _hundred_thousand()
    else:
        what, mend = (
            "neither ratings.dat nor u.data",
            "give the unpacked folder of ml-1m or ml-100k",
        )
        raise UnusableError(Problem("E101", str(folder), what, mend, fatal=True))
    return TablesSource.model_validate({"kind": "tables", "path": str(folder), **tables})


def _one_million() -> dict[str, Any]:
    dat = {"format": "csv", "separator": "::", "quote": "", "encoding": "latin-1"}
    return {
        "items": dat
        | {
            "files": "movies.dat",
            "names": ["item", "title", "genres"],
            "item_id": "item",
            "title": "title",
            "categories": {"column": "genres", "separator": "|", "levels": 1},
        },
        "interactions": dat
        | {"files": "ratings.dat", "names": ["user", "item", "rating", "time"]}
        | _RATING,
        "users": dat
        | {
            "files": "users.dat",
            "names": ["user", "gender", "age", "occupation", "postcode"],
            "user_id": "user",
            "profile": {
                "age": {"column": "age", "values": _AGES_1M},
                "gender": {"column": "gender", "values": _GENDERS},
                "occupation": {
                    "column": "occupation",
                    "values": {str(code): name for code, name in enumerate(_OCCUPATIONS_1M)},
                },
            },
        },
    }


def _hundred_thousand() -> dict[str, Any]:
    piped = {"format": "csv", "separator": "|", "quote": "", "encoding": "latin-1"}
    flags = [f"genre_{number}" for number in range(len(_GENRES_100K))]
    return {
        "items": piped
        | {
            "files": "u.item",
            "names": ["item", "title", "released", "video", "link", *flags],
            "item_id": "item",
            "title": "title",
            "categories": {"flags": dict(zip(flags, _GENRES_100K, strict=True))},
        },
        "interactions": {
            "files": "u.data",
            "format": "csv",
            "separator": "\t",
            "names": ["user", "item", "rating", "time"],
        }
        | _RATING,
        "users": piped
        | {
            "files": "u.user",
            "names": ["user", "age", "gender", "occupation", "postcode"],
            "user_id": "user",
            "profile": {
                "age": "age",
                "gender": {"column": "gender", "values": _GENDERS},
                "occupation": "occupation",
            },
        },
    }
