"""Claim 10: how coverage, the supervised lottery and the gain downstream move as k grows, and how the cost grows."""

from collections.abc import Sequence

import numpy as np

from whymask.theory.claims.claim import Claim, Picture, Section, Told
from whymask.theory.claims.coverage import captured_row
from whymask.theory.claims.downstream import gain_row
from whymask.theory.claims.purity import pure_row
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, pooled
from whymask.theory.claims.supervised_lottery import lottery
from whymask.theory.lab import Lab
from whymask.theory.measures import captured
from whymask.theory.page.figures import lines
from whymask.theory.store import numpy

ID = "scale"
SEEDS = 5


def scale(lab: Lab, ks: Sequence[int] = (10, 20)) -> list[Finding]:
    """The first `SEEDS` seeds at every k."""
    rows, coverage = [], []
    for k in ks:
        name = lab.name if k == lab.data.k else f"k-{k}"
        there = lab.sub(name, lab.regime.with_data(k=k), lab.seeds[:SEEDS])
        rows += _rows(there, k)
        hits = captured(there.pretrained("own").network, there.features, there.regime.horizon)
        coverage.append(numpy(hits).mean(1))
    if len(ks) < 2:
        main = pooled("change of coverage for every tenfold k: needs two k", np.zeros(len(lab.seeds)), 0, lab.seeds)
    else:
        slopes = np.polyfit(np.log10(ks), np.stack(coverage), 1)[0]
        main = averaged(f"change of coverage for every tenfold k, {ks[0]} to {ks[-1]}", slopes)
    predicted = "the theorems are for large k: coverage, lottery and gain do not fall as k grows"
    return [finding(ID, "[P, A]", predicted, main, rows)]


def _rows(lab: Lab, k: int) -> list[Row]:
    nets = {
        "own": lab.pretrained("own"),
        "fixed": lab.classifier("fixed", "random"),
        "scratch": lab.classifier("learned", "random"),
        "pretrained": lab.classifier("learned", "own"),
    }
    one, right = lottery(lab, nets["fixed"])
    single = {name: lab.accuracy(net.network, "single") for name, net in nets.items() if name != "own"}
    lost = pooled("classes that captured one feature, their winner", (one & right).sum(1), k, lab.seeds)
    gained = gain_row(lab, nets["pretrained"], nets["scratch"], "learned head")
    rows = [
        captured_row(lab, nets["own"]) | {"of": "coverage"},
        pure_row(lab, nets["own"]) | {"of": "purity"},
        lost | {"of": "supervised-lottery"},
        gained | {"of": "downstream"},
    ]
    rows += [mean_share(f"single-view accuracy, {name}", values) | {"of": name} for name, values in single.items()]
    seconds = np.sum([net.seconds for net in nets.values()], axis=0)
    steps = {name: int(net.taken.max()) for name, net in nets.items()}
    rows.append(averaged("seconds a seed for the four networks", seconds) | {"of": "seconds", "steps": steps})
    about = {"k": k, "K": lab.regime.K, "d": lab.data.width, "P": lab.data.patches, "N": lab.regime.images}
    return [row | about for row in rows]


def against_k(told: Told) -> list[Picture]:
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
    pictures = []
    for name, names, caption, axis in (
        ("shares", shares, "Claims against k", "share, or gain in accuracy"),
        ("networks", networks, "Accuracy on single-view images against k", "accuracy"),
        ("seconds", {"seconds": "seconds a seed"}, "Cost against k (both axes on a log scale)", "seconds a seed"),
    ):
        series = {title: [row for row in told.rows if row.get("of") == of] for of, title in names.items()}
        svg = lines(f"theory-scale-{name}", series, "k", "classes k", axis, log="xy" if name == "seconds" else "x")
        if svg:
            pictures.append(Picture(f"theory-scale-{name}", caption, svg))
    return pictures


SCALE = Claim(
    id=ID,
    title="It stays so as k grows",
    test=scale,
    section=Section(
        id="scale",
        title="How it moves with the number of classes",
        reading="The theorems are for large k. Points: measured at each k; bars: 95 % interval. Coverage, purity and "
        "lottery are shares; the gain is accuracy on single-view images, pretrained minus supervised.",
        draw=against_k,
    ),
)
