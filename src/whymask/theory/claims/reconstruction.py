"""Claim 11: the same measures for pixel reconstruction with a free linear decoder, whatever they show."""

from whymask.theory.claims.downstream import accuracy_rows, retention_rows
from whymask.theory.claims.pretraining import captured_row, held_row, pure_row, purity_details
from whymask.theory.claims.record import Claim, averaged, claim
from whymask.theory.lab import Lab

SEEDS = 5


def reconstruction(lab: Lab) -> list[Claim]:
    """Rows 1, 2, 5 and 6; here only co-occurrence helps the prediction, so mixed kernels are expected."""
    there = lab.sub(lab.name, lab.setting, lab.seeds[:SEEDS])
    before, after = there.reconstructed(), there.classifier("learned", "pixels")
    scratch = there.classifier("learned", "random")
    kept, details = retention_rows(there, before, after)
    gain = there.accuracy(after.network, "single") - there.accuracy(scratch.network, "single")
    main = captured_row(there, before)
    rows = [
        held_row(there, before),
        pure_row(there, before),
        *purity_details(there, before),
        averaged("learned head, single-view accuracy: pretrained minus supervised", gain),
        *accuracy_rows(there, after, "learned", "pixels"),
        kept | {"threshold": None, "holds": None},
        *details,
    ]
    predicted = "no theorem: kernels mix the features that come together, and still serve classification"
    return [claim("reconstruction", "[D]", predicted, main, rows)]
