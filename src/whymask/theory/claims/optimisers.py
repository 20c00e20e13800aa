"""Does it depend on the rule of descent? Momentum, Adam, kernels of bounded norm and small batches [D].

All settings follow from the regime: see `Lab.descended` and `Regime.rate_by`; nothing was tuned.
"""

from collections.abc import Sequence
from dataclasses import replace

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.coverage import THRESHOLD, captured_row
from whymask.theory.claims.purity import pure_row
from whymask.theory.claims.record import Finding, at_least, finding, named
from whymask.theory.lab import Lab, OneStop

ID = "optimisers"
SEEDS = 5
NAMES = ("plain", "momentum", "Adam", "bounded norms", "small batches")
SMALLER = 10
"""Small batches have this part of a batch's images, or the next smaller one that divides it."""


def optimisers(lab: Lab) -> list[Finding]:
    """Where all kernels stop at one time: on the teacher's features, and on normalised targets."""
    few = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    return [_of_clock(few, "common", ("Adam",)), _of_clock(few, "normalised", NAMES[1:])]


def _of_clock(lab: Lab, clock: OneStop, claimed: Sequence[str]) -> Finding:
    """The claim is made of the least of the `claimed` variants."""
    small = max(size for size in range(1, max(1, lab.regime.batch // SMALLER) + 1) if lab.regime.batch % size == 0)
    smaller = lab.sub(f"{lab.name}-batch-{small}", replace(lab.regime, batch=small), lab.seeds)
    trained = (
        (lab, lab.descended(clock)),
        (lab, lab.descended(clock, "momentum")),
        (lab, lab.descended(clock, "adam")),
        (lab, lab.descended(clock, bounded=True)),
        (smaller, smaller.descended(clock)),
    )
    variants = dict(zip(NAMES, trained, strict=True))
    covered = {name: named(name, captured_row(*of)) for name, of in variants.items()}
    least = min((covered[name] for name in claimed), key=lambda row: row["measured"])
    rows = [row for name, of in variants.items() for row in (covered[name], named(name, pure_row(*of)))]
    rows = [row for row in rows if row is not least]  # which stands first
    return finding(
        ID, "[D]", f"{', '.join(claimed)}: all features are captured", at_least(least, THRESHOLD), rows, clock
    )


OPTIMISERS = Claim(ID, "One stop for all kernels serves by some rule of descent", optimisers)
