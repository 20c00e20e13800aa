"""Negative controls: what must not happen, or must happen only by chance. Always run."""

from dataclasses import replace

import numpy as np

from whymask.intervals import clopper_pearson
from whymask.randomness import numpy_generator
from whymask.theory.claims.claim import Claim
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.downstream import accuracy_rows
from whymask.theory.claims.purity import grown_row, pure_row
from whymask.theory.claims.record import Finding, by_number, finding, pooled
from whymask.theory.lab import Lab, Trained
from whymask.theory.measures import favourites
from whymask.theory.store import numpy

NO_PENALTY = 0.999
SMALL = 0.2
"""tau^q - 1 as a share of the growth threshold: with masks nothing may grow, without them everything."""


def _no_teacher(lab: Lab) -> list[Finding]:
    """tau = 1: the teacher is the student, and masks only shrink."""
    other = lab.sub(f"{lab.name}-control-tau", replace(lab.regime, tau=1.0), lab.seeds)
    row = grown_row(other, other.pretrained("own"))
    return [finding("control-tau", "[D]", "tau = 1: no kernel grows", by_number(row, 0.0, row["measured"] == 0.0), [])]


def _no_penalty(lab: Lab) -> list[Finding]:
    """theta near 1: no mask, no penalty, no threshold."""
    s = replace(lab.regime, tau=lab.regime.tau_at(SMALL))
    masking = lab.sub(f"{lab.name}-control-masked", s, lab.seeds)
    masked = grown_row(masking, masking.pretrained("own"))
    without = lab.sub(f"{lab.name}-control-theta", replace(s, theta=NO_PENALTY), lab.seeds)
    free = without.pretrained("own")
    row = grown_row(without, free)
    row = by_number(row, 1.0, row["measured"] == 1.0) | {"what": f"kernels that grew, theta = {NO_PENALTY}"}
    rows = [
        masked | {"what": f"the same tau, theta = {s.theta:g}"},
        captured_row(without, free),
        pure_row(without, free),
    ]
    predicted = f"theta -> 1, tau^q - 1 at {SMALL:g} of the threshold: without the penalty every kernel grows"
    return [finding("control-theta", "[D]", predicted, row, rows)]


def _shuffled(lab: Lab) -> list[Finding]:
    """Winners of other kernels: agreement is chance."""
    winners = numpy(favourites(lab.start(), lab.features, lab.pretraining.shown))
    ends = numpy(favourites(lab.pretrained("own").network, lab.features))
    order = np.stack([numpy_generator(seed, "shuffled").permutation(winners.shape[1]) for seed in lab.seeds])
    of_another = np.take_along_axis(winners, np.roll(order, 1, axis=1), axis=1)  # in a circle: nobody meets its own
    hits = of_another == np.take_along_axis(ends, order, axis=1)
    row = pooled("kernels that end on another kernel's winner (99.9 %)", hits.sum(1), ends.shape[1], lab.seeds)
    chance = 1 / lab.pretraining.shown.sum().item()
    low, high = clopper_pearson(int(hits.sum()), hits.size, 0.999)
    row = by_number(row | {"low": low, "high": high}, chance, low <= chance <= high)
    return [finding("control-winners", "[D]", "shuffled winners agree by chance: 1/(k·L)", row, [])]


def _frozen(lab: Lab) -> list[Finding]:
    """Random kernels have captured nothing."""
    row = captured_row(lab, Trained(lab.start()))
    rows = accuracy_rows(lab, lab.read_out(), "frozen", "random")
    return [
        finding(
            "control-frozen",
            "[D]",
            "frozen random kernels have captured nothing",
            by_number(row, 0.0, row["measured"] == 0.0),
            rows,
        )
    ]


CONTROLS = (
    Claim("control-tau", "Teacher equal to the student (τ = 1)", _no_teacher),
    Claim("control-theta", "Hardly any mask (θ near 1)", _no_penalty),
    Claim("control-winners", "Shuffled winners", _shuffled),
    Claim("control-frozen", "Frozen random kernels", _frozen),
)
