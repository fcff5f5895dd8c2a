"""Files of ids: one id per line, as people and other programs write them.

Byte order marks, line ends and quotation marks belong to the file; everything else on a line belongs to the id, blanks
at its ends too. A file that is not a plain list of ids is refused, rather than read as ids that no row has.
"""

from __future__ import annotations

import codecs
import re
import sys
from pathlib import Path
from typing import Annotated

import typer

from cluster.cli.options import read_file
from lmeraser.errors import ConfigError
from lmeraser.ids import fault_of_id

STANDARD_INPUT = Path("-")
SHAPE = "one id per line, in UTF-8"
IdsFile = Annotated[
    Path | None, typer.Option("--ids-file", help="File of sample ids, one per line; - for standard input.")
]
SubjectsFile = Annotated[
    Path | None, typer.Option("--subjects-file", help="File of subject ids, one per line; - for standard input.")
]
SampleIds = Annotated[list[str] | None, typer.Option("--sample-id", help="A sample.")]
SubjectIds = Annotated[list[str] | None, typer.Option("--subject-id", help="A subject.")]
_HEADERS = {f"{what}{rest}" for what in ("sample", "subject") for rest in ("", "s", "_id", "_ids")} | {"id", "ids"}
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# A quoted id ends where its line ends; in quotes, "" stands for one ", and a line break is part of the id.
_LINE = re.compile(r'\ufeff?(?:"(?P<quoted>(?:[^"]|"")*)"(?=[\r\n]|\Z)|(?P<plain>[^\r\n]*))(?:\r\n|\r|\n|\Z)')


def read_ids(samples: Path | None, subjects: Path | None = None) -> tuple[list[str], list[str]]:
    """The ids in a file of sample ids and in a file of subject ids, without repetitions, in the order of the file.

    Raises:
        ConfigError: when a file cannot be read, holds no id or is not a list of ids, or both are standard input.
    """
    if samples == subjects == STANDARD_INPUT:
        raise ConfigError("--ids-file and --subjects-file are both -: standard input can only be read once")
    return _read(samples), _read(subjects)


def read_named(
    samples_file: Path | None, subjects_file: Path | None, sample_ids: list[str] | None, subject_ids: list[str] | None
) -> tuple[list[str], list[str]]:
    """The ids of samples and of subjects that files and options name.

    Raises:
        ConfigError: as :func:`read_ids` and :func:`check_given`; or when nothing is named.
    """
    samples, subjects = read_ids(samples_file, subjects_file)
    samples += check_given(sample_ids, "--sample-id")
    subjects += check_given(subject_ids, "--subject-id")
    if not samples and not subjects:
        raise ConfigError("nothing is named: give --ids-file, --subjects-file, --sample-id or --subject-id")
    return samples, subjects


def check_given(ids: list[str] | None, option: str) -> list[str]:
    """The ids that an option gives; none without the option.

    Raises:
        ConfigError: when one is empty, too long or not UTF-8.
    """
    for identifier in ids or []:
        _check_id(identifier, f"the id of {option}")
    return ids or []


def odd_ids(ids: list[str]) -> str:
    """What may be wrong with unknown ids, as the end of a sentence; empty if they look right."""
    hints = []
    if blanks := [identifier for identifier in ids if identifier != identifier.strip()]:
        hints.append(f"{blanks[0]!r} has blanks at its ends, and they are part of the id")
    if columns := [identifier for identifier in ids if re.search(r"[,;\t]", identifier)]:
        hints.append(f"{columns[0]!r} may be a line of several columns; allowed is {SHAPE}")
    return "".join(f"; {hint}" for hint in hints)


def _read(file: Path | None) -> list[str]:
    if file is None:
        return []
    source = "standard input" if file == STANDARD_INPUT else str(file)
    data = sys.stdin.buffer.read() if file == STANDARD_INPUT else read_file(file)
    ids = list(dict.fromkeys(_ids(_decoded(data, source), source)))
    if not ids:
        raise ConfigError(f"{source} holds no id; allowed is {SHAPE}")
    return ids


def _decoded(data: bytes, source: str) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"{source} is not {encoding.upper().removesuffix('-SIG')}: byte 0x{data[error.start]:02x} in line {line}; "
            f"allowed is {SHAPE}, or UTF-16 with a byte order mark: `iconv -f latin1 -t utf-8` converts Latin-1"
        ) from error
    if "\0" in text:
        raise ConfigError(
            f"{source} holds NUL characters, as UTF-16 without a byte order mark does; allowed is {SHAPE}"
        )
    return text


def _ids(text: str, source: str) -> list[str]:
    ids: list[str] = []
    position, number = 0, 1
    while position < len(text):
        match = _LINE.match(text, position)
        assert match is not None
        quoted, plain = match["quoted"], match["plain"]
        line = f"line {number} of {source}"
        identifier = _unquoted(quoted, line) if quoted is not None else _plain(plain, line)
        if identifier and not ids:
            _check_not_header(identifier, line)
        if identifier:
            _check_id(identifier, f"the id in {line}")
            ids.append(identifier)
        number += len(re.findall(r"\r\n|\r|\n", match[0]))
        position = match.end()
    return ids


def _check_id(identifier: str, what: str) -> None:
    if (fault := fault_of_id(identifier)) is not None:
        raise ConfigError(f"{what} {fault}")


def _unquoted(quoted: str, line: str) -> str:
    if not quoted:
        raise ConfigError(f"{line} is an empty id in quotation marks; allowed is {SHAPE}")
    return quoted.replace('""', '"')


def _plain(text: str, line: str) -> str:
    """The line unchanged; empty if it holds only blanks."""
    if text.startswith("#"):
        raise ConfigError(f'{line} begins with #: a comment is not an id; put an id that begins with # in quotes: "#7"')
    if text.startswith('"'):
        raise ConfigError(
            f"{line} begins with a quotation mark and does not end with one; allowed is {SHAPE}, without further "
            'columns, and "" for a quotation mark in a quoted id'
        )
    return text if text.strip() else ""


def _check_not_header(first: str, line: str) -> None:
    fields = {name.strip(' "').casefold() for name in re.split(r"[,;\t]", first)}
    if fields & _HEADERS:
        raise ConfigError(
            f"{line}, {first!r}, is the header of a table; allowed is {SHAPE}: remove the header and all other "
            "columns. An id of that name can be given with --sample-id or --subject-id"
        )
