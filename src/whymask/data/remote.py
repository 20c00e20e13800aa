"""Files behind addresses that fsspec knows, such as s3://, gs:// and https://: found, asked for again where the network
fails, and fetched into the store's folder, where a command that was stopped goes on."""

import errno
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from filelock import FileLock

from whymask.data.braces import braced, refuse_missing
from whymask.data.protocols import check_address, protocol_of
from whymask.data.stamps import digest_of
from whymask.disk import sync_file
from whymask.errors import WhymaskError
from whymask.report.text import in_bytes

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

PAUSES = (1.0, 2.0, 4.0)
"""Seconds before a file is asked for again: so many times and once."""
CONNECT, SILENT = 10.0, 60.0
"""Seconds after which a web server is taken not to answer: at first, and within a file."""
AT_ONCE = 16
"""Files that are asked for at a time."""
CHUNK = 2**23
"""Bytes that are asked for at a time."""
SPARED = 2**30
"""Bytes of the disk that stay free."""
DIGESTS = ("ETag", "etag", "Content-MD5", "md5Hash", "generation")
MOMENTS = ("Last-Modified", "LastModified", "last_modified", "mtime", "updated", "created")
"""What file systems tell by which a file is known to be another, beside its size; the moment where there is no digest.
A listing must tell what a question for the one file tells."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FINAL = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError, NotImplementedError, ImportError)

T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A file that is not here: its address, its size, None where nothing tells it, and what changes when it does."""

    address: str
    size: int | None
    token: str

    @property
    def name(self) -> str:
        return digest_of([self.address, self.token])


def system_of(address: str) -> tuple["AbstractFileSystem", str]:
    """The file system behind an address, and the path there. Raises WhymaskError where there is none, or no driver."""
    from fsspec.core import url_to_fs

    check_address(address)
    options: dict[str, Any] = {}
    if protocol_of(address) in ("http", "https"):
        import aiohttp

        options["client_kwargs"] = {"timeout": aiohttp.ClientTimeout(None, sock_connect=CONNECT, sock_read=SILENT)}
    try:
        system, path = url_to_fs(address, **options)
    except (ImportError, ValueError) as error:  # a driver of another kind of address
        raise WhymaskError(f"{address}: its file system cannot be used ({error}); install or correct that") from error
    return system, path


def retried(address: str, work: Callable[[], T]) -> T:
    """What `work` gives, tried anew after PAUSES where the network fails; at once no more where the file is not there.

    Raises WhymaskError, which says why, and OSError where this machine's disk is full.
    """
    for pause in (*PAUSES, None):
        try:
            return work()
        except WhymaskError:
            raise
        except Exception as raised:  # whatever the package raises that asks
            error = _behind(raised)
            if isinstance(error, OSError) and error.errno in NO_ROOM:
                raise
            if pause is None or not _may_pass(error):
                tries = f" after {len(PAUSES) + 1} tries" * (pause is None)
                raise WhymaskError(f"{address} cannot be read{tries} ({why_of(error)})") from error
        time.sleep(pause)
    raise AssertionError


def _behind(error: BaseException) -> BaseException:
    """Why a file is said not to be there, where nothing answers: so fsspec tells it of web servers."""
    while isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        error = error.__cause__
    return error


def _may_pass(error: BaseException) -> bool:
    status = getattr(error, "status", 500)
    return not isinstance(error, FINAL) and (status in (408, 425, 429) or status >= 500)


def why_of(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no answer"
    return f"not there: {text}" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {text}"


def files_at(given: str) -> list[Remote]:
    """The files of an address, sorted: itself, those of a folder or of a pattern such as s3://photos/*.parquet, or in
    the order of braces. Raises WhymaskError where one of braces is not there, and where there is none."""
    names = braced(given)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(_found, names))
    if len(names) > 1:
        refuse_missing(given, names, [name for name, files in zip(names, found, strict=True) if not files])
    files = [file for several in found for file in several]
    if not files:
        raise WhymaskError(f"{given}: there is no such file or folder; check the address")
    return files


def _found(address: str) -> list[Remote]:
    system, path = system_of(address)

    def ask() -> list[Remote]:
        if "*" in path:
            found = system.glob(path, detail=True)
        else:
            about = system.info(path)
            found = {path: about} if about["type"] != "directory" else system.find(path, detail=True)
        return [_remote(system, name, about) for name, about in sorted(found.items()) if about["type"] == "file"]

    try:
        return retried(address, ask)
    except WhymaskError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return []
        raise WhymaskError(f"{error}; check the address and the connection") from error


def _remote(system: "AbstractFileSystem", path: str, about: dict[str, Any]) -> Remote:
    said: Any = next((about[name] for name in (*DIGESTS, *MOMENTS) if about.get(name) is not None), None)
    told = said.timestamp() if hasattr(said, "timestamp") else str(said).strip('"')
    return Remote(str(system.unstrip_protocol(path)), about.get("size"), digest_of([f"{told} {about.get('size')}"]))


class Fetched:
    """Files on this disk, in `folder`, each fetched when it is asked for, whole or not at all. Where the disk has no
    room for a further one, those that were used longest ago make room."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.used: dict[Path, float] = {}

    def __contains__(self, name: str) -> bool:
        return (self.folder / name).exists()

    def __call__(self, name: str, size: int | None, bring: Callable[[Path], None]) -> Path:
        """The file of this name; where it is not there, `bring` writes it, to the end of what it is given.

        Raises WhymaskError where the disk is full; what is written stays, for the same command to go on from.
        """
        path, part = self.folder / name, self.folder / f"{name}.part"
        try:
            if not path.exists():
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.folder / f"{name}.lock"):
                    if not path.exists():
                        self._make_room((size or 0) - (part.stat().st_size if part.exists() else 0))
                        bring(part)
                        part.rename(path)
        except OSError as error:
            raise WhymaskError(
                f"{self.folder}: what is fetched cannot be written there ({error}); a folder with room was expected; "
                "make room, or give another cache folder: the same command goes on with what is there"
            ) from error
        self.used[path] = time.monotonic()
        return path

    def drop(self, names: Iterable[str]) -> None:
        """Remove these files, which are not needed any more."""
        for name in names:
            for left in (name, f"{name}.lock"):
                (self.folder / left).unlink(missing_ok=True)

    def _make_room(self, needed: int) -> None:
        for path in sorted(self.used, key=lambda path: self.used[path]):
            if free_bytes(self.folder) >= needed + SPARED:
                return
            path.unlink(missing_ok=True)
            self.used.pop(path, None)


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def bring(remote: Remote, part: Path) -> None:
    """Write the file `part` from where it ends on, to the end of the remote one."""
    system, path = system_of(remote.address)

    def ask() -> None:
        with part.open("ab") as here:
            is_stream = here.tell() == 0 and protocol_of(remote.address) in ("http", "https")
            with system.open(path, "rb", **({"block_size": 0} if is_stream else {"cache_type": "none"})) as there:
                if not is_stream:
                    there.seek(here.tell())
                try:
                    while data := there.read(CHUNK):
                        here.write(data)
                except ValueError as error:  # of a server that gives whole files alone
                    here.truncate(0)
                    raise ConnectionError(str(error)) from error
            sync_file(here)
            if remote.size is not None and here.tell() != remote.size:
                raise ConnectionError(f"{here.tell():,} bytes came of {remote.size:,}")

    try:
        retried(remote.address, ask)
    except WhymaskError as error:
        there = in_bytes(part.stat().st_size) if part.exists() else "nothing"
        raise WhymaskError(
            f"{error}; {there} of it is here, and the same command goes on; check the connection"
        ) from error


def of_all(items: Sequence[T], work: Callable[[T], Any], told: Callable[[int], None] = lambda done: None) -> list[Any]:
    """Of each item what `work` gives, many at a time; `told` how many are done. The first error ends all."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            found = []
            for result in pool.map(work, items):
                found.append(result)
                told(len(found))
            return found
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
