"""Claim 9: supervised networks capture different features, so an ensemble gains [A]; pretrained ones gain less [D].

Members differ in first kernels and in training images; the ensemble averages their outputs F, as in [A].
"""

import numpy as np
from torch import Tensor

from whymask.report.text import known
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, pooled
from whymask.theory.claims.supervised_lottery import lottery
from whymask.theory.lab import Head, Lab, Start
from whymask.theory.measures import own_overlap
from whymask.theory.page.figures import distinct, lines
from whymask.theory.store import numpy

ID = "ensembles"
MUS = (0.01, 0.05, 0.2)
LARGEST = 10
NETWORKS: dict[str, tuple[Head, Start]] = {
    "supervised, fixed head": ("fixed", "random"),
    "supervised, learned head": ("learned", "random"),
    "pretrained, learned head": ("learned", "own"),
}
SUPERVISED, LEARNED, PRETRAINED = NETWORKS
GROUPS = 4
"""The main row uses the largest ensembles of which the seeds make so many, without a seed in two of them."""


def ensembles(lab: Lab) -> list[Finding]:
    """Gains on single-view data, at the regime's share of single-view images and at others."""
    size = max(2, min(LARGEST, len(lab.seeds) // GROUPS))
    labels = lab.tests["single"].labels[0]
    logits = {name: _logits(lab, *kind) for name, kind in NETWORKS.items()}
    gains = {name: gain(values, labels, size) for name, values in logits.items()}
    groups = len(lab.seeds) // size
    what = f"gain of {size} supervised networks minus that of pretrained ones, learned heads, {groups} groups of seeds"
    main = averaged(what, gains[LEARNED] - gains[PRETRAINED], 0.0) | {"seeds": len(lab.seeds)}
    rows = [averaged("the same, supervised with [A]'s fixed head", gains[SUPERVISED] - gains[PRETRAINED], 0.0)]
    rows.append(_difference(lab))
    for name, values in logits.items():
        rows += _curve(name, values, labels, lab.data.mu)
    for mu in MUS:
        there = lab if mu == lab.data.mu else lab.sub(f"mu-{mu:g}", lab.regime.with_data(mu=mu), lab.seeds)
        for name in (SUPERVISED, PRETRAINED):
            values = gain(_logits(there, *NETWORKS[name]), labels, size)
            row = averaged(f"{name}: gain of {size} on single-view data, mu {mu:g}", values)
            rows.append(row | {"networks": name, "mu": mu, "members": size, "gain": True})
    predicted = "an ensemble of supervised networks gains more than one of pretrained networks"
    return [finding(ID, "[A]; the second half is [D]", predicted, main, rows)]


def gain(logits: np.ndarray, labels: Tensor, size: int) -> np.ndarray:
    """Accuracy of the mean of `size` members minus their mean accuracy, for disjoint groups: (S // size,).

    logits (S, B, k); labels (B,).
    """
    single = (_grouped(logits, size).argmax(3) == numpy(labels)).mean((1, 2))
    return ensemble_accuracy(logits, labels, size) - single


def ensemble_accuracy(logits: np.ndarray, labels: Tensor, size: int) -> np.ndarray:
    """Accuracy of the mean of `size` members, for disjoint groups: (S // size,)."""
    return (_grouped(logits, size).mean(1).argmax(2) == numpy(labels)).mean(1)


def _grouped(logits: np.ndarray, size: int) -> np.ndarray:
    """(S // size, size, B, k); seeds that make no whole group are left out."""
    return logits[: len(logits) // size * size].reshape(-1, size, *logits.shape[1:])


def _logits(lab: Lab, head: Head, start: Start) -> np.ndarray:
    return numpy(lab.logits(lab.classifier(head, start).network, "single"))


def _curve(name: str, logits: np.ndarray, labels: Tensor, mu: float) -> list[Row]:
    """Single-view accuracy of ensembles of 1 to 10; an interval where the seeds make two or more groups."""
    rows = []
    for size in range(1, min(LARGEST, len(logits)) + 1):
        accuracy = ensemble_accuracy(logits, labels, size)
        what = f"{name}: single-view accuracy of an ensemble of {size}"
        rows.append(mean_share(what, accuracy) | {"networks": name, "members": size, "mu": mu})
    return rows


def _difference(lab: Lab) -> Row:
    """How often two supervised networks captured different features of a class, among classes where each has one."""
    trained = lab.classifier("fixed", "random")
    one = lottery(lab, trained)[0]
    major = numpy(own_overlap(trained.network, lab.features, lab.data.L)).argmax(2)
    hits, counts = [], []
    for seed in range(len(major)):
        both = one[seed] & np.delete(one, seed, 0)
        differ = both & (major[seed] != np.delete(major, seed, 0))
        hits.append(differ.sum())
        counts.append(both.sum())
    what = "share of one-feature classes in which two supervised networks (fixed head) differ, all pairs"
    row = pooled(what, np.array(hits), np.array(counts), lab.seeds)
    return row | {"low": None, "high": None}  # pairs share seeds: no interval


def gains_and_curves(told: Told) -> list[Picture]:
    named = [row for row in told.rows if row.get("networks")]
    curves = [row for row in named if not row.get("gain") and known(row.get("members"))]
    gains = [row for row in named if row.get("gain") and known(row.get("mu"))]
    pictures = []
    for name, rows, x, across, axis, caption in (
        (
            "members",
            curves,
            "members",
            "networks in the ensemble",
            "accuracy",
            "Accuracy against the number of networks",
        ),
        ("gain", gains, "mu", "μ, share of single-view images", "gain over the mean member", "Gain against μ"),
    ):
        series = {kind: [row for row in rows if row["networks"] == kind] for kind in distinct(rows, "networks")}
        if svg := lines(f"theory-ensembles-{name}", series, x, across, axis, log="x" if x == "mu" else ""):
            pictures.append(Picture(f"theory-ensembles-{name}", caption, svg))
    return pictures


ENSEMBLES = Claim(
    id=ID,
    title="Ensembles gain less from pretrained networks",
    test=ensembles,
    section=Section(
        id="ensembles",
        title="What an ensemble gains",
        reading="Networks that captured different features know together what each lacks, so their ensemble gains; "
        "networks that all captured everything have nothing to tell one another. Accuracy is on single-view images; μ "
        "is the share of single-view images in training. Bars: 95 % interval.",
        draw=gains_and_curves,
    ),
)
