"""Claim 11: the same measures for pixel reconstruction with a free linear decoder, whatever they show."""

import numpy as np

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.coverage import captured_row, held_row
from whymask.theory.claims.downstream import accuracy_rows, gain_row
from whymask.theory.claims.purity import pure_row, purity_details
from whymask.theory.claims.record import Finding, averaged, finding, mean_share
from whymask.theory.claims.retention import retention_rows
from whymask.theory.lab import Lab
from whymask.theory.measures import largest_overlap, second_to_first
from whymask.theory.store import numpy

ID = "reconstruction"
SEEDS = 5


def reconstruction(lab: Lab) -> list[Finding]:
    """Rows 1, 2, 5 and 6; here only co-occurrence helps the prediction, so mixed kernels are expected.

    The horizon is a length of teacher-student pretraining; here the decoder may do the scaling, so two rows are free of
    it.
    """
    there = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    before, after = there.reconstructed(), there.classifier("learned", "pixels")
    scratch = there.classifier("learned", "random")
    kept, details = retention_rows(there, before, after)
    main = captured_row(there, before)
    ratio = numpy(second_to_first(before.network, there.features))
    growth = numpy(largest_overlap(before.network, there.features) / largest_overlap(there.start(), there.features))
    rows = [
        mean_share("median second/first of all kernels", np.median(ratio, axis=1)),
        averaged("mean over features of Lambda after / before pretraining", growth.mean(1)),
        held_row(there, before),
        pure_row(there, before),
        *purity_details(there, before),
        gain_row(there, after, scratch, "learned head"),
        *accuracy_rows(there, after, "learned", "pixels"),
        kept | {"threshold": None, "state": None},
        *details,
    ]
    predicted = "no theorem: kernels mix the features that come together, and still serve classification"
    return [finding(ID, "[D]", predicted, main, rows)]


RECONSTRUCTION = Claim(id=ID, title="Pixel reconstruction", test=reconstruction)
