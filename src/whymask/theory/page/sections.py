"""The pictures of a theory run, from the rows of claims.json and from arrays.npz: each with how to read it.

S seeds, K kernels, n = k·L features (feature j belongs to class j // L), patches of d numbers.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from whymask.report.text import count, known
from whymask.theory.page import figures

Row = dict[str, Any]
Arrays = dict[str, np.ndarray]
ONE_FEATURE = 0.3
"""Second best over best feature, up to which a class counts as one of which one feature was captured."""
CLOCKS = {"own": "own clock", "common": "common clock"}


@dataclass(frozen=True)
class Picture:
    name: str
    caption: str
    svg: str


@dataclass(frozen=True)
class Section:
    """Pictures that are read together; `reading` says what one sees and how to read it."""

    id: str
    title: str
    reading: str
    pictures: list[Picture] = field(default_factory=list)
    narrow: bool = False
    """Whether the pictures stand four in a row on a wide page."""


def sections(run: Row, arrays: Arrays) -> list[Section]:
    """Every section that has a picture. `run` is claims.json with rows that are dicts."""
    rows: dict[str, list[Row]] = {}
    for claim in run["claims"]:
        rows.setdefault(str(claim["id"]), []).extend(claim["rows"])
    drawn = [
        growth_curves(arrays, run["setting"].get("horizon")),
        heat_maps(arrays, features_a_class(run["setting"])),
        lottery(arrays),
        accuracies(rows.get("downstream", [])),
        phases(rows.get("growth", [])),
        scales(rows.get("scale", [])),
        coverage_of_data(rows.get("data-coverage", [])),
        ensembles(rows.get("ensembles", [])),
    ]
    return [section for section in drawn if section.pictures]


def features_a_class(setting: Row) -> int:
    """L; 1 where the settings do not say."""
    data = setting.get("data")
    L: Any = data.get("L") if isinstance(data, dict) else None
    return int(L) if known(L) and L >= 1 else 1


def _array(arrays: Arrays, name: str, axes: int) -> np.ndarray | None:
    """The array as floats, what is not finite as NaN; None if it is missing, empty or of another shape."""
    found = arrays.get(name)
    if found is None or found.ndim != axes or not found.size or found.dtype.kind not in "fiub":
        return None
    return np.where(np.isfinite(found), found, np.nan).astype(float)


def growth_curves(arrays: Arrays, horizon: Any) -> Section:
    section = Section(
        "growth",
        "How the features grow in pretraining",
        "Λ of a feature is the largest correlation that any kernel has with it. Thin lines: the features of the first "
        "seed. Thick lines: the median over the features of all seeds. Captured: at the end some kernel has it at half "
        "the horizon (dotted line) or more, and nearly alone. On their own clocks kernels stop at the horizon (dashed "
        "line) one by one; on a common clock all stop when the first reaches it; the curves go on.",
    )
    for clock, title in CLOCKS.items():
        growth, captured = _array(arrays, f"{clock}/growth", 3), _array(arrays, f"{clock}/captured", 2)
        if growth is None or captured is None or captured.shape != growth.shape[::2] or np.isnan(growth).all():
            continue
        svg = figures.growth(f"theory-growth-{clock}", growth, captured > 0, horizon)
        shares = f"{int(captured[0].sum())} of {captured.shape[1]} features captured in the first seed"
        section.pictures.append(Picture(f"theory-growth-{clock}", f"Λ against steps, {title}: {shares}", svg))
    return section


def heat_maps(arrays: Arrays, L: int) -> Section:
    section = Section(
        "kernels",
        "What the kernels point at",
        "Each row is a kernel of the first seed, each column a feature, those of a class side by side. The colour is "
        "the kernel's correlation with the feature, divided by its own largest (below zero: empty), so size is not "
        "seen. A pure kernel is one full cell in an empty row; a blended one has several. Rows stand in the order of "
        "the kernel's favourite feature after pretraining on its own clock, the same in all pictures.",
        narrow=True,
    )
    stages = {
        "start": "Before pretraining",
        "own": "After pretraining, own clock",
        "learned-own": "After fine-tuning, own clock",
        "common": "After pretraining, common clock",
    }
    features = _array(arrays, "features", 2)
    kernels = {stage: _array(arrays, f"{stage}/kernels", 3) for stage in stages}
    final = next((kernels[stage] for stage in ("own", "common", "start") if kernels[stage] is not None), None)
    if features is None or final is None or final.shape[2] != features.shape[1]:
        return section
    order = np.argsort(_relative(final[0], features).argmax(1), kind="stable")
    for stage, caption in stages.items():
        given = kernels[stage]
        if given is not None and given.shape[1:] == final.shape[1:]:
            name = f"theory-kernels-{stage}"
            svg = figures.heat_map(name, _relative(given[0], features)[order], L if len(features) % L == 0 else 1)
            section.pictures.append(Picture(name, caption, svg))
    return section


def _relative(kernels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """<w_r, v>+ divided by the kernel's largest: (K, n) from (K, d) and (n, d)."""
    overlap = np.nan_to_num(np.maximum(kernels @ features.T, 0))
    return overlap / np.maximum(overlap.max(1, keepdims=True), 1e-12)


def lottery(arrays: Arrays) -> Section:
    section = Section(
        "lottery",
        "What a supervised network takes of a class",
        "Each point is a class of one seed, trained from scratch with the fixed head: the largest correlation that the "
        "class's own kernels have with its best feature (across) and with its second best (up). Points near the bottom "
        "are classes of which one feature was captured and the other lost, points near the diagonal have both. Dotted "
        "line: the second at 0.3 of the first.",
    )
    overlap = _array(arrays, "fixed-random/own_overlap", 3)
    if overlap is None or overlap.shape[2] < 2 or np.isnan(overlap).any():
        return section
    ordered = np.sort(overlap, axis=2)
    major, minor = ordered[..., -1].ravel(), ordered[..., -2].ravel()
    lost = int((minor <= ONE_FEATURE * major).sum())
    caption = f"{lost} of {len(minor)} classes (all seeds) lie below the dotted line"
    svg = figures.scatter("theory-lottery", major, minor, ONE_FEATURE)
    section.pictures.append(Picture("theory-lottery", caption, svg))
    return section


def accuracies(rows: list[Row]) -> Section:
    section = Section(
        "accuracy",
        "Accuracy downstream",
        "Every network is trained on the same images, to the same training loss where it can reach it. Bars: mean "
        "over seeds; lines: 95 % interval over seeds. Multi-view images show all features of their class, single-view "
        "images only one: who lost a feature is wrong there.",
    )
    for view in ("multi", "single"):
        bars: dict[tuple[str, str], Row] = {}
        for row in rows:
            if row.get("view") == view and not row.get("region") and known(row.get("measured")) and "head" in row:
                bars.setdefault((str(row["head"]), str(row.get("start"))), row)
        if bars:
            name = f"theory-accuracy-{view}"
            section.pictures.append(Picture(name, f"{view.capitalize()}-view test images", figures.bars(name, bars)))
    return section


def phases(rows: list[Row]) -> Section:
    section = Section(
        "phases",
        "Which kernels grow",
        "Each cell is a setting of θ (the share of patches a mask keeps) and of the teacher's scale τ; the fuller its "
        "colour, the more of its kernels grew. The line is the predicted boundary (1/θ − 1)/C_p without κ: above it "
        "kernels grow, below they shrink. κ, what a kernel gains from features that come together, lets some grow a "
        "little below the line. Diamonds: where half of the kernels grow.",
    )
    placed = [row for row in rows if known(row.get("theta")) and 0 < row["theta"] < 1 and known(row.get("C_p"))]
    cells = [row for row in placed if known(row.get("grown")) and known(row.get("excess")) and row["excess"] > 0]
    crossings = [row for row in placed if known(row.get("crossing")) and row["crossing"] > 0]
    for C_p in sorted({row["C_p"] for row in cells if row["C_p"] > 0}):
        name = f"theory-phases-{count(C_p)}".replace(".", "-")
        panel = [[row for row in part if row["C_p"] == C_p] for part in (cells, crossings)]
        caption = f"C_p = {count(C_p)}: {count(C_p)} patch{'es' if C_p != 1 else ''} a feature"
        section.pictures.append(Picture(name, caption, figures.phase(name, C_p, *panel)))
    return section


def scales(rows: list[Row]) -> Section:
    section = Section(
        "scale",
        "How it moves with the number of classes",
        "The theorems are for large k. Points: measured at each k; bars: 95 % interval. Coverage, purity and lottery "
        "are shares; the gain is accuracy on single-view images, pretrained minus supervised.",
    )
    shares = {
        "coverage": "coverage",
        "purity": "purity",
        "supervised-lottery": "supervised lottery",
        "downstream": "gain",
    }
    networks = {
        "fixed": "scratch, fixed head",
        "scratch": "scratch, learned head",
        "pretrained": "pretrained, learned head",
    }
    for name, names, caption, axis in (
        ("shares", shares, "Claims against k", "share, or gain in accuracy"),
        ("networks", networks, "Accuracy on single-view images against k", "accuracy"),
        ("seconds", {"seconds": "seconds a seed"}, "Cost against k (both axes on a log scale)", "seconds a seed"),
    ):
        series = {title: [row for row in rows if row.get("of") == of] for of, title in names.items()}
        svg = figures.lines(
            f"theory-scale-{name}", series, "k", "classes k", axis, log="xy" if name == "seconds" else "x"
        )
        if svg:
            section.pictures.append(Picture(f"theory-scale-{name}", caption, svg))
    return section


def coverage_of_data(rows: list[Row]) -> Section:
    section = Section(
        "data-coverage",
        "What pretraining data must show",
        "Pretraining images show only a share of the features; the labelled images and the test show all. Accuracy "
        "rises with that share when pretraining is what captures features. Bars: 95 % interval.",
    )
    accuracy = [row for row in rows if row.get("view")]
    series = {view: [row for row in accuracy if row["view"] == view] for view in _distinct(accuracy, "view")}
    others = [row for row in rows if not row.get("view") and not row.get("of") and known(row.get("covered"))]
    found = {what: [row for row in others if row.get("what") == what] for what in _distinct(others, "what")}
    share = "share of features shown in pretraining"
    for name, groups, caption, axis in (
        ("accuracy", {f"{view}-view images": own for view, own in series.items()}, "Accuracy", "accuracy"),
        ("captured", found, "Captured features", "share captured"),
    ):
        if svg := figures.lines(f"theory-covered-{name}", groups, "covered", share, axis):
            section.pictures.append(Picture(f"theory-covered-{name}", f"{caption} against the share shown", svg))
    return section


def ensembles(rows: list[Row]) -> Section:
    section = Section(
        "ensembles",
        "What an ensemble gains",
        "Networks that captured different features know together what each lacks, so their ensemble gains; networks "
        "that all captured everything have nothing to tell one another. Accuracy is on single-view images; μ is the "
        "share of single-view images in training. Bars: 95 % interval.",
    )
    named = [row for row in rows if row.get("networks")]
    curves = [row for row in named if not row.get("gain") and known(row.get("members"))]
    gains = [row for row in named if row.get("gain") and known(row.get("mu"))]
    for name, chosen, x, across, axis, caption in (
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
        series = {kind: [row for row in chosen if row["networks"] == kind] for kind in _distinct(chosen, "networks")}
        if svg := figures.lines(f"theory-ensembles-{name}", series, x, across, axis, log="x" if x == "mu" else ""):
            section.pictures.append(Picture(f"theory-ensembles-{name}", caption, svg))
    return section


def _distinct(rows: list[Row], key: str) -> list[str]:
    return list(dict.fromkeys(str(row.get(key)) for row in rows))
