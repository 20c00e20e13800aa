"""Robustness: accuracy under noise and under occlusion, of networks side by side on the same disturbed images."""

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from whymask.explanations.cast import Cast
from whymask.explanations.drawing import Row, Told, levelled, lines, select
from whymask.explanations.evidence import ranks
from whymask.explanations.fill import FILLED, FILLINGS, Filling, cells_of, hide
from whymask.explanations.measure import Drawing, Expectation, Measure, numbers_of, of_each
from whymask.explanations.networks import Member
from whymask.explanations.numbers import Key, Number, Scores
from whymask.explanations.shown import Shown
from whymask.randomness import torch_generator
from whymask.report.figures import label_below, legend_above, make

NAME = "robustness"
ACCURACY = "accuracy"
NOISE, NOISE_MEAN = "noise", "noise mean"
OCCLUSION, OCCLUSION_MEAN = "occlusion", "occlusion mean"

STRENGTHS = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Standard deviations of Gaussian pixel noise, in standard deviations of the data."""
SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
"""Of an image's cells that are hidden, at random places."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    def scores(network: Member) -> Scores:
        return robustness_scores(network, shown.images, shown.labels, shown.fillers, shown.cells)

    return numbers_of(NAME, cast, of_each(NAME, cast, scores), shown.groups)


def robustness_scores(
    network: Member, images: Tensor, labels: Tensor, fillers: dict[Filling, Tensor], cells: tuple[int, int]
) -> dict[Key, np.ndarray]:
    """On images (n, C, h, w): whether each is recognised ("accuracy"), under "noise" and "occlusion" `at`
    five strengths, and the mean over these. Every network sees the same noise and the same cells."""

    def right(shown: Tensor) -> np.ndarray:
        return network.recognises(shown, labels).double().numpy()

    noise = torch.randn(images.shape, generator=torch_generator(0, "noise"))
    cell_order = ranks(torch.rand(len(images), *cells, generator=torch_generator(0, "occlusion")))
    scores = {Key(ACCURACY): right(images)}
    noisy = {Key(NOISE, at=strength): right(images + strength * noise) for strength in STRENGTHS}
    scores |= noisy | {Key(NOISE_MEAN): np.mean(list(noisy.values()), axis=0)}
    for name, filler in fillers.items():
        occluded = {}
        for number, share in cells_of(SHARES, cells):
            hidden = (cell_order < number).view(-1, *cells)
            occluded[Key(OCCLUSION, name, share)] = right(hide(images, hidden, filler))
        scores |= occluded | {Key(OCCLUSION_MEAN, name): np.mean(list(occluded.values()), axis=0)}
    return scores


def curves(told: Told, name: str) -> dict[str, Figure]:
    """Accuracy against noise, and against the share hidden at random places, with both fillings."""
    noise = select(told, NAME, NOISE)
    if not noise:
        return {}
    start = {row["arm"]: row for row in select(told, NAME, ACCURACY)}

    def panel(rows: list[Row], xlabel: str) -> Figure:
        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            lines(axes, told, rows, start)
            label_below(figure, xlabel)
            axes.set_ylabel("accuracy")
            legend_above(axes)

        return make(name, 3.7, paint)

    panels = {"noise": panel(noise, "noise, in standard deviations of the data")}
    for filling in FILLINGS:
        rows = [row for row in select(told, NAME, OCCLUSION) if row["filling"] == filling]
        panels[f"hidden, {FILLED[filling]}"] = panel(rows, f"share hidden,\n{FILLED[filling]}")
    return levelled(panels)


ROBUSTNESS = Measure(
    name=NAME,
    title="Robustness",
    about="All networks see the same noise, and the same random cells hidden.",
    take=take,
    expectations=(
        Expectation(
            quantities=(NOISE_MEAN,),
            hides=True,
            supported="{ours} are more accurate under noise than {theirs}.",
            against="{theirs} are more accurate under noise than {ours}.",
            open="No certain difference in accuracy under noise.",
        ),
        Expectation(
            quantities=(OCCLUSION_MEAN,),
            fillings=FILLINGS,
            hides=True,
            supported="{ours} are more accurate than {theirs} when parts of the image are hidden.",
            against="{theirs} are more accurate than {ours} when parts of the image are hidden.",
            open="Whether {ours} are more accurate than {theirs} when parts of the image are hidden is not certain.",
        ),
    ),
    figures={"robustness": Drawing("Accuracy under noise and with parts hidden", curves)},
)
