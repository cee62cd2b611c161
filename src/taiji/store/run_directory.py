"""The run directory: one folder a stage, each vouched for by a manifest that is written last.

    runs/<recipe name>/
        recipe.resolved.yaml
        <stage>/            whole, or not there
            manifest.json   key, inputs, outputs with size and SHA-256, figures, seconds
        <stage>.tmp/        work in progress; reused by the same stage with the same key

A stage's key is the hash of all that its result depends on. The same key means "up to date".
"""

import fcntl
import os
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from taiji.errors import DataError, LockedError, MissingArtifactError, RunDirectoryError
from taiji.store.files import digest_file, digest_value, read_json, replacing, sync, write_json

_MANIFEST = "manifest.json"
_KEY = ".key"


@dataclass(frozen=True)
class Output:
    """One file of an artifact."""

    bytes: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True)
class Manifest:
    """What a stage wrote, from what, and how.

    Attributes:
        key: Hash of code, settings, seed and upstream outputs.
        settings: Hash of each recipe section that the stage reads.
        inputs: The upstream artifacts' own output digests, by stage.
        seconds: Wall time of the last attempt, without earlier ones that were killed.
    """

    stage: str
    key: str
    code: str
    settings: Mapping[str, str]
    inputs: Mapping[str, str]
    seed: int
    seconds: float = 0.0
    finished: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, float | int | str] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)

    @property
    def outputs_digest(self) -> str:
        """One hash over all outputs: what downstream stages depend on."""
        return digest_value({name: output.sha256 for name, output in self.outputs.items()})


class RunDirectory:
    """Reads, begins, commits and verifies the stages of one run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._verified: dict[str, str] = {}  # stage -> key; a digest of gigabytes is taken once

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run directory for one writer; the kernel lets go when the process dies.

        Raises:
            LockedError: Another process holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.seek(0)
                holder = stream.read().strip() or "another process"
                raise LockedError(
                    f"{self.root}: {holder} is writing here: wait, or choose another name=..."
                ) from error
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {socket.gethostname()}")
            stream.flush()
            yield

    def folder(self, stage: str) -> Path:
        """Where the artifact of `stage` lies once it is whole."""
        return self.root / stage

    def manifest(self, stage: str) -> Manifest | None:
        """The manifest of `stage`, or None if it has not finished yet.

        Raises:
            DataError: The manifest is damaged.
        """
        path = self.folder(stage) / _MANIFEST
        if not path.is_file():
            return None
        value: dict[str, Any] = read_json(path)
        try:
            outputs = {name: Output(**output) for name, output in value.pop("outputs").items()}
            return Manifest(**value, outputs=outputs)
        except (TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{path}: not a manifest ({error}): rerun {stage}") from error

    def verify(self, stage: str) -> Path:
        """Check every file of `stage` against its manifest and return the folder.

        Raises:
            MissingArtifactError: The stage has not finished, or a file is gone.
            DataError: A file differs from what was written.
        """
        manifest = self.manifest(stage)
        if manifest is None:
            raise MissingArtifactError(f"{self.folder(stage)}: not there: run that stage first")
        if self._verified.get(stage) == manifest.key:
            return self.folder(stage)
        mend = f"remove it with `rm -r {self.folder(stage)}` and run again"
        for name, output in manifest.outputs.items():
            path = self.folder(stage) / name
            if not path.is_file():
                raise MissingArtifactError(f"{path}: gone: {mend}")
            found = digest_file(path)
            if found != output.sha256:
                raise DataError(f"{path}: is {found}, was written as {output.sha256}: {mend}")
        self._verified[stage] = manifest.key
        return self.folder(stage)

    def begin(self, stage: str, key: str) -> Path:
        """The folder to work in: what a killed run with the same key left, or an empty one.

        Raises:
            RunDirectoryError: In the place of the artifact lies something that no run wrote.
        """
        folder, work = self.folder(stage), self._work(stage)
        if folder.exists() and not (folder / _MANIFEST).is_file():
            raise RunDirectoryError(f"{folder}: holds files that no run wrote: move them away")
        if not (work / _KEY).is_file() or (work / _KEY).read_text() != key:
            if work.exists():
                shutil.rmtree(work)
            work.mkdir(parents=True)
            with replacing(work / _KEY) as temporary:
                temporary.write_text(key)
        for leftover in work.rglob(".*.tmp"):  # of a write that was killed
            leftover.unlink()
        return work

    def commit(self, manifest: Manifest) -> Manifest:
        """Turn the work folder into the artifact: digests, manifest last, then one rename."""
        work = self._work(manifest.stage)
        files = sorted(
            p for p in work.rglob("*") if p.is_file() and p.name not in (_MANIFEST, _KEY)
        )
        outputs = {path.relative_to(work).as_posix(): _describe(path) for path in files}
        whole = Manifest(**{**vars(manifest), "outputs": outputs})
        write_json(asdict(whole), work / _MANIFEST)
        self._publish(manifest.stage)
        self._verified[manifest.stage] = manifest.key
        return whole

    def recover(self, stage: str) -> None:
        """Finish a commit that was killed between its manifest and its rename."""
        if (self._work(stage) / _MANIFEST).is_file():
            self._publish(stage)
        shutil.rmtree(self._old(stage), ignore_errors=True)

    def _publish(self, stage: str) -> None:
        folder, old = self.folder(stage), self._old(stage)
        (self._work(stage) / _KEY).unlink(missing_ok=True)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        self._work(stage).rename(folder)
        sync(self.root)
        shutil.rmtree(old, ignore_errors=True)

    def _work(self, stage: str) -> Path:
        return self.root / f"{stage}.tmp"

    def _old(self, stage: str) -> Path:
        return self.root / f"{stage}.old"


def _describe(path: Path) -> Output:
    rows = pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None
    sync(path)
    return Output(path.stat().st_size, digest_file(path), rows)
