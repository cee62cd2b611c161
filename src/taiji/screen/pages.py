"""The commands that make or serve pages: `compare`, `ui` and `reproduce`."""

import importlib
import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from taiji.errors import ConfigError, EngineError

_LIBRARIES = ("fastapi", "uvicorn")


def add_page_commands(app: typer.Typer, out: Console) -> None:
    """Add them to the command line; `out` is where to print."""
    _add_compare(app, out)
    _add_ui(app)
    _add_reproduce(app, out)


def _add_compare(app: typer.Typer, out: Console) -> None:
    @app.command()
    def compare(
        runs: Annotated[
            list[Path], typer.Argument(metavar="RUN...", help="Two run directories or more.")
        ],
        to: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path(
            "comparison.html"
        ),
    ) -> None:
        """Write one page of several runs: figures, differences, rewards, settings.

        Example:  taiji compare runs/demo runs/fixed --out comparison.html
        """
        from taiji.report.comparison import render_comparison
        from taiji.report.run_files import read_folder
        from taiji.store.files import replacing

        if len(runs) < 2:
            raise ConfigError("compare: one run: name two or more, such as runs/demo runs/fixed")
        names = {run.name: run for run in runs}
        if len(names) < len(runs):
            raise ConfigError("compare: two folders of one name: rename one, or give it once")
        page = render_comparison(
            {name: read_folder(run) for name, run in names.items()}, "Runs compared"
        )
        with replacing(to) as temporary:
            temporary.write_text(page, encoding="utf-8", errors="replace")
        out.print(str(to), highlight=False, soft_wrap=True)


def _add_ui(app: typer.Typer) -> None:
    @app.command()
    def ui(
        folder: Annotated[Path, typer.Argument(metavar="RUNS", help="The folder of runs.")] = Path(
            "runs"
        ),
        port: Annotated[int, typer.Option(help="Port to listen at.")] = 8200,
    ) -> None:
        """Look at runs in a browser, also while one trains (extra ui).

        Example:  taiji ui runs

        Read-only, and reachable from this machine alone.
        """
        for name in _LIBRARIES:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise EngineError(f"{name}: not installed: pip install 'taiji-rec[ui]'") from error
        from taiji.ui.server import serve_pages

        logging.getLogger("taiji").info("look at http://127.0.0.1:%d", port)
        serve_pages(folder, port)


def _add_reproduce(app: typer.Typer, out: Console) -> None:
    @app.command()
    def reproduce(
        overrides: Annotated[
            list[str] | None,
            typer.Argument(metavar="[SECTION.KEY=VALUE]...", help="Settings for every arm."),
        ] = None,
        size: Annotated[str, typer.Option(help="laptop or large.")] = "laptop",
        quick: Annotated[bool, typer.Option("--quick", help="All of it, at its smallest.")] = False,
        world: Annotated[
            list[str] | None, typer.Option(help="journey or planted; default: both.")
        ] = None,
        folder: Annotated[Path, typer.Option("--out", help="The folder of the study.")] = Path(
            "runs/reproduce"
        ),
        dry_run: Annotated[
            bool, typer.Option("--dry-run", help="Print the arms; run nothing.")
        ] = False,
    ) -> None:
        """Run the paper's experiments on open data: Tables 1 to 4, one folder, one report.

        Example:  taiji reproduce --quick

        A killed study goes on with the same command. Every arm is an ordinary run.
        """
        from typing import get_args

        from taiji.reproduce.arms import Size, World, run_name
        from taiji.reproduce.study import Study, run_study
        from taiji.screen.demo import check_packages
        from taiji.screen.run import RunView

        chosen = "quick" if quick else _one_of(size, get_args(Size), "--size")
        worlds = [_one_of(one, get_args(World), "--world") for one in world or get_args(World)]
        study = Study(folder, worlds, chosen, overrides or [])  # type: ignore[arg-type]
        if dry_run:
            for one, arm in study.runs():
                study.recipe(one, arm)  # whatever cannot be used is said now
                words = f"{run_name(one, arm)}: {' '.join(arm.settings)}, until {arm.until}"
                out.print(words, highlight=False, soft_wrap=True, markup=False)
            return
        check_packages("report")
        view = RunView(out)
        try:
            run_study(
                study,
                view,
                lambda name, n, of: out.print(f"[bold]{name}[/] ({n} of {of})", highlight=False),
            )
        finally:
            view.close()
        from taiji.reproduce.results import write_results

        out.print(str(write_results(study)), highlight=False, soft_wrap=True)


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise ConfigError(f"{option} {value}: one of {', '.join(known)}")
    return value
