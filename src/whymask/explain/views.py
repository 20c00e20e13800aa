"""Views: how many separate parts of an image suffice for a network to recognise it.

The paper assumes that a class has several features, any of which tells the class, and says that masked pretraining
captures all of them where training from scratch captures some. On images whose features nobody knows, the evidence of a
network is hidden and the network asked again: one that captured a single feature has nothing left to go by.
"""

import numpy as np
import torch
from torch import Tensor

from whymask.explain.evidence import Means, evidence, ranks
from whymask.explain.fill import Filling, cells_of, hide
from whymask.explain.networks import Network
from whymask.explain.numbers import Key
from whymask.randomness import torch_generator

SHARES = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4)
"""Of an image's cells that are hidden, or kept, the strongest evidence first."""
PREFIXES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of an image's cells: sizes of a part that is tried for being enough, from the smallest."""
MOST = 5
"""Views are counted up to here."""


def view_scores(
    network: Network,
    images: Tensor,
    labels: Tensor,
    fillers: dict[Filling, Tensor],
    cells: tuple[int, int],
    means: Means,
) -> dict[Key, np.ndarray]:
    """Measure 2 on images (n, C, h, w), with evidence for cells (gh, gw).

    "accuracy" counts every image; all others those that the network recognises whole, and not with everything hidden:
    of what it says of a blank image too, no part is evidence. "hidden" and "kept": whether the image is still
    recognised with a share of its cells hidden, or with that share alone, the strongest evidence first; "... at
    random": the same with random cells, what hiding costs wherever it is done. "area": the mean of "hidden" over shares
    from 0 to the largest (trapezoids). "views": see `count_views`.
    """
    whole = network.recognises(images, labels)
    maps = evidence(network, images, labels, cells, means)
    noise = torch.rand(maps.shape, generator=torch_generator(0, "random cells"))
    steps = cells_of(SHARES, cells)
    shares = [share for _, share in steps]
    scores = {Key("accuracy"): whole.double().numpy()}
    for name, filler in fillers.items():
        counts = whole & ~network.recognises(filler, labels)
        for order, places in (("", ranks(maps)), (" at random", ranks(noise))):
            firsts = [places.view_as(maps) < number for number, _ in steps]
            curve = [_without_and_alone(network, images, labels, filler, first, counts) for first in firsts]
            for share, (hidden, kept) in zip(shares, curve, strict=True):
                scores[Key(f"hidden{order}", name, share)] = hidden
                scores[Key(f"kept{order}", name, share)] = kept
            hidden_curve = np.stack([_counted(torch.ones_like(whole), counts), *(hidden for hidden, _ in curve)])
            scores[Key(f"area{order}", name)] = np.trapezoid(hidden_curve, [0, *shares], axis=0) / shares[-1]
        counted = _counted(count_views(network, images, labels, filler, counts, cells, means), counts)
        scores[Key("views", name)] = counted
        for number in range(1, MOST + 1):
            scores[Key("views of N", name, number)] = np.where(np.isnan(counted), np.nan, counted == number)
    return scores


def count_views(
    network: Network,
    images: Tensor,
    labels: Tensor,
    filler: Tensor,
    counts: Tensor,
    cells: tuple[int, int],
    means: Means,
) -> Tensor:
    """How many disjoint parts of each image suffice, long (n,), at most 5; 0 where `counts` (n,) is False,
    which must be so for images that are not recognised whole.

    A part is made of the cells with the strongest evidence in what is left: the smallest of 1/16, 1/8, 1/4, 1/2 of the
    image's cells that is recognised alone. It is hidden, and evidence is sought anew in the rest, until the rest is not
    recognised. A rest that is recognised while none of its parts is, is itself the last part.
    """
    count = cells[0] * cells[1]
    views = torch.zeros(len(images), dtype=torch.long)
    left = torch.ones(len(images), count, dtype=torch.bool)
    rows = counts.nonzero()[:, 0]
    for _ in range(MOST):
        shown = hide(images[rows], ~left[rows].view(-1, *cells), filler[rows])
        still = network.recognises(shown, labels[rows])
        rows, shown = rows[still], shown[still]
        if not len(rows):
            break
        maps = evidence(network, shown, labels[rows], cells, means).flatten(1)
        places = ranks(maps.masked_fill(~left[rows], -torch.inf))
        part, open_ = left[rows].clone(), torch.ones(len(rows), dtype=torch.bool)
        for share in PREFIXES:
            tried = (places < max(1, round(share * count))) & left[rows]
            seen = hide(images[rows[open_]], ~tried[open_].view(-1, *cells), filler[rows[open_]])
            enough = open_.clone()
            enough[open_] = network.recognises(seen, labels[rows[open_]])
            part[enough] = tried[enough]
            open_ &= ~enough
            if not open_.any():
                break
        views[rows] += 1
        left[rows] &= ~part
        rows = rows[left[rows].any(dim=1)]
    return views


def _without_and_alone(
    network: Network, images: Tensor, labels: Tensor, filler: Tensor, first: Tensor, counts: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Whether an image is recognised without the cells that are True in `first` (n, gh, gw), and by them alone."""
    without, alone = (
        _counted(network.recognises(hide(images, hidden, filler), labels), counts) for hidden in (first, ~first)
    )
    return without, alone


def _counted(values: Tensor, counts: Tensor) -> np.ndarray:
    """As float64, NaN for the images that do not count."""
    return np.where(counts.numpy(), values.double().numpy(), np.nan)
