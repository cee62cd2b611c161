"""Kinds of interaction, by how much they say of what a user wants."""

from collections.abc import Iterable

DISLIKE = "dislike"
"""The kind of an interaction whose rating is not what `liked` asks for; never a target."""

BY_STRENGTH = (
    *("purchase", "redeem", "like", "save", "share", "cart", "rating", "review", "comment"),
    *("listen", "watch", "read", "click", "view"),
)
"""Kinds that are known, the strongest first; others stand behind them, by name."""


def strongest(kinds: Iterable[str]) -> tuple[str, ...]:
    """The one kind that says most of what a user wants; none of no kinds."""
    wanted = sorted(set(kinds) - {DISLIKE})
    ranked = [*(kind for kind in BY_STRENGTH if kind in wanted), *wanted]
    return tuple(ranked[:1])
