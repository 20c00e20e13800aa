"""Claim 1 [P Theorem 1]: pretraining captures every feature."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from whymask.report.figures import NEUTRAL, draw, legend_above
from whymask.report.text import count, known
from whymask.theory.claims.claim import CLOCK_NAMES, Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, finding, pooled
from whymask.theory.lab import CLOCKS, Lab, Trained
from whymask.theory.measures import captured, largest_overlap
from whymask.theory.page.figures import BLUE, ORANGE, log_scale
from whymask.theory.store import numpy

ID = "coverage"
THRESHOLD = 0.95
RECORD = 4
"""Steps between two records of Lambda."""
LINES, POINTS = 40, 150
"""Most thin lines of a picture, and most points of a line."""


def coverage(lab: Lab) -> list[Finding]:
    """On each clock."""
    return [
        finding(
            ID,
            "[P] Theorem 1",
            "pretraining captures all k·L features",
            captured_row(lab, lab.pretrained(clock), THRESHOLD),
            coverage_details(lab, lab.pretrained(clock)),
            clock,
        )
        for clock in CLOCKS
    ]


def captured_row(lab: Lab, trained: Trained, threshold: float | None = None) -> Row:
    hits = numpy(captured(trained.network, lab.features, lab.regime.horizon))[:, lab.pretraining.shown.numpy()]
    return pooled("features captured", hits.sum(1), hits.shape[1], lab.seeds, threshold)


def coverage_details(lab: Lab, trained: Trained) -> list[Row]:
    rows = [held_row(lab, trained)]
    if trained.most.size:
        rows.append(pooled("most features captured at any time", trained.most, lab.data.count, lab.seeds))
    return rows


def held_row(lab: Lab, trained: Trained) -> Row:
    """Captured but for purity: a blended kernel counts for each of its features."""
    held = numpy(largest_overlap(trained.network, lab.features)) >= lab.regime.horizon / 2
    what = "features that some kernel, pure or not, has at half the horizon"
    return pooled(what, held.sum(1), held.shape[1], lab.seeds)


def growth_curves(told: Told) -> list[Picture]:
    pictures = []
    for clock, title in CLOCK_NAMES.items():
        growth, captured = told.array(f"{clock}/growth", 3), told.array(f"{clock}/captured", 2)
        if growth is None or captured is None or captured.shape != growth.shape[::2] or np.isnan(growth).all():
            continue
        svg = _curves(f"theory-growth-{clock}", growth, captured > 0, told.setting.get("horizon"))
        shares = f"{int(captured[0].sum())} of {captured.shape[1]} features captured in the first seed"
        pictures.append(Picture(f"theory-growth-{clock}", f"Λ against steps, {title}: {shares}", svg))
    return pictures


def _curves(name: str, growth: np.ndarray, captured: np.ndarray, horizon: Any) -> str:
    """growth (S, T, n), captured (S, n) bool."""
    chosen = np.unique(np.linspace(0, growth.shape[1] - 1, min(growth.shape[1], POINTS)).round().astype(int))
    steps, features = RECORD * chosen, growth[:, chosen].transpose(0, 2, 1)  # (S, n, POINTS)
    top = np.nanmax(features)

    def paint(axes: Axes) -> None:
        for label, which, colour in (("captured", captured, BLUE), ("not captured", ~captured, ORANGE)):
            for curve in features[0][which[0]][:LINES]:
                axes.plot(steps, curve, color=colour, linewidth=0.7, alpha=0.5)
            if which.any():
                axes.plot(steps, _median(features[which]), color=colour, linewidth=2.6, label=label)
        if known(horizon):
            for height, dashes in ((horizon, (0, (5, 3))), (horizon / 2, (0, (1, 2)))):
                axes.axhline(height, color=NEUTRAL, linewidth=1.2, linestyle=dashes, zorder=1)
            if top > 4 * horizon:
                axes.set_ylim(horizon / 100, 1.2 * top)
                log_scale(axes)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count(value)))
        axes.set_xlabel("steps")
        axes.set_ylabel("Λ")
        legend_above(axes)

    return draw(name, 3.3, paint)


def _median(curves: np.ndarray) -> np.ndarray:
    """Median of (N, POINTS) over N; NaN where nothing is finite."""
    ordered = np.sort(curves, axis=0)  # NaN come last
    counts = np.isfinite(curves).sum(0)
    low, high = (
        ordered[np.maximum(place, 0), np.arange(curves.shape[1])] for place in ((counts - 1) // 2, counts // 2)
    )
    return np.where(counts % 2, low, (low + high) / 2)


COVERAGE = Claim(
    id=ID,
    title="Pretraining captures every feature",
    test=coverage,
    section=Section(
        id="growth",
        title="How the features grow in pretraining",
        reading="Λ of a feature is the largest correlation that any kernel has with it. Thin lines: the features of "
        "the first seed. Thick lines: the median over the features of all seeds. Captured: at the end some kernel has "
        "it at half the horizon (dotted line) or more, and nearly alone. On their own clocks kernels stop at the "
        "horizon (dashed line) one by one; on a common clock all stop when the first reaches it; the curves go on.",
        draw=growth_curves,
    ),
)
