"""Claims 4 to 6: what supervised learning captures [A], what pretraining changes downstream, and what fine-tuning keeps
[P Theorem 2]."""

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import torch

from whymask.theory.claims.record import Claim, Row, averaged, claim, pooled, within
from whymask.theory.lab import CLOCKS, Clock, Head, Lab, Start, Trained
from whymask.theory.measures import captured, class_winners, feature_power, largest_overlap, own_overlap
from whymask.theory.store import Arrays, numpy

LOTTERY, RETENTION, TOLERANCE = 0.9, 0.95, 0.1
ONE_FEATURE = 0.3
"""Largest minor/major overlap of a class that captured one feature only."""
REGION_SEEDS = 5
REGION_SCALES = (0.03, 0.1, 0.3)
REGION_RATES = ((1.0, 0.1), (1.0, 1.0), (1.0, 10.0), (10.0, 1.0))
"""Factors of the step sizes of kernels and head."""
VIEWS = ("multi", "single", "mixed")


def supervised_lottery(lab: Lab) -> list[Claim]:
    """Claim 4: the fixed-head network captures one of a class's features, and it is the class's winner."""
    trained = lab.classifier("fixed", "random")
    one, right = lottery(lab, trained)
    accuracy, L = lab.accuracy(trained.network, "single"), lab.data.L
    expected = 1 - one.mean(1) * (L - 1) / L
    what = "classes that captured one feature, their winner"
    main = pooled(what, (one & right).sum(1), lab.data.k, lab.seeds, LOTTERY)
    rows = [
        pooled("classes that captured one feature only", one.sum(1), lab.data.k, lab.seeds),
        pooled("classes whose larger feature is their winner", right.sum(1), lab.data.k, lab.seeds, LOTTERY),
        averaged("single-view accuracy", accuracy),
        averaged(f"predicted: 1 - (share of one-feature classes) (L - 1)/L, L = {L}", expected),
        within("single-view accuracy minus the prediction", accuracy - expected, TOLERANCE),
        *_by_margin(lab, right),
    ]
    predicted = "of a class's features the fixed-head network captures one, the class's winner"
    return [claim("supervised-lottery", "[A]", predicted, main, rows)]


def lottery(lab: Lab, trained: Trained, owned: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Which classes the network captured one feature of, and whose larger feature is their winner: (S, k) bool each.

    A class's feature is looked for in the kernels that the class owns; with a learned head (not `owned`), in all.
    """
    if owned:
        overlap = numpy(own_overlap(trained.network, lab.features, lab.data.L))
    else:
        overlap = numpy(largest_overlap(trained.network, lab.features)).reshape(len(lab.seeds), lab.data.k, lab.data.L)
    ordered = np.sort(overlap, axis=2)
    major, others = ordered[..., -1], ordered[..., :-1]
    one = (major >= lab.setting.horizon / 2) & (others <= ONE_FEATURE * major[..., None]).all(2)
    return one, overlap.argmax(2) == _winners(lab)["winner"]


def _winners(lab: Lab) -> Arrays:
    """ "winner" and "margin", (S, k) each: the winner of every class, and its margin over the runner-up."""
    return lab.store.get(f"{lab.name}/winners", lab.seeds, lab.at_once, partial(_find_winners, lab))


def _find_winners(lab: Lab, seeds: list[int]) -> Arrays:
    s, images = lab.setting, lab.images(seeds)
    power = sum(feature_power(batch, lab.features, lab.data.L, s.q) for batch in images) / len(images)
    winner, margin = class_winners(lab.start(seeds), lab.features, torch.as_tensor(power), lab.data.L, s.q)
    return {"winner": numpy(winner), "margin": numpy(margin)}


def _by_margin(lab: Lab, right: np.ndarray) -> list[Row]:
    margin = _winners(lab)["margin"]
    rows = []
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, np.inf)):
        chosen = (margin >= low) & ((margin < high) | (high == np.inf))
        what = (
            f"the same, margin over the runner-up {low} to {high}" if high < np.inf else f"the same, margin over {low}"
        )
        rows.append(pooled(what, (right & chosen).sum(1), chosen.sum(1), lab.seeds))
    return rows


def downstream(lab: Lab) -> list[Claim]:
    """Claim 5: head {fixed, learned} x kernels {random, pretrained}, and frozen random kernels with a learned head."""
    return [_downstream(lab, "own", _region(lab)), _downstream(lab, "common", [])]


def _downstream(lab: Lab, clock: Clock, region: list[Row]) -> Claim:
    starts: tuple[Start, Start] = ("random", clock)
    heads: tuple[Head, Head] = ("fixed", "learned")
    nets = {(head, start): lab.classifier(head, start) for head in heads for start in starts}
    single = {key: lab.accuracy(net.network, "single") for key, net in nets.items()}
    same_steps = lab.setting.rate("kernel_rate"), lab.setting.rate("head_rate")
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
    return claim("downstream", "[P] Theorem 2", predicted, main, [*rows, *region], clock)


def gain_row(lab: Lab, tuned: Trained, scratch: Trained, name: str, threshold: float | None = None) -> Row:
    """Single-view accuracy of pretrained minus supervised networks, over the seeds of which both reached the loss.

    A network that has not trained cannot be compared: the argmax of its tiny outputs may be right or wrong.
    """
    both = (tuned.loss <= lab.setting.target) & (scratch.loss <= lab.setting.target)
    gains = (lab.accuracy(tuned.network, "single") - lab.accuracy(scratch.network, "single"))[both]
    what = f"{name}, single-view accuracy: pretrained minus supervised, {both.sum()} of {len(both)} seeds at the loss"
    if not len(gains):
        return pooled(what, np.zeros(len(both)), 0, lab.seeds, threshold)
    return averaged(what, gains, threshold)


def accuracy_rows(lab: Lab, trained: Trained, head: str, start: Start) -> list[Row]:
    """Accuracy on each kind of test data, and the training loss at which that is; "frozen" is a learned head alone."""
    name = f"{head} head, kernels {start}" if head != "frozen" else "learned head, kernels random and frozen"
    rows = [
        averaged(f"{name}: accuracy, {view} data", lab.accuracy(trained.network, view)) | {"view": view}
        for view in VIEWS
    ]
    loss = trained.loss
    reached = pooled(f"{name}: seeds that reached the target loss", loss <= lab.setting.target, 1, lab.seeds)
    rows += [averaged(f"{name}: training loss", loss), reached]
    return [row | {"head": head, "start": start} for row in rows]


def _region(lab: Lab) -> list[Row]:
    """Learned heads from scratch over initial scales and step sizes: where they meet the lottery too."""
    rows = []
    for scale, factors in product(REGION_SCALES, REGION_RATES):
        own = scale == lab.setting.scale
        name = lab.name if own else f"region-{scale:g}"
        there = lab.sub(name, replace(lab.setting, scale=scale), lab.seeds[:REGION_SEEDS])
        kernels, head = (
            factor * lab.setting.rate(name) for factor, name in zip(factors, ("kernel_rate", "head_rate"), strict=True)
        )
        tag = "" if own and factors == (1, 1) else f"-{kernels:g}-{head:g}"
        net = there.classifier("learned", "random", (kernels, head), tag)
        loss = net.loss
        what = f"from scratch, scale {scale:g}, step sizes {kernels:g} and {head:g}: single-view accuracy"
        about = {"scale": scale, "kernel_rate": kernels, "head_rate": head, "head": "learned", "start": "random"}
        about |= {"view": "single", "loss": float(loss.mean()), "reached": float((loss <= lab.setting.target).mean())}
        one = lottery(there, net, owned=False)[0]
        about |= {"one_feature_classes": float(one.mean()), "region": True}
        rows.append(averaged(what, there.accuracy(net.network, "single")) | about)
    return rows


def retention(lab: Lab) -> list[Claim]:
    """Claim 6, on each clock: fine-tuning keeps the captured features."""
    claims = []
    for clock in CLOCKS:
        before, after = lab.pretrained(clock), lab.classifier("learned", clock)
        row, rows = retention_rows(lab, before, after)
        predicted = "fine-tuning keeps every captured feature: Lambda after / before"
        claims.append(claim("retention", "[P] Theorem 2", predicted, row, rows, clock))
    return claims


def retention_rows(lab: Lab, before: Trained, after: Trained) -> tuple[Row, list[Row]]:
    """The smallest ratio of Lambda after / before over a seed's captured features, and the share still captured."""
    had = numpy(captured(before.network, lab.features, lab.setting.horizon))
    ratio = numpy(largest_overlap(after.network, lab.features)) / numpy(largest_overlap(before.network, lab.features))
    some = had.any(1)
    smallest = np.where(had, ratio, np.inf).min(1)[some]
    what = "smallest Lambda after / before over captured features"
    kept = numpy(captured(after.network, lab.features, lab.setting.horizon))
    rows = [pooled("captured features still captured after", (had & kept).sum(1), had.sum(1), lab.seeds)]
    if not len(smallest):
        return pooled(what, had.sum(1) * 0, had.sum(1), lab.seeds, RETENTION), rows
    return averaged(what, smallest, RETENTION), [
        pooled("seeds with a captured feature", some.astype(int), 1, lab.seeds),
        *rows,
    ]
