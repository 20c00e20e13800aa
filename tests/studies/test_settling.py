"""What would settle an open verdict, and what a test set can show, against studies that are simulated."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tiny import GLYPHS
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.intervals import mean_interval
from whymask.studies.resolution import effective_images, resolution_text, smallest_difference
from whymask.studies.settling import settling
from whymask.studies.statistics import bootstrap_images
from whymask.tasks import Classification


def seen(difference: float, seeds: int, half_seeds: float, half_images: float | None) -> dict:
    """An open pair with intervals even about its difference."""
    images = (None, None) if half_images is None else (difference - half_images, difference + half_images)
    bounds = {"low": difference - half_seeds, "high": difference + half_seeds}
    return {"difference": difference, "seeds": seeds, "low_images": images[0], "high_images": images[1]} | bounds


def test_what_is_too_little_is_named_with_what_is_there():
    assert settling([seen(0.05, 5, 0.02, 0.1)], 0.02, 100) == (
        "About 820 test images (now 100), if difference and spread stay as they are."
    )
    assert settling([seen(0.05, 5, 0.02, None)], 0.02, 100) is None
    text = settling([seen(0.05, 3, 0.1, 0.1)], 0.02, 100)
    assert text is not None and re.search(r"820 test images and \d+ seeds \(now 100 and 3\)", text)


def test_a_difference_of_nothing_is_settled_by_lying_within_the_margin():
    small, large = (settling([seen(0.0, 5, 0.001, 0.04)], margin, 100) for margin in (0.01, 0.02))
    assert small is not None and "3,300 test images" in small
    assert large is not None and "820 test images" in large
    assert "more than 1,000,000 test images and more than 50 seeds" in str(
        settling([seen(0.0, 5, 0.1, 0.1)], np.nan, 9)
    )


@pytest.mark.parametrize("spread", [0.05, 0.2])
def test_so_many_seeds_settle_four_of_five_studies(spread):
    """A true difference of 0.1, its spread over seeds known: the named number of seeds excludes 0 that often."""
    quantile = 2.776  # of Student's t, 5 seeds
    text = settling([seen(0.1, 5, max(quantile * spread / 5**0.5, 0.101), None)], 0.02, None)
    assert text is not None
    seeds = int(re.search(r"(\d+) seeds", text)[1])
    generator = np.random.default_rng(0)
    deviation = max(spread, 0.101 * 5**0.5 / quantile)
    settled = [(mean_interval(generator.normal(0.1, deviation, seeds)).low or 0) > 0 for _ in range(1000)]
    assert 0.75 < np.mean(settled) < 0.97


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(GLYPHS, DataSettings(), multiple_of=4)


def test_images_that_count_are_those_of_the_tag_of_the_rarest_class_and_of_groups(prepared):
    assert effective_images(prepared, "accuracy") == 60
    assert effective_images(prepared, "accuracy/single_view") == (prepared.test_tags == "single_view").sum()
    assert effective_images(prepared, "balanced_accuracy") <= 60
    grouped = replace(prepared, groups=np.arange(len(prepared.images.keys)) // 2)
    assert effective_images(grouped, "accuracy") < 60


@pytest.mark.parametrize("images", [30, 300, 3000])
def test_a_difference_of_that_size_is_seen_in_four_test_sets_of_five(prepared, images):
    """Networks whose right answers differ image by image by the spread that is assumed, 3 seeds of either arm."""
    rows = np.resize(prepared.test, images)
    smallest = smallest_difference(replace(prepared, test=rows, images=replace(prepared.images, tags=None)), "accuracy")
    generator = np.random.default_rng(0)
    labels, task = np.zeros(images, np.int64), Classification(("a", "b"))
    found = []
    for _ in range(60):
        # of one image all networks of an arm say the same: the spread of the difference is that of one image
        moved = generator.random(images)
        share = 1 / 9  # of images on which the arms differ: their difference then varies by a third
        up = moved < (share + smallest) / 2
        down = (moved >= (share + smallest) / 2) & (moved < share)
        right = np.log(np.array([[0.9, 0.1], [0.1, 0.9]]))
        arm, baseline = right[np.where(down, 1, 0)], right[np.where(up, 1, 0)]
        low, _ = bootstrap_images(task, {0: arm}, {0: baseline}, labels, resamples=200)["accuracy"]
        found.append(low > 0)
    assert 0.6 < np.mean(found) <= 1


def test_thirty_test_images_show_no_difference_below_two_tenths(prepared):
    few = replace(prepared, test=prepared.test[:30], images=replace(prepared.images, tags=None))
    text = resolution_text(few, "accuracy", smallest_difference(few, "accuracy"))
    assert text == "30 test images: differences in accuracy below about 0.2 cannot be seen"


def test_a_drawn_test_set_that_is_small_names_the_flag(prepared):
    few = replace(prepared, test=prepared.test[:8], test_share=0.1)
    assert "--test-share 0.5" in resolution_text(
        few, "balanced_accuracy", smallest_difference(few, "balanced_accuracy")
    )
    assert "--test-share" not in resolution_text(replace(few, test_share=0.5), "balanced_accuracy", 0.1)
    pairs = replace(prepared, groups=np.arange(len(prepared.images)) // 2, test_share=0.1)
    assert " groups of test images in the median class, fewer than 20" in resolution_text(pairs, "accuracy", 0.1)
