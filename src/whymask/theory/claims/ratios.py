"""Ratios of masks, fixed and drawn: masked prediction as minimum-norm regression (Dong et al., arXiv 2509.21650).

Theirs, of which the abstract was read: masked pretraining behaves as the test risk of ridgeless regression does, and
ratios that are drawn at random beat the best fixed one in their linear model. Ours [D]: this linear lab, its closed
form, in which E[1/theta] alone counts, and all thresholds. Here theta is the share that is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from whymask.randomness import torch_generator
from whymask.report.figures import draw, legend_above
from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.purity import grown_row, pure_row, pure_share
from whymask.theory.claims.record import Finding, Row, averaged, finding, named, within
from whymask.theory.data import Sample
from whymask.theory.lab import Lab, Trained
from whymask.theory.network import Network
from whymask.theory.objectives import Gradients, TeacherStudent
from whymask.theory.page.figures import BLUE, GREEN, ORANGE
from whymask.theory.ridgeless import LinearTask
from whymask.theory.store import Arrays

ID = "ratios"
IMAGES = 100
WIDTHS = (50, 90, 200, 400)
LATENTS = (3, 30)
"""The task: few strong latent causes, or many weak ones."""
NOISE = 1.0
KEPT = (0.1, 0.25, 0.5, 0.75, 0.9)
DRAWN = (0.1, 0.4)
"""What is kept where ratios are drawn, uniformly: 0.6 to 0.9 are hidden."""
TOLERANCE = 0.05
MIXED = (0.25, 0.75)
"""Two-layer networks: half of each batch's images keep the one share, half the other."""
SEEDS = 5
CALM, CALM_SEEDS = 5, 2
"""Once more with so many times as many images in a step, by so many seeds."""


def ratios(lab: Lab) -> list[Finding]:
    """Linear regression, whose risk is exact given the fit; then two-layer kernels on their own clocks."""
    risks = lab.kept("ridgeless", _risks)
    few = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    return [_closed_form(risks), _drawn(risks), _in_networks(few)]


def equal_share() -> float:
    """The fixed theta with the E[1/theta] of `DRAWN`."""
    low, high = DRAWN
    return (high - low) / float(np.log(high / low))


def _risks(seeds: list[int]) -> Arrays:
    """By seed, task and width: the risk at each of `KEPT`, "fixed", and the "predicted" one, (S, tasks, widths,
    ratios); with ratios "drawn" and of "equal" E[1/theta], (S, tasks, widths)."""
    found = [[[_cell(seed, latents, p) for p in WIDTHS] for latents in LATENTS] for seed in seeds]
    keys = found[0][0][0]
    return {key: np.array([[[cell[key] for cell in row] for row in rows] for rows in found]) for key in keys}


def _cell(seed: int, latents: int, p: int) -> dict[str, list[float] | float]:
    """The same images and masks' random numbers for every ratio."""
    task = LinearTask.drawn(p, latents, NOISE, torch_generator(seed, "linear-task", latents, p))

    def risk(kept: Tensor) -> float:
        return task.risk(task.fitted(kept, torch_generator(seed, "linear-images", latents, p)))

    one = torch.ones(IMAGES, dtype=torch.float64)
    low, high = DRAWN
    uniform = torch.rand(IMAGES, generator=torch_generator(seed, "linear-ratios"), dtype=torch.float64)
    return {
        "fixed": [risk(kept * one) for kept in KEPT],
        "predicted": [task.predicted(IMAGES, 1 / kept) for kept in KEPT],
        "drawn": risk(low + (high - low) * uniform),
        "equal": risk(equal_share() * one),
    }


def _closed_form(risks: Arrays) -> Finding:
    fixed, told = risks["fixed"], risks["predicted"]
    off = np.log(fixed / told)  # (S, tasks, widths, ratios)
    main = within("log of risk over predicted risk, mean over tasks, widths and ratios", off.mean((1, 2, 3)), TOLERANCE)
    rows = []
    for (a, latents), (b, p) in product(enumerate(LATENTS), enumerate(WIDTHS)):
        best = {name: KEPT[int(of[:, a, b].mean(0).argmin())] for name, of in (("seen", fixed), ("predicted", told))}
        for c, kept in enumerate(KEPT):
            about: Row = {"latents": latents, "width": p, "kept": kept, "least_risk_at": best}
            about["predicted"] = float(told[:, a, b, c].mean())
            name = f"{latents} latents, {p} numbers seen, kept {kept:g}: risk of whole images"
            rows.append(averaged(name, fixed[:, a, b, c]) | about)
    worst = np.unravel_index(np.abs(off.mean(0)).argmax(), off.shape[1:])
    where = f"{LATENTS[worst[0]]} latents, {WIDTHS[worst[1]]} numbers seen, kept {KEPT[worst[2]]:g}"
    rows.insert(0, averaged(f"the same of the cell furthest off: {where}", off[:, *worst]))
    predicted = f"the risk of masked ridgeless regression is that of the closed form, its logarithm within {TOLERANCE}"
    return finding(ID, "Dong et al. (abstract read); the form [D]", predicted, main, rows)


def _drawn(risks: Arrays) -> Finding:
    drawn, fixed = np.log(risks["drawn"]), np.log(risks["fixed"])  # (S, tasks, widths), ... ratios
    equal = drawn - np.log(risks["equal"])
    low, high = DRAWN
    what = f"log of risk, kept drawn from {low:g} to {high:g}, minus {equal_share():.3f} of equal E[1/theta]"
    main = within(f"{what}, mean over tasks and widths", equal.mean((1, 2)), TOLERANCE)
    best = np.log(risks["fixed"].mean(0)).argmin(2)  # of all seeds together, (tasks, widths)
    rows = []
    for (a, latents), (b, p) in product(enumerate(LATENTS), enumerate(WIDTHS)):
        name, at = f"{latents} latents, {p} numbers seen", int(best[a, b])
        rows.append(named(name, averaged(what, equal[:, a, b])))
        over = drawn[:, a, b] - fixed[:, a, b, at]
        rows.append(named(name, averaged(f"log of risk, drawn minus the best fixed one, {KEPT[at]:g}", over)))
    predicted = (
        f"drawn ratios are as good as the fixed one of equal E[1/theta], the logarithm of risk within {TOLERANCE}"
    )
    return finding(ID, "[D]; Dong et al. claim that drawn ones are better", predicted, main, rows)


def _in_networks(lab: Lab) -> Finding:
    """The code is divided by the theta of its image, so that the expected penalty of masks is (E[1/theta] - 1) / 2:
    purity on own clocks, which depends on theta, is that of a fixed theta of equal E[1/theta], not of equal mean. A
    step sees few images, and normalised steps of noisy gradients are not on average those of the mean gradient; so
    once more with several batches averaged in a step."""
    seen = _kernels(lab, ("1/theta", "theta"))
    pure = [pure_share(there, trained) for there, trained in seen.values()]
    what = "grown kernels that are pure, drawn ratios minus a fixed one of equal"
    main = within(f"{what} E[1/theta]", pure[0] - pure[1], TOLERANCE)
    calm = replace(lab.regime, batches=CALM * lab.regime.together)
    calmer = _kernels(lab.sub(f"{lab.name}-calm", calm, lab.seeds[:CALM_SEEDS]), ("1/theta",))
    ours, fixed = (pure_share(there, trained) for there, trained in calmer.values())
    rows = [averaged(f"{what} E[1/theta], {CALM} times as many images a step", ours - fixed)]
    rows.append(averaged(f"{what} E[theta]", pure[0] - pure[2]))
    for name, (there, trained) in seen.items():
        rows += [named(name, of(there, trained)) for of in (grown_row, pure_row, captured_row)]
    predicted = f"two-layer kernels know E[1/theta] alone of drawn ratios: purity within {TOLERANCE}"
    return finding(ID, "[D]", predicted, main, rows, "own")


def _kernels(lab: Lab, means: Sequence[str]) -> dict[str, tuple[Lab, Trained]]:
    """By name, kernels of drawn ratios, then of fixed ones that have the same of some `means`; all by one teacher."""
    tau, inverse = lab.regime.teacher, np.mean(1 / np.array(MIXED))
    fixed = {"1/theta": float(1 / inverse), "theta": float(np.mean(MIXED))}
    seen = {f"drawn from {MIXED}": (lab, lab.on_own_clocks("own-drawn-ratios", partial(Mixed, MIXED, tau)))}
    for of in means:
        name, regime = f"{lab.name}-ratio-{fixed[of]:.3f}", replace(lab.regime, theta=fixed[of], tau=tau)
        there = lab.sub(name, regime, lab.seeds)
        seen[f"fixed at equal E[{of}], {fixed[of]:.3f}"] = there, there.pretrained("own")
    return seen


@dataclass
class Mixed:
    """`TeacherStudent` with a theta of its own for each image: equal parts of a batch, drawn anew for each seed and
    step."""

    thetas: Sequence[float]
    tau: float
    seeds: Sequence[int]
    is_apart: bool = False
    _step: int = field(default=0, init=False)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        orders = [
            torch.randperm(len(batch), generator=torch_generator(seed, "ratio", self._step)) for seed in self.seeds
        ]
        self._step += 1
        order = torch.stack(orders).to(batch.labels.device)
        of_seed = torch.arange(len(orders), device=order.device)[:, None]
        total, sums = network.kernels.new_zeros(len(orders)), torch.zeros_like(network.kernels)
        for place, theta in enumerate(self.thetas):
            some = of_seed, order[:, place :: len(self.thetas)]
            part = replace(batch, **{name: getattr(batch, name)[some] for name in ("patches", "labels", "single")})
            loss, gradients = TeacherStudent(theta, self.tau).gradients(network, part)
            share = len(part) / len(batch)
            total, sums = total + share * loss, sums + share * gradients["kernels"]
        return total, {"kernels": sums}


def against_kept(told: Told) -> list[Picture]:
    rows = [row for row in told.rows if all(known(row.get(of)) for of in ("kept", "width", "latents", "predicted"))]
    return [
        Picture(f"theory-ratios-{latents}", f"Risk against the share kept, {latents} latents", _lines(latents, some))
        for latents in sorted({row["latents"] for row in rows})
        if (some := [row for row in rows if row["latents"] == latents and known(row.get("measured"))])
    ]


def _lines(latents: int, rows: list[Row]) -> str:
    def paint(axes: Axes) -> None:
        for colour, width in zip(COLOURS, sorted({row["width"] for row in rows}), strict=False):
            some = sorted((row for row in rows if row["width"] == width), key=lambda row: row["kept"])
            places = [row["kept"] for row in some]
            axes.plot(places, [row["predicted"] for row in some], color=colour)
            axes.plot(places, [row["measured"] for row in some], "o", color=colour, label=f"{width:g} numbers")
        axes.set_xlabel("share kept")
        axes.set_ylabel("risk of whole images")
        legend_above(axes)

    return draw(f"theory-ratios-{latents}", 3.3, paint)


COLOURS = (BLUE, ORANGE, GREEN, "#8a5fbf")

RATIOS = Claim(
    id=ID,
    title="Of drawn mask ratios only E[1/θ] counts",
    test=ratios,
    section=Section(
        id="ratios",
        title="What the mask ratio does in a linear lab",
        reading=f"Masked prediction as minimum-norm regression on {IMAGES} images. Lines: the closed form; points: "
        "what was measured. Which share is best depends on the task and on how many numbers are seen.",
        draw=against_kept,
    ),
)
