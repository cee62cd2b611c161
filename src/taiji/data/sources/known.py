"""Every known source as the description of its tables: a ready-made mapping and its files."""

from pathlib import Path

from taiji.config.sources import (
    AmazonSource,
    MindSource,
    MovielensSource,
    PlantedSource,
    RecboleSource,
    TablesSource,
)
from taiji.data.problems import Problem, UnusableError
from taiji.data.sources import amazon, mind, movielens, planted, recbole

Described = (
    TablesSource | MovielensSource | AmazonSource | MindSource | RecboleSource | PlantedSource
)


def described(source: Described) -> TablesSource:
    """Return what the files of a known source hold, field by field.

    Raises:
        UnusableError: The path does not hold the files of that source.
    """
    if isinstance(source, PlantedSource):
        return planted.describe(source)
    folder = Path(source.path).expanduser()
    if not folder.is_dir():
        mend = "unpack the data there, or set data.source.path"
        raise UnusableError(Problem("E101", str(folder), "no such folder", mend, fatal=True))
    if isinstance(source, TablesSource):
        return source
    return _described(source, folder).model_copy(update={"allow": source.allow})


def _described(
    source: MovielensSource | AmazonSource | MindSource | RecboleSource, folder: Path
) -> TablesSource:
    match source:
        case MovielensSource():
            return movielens.describe(folder)
        case AmazonSource():
            return amazon.describe(folder, source.category)
        case MindSource():
            return mind.describe(folder, source)
        case RecboleSource():
            return recbole.describe(folder, source)
