"""What a test set can show, said before anything is spent: the smallest difference that a study would see.

An image's part in a paired difference, a mean over seeds of both arms, varies by `SPREAD` of the metric's range: the
largest of what the studies under docs/results showed in accuracy and balanced accuracy (0.13 to 0.33; 3 to 5 seeds).
"""

import math

import numpy as np

from whymask.data.prepare import Prepared
from whymask.data.splits import ENOUGH, counts_of, share_for
from whymask.studies.settling import NORMAL, POWER
from whymask.studies.verdict import margin_of
from whymask.tasks.weighted import WORST, views_of

SPREAD = 1 / 3


def smallest_difference(prepared: Prepared, metric: str) -> float | None:
    """In the metric's unit: a true difference of that size is told from 0 by the interval over test images, in 4 test
    sets of 5; smaller ones more seldom. NaN where the metric's range is not known; None of a dense task, of which the
    spread was not measured: many pixels in an image make it smaller."""
    if prepared.task.is_dense:
        return None
    about = prepared.task.describe(metric)
    standard_error = SPREAD / math.sqrt(effective_images(prepared, metric))
    return (NORMAL + POWER) * standard_error * margin_of(about, 1.0, prepared.chance.get(metric))


def effective_images(prepared: Prepared, metric: str) -> float:
    """Test images that count: those of the metric's tag; of a mean over classes, as many as would be as informative if
    each class had the same number; and of images that stay together, the groups."""
    rows, tag = prepared.test, metric.partition("/")[2]
    tags = prepared.test_tags
    if tag and tags is not None:
        alone = views_of(tags) if metric == WORST else [tag]
        rows = min((rows[tags == view] for view in alone), key=len)
    count = float(len(rows))
    if prepared.task.describe(metric).by_name:
        each = np.array([n for n in prepared.task.counts(prepared.images.labels[rows]) if n])
        count = float(len(each) ** 2 / (1 / each).sum())
    if prepared.groups is not None:
        count *= len(np.unique(prepared.groups[rows])) / len(rows)
    return count


def resolution_text(prepared: Prepared, metric: str, smallest: float) -> str:
    """ "30 test images: differences in balanced accuracy below about 0.2 cannot be seen", and what is to be done."""
    task, about, images = prepared.task, prepared.task.describe(metric), len(prepared.test)
    text = f"{images:,} test images: differences in {about.title} below about {smallest:.1g} cannot be seen"
    labels, groups = prepared.images.labels, prepared.groups

    def counts(rows: np.ndarray) -> list[int]:
        return counts_of(task, labels[rows], None if groups is None else groups[rows])

    usual = share_for(counts(np.flatnonzero(prepared.images.labelled)))
    if prepared.test_share is None or prepared.test_share >= usual:
        return text
    left, of = float(np.median(counts(prepared.test))), "test images" if groups is None else "groups of test images"
    return (
        f"{text}\na share of {prepared.test_share:g} of the labelled images leaves {left:g} {of} in the median "
        f"{task.name_is}, fewer than {ENOUGH}; --test-share {usual:g} tests on more, and trains on fewer"
    )
