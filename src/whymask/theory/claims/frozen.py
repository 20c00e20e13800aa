"""Is there a setting in which random kernels fail, frozen or of equal norms, and pretraining does not? A search [D].

What is searched, by which order, and what counts as found stands in this file and was fixed before it was first run:
nothing else was tried. All is relative to the regime, at whose own setting random kernels do not fail.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product

import numpy as np
import torch

from whymask.intervals import level_interval
from whymask.theory.augmented import Masked
from whymask.theory.claims.claim import Claim
from whymask.theory.claims.norms import of_equal_norms
from whymask.theory.claims.record import Finding, Row, averaged, by_number, finding, mean_share, named
from whymask.theory.lab import Lab, Trained
from whymask.theory.measures import TINY
from whymask.theory.overlapping import Overlapping
from whymask.theory.regime import Regime
from whymask.theory.store import Arrays, numpy

ID = "frozen"
ENOUGH = 0.9
"""Single-view accuracy that pretraining must have, and random kernels must not."""
SEARCH, CONFIRM = 2, 5
"""The first seeds search, the next ones confirm: what is found was not chosen by the numbers that show it."""
MOST = 3
"""Settings that are confirmed: those of the largest difference in the search."""
KERNELS, NOISE, FEATURES = (1.0, 0.4), (1, 3, 6), (1, 2)
"""Kernels a feature, deviation of the noise, features a class: multiples of the regime's."""
KINDS = ("as drawn", "ten times the single-view images", "overlapping features")
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class Setting:
    """A point of the grid."""

    kernels: float
    noise: int
    features: int
    kind: str

    @property
    def name(self) -> str:
        numbers = f"kernels a feature x {self.kernels:g}, noise x {self.noise}, features a class x {self.features}"
        return f"{numbers}, {self.kind}"

    def of(self, regime: Regime) -> Regime:
        data = regime.data
        if self.features > 1:
            L = self.features * data.L
            data = replace(data, L=L, d=data.d and max(data.d, data.k * L), P=None)
        if self.noise > 1:
            data = replace(data, sigma=self.noise * data.noise)
        if self.kind == KINDS[1]:
            data = replace(data, mu=min(1.0, 10 * data.mu))
        if self.kind == KINDS[2]:
            data = Overlapping.of(data)
        return replace(regime, data=data, m=max(1, round(self.kernels * self.features * regime.m)))


GRID = tuple(Setting(*point) for point in product(KERNELS, NOISE, FEATURES, KINDS))

PRETRAINED = "pretrained"


def _trained(train: Callable[[Lab], Trained], lab: Lab) -> tuple[np.ndarray, float | None]:
    """Single-view accuracy, (S,), and the share of seeds that reached the training loss."""
    net = train(lab)
    return lab.accuracy(net.network, "single"), float((net.loss <= lab.regime.target).mean())


def _by_best_ridge(lab: Lab) -> tuple[np.ndarray, None]:
    """At the ridge that is best on the test images themselves: this control is to have every chance."""
    return max(_by_ridge(lab).T, key=np.mean), None


NETWORKS: dict[str, Callable[[Lab], tuple[np.ndarray, float | None]]] = {
    "random and frozen": partial(_trained, Lab.read_out),
    "random and frozen, head by least squares": _by_best_ridge,
    PRETRAINED: partial(_trained, lambda lab: lab.classifier("learned", "own")),
    "random of equal norms": partial(_trained, of_equal_norms),
}
"""By what the kernels are, all with a learned head; in the order of what they cost."""


def frozen(lab: Lab) -> list[Finding]:
    """The first seeds search the grid, the next ones confirm what they found."""
    confirming = lab.seeds[SEARCH:][:CONFIRM]
    rows, ahead = [], {}
    for setting in GRID:
        of_setting, difference = _searched(setting, _there(lab, setting, lab.seeds[:SEARCH]))
        rows += of_setting
        if difference is not None:
            ahead[setting] = difference
    chosen = sorted(ahead, key=lambda setting: -ahead[setting])[:MOST]
    found = []
    for setting in chosen if len(confirming) > 1 else []:
        of_setting, confirmed = _confirmed(setting, _there(lab, setting, confirming), 1 - 0.05 / len(chosen))
        rows = of_setting + rows
        found += [setting.name] * confirmed
    what = f"settings found of {len(GRID)}, {len(ahead)} in the search and of these, by other seeds: "
    main = {"what": what + ("; ".join(found) or "none"), "measured": float(len(found)), "low": None, "high": None}
    main = by_number(main | {"seeds": len(confirming)}, 1.0, bool(found))
    if chosen and len(confirming) < 2:
        main["state"] = "undecided"
    predicted = (
        f"there is a setting in which pretraining has {ENOUGH} on single-view images and random kernels have not"
    )
    return [finding(ID, "[D], a control", predicted, main, rows)]


def _there(lab: Lab, setting: Setting, seeds: Sequence[int]) -> Lab:
    regime = setting.of(lab.regime)
    name = lab.name if regime == lab.regime else f"{lab.name}-{setting.name}".replace(",", "").replace(" ", "-")
    return lab.sub(name, regime, seeds)


def _searched(setting: Setting, lab: Lab) -> tuple[list[Row], float | None]:
    """Rows of the setting, and how far pretraining is ahead where it is found. Where a network decides that it is not,
    the further ones are not trained."""
    rows, means = [], {}
    for name, measure in NETWORKS.items():
        values, at_the_loss = measure(lab)
        rows.append(_row(f"search, {setting.name}", name, values, at_the_loss))
        means[name] = values.mean()
        if (means[name] >= ENOUGH) != (name == PRETRAINED):
            return rows, None
    return rows, means.pop(PRETRAINED) - max(means.values())


def _row(of: str, name: str, values: np.ndarray, at_the_loss: float | None) -> Row:
    row = named(of, mean_share(f"single-view accuracy, kernels {name}", values))
    return row | ({} if at_the_loss is None else {"at_the_loss": at_the_loss})


def _confirmed(setting: Setting, lab: Lab, confidence: float) -> tuple[list[Row], bool]:
    """Rows of the setting on seeds of its own, and whether all intervals are on the claimed side of `ENOUGH`."""
    of, rows, passed, single = f"confirmed at {confidence:.4g}, {setting.name}", [], True, {}
    for name, measure in NETWORKS.items():
        single[name], at_the_loss = measure(lab)
        within = level_interval(single[name], confidence=confidence)
        low, high = (within.mean if end is None else end for end in (within.low, within.high))  # all seeds are equal
        rows.append(_row(of, name, single[name], at_the_loss) | {"low": low, "high": high})
        passed &= low > ENOUGH if name == PRETRAINED else high < ENOUGH
    better = np.max([values for name, values in single.items() if name != PRETRAINED], axis=0)
    rows.insert(0, named(of, averaged("pretrained minus the best random kernels", single[PRETRAINED] - better)))
    return [*rows, *_others(of, lab)], passed


def _others(of: str, lab: Lab) -> list[Row]:
    """What else may do as well there: no part of the search."""
    masked = partial(Masked, lab.regime.theta)
    nets: dict[str, Callable[[Lab], Trained]] = {
        "pretrained on normalised targets": lambda lab: lab.classifier("learned", "normalised"),
        "from scratch": lambda lab: lab.classifier("learned", "random"),
        "from scratch on masked images": lambda lab: lab.classifier("learned", "random", None, "-masked", masked),
    }
    return [_row(of, name, *_trained(train, lab)) for name, train in nets.items()]


def _by_ridge(lab: Lab) -> np.ndarray:
    """Single-view accuracy of frozen random kernels whose head is fitted to the classes by least squares, (S, R)."""

    def fitted(seeds: list[int]) -> Arrays:
        network, samples = lab.start(seeds), lab.images(seeds)
        codes = torch.cat([network.codes(batch) for batch in samples], dim=1).double()
        classes = torch.nn.functional.one_hot(torch.cat([batch.labels for batch in samples], dim=1), lab.data.k)
        centre, size = codes.mean(1, keepdim=True), codes.std(1, keepdim=True).clamp_min(TINY)
        seen, told = (codes - centre) / size, classes.double() - classes.double().mean(1, keepdim=True)
        test = torch.cat([network.of(slice(s, s + 1)).codes(lab.tests["single"]) for s in range(len(seeds))]).double()
        shown, gram = (test - centre) / size, seen.mT @ seen / seen.shape[1]
        right = []
        for ridge in RIDGES:
            eye = ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
            head = torch.linalg.solve(gram + eye, seen.mT @ told / seen.shape[1])
            right.append(((shown @ head).argmax(2) == lab.tests["single"].labels).double().mean(1))
        return {"single": numpy(torch.stack(right, 1))}

    return lab.kept("ridge", fitted)["single"]


FROZEN_CLAIM = Claim(ID, "Somewhere random kernels fail and pretraining does not", frozen)
