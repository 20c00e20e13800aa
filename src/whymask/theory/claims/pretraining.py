"""Claims 1 to 3 [P Theorem 1]: pretraining captures every feature, purely, and each kernel ends on its winner."""

import numpy as np

from whymask.theory.claims.record import Claim, Row, averaged, claim, pooled
from whymask.theory.lab import CLOCKS, Lab, Trained
from whymask.theory.measures import captured, favourites, largest_overlap, overlaps, second_to_first
from whymask.theory.objectives import TeacherStudent
from whymask.theory.store import numpy

COVERAGE, PURITY, LOTTERY = 0.95, 0.9, 0.9
PURE_AT_HORIZON = 0.2
FACTORS = (1.5, 3.0, 6.0)
"""tau^q - 1 as multiples of the growth threshold, besides the setting's own."""


def coverage(lab: Lab) -> list[Claim]:
    """Claim 1, on each clock."""
    return [
        claim(
            "coverage",
            "[P] Theorem 1",
            "pretraining captures all k·L features",
            captured_row(lab, lab.pretrained(clock), COVERAGE),
            coverage_details(lab, lab.pretrained(clock)),
            clock,
        )
        for clock in CLOCKS
    ]


def purity(lab: Lab) -> list[Claim]:
    """Claim 2, on each clock; on their own clocks also for teachers at other factors of the growth threshold."""
    claims = []
    for clock in CLOCKS:
        trained = lab.pretrained(clock)
        rows = purity_details(lab, trained) + (_by_factor(lab) if clock == "own" else [])
        predicted = f"a kernel that grew has second/first <= {PURE_AT_HORIZON} at the horizon"
        claims.append(claim("purity", "[P] Theorem 1", predicted, pure_row(lab, trained, PURITY), rows, clock))
    return claims


def _by_factor(lab: Lab) -> list[Row]:
    """Purity and coverage against tau: see `purification` for why kernels near the threshold keep their siblings."""
    s, rows = lab.setting, []
    for factor in FACTORS:
        teacher = TeacherStudent(s.theta, s.tau_at(factor))
        trained = lab.pretrained("own", teacher, f"own-factor-{factor:g}")
        for row in (pure_row(lab, trained), captured_row(lab, trained)):
            rows.append(row | {"what": f"tau^q - 1 at {factor:g} of the threshold: {row['what']}", "factor": factor})
    return rows


def kernel_lottery(lab: Lab) -> list[Claim]:
    """Claim 3, on each clock."""
    winners = numpy(favourites(lab.start(), lab.features, lab.pretraining.shown))
    claims = []
    for clock in CLOCKS:
        trained = lab.pretrained(clock)
        grew, ends = grown(lab, trained), numpy(favourites(trained.network, lab.features))
        hits = (grew & (ends == winners)).sum(1)
        row = pooled("grown kernels that end on their winner", hits, grew.sum(1), lab.seeds, LOTTERY)
        predicted = "a kernel ends on the feature of its largest initial correlation"
        every = pooled("the same of all kernels, grown or not", (ends == winners).sum(1), ends.shape[1], lab.seeds)
        rows = [grown_row(lab, trained), every]
        claims.append(claim("kernel-lottery", "[P]", predicted, row, rows, clock))
    return claims


# rows, which other claims use too ----------------------------------------------------------------------------


def captured_row(lab: Lab, trained: Trained, threshold: float | None = None) -> Row:
    hits = numpy(captured(trained.network, lab.features, lab.setting.horizon))[:, lab.pretraining.shown.numpy()]
    return pooled("features captured", hits.sum(1), hits.shape[1], lab.seeds, threshold)


def coverage_details(lab: Lab, trained: Trained) -> list[Row]:
    rows = [held_row(lab, trained)]
    if trained.most.size:
        rows.append(pooled("most features captured at any time", trained.most, lab.data.count, lab.seeds))
    return rows


def held_row(lab: Lab, trained: Trained) -> Row:
    """Captured but for purity: a blended kernel counts for each of its features."""
    held = numpy(largest_overlap(trained.network, lab.features)) >= lab.setting.horizon / 2
    what = "features that some kernel, pure or not, has at half the horizon"
    return pooled(what, held.sum(1), held.shape[1], lab.seeds)


def grown_row(lab: Lab, trained: Trained) -> Row:
    grew = grown(lab, trained)
    return pooled("kernels that grew", grew.sum(1), grew.shape[1], lab.seeds)


def pure_row(lab: Lab, trained: Trained, threshold: float | None = None) -> Row:
    grew = grown(lab, trained)
    pure = numpy(second_to_first(trained.network, lab.features)) <= PURE_AT_HORIZON
    what = f"grown kernels with second/first <= {PURE_AT_HORIZON}"
    return pooled(what, (grew & pure).sum(1), grew.sum(1), lab.seeds, threshold)


def purity_details(lab: Lab, trained: Trained) -> list[Row]:
    """Where impurity comes from: the sibling, the other feature of the same class, which is in every image with it."""
    grew = grown(lab, trained)
    if not grew.any(1).all():
        return [grown_row(lab, trained)]
    ratio = numpy(second_to_first(trained.network, lab.features))
    classes = numpy(overlaps(trained.network, lab.features).topk(2, dim=2).indices) // lab.data.L
    siblings = classes[..., 0] == classes[..., 1]
    impure = grew & (ratio > PURE_AT_HORIZON)
    medians = np.array([np.median(of[some]) for of, some in zip(ratio, grew, strict=True)])
    return [
        grown_row(lab, trained),
        averaged("median second/first of grown kernels", medians),
        pooled("impure ones whose second is of the same class", (impure & siblings).sum(1), impure.sum(1), lab.seeds),
    ]


def grown(lab: Lab, trained: Trained) -> np.ndarray:
    """(S, K) bool: on their own clocks the kernels that reached the horizon; else those half way there or further."""
    if trained.grown.size:
        return trained.grown.astype(bool)
    return numpy(overlaps(trained.network, lab.features).amax(2)) >= lab.setting.horizon / 2
