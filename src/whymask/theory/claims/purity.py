"""Claim 2 [P Theorem 1]: kernels that grew are pure, each has nearly nothing of any feature but its first."""

from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb

from whymask.report.figures import NEUTRAL, draw
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.record import Finding, Row, finding, mean_share, named, pooled
from whymask.theory.lab import CLOCKS, Lab, Trained
from whymask.theory.measures import TINY, overlaps, ratio_at, second_to_first
from whymask.theory.page.figures import BLUE
from whymask.theory.shares import companionship
from whymask.theory.store import numpy

ID = "purity"
THRESHOLD = 0.9
PURE_AT_HORIZON = 0.2
FACTORS = (1.5, 3.0, 6.0)
"""tau^q - 1 as multiples of the growth threshold, besides the regime's own."""
PATH_AGREEMENT = 0.95
LABELLED = 12
"""Most classes that are named on an axis."""


def purity(lab: Lab) -> list[Finding]:
    """On each clock; on their own clocks also for teachers at other factors of the growth threshold."""
    findings = []
    for clock in CLOCKS:
        trained = lab.pretrained(clock)
        rows = purity_details(lab, trained) + ([*_path(lab, trained), *_by_factor(lab)] if clock == "own" else [])
        predicted = f"a kernel that grew has second/first <= {PURE_AT_HORIZON} at the horizon"
        findings.append(finding(ID, "[P] Theorem 1", predicted, pure_row(lab, trained, THRESHOLD), rows, clock))
    return findings


def _by_factor(lab: Lab) -> list[Row]:
    """Purity and coverage against tau: see `purification` for why kernels near the threshold keep their siblings."""
    s, rows = lab.regime, []
    for factor in FACTORS:
        other = lab.sub(f"{lab.name}-factor-{factor:g}", replace(s, tau=s.tau_at(factor)), lab.seeds)
        trained = other.pretrained("own")
        for row in (pure_row(other, trained), captured_row(other, trained)):
            rows.append(named(f"tau^q - 1 at {factor:g} of the threshold", row) | {"factor": factor})
    return rows


def _path(lab: Lab, trained: Trained) -> list[Row]:
    """Whether the two-kernel equation of `ratio_at` tells which grown kernels are pure of their sibling, of those that
    keep their winner; for two features a class, and where every feature is shown."""
    s, L = lab.regime, lab.data.L
    if L != 2 or not lab.pretraining.shown.all() or s.teacher <= 1:
        return []
    start, end = (numpy(overlaps(network, lab.features)) for network in (lab.start(), trained.network))
    winner = start.argmax(2)
    kept = grown(lab, trained) & (end.argmax(2) == winner)
    first, then = (
        np.take_along_axis(now, np.stack([winner, winner ^ 1], 2), 2).clip(0) for now in (start, end)
    )  # (S, K, 2): of the winner and its sibling
    factor, c = (s.teacher**s.q - 1) / s.threshold, companionship(lab.data.split, lab.data.C_p, s.q)
    told = np.zeros(kept.shape)
    told[kept] = ratio_at(s.horizon, first[kept][:, 0], first[kept][:, 1] / first[kept][:, 0], factor, s.q, c)
    seen = then[..., 1] / np.maximum(then[..., 0], TINY)
    agrees = kept & ((told <= PURE_AT_HORIZON) == (seen <= PURE_AT_HORIZON))
    what = (
        f"kernels that keep their winner of which the path's equation tells whether sibling/first <= {PURE_AT_HORIZON}"
    )
    return [pooled(what, agrees.sum(1), kept.sum(1), lab.seeds, PATH_AGREEMENT)]


def pure_row(lab: Lab, trained: Trained, threshold: float | None = None) -> Row:
    what = f"grown kernels with second/first <= {PURE_AT_HORIZON}"
    return pooled(what, *grown_pure(lab, trained), lab.seeds, threshold)


def grown_pure(lab: Lab, trained: Trained) -> tuple[np.ndarray, np.ndarray]:
    """How many kernels grew and are pure, and how many grew, (S,) each."""
    grew = grown(lab, trained)
    pure = numpy(second_to_first(trained.network, lab.features)) <= PURE_AT_HORIZON
    return (grew & pure).sum(1), grew.sum(1)


def pure_share(lab: Lab, trained: Trained) -> np.ndarray:
    """Of the kernels that grew, (S,); 0 where none grew."""
    pure, grew = grown_pure(lab, trained)
    return pure / np.maximum(grew, 1)


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
        mean_share("median second/first of grown kernels", medians),
        pooled("impure ones whose second is of the same class", (impure & siblings).sum(1), impure.sum(1), lab.seeds),
    ]


def grown_row(lab: Lab, trained: Trained) -> Row:
    grew = grown(lab, trained)
    return pooled("kernels that grew", grew.sum(1), grew.shape[1], lab.seeds)


def grown(lab: Lab, trained: Trained) -> np.ndarray:
    """(S, K) bool: on their own clocks the kernels that reached the horizon; else those half way there or further."""
    if trained.grown.size:
        return trained.grown.astype(bool)
    return numpy(overlaps(trained.network, lab.features).amax(2)) >= lab.regime.horizon / 2


def heat_maps(told: Told) -> list[Picture]:
    stages = {
        "start": "Before pretraining",
        "own": "After pretraining, own clock",
        "learned-own": "After fine-tuning, own clock",
        "common": "After pretraining, common clock",
        "normalised": "After pretraining on normalised targets",
    }
    features = told.array("features", 2)
    kernels = {stage: told.array(f"{stage}/kernels", 3) for stage in stages}
    final = next((kernels[stage] for stage in ("own", "common", "start") if kernels[stage] is not None), None)
    if features is None or final is None or final.shape[2] != features.shape[1]:
        return []
    order = np.argsort(_relative(final[0], features).argmax(1), kind="stable")
    L, pictures = told.features_a_class, []
    for stage, caption in stages.items():
        given = kernels[stage]
        if given is not None and given.shape[1:] == final.shape[1:]:
            name = f"theory-kernels-{stage}"
            svg = _heat_map(name, _relative(given[0], features)[order], L if len(features) % L == 0 else 1)
            pictures.append(Picture(name, caption, svg))
    return pictures


def _relative(kernels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """<w_r, v>+ divided by the kernel's largest: (K, n) from (K, d) and (n, d)."""
    overlap = np.nan_to_num(np.maximum(kernels @ features.T, 0))
    return overlap / np.maximum(overlap.max(1, keepdims=True), 1e-12)


def _heat_map(name: str, shares: np.ndarray, per_class: int) -> str:
    """`shares` (K, n) in [0, 1]."""
    classes = shares.shape[1] // per_class

    def paint(axes: Axes) -> None:
        image = np.empty((*shares.shape, 4))
        image[..., :3], image[..., 3] = to_rgb(BLUE), shares
        axes.imshow(image, aspect="auto", interpolation="none")
        centres = per_class * np.arange(classes) + (per_class - 1) / 2
        shown = slice(None, None, 1 + (classes - 1) // LABELLED)
        axes.set_xticks(centres[shown], [str(c) for c in range(classes)[shown]])
        axes.tick_params(length=0)
        axes.set_yticks([])
        axes.grid(False)
        if classes <= 2 * LABELLED:
            for boundary in range(1, classes):
                axes.axvline(boundary * per_class - 0.5, color=NEUTRAL, alpha=0.3, linewidth=0.8)
        axes.set_xlabel("features, by class" if per_class > 1 else "features")
        axes.set_ylabel(f"{len(shares)} kernels")

    return draw(name, 4.6, paint)


PURITY = Claim(
    id=ID,
    title="Kernels are pure",
    test=purity,
    section=Section(
        id="kernels",
        title="What the kernels point at",
        reading="Each row is a kernel of the first seed, each column a feature, those of a class side by side. The "
        "colour is the kernel's correlation with the feature, divided by its own largest (below zero: empty), so size "
        "is not seen. A pure kernel is one full cell in an empty row; a blended one has several. Rows stand in the "
        "order of the kernel's favourite feature after pretraining on its own clock, the same in all pictures.",
        draw=heat_maps,
    ),
)
