"""Glyphs: images whose discriminative features are known.

The picture form of the multi-view data of Allen-Zhu & Li, "Towards Understanding Ensemble, Knowledge Distillation
and Self-Distillation in Deep Learning" (arXiv 2012.09816). Every class owns a few features, each a fixed pattern.
A multi-view image shows all features of its class; a single-view image shows one of them and only a trace of the
rest, so that a network which learned one feature a class gets many of them wrong. Weak features of other classes
and pixel noise are in every image.
"""

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F

from whymask.data.glyph_settings import Glyphs
from whymask.data.source import Source
from whymask.randomness import numpy_generator
from whymask.tasks import Classification

VERSION = 1  # of the generator: raise it when equal settings no longer give equal images
BLOCK = 1024  # images drawn together; part of the definition of the data


@dataclass(frozen=True)
class Truth:
    """What N images show. K features each, the class's own first and in order, then those of other classes.

    A feature of another class may be drawn twice for one image; it then stands in twice the cells.
    """

    classes: np.ndarray  # int64 (N, K): the class that owns the feature
    features: np.ndarray  # int64 (N, K): which of that class's features
    amplitudes: np.ndarray  # float32 (N, K): times the pattern
    cells: np.ndarray  # int64 (N, K, copies): where, row by row from the top left
    single_view: np.ndarray  # bool (N,)


def patterns(glyphs: Glyphs) -> np.ndarray:
    """The feature patterns, float32 (classes, features, cell, cell), each of root mean square `glyphs.rms`."""
    shape = (glyphs.classes, glyphs.features, glyphs.detail, glyphs.detail)
    coarse = numpy_generator(glyphs.seed, "glyphs", "patterns").standard_normal(shape)
    side = (glyphs.cell, glyphs.cell)
    fine = F.interpolate(torch.from_numpy(coarse), size=side, mode="bicubic", align_corners=False).numpy()
    return (glyphs.rms * fine / np.sqrt(np.square(fine).mean((2, 3), keepdims=True))).astype(np.float32)


def render(glyphs: Glyphs, truth: Truth) -> np.ndarray:
    """The images of `truth` without pixel noise, float32 (N, side, side).

    With some of the amplitudes set to 0 (`dataclasses.replace`) these are images of the remaining features alone.
    """
    n, grid, cell = len(truth.classes), glyphs.grid, glyphs.cell
    canvas = np.zeros((n, grid**2, cell, cell), np.float32)
    drawn = truth.amplitudes[:, :, None, None] * patterns(glyphs)[truth.classes, truth.features]
    canvas[np.arange(n)[:, None, None], truth.cells] = drawn[:, :, None]
    return canvas.reshape(n, grid, grid, cell, cell).swapaxes(2, 3).reshape(n, glyphs.side, glyphs.side)


def generate(glyphs: Glyphs, n: int, part: str, single_view_share: float = 0.0) -> tuple[np.ndarray, np.ndarray, Truth]:
    """The first `n` images of the endless sequence called `part`.

    Args:
        part: a name; other names give other images of the same features.
        single_view_share: probability that an image is a single-view one.

    Returns:
        Images float32 (n, side, side), their classes int64 (n,), and what they show.
    """
    blocks = [_block(glyphs, part, single_view_share, b) for b in range(max(1, -(-n // BLOCK)))]
    images, labels, truths = zip(*blocks, strict=True)
    truth = Truth(*(np.concatenate([getattr(t, f.name) for t in truths])[:n] for f in fields(Truth)))
    return np.concatenate(images)[:n], np.concatenate(labels)[:n], truth


def _block(glyphs: Glyphs, part: str, single_view_share: float, block: int) -> tuple[np.ndarray, np.ndarray, Truth]:
    """Images block * BLOCK ... (block + 1) * BLOCK - 1 of `part`; always a whole block, so that prefixes agree."""
    rng = numpy_generator(glyphs.seed, "glyphs", part, block)
    labels = np.arange(block * BLOCK, (block + 1) * BLOCK) % glyphs.classes
    truth = _draw(glyphs, labels, single_view_share, rng)
    noise = rng.standard_normal((BLOCK, glyphs.side, glyphs.side), dtype=np.float32)
    return render(glyphs, truth) + np.float32(glyphs.noise) * noise, labels, truth


def _draw(glyphs: Glyphs, labels: np.ndarray, single_view_share: float, rng: np.random.Generator) -> Truth:
    n, own, others = len(labels), glyphs.features, glyphs.others
    single = rng.random(n) < single_view_share
    view = rng.integers(own, size=n)
    # Uniform over the features of the other classes: those from the own class upwards move up by one class.
    drawn = rng.integers((glyphs.classes - 1) * own, size=(n, others))
    owner = drawn // own
    owner += owner >= labels[:, None]

    rest = np.where(single[:, None] & (np.arange(own) != view[:, None]), glyphs.single_view_rest, 1.0)
    weak = np.where(single, glyphs.single_view_others, glyphs.others_strength)[:, None].repeat(others, axis=1)
    amplitudes = rng.uniform(glyphs.amplitude_low, glyphs.amplitude_high, size=(n, glyphs.shown))
    places = rng.random((n, glyphs.grid**2)).argsort(axis=1)[:, : glyphs.shown * glyphs.copies]
    return Truth(
        classes=np.hstack([labels[:, None].repeat(own, axis=1), owner]),
        features=np.hstack([np.tile(np.arange(own), (n, 1)), drawn % own]),
        amplitudes=(amplitudes * np.hstack([rest, weak])).astype(np.float32),
        cells=places.reshape(n, glyphs.shown, glyphs.copies),
        single_view=single,
    )


def glyph_source(glyphs: Glyphs) -> Source:
    """The images as a source: unlabelled and labelled training images, and a test split with its views as tags."""
    multi = glyphs.test - glyphs.test // 2
    share = glyphs.single_view_share
    parts = [
        ("unlabelled", glyphs.unlabelled, share),
        ("train", glyphs.train, share),
        ("multi_view", multi, 0.0),
        ("single_view", glyphs.test - multi, 1.0),
    ]
    shares = {name: share for name, _, share in parts}
    names = np.array([name for name, _, _ in parts]).repeat([n for _, n, _ in parts])
    index = np.concatenate([np.arange(n) for _, n, _ in parts])
    testing = np.isin(names, ("multi_view", "single_view"))

    @lru_cache(maxsize=32)  # at 32 x 32 pixels 4 MB each
    def block(part: str, number: int) -> np.ndarray:
        return _block(glyphs, part, shares[part], number)[0]

    def read(i: int) -> np.ndarray:
        return block(str(names[i]), int(index[i]) // BLOCK)[index[i] % BLOCK]

    return Source(
        name="glyphs",
        keys=[f"glyphs/{name}/{i:05d}" for name, i in zip(names, index, strict=True)],
        read=read,
        stamp=hashlib.blake2b(f"{VERSION} {glyphs!r}".encode(), digest_size=16).hexdigest(),
        labels=np.where(names == "unlabelled", -1, index % glyphs.classes),
        task=Classification(tuple(f"class {c}" for c in range(glyphs.classes))),
        splits=np.where(testing, "test", "train"),
        tags=np.where(testing, names, ""),
        columns={},
    )
