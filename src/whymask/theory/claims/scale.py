"""Claim 10: how coverage, the supervised lottery and the gain downstream move as k grows, and how the cost grows."""

from collections.abc import Sequence

import numpy as np

from whymask.theory.claims.downstream import gain_row, lottery
from whymask.theory.claims.pretraining import captured_row, pure_row
from whymask.theory.claims.record import Claim, Row, averaged, claim, pooled
from whymask.theory.lab import Lab
from whymask.theory.measures import captured
from whymask.theory.store import numpy

SEEDS = 5


def scale(lab: Lab, ks: Sequence[int] = (10, 20)) -> list[Claim]:
    """The first `SEEDS` seeds at every k."""
    rows, coverage = [], []
    for k in ks:
        name = lab.name if k == lab.data.k else f"k-{k}"
        there = lab.sub(name, lab.setting.with_data(k=k), lab.seeds[:SEEDS])
        rows += _rows(there, k)
        hits = captured(there.pretrained("own").network, there.features, there.setting.horizon)
        coverage.append(numpy(hits).mean(1))
    if len(ks) < 2:
        main = pooled("change of coverage for every tenfold k: needs two k", np.zeros(len(lab.seeds)), 0, lab.seeds)
    else:
        slopes = np.polyfit(np.log10(ks), np.stack(coverage), 1)[0]
        main = averaged(f"change of coverage for every tenfold k, {ks[0]} to {ks[-1]}", slopes)
    predicted = "the theorems are for large k: coverage, lottery and gain do not fall as k grows"
    return [claim("scale", "[P, A]", predicted, main, rows)]


def classes_up_to(k: int) -> tuple[int, ...]:
    """The numbers of classes compared by default: 10, 20, 50, 100 ... up to `k`, at least two of them."""
    steps = [digit * 10**power for power in range(1, 10) for digit in (1, 2, 5)]
    return tuple(step for step in steps if step <= max(k, 20))


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
    rows += [averaged(f"single-view accuracy, {name}", values) | {"of": name} for name, values in single.items()]
    seconds = np.sum([net.seconds for net in nets.values()], axis=0)
    steps = {name: int(net.taken.max()) for name, net in nets.items()}
    rows.append(averaged("seconds a seed for the four networks", seconds) | {"of": "seconds", "steps": steps})
    about = {"k": k, "K": lab.setting.K, "d": lab.data.width, "P": lab.data.patches, "N": lab.setting.images}
    return [row | about for row in rows]
