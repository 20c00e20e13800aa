"""Does classification help regression? A scalar target in the lab (Pintea et al., arXiv 2308.10603).

Theirs, of which the abstract was read: a classification loss added to the regression loss helps most where data are
imbalanced. Ours [D]: the target (`whymask.theory.regression`), the two-layer network, whose features are counted, the
controls, and all thresholds. Step sizes are those of least error of squared error alone on even targets, of six pairs
tried on seeds 100 and 101; by these the number of epochs was fixed too, after a look at skewed ones.
"""

from dataclasses import replace

import numpy as np
import torch
from matplotlib.axes import Axes

from whymask.report.figures import draw, legend_above
from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, named
from whymask.theory.descent import MiniBatchDescent
from whymask.theory.lab import Lab
from whymask.theory.measures import captured_at_any_scale
from whymask.theory.network import Network
from whymask.theory.page.figures import BLUE, GREEN, ORANGE
from whymask.theory.regression import Regression, Skewed, Target
from whymask.theory.store import Arrays, numpy

ID = "regression"
SEEDS = 10
EPOCHS = 90
RATE = 0.2
"""Step size of kernels and head, times k."""
RARE = 1 / 3
"""The last so many of the bins, the rarest ones where targets are skewed."""
SQUARED, BOTH = "alone", "with bins"
"""Squared error alone, and with cross-entropy over the target's bins beside it."""
SHIFTED, RESIZED, TWICE = "with wrong bins", "alone, longer kernels", "alone, twice the epochs"
"""Controls: the bins are those of other images; first kernels have the norms of those that `BOTH` has at its end; and,
added after a look at the others, more steps."""
EVEN, SKEWED = "even", "skewed"
ERROR = "error in deviations of the target"


def regression(lab: Lab) -> list[Finding]:
    """Equal steps, step sizes, images and first weights; tested on evenly drawn targets."""
    lab = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    skewed = lab.sub(f"{lab.name}-skewed", replace(lab.regime, data=Skewed.of(lab.regime.data)), lab.seeds)
    target = Target(lab.features, lab.data.k)
    alone, both, shifted = Regression(target), Regression(target, 1.0), Regression(target, 1.0, shifted=True)
    fitted = {
        (sampling, name): _fitted(there, name, loss)
        for sampling, there in {EVEN: lab, SKEWED: skewed}.items()
        for name, loss in {SQUARED: alone, BOTH: both}.items()
    }
    fitted[SKEWED, SHIFTED] = _fitted(skewed, SHIFTED, shifted)
    norms = {at: arrays.norm(dim=1) for at, arrays in _kernels(lab, fitted[SKEWED, BOTH]).items()}
    fitted[SKEWED, RESIZED] = _fitted(skewed, RESIZED, alone, norms)
    fitted[SKEWED, TWICE] = _fitted(skewed, TWICE, alone, epochs=2 * EPOCHS)
    seen = {of: _tested(lab, target, arrays) for of, arrays in fitted.items()}
    return [_rare(seen), _features(seen), _uneven(seen)]


def _fitted(
    lab: Lab, name: str, loss: Regression, norms: dict[int, torch.Tensor] | None = None, epochs: int | None = None
) -> Arrays:
    """Kernels and head after all epochs, from random kernels, of which each may be brought to the norm of one of
    `norms` (K,), by seed."""
    rate = RATE * lab.data.k
    training = MiniBatchDescent({"kernels": rate, "head": rate}, epochs=epochs or EPOCHS)

    def compute(seeds: list[int]) -> Arrays:
        network = lab.start(seeds)
        if norms is not None:
            wanted = torch.stack([norms[seed] for seed in seeds])
            network = network.having(kernels=network.kernels * (wanted / network.kernels.norm(dim=2))[..., None])
        begin = network.with_head(1 + lab.data.k, "learned")
        path = training.run(begin, loss, lab.images(seeds), lab.features)
        return {"loss": numpy(path.loss)} | {key: numpy(of) for key, of in path.network.tensors().items()}

    return lab.kept(f"regression-{name.replace(',', '').replace(' ', '-')}", compute)


def _kernels(lab: Lab, arrays: Arrays) -> dict[int, torch.Tensor]:
    """By seed, (K, d)."""
    kernels = torch.from_numpy(arrays["kernels"]).to(lab.regime.torch_device)
    return dict(zip(lab.seeds, kernels, strict=True))


def _rare_from(k: int) -> int:
    """The first of the rare bins."""
    return k - max(1, round(RARE * k))


def _tested(lab: Lab, target: Target, arrays: Arrays) -> Arrays:
    """By seed: mean "error" on multi-view images, on those of "rare" targets, and on "single"-view ones, (S,), by
    "bins", (S, k); the share of "features" captured at any scale, and of the rare bins', "rare features"; the median
    "norm" of kernels."""
    device, rare = lab.regime.torch_device, _rare_from(lab.data.k)
    kernels, head = (torch.from_numpy(arrays[key]).to(device) for key in ("kernels", "head"))
    network, missed = Network(kernels, head, sigma=lab.regime.sigma), {}
    for view in ("multi", "single"):
        off = lab.logits(network, view)[..., 0] - target.of(lab.tests[view])
        missed[view] = numpy(off.abs().double())
    labels = numpy(lab.tests["multi"].labels[0])
    found = numpy(captured_at_any_scale(network, lab.features))
    return {
        "error": missed["multi"].mean(1),
        "rare": missed["multi"][:, labels >= rare].mean(1),
        "single": missed["single"].mean(1),
        "bins": np.stack([missed["multi"][:, labels == bin_].mean(1) for bin_ in np.unique(labels)], 1),
        "features": found.mean(1),
        "rare features": found[:, rare * lab.data.L :].mean(1),
        "norm": np.median(numpy(kernels.norm(dim=2)), axis=1),
        "loss": arrays["loss"],
    }


Seen = dict[tuple[str, str], Arrays]


def _rare(seen: Seen) -> Finding:
    main = averaged(
        f"skewed targets, {ERROR}, rare ones: alone minus with cross-entropy", _gain(seen, SKEWED, "rare"), 0.0
    )
    both = seen[SKEWED, BOTH]
    rows = [
        averaged(f"the same, {name} minus {BOTH}", seen[SKEWED, name]["rare"] - both["rare"])
        for name in (SHIFTED, RESIZED, TWICE)
    ]
    rows.append(averaged("the same, all targets", _gain(seen, SKEWED, "error")))
    rows.append(averaged("the same, single-view images of all targets", _gain(seen, SKEWED, "single")))
    for (sampling, name), arrays in seen.items():
        rows += [named(f"{sampling} targets, {name}", row) for row in _levels(sampling, name, arrays)]
    predicted = "where targets are skewed, cross-entropy over bins makes the error on rare ones smaller"
    return finding(ID, SOURCE, predicted, main, rows)


SOURCE = "Pintea et al. (abstract read); the model [D]"


def _levels(sampling: str, name: str, arrays: Arrays) -> list[Row]:
    about: Row = {"network": f"{sampling}, {name}", "curve": [float(error) for error in arrays["bins"].mean(0)]}
    return [
        averaged(f"{ERROR}, multi-view images", arrays["error"]) | about,
        averaged(f"{ERROR}, rare targets", arrays["rare"]),
        averaged(f"{ERROR}, single-view images", arrays["single"]),
        averaged("median norm of kernels", arrays["norm"]),
        averaged("training loss", arrays["loss"]),
    ]


def _gain(seen: Seen, sampling: str, of: str) -> np.ndarray:
    """What cross-entropy takes off an error, (S,)."""
    return seen[sampling, SQUARED][of] - seen[sampling, BOTH][of]


def _features(seen: Seen) -> Finding:
    what = "features captured, at any scale"
    gains = {
        (sampling, of): -_gain(seen, sampling, of)
        for sampling in (SKEWED, EVEN)
        for of in ("features", "rare features")
    }
    main, *rows = [
        averaged(f"{sampling} targets, {of} captured, at any scale: with cross-entropy minus alone", gain, 0.0)
        for (sampling, of), gain in gains.items()
    ]
    for (sampling, name), arrays in seen.items():
        for of, which in (("features", ""), ("rare features", " of rare targets")):
            rows.append(named(f"{sampling} targets, {name}", mean_share(what + which, arrays[of])))
    predicted = "with cross-entropy over bins more features are captured than by squared error alone"
    return finding(ID, "[D]", predicted, main, rows)


def _uneven(seen: Seen) -> Finding:
    gains = {sampling: _gain(seen, sampling, "rare") for sampling in (SKEWED, EVEN)}
    what = "what cross-entropy takes off the error on the targets that are rare where skewed"
    main = averaged(f"{what}: skewed minus even", gains[SKEWED] - gains[EVEN], 0.0)
    rows = [averaged(f"{what}: {sampling}", gain, 0.0) for sampling, gain in gains.items()]
    predicted = "cross-entropy over bins helps more where targets are skewed than where they are even"
    return finding(ID, SOURCE, predicted, main, rows)


def by_bins(told: Told) -> list[Picture]:
    rows = [row for row in told.rows if isinstance(row.get("curve"), list) and all(map(known, row["curve"]))]
    if not rows:
        return []

    def paint(axes: Axes) -> None:
        for colour, row in zip(COLOURS, rows, strict=False):
            axes.plot(range(1, len(row["curve"]) + 1), row["curve"], "o-", color=colour, label=str(row.get("network")))
        axes.set_xlabel("bin of the target")
        axes.set_ylabel(ERROR)
        legend_above(axes)

    return [Picture("theory-regression", "Error by the target's bin", draw("theory-regression", 4.4, paint))]


COLOURS = (ORANGE, BLUE, "#8a5fbf", GREEN, "#777777", "#b8860b", "#c51b7d")

REGRESSION = Claim(
    id=ID,
    title="Classification helps regression where targets are skewed",
    test=regression,
    section=Section(
        id="regression",
        title="How far regression is off, by target",
        reading="Each class of the lab is a bin of a scalar target. Networks learn it from evenly drawn targets, or "
        "from skewed ones, of which the first bin has 20 times as many images as the last; tested on even ones. Learnt "
        "by squared error alone, or with cross-entropy over bins beside it.",
        draw=by_bins,
    ),
)
