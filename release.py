"""What a release carries beside its wheel, and the checks that it fits together.

    make release

Writes into dist/: requirements.txt with the hash of every file that may be installed, sbom.json
(CycloneDX), licences.md. It stops where the version has no section in the CHANGELOG, the wheel is
of another version, a dependency has no licence, or an environment made of the locked requirements
and the wheel alone does not run.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent
EXTRA = "demo"
NO_LICENCE = ("", "UNKNOWN")
# Packages that name their licence in a file alone; read by hand.
READ_BY_HAND: dict[str, str] = {}


def version() -> str:
    """The version in `taiji/__init__.py`."""
    text = (ROOT / "src/taiji/__init__.py").read_text(encoding="utf-8")
    found = re.search(r'__version__ = "([^"]+)"', text)
    assert found is not None, "taiji/__init__.py names no version"
    return found.group(1)


def check_changelog(text: str, released: str) -> None:
    """The newest section is of this version and says something.

    Raises:
        SystemExit: It is not.
    """
    heads = re.findall(r"^## (\S+)", text, re.MULTILINE)
    if not heads or heads[0] != released:
        raise SystemExit(f"CHANGELOG.md: begins with {heads[:1]}, the version is {released}")
    body = text.partition(f"## {released}")[2].partition("\n## ")[0]
    if not re.search(r"^- ", body, re.MULTILINE):
        raise SystemExit(f"CHANGELOG.md: nothing under {released}")


def check_wheel(folder: Path, released: str) -> Path:
    """The one wheel of this version, with its licence, its templates and its recipes.

    Raises:
        SystemExit: It is not there or lacks something.
    """
    wheels = sorted(folder.glob(f"taiji_rec-{released}-*.whl"))
    if len(wheels) != 1:
        raise SystemExit(f"{folder}: {len(wheels)} wheels of {released}: `make clean wheel`")
    with zipfile.ZipFile(wheels[0]) as archive:
        names = archive.namelist()
    wanted = ("licenses/LICENSE", "taiji/report/page.js", "taiji/recipes/demo.yaml", "py.typed")
    for name in wanted:
        if not any(found.endswith(name) for found in names):
            raise SystemExit(f"{wheels[0]}: holds no {name}")
    return wheels[0]


def lock(tools: Path, out: Path) -> Path:
    """Every dependency of the package and its demo, with the hashes of its files."""
    path = out / "requirements.txt"
    run(
        [str(tools / "uv"), "pip", "compile", "pyproject.toml", "--extra", EXTRA],
        *("--generate-hashes", "--constraint", "constraints.txt", "--python-version", "3.11"),
        *("--universal", "--quiet", "--no-header", "--output-file", str(path)),
    )
    return path


def licence_table(rows: Sequence[dict[str, str]]) -> str:
    """Name, version and licence of each dependency, as Markdown.

    Raises:
        SystemExit: One has none.
    """
    rows = [
        {**row, "License": READ_BY_HAND.get(row["Name"], row["License"])}
        for row in sorted(rows, key=lambda row: row["Name"].lower())
    ]
    without = [row["Name"] for row in rows if row["License"].strip() in NO_LICENCE]
    if without:
        raise SystemExit(f"no licence is known of {', '.join(without)}: read it, then name it here")
    lines = [
        "# Licences of all dependencies",
        "",
        "| package | version | licence |",
        "|---|---|---|",
    ]
    for row in rows:
        licence = " ".join(row["License"].split())[:120].replace("|", "/")
        lines.append(f"| {row['Name']} | {row['Version']} | {licence} |")
    return "\n".join(lines) + "\n"


def run(command: Sequence[str], *further: str, env: dict[str, str] | None = None) -> str:
    """Run a tool and give back what it printed.

    Raises:
        SystemExit: It failed; its complaint is shown.
    """
    whole = [*command, *further]
    done = subprocess.run(whole, cwd=ROOT, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(whole)}:\n{done.stderr or done.stdout}")
    return done.stdout


def install(tools: Path, wheel: Path, requirements: Path, folder: Path) -> Path:
    """An empty environment with the locked requirements and the wheel; its Python."""
    uv = str(tools / "uv")
    run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)])
    python = str(folder / "bin" / "python")
    run(
        [uv, "pip", "install", "--quiet", "--python", python],
        *("--require-hashes", "--requirement", str(requirements)),
    )
    run([uv, "pip", "install", "--quiet", "--no-deps", "--python", python, str(wheel)])
    return Path(python)


def main() -> None:
    """Write and check everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tools", type=Path, required=True, help="where uv and the others are")
    parser.add_argument("--out", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    tools, out = arguments.tools.absolute(), arguments.out
    released = version()
    check_changelog((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), released)
    wheel = check_wheel(out, released)
    requirements = lock(tools, out)
    python = install(tools, wheel, requirements, out / ".venv")
    sbom = run([str(tools / "cyclonedx-py"), "environment", str(python), "--of", "JSON"])
    (out / "sbom.json").write_text(sbom, encoding="utf-8")
    found = run([str(tools / "pip-licenses"), "--python", str(python), "--format", "json"])
    (out / "licences.md").write_text(licence_table(json.loads(found)), encoding="utf-8")
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    said = run([str(python), "-m", "taiji.cli", "version"], env=clean).strip()
    if said != released:
        raise SystemExit(f"{wheel}: says that it is {said}")
    names = [path.name for path in sorted(out.iterdir()) if not path.name.startswith(".")]
    sys.stdout.write(f"{released}: {', '.join(names)}\n")


if __name__ == "__main__":
    main()
