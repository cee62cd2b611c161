"""Settings as a person reads them: of one recipe on a terminal, all of them as a page."""

import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from taiji.config.loading import LoadedRecipe, leaves
from taiji.config.reference import Block, blocks, describe
from taiji.safe_text import printable
from taiji.templates import Language, resolve_templates

_MARKS = {"paper": "[cyan]paper[/]", "usual": "usual", "expert": "[dim]expert[/]"}

_HEAD = """\
# Settings

Every setting of a recipe, made from the code by `taiji config reference`. `taiji config show
RECIPE --describe` shows those of one recipe with their values. Any of them can be changed on the
command line, as in `taiji run recipes/demo.yaml sft.epochs=2 name=longer`.

Levels. *paper*: the paper names it; the description has its value, where the paper gives one.
*usual*: of use to everybody. *expert*: leave it alone unless you know why.
"""


def words_file(language: Language) -> str:
    """All templates of a language as YAML, to be translated into `data.text.words`."""
    stream = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000  # a template stays on its line
    words = asdict(resolve_templates(language, {}))
    yaml.dump({name: DoubleQuotedScalarString(text) for name, text in words.items()}, stream)
    return stream.getvalue()


def settings_table(loaded: LoadedRecipe, *, describes: bool) -> Table:
    """Every setting of a recipe, its value and where that came from, or what it is."""
    last = ("level", "what it is") if describes else ("from",)
    table = Table("setting", "value", *last, header_style="bold")
    known = {path: (level, words) for path, level, words in describe(loaded.recipe)}
    for dotted, value in leaves(loaded.recipe):
        cells = [dotted, json.dumps(value)]
        if describes:
            level, words = _known(dotted, known)
            table.add_row(*map(_plain, cells), _MARKS[level], _plain(words))
        else:
            table.add_row(*map(_plain, (*cells, loaded.origin(dotted))))
    return table


def settings_page() -> str:
    """docs/settings.md."""
    return "\n".join([_HEAD, *(line for block in blocks() for line in _block(block))])


def _known(dotted: str, known: Mapping[str, tuple[str, str]]) -> tuple[str, str]:
    """Of an entry in a mapping, such as `evaluate.models.mine`, what is said of the mapping."""
    while dotted not in known:
        dotted = dotted.rpartition(".")[0]
    return known[dotted]


def _block(block: Block) -> Iterator[str]:
    kind = f" (kind `{block.kind}`)" if block.kind else ""
    yield f"## `{block.path}`{kind}" if block.path else "## The recipe"
    yield ""
    yield block.summary
    yield ""
    if not block.settings:
        yield "No settings of its own."
        yield ""
        return
    yield "| setting | type | default | level | what it is |"
    yield "|---|---|---|---|---|"
    for each in block.settings:
        default = f"`{each.default}`" if each.default else ""
        words = (each.path.removeprefix(f"{block.path}."), each.type, default, each.level)
        yield f"| `{words[0]}` | {' | '.join(map(_cell, (*words[1:], each.description)))} |"
    yield ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _plain(text: str) -> str:
    return escape(printable(text))
