"""Claim 12 [D]: features are found as coupons are collected, each pure kernel finding one at random."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes

from whymask.report.figures import draw, legend_above
from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, finding, mean_share, within
from whymask.theory.lab import Lab
from whymask.theory.measures import finds
from whymask.theory.page.figures import BLUE, GREEN, ORANGE
from whymask.theory.store import numpy

ID = "coupons"
TOLERANCE = 0.02
KERNELS = (5, 10, 13, 20, 30)
"""Kernels a class. The first ones of a network of the most: on their own clocks kernels know nothing of one another."""
FACTORS_OF_K = (1, 2)
"""Classes, as multiples of the regime's."""


def coupons(lab: Lab) -> list[Finding]:
    """Coverage against m and k, beside 1 - (1 - 1/n)^(K p): n features, K kernels, of which the share p is pure and
    grown."""
    rows, differences = [], []
    for factor in FACTORS_OF_K:
        k = factor * lab.data.k
        wide = replace(lab.regime.with_data(k=k), m=max(KERNELS), N=None if factor > 1 else lab.regime.N)
        there = lab.sub(f"{lab.name}-coupons-{k}", wide, lab.seeds)
        found = numpy(finds(there.pretrained("own").network, there.features, wide.horizon))  # (S, K, n) bool
        found = found[..., there.pretraining.shown.numpy()]
        for m in KERNELS:
            some, n = found[:, : k * m], found.shape[2]
            seen, p = some.any(1).mean(1), some.any(2).mean(1)
            told = 1 - (1 - 1 / n) ** (k * m * p)
            differences.append(seen - told)
            rows.append(mean_share(f"k = {k}, m = {m}: coverage", seen) | _about(k, m, told))
    main = within("coverage minus prediction, mean over m and k", np.mean(differences, axis=0), TOLERANCE)
    predicted = f"in the mean over m and k coverage is 1 - (1 - 1/(k·L))^(K p), within {TOLERANCE}"
    return [finding(ID, "[D]", predicted, main, rows, "own")]


def _about(k: int, m: int, told: np.ndarray) -> Row:
    return {"k": k, "m": m, "predicted": float(told.mean())}


def against_m(told: Told) -> list[Picture]:
    rows = [row for row in told.rows if all(known(row.get(key)) for key in ("k", "m", "measured", "predicted"))]
    if not rows:
        return []

    def paint(axes: Axes) -> None:
        for colour, k in zip((BLUE, ORANGE, GREEN), sorted({row["k"] for row in rows}), strict=False):
            some = sorted((row for row in rows if row["k"] == k), key=lambda row: row["m"])
            places = [row["m"] for row in some]
            axes.plot(places, [row["predicted"] for row in some], color=colour, label=f"predicted, k = {k:g}")
            axes.plot(places, [row["measured"] for row in some], "o", color=colour, label=f"measured, k = {k:g}")
        axes.set_xlabel("m, kernels a class")
        axes.set_ylabel("coverage")
        legend_above(axes)

    return [Picture("theory-coupons", "Coverage against kernels a class", draw("theory-coupons", 3.3, paint))]


COUPONS = Claim(
    id=ID,
    title="Features are collected like coupons",
    test=coupons,
    section=Section(
        id="coupons",
        title="How many kernels find all features",
        reading="Each kernel that grows pure finds one feature, as good as at random, so that all are found only by "
        "many more kernels than there are features. Lines: what that predicts from the share of pure kernels alone; "
        "points: what was measured.",
        draw=against_m,
    ),
)
