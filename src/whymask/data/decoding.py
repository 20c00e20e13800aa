"""The images of a source decoded by threads, in order: what a store is made of."""

import hashlib
import os
import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from whymask.data.forms import Form, Packed
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.errors import WhymaskError

BLOCK = 64  # images that one task decodes

Block = tuple[Packed, list[bytes], list[tuple[int, str]]]


def decoded(source: Source, preprocessing: Preprocessing, form: Form) -> Iterator[Block]:
    """Blocks of images in order, decoded by threads (Pillow and hashing release the GIL) a few blocks ahead."""
    workers = os.cpu_count() or 1
    starts = iter(range(0, len(source), BLOCK))
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
    """Images as they are written, hashes, and (row, reason) of the failures, of one block."""
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
    return form.pack(images[: len(hashes)]), hashes, failures


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
    text = text if isinstance(error, WhymaskError) else f"{type(error).__name__}: {text}"
    return re.sub(r"( object)? at 0x[0-9a-f]+", "", text)
