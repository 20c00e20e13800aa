"""Claim 6 [P Theorem 2]: fine-tuning keeps the captured features."""

import numpy as np

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.record import Finding, Row, averaged, finding, pooled
from whymask.theory.lab import CLOCKS, Lab, Trained
from whymask.theory.measures import captured, largest_overlap
from whymask.theory.store import numpy

ID = "retention"
THRESHOLD = 0.95


def retention(lab: Lab) -> list[Finding]:
    """On each clock."""
    findings = []
    for clock in CLOCKS:
        before, after = lab.pretrained(clock), lab.classifier("learned", clock)
        row, rows = retention_rows(lab, before, after)
        predicted = "fine-tuning keeps every captured feature: Lambda after / before"
        findings.append(finding(ID, "[P] Theorem 2", predicted, row, rows, clock))
    return findings


def retention_rows(lab: Lab, before: Trained, after: Trained) -> tuple[Row, list[Row]]:
    """The smallest ratio of Lambda after / before over a seed's captured features, and the share still captured."""
    had = numpy(captured(before.network, lab.features, lab.regime.horizon))
    ratio = numpy(largest_overlap(after.network, lab.features)) / numpy(largest_overlap(before.network, lab.features))
    some = had.any(1)
    smallest = np.where(had, ratio, np.inf).min(1)[some]
    what = "smallest Lambda after / before over captured features"
    kept = numpy(captured(after.network, lab.features, lab.regime.horizon))
    rows = [pooled("captured features still captured after", (had & kept).sum(1), had.sum(1), lab.seeds)]
    if not len(smallest):
        return pooled(what, had.sum(1) * 0, had.sum(1), lab.seeds, THRESHOLD), rows
    return averaged(what, smallest, THRESHOLD), [
        pooled("seeds with a captured feature", some.astype(int), 1, lab.seeds),
        *rows,
    ]


RETENTION = Claim(id=ID, title="Fine-tuning keeps the features", test=retention)
