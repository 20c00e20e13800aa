"""Interactions: which combinations of an image's regions a network's output is made of, and which survive fine-tuning.

An image is cut into n regions; v(T) is the log-odds of its class when only the regions in T are shown. The Harsanyi
interactions I(S) = sum over T within S of (-1)^(|S| - |T|) v(T) (Harsanyi, 1963) are what v is made of: for every
T, the I(S) of all S within T sum to v(T). Jiang, Cheng and Li (arXiv 2410.08455) compare those of a pretrained
network with those of the fine-tuned one.

Subsets are numbered by their bits: bit r of an index says whether region r is in the subset.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from whymask.errors import WhymaskError
from whymask.explain.numbers import Key

FEWEST, MOST = 2, 12


def regions(size: tuple[int, int], n: int) -> np.ndarray:
    """Which of `n` regions each pixel of an image of `size` (h, w) belongs to: int64 (h, w), row by row of regions.

    8 are 2 rows of 4, 12 are 3 rows of 4: the most square way with no more rows than columns.

    Raises WhymaskError for fewer than 2 or more than 12 regions, or more rows or columns than pixels.
    """
    if not FEWEST <= n <= MOST:
        raise WhymaskError(
            f"{n} regions were given; {FEWEST} to {MOST} were expected: each image is shown in 2^n ways; change it"
        )
    rows = max(d for d in range(1, n + 1) if n % d == 0 and d * d <= n)
    columns = n // rows
    if rows > size[0] or columns > size[1]:
        raise WhymaskError(f"{rows}x{columns} regions do not fit into {size[0]}x{size[1]} pixels; give fewer regions")
    row, column = np.arange(size[0]) * rows // size[0], np.arange(size[1]) * columns // size[1]
    return row[:, None] * columns + column


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log p / (1 - p) of each class in `labels` (B,), from logits (B, k): float64 (B,)."""
    logits = logits.double()
    own = logits.gather(1, labels[:, None])
    return own[:, 0] - logits.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)


@torch.inference_mode()
def masked_values(
    network: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    filler: Tensor,
    where: np.ndarray,
    batch: int,
) -> np.ndarray:
    """v(T) of each image for every set T of shown regions: float64 (m, 2^n).

    Args:
        network: images (B, C, h, w) -> logits (B, k).
        filler: what hidden pixels become, (m, C, h, w).
        where: from `regions`.
        batch: maskings, of one image or of several, that are in memory at once.
    """
    n, m = int(where.max()) + 1, len(images)
    subsets = torch.arange(2**n)
    shown_region = (subsets[:, None] >> torch.arange(n)) & 1 > 0
    place = torch.from_numpy(where)
    values = torch.empty(m * 2**n, dtype=torch.float64)
    for part in torch.arange(m * 2**n).split(batch):
        image, subset = part // 2**n, part % 2**n
        shown = shown_region[subset][:, place].unsqueeze(1)
        values[part] = log_odds(network(torch.where(shown, images[image], filler[image])), labels[image])
    return values.view(m, 2**n).numpy()


def interactions(values: np.ndarray) -> np.ndarray:
    """I(S) of every set S from v(T) of every set T, (m, 2^n) each: the Moebius transform, a region at a time."""
    result = np.array(values, np.float64)
    m, count = result.shape
    for bit in range(count.bit_length() - 1):
        pairs = result.reshape(m, count >> (bit + 1), 2, 1 << bit)
        pairs[:, :, 1] -= pairs[:, :, 0]
    return result


def preserved(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """min(|before|, |after|) where their signs agree, else 0."""
    return np.where(before * after > 0, np.minimum(np.abs(before), np.abs(after)), 0.0)


def orders(count: int) -> np.ndarray:
    """How many regions each of `count` = 2^n subsets has."""
    return np.array([index.bit_count() for index in range(count)])


def strength_scores(values: np.ndarray, filling: str) -> dict[Key, np.ndarray]:
    """ "strength": each image's sum of |I(S)| (log-odds); "effective number", see `effective_count`: (m,) each."""
    return {
        Key("strength", filling): np.abs(values[:, 1:]).sum(axis=1),
        Key("effective number", filling): effective_count(values),
    }


def transfer_scores(before: np.ndarray, after: np.ndarray, filling: str) -> dict[Key, np.ndarray]:
    """What fine-tuning preserved, discarded and added, (m,), by all interactions and at each order (log-odds)."""
    kept = preserved(before, after)
    parts = {"preserved": kept, "discarded": np.abs(before) - kept, "new": np.abs(after) - kept}
    size = orders(before.shape[1])
    scores = {Key(name, filling): part[:, 1:].sum(axis=1) for name, part in parts.items()}
    for order in range(1, size.max() + 1):
        for name, part in parts.items():
            scores[Key(f"{name} at", filling, float(order))] = part[:, size == order].sum(axis=1)
    return scores


def found_scores(before: np.ndarray, other: np.ndarray, filling: str) -> dict[Key, np.ndarray]:
    """ "found by": how far `other` is made of the same interactions as `before`, (m,) from 0 to 1.

    Each network's I(S) is first divided by its strength in the image. Otherwise a network of larger log-odds would
    have more of everything: that is "found by, in log-odds", the share of |before| that `other` has with the same sign.
    """
    return {
        Key("found by", filling): _share(preserved(relative(before), relative(other)), np.abs(relative(before))),
        Key("found by, in log-odds", filling): _share(preserved(before, other), np.abs(before)),
    }


def never_found_scores(
    before: np.ndarray, after: np.ndarray, scratch: Sequence[np.ndarray], filling: str
) -> dict[Key, np.ndarray]:
    """ "never found": share of what fine-tuning preserved that no network from scratch has, (m,).

    Of each preserved interaction, what the scratch network that has most of it lacks; all relative to their strength.
    """
    kept = preserved(relative(before), relative(after))
    best = np.max([preserved(relative(before), relative(other)) for other in scratch], axis=0)
    return {Key("never found", filling): 1 - _share(np.minimum(kept, best), kept)}


def relative(values: np.ndarray) -> np.ndarray:
    """I(S) (m, 2^n) as shares of each image's strength; 0 where there is none."""
    strength = np.abs(values[:, 1:]).sum(axis=1, keepdims=True)
    return np.divide(values, strength, out=np.zeros_like(values), where=strength > 0)


def effective_count(values: np.ndarray) -> np.ndarray:
    """How many interactions carry an image's output, (m,): (sum |I|)^2 / sum I^2 without the empty set's."""
    return _divided(np.abs(values[:, 1:]).sum(axis=1) ** 2, np.square(values[:, 1:]).sum(axis=1))


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Sums without the empty set, divided: (m,), NaN where there is nothing."""
    return _divided(part[:, 1:].sum(axis=1), whole[:, 1:].sum(axis=1))


def _divided(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
