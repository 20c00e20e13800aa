"""Claim 5 [P Theorem 2]: a pretrained network is better downstream."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import numpy as np
from matplotlib.axes import Axes

from whymask.report.figures import NEUTRAL, draw
from whymask.report.text import known, number
from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, pooled
from whymask.theory.claims.supervised_lottery import lottery
from whymask.theory.lab import CLOCKS, Clock, Head, Lab, Start, Trained
from whymask.theory.page.figures import BLUE, GREEN, ORANGE

ID = "downstream"
REGION_SEEDS = 5
REGION_SCALES = (0.03, 0.1, 0.3)
REGION_RATES = ((1.0, 0.1), (1.0, 1.0), (1.0, 10.0), (10.0, 1.0))
"""Factors of the step sizes of kernels and head."""
REGION = ("measured", "scale", "kernel_rate", "head_rate")
"""What a row of the region must hold to be shown."""
VIEWS = ("multi", "single", "mixed")


def downstream(lab: Lab) -> list[Finding]:
    """Head {fixed, learned} x kernels {random, pretrained}, and frozen random kernels with a learned head."""
    return [_downstream(lab, clock, _region(lab) if clock == "own" else []) for clock in CLOCKS]


def _downstream(lab: Lab, clock: Clock, region: list[Row]) -> Finding:
    starts: tuple[Start, Start] = ("random", clock)
    heads: tuple[Head, Head] = ("fixed", "learned")
    nets = {(head, start): lab.classifier(head, start) for head in heads for start in starts}
    single = {key: lab.accuracy(net.network, "single") for key, net in nets.items()}
    same_steps = lab.regime.rate("kernel_rate"), lab.regime.rate("head_rate")
    equal = lab.accuracy(lab.classifier("learned", clock, same_steps, tag="-equal").network, "single")
    main = gain_row(lab, nets["learned", clock], nets["learned", "random"], "learned head", 0.0)
    gain = "head, single-view accuracy: pretrained minus supervised"
    rows = [
        averaged("the same at the step sizes of training from scratch", equal - single["learned", "random"]),
        averaged(f"fixed {gain}", single["fixed", clock] - single["fixed", "random"]),
    ]
    for (head, start), net in nets.items():
        rows += accuracy_rows(lab, net, head, start)
    rows += accuracy_rows(lab, lab.read_out(), "frozen", "random")
    predicted = "on single-view data the pretrained network is better, both with a learned head, at equal training loss"
    return finding(ID, "[P] Theorem 2", predicted, main, [*rows, *region], clock)


def gain_row(lab: Lab, tuned: Trained, scratch: Trained, name: str, threshold: float | None = None) -> Row:
    """Single-view accuracy of pretrained minus supervised networks, over the seeds of which both reached the loss.

    A network that has not trained cannot be compared: the argmax of its tiny outputs may be right or wrong.
    """
    both = (tuned.loss <= lab.regime.target) & (scratch.loss <= lab.regime.target)
    gains = (lab.accuracy(tuned.network, "single") - lab.accuracy(scratch.network, "single"))[both]
    what = f"{name}, single-view accuracy: pretrained minus supervised, {both.sum()} of {len(both)} seeds at the loss"
    if not len(gains):
        return pooled(what, np.zeros(len(both)), 0, lab.seeds, threshold)
    return averaged(what, gains, threshold)


def accuracy_rows(lab: Lab, trained: Trained, head: str, start: Start) -> list[Row]:
    """Accuracy on each kind of test data, and the training loss at which that is; "frozen" is a learned head alone."""
    name = f"{head} head, kernels {start}" if head != "frozen" else "learned head, kernels random and frozen"
    rows = [
        mean_share(f"{name}: accuracy, {view} data", lab.accuracy(trained.network, view)) | {"view": view}
        for view in VIEWS
    ]
    loss = trained.loss
    reached = pooled(f"{name}: seeds that reached the target loss", loss <= lab.regime.target, 1, lab.seeds)
    rows += [averaged(f"{name}: training loss", loss), reached]
    return [row | {"head": head, "start": start} for row in rows]


def _region(lab: Lab) -> list[Row]:
    """Learned heads from scratch over initial scales and step sizes: where they meet the lottery too."""
    rows = []
    for scale, factors in product(REGION_SCALES, REGION_RATES):
        there = at_scale(lab, scale, lab.seeds[:REGION_SEEDS])
        kernels, head = (
            factor * lab.regime.rate(name) for factor, name in zip(factors, ("kernel_rate", "head_rate"), strict=True)
        )
        tag = "" if there.name == lab.name and factors == (1, 1) else f"-{kernels:g}-{head:g}"
        net = there.classifier("learned", "random", (kernels, head), tag)
        loss = net.loss
        what = f"from scratch, scale {scale:g}, step sizes {kernels:g} and {head:g}: single-view accuracy"
        about = {"scale": scale, "kernel_rate": kernels, "head_rate": head, "head": "learned", "start": "random"}
        about |= {"view": "single", "loss": float(loss.mean()), "reached": float((loss <= lab.regime.target).mean())}
        one = lottery(there, net, owned=False)[0]
        about |= {"one_feature_classes": float(one.mean()), "region": True}
        rows.append(mean_share(what, there.accuracy(net.network, "single")) | about)
    return rows


def at_scale(lab: Lab, scale: float, seeds: Sequence[int]) -> Lab:
    """The lab of first kernels of this scale, which several claims share."""
    name = lab.name if scale == lab.regime.scale else f"region-{scale:g}"
    return lab.sub(name, replace(lab.regime, scale=scale), seeds)


def accuracies(told: Told) -> list[Picture]:
    pictures = []
    for view in ("multi", "single"):
        bars: dict[tuple[str, str], Row] = {}
        for row in told.rows:
            if row.get("view") == view and not row.get("region") and known(row.get("measured")) and "head" in row:
                bars.setdefault((str(row["head"]), str(row.get("start"))), row)
        if bars:
            name = f"theory-accuracy-{view}"
            pictures.append(Picture(name, f"{view.capitalize()}-view test images", _bars(name, bars)))
    return pictures


_STARTS = {
    "random": ("from scratch", ORANGE),
    "own": ("pretrained, own clock", BLUE),
    "common": ("pretrained, common clock", GREEN),
    "normalised": ("pretrained, normalised targets", BLUE),
}
_HEADS = {"fixed": "fixed head", "learned": "learned head", "frozen": "learned head, random kernels frozen"}


def _bars(name: str, rows: dict[tuple[str, str], Row]) -> str:
    """Accuracy with its interval; `rows` by (head, start)."""
    orders = list(_HEADS), list(_STARTS)

    def place(key: tuple[str, str]) -> list[int]:
        return [order.index(part) if part in order else len(order) for part, order in zip(key, orders, strict=True)]

    keys = sorted(rows, key=place)

    def paint(axes: Axes) -> None:
        for y, (head, start) in enumerate(keys):
            row, colour = rows[head, start], NEUTRAL if head == "frozen" else _STARTS.get(start, ("", NEUTRAL))[1]
            axes.barh(y, row["measured"], color=colour, height=0.5, alpha=0.5)
            if known(row.get("low")) and known(row.get("high")):
                axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2.2)
            axes.plot(row["measured"], y, "o", color=colour, markersize=5)
            axes.text(1.03, y, number(row["measured"]), va="center", transform=axes.get_yaxis_transform())
            axes.text(0, y - 0.34, _name(head, start), va="bottom")
        axes.set_yticks([])
        axes.set_ylim(len(keys) - 0.5, -0.9)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        axes.set_xlabel("accuracy")
        axes.grid(axis="y", visible=False)

    return draw(name, 0.9 + 0.5 * len(keys), paint)


def _name(head: str, start: str) -> str:
    name = _HEADS.get(head, head)
    return name if head == "frozen" else f"{name}, {_STARTS.get(start, (start,))[0]}"


def region_table(rows: list[Row]) -> Row | None:
    """Single-view accuracy of a learned head from scratch, over scales and step sizes: {"columns", "rows"}.

    A cell has the row and "heat", 1 where accuracy is what one feature of two gives (0.5) and 0 where it is 1.
    """
    rows = [
        row | {"heat": min(1.0, max(0.0, 2 * (1 - row["measured"])))}
        for row in rows
        if row.get("region") and all(known(row.get(key)) for key in REGION)
    ]
    columns = sorted({(row["kernel_rate"], row["head_rate"]) for row in rows})
    if not columns:
        return None
    cells = {(row["scale"], row["kernel_rate"], row["head_rate"]): row for row in rows}
    scales = sorted({row["scale"] for row in rows})
    lines = [(scale, [cells.get((scale, *column)) for column in columns]) for scale in scales]
    return {"columns": columns, "rows": lines, "seeds": max(row.get("seeds") or 0 for row in rows)}


DOWNSTREAM = Claim(
    id=ID,
    title="Pretraining helps downstream",
    test=downstream,
    section=Section(
        id="accuracy",
        title="Accuracy downstream",
        reading="Every network is trained on the same images, to the same training loss where it can reach it. Bars: "
        "mean over seeds; lines: 95 % interval over seeds. Multi-view images show all features of their class, "
        "single-view images only one: who lost a feature is wrong there.",
        draw=accuracies,
    ),
)
