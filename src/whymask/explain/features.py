"""Captured features, where they are known: of glyphs, each class's features are shown alone, and the network is asked.

A feature counts as captured if more than half of the images that show it alone, of all features, are given its class.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from whymask.data.glyphs import Glyphs, generate, render
from whymask.data.preprocessing import Preprocessing
from whymask.explain.networks import Network
from whymask.explain.numbers import Key, Number, t_interval
from whymask.intervals import clopper_pearson
from whymask.randomness import numpy_generator

IMAGES = 50
"""Images a feature."""


class Alone(NamedTuple):
    """Images (n, C, h, w) that show one feature each: of which class, int64 (n,), and which of its features, (n,)."""

    images: Tensor
    classes: np.ndarray
    features: np.ndarray


def features_alone(glyphs: Glyphs, view: Preprocessing, part: str = "alone", images: int = IMAGES) -> Alone:
    """`images` of every feature alone, with pixel noise, as `view` prepares them; `part` names a set of its own."""
    own, k = glyphs.features, glyphs.classes
    n = images * own * k
    _, classes, truth = generate(glyphs, n, part)
    feature = np.arange(n) // k % own
    places = np.arange(truth.amplitudes.shape[1])
    shown = ((places == feature[:, None]) | (places >= own)) * truth.amplitudes
    noise = numpy_generator(glyphs.seed, "glyphs", part, "noise").standard_normal((n, glyphs.side, glyphs.side))
    drawn = render(glyphs, replace(truth, amplitudes=shown.astype(np.float32))) + glyphs.noise * noise
    return Alone(torch.stack([view(image) for image in drawn.astype(np.float32)]), classes, feature)


def recognised(network: Network, alone: Alone) -> np.ndarray:
    """Share of each feature's images that are given its class: (classes, features)."""
    right = network.recognises(alone.images, torch.from_numpy(alone.classes)).numpy()
    return shares(right, alone)


def shares(right: np.ndarray, alone: Alone) -> np.ndarray:
    """Means of `right` (n,) by class and feature: (classes, features)."""
    shape = alone.classes.max() + 1, alone.features.max() + 1
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (alone.classes, alone.features), right)
    np.add.at(counts, (alone.classes, alone.features), 1)
    return sums / counts


def feature_numbers(
    arm: str, shares_of: dict[int, np.ndarray], classes: tuple[str, ...], images: int = IMAGES
) -> list[Number]:
    """Measure 1 of one arm: seed -> share recognised of each feature alone (classes, features).

    "recognised" of each feature and seed, and its mean over seeds; "captured" of each class, the number of its features
    that are; "captured a class", its mean over classes; "lost in some seeds", how many features are captured with some
    seeds and not with others: 0 would mean that there is no lottery.
    """
    rows = []
    table = np.stack(list(shares_of.values()))
    captured = table > 0.5
    for c, f in np.ndindex(*table.shape[1:]):
        item = f"{classes[c]}, feature {f + 1}"
        for seed, share in zip(shares_of, table[:, c, f], strict=True):
            low, high = clopper_pearson(round(share * images), images)
            rows.append(
                Number("features", "recognised", arm, float(share), low, high, images, "images", seed, item=item)
            )
        rows.append(_over_seeds("recognised", arm, table[:, c, f], item))
    for c, name in enumerate(classes):
        rows.append(_over_seeds("captured", arm, captured[:, c].sum(axis=1), name))
    rows.append(_over_seeds("captured a class", arm, captured.sum(axis=2).mean(axis=1)))
    for seed, network in zip(shares_of, captured, strict=True):
        each = network.sum(axis=1)
        over = t_interval(each)
        bounds = (over.low, over.high)
        rows.append(Number("features", "captured a class", arm, over.mean, *bounds, len(each), "classes", seed))
    if len(captured) > 1:
        varying = captured.any(axis=0) & ~captured.all(axis=0)
        low, high = clopper_pearson(int(varying.sum()), varying.size)
        share = float(varying.mean())
        rows.append(Number("features", "lost in some seeds", arm, share, low, high, varying.size, "features"))
    return rows


def difference_numbers(
    names: tuple[str, str], arm: dict[int, np.ndarray], baseline: dict[int, np.ndarray]
) -> list[Number]:
    """ "captured a class" of an arm less that of a baseline, over the seeds that both have."""
    seeds = sorted(arm.keys() & baseline.keys())
    gains = [(arm[s] > 0.5).sum(axis=1).mean() - (baseline[s] > 0.5).sum(axis=1).mean() for s in seeds]
    return [_over_seeds("captured a class", " - ".join(names), np.array(gains))]


def decodable_scores(
    train: tuple[np.ndarray, Alone], test: tuple[np.ndarray, Alone], classes: int
) -> dict[Key, np.ndarray]:
    """Whether the class of a feature shown alone can be read from an encoder by a line: "decodable a class".

    The read-out learns from images of features alone, (features (n, D), images) `train`, and is asked on `test`. It
    says what the encoder holds, whatever a classifier makes of it.
    """
    from whymask.explain.retention import fit_readout

    weight, bias = fit_readout(train[0], train[1].classes, classes)
    right = (test[0] @ weight.T + bias).argmax(axis=1) == test[1].classes
    return {Key("decodable a class"): (shares(right, test[1]) > 0.5).sum(axis=1).astype(np.float64)}


def _over_seeds(quantity: str, arm: str, values: np.ndarray, item: str | None = None) -> Number:
    over = t_interval(values)
    return Number("features", quantity, arm, over.mean, over.low, over.high, over.seeds, "seeds", item=item)
