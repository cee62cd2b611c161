import importlib.util
import zipfile
from pathlib import Path

import pytest

from taiji import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release", ROOT / "release.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_changelog_begins_with_the_version_of_the_code(release):
    assert release.version() == __version__
    release.check_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), __version__)


@pytest.mark.parametrize(
    ("text", "told"),
    [("# Changelog\n\n## 0.1\n\n- a\n", "begins with"), ("## 9.9\n\n## 0.1\n- a\n", "nothing")],
)
def test_a_version_that_nobody_described_is_not_released(release, text, told):
    with pytest.raises(SystemExit, match=told):
        release.check_changelog(text, "9.9")


def test_a_wheel_without_its_templates_is_not_released(release, tmp_path):
    with pytest.raises(SystemExit, match="0 wheels"):
        release.check_wheel(tmp_path, "9.9")
    with zipfile.ZipFile(tmp_path / "taiji_rec-9.9-py3-none-any.whl", "w") as archive:
        archive.writestr("taiji_rec-9.9.dist-info/licenses/LICENSE", "")
    with pytest.raises(SystemExit, match=r"holds no taiji/report/page\.js"):
        release.check_wheel(tmp_path, "9.9")


def test_a_dependency_without_a_licence_is_named(release):
    row = {"Name": "kind", "Version": "1", "License": "MIT\nLicense | more"}
    assert "| kind | 1 | MIT License / more |" in release.licence_table([row])
    with pytest.raises(SystemExit, match="no licence is known of strange"):
        release.licence_table([row, {"Name": "strange", "Version": "2", "License": "UNKNOWN"}])
