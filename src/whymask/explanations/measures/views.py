"""Views: how many separate parts of an image suffice for a network to recognise it.

The paper assumes that a class has several features, any of which tells the class, and says that masked pretraining
captures all of them where training from scratch captures some. On images whose features nobody knows, the evidence of a
network is hidden and the network asked again: one that captured a single feature has nothing left to go by.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from whymask.explanations.cast import Cast
from whymask.explanations.compared import Compared
from whymask.explanations.drawing import MAIN, Row, Told, arm_names, lines, named, select
from whymask.explanations.evidence import Means, evidence, ranks
from whymask.explanations.fill import FILLED, FILLINGS, Filling, cells_of, hide
from whymask.explanations.measure import Drawing, Expectation, Measure, numbers_of, of_each
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number, Scores, stated
from whymask.explanations.shown import Shown
from whymask.randomness import torch_generator
from whymask.report.figures import NEUTRAL, label_below, legend_above, make
from whymask.report.text import proportion

NAME = "views"
ACCURACY, HIDDEN, KEPT, AREA = "accuracy", "hidden", "kept", "area"
AT_RANDOM = " at random"
VIEW_COUNT, VIEWS_OF_N = "views", "views of N"

SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
"""Of an image's cells that are hidden, or kept, the strongest evidence first."""
PREFIXES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of an image's cells: sizes of a part that is tried for being enough, from the smallest."""
MOST = 5
"""Views are counted up to here."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    some = shown.first(shown.settings.view_images)

    def scores(network: Member) -> Scores:
        return view_scores(network, some.images, some.labels, some.fillers, some.cells, some.means[network.arm])

    return numbers_of(NAME, cast, of_each(NAME, cast, scores), some.groups, {VIEW_COUNT: (0.0, MOST)})


def view_scores(
    network: Member,
    images: Tensor,
    labels: Tensor,
    fillers: dict[Filling, Tensor],
    cells: tuple[int, int],
    means: Means,
) -> dict[Key, np.ndarray]:
    """On images (n, C, h, w), with evidence for cells (gh, gw).

    "accuracy" counts every image; all others those that the network recognises whole, and not with everything hidden:
    of what it says of a blank image too, no part is evidence. "hidden" and "kept": whether the image is still
    recognised with a share of its cells hidden, or with that share alone, the strongest evidence first; "... at
    random": the same with random cells, what hiding costs wherever it is done. "area": the mean of "hidden" over shares
    from 0 to the largest (trapezoids). "views": see `count_views`.
    """
    whole = network.recognises(images, labels)
    maps = evidence(network, images, labels, cells, means)
    noise = torch.rand(maps.shape, generator=torch_generator(0, "random cells"))
    steps = cells_of(SHARES, cells)
    shares = [share for _, share in steps]
    scores = {Key(ACCURACY): whole.double().numpy()}
    for name, filler in fillers.items():
        counts = whole & ~network.recognises(filler, labels)
        for order, places in (("", ranks(maps)), (AT_RANDOM, ranks(noise))):
            firsts = [places.view_as(maps) < number for number, _ in steps]
            curve = [_without_and_alone(network, images, labels, filler, first, counts) for first in firsts]
            for share, (hidden, kept) in zip(shares, curve, strict=True):
                scores[Key(HIDDEN + order, name, share)] = hidden
                scores[Key(KEPT + order, name, share)] = kept
            hidden_curve = np.stack([_counted(torch.ones_like(whole), counts), *(hidden for hidden, _ in curve)])
            scores[Key(AREA + order, name)] = np.trapezoid(hidden_curve, [0, *shares], axis=0) / shares[-1]
        counted = _counted(count_views(network, images, labels, filler, counts, cells, means), counts)
        scores[Key(VIEW_COUNT, name)] = counted
        for number in range(1, MOST + 1):
            scores[Key(VIEWS_OF_N, name, number)] = np.where(np.isnan(counted), np.nan, counted == number)
    return scores


def count_views(
    network: Member,
    images: Tensor,
    labels: Tensor,
    filler: Tensor,
    counts: Tensor,
    cells: tuple[int, int],
    means: Means,
) -> Tensor:
    """How many disjoint parts of each image suffice, long (n,), at most 5; 0 where `counts` (n,) is False,
    which must be so for images that are not recognised whole.

    A part is made of the cells with the strongest evidence in what is left: the smallest of 1/16, 1/8, 1/4, 1/2 of the
    image's cells that is recognised alone. It is hidden, and evidence is sought anew in the rest, until the rest is not
    recognised. A rest that is recognised while none of its parts is, is itself the last part.
    """
    count = cells[0] * cells[1]
    views = torch.zeros(len(images), dtype=torch.long)
    left = torch.ones(len(images), count, dtype=torch.bool)
    rows = counts.nonzero()[:, 0]
    for _ in range(MOST):
        shown = hide(images[rows], ~left[rows].view(-1, *cells), filler[rows])
        still = network.recognises(shown, labels[rows])
        rows, shown = rows[still], shown[still]
        if not len(rows):
            break
        maps = evidence(network, shown, labels[rows], cells, means).flatten(1)
        places = ranks(maps.masked_fill(~left[rows], -torch.inf))
        part, open_ = left[rows].clone(), torch.ones(len(rows), dtype=torch.bool)
        for share in PREFIXES:
            tried = (places < max(1, round(share * count))) & left[rows]
            seen = hide(images[rows[open_]], ~tried[open_].view(-1, *cells), filler[rows[open_]])
            enough = open_.clone()
            enough[open_] = network.recognises(seen, labels[rows[open_]])
            part[enough] = tried[enough]
            open_ &= ~enough
            if not open_.any():
                break
        views[rows] += 1
        left[rows] &= ~part
        rows = rows[left[rows].any(dim=1)]
    return views


def _without_and_alone(
    network: Member, images: Tensor, labels: Tensor, filler: Tensor, first: Tensor, counts: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Whether an image is recognised without the cells that are True in `first` (n, gh, gw), and by them alone."""
    without, alone = (
        _counted(network.recognises(hide(images, hidden, filler), labels), counts) for hidden in (first, ~first)
    )
    return without, alone


def _counted(values: Tensor, counts: Tensor) -> np.ndarray:
    """As float64, NaN for the images that do not count."""
    return np.where(counts.numpy(), values.double().numpy(), np.nan)


def _lead(numbers: Sequence[Number], compared: Compared, features: int | None) -> str | None:
    ours, theirs = (stated(numbers, NAME, ACCURACY, arm) for arm in compared.arms)
    if ours is None or theirs is None:
        return None
    told = f"The {compared.ours} recognise {ours} of the test images, {compared.baseline} {theirs}."
    shares = {row.at for row in numbers if (row.measure, row.quantity) == (NAME, HIDDEN) and row.at is not None}
    quarter = min(shares, key=lambda at: abs(at - 0.25), default=None)
    left, their_left = (stated(numbers, NAME, HIDDEN, arm, "mean", quarter) for arm in compared.arms)
    views, their_views = (
        stated(numbers, NAME, VIEW_COUNT, arm, "mean", shown="{:.1f}".format) for arm in compared.arms
    )
    if quarter is None or left is None or their_left is None or views is None or their_views is None:
        return told
    return (
        f"{told} With {proportion(quarter)} of the image hidden, the part that speaks most for their decision, they "
        f"still recognise {left} and {their_left} of these; {views} and {their_views} separate parts of an image "
        "suffice for them."
    )


def still_recognised(told: Told, name: str) -> dict[str, Figure]:
    """Share still recognised against the share hidden, a panel a filling; dotted: random cells."""
    rows, random = (select(told, NAME, quantity) for quantity in (HIDDEN, HIDDEN + AT_RANDOM))
    if not rows:
        return {}
    first = {arm: {"at": 0.0, "value": 1.0, "low": 1.0, "high": 1.0} for arm in arm_names(told)}
    main = {arm["name"] for arm in told["arms"] if arm["role"] in MAIN}

    def panel(filling: Filling) -> Figure:
        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            lines(axes, told, [row for row in rows if row["filling"] == filling], first)
            chance = [row for row in random if row["filling"] == filling and row["arm"] in main]
            lines(axes, told, chance, first, dotted=True)
            label_below(figure, f"share of the image hidden,\n{FILLED[filling]}")
            axes.set_ylabel("still recognised\n(dotted: random cells)")
            axes.set_ylim(-0.02, 1.02)
            legend_above(axes)

        return make(name, 3.6, paint)

    return {FILLED[filling]: panel(filling) for filling in FILLINGS}


def numbers_of_views(told: Told, name: str) -> dict[str, Figure]:
    """Mean number of views of each arm, and how many images have 1, 2, ... of them."""
    rows = select(told, NAME, VIEW_COUNT)
    counts = select(told, NAME, VIEWS_OF_N)
    if not rows:
        return {}
    arms = [arm for arm in arm_names(told) if any(row["arm"] == arm for row in rows)]
    names = named(told, rows)

    def panel(filling: Filling) -> Figure:
        shades = LinearSegmentedColormap.from_list("views", ["#d6dde4", "#1668b0"])

        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            for place, arm in enumerate(arms):
                left = 0.0
                for number in range(1, MOST + 1):
                    share = next((row["value"] for row in counts if _is(row, arm, filling, number)), 0.0)
                    axes.barh(place, share, left=left, color=shades((number - 1) / 4), height=0.7)
                    left += share
                mean = next((row for row in rows if _is(row, arm, filling)), None)
                if mean:
                    text = f"{mean['value']:.2f}"
                    axes.annotate(text, (1, place), (4, 0), textcoords="offset points", va="center", color=NEUTRAL)
            label_below(figure, f"share of images,\n{FILLED[filling]}")
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
            axes.grid(axis="y", visible=False)
            axes.set_yticks(range(len(arms)), [names[arm] for arm in arms])
            axes.invert_yaxis()
            numbers = [Patch(color=shades((n - 1) / 4), label=f"{n}{'+' * (n == MOST)}") for n in range(1, MOST + 1)]
            close: dict[str, Any] = {"handlelength": 1.2, "columnspacing": 1.0, "handletextpad": 0.4}
            figure.legend(
                handles=numbers, loc="outside upper left", ncols=MOST, title="views (right: their mean)", **close
            )

        return make(name, 1.6 + 0.34 * len(arms), paint)

    return {FILLED[filling]: panel(filling) for filling in FILLINGS}


def _is(row: Row, arm: str, filling: str, at: float | None = None) -> bool:
    return row["arm"] == arm and row["filling"] == filling and row["at"] == at


VIEWS = Measure(
    name=NAME,
    title="Views",
    about="The image's cells are ranked by their evidence. Hidden: the strongest share of them is hidden, is the image "
    "still recognised? Kept: that share alone is shown, does it suffice? Views: parts are taken away one after the "
    "other, each the smallest that suffices alone, until what is left is not recognised. Counted are images that a "
    "network recognises whole, and not with everything hidden; how many these are is told where they are fewer than "
    "10.",
    take=take,
    expectations=(
        Expectation(
            quantities=(VIEW_COUNT,),
            fillings=FILLINGS,
            hides=True,
            supported="{ours} can recognise an image by more separate parts of it than {theirs}.",
            against="{theirs} can recognise an image by more separate parts of it than {ours}.",
            open="Whether {ours} recognise an image by more separate parts than {theirs} is not certain.",
        ),
    ),
    lead=_lead,
    figures={
        "hidden": Drawing("Still recognised, by share of the image hidden, strongest evidence first", still_recognised),
        "views": Drawing("Separate parts of an image that suffice to recognise it", numbers_of_views),
    },
)
