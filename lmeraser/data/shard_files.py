"""Which files belong to a source that is cut into files: those below a path, of one kind and one split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pyarrow import fs

from lmeraser.data.listing import HIDDEN, is_hidden, reason_of, visible_files
from lmeraser.data.sample import SourceReport
from lmeraser.data.splits import same_split, split_of
from lmeraser.errors import DataError


def shard_files(
    system: fs.FileSystem, location: str, path: str, suffix: str, split: str, report: SourceReport
) -> list[str]:
    """The file itself, or the files with the suffix below the folder, in the order of their paths.

    Args:
        system: where the file or folder is.
        location: the file or folder in that file system.
        path: the same as the user wrote it, for messages.
        suffix: ".parquet" or ".tar".
        split: take the files of this split; all files when empty, unless their names contain several splits.
        report: counts what is left out.

    Raises:
        DataError: when there is no such file or split, or the split must be named.
    """
    try:
        kind = system.get_file_info(location).type
        files = [location] if kind == fs.FileType.File else sorted(_below(system, location, kind, suffix, report))
    except OSError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    if not files:
        raise DataError(f"{path} and its subfolders hold no {suffix} file; they hold: {report.summary() or 'nothing'}")
    root = "" if kind == fs.FileType.File else f"{location.rstrip('/')}/"
    split_by_file = {file: split_of(file.removeprefix(root) if root else file.rpartition("/")[2]) for file in files}
    splits = sorted({name for name in split_by_file.values() if name})
    if split:
        return _of_split(path, split, split_by_file, splits, report)
    if root and len(splits) > 1:
        raise DataError(f"{path} holds files of the splits {', '.join(splits)}: choose one with `split:`")
    without_split = [file.removeprefix(root) for file, name in split_by_file.items() if not name]
    if root and splits and without_split:
        raise DataError(
            f"{path} holds files of the split {splits[0]}, and {len(without_split)} file(s) whose names contain no "
            f"split, such as {without_split[0]}: `split: {splits[0]}` reads the former alone; to read the others, move "
            "them to a folder of their own"
        )
    return files


def _of_split(
    path: str, split: str, split_by_file: dict[str, str], splits: list[str], report: SourceReport
) -> list[str]:
    chosen = [file for file, name in split_by_file.items() if same_split(name, split)]
    if not chosen:
        reason = f"the splits {', '.join(splits)}" if splits else "no split, so leave `split:` out"
        raise DataError(f"{path} holds no file of the split {split!r}: the names of its files contain {reason}")
    if len(chosen) < len(split_by_file):
        report.left_out["of another split"] += len(split_by_file) - len(chosen)
    return chosen


def _below(system: fs.FileSystem, folder: str, kind: fs.FileType, suffix: str, report: SourceReport) -> Iterator[str]:
    """The files below a folder, without hidden ones and those that Spark names with a leading underscore."""
    if kind == fs.FileType.NotFound:
        hint = ": patterns are not supported, name the folder" if any(sign in folder for sign in "*?[") else ""
        raise DataError(f"there is no file or folder {folder}{hint}")
    if isinstance(system, fs.LocalFileSystem):
        files = [str(file) for file in visible_files(Path(folder), report)]
    else:
        infos = system.get_file_info(fs.FileSelector(folder, recursive=True))
        files = [info.path for info in infos if info.is_file]
    for file in files:
        *folders, name = file.removeprefix(folder).strip("/").split("/")
        own = name[name.rfind(".") :].lower() if "." in name else ""
        if any(is_hidden(part) or part.startswith("_") for part in (*folders, name)):
            report.left_out[HIDDEN] += 1
        elif own == suffix:
            yield file
        else:
            report.left_out[reason_of(own)] += 1
