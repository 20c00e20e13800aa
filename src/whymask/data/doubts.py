"""What labels the images of an experiment have, and what they cannot show: said before it begins, and on its page."""

from collections.abc import Sequence

import numpy as np

from whymask.data.source import Source
from whymask.data.store import ImageSet
from whymask.tasks import Classification, Regression


def of_classes(images: ImageSet, train: np.ndarray, test: np.ndarray) -> list[str]:
    """Classes that are not tested, or not trained on; of numbers to predict there are none."""
    task = images.task
    if task.name == Regression.name or not len(test):
        return []
    trained, tested = (task.counts(images.labels[rows]) for rows in (train, test))
    counts = list(zip(task.names, trained, tested, strict=True))
    untested = [name for name, train, test in counts if train and not test]
    untrained = [name for name, train, test in counts if test and not train]
    return [
        f"no {what} images of {listed(names)}: {so}"
        for names, what, so in (
            (untested, "test", "nothing will be known of how well they are recognised"),
            (untrained, "training", "no network can name them"),
        )
        if names
    ]


def of_labels(images: ImageSet) -> list[str]:
    """Pictures that are there under two labels."""
    if images.task.name != Classification.name:
        return []
    rows = np.flatnonzero(images.labelled)
    _, picture = np.unique(images.hashes[rows], return_inverse=True)
    labels = images.labels[rows]
    lowest, highest = np.full(len(rows), labels.max(initial=0)), np.zeros(len(rows), np.int64)
    np.minimum.at(lowest, picture, labels)
    np.maximum.at(highest, picture, labels)
    torn = np.flatnonzero((lowest < highest)[picture])
    if not len(torn):
        return []
    same = rows[picture == picture[torn[0]]]
    named = [f"{images.keys[row]} ({images.classes[images.labels[row]]})" for row in same[:2]]
    return [f"{len(torn):,} images have equal pixels and other labels, such as {' and '.join(named)}"]


def labels_text(source: Source, needs_labels: bool = False) -> str:
    """ "48 of them labelled, 24 unlabelled: classification of 3 classes (c0 16, c1 16, c2 16)"; of names of folders
    also that they are, and unless labels are needed, how to say that they are no labels."""
    labelled = source.labelled
    known, missing = int(labelled.sum()), len(source.missing)
    gone = f", {missing:,} not there, such as {min(source.missing)}" if missing else ""
    if not known:
        return f"none of them labelled{gone}"
    counts = source.task.counts(source.labels[labelled])
    named = [f"{name} {count:,}" for name, count in zip(source.classes, counts, strict=True)]
    shown = f" ({listed(named, 10)})" if source.task.name != Regression.name else ""
    by = ", by the names of their folders" * source.by_folders
    otherwise = "; where these are no labels, give --labels none" * (source.by_folders and not needs_labels)
    rest = len(source) - known - missing
    return f"{known:,} of them labelled, {rest:,} unlabelled{gone}: {source.task.text()}{shown}{by}{otherwise}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """ "ant, bee and 3 more"."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
