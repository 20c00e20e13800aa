"""Composites: images of real texture whose discriminative features are known, and can be hidden one at a time.

Pictures of paired classes, from two sources or more, stand one above the other, so that each tells the class (the
dominoes of Shah et al., "The Pitfalls of Simplicity Bias in Neural Networks", arXiv 2006.07710). Test images show every
part, or one of them alone, the others being noise: a network that learnt one part a class fails where that is missing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from whymask.data.composite_settings import WHOLE, Composites
from whymask.data.preprocessing import Preprocessing
from whymask.data.source import Source
from whymask.data.stamps import digest_of
from whymask.errors import WhymaskError
from whymask.randomness import numpy_generator
from whymask.tasks import Classification

VERSION = 1  # of what is made: raise it when equal settings no longer give equal images
TEST_SHARE = 0.2  # of each class of a source without a test split


@dataclass(frozen=True)
class Part:
    """A source of which one of the parts of every image is taken."""

    name: str
    source: Source
    seed: int

    @cached_property
    def is_test(self) -> np.ndarray:
        """Which of the source's images test images are made of, bool (N,)."""
        if self.source.splits is not None:
            return self.source.splits == "test"
        chosen = np.zeros(len(self.source), bool)
        for label in np.unique(self.source.labels[self.source.labelled]):
            rows = np.flatnonzero(self.source.labels == label)
            drawn = numpy_generator(self.seed, "composites", "test", self.name, int(label)).permutation(rows)
            chosen[drawn[: max(1, round(TEST_SHARE * len(rows)))]] = True
        return chosen

    def of_class(self, label: int, testing: bool) -> np.ndarray:
        """Rows of its pictures of a class."""
        return np.flatnonzero((self.source.labels == label) & (self.is_test == testing))


def composite_source(composites: Composites, open_part: Callable[[str], Source]) -> Source:
    """The images as a source: unlabelled and labelled training images, and a test split, tagged by what each shows.

    `open_part` opens the source of a part. Raises WhymaskError for one that has not one class an image, or too few
    classes or pictures.
    """
    parts = [Part(name, open_part(data), composites.seed) for name, data in composites.parts]
    classes = _classes(composites, parts)
    kinds = _kinds(composites)
    names = np.array([name for name, _ in kinds]).repeat([count for _, count in kinds])
    index = np.concatenate([np.arange(count) for _, count in kinds])
    testing = ~np.isin(names, ("unlabelled", "train"))
    pools = {(p.name, label, test): _pool(p, label, test) for p in parts for label in range(classes) for test in (0, 1)}
    prep = Preprocessing((composites.side, composites.side), (composites.side, composites.side), 3)

    def read(i: int) -> np.ndarray:
        kind, label = str(names[i]), int(index[i]) % classes
        random = numpy_generator(composites.seed, "composites", kind, int(index[i]))
        alone, drawn = random.integers(len(parts)), random.random()
        shown = {kind} if testing[i] else {parts[alone].name} if drawn < composites.single else {WHOLE}
        squares = []
        for part in parts:
            row = random.choice(pools[part.name, label, int(testing[i])])
            noise = random.integers(256, size=(composites.side, composites.side, 3), dtype=np.uint8)
            squares.append(prep.decode(part.source.read(row)) if shown & {part.name, WHOLE} else noise)
        return np.concatenate(squares)

    told = [f"{part.name} {part.source.stamp} {digest_of(map(str, part.source.labels))}" for part in parts]
    return Source(
        name="composites",
        keys=[f"composites/{name}/{i:05d}" for name, i in zip(names, index, strict=True)],
        read=read,
        stamp=digest_of([f"{VERSION} {composites!r}", *told]),
        labels=np.where(names == "unlabelled", -1, index % classes),
        task=Classification(tuple(" + ".join(p.source.classes[label] for p in parts) for label in range(classes))),
        splits=np.where(testing, "test", "train"),
        tags=np.where(testing, names, ""),
        notes=tuple(f"part {part.name}: {note}" for part in parts for note in part.source.notes),
    )


def _kinds(composites: Composites) -> list[tuple[str, int]]:
    """What images are, and how many."""
    shown = [WHOLE, *(name for name, _ in composites.parts)]
    each = composites.test // len(shown)
    first = composites.test - each * (len(shown) - 1)
    tested = [(name, first if name == WHOLE else each) for name in shown]
    return [("unlabelled", composites.unlabelled), ("train", composites.train), *tested]


def _classes(composites: Composites, parts: Sequence[Part]) -> int:
    """How many classes there are."""
    for part in parts:
        if not isinstance(part.source.task, Classification) or len(part.source.classes) < 2:
            raise WhymaskError(
                f"composites: part {part.name}, {part.source.name}, has not one class an image of two or more classes, "
                "as was expected; give a folder of one subfolder a class, or other labelled images"
            )
    fewest = min(parts, key=lambda part: len(part.source.classes))
    most = len(fewest.source.classes)
    if composites.classes is not None and composites.classes > most:
        raise WhymaskError(
            f"composites: classes={composites.classes}; part {fewest.name} has {most}; give classes={most} or fewer"
        )
    return composites.classes or most


def _pool(part: Part, label: int, test: int) -> np.ndarray:
    rows = part.of_class(label, bool(test))
    if not len(rows):
        raise WhymaskError(
            f"composites: part {part.name}, {part.source.name}, has no picture of {part.source.classes[label]!r} to "
            f"{'test on' if test else 'train on'}; at least two of each class were expected; add some"
        )
    return rows
