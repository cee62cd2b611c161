"""One key out of several parts, as Spark SQL: different parts give different keys."""

_NULL = "%0"  # no escaped text holds it


def joined_key(*parts: str) -> str:
    """SQL that joins text by `-`, so that no two lists of parts share a key.

    A percent sign or a dash inside a part is written as %25 or %2D; null has a sign of its own.
    The last part stays as it is: the others show where it begins.

    Args:
        parts: SQL of each part, as many in all keys that are compared. The last is never null.
    """
    *front, last = parts
    escaped = (
        f"coalesce(replace(replace({part}, '%', '%25'), '-', '%2D'), '{_NULL}')" for part in front
    )
    return "concat(" + ", '-', ".join((*escaped, last)) + ")"
