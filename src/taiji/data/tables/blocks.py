"""The text of a file, whole lines at a time, whatever packed or encoded it.

Gzip is known by its first bytes. Other archives and binary files are refused by name: read as
text they would be told as columns of rubbish.
"""

import codecs
import gzip
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from taiji.data.problems import MOST_KEPT, Problem, UnusableError

BLOCK_BYTES = 16 << 20

_UNREADABLE = re.compile("[\ud800-\udfff\0]")
_GZIP = b"\x1f\x8b"
_BINARY = {
    b"\xfd7zXZ\0": "packed by xz",
    b"\x28\xb5\x2f\xfd": "packed by Zstandard",
    b"7z\xbc\xaf": "packed by 7-Zip",
    b"PK\x03\x04": "a zip archive or an Excel workbook",
    b"\xd0\xcf\x11\xe0": "an Excel workbook of the old kind",
    b"SQLite format 3\0": "an SQLite database",
    b"ARROW1\0\0": "an Arrow file",
    b"Obj\x01": "an Avro file",
    b"PAR1\x15": "Parquet",
}
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")
# UTF-32's mark begins with UTF-16's, so it comes first.
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
    codecs.BOM_UTF8: "utf-8",
}


@dataclass(frozen=True)
class BrokenRow:
    """A row that does not parse: where it stood, why, how it begins, how many of its kind."""

    file: str
    row: int
    reason: str
    text: str
    place: int


@dataclass
class Reading:
    """What a pass over text files met.

    Attributes:
        num_broken: Rows that do not parse, by reason.
        broken: The first of them.
        num_replaced: Characters that became U+FFFD.
        first_replaced: File and line of the first of those.
        num_backslashes: Quotes behind a backslash, where backslashes mean nothing.
        some_files: Column -> a file without it, where other files have it.
    """

    num_broken: dict[str, int] = field(default_factory=dict)
    broken: list[BrokenRow] = field(default_factory=list)
    num_replaced: int = 0
    first_replaced: str = ""
    num_backslashes: int = 0
    some_files: dict[str, str] = field(default_factory=dict)

    def copy(self) -> "Reading":
        """The same, to be added to."""
        return replace(
            self,
            num_broken=dict(self.num_broken),
            broken=list(self.broken),
            some_files=dict(self.some_files),
        )

    def refuse(self, file: str, row: int, reason: str, text: str) -> None:
        """Count a row that does not parse."""
        self.num_broken[reason] = place = self.num_broken.get(reason, 0) + 1
        if place <= MOST_KEPT:
            self.broken.append(BrokenRow(file, row, reason, text[:200], place))

    def repaired(self, text: str, where: str) -> str:
        """Put U+FFFD where `text` has a lone surrogate or a NUL, and count them."""
        clean, number = _UNREADABLE.subn("\ufffd", text)
        if number:
            self.first_replaced = self.first_replaced or where
            self.num_replaced += number
        return clean


def text_blocks(path: Path, encoding: str, reading: Reading) -> Iterator[str]:
    r"""Yield a file's text, whole lines at a time, without a byte-order mark.

    Lines end in `\n`, also where the file knows only `\r`.

    Raises:
        UnusableError: The file is no text, or not in this encoding.
        UnicodeError: It is damaged in a way that the encoding cannot step over.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors="surrogateescape")
    carried, num_lines, opening, only_returns = "", 0, True, False
    with _open(path) as stream:
        while True:
            data = stream.read(BLOCK_BYTES // 4)
            if opening:
                _refuse_other_marks(path, data, encoding)
            decoded = decoder.decode(data, final=not data)
            if opening and decoded:
                decoded, opening = decoded.removeprefix("\ufeff"), False
                _refuse_nul(path, decoded[:4096], encoding)
                only_returns = "\r" in decoded and "\n" not in decoded
            text = carried + (decoded.replace("\r", "\n") if only_returns else decoded)
            cut = len(text) if not data else text.rfind("\n") + 1
            block, carried = text[:cut], text[cut:]
            if block:
                where = f"{path}, line {_line_of_fault(block, num_lines)}"
                num_lines += block.count("\n")
                yield reading.repaired(block, where)
            if not data:
                return


def unusable(code: str, where: Path | str, what: str, mend: str) -> UnusableError:
    """An error that ends the reading of a table."""
    return UnusableError(Problem(code, str(where), what, mend, fatal=True))


def refuse_packed(path: Path) -> None:
    """Archives and binary files by their first bytes; gzip passes.

    Raises:
        UnusableError: The file is one of them.
    """
    start = _start(path)
    for magic, what in _BINARY.items():
        if start.startswith(magic):
            raise unusable("E102", path, f"is {what}", "unpack it, or write it as CSV or Parquet")
    if _BZIP2.match(start):
        raise unusable("E102", path, "is packed by bzip2", "unpack it")


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(16)


def _open(path: Path) -> IO[bytes]:
    if _start(path).startswith(_GZIP):
        return gzip.open(path)  # type: ignore[return-value]
    refuse_packed(path)
    return path.open("rb")


def _refuse_other_marks(path: Path, data: bytes, encoding: str) -> None:
    """A byte-order mark says what a file is in; another encoding would read rubbish."""
    name = codecs.lookup(encoding).name
    for mark, marked in _MARKS.items():
        if data.startswith(mark):
            if not name.startswith(marked):
                what = f"begins with the byte-order mark of {marked}, not {encoding}"
                raise unusable("E102", path, what, f"set encoding: {marked}")
            return


def _refuse_nul(path: Path, text: str, encoding: str) -> None:
    if "\0" in text:
        what = f"holds NUL characters: it is binary, or not in {encoding}"
        raise unusable("E102", path, what, "set encoding, such as utf-16-le")


def _line_of_fault(block: str, num_before: int) -> int:
    fault = _UNREADABLE.search(block)
    return num_before + block.count("\n", 0, fault.start() if fault else 0) + 1
