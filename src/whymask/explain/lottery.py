"""The lottery: does training with another seed give a network that sees something else?

The paper's answer is that from scratch each network captures the features that its first weights happened to favour.
Then networks of different seeds disagree, look at different parts, and gain from being averaged; pretrained ones, which
captured all, have less of a reason to.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from whymask.explain.evidence import ranks
from whymask.explain.numbers import Key, Number, bootstrap_bounds, jackknife

SEEDS = 5
"""Networks that an arm should have, for its lottery to be told."""
TOP = 1 / 4
"""Of the cells of an image, the strongest evidence, that is compared between networks."""


def lottery_numbers(
    arm: str,
    logits: dict[int, Tensor],
    maps: dict[int, Tensor],
    labels: Tensor,
    groups: np.ndarray | None = None,
) -> list[Number]:
    """Measure 3 of one arm: seed -> logits (n, k), and seed -> evidence (n, gh, gw), on the same images.

    "agreement": share of pairs of networks that say the same; "evidence overlap": intersection over union of their
    strongest quarter of cells, which by chance would be "evidence overlap by chance"; "accuracy", the members' mean;
    "ensemble gain": accuracy of the averaged probabilities, less that. Intervals over images keep the networks; those
    over seeds are delete-one jackknifes. No row for a single network.
    """
    return _numbers(arm, *_parts(logits, maps, labels), groups)


def lottery_difference(
    names: tuple[str, str],
    arm: tuple[dict[int, Tensor], dict[int, Tensor]],
    baseline: tuple[dict[int, Tensor], dict[int, Tensor]],
    labels: Tensor,
    groups: np.ndarray | None = None,
) -> list[Number]:
    """`lottery_numbers` of an arm less those of a baseline, (logits, maps) each, over the seeds that both have."""
    seeds = sorted(arm[0].keys() & baseline[0].keys())
    both = [_parts(logits, maps, labels)[1] for logits, maps in (arm, baseline)]

    def difference(chosen: list[int]) -> dict[Key, np.ndarray]:
        ours, theirs = (values(chosen) for values in both)
        return {key: ours[key] - theirs[key] for key in ours if key.quantity != "evidence overlap by chance"}

    return _numbers(f"{names[0]} - {names[1]}", seeds, difference, groups)


Parts = tuple[list[int], Callable[[list[int]], dict[Key, np.ndarray]]]
"""Seeds, and what gives each image's values (n,) for any of them."""


def _parts(logits: dict[int, Tensor], maps: dict[int, Tensor], labels: Tensor) -> Parts:
    probabilities = {seed: value.softmax(dim=1) for seed, value in logits.items()}
    says = {seed: value.argmax(dim=1) for seed, value in logits.items()}
    cells = next(iter(maps.values()))[0].numel()
    top = round(TOP * cells)
    tops = {seed: ranks(value) < top for seed, value in maps.items()}
    same = {
        (a, b): ((says[a] == says[b]).double(), _overlap(tops[a], tops[b])) for a, b in combinations(sorted(logits), 2)
    }

    def values(seeds: list[int]) -> dict[Key, np.ndarray]:
        among = [same[pair] for pair in combinations(sorted(seeds), 2)]
        members = torch.stack([(says[seed] == labels).double() for seed in seeds]).mean(dim=0)
        together = torch.stack([probabilities[seed] for seed in seeds]).mean(dim=0).argmax(dim=1) == labels
        return {
            Key("agreement"): torch.stack([agreed for agreed, _ in among]).mean(dim=0).numpy(),
            Key("evidence overlap"): torch.stack([overlap for _, overlap in among]).mean(dim=0).numpy(),
            Key("evidence overlap by chance"): np.full(len(labels), overlap_by_chance(cells, top)),
            Key("accuracy"): members.numpy(),
            Key("ensemble gain"): (together.double() - members).numpy(),
        }

    return sorted(logits), values


def _numbers(
    arm: str, seeds: list[int], values: Callable[[list[int]], dict[Key, np.ndarray]], groups: np.ndarray | None
) -> list[Number]:
    if len(seeds) < 2:
        return []
    whole = values(seeds)
    without = [values([s for s in seeds if s != left_out]) for left_out in seeds] if len(seeds) > 2 else []
    rows = []
    for key, row in whole.items():
        mean = float(row.mean())
        low, high = bootstrap_bounds(row, groups)
        rows.append(Number("lottery", key.quantity, arm, mean, low, high, len(row), "images"))
        if key.quantity != "evidence overlap by chance":
            low_, high_ = jackknife(mean, [float(left[key].mean()) for left in without])
            rows.append(Number("lottery", key.quantity, arm, mean, low_, high_, len(seeds), "seeds"))
    return rows


def _overlap(a: Tensor, b: Tensor) -> Tensor:
    """Intersection over union of two sets of cells, bool (n, cells) each -> float64 (n,)."""
    return (a & b).sum(dim=1).double() / (a | b).sum(dim=1)


def overlap_by_chance(cells: int, top: int) -> float:
    """Expected intersection over union of two random sets of `top` of `cells` (hypergeometric)."""
    from scipy.stats import hypergeom

    common = np.arange(top + 1)
    return float((hypergeom.pmf(common, cells, top, top) * common / (2 * top - common)).sum())
