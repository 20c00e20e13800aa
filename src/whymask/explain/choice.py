"""Which test images the measures are taken on."""

import numpy as np

from whymask.data.glyphs import Glyphs
from whymask.data.prepare import Prepared
from whymask.errors import WhymaskError
from whymask.explain import interactions
from whymask.explain.settings import ExplainSettings
from whymask.randomness import numpy_generator


def choose_images(prepared: Prepared, glyphs: Glyphs | None, settings: ExplainSettings) -> np.ndarray:
    """Test images, rows of `prepared`: of all classes alike, in random order; of glyphs those that show all features.

    Raises WhymaskError where there are fewer than the measures need.
    """
    rows = prepared.test
    if glyphs is not None and prepared.test_tags is not None:
        rows = rows[prepared.test_tags == "multi_view"]
    chosen = in_turn(prepared, rows)[: settings.test_images]
    needed = 2
    if "interactions" in settings.measures:
        interactions.regions(prepared.images.preprocessing.size, settings.regions)
        needed = settings.regions
    if len(chosen) < needed:
        raise WhymaskError(
            f"{len(chosen)} test images of {prepared.name}; at least {needed} are needed, one a region of the "
            "interactions; give more labelled images or fewer --regions"
        )
    return chosen


def in_turn(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """`rows` in random order but for the classes, of which each has its turn: any first part has all classes alike."""
    rows = numpy_generator(0, "explain", "images").permutation(rows)
    labels = prepared.images.labels[rows]
    turn = np.empty(len(rows), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return rows[np.argsort(turn, kind="stable")]
