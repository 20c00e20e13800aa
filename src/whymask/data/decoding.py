"""The images of a source decoded by threads, in order: what a store is made of."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from zlib import crc32

import numpy as np

from whymask.data.forms import Form, Packed
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.errors import WhymaskError

BLOCK = 64  # images that one task decodes


@dataclass(frozen=True)
class Block:
    """Up to BLOCK images after another, as a form packs them."""

    packed: Packed
    checksum: int  # of what the file of images gets
    hashes: list[bytes]
    failures: list[tuple[int, str]]  # (row, reason)


def decoded(source: Source, preprocessing: Preprocessing, form: Form, first: int = 0) -> Iterator[Block]:
    """Blocks of images in order, from the row `first` on, decoded by threads (Pillow and hashing release the GIL) a few
    blocks ahead."""
    workers = os.cpu_count() or 1
    starts = iter(range(first, len(source), BLOCK))
    with ThreadPoolExecutor(workers) as pool:

        def submit(count: int) -> None:
            for start in islice(starts, count):
                waiting.append(pool.submit(_decode_block, source, preprocessing, form, start))

        waiting: deque[Future[Block]] = deque()
        submit(2 * workers)
        try:
            while waiting:
                yield waiting.popleft().result()
                submit(1)
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_block(source: Source, preprocessing: Preprocessing, form: Form, start: int) -> Block:
    rows = range(start, min(start + BLOCK, len(source)))
    images = np.empty((len(rows), *preprocessing.store, preprocessing.channels), preprocessing.dtype)
    hashes: list[bytes] = []
    failures: list[tuple[int, str]] = []
    for row in rows:
        try:
            pixels = native_pixels(source.read(row), preprocessing.alpha, preprocessing.frames)
            images[len(hashes)] = preprocessing.fit(pixels)
        except Exception as error:  # decoders raise anything; one image never ends a run
            failures.append((row, reason_of(error)))
        else:
            hashes.append(hash_of(pixels))
    packed = form.pack(images[: len(hashes)])
    return Block(packed, crc32(form.joined(packed)), hashes, failures)


def hash_of(pixels: np.ndarray) -> bytes:
    """Of native pixels (H, W, C): equal for equal pixels, shape and type."""
    digest = hashlib.blake2b(f"{pixels.shape} {pixels.dtype.str}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.hexdigest().encode()


def reason_of(error: Exception) -> str:
    """Why an image cannot be used, in one line, without memory addresses."""
    text = " ".join(str(error).split())
    if "cannot identify image file" in text:
        return "not an image that Pillow can open"
    if isinstance(error, OSError) and error.strerror and error.filename:
        text = f"{error.strerror.lower()}: {error.filename}"
    elif not isinstance(error, WhymaskError):
        text = f"{type(error).__name__}: {text}"
    return re.sub(r"( object)? at 0x[0-9a-f]+", "", text)
