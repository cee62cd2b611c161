"""The run directory: one folder a stage, each vouched for by a manifest that is written last.

    runs/<recipe name>/
        recipe.resolved.yaml
        .digests.json       digests of files with the state in which they were taken
        attempts.jsonl      a line each time that a stage begins, with whether it goes on
        <stage>/            whole, or not there; nothing that its manifest does not name
            manifest.json   key, inputs, outputs with size and SHA-256, figures, seconds
        <stage>.tmp/        work in progress
            .parts/         what a killed run had finished; reused by the same stage with its key

A stage's key is the hash of all that its result depends on. The same key means "up to date".
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from taiji.errors import DataError, MissingArtifactError, RunDirectoryError
from taiji.store import manifest as manifests
from taiji.store.digests import KnownDigests
from taiji.store.files import replacing, sync
from taiji.store.lock import locked
from taiji.store.manifest import Manifest, Output

__all__ = ["ATTEMPTS", "UNFINISHED", "Manifest", "Output", "RunDirectory"]

ATTEMPTS = "attempts.jsonl"
UNFINISHED = ".parts"
_KEY = ".key"


class RunDirectory:
    """Reads, begins, commits and verifies the stages of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests = KnownDigests(root / ".digests.json")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory for one writer; the kernel lets go when the process dies.

        Raises:
            LockedError: Another process holds it.
            RunDirectoryError: It cannot be written to.
        """
        with locked(self.root):
            for leftover in self.root.glob(".*.tmp"):  # of a write that was killed
                leftover.unlink(missing_ok=True)
            yield

    def refuse_if_held(self) -> None:
        """Ask for the lock and let go: nobody should load models first to be told to wait.

        Raises:
            LockedError: Another process holds it.
        """
        if self.root.is_dir():
            with locked(self.root):
                pass

    def folder(self, stage: str) -> Path:
        """Where the artifact of `stage` lies once it is whole."""
        return self.root / stage

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of `stage`, or None if it has not finished yet.

        Raises:
            DataError: The manifest is damaged, edited, or that of another stage.
        """
        path = self.folder(stage) / manifests.NAME
        found = manifests.read_manifest(path)
        if found is not None and found.stage != stage:
            raise DataError(f"{path}: is that of {found.stage}: remove {path.parent} and run again")
        return found

    def verify(self, stage: str, *, contents: bool = True) -> Path:
        """Check every file of `stage` against its manifest and return the folder.

        Args:
            stage: Its name.
            contents: Read every file, unless this process has read it and it has not changed
                since. If not: read only what has changed since it was last read by anybody.

        Raises:
            MissingArtifactError: The stage has not finished, or a file is gone.
            DataError: A file differs from what was written, or nobody wrote it.
        """
        manifest, folder = self.manifest(stage), self.folder(stage)
        if manifest is None:
            raise MissingArtifactError(f"{folder}: not there: run that stage first")
        mend = f"remove it with `rm -r {folder}` and run again"
        digest_of = self.digests.taken if contents else self.digests.known
        for name, output in manifest.outputs.items():
            path = folder / name
            if not path.is_file():
                raise MissingArtifactError(f"{path}: gone: {mend}")
            found = digest_of(path)
            if found != output.sha256:
                raise DataError(f"{path}: is {found}, was written as {output.sha256}: {mend}")
        strangers = _files(folder) - set(manifest.outputs) - {manifests.NAME}
        if strangers:
            raise DataError(
                f"{folder / min(strangers)}: no run wrote it ({len(strangers)} such files): move "
                "it away"
            )
        return folder

    def begin(self, stage: str, key: str) -> Path:
        """The folder to work in: empty, but for the parts that a run with the same key finished.

        Raises:
            RunDirectoryError: In the place of the artifact, or of the work, lies something that
                no run wrote.
        """
        folder, work = self.folder(stage), self._work(stage)
        if os.path.lexists(folder) and not (folder / manifests.NAME).is_file():
            raise RunDirectoryError(f"{folder}: holds files that no run wrote: move them away")
        if work.is_symlink() or (work.exists() and not work.is_dir()):
            raise RunDirectoryError(f"{work}: is no folder that a run made: move it away")
        if _key_of(work) == key:
            _sweep(work, keep=(_KEY, UNFINISHED))
            for leftover in (work / UNFINISHED).rglob(".*.tmp"):  # of a write that was killed
                leftover.unlink()
            return work
        if work.exists():
            shutil.rmtree(work)
        work.mkdir(parents=True)
        with replacing(work / _KEY) as temporary:
            temporary.write_text(key)
        return work

    def commit(self, manifest: Manifest) -> Manifest:
        """Turn the work folder into the artifact: digests, manifest last, then one rename.

        What is hidden (`.parts`, scratch) stays out of it.
        """
        work = self._work(manifest.stage)
        outputs = {name: self._describe(work / name) for name in sorted(_shown(work))}
        whole = replace(manifest, outputs=outputs)
        with replacing(work / manifests.NAME) as temporary:
            temporary.write_text(manifests.sealed(whole), encoding="utf-8")
        self._publish(manifest.stage)
        return whole

    def recover(self, stage: str) -> None:
        """Finish a commit that was killed between its manifest and its rename."""
        work = self._work(stage)
        with suppress(DataError):  # a damaged one is swept when the stage begins
            whole = manifests.read_manifest(work / manifests.NAME) is not None
            if whole and not work.is_symlink():
                self._publish(stage)
        shutil.rmtree(self._old(stage), ignore_errors=True)

    def _describe(self, path: Path) -> Output:
        rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
        sync(path)
        return Output(path.stat().st_size, self.digests.taken(path), rows)

    def _publish(self, stage: str) -> None:
        folder, work, old = self.folder(stage), self._work(stage), self._old(stage)
        for path in sorted(work.rglob(".*"), reverse=True):
            _remove(path)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        work.rename(folder)
        sync(self.root)
        shutil.rmtree(old, ignore_errors=True)

    def _work(self, stage: str) -> Path:
        return self.root / f"{stage}.tmp"

    def _old(self, stage: str) -> Path:
        return self.root / f"{stage}.old"


def _key_of(work: Path) -> str | None:
    try:
        return (work / _KEY).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _sweep(folder: Path, keep: tuple[str, ...]) -> None:
    for path in folder.iterdir():
        if path.name not in keep:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _files(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def _shown(folder: Path) -> set[str]:
    """Files that neither are hidden nor lie in a hidden folder."""
    names = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {
        name.as_posix()
        for name in names
        if name.as_posix() != manifests.NAME
        and not any(part.startswith(".") for part in name.parts)
    }
