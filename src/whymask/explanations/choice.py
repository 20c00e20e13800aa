"""Which test images the measures are taken on, and whether the networks may have seen them."""

from collections.abc import Sequence

import numpy as np

from whymask.data.glyph_settings import Glyphs
from whymask.data.prepare import Prepared, are_same_images
from whymask.disk import read_arrays
from whymask.errors import WhymaskError
from whymask.explanations.networks import Run
from whymask.explanations.regions import regions
from whymask.explanations.settings import ExplainSettings
from whymask.randomness import numpy_generator
from whymask.stages.start import test_images_seen


def choose_images(prepared: Prepared, glyphs: Glyphs | None, settings: ExplainSettings) -> np.ndarray:
    """Test images, rows of `prepared`: of all classes alike, in random order; of glyphs those that show all features.

    Raises WhymaskError where there are fewer than the measures need.
    """
    rows = prepared.test if glyphs is None else tagged(prepared, "multi_view")
    chosen = in_turn(prepared, rows)[: settings.test_images]
    needed = 2
    if "interactions" in settings.measures:
        regions(prepared.images.preprocessing.size, settings.regions)
        needed = settings.regions
    if len(chosen) < needed:
        raise WhymaskError(
            f"{len(chosen)} test images of {prepared.name}; at least {needed} are needed, one a region of the "
            "interactions; give more labelled images or fewer --regions"
        )
    return chosen


def tagged(prepared: Prepared, tag: str) -> np.ndarray:
    """The test images with a tag, rows of `prepared`; none where its images have no tags."""
    return prepared.test[:0] if prepared.test_tags is None else prepared.test[prepared.test_tags == tag]


def in_turn(prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """`rows` in random order but for the classes, of which each has its turn: any first part has all classes alike."""
    rows = numpy_generator(0, "explain", "images").permutation(rows)
    labels = prepared.images.labels[rows]
    turn = np.empty(len(rows), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    return rows[np.argsort(turn, kind="stable")]


def check_unseen(runs: Sequence[Run], prepared: Prepared) -> list[str]:
    """What the networks may have seen of the test images of `prepared`, in sentences; none where they have not.

    Raises WhymaskError for a run of the same images whose test images were others.
    """
    foreign = []
    for run in runs:
        rows = _tested_on(run, prepared)
        if rows is None:
            foreign.append(run)
        elif not np.array_equal(rows, prepared.test):
            raise WhymaskError(
                f"{run.folder} was tested on {len(rows)} images of {prepared.name}, and not on the "
                f"{len(prepared.test)} that are test images now: it may have been trained on some of these. Give "
                "--group-by and --labels as it was trained with."
            )
    warnings = []
    if foreign:
        warnings.append(
            f"{len(foreign)} of {len(runs)} runs (such as {foreign[0].folder}) were trained on other data than "
            f"{prepared.name}. If some of its images were among those, what is said here is too good."
        )
    seen = max((test_images_seen(run.origin, prepared) for run in runs if run.origin is not None), default=0)
    if seen:
        warnings.append(
            f"{seen:,} of {len(prepared.test):,} test images were, without their labels, in a pretraining, which from "
            "scratch has no equal."
        )
    return warnings


def _tested_on(run: Run, prepared: Prepared) -> np.ndarray | None:
    """The test images of a run, rows of `prepared`; None where it was trained on other data, or does not say."""
    path = run.folder / "predictions.npz"
    if not are_same_images(run.fingerprint, prepared.identity) or not path.exists():
        return None
    return read_arrays(path)["rows"]
