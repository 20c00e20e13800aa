"""Label maps in a store: what is counted of them, and what they make of a run's identity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tiny import scenes
from whymask.data.prepare import prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.store import ImageSet, open_images

GENERATOR = np.random.default_rng(0)
PIXELS = GENERATOR.integers(0, 256, (40, 48, 48)).astype(np.uint8)
MAPS = np.kron(GENERATOR.integers(0, 3, (40, 6, 6)), np.ones((8, 8))).astype(np.uint8)
THERE = np.arange(40) % 8 > 0


def opened(cache: Path, maps: np.ndarray = MAPS, size: int = 48, store: int = 48) -> ImageSet:
    prep = Preprocessing((size, size), (store, store), 1, mean=(0.5,), std=(0.2,))
    return open_images(scenes(PIXELS, maps, THERE), prep, cache)


def test_who_is_tested_on_does_not_depend_on_the_size(tmp_path: Path) -> None:
    source = scenes(PIXELS, MAPS, THERE)
    found = [prepare(source, DataSettings(size=size, store=tmp_path)) for size in (16, 24, 48)]
    assert len({each.identity for each in found}) == 1
    tested = [{each.images.keys[row] for row in each.test} for each in found]
    assert tested[0] == tested[1] == tested[2] and len(tested[0]) > 5


def test_a_changed_map_or_name_is_another_run(tmp_path: Path) -> None:
    plain, other = opened(tmp_path), MAPS.copy()
    other[3, :, :24], other[3, :, 24:] = MAPS[3, :, 24:], MAPS[3, :, :24]  # as many pixels of each class
    assert opened(tmp_path, other).fingerprint != plain.fingerprint == opened(tmp_path).fingerprint
    source = scenes(PIXELS, MAPS, THERE)
    renamed = replace(source, task=replace(source.task, names=("a", "b", "c")))
    assert open_images(renamed, plain.preprocessing, tmp_path).fingerprint != plain.fingerprint


def test_what_is_counted_is_what_a_network_sees(tmp_path: Path) -> None:
    images = opened(tmp_path, size=32, store=48)
    rows = np.flatnonzero(images.labelled)
    assert (rows == np.flatnonzero(THERE)).all()
    centre = images.maps_of(rows)[:, 8:40, 8:40]
    assert np.array_equal(images.labels[rows], np.stack([np.bincount(each.ravel(), minlength=3) for each in centre]))
    with pytest.raises(ValueError, match="without label maps"):
        replace(images, maps=None).maps_of(rows)


def test_an_image_that_cannot_be_read_moves_no_map_to_another(tmp_path: Path) -> None:
    source = scenes(PIXELS, MAPS, THERE)

    def read(row: int) -> np.ndarray:
        if row in (2, 17):
            raise OSError("broken")
        return source.read(row)

    prep = Preprocessing((48, 48), (48, 48), 1, mean=(0.5,), std=(0.2,))
    images = open_images(replace(source, read=read, stamp="broken"), prep, tmp_path)
    kept = np.delete(np.arange(40), [2, 17])
    labelled = images.labelled
    assert np.array_equal(images.maps_of(np.flatnonzero(labelled)), MAPS[kept[labelled]])
