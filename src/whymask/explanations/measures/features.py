"""Captured features, where they are known: of glyphs, each class's features are shown alone, and the network is asked.

A feature counts as captured if more than half of the images that show it alone, of all features, are given its class.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from whymask.data.glyph_settings import Glyphs
from whymask.data.glyphs import generate, render
from whymask.data.preprocessing import Preprocessing
from whymask.explanations.cast import Cast
from whymask.explanations.choice import in_turn, tagged
from whymask.explanations.compared import Compared
from whymask.explanations.drawing import Row, Told, arm_names, shortened
from whymask.explanations.measure import AGAINST, Drawing, Expectation, Measure, numbers_of, of_each
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number, Scores, stated, summarise
from whymask.explanations.readout import fit_readout
from whymask.explanations.shown import Shown, images_of
from whymask.intervals import ANYTHING, SHARE, Range, clopper_pearson, level_interval
from whymask.randomness import numpy_generator
from whymask.report.figures import make
from whymask.report.privacy import HIDDEN

NAME = "features"
RECOGNISED, CAPTURED, CAPTURED_A_CLASS = "recognised", "captured", "captured a class"
LOST_IN_SOME_SEEDS, DECODABLE_A_CLASS = "lost in some seeds", "decodable a class"
SINGLE_VIEW_ACCURACY = "single-view accuracy"
FEATURE = ", feature "
"""Between a class and the number of its feature, in an item's name."""

IMAGES = 50
"""Images a feature."""
SINGLE_VIEWS = 2000
"""Most single-view test images."""


class Alone(NamedTuple):
    """Images (n, C, h, w) that show one feature each: of which class, int64 (n,), and which of its features, (n,)."""

    images: Tensor
    classes: np.ndarray
    features: np.ndarray


def take(cast: Cast, shown: Shown) -> list[Number]:
    if shown.glyphs is None:
        cast.notes.append("Which features there are is known of glyphs only: captured features are left out.")
        return []
    glyphs = shown.glyphs
    alone = features_alone(glyphs, cast.preprocessing)
    shares_of = of_each(NAME, cast, lambda network: recognised(network, alone))
    numbers = []
    for role, own in shares_of.items():
        numbers += feature_numbers(cast.arm(role), own, cast.prepared.classes)
    for role in AGAINST:
        if role in shares_of:
            names = (cast.pretrained, cast.arm(role))
            numbers += difference_numbers(names, shares_of["pretrained"], shares_of[role])
    return numbers + _decodable(cast, glyphs, alone) + _single_view(cast)


def _decodable(cast: Cast, glyphs: Glyphs, alone: Alone) -> list[Number]:
    training = features_alone(glyphs, cast.preprocessing, "alone, to learn from")

    def scores(network: Member) -> Scores:
        train, test = ((network.pooled(part.images), part) for part in (training, alone))
        return decodable_scores(train, test, glyphs.classes)

    ranges: dict[str, Range] = {DECODABLE_A_CLASS: (0.0, glyphs.features)}
    asked = of_each(NAME, cast, scores)
    rows = [row for role, own in asked.items() for row in summarise(NAME, cast.arm(role), own, ranges=ranges)]
    return [replace(row, over="classes") if row.over == "images" else row for row in rows]


def _single_view(cast: Cast) -> list[Number]:
    """Accuracy on the test images that show one feature of their class."""
    rows = in_turn(cast.prepared, tagged(cast.prepared, "single_view"))[:SINGLE_VIEWS]
    if not len(rows):
        return []
    images, labels = images_of(cast.prepared, rows)

    def scores(network: Member) -> Scores:
        return {Key(SINGLE_VIEW_ACCURACY): network.recognises(images, labels).double().numpy()}

    return numbers_of(NAME, cast, of_each(NAME, cast, scores))


def features_alone(glyphs: Glyphs, preprocessing: Preprocessing, part: str = "alone", images: int = IMAGES) -> Alone:
    """`images` of every feature alone, with pixel noise, prepared for networks; `part` names a set of its own."""
    own, k = glyphs.features, glyphs.classes
    n = images * own * k
    _, classes, truth = generate(glyphs, n, part)
    feature = np.arange(n) // k % own
    places = np.arange(truth.amplitudes.shape[1])
    shown = ((places == feature[:, None]) | (places >= own)) * truth.amplitudes
    noise = numpy_generator(glyphs.seed, "glyphs", part, "noise").standard_normal((n, glyphs.side, glyphs.side))
    drawn = render(glyphs, replace(truth, amplitudes=shown.astype(np.float32))) + glyphs.noise * noise
    return Alone(torch.stack([preprocessing(image) for image in drawn.astype(np.float32)]), classes, feature)


def recognised(network: Member, alone: Alone) -> np.ndarray:
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
    """Numbers of one arm: seed -> share recognised of each feature alone (classes, features).

    "recognised" of each feature and seed, and its mean over seeds; "captured" of each class, the number of its features
    that are; "captured a class", its mean over classes; "lost in some seeds", how many features are captured with some
    seeds and not with others: 0 would mean that there is no lottery.
    """
    rows = []
    table = np.stack(list(shares_of.values()))
    captured, up_to_all = table > 0.5, (0.0, float(table.shape[2]))
    for c, f in np.ndindex(*table.shape[1:]):
        item = f"{classes[c]}{FEATURE}{f + 1}"
        for seed, share in zip(shares_of, table[:, c, f], strict=True):
            low, high = clopper_pearson(round(share * images), images)
            rows.append(Number(NAME, RECOGNISED, arm, float(share), low, high, images, "images", seed, item=item))
        rows.append(_over_seeds(RECOGNISED, arm, table[:, c, f], SHARE, item))
    for c, name in enumerate(classes):
        rows.append(_over_seeds(CAPTURED, arm, captured[:, c].sum(axis=1), up_to_all, name))
    rows.append(_over_seeds(CAPTURED_A_CLASS, arm, captured.sum(axis=2).mean(axis=1), up_to_all))
    for seed, network in zip(shares_of, captured, strict=True):
        each = network.sum(axis=1)
        over = level_interval(each, up_to_all)
        bounds = (over.low, over.high)
        rows.append(Number(NAME, CAPTURED_A_CLASS, arm, over.mean, *bounds, len(each), "classes", seed))
    if len(captured) > 1:
        varying = captured.any(axis=0) & ~captured.all(axis=0)
        low, high = clopper_pearson(int(varying.sum()), varying.size)
        share = float(varying.mean())
        rows.append(Number(NAME, LOST_IN_SOME_SEEDS, arm, share, low, high, varying.size, "features"))
    return rows


def difference_numbers(
    names: tuple[str, str], arm: dict[int, np.ndarray], baseline: dict[int, np.ndarray]
) -> list[Number]:
    """ "captured a class" of an arm less that of a baseline, over the seeds that both have."""
    seeds = sorted(arm.keys() & baseline.keys())
    gains = [(arm[s] > 0.5).sum(axis=1).mean() - (baseline[s] > 0.5).sum(axis=1).mean() for s in seeds]
    return [_over_seeds(CAPTURED_A_CLASS, " - ".join(names), np.array(gains), ANYTHING)]


def decodable_scores(
    train: tuple[np.ndarray, Alone], test: tuple[np.ndarray, Alone], classes: int
) -> dict[Key, np.ndarray]:
    """Whether the class of a feature shown alone can be read from an encoder by a line: "decodable a class".

    The read-out learns from images of features alone, (features (n, D), images) `train`, and is asked on `test`. It
    says what the encoder holds, whatever a classifier makes of it.
    """
    weight, bias = fit_readout(train[0], train[1].classes, classes)
    right = (test[0] @ weight.T + bias).argmax(axis=1) == test[1].classes
    return {Key(DECODABLE_A_CLASS): (shares(right, test[1]) > 0.5).sum(axis=1).astype(np.float64)}


def _over_seeds(quantity: str, arm: str, values: np.ndarray, within: Range, item: str | None = None) -> Number:
    over = level_interval(values, within)
    return Number(NAME, quantity, arm, over.mean, over.low, over.high, over.seeds, "seeds", item=item)


def _lead(numbers: Sequence[Number], compared: Compared, features: int | None) -> str | None:
    captured, theirs = (stated(numbers, NAME, CAPTURED_A_CLASS, arm, shown="{:.2f}".format) for arm in compared.arms)
    right, their_right = (stated(numbers, NAME, SINGLE_VIEW_ACCURACY, arm) for arm in compared.arms)
    if features is None or captured is None or theirs is None:
        return None
    seen = f"The {compared.ours} captured {captured} of {features} features a class, {compared.baseline} {theirs}"
    if right is None or their_right is None:
        return f"{seen}."
    return f"{seen}; they recognise {right} of single-view images, {compared.baseline} {their_right}."


def each_feature(told: Told, name: str) -> dict[str, Figure]:
    """For each arm, features x networks: share of images recognised by the feature alone."""
    rows = [
        row
        for row in told["numbers"]
        if row["measure"] == NAME and row["quantity"] == RECOGNISED and row["seed"] is not None
    ]
    items = list(dict.fromkeys(row["item"] for row in rows))
    by_arm = {arm: [row for row in rows if row["arm"] == arm] for arm in arm_names(told)}
    return {arm: _of_networks(name, items, own) for arm, own in by_arm.items() if own}


def _of_networks(name: str, items: list[str], rows: list[Row]) -> Figure:
    seeds = sorted({row["seed"] for row in rows})
    grid = np.full((len(items), len(seeds)), np.nan)
    for row in rows:
        grid[items.index(row["item"]), seeds.index(row["seed"])] = row["value"]
    colours = LinearSegmentedColormap.from_list("found", ["#c8501a", "#e9c9b4", "#9cc7e6", "#1668b0"])

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        picture = axes.pcolormesh(grid, cmap=colours, vmin=0, vmax=1, edgecolors="white", linewidth=0.4)
        for y, x in zip(*np.nonzero(grid <= 0.5), strict=True):
            axes.plot(x + 0.5, y + 0.5, "x", color="black", markersize=5, markeredgewidth=1.2)
        axes.set_yticks(np.arange(len(items)) + 0.5, [shortened(item, 22) for item in items])
        axes.set_xticks(np.arange(len(seeds)) + 0.5, [str(seed) for seed in seeds])
        axes.set_xlabel("seed; a cross: not captured")
        axes.grid(visible=False)
        axes.invert_yaxis()
        figure.colorbar(picture, ax=axes, label="recognised", pad=0.02)

    return make(name, 0.8 + 0.22 * len(items), paint)


def _unnamed(item: str, classes: Mapping[str, str]) -> str:
    """A class, or "CLASS, feature 1"."""
    name, comma, feature = item.rpartition(FEATURE)
    return f"{classes[name]}{FEATURE}{feature}" if comma and name in classes else classes.get(item, HIDDEN)


FEATURES = Measure(
    name=NAME,
    title="Captured features",
    about="Each image shows one feature of its class, and none of its others. A feature is captured if more than half "
    "of the images that show it alone are given its class. Decodable: by a linear read-out that learnt from such "
    "images, what the encoder holds whatever its classifier makes of it.",
    take=take,
    expectations=(
        Expectation(
            quantities=(CAPTURED_A_CLASS,),
            supported="{ours} captured more of each class's features than {theirs}.",
            against="{theirs} captured more of each class's features than {ours}.",
            open="No certain difference in the features captured.",
        ),
    ),
    lead=_lead,
    figures={"features": Drawing("Share of images recognised by each feature alone", each_feature)},
    unnamed=_unnamed,
)
