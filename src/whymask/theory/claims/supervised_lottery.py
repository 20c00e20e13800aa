"""Claim 4 [A]: of a class's features supervised learning captures one, the class's winner."""

import numpy as np
import torch
from matplotlib.axes import Axes

from whymask.report.figures import NEUTRAL, draw
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, finding, mean_share, pooled, within
from whymask.theory.lab import Lab, Trained
from whymask.theory.measures import class_winners, feature_power, largest_overlap, own_overlap
from whymask.theory.page.figures import ORANGE
from whymask.theory.store import Arrays, numpy

ID = "supervised-lottery"
THRESHOLD, TOLERANCE = 0.9, 0.1
ONE_FEATURE = 0.3
"""Largest minor/major overlap of a class that captured one feature only."""


def supervised_lottery(lab: Lab) -> list[Finding]:
    """The fixed-head network captures one of a class's features, and it is the class's winner."""
    trained = lab.classifier("fixed", "random")
    one, right = lottery(lab, trained)
    accuracy, L = lab.accuracy(trained.network, "single"), lab.data.L
    expected = 1 - one.mean(1) * (L - 1) / L
    what = "classes that captured one feature, their winner"
    main = pooled(what, (one & right).sum(1), lab.data.k, lab.seeds, THRESHOLD)
    rows = [
        pooled("classes that captured one feature only", one.sum(1), lab.data.k, lab.seeds),
        pooled("classes whose larger feature is their winner", right.sum(1), lab.data.k, lab.seeds, THRESHOLD),
        mean_share("single-view accuracy", accuracy),
        mean_share(f"predicted: 1 - (share of one-feature classes) (L - 1)/L, L = {L}", expected),
        within("single-view accuracy minus the prediction", accuracy - expected, TOLERANCE),
        *_by_margin(lab, right),
    ]
    predicted = "of a class's features the fixed-head network captures one, the class's winner"
    return [finding(ID, "[A]", predicted, main, rows)]


def lottery(lab: Lab, trained: Trained, owned: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Which classes the network captured one feature of, and whose larger feature is their winner: (S, k) bool each.

    A class's feature is looked for in the kernels that the class owns; with a learned head (not `owned`), in all.
    """
    if owned:
        overlap = numpy(own_overlap(trained.network, lab.features, lab.data.L))
    else:
        overlap = numpy(largest_overlap(trained.network, lab.features)).reshape(len(lab.seeds), lab.data.k, lab.data.L)
    ordered = np.sort(overlap, axis=2)
    major, others = ordered[..., -1], ordered[..., :-1]
    one = (major >= lab.regime.horizon / 2) & (others <= ONE_FEATURE * major[..., None]).all(2)
    return one, overlap.argmax(2) == _winners(lab)["winner"]


def _winners(lab: Lab) -> Arrays:
    """ "winner" and "margin", (S, k) each: the winner of every class, and its margin over the runner-up."""

    def found(seeds: list[int]) -> Arrays:
        L, q, images = lab.data.L, lab.regime.q, lab.images(seeds)
        power = sum(feature_power(batch, lab.features, L, q) for batch in images) / len(images)
        winner, margin = class_winners(lab.start(seeds), lab.features, torch.as_tensor(power), L, q)
        return {"winner": numpy(winner), "margin": numpy(margin)}

    return lab.kept("winners", found)


def _by_margin(lab: Lab, right: np.ndarray) -> list[Row]:
    margin = _winners(lab)["margin"]
    rows = []
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, np.inf)):
        chosen = (margin >= low) & ((margin < high) | (high == np.inf))
        what = (
            f"the same, margin over the runner-up {low} to {high}" if high < np.inf else f"the same, margin over {low}"
        )
        rows.append(pooled(what, (right & chosen).sum(1), chosen.sum(1), lab.seeds))
    return rows


def best_and_second(told: Told) -> list[Picture]:
    overlap = told.array("fixed-random/own_overlap", 3)
    if overlap is None or overlap.shape[2] < 2 or np.isnan(overlap).any():
        return []
    ordered = np.sort(overlap, axis=2)
    major, minor = ordered[..., -1].ravel(), ordered[..., -2].ravel()
    lost = int((minor <= ONE_FEATURE * major).sum())
    caption = f"{lost} of {len(minor)} classes (all seeds) lie below the dotted line"
    return [Picture("theory-lottery", caption, _scatter("theory-lottery", major, minor, ONE_FEATURE))]


def _scatter(name: str, major: np.ndarray, minor: np.ndarray, slope: float) -> str:
    """Second best against best, (N,) each, with the diagonal and a dotted line of `slope`."""
    end = 1.05 * max(float(major.max()), 1e-12)

    def paint(axes: Axes) -> None:
        axes.plot([0, end], [0, end], color=NEUTRAL, linewidth=1, alpha=0.6)
        axes.plot([0, end], [0, slope * end], color=NEUTRAL, linewidth=1.2, linestyle=(0, (1, 2)))
        axes.plot(major, minor, "o", color=ORANGE, alpha=0.55, markersize=5, markeredgewidth=0)
        axes.set_xlim(0, end)
        axes.set_ylim(-0.03 * end, end)
        axes.set_xlabel("Λ of the class's best feature")
        axes.set_ylabel("Λ of its second best")

    return draw(name, 3.8, paint)


SUPERVISED_LOTTERY = Claim(
    id=ID,
    title="Supervised learning captures one feature a class",
    test=supervised_lottery,
    section=Section(
        id="lottery",
        title="What a supervised network takes of a class",
        reading="Each point is a class of one seed, trained from scratch with the fixed head: the largest correlation "
        "that the class's own kernels have with its best feature (across) and with its second best (up). Points near "
        "the bottom are classes of which one feature was captured and the other lost, points near the diagonal have "
        "both. Dotted line: the second at 0.3 of the first.",
        draw=best_and_second,
    ),
)
