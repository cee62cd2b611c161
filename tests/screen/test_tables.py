import io

import finished_run
import pytest
from rich.console import Console

from taiji.errors import MissingArtifactError
from taiji.screen.tables import print_tables
from taiji.store.run_directory import RunDirectory


def shown(directory: RunDirectory, width: int) -> str:
    stream = io.StringIO()
    print_tables(directory, Console(file=stream, width=width))
    return stream.getvalue()


@pytest.mark.parametrize("width", [80, 120, 200])
def test_all_tables_fit_the_width(tmp_path, width):
    text = shown(finished_run.write(tmp_path / "run"), width)
    assert max(map(len, text.splitlines())) <= width
    for title in ("Table 1.", "Table 3.", "Table 4.", "Ranking with language features"):
        assert title in text


def test_what_has_not_run_is_a_sentence_and_no_row(tmp_path):
    text = shown(finished_run.write(tmp_path / "run"), 200)
    assert "Not run: GRPO, fixed weights; POPO-light." in " ".join(text.split())


def test_a_run_without_figures_says_which_stages_bring_them(tmp_path):
    with pytest.raises(MissingArtifactError, match="`rank` and `evaluate`"):
        shown(RunDirectory(tmp_path), 80)
