"""The same prompts by pandas, row by row as is usual, and by Polars, lazy and streaming."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from taiji.config import DataSection
from taiji.data.examples.text import Habits, age_text, price_text, profile_text, wording
from taiji.data.item_text import item_text

SECTION = DataSection(exposure_share=0.001)
CUTOFF = datetime(2017, 12, 1, 5, tzinfo=UTC)
ZONE = SECTION.splits.timezone


def words_of(fields: list[tuple[str, str | None]]):
    return wording(SECTION.text, [name for name, _ in fields])


def times_of_day(weekday, hour):
    """Names in the order of `weekday` (0 = Monday) and `hour`, for arrays of numbers."""
    part = {**dict.fromkeys(range(5, 12), "mornings"), **dict.fromkeys(range(12, 17), "afternoons"),
            **dict.fromkeys(range(17, 22), "evenings")}  # fmt: skip
    return [
        f"{'weekend' if day >= 5 else 'weekday'} {part.get(clock, 'nights')}"
        for day, clock in zip(weekday, hour, strict=True)
    ]


def told(fields, categories, low, high, share, moment, words) -> str:
    habits = Habits(
        top_categories=categories or (),
        price_band=None if low is None or low != low else (low, high),
        private_label_share=None if share is None or share != share else share,
        shopping_time=moment,
    )
    return profile_text(dict(fields), habits, words)


def with_pandas(folder: Path, out: Path) -> None:
    import numpy as np
    import pandas as pd

    log = pd.read_parquet(folder / "interactions.parquet")
    items = pd.read_parquet(folder / "items.parquet")
    users = pd.read_parquet(folder / "users.parquet")
    words = words_of(users["fields"].iloc[0])
    log = log[log["ts"] < CUTOFF].sort_values(["user_id", "ts", "order_id", "item_id"])
    log = log.merge(items, on="item_id", how="left")
    newest = log.groupby("user_id").tail(SECTION.history_items).iloc[::-1]

    def line(row) -> str:
        parts = [item_text(row)]
        if not np.isnan(row["price"]):
            parts.append(price_text(row["price"], words))
        return "; ".join([*parts, age_text((CUTOFF - row["ts"]) // pd.Timedelta("1min"), words)])

    lines = newest.apply(line, axis=1)
    told_of = pd.DataFrame({"history": lines.groupby(newest["user_id"]).agg(list)})
    prices = log[["user_id", "price"]].dropna().sort_values(["user_id", "price"])
    sizes = prices.groupby("user_id").size()
    starts = sizes.cumsum() - sizes
    for name, share in (("low", 0.25), ("high", 0.75)):
        at = starts + np.ceil(sizes * share).astype(int) - 1
        told_of[name] = pd.Series(prices["price"].to_numpy()[at], index=sizes.index)
    told_of["share"] = (log["brand"] == "Private label").groupby(log["user_id"]).sum() / (
        log.groupby("user_id")["brand"].count()
    )
    counts = log.groupby(["user_id", "category_l1", "category_l2"]).size().rename("num")
    counts = counts.reset_index().sort_values(
        ["user_id", "num", "category_l1", "category_l2"], ascending=[True, False, True, True]
    )
    told_of["top"] = counts.groupby("user_id").head(3).groupby("user_id")["category_l2"].agg(list)
    orders = log.drop_duplicates(["user_id", "order_id"])[["user_id", "ts"]]
    local = orders["ts"].dt.tz_convert(ZONE)
    orders["moment"] = times_of_day(local.dt.day_of_week, local.dt.hour)
    counts = orders.groupby(["user_id", "moment"]).size().rename("num").reset_index()
    counts = counts.sort_values(["user_id", "num", "moment"], ascending=[True, False, True])
    told_of["moment"] = counts.groupby("user_id")["moment"].first()
    whole = users.merge(told_of, left_on="user_id", right_index=True, how="left")
    whole = whole.astype(object).where(whole.notna(), None)
    whole["profile"] = whole.apply(
        lambda row: told(
            row["fields"], row["top"], row["low"], row["high"], row["share"], row["moment"], words
        ),
        axis=1,
    )
    whole["history"] = [lines if isinstance(lines, list) else [] for lines in whole["history"]]
    whole[["user_id", "profile", "history"]].to_parquet(out, compression="zstd")


def with_polars(folder: Path, out: Path) -> None:
    import polars as pl

    user = "user_id"
    log = pl.scan_parquet(folder / "interactions.parquet").filter(pl.col("ts") < CUTOFF)
    items = pl.read_parquet(folder / "items.parquet")
    people = pq.read_table(folder / "users.parquet").select([user, "fields"]).to_pylist()
    words = words_of(people[0]["fields"])
    names = ("title", "category_l1", "category_l2", "category_l3")
    texts = [item_text(row) for row in items.select(names).iter_rows(named=True)]
    said = items.select("item_id", pl.Series("item", texts))
    newest = (
        log.sort(user, "ts", "order_id", "item_id", descending=[False, True, True, True])
        .group_by(user, maintain_order=True)
        .head(SECTION.history_items)
        .with_columns(minutes=(pl.lit(CUTOFF) - pl.col("ts")).dt.total_minutes())
        .join(said.lazy(), on="item_id", how="left", maintain_order="left")
        .collect(engine="streaming")
    )
    prices = {price: f"{price:.2f} USD" for price in newest["price"].drop_nulls().unique()}
    ages = {number: age_text(number, words) for number in newest["minutes"].unique()}
    lines = newest.with_columns(
        text=pl.concat_str(
            "item",
            pl.col("price").replace_strict(prices, return_dtype=pl.String),
            pl.col("minutes").replace_strict(ages, return_dtype=pl.String),
            separator="; ",
            ignore_nulls=True,
        )
    )
    history = lines.group_by(user, maintain_order=True).agg(history="text")
    bought = log.join(items.lazy(), on="item_id", how="left")
    at = [(pl.col("price").drop_nulls().len() * share).ceil().cast(pl.Int64) - 1
          for share in (0.25, 0.75)]  # fmt: skip
    numbers = bought.group_by(user).agg(
        *(pl.col("price").drop_nulls().sort().get(place, null_on_oob=True).alias(name)
          for name, place in zip(("low", "high"), at, strict=True)),
        share=(pl.col("brand") == "Private label").sum() / pl.col("brand").count(),
    )  # fmt: skip
    top = (
        bought.filter(pl.col("category_l2").is_not_null())
        .group_by(user, "category_l1", "category_l2")
        .agg(num=pl.len())
        .sort(user, "num", "category_l1", "category_l2", descending=[False, True, False, False])
        .group_by(user, maintain_order=True)
        .agg(top=pl.col("category_l2").head(3))
    )
    orders = log.select(user, "order_id", pl.col("ts").dt.convert_time_zone(ZONE)).unique(
        [user, "order_id"]
    )
    clock = orders.select(
        user, (pl.col("ts").dt.weekday() - 1).alias("day"), pl.col("ts").dt.hour().alias("hour")
    )
    counted = clock.group_by(user, "day", "hour").agg(num=pl.len()).collect(engine="streaming")
    counted = counted.with_columns(moment=pl.Series(times_of_day(counted["day"], counted["hour"])))
    moments = (
        counted.group_by(user, "moment")
        .agg(pl.col("num").sum())
        .sort(user, "num", "moment", descending=[False, True, False])
        .group_by(user, maintain_order=True)
        .agg(pl.col("moment").first())
    )
    figures = numbers.join(top, on=user, how="left").collect(engine="streaming")
    figures = figures.join(moments, on=user, how="left").join(history, on=user, how="left")
    known = {row[user]: row for row in figures.select(pl.exclude("history")).iter_rows(named=True)}
    keys = ("top", "low", "high", "share", "moment")
    profiles = []
    for person in people:
        row = known.get(person[user], dict.fromkeys(keys))
        profiles.append(told(person["fields"], *(row[key] for key in keys), words))
    frame = pl.DataFrame({user: [person[user] for person in people], "profile": profiles})
    empty = pl.lit([], dtype=pl.List(pl.String))
    whole = frame.join(figures.select(user, "history"), on=user, how="left")
    whole.with_columns(pl.col("history").fill_null(empty)).write_parquet(out, compression="zstd")
