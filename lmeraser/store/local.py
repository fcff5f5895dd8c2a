"""A store in a folder of a local disk."""

from __future__ import annotations

import errno
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote

from lmeraser.errors import LostRaceError, ObjectMissingError, StoreError
from lmeraser.store.fence import Fence, check_put_if_absent, unfenced
from lmeraser.store.location import resolved_path
from lmeraser.store.names import check_name

_PARTIAL = ".partial"
# Errors of file systems without hard links; Linux gives EPERM. EACCES is not one: it is a missing permission.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class LocalStore:
    """Objects are files. A write goes to ``.partial/``, is fsynced, and is then linked into place.

    Files have mode 0600 and folders 0700 regardless of the umask: they contain images of people and ids in clear.
    """

    def __init__(self, root: Path) -> None:
        # Names of actors contain it: two spellings of one folder must not be two stores.
        self._root = resolved_path(root)
        self.uri = str(self._root)

    def get(self, name: str) -> bytes:
        with _storage_errors(f"cannot read {name} in {self.uri}"):
            try:
                return self._path(name).read_bytes()
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectMissingError(f"{self.uri} has no object {name}") from error

    def put(self, name: str, data: bytes) -> None:
        with self._written(name, data) as partial:
            self._placed(partial.replace, self._path(name))

    def put_if_absent(self, name: str, data: bytes) -> None:
        with self._written(name, data) as partial:
            try:
                # A hard link, unlike O_EXCL on the final name, never shows a half-written object (decision 5).
                self._placed(lambda target: os.link(partial, target), self._path(name))
            except FileExistsError as error:
                raise LostRaceError(f"{name} in {self.uri} was written by another process first") from error
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                raise StoreError(
                    f"cannot write {name} in {self.uri}: its file system has no hard links ({error.strerror}), which a "
                    "store needs; use a disk with them (ext4, XFS, APFS, NFS), or a bucket"
                ) from error

    def exists(self, name: str) -> bool:
        with _storage_errors(f"cannot look for {name} in {self.uri}"):
            return self._path(name).is_file()

    def names(self, prefix: str = "") -> list[str]:
        start = self._root / prefix.rpartition("/")[0]
        with _storage_errors(f"cannot list {self.uri}"):
            names = (
                (Path(folder) / file).relative_to(self._root).as_posix()
                for folder, _, files in os.walk(start, onerror=_raise_unless_missing)
                for file in files
            )
            return sorted(name for name in names if name.startswith(prefix) and not name.startswith(_PARTIAL))

    def purge(self, name: str, fence: Fence) -> None:
        path = self._path(name)
        if self.exists(name):
            fence()
            self._remove(path, name)

    def purge_below(self, prefix: str, keep: Callable[[str], bool], fence: Fence) -> None:
        doomed = [name for name in self.names(prefix) if not keep(name)]
        if not doomed:
            return
        fence()
        for name in doomed:
            self._remove(self._path(name), name)
        self._remove_empty({self._path(name).parent for name in doomed})
        remaining = sorted(set(doomed).intersection(self.names(prefix)))
        if remaining:
            raise StoreError(
                f"{len(remaining)} object(s) are still listed in {self.uri} after the purge, such as {remaining[0]}"
            )

    def purge_partial(self, keep: Callable[[str], bool], fence: Fence) -> None:
        folder = self._root / _PARTIAL
        with _storage_errors(f"cannot purge unfinished writes in {self.uri}"):
            paths = list(folder.iterdir()) if folder.is_dir() else []
        doomed = [path for path in paths if not keep(unquote(path.name.rpartition("~")[0]))]
        if doomed:
            fence()
        for path in doomed:
            self._remove(path, f"an unfinished write, {path.name},")

    def kept(self) -> Iterator[tuple[str, bytes | None]]:
        seen: set[tuple[int, int]] = set()
        errors: list[OSError] = []
        # Links are followed: a folder may have been moved to another disk.
        for folder, below, files in os.walk(self._root, followlinks=True, onerror=errors.append):
            try:
                status = Path(folder).stat()
            except FileNotFoundError:
                continue
            if (status.st_dev, status.st_ino) in seen:
                below.clear()
                continue
            seen.add((status.st_dev, status.st_ino))
            for path in (Path(folder) / file for file in files):
                try:
                    yield str(path), path.read_bytes()
                except FileNotFoundError:
                    continue
                except OSError:
                    yield str(path), None
        # What cannot be listed may contain anything.
        yield from ((str(error.filename), None) for error in errors if not isinstance(error, FileNotFoundError))

    def below(self, folder: str) -> LocalStore:
        return LocalStore(self._path(folder.removesuffix("/")))

    def check(self) -> None:
        name = f"probe/{uuid.uuid4().hex}"
        self.put(name, b"probe")
        try:
            check_put_if_absent(self, name, "a hard link replaces a file")
        finally:
            self.purge(name, unfenced)

    def _remove(self, path: Path, name: str) -> None:
        with _storage_errors(f"cannot purge {name} in {self.uri}"):
            path.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def _remove_empty(self, folders: set[Path]) -> None:
        """Remove the folders that a purge has emptied, and those above them that are empty then."""
        for folder in folders:
            with suppress(OSError):
                while folder != self._root:
                    # A generation is a store in the store, with unfinished writes of its own.
                    with suppress(OSError):
                        (folder / _PARTIAL).rmdir()
                    folder.rmdir()
                    folder = folder.parent

    def _placed(self, place: Callable[[Path], object], target: Path) -> None:
        """Move or link something to its name; a purge may have removed its folder since that was made."""
        while True:
            try:
                place(target)
                return
            except FileNotFoundError:
                if target.parent.is_dir():
                    raise
                _make_folder(target.parent)

    def _path(self, name: str) -> Path:
        return self._root / check_name(name)

    @contextmanager
    def _written(self, name: str, data: bytes) -> Iterator[Path]:
        """A temporary file with the data, synced to disk; the body moves or links it to its name."""
        target = self._path(name)
        partial = self._root / _PARTIAL / f"{quote(name, safe='')}~{uuid.uuid4().hex}"
        with _storage_errors(f"cannot write {name} in {self.uri}"):
            _make_folder(partial.parent)
            _make_folder(target.parent)
            try:
                with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                yield partial
                _sync_folder(target.parent)
            finally:
                partial.unlink(missing_ok=True)


def _make_folder(folder: Path) -> None:
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        # A purge has removed the folder that it is in.
        _make_folder(folder)
    _sync_folder(folder.parent)


def _raise_unless_missing(error: OSError) -> None:
    """A folder that cannot be listed does not count as empty, unless it was removed in the meantime."""
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def _sync_folder(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage_errors(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{what}: {error.strerror or error}") from error
