"""Tar files of samples: each is read through once, for an index of where its images lie and what its small members say.

The index is kept in the store's folder. By it an image is read alone, at its place, by any thread. WebDataset's own
readers go through an archive from its beginning; the store wants rows: some of all to look at, and to go on in the
middle.
"""

import os
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.opening import image_suffixes
from whymask.data.remote import Fetched, Remote, bring
from whymask.data.stamps import digest_of
from whymask.disk import read_arrays, sync_file, write_arrays
from whymask.errors import DamagedError, WhymaskError

TEXTS = ("cls", "json", "txt")
"""Members of a sample that may say its label."""
LONGEST_TEXT = 2**20
"""Bytes."""
UNPACKED = 4
"""Times as large as a gzip'ed archive its room is taken to be: images hardly shrink, others may."""
VERSION = 1  # of an index
GZIP = 31  # to zlib
BLOCK = tarfile.BLOCKSIZE
WHOLE, UNMARKED, CUT = "", "it ends without an end mark, where something may be missing", "it is cut off within {}"


@dataclass(frozen=True)
class Index:
    """The samples of an archive that have an image: of each the image's member, where it lies, and its texts, "" for
    none. `imageless`: samples without one; `several`: with more than one; `end`: what is wrong with it, or WHOLE."""

    names: list[str]
    offsets: np.ndarray  # bytes
    sizes: np.ndarray
    texts: dict[str, list[str]]
    imageless: int
    several: int
    end: str


@dataclass(frozen=True)
class Shard:
    """An archive. `name` stands in keys; `stamp` changes when it may have changed; it lies at `path`, or else `come`
    brings it, plain, to about `size` bytes."""

    name: str
    stamp: str
    path: Path | None = None
    size: int | None = None
    come: Callable[[Path], None] | None = None

    def local(self, fetched: Fetched) -> Path:
        """Where it lies on this disk, brought there if it is not."""
        if self.path is not None:
            return self.path
        assert self.come is not None
        return fetched(self.kept_as, self.size, self.come)

    def index(self, fetched: Fetched, cache: Path) -> Index:
        kept = cache / "indices" / f"{digest_of([str(VERSION), self.name, self.stamp])}.npz"
        if kept.exists():
            try:
                return _unpacked(read_arrays(kept))
            except DamagedError:
                kept.unlink()
        index = index_of(self.name, self.local(fetched))
        write_arrays(kept, _packed(index))
        return index

    @property
    def kept_as(self) -> str:
        """What it is called in the folder to which it is brought."""
        return f"{digest_of([self.name, self.stamp])}.tar"

    def read(self, fetched: Fetched, offset: int, size: int) -> bytes:
        """A member. Raises WhymaskError where the archive ends before it does."""
        while True:
            try:
                with self.local(fetched).open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            except FileNotFoundError:
                if self.path is not None:
                    raise
                continue  # it made room for another, after it was found
            if len(data) < size:
                raise WhymaskError(f"{self.name} ends in the middle of it; copy that file again")
            return data


def shard_of(path: Path, stamp: str) -> Shard:
    """One that is here; a gzip'ed one is unpacked first."""
    if not path.name.endswith("gz"):
        return Shard(str(path), stamp, path)
    return Shard(str(path), stamp, size=UNPACKED * path.stat().st_size, come=lambda part: unpack(path, part))


def shard_at(remote: Remote) -> Shard:
    """One behind an address."""
    is_packed = remote.address.endswith("gz")

    def come(part: Path) -> None:
        packed = part.with_suffix(".gz") if is_packed else part
        bring(remote, packed)
        if is_packed:
            unpack(packed, part)
            packed.unlink()

    size = remote.size and remote.size * (1 + UNPACKED * is_packed)
    return Shard(remote.address, remote.token, size=size, come=come)


def unpack(packed: Path, part: Path) -> None:
    """A gzip'ed file as far as it goes: of one that was cut off, the archive ends there too."""
    with packed.open("rb") as there, part.open("wb") as here:
        member = zlib.decompressobj(GZIP)
        try:
            while data := there.read(2**20):
                while data:
                    member = zlib.decompressobj(GZIP) if member.eof else member
                    here.write(member.decompress(data))
                    data = member.unused_data
        except zlib.error as error:
            if not here.tell():
                raise WhymaskError(
                    f"{packed}: no gzip'ed archive, or a damaged one ({error}); copy it again"
                ) from error
        sync_file(here)


def index_of(name: str, path: Path) -> Index:
    """Reads an archive through. Raises WhymaskError for what is no tar file, and for a member that is in it twice."""
    length = path.stat().st_size
    try:
        with tarfile.open(path, "r:", errorlevel=0) as archive:
            samples, end = _samples(name, archive, length)
    except tarfile.ReadError as error:
        raise WhymaskError(f"{name}: no tar file, or a damaged one ({error}); copy it again") from error
    suffixes = image_suffixes()
    found = [
        (sample, [kind for kind in sample if posixpath.splitext(f"x.{kind}")[1] in suffixes]) for sample in samples
    ]
    pairs = [(sample, sample[min(kinds, key=lambda kind: kind.count("."))]) for sample, kinds in found if kinds]
    return Index(
        names=[image.name for _, image in pairs],
        offsets=np.array([image.offset for _, image in pairs], np.int64),
        sizes=np.array([image.size for _, image in pairs], np.int64),
        texts={kind: [sample[kind].text if kind in sample else "" for sample, _ in pairs] for kind in TEXTS},
        imageless=len(found) - len(pairs),
        several=sum(len(kinds) > 1 for _, kinds in found),
        end=end,
    )


@dataclass(frozen=True)
class _Member:
    name: str
    offset: int
    size: int
    text: str


def _samples(name: str, archive: tarfile.TarFile, length: int) -> tuple[list[dict[str, _Member]], str]:
    """Of each sample its members by what follows their first dot, and what is wrong with the end."""
    samples: dict[str, dict[str, _Member]] = {}
    last, end = 0, WHOLE
    for member in _members(archive):
        last = member.offset_data + -(-member.size // BLOCK) * BLOCK
        if member.offset_data + member.size > length:
            end = CUT.format(member.name)
        folder, file = posixpath.split(posixpath.normpath(member.name))
        stem, dot, kind = file.partition(".")
        if not member.isreg() or not stem or not dot:
            continue
        sample = samples.setdefault(posixpath.join(folder, stem), {})
        kind = kind.lower()
        if kind in sample:
            raise WhymaskError(
                f"{name}: {member.name} and {sample[kind].name} are of one sample, as names count up to their first "
                "dot; one member of a kind in each was expected; rename one, or unpack the archive and give the folder"
            )
        is_text = kind in TEXTS and member.size <= LONGEST_TEXT and not end
        text = archive.extractfile(member).read().decode(errors="replace") if is_text else ""  # type: ignore[union-attr]
        sample[kind] = _Member(posixpath.join(folder, file), member.offset_data, member.size, text.replace("\0", ""))
    if not end and not _is_marked(Path(str(archive.name)), last):
        end = UNMARKED
    return list(samples.values()), end


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Up to where the archive ends, or is cut off."""
    while True:
        try:
            member = archive.next()
        except tarfile.ReadError:
            return
        if member is None:
            return
        archive.members.clear()  # type: ignore[attr-defined]  # else all headers stay in memory
        yield member


def _is_marked(path: Path, last: int) -> bool:
    """Whether a block of zeros follows the last member."""
    with path.open("rb") as file:
        file.seek(last)
        return file.read(BLOCK) == bytes(BLOCK)


# an index as arrays: texts one behind another, with zeros between them


def _packed(index: Index) -> dict[str, np.ndarray]:
    texts = {"names": index.names, "end": [index.end], **index.texts}
    found = {name: np.frombuffer(_bytes("\0".join(several)), np.uint8) for name, several in texts.items()}
    counts = np.array([index.imageless, index.several])
    return found | {"offsets": index.offsets, "sizes": index.sizes, "counts": counts}


def _unpacked(arrays: dict[str, Any]) -> Index:
    count = len(arrays["offsets"])
    texts = {name: os.fsdecode(arrays[name].tobytes()).split("\0")[:count] for name in ("names", *TEXTS)}
    imageless, several = arrays["counts"].tolist()
    end = os.fsdecode(arrays["end"].tobytes())
    return Index(texts.pop("names"), arrays["offsets"], arrays["sizes"], texts, imageless, several, end)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")
