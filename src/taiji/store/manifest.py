"""The manifest of an artifact: what a stage wrote, from what, and how; sealed by its own digest.

Whatever is edited by hand or damaged on the disk is refused: a field that is missing, unknown, of
another type or out of its range, a digest that does not fit, even another order of the lines.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from taiji.errors import DataError
from taiji.pipeline import STAGES
from taiji.store.files import digest_value, json_text

NAME = "manifest.json"

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_NAMES = frozenset(stage.name for stage in STAGES)


def _a_stage(name: str) -> str:
    if name not in _NAMES:
        raise ValueError("no such stage")
    return name


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    hidden = any(part.startswith(".") for part in path.parts)  # `..` too
    if path.is_absolute() or hidden or path.as_posix() != name or name == NAME:
        raise ValueError("no name of an output")
    return name


Digest = Annotated[str, Field(pattern=r"\Asha256:[0-9a-f]{64}\z")]
Stage = Annotated[str, AfterValidator(_a_stage)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, config=_STRICT)
class Output:
    """One file of an artifact."""

    bytes: Count
    sha256: Digest
    rows: Count | None = None


@dataclass(frozen=True, config=_STRICT)
class Manifest:
    """What a stage wrote, from what, and how.

    Attributes:
        key: Hash of code, settings, seed, contents and upstream outputs.
        settings: Hash of each recipe section that the stage reads, and of what they name.
        inputs: The upstream artifacts' own output digests, by stage.
        seconds: Wall time of the last attempt, without earlier ones that were killed.
        finished: When, in UTC, as 2026-01-31T12:00:00+00:00.
    """

    stage: Stage
    key: Digest
    code: Digest
    settings: Mapping[str, Digest]
    inputs: Mapping[Stage, Digest]
    seed: Count
    seconds: Annotated[float, Field(ge=0)] = 0.0
    finished: Annotated[str, Field(pattern=r"\A(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00)?\z")] = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, float | int | str] = field(default_factory=dict)
    outputs: Mapping[Annotated[str, AfterValidator(_inside)], Output] = field(default_factory=dict)

    @property
    def outputs_digest(self) -> str:
        """One hash over all outputs: what downstream stages depend on."""
        return digest_value({name: output.sha256 for name, output in self.outputs.items()})


_ADAPTER = TypeAdapter(Manifest)


def sealed(manifest: Manifest) -> str:
    """The text of `manifest.json`."""
    value = asdict(manifest)
    return json_text(value | {"digest": digest_value(value)})


def read_manifest(path: Path) -> Manifest | None:
    """Read a manifest; None if there is none.

    Raises:
        DataError: It is not what a run wrote; says how to mend it.
    """
    try:
        text = path.read_bytes().decode()
        value = json.loads(text)
        seal = value.pop("digest")
        manifest = _ADAPTER.validate_json(json.dumps(value))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(key) for key in first["loc"])
        raise _damaged(path, f"{where}: {first['msg'].lower()}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OSError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from error
    if seal != digest_value(value) or text != sealed(manifest):
        raise _damaged(path, "was changed after the run wrote it")
    return manifest


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"{path}: not a manifest that this version wrote ({why}): remove the artifact with "
        f"`rm -r {path.parent}` and run again"
    )
