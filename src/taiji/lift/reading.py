"""What a dose-response curve says: which accuracy shows, for how many users, and in words.

Click AUC over all exposures, unless said otherwise. A curve is the points of one refresh, one
universe and one number of names, in order of accuracy.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

MEASURE, GROUP = "click_auc", "all"

Point = Mapping[str, Any]
Key = tuple[str, str, int]

_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five", 10: "ten", 20: "twenty"}
_WHEN = {"window": "a window", "week": "a week", "visit": "at a visit"}


def curves(points: Sequence[Point]) -> dict[Key, list[Point]]:
    """Points by (refresh, among, names), in order of accuracy."""
    found: dict[Key, list[Point]] = defaultdict(list)
    for point in points:
        found[point["refresh"], point["among"], point["names"]].append(point)
    return {key: sorted(curve, key=lambda point: point["accuracy"]) for key, curve in found.items()}


def read_curves(points: Sequence[Point], num_users: int) -> list[dict[str, Any]]:
    """For each curve: reach, the gain at the top, the least visible accuracy, users needed.

    `visible_from` is the accuracy from which on the gain exceeds half its interval, between points
    in a straight line; null where none does. `users_for` says, for each accuracy above 0, how many
    users would show it: half-widths shrink with the root of their number.
    """
    return [_read(key, curve, num_users) for key, curve in curves(points).items()]


def _read(key: Key, curve: Sequence[Point], num_users: int) -> dict[str, Any]:
    refresh, among, names = key
    top = curve[-1]
    needed = {
        f"{point['accuracy']:g}": _users_needed(point, num_users)
        for point in curve
        if point["accuracy"] > 0
    }
    return {
        "refresh": refresh,
        "among": among,
        "names": names,
        "reach": top["reach"],
        "best": _figure(top),
        "visible_from": _visible_from(curve),
        "users_for": needed,
    }


def _figure(point: Point) -> Mapping[str, float | None]:
    found: Mapping[str, float | None] = point["groups"][GROUP][MEASURE]
    return found


def _excess(point: Point) -> float | None:
    """How far the gain is above half its interval; at or below 0 it does not show."""
    figure = _figure(point)
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return None
    return value - (high - low) / 2


def _visible_from(curve: Sequence[Point]) -> float | None:
    """The least accuracy above which every point shows."""
    seen = [(point["accuracy"], _excess(point)) for point in curve]
    least: float | None = None
    later: tuple[float, float] | None = None
    for accuracy, excess in reversed(seen):
        if excess is None:
            return least
        if excess <= 0:
            if later is not None:
                share = -excess / (later[1] - excess)
                least = accuracy + share * (later[0] - accuracy)
            return least
        least, later = accuracy, (accuracy, excess)
    return least


def _users_needed(point: Point, num_users: int) -> int | None:
    """Users at whom half the interval would equal the gain; None where there is no gain."""
    figure = _figure(point)
    value, low, high = (figure[name] for name in ("value", "low", "high"))
    if value is None or low is None or high is None or value <= 0:
        return None
    return max(1, round(num_users * ((high - low) / 2 / value) ** 2))


def equivalent_accuracy(curve: Sequence[Point], gain: float | None) -> float | None:
    """The oracle's accuracy that gains as much, between points in a straight line.

    0 for no gain or a loss, 1 for a gain beyond the oracle's own. The curve is made to rise, so
    that its noise cannot give one gain two accuracies.
    """
    if gain is None or any(_figure(point)["value"] is None for point in curve):
        return None
    best = 0.0
    accuracies, gains = [], []
    for point in curve:
        best = max(best, float(_figure(point)["value"] or 0.0))
        accuracies.append(float(point["accuracy"]))
        gains.append(best)
    if gain <= gains[0]:
        return 0.0
    for (low, at_low), (high, at_high) in zip(
        zip(accuracies, gains, strict=True),
        zip(accuracies[1:], gains[1:], strict=True),
        strict=False,
    ):
        if gain <= at_high:
            return low + (gain - at_low) / (at_high - at_low) * (high - low)
    return 1.0


def in_words(readings: Sequence[Mapping[str, Any]]) -> str:
    """One sentence: the most that cannot show here, and the least that can."""
    silent = [one for one in readings if one["visible_from"] is None]
    shown = [one for one in readings if one["visible_from"] is not None]
    if not shown:
        return "No text that names categories can show a lift here, however good."
    best = min(shown, key=lambda one: (one["visible_from"], one["names"]))
    can = f"{_what(best)} can, from {_percent(best['visible_from'])} right"
    if not silent:
        return f"Every kind of text can show a lift here; {can}."
    first = min(silent, key=lambda one: (one["names"], one["refresh"] != "window"))
    return f"Text of {_what(first)} cannot show here, however good; {can}."


def _what(reading: Mapping[str, Any]) -> str:
    count = int(reading["names"])
    names = f"{_NUMBERS.get(count, count)} name{'s' if count > 1 else ''}"
    offer = " from the offer" if reading["among"] == "offer" else ""
    return f"{names}{offer} {_WHEN[reading['refresh']]}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "1 %"
