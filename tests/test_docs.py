"""Commands, names, paths and links in README and docs exist."""

import ast
import importlib
import re
import shlex
from pathlib import Path

import click
import pytest
from typer.main import get_command

from taiji.cli import app
from taiji.config.reference import blocks
from taiji.safe_text import printable

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
BLOCKS = [
    (name, language, body)
    for name, text in TEXTS.items()
    for language, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
]
SETTINGS = {setting.path for block in blocks() for setting in block.settings}


def commands() -> list[tuple[str, str]]:
    """Every shell line of a block or in backticks, continued lines joined."""
    lines = []
    for name, _, body in (block for block in BLOCKS if block[1] in ("", "bash", "sh")):
        joined = re.sub(r"\\\n\s*", "", body)
        lines += [(name, line.strip()) for line in joined.splitlines()]
    for name, text in TEXTS.items():
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        lines += [(name, span) for span in re.findall(r"`([^`\n]+)`", prose)]
    pattern = r"(\w+=\S+ )*(\.venv/bin/)?(taiji|make|python3?) "
    return [(name, line) for name, line in lines if re.match(pattern, line)]


def words(line: str) -> list[str]:
    found = shlex.split(line, comments=True)
    while found and re.fullmatch(r"\w+=.*", found[0]):
        found.pop(0)
    return [word.removeprefix(".venv/bin/") for word in found]


def of(program: str) -> list[tuple[str, str]]:
    return [(name, line) for name, line in commands() if words(line)[0] == program]


def parse(command: click.Command, arguments: list[str]) -> dict[str, object]:
    """What the command would be called with; an unknown option or command is an error."""
    name = command.name or "taiji"
    context = command.make_context(name, list(arguments))
    if isinstance(command, click.Group):
        _, child, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert child is not None
        return parse(child, rest)
    return context.params


@pytest.mark.parametrize(("page", "line"), of("taiji"))
def test_every_command_of_taiji_is_one(page, line):
    arguments = [word for word in words(line)[1:] if not word.startswith((">", "$", "|"))]
    params = parse(get_command(app), arguments)
    recipe = params.get("recipe")
    if recipe is not None and "/" in str(recipe):
        assert (ROOT / str(recipe)).is_file()
    for override in params.get("overrides") or ():
        dotted = override.partition("=")[0]
        assert dotted in SETTINGS or dotted.startswith("name"), printable(override)


def source_with_siblings(script):
    """A script's text, and that of the scripts beside it that it imports from."""
    text = script.read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    siblings = [script.with_name(f"{node.module}.py") for node in nodes if node.module]
    return text + "".join(path.read_text(encoding="utf-8") for path in siblings if path.exists())


@pytest.mark.parametrize(("page", "line"), of("python") + of("python3"))
def test_every_script_has_the_options_that_it_is_given(page, line):
    script, *options = words(line)[1:]
    if script == "-m":
        return
    text = source_with_siblings(ROOT / script)
    for option in options:
        if option.startswith("--"):
            name = option.partition("=")[0].replace("--no-", "--")
            assert f'"{name}"' in text, option


@pytest.mark.parametrize(("page", "line"), of("make"))
def test_every_target_is_in_the_makefile(page, line):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{re.escape(words(line)[1])}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    ("page", "body"), [(name, body) for name, language, body in BLOCKS if language == "python"]
)
def test_every_piece_of_python_compiles_and_imports_what_is_there(page, body):
    for node in ast.walk(ast.parse(body)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taiji"):
            module = importlib.import_module(node.module or "")
            assert all(hasattr(module, alias.name) for alias in node.names)


def slugs(text: str) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads)
    return set(plain)


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    here = (ROOT / page).parent
    prose = re.sub(r"^```.*?^```", "", TEXTS[page], flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"https?:", link):
            continue
        path, _, anchor = link.partition("#")
        target = here / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            assert anchor in slugs(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", TEXTS)
def test_files_and_names_in_backticks_exist(page):
    for span in re.findall(r"`([^`\n]+)`", TEXTS[page]):
        if re.fullmatch(r"(tests|recipes|benchmarks|docs|src)/[\w./-]+\.\w+", span):
            assert (ROOT / span).exists(), span
        if re.fullmatch(r"taiji(\.\w+)+", span):
            assert resolves(span), span


@pytest.mark.parametrize(
    "name", re.findall(r"^\| `(taiji[.\w]+)`", TEXTS["docs/api.md"], re.MULTILINE)
)
def test_every_public_name_can_be_imported(name):
    assert resolves(name)


def resolves(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    for cut in range(dotted.count(".") + 1):
        parts = dotted.rsplit(".", cut)
        try:
            found = importlib.import_module(parts[0])
        except ModuleNotFoundError:
            continue
        for part in parts[1:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


FAULTS = re.findall(r"`([\w/]+\.py)::(test_\w+)`", TEXTS["docs/FAULTS.md"])


def test_every_fault_has_a_row_with_its_test():
    rows = [line for line in TEXTS["docs/FAULTS.md"].splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| fault |")]
    assert len(rows) == len(FAULTS) > 30


@pytest.mark.parametrize(("file", "name"), FAULTS)
def test_every_test_that_a_fault_names_exists(file, name):
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)
