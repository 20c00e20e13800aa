"""The lottery: does training with another seed give a network that sees something else?

The paper's answer is that from scratch each network captures the features that its first weights happened to favour.
Then networks of different seeds disagree, look at different parts, and gain from being averaged; pretrained ones, which
captured all, have less of a reason to. But accurate networks agree for being accurate. Whether two are right on the
same images, beyond what their accuracies imply, is their error consistency (Geirhos, Meding and Wichmann, arXiv
2006.16736).
"""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from whymask.explanations.cast import Cast
from whymask.explanations.choice import in_turn, tagged
from whymask.explanations.compared import Compared
from whymask.explanations.controls import RANDOM, random_network
from whymask.explanations.drawing import Told, dots, select
from whymask.explanations.evidence import evidence, ranks, top_cells
from whymask.explanations.measure import AGAINST, Drawing, Expectation, Measure
from whymask.explanations.networks import Member, Role
from whymask.explanations.numbers import RESAMPLES, Number, bounds_of, jackknife, stated
from whymask.explanations.shown import Shown, groups_of, images_of
from whymask.intervals import ANYTHING, SHARE, Range, resampled_weights, units_of

NAME = "lottery"
AGREEMENT, ERROR_CONSISTENCY, ENSEMBLE_GAIN, ACCURACY = "agreement", "error consistency", "ensemble gain", "accuracy"
EVIDENCE_OVERLAP, OVERLAP_BY_CHANCE = "evidence overlap", "evidence overlap by chance"
RANGES: dict[str, Range] = {ERROR_CONSISTENCY: (-1.0, 1.0), ENSEMBLE_GAIN: ANYTHING}
"""Of the quantities that are no shares."""

SEEDS = 5
"""Networks that an arm should have, for its lottery to be told."""
ROLES: tuple[Role, ...] = ("pretrained", "baseline", "erased", "readout")
"""Whose networks of several seeds are told apart."""

Seen = dict[int, tuple[Tensor, Tensor]]
"""seed -> what a network says of images, logits (n, k), and its evidence for their classes, (n, gh, gw)."""
Statistics = Callable[[Sequence[int], np.ndarray], dict[str, np.ndarray]]
"""Some of the seeds, and weights of the images (n, r), r weightings -> each quantity under each of these (r,)."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    """On the single-view images of glyphs, which show what each network lacks; else on those of all measures."""
    rows = shown.rows
    if shown.glyphs is not None and len(single := tagged(cast.prepared, "single_view")):
        rows = in_turn(cast.prepared, single)[: shown.settings.test_images]
    (images, labels), groups = images_of(cast.prepared, rows), groups_of(cast.prepared, rows)

    def seen_by(networks: dict[int, Member]) -> Seen:
        return {
            seed: (network(images), evidence(network, images, labels, shown.cells, shown.means[network.arm]))
            for seed, network in networks.items()
        }

    several = {role: cast.networks[role] for role in ROLES if len(cast.networks.get(role, {})) > 1}
    seen = {role: seen_by(networks) for role, networks in several.items()}
    numbers = []
    for role, own in seen.items():
        numbers += lottery_numbers(cast.arm(role), own, labels, groups)
    numbers += lottery_numbers(RANDOM, seen_by(_never_trained(cast)), labels, groups)
    for role in AGAINST:
        if {"pretrained", role} <= seen.keys():
            names = (cast.pretrained, cast.arm(role))
            numbers += lottery_difference(names, seen["pretrained"], seen[role], labels, groups)
    _note_few_seeds(cast)
    return numbers


def _never_trained(cast: Cast) -> dict[int, Member]:
    """Networks with random weights, one for each seed of the baseline."""
    like, classes = next(iter(cast.networks["random"].values())).encoder, len(cast.prepared.classes)
    return {
        seed: random_network(like, classes, seed, cast.preprocessing, cast.fabric.device)
        for seed in cast.networks["baseline"]
    }


def _note_few_seeds(cast: Cast) -> None:
    fewest = min(len(cast.networks[role]) for role in ("pretrained", "baseline"))
    if fewest == 1:
        cast.notes.append("The lottery needs several seeds, and there is one: it is left out.")
    elif fewest < SEEDS:
        cast.notes.append(f"The lottery is told from {fewest} networks an arm; at least {SEEDS} seeds are advised.")


def lottery_numbers(arm: str, seen: Seen, labels: Tensor, groups: np.ndarray | None = None) -> list[Number]:
    """Numbers of one arm, whose networks were all asked about the same images.

    "agreement": share of pairs of networks that say the same; "error consistency", see there; "evidence overlap":
    intersection over union of their strongest quarter of cells, which by chance would be "evidence overlap by chance";
    "accuracy", the members' mean; "ensemble gain": accuracy of the averaged probabilities, less that. Intervals over
    images keep the networks (bootstrap); those over seeds are delete-one jackknifes. No row for a single network.
    """
    if len(seen) < 2:
        return []
    rows = _numbers(arm, sorted(seen), _statistics(seen, labels), len(labels), groups, difference=False)
    cells = next(iter(seen.values()))[1][0].numel()
    chance = overlap_by_chance(cells, top_cells(cells))
    return [*rows, Number(NAME, OVERLAP_BY_CHANCE, arm, chance, None, None, len(labels), "images")]


def lottery_difference(
    names: tuple[str, str],
    arm: Seen,
    baseline: Seen,
    labels: Tensor,
    groups: np.ndarray | None = None,
) -> list[Number]:
    """`lottery_numbers` of an arm less those of a baseline, over the seeds that both have."""
    seeds = sorted(arm.keys() & baseline.keys())
    ours, theirs = _statistics(arm, labels), _statistics(baseline, labels)

    def difference(chosen: Sequence[int], weights: np.ndarray) -> dict[str, np.ndarray]:
        subtrahend = theirs(chosen, weights)
        return {name: value - subtrahend[name] for name, value in ours(chosen, weights).items()}

    return _numbers(f"{names[0]} - {names[1]}", seeds, difference, len(labels), groups, difference=True)


def _statistics(seen: Seen, labels: Tensor) -> Statistics:
    probabilities = {seed: logits.softmax(dim=1) for seed, (logits, _) in seen.items()}
    says = {seed: logits.argmax(dim=1) for seed, (logits, _) in seen.items()}
    right = {seed: (said == labels).double().numpy() for seed, said in says.items()}
    tops = {seed: ranks(maps) < top_cells(maps[0].numel()) for seed, (_, maps) in seen.items()}
    pairs = list(combinations(sorted(seen), 2))
    agree = {(a, b): (says[a] == says[b]).double().numpy() for a, b in pairs}
    overlap = {(a, b): _overlap(tops[a], tops[b]).numpy() for a, b in pairs}

    def statistics(seeds: Sequence[int], weights: np.ndarray) -> dict[str, np.ndarray]:
        def mean(rows: list[np.ndarray]) -> np.ndarray:
            return np.mean(rows, axis=0) @ weights / weights.sum(axis=0)

        among = list(combinations(sorted(seeds), 2))
        members = mean([right[seed] for seed in seeds])
        together = torch.stack([probabilities[seed] for seed in seeds]).mean(dim=0).argmax(dim=1) == labels
        return {
            AGREEMENT: mean([agree[pair] for pair in among]),
            ERROR_CONSISTENCY: error_consistency(np.stack([right[seed] for seed in seeds]), weights),
            EVIDENCE_OVERLAP: mean([overlap[pair] for pair in among]),
            ACCURACY: members,
            ENSEMBLE_GAIN: mean([together.double().numpy()]) - members,
        }

    return statistics


def error_consistency(right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Cohen's kappa of who is right where, the mean over pairs of networks: (r,).

    (c - e) / (1 - e), c being the share of images on which both are right or both are wrong, and e what their
    accuracies p, q make of it by chance, p q + (1 - p) (1 - q). 0: they err independently; 1: on the same images. A
    pair that is always right, or always wrong, does not count; NaN where none counts.

    Args:
        right: (networks, n), 1 where a network is right.
        weights: of the images, (n, r).
    """
    total = weights.sum(axis=0)
    accuracy = right @ weights / total
    kappas = []
    for a, b in combinations(range(len(right)), 2):
        same = (right[a] == right[b]) @ weights / total
        chance = accuracy[a] * accuracy[b] + (1 - accuracy[a]) * (1 - accuracy[b])
        kappas.append(np.divide(same - chance, 1 - chance, out=np.full_like(chance, np.nan), where=chance < 1))
    counted = ~np.isnan(kappas)
    return np.divide(
        np.nansum(kappas, axis=0), counted.sum(axis=0), out=np.full(len(total), np.nan), where=counted.any(axis=0)
    )


def _numbers(
    arm: str, seeds: list[int], statistics: Statistics, images: int, groups: np.ndarray | None, *, difference: bool
) -> list[Number]:
    if len(seeds) < 2:
        return []
    once = np.ones((images, 1))
    whole = statistics(seeds, once)
    without = [statistics([s for s in seeds if s != left_out], once) for left_out in seeds] if len(seeds) > 2 else []
    units, unit = units_of(images, groups)
    drawn = [statistics(seeds, weights[unit]) for weights in resampled_weights(units, RESAMPLES)]
    rows = []
    for name, (value,) in whole.items():
        if np.isnan(value):
            continue
        low, high = bounds_of(np.concatenate([part[name] for part in drawn]))
        rows.append(Number(NAME, name, arm, float(value), low, high, images, "images"))
        within = ANYTHING if difference else RANGES.get(name, SHARE)
        low, high = jackknife(float(value), [float(left[name][0]) for left in without], within)
        rows.append(Number(NAME, name, arm, float(value), low, high, len(seeds), "seeds"))
    return rows


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two sets of cells, bool (n, cells) each -> float64 (n,)."""
    return (a & b).sum(dim=1).double() / (a | b).sum(dim=1)


def overlap_by_chance(cells: int, top: int) -> float:
    """Expected intersection over union of two random sets of `top` of `cells` (hypergeometric)."""
    common = np.arange(top + 1)
    from scipy.stats import hypergeom  # slow to import

    return float((hypergeom.pmf(common, cells, top, top) * common / (2 * top - common)).sum())


def _lead(numbers: Sequence[Number], compared: Compared, features: int | None) -> str | None:
    ours, theirs = (stated(numbers, NAME, AGREEMENT, arm) for arm in compared.arms)
    if ours is None or theirs is None:
        return None
    return f"Two {compared.ours} agree on {ours} of the test images, two {compared.theirs} on {theirs}."


def alike(told: Told, name: str) -> dict[str, Figure]:
    """Agreement, error consistency, evidence overlap and ensemble gain of each arm."""
    quantities = (AGREEMENT, ERROR_CONSISTENCY, EVIDENCE_OVERLAP, ENSEMBLE_GAIN)
    taken = {quantity: rows for quantity in quantities if (rows := select(told, NAME, quantity))}
    chance = select(told, NAME, OVERLAP_BY_CHANCE, "images")
    marks = {EVIDENCE_OVERLAP: (chance[0]["value"], "by chance")} if chance else {}
    return {quantity: dots(told, name, rows, quantity, marks.get(quantity)) for quantity, rows in taken.items()}


LOTTERY = Measure(
    name=NAME,
    title="The lottery",
    about="Agreement: two networks of different seeds say the same. Error consistency: how far they are right on the "
    "same images, beyond what their accuracies imply (Cohen's kappa). Evidence overlap: intersection over union of "
    "their strongest quarter of cells. Ensemble gain: accuracy of their averaged probabilities, less their mean "
    "accuracy. Networks that captured all have less of a reason to differ.",
    take=take,
    expectations=(
        Expectation(
            quantities=(ERROR_CONSISTENCY, EVIDENCE_OVERLAP),
            supported="{theirs} are more of a lottery than {ours}: from seed to seed they err, and look, less alike.",
            against="{ours} are more of a lottery than {theirs}: from seed to seed they err, and look, less alike.",
            open="Whether {theirs} are more of a lottery than {ours}, and err and look less alike, is not certain.",
        ),
    ),
    lead=_lead,
    figures={"lottery": Drawing("Networks of different seeds: how alike they are", alike)},
)
