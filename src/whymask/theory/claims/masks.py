"""Is it hiding that makes features be captured? Pretraining without masks, and the window of decay [D]."""

from dataclasses import replace

import numpy as np

from whymask.theory.claims.claim import CLOCK_NAMES, Claim
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.purity import pure_row, pure_share
from whymask.theory.claims.record import Finding, Row, averaged, finding, named
from whymask.theory.lab import Clock, Lab, Trained
from whymask.theory.measures import captured
from whymask.theory.store import numpy

ID = "masks"
NO_MASKS = 0.999
SEEDS = 5
DECAYS = (0.0, 1 / 3, 1.0, 10 / 3)
"""As multiples of the derived one."""


def masks(lab: Lab) -> list[Finding]:
    """Own clocks at the same teacher, and plain descent on normalised targets; with masks and without."""
    few = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    return [_masks(few, "own", []), _masks(few, "normalised", _window(few))]


def _masks(lab: Lab, clock: Clock, further: list[Row]) -> Finding:
    s = lab.regime
    without = lab.sub(f"{lab.name}-no-masks", replace(s, theta=NO_MASKS, tau=s.teacher), lab.seeds)
    labs = {"with masks": lab, f"theta = {NO_MASKS}": without}
    seen = {name: (there, there.pretrained(clock)) for name, there in labs.items()}
    rows = [named(name, of(*pair)) for name, pair in seen.items() for of in (captured_row, pure_row)]
    coverage, purity = (np.subtract(*(of(*pair) for pair in seen.values())) for of in (_covered, pure_share))
    main = averaged("features captured, with masks minus without", coverage, 0.0)
    rows.insert(0, averaged("grown kernels that are pure, with masks minus without", purity))
    predicted = f"{CLOCK_NAMES[clock]}: it is hiding that makes features be captured, more than without masks"
    return finding(ID, "[D], a control", predicted, main, [*rows, *further], clock)


def _covered(lab: Lab, trained: Trained) -> np.ndarray:
    """(S,)."""
    return numpy(captured(trained.network, lab.features, lab.regime.horizon)).mean(1)


def _window(lab: Lab) -> list[Row]:
    """Decay around the derived one, and what else the derivation leaves open; then a control that captures nothing."""
    s, decay = lab.regime, lab.regime.normalised.decay
    variants = {
        f"decay at {factor:.3g} of the derived": s if factor == 1 else replace(s, decay=factor * decay)
        for factor in DECAYS
    }
    variants |= {
        "half as many kernels": replace(s, m=max(1, s.m // 2)),
        "theta = 0.25": replace(s, theta=0.25),
        "scale 0.1": replace(s, scale=0.1),
        "equal shares": s.with_data(split="equal"),
    }
    rows = []
    for name, regime in variants.items():
        there = lab if regime is s else lab.sub(f"{lab.name}-{name.replace(' ', '-')}", regime, lab.seeds)
        trained = there.pretrained("normalised")
        rows += [named(name, row) for row in (captured_row(there, trained), pure_row(there, trained))]
    return [*rows, named("targets of another image", captured_row(lab, lab.shifted()))]


MASKS = Claim(ID, "Hiding is what makes features be captured", masks)
