"""Claim 3 [P]: each kernel ends on its winner, the feature that it was closest to at the start."""

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.purity import grown, grown_row
from whymask.theory.claims.record import Finding, finding, pooled
from whymask.theory.lab import CLOCKS, Lab
from whymask.theory.measures import favourites
from whymask.theory.store import numpy

ID = "kernel-lottery"
THRESHOLD = 0.9


def kernel_lottery(lab: Lab) -> list[Finding]:
    """On each clock."""
    winners = numpy(favourites(lab.start(), lab.features, lab.pretraining.shown))
    findings = []
    for clock in CLOCKS:
        trained = lab.pretrained(clock)
        grew, ends = grown(lab, trained), numpy(favourites(trained.network, lab.features))
        hits = (grew & (ends == winners)).sum(1)
        row = pooled("grown kernels that end on their winner", hits, grew.sum(1), lab.seeds, THRESHOLD)
        predicted = "a kernel ends on the feature of its largest initial correlation"
        every = pooled("the same of all kernels, grown or not", (ends == winners).sum(1), ends.shape[1], lab.seeds)
        rows = [grown_row(lab, trained), every]
        findings.append(finding(ID, "[P]", predicted, row, rows, clock))
    return findings


KERNEL_LOTTERY = Claim(id=ID, title="A kernel ends on its winner", test=kernel_lottery)
