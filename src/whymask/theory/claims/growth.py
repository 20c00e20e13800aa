"""Claim 7 [D]: at the start, a kernel's winner grows if and only if tau^q - 1 > (1/theta - 1) / (C_eff (1 + kappa)).

C_eff is as many patches as a feature's C_p are worth, whose shares of its weight may differ; see `shares`.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, to_rgb

from whymask.report.figures import NEUTRAL, draw, legend_above
from whymask.report.text import count, known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, finding, pooled, worst
from whymask.theory.data import Samples
from whymask.theory.descent import OwnClock, horizon_of
from whymask.theory.lab import Lab
from whymask.theory.measures import predicted_to_grow
from whymask.theory.network import Network
from whymask.theory.objectives import TeacherStudent
from whymask.theory.page.figures import BLUE, GREEN, ORANGE, log_scale
from whymask.theory.settings import Split
from whymask.theory.shares import effective_patches
from whymask.theory.store import Arrays, numpy

ID = "growth"
AGREEMENT = 0.95
CROSSING = (0.9, 1.05)
THETAS = (0.25, 0.375, 0.5, 0.625, 0.75)
PATCHES: tuple[tuple[Split, int], ...] = (("equal", 1), ("equal", 2), ("equal", 4), ("random", 2), ("random", 4))
FACTORS = (0.6, 0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.2)
"""tau^q - 1 as multiples of the threshold without kappa."""
KERNELS = 20
"""Kernels a seed and cell; the same ones in every cell."""
IMAGES = 500
CHANGE = 0.01
"""The claim is about the start: a winner grows if its overlap rises by this share before it falls by as much."""
STEPS = 20
"""After so many steps a kernel that has not decided counts as not grown."""
SEEDS_AT_ONCE = 4
INK: Any = [(*to_rgb(BLUE), share) for share in np.linspace(0, 1, 101)]
"""From nothing to blue: empty is the page's own colour, light or dark."""


def growth(lab: Lab) -> list[Finding]:
    """Every cell of theta x C_p x factor; those of one way of sharing are the kernels of one wide network."""
    cells, agreement, crossings = [], [], []
    for split, C_p in PATCHES:
        name = f"{lab.name}/growth-{split}-{C_p}"
        arrays = lab.store.get(name, lab.seeds, SEEDS_AT_ONCE, partial(_grow, lab, split, C_p))
        for place, theta in enumerate(THETAS):
            grown, predicted = arrays["grown"][:, place], arrays["predicted"][:, place]  # (S, factors, KERNELS)
            cells += [
                _cell(lab, split, C_p, theta, factor, grown[:, at], predicted[:, at])
                for at, factor in enumerate(FACTORS)
            ]
            agreement.append(_agreement(lab, split, C_p, theta, grown == predicted))
            crossings.append(_crossing(split, C_p, theta, grown.mean((0, 2))))
    main = dict(min(agreement, key=lambda row: row["measured"]))
    main["state"] = worst([row["state"] for row in (*agreement, *crossings)])
    main["what"] = f"worst of {len(agreement)} cells of theta x C_p: {main['what']}"
    rule = "a kernel grows if and only if tau^q - 1 > (1/theta - 1) / (C_eff (1 + kappa))"
    return [finding(ID, "[D]", rule, main, [*agreement, *crossings, *cells])]


def _grow(lab: Lab, split: Split, C_p: int, seeds: list[int]) -> Arrays:
    """Whether each kernel grew and was predicted to: (S, thetas, factors, KERNELS) bool."""
    s = lab.regime
    data = replace(lab.data, C_p=C_p, P=None, split=split, sigma=0.0, gamma=0.0, covered=1.0, copied=True)
    samples = Samples(
        data,
        seeds,
        IMAGES,
        IMAGES,
        f"growth-{split}-{C_p}",
        s.budget * 2**30 / lab.store.workers,
        s.torch_device,
        s.dtype,
    )
    one = Network.random(KERNELS, data.width, seeds, s.scale, s.sigma)
    cells = len(THETAS) * len(FACTORS)
    network = one.having(kernels=one.kernels.repeat(1, cells, 1)).to(s.torch_device, s.dtype)
    theta = torch.tensor(THETAS).repeat_interleave(len(FACTORS) * KERNELS)
    factor = torch.tensor(FACTORS).repeat_interleave(KERNELS).repeat(len(THETAS))
    C_eff = effective_patches(split, C_p, s.q)
    tau = (1 + factor * (1 / theta - 1) / C_eff) ** (1 / s.q)
    theta, tau = theta.to(network.kernels), tau.to(network.kernels)
    features = data.features.to(network.kernels)
    predicted = predicted_to_grow(network, samples[0], features, theta, tau)
    descent = OwnClock(horizon_of(s.rho, C_p, float(tau.max())), s.own_step, STEPS, shrunk=1 - CHANGE)
    path = descent.run(network, TeacherStudent(theta, tau), samples, features)
    shape = (len(seeds), len(THETAS), len(FACTORS), KERNELS)
    return {"grown": numpy(path.rose).reshape(shape), "predicted": numpy(predicted).reshape(shape)}


def _cell(
    lab: Lab, split: Split, C_p: int, theta: float, factor: float, grown: np.ndarray, predicted: np.ndarray
) -> Row:
    """`grown` and `predicted` (S, KERNELS)."""
    C_eff = effective_patches(split, C_p, lab.regime.q)
    what = f"{_place(split, C_p, theta)}, tau^q - 1 at {factor:g} of the threshold: agreement"
    return pooled(what, (grown == predicted).sum(1), KERNELS, lab.seeds) | {
        "theta": theta,
        "C_p": C_p,
        "split": split,
        "C_eff": C_eff,
        "factor": factor,
        "excess": factor * (1 / theta - 1) / C_eff,
        "grown": float(grown.mean()),
        "predicted_grown": float(predicted.mean()),
    }


def _place(split: Split, C_p: int, theta: float) -> str:
    return f"theta {theta:g}, C_p {C_p}{'' if split == 'equal' else f' in {split} shares'}"


def _agreement(lab: Lab, split: Split, C_p: int, theta: float, agrees: np.ndarray) -> Row:
    """`agrees` (S, factors, KERNELS)."""
    what = f"{_place(split, C_p, theta)}: agreement"
    return pooled(what, agrees.sum((1, 2)), agrees[0].size, lab.seeds, AGREEMENT)


def _crossing(split: Split, C_p: int, theta: float, grown: np.ndarray) -> Row:
    """The factor at which half of the kernels grow, linear between the measured ones; `grown` (factors,) shares.

    It has no interval: the number itself says whether it lies within `CROSSING`, as it does not where half of them grow
    at all factors, or at none.
    """
    above = np.flatnonzero(grown >= 0.5)
    crossing = None
    if len(above) and above[0] > 0:
        at = above[0]
        part = (0.5 - grown[at - 1]) / (grown[at] - grown[at - 1])
        crossing = float(FACTORS[at - 1] + part * (FACTORS[at] - FACTORS[at - 1]))
    holds = crossing is not None and CROSSING[0] <= crossing <= CROSSING[1]
    what = f"{_place(split, C_p, theta)}: half of the kernels grow at this factor of the threshold without kappa"
    row: Row = {"what": what, "measured": crossing, "low": None, "high": None}
    told = {"theta": theta, "C_p": C_p, "split": split, "crossing": crossing}
    return row | told | {"state": "holds" if holds else "fails"}


def phases(told: Told) -> list[Picture]:
    placed = [row for row in told.rows if known(row.get("theta")) and 0 < row["theta"] < 1 and known(row.get("C_p"))]
    cells = [row for row in placed if known(row.get("grown")) and known(row.get("excess")) and row["excess"] > 0]
    cells = [row for row in cells if known(row.get("C_eff", 1)) and row.get("C_eff", 1) > 0]
    crossings = [row for row in placed if known(row.get("crossing")) and row["crossing"] > 0]
    pictures = []
    for split, C_p in sorted({_sharing(row) for row in cells if row["C_p"] > 0}):
        name = f"theory-phases-{split}-{count(C_p)}".replace(".", "-")
        panel = [[row for row in part if _sharing(row) == (split, C_p)] for part in (cells, crossings)]
        shares = f" of {split} shares" if C_p != 1 else ""
        caption = f"C_p = {count(C_p)}: {count(C_p)} patch{'es' if C_p != 1 else ''} a feature{shares}"
        found: Any = panel[0][0].get("C_eff", C_p)
        pictures.append(Picture(name, caption, _phase(name, found, *panel)))
    return pictures


def _sharing(row: Row) -> tuple[str, float]:
    """How a feature is shared out over how many patches; equally where a row of an earlier version does not say."""
    return str(row.get("split", "equal")), row["C_p"]


def _phase(name: str, C_eff: float, cells: list[Row], crossings: list[Row]) -> str:
    thetas = sorted({row["theta"] for row in cells})
    gap = min(np.diff(thetas), default=0.2)
    wing = 0.3 * gap * np.array([-1, 1])

    def paint(axes: Axes) -> None:
        colours: Any = ListedColormap(INK)
        for theta in thetas:
            column = {row["excess"]: row["grown"] for row in cells if row["theta"] == theta and row["excess"] > 0}
            levels = sorted(column)
            edges = _edges(np.array(levels))
            for level, low, high in zip(levels, edges[:-1], edges[1:], strict=True):
                face = colours(min(1.0, max(0.0, float(column[level]))))
                axes.fill_between(theta + wing, low, high, facecolor=face, edgecolor=NEUTRAL, linewidth=0.5)
        across = np.linspace(max(0.01, thetas[0] - gap / 2), min(0.99, thetas[-1] + gap / 2), 60)
        axes.plot(across, (1 / across - 1) / C_eff, color=ORANGE, label="predicted boundary")
        half = [(row["theta"], row["crossing"] * (1 / row["theta"] - 1) / C_eff) for row in crossings]
        if half:
            axes.plot(*zip(*half, strict=True), "D", color=GREEN, markersize=5, label="half of the kernels grow")
        log_scale(axes)
        axes.margins(y=0.05)
        axes.set_xlabel("θ, share of patches kept")
        axes.set_ylabel("τ^q − 1 (log scale)")
        axes.grid(False)
        figure: Any = axes.figure
        bar = figure.colorbar(ScalarMappable(cmap=colours), ax=axes, label="share of kernels that grew", pad=0.02)
        bar.solids.remove()  # as SVG it would lose its transparency
        ends, image = (*bar.ax.get_xlim(), *bar.ax.get_ylim()), np.array(INK)[:, None]
        bar.ax.imshow(image, extent=ends, origin="lower", aspect="auto", interpolation="none")
        legend_above(axes)

    return draw(name, 4.2, paint)


def _edges(levels: np.ndarray) -> np.ndarray:
    """The bounds of cells around `levels` (n,) on a log scale: (n + 1,)."""
    if len(levels) < 2:
        return np.concatenate([levels / 1.1, levels * 1.1])
    middles = np.sqrt(levels[:-1] * levels[1:])
    ends = levels[0] ** 2 / middles[0], levels[-1] ** 2 / middles[-1]
    return np.concatenate([ends[:1], middles, ends[1:]])


GROWTH = Claim(
    id=ID,
    title="When a kernel grows",
    test=growth,
    section=Section(
        id="phases",
        title="Which kernels grow",
        reading="Each cell is a setting of θ (the share of patches a mask keeps) and of the teacher's scale τ; the "
        "fuller its colour, the more of its kernels grew. The line is the predicted boundary (1/θ − 1)/C_eff without "
        "κ: above it kernels grow, below they shrink. κ, what a kernel gains from features that come together, lets "
        "some grow a little below the line. Diamonds: where half of the kernels grow.",
        draw=phases,
    ),
)
