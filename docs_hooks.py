"""A hook of MkDocs: the site holds no code, so a link into it becomes its text."""

import re

_INTO_CODE = re.compile(r"\[(`[^`]+`)\]\(\.\./(?:src|tests)/[^)]+\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """The page as the site shows it."""
    return _INTO_CODE.sub(r"\1", markdown)
