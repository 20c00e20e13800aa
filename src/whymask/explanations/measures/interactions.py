"""Interactions: which combinations of an image's regions a network's output is made of, and which survive fine-tuning.

An image is cut into n regions; v(T) is the log-odds of its class when only the regions in T are shown. The Harsanyi
interactions I(S) = sum over T within S of (-1)^(|S| - |T|) v(T) (Harsanyi, 1963) are what v is made of: for every
T, the I(S) of all S within T sum to v(T). Jiang, Cheng and Li (arXiv 2410.08455) compare those of a pretrained
network with those of the fine-tuned one.

Subsets are numbered by their bits: bit r of an index says whether region r is in the subset.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from whymask.explanations.cast import Cast
from whymask.explanations.drawing import Told, dots, levelled, select
from whymask.explanations.fill import FILLED, FILLINGS, Filling
from whymask.explanations.measure import Drawing, Expectation, Measure, numbers_of, of_each
from whymask.explanations.networks import Member, Role
from whymask.explanations.numbers import Key, Number, Scores
from whymask.explanations.regions import regions
from whymask.explanations.shown import Shown
from whymask.report.figures import NEUTRAL, label_below, legend_above, make

NAME = "interactions"
STRENGTH, EFFECTIVE_NUMBER = "strength", "effective number"
PRESERVED, DISCARDED, NEW = PARTS = ("preserved", "discarded", "new")
FOUND_BY, FOUND_BY_LOG_ODDS, NEVER_FOUND = "found by", "found by, in log-odds", "never found"


def at_order(part: str) -> str:
    """The quantity of a part at one order."""
    return f"{part} at"


SUMS = (STRENGTH, EFFECTIVE_NUMBER, *PARTS, *map(at_order, PARTS))
"""Quantities that are no shares."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    some = shown.first(shown.settings.interaction_images)
    where = regions(cast.preprocessing.size, shown.settings.regions)
    scores: dict[Role, dict[int, Scores]] = {}
    for name, filler in some.fillers.items():
        found = of_each(NAME, cast, partial(interactions_of, shown=some, filler=filler, where=where))
        for role, seeds in found.items():
            for seed, values in seeds.items():
                own = scores.setdefault(role, {}).setdefault(seed, {})
                own |= strength_scores(values, name) | _against_readout(role, seed, values, found, name)
    return numbers_of(NAME, cast, scores, some.groups, dict.fromkeys(SUMS, (0.0, None)))


def interactions_of(network: Member, shown: Shown, filler: Tensor, where: np.ndarray) -> np.ndarray:
    """I(S) of each image that is shown, hidden regions of which are filled with `filler` (m, C, h, w): (m, 2^n)."""
    images, labels, filler = map(network.there, (shown.images, shown.labels, filler))
    size = network.at_once("logits", network.logits, images)
    return interactions(masked_values(network.logits, images, labels, filler, where, size))


def _against_readout(
    role: Role, seed: int, values: np.ndarray, found: dict[Role, dict[int, np.ndarray]], filling: str
) -> Scores:
    """What is the same as in the pretrained encoder of the seed, or of the first where it has none."""
    readouts = found.get("readout")
    if not readouts or role == "readout":
        return {}
    before = readouts.get(seed, readouts[min(readouts)])
    scores = found_scores(before, values, filling)
    if role == "pretrained":
        scores |= transfer_scores(before, values, filling)
        scores |= never_found_scores(before, values, list(found["baseline"].values()), filling)
    return scores


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log p / (1 - p) of each class in `labels` (B,), from logits (B, k): float64 (B,)."""
    if logits.device.type == "mps":  # which has no float64
        logits, labels = logits.cpu(), labels.cpu()
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
        network: images (B, C, h, w) -> logits (B, k), where all that is given is; it is asked nothing meanwhile.
        filler: what hidden pixels become, (m, C, h, w).
        where: from `regions`.
        batch: maskings, of one image or of several, that are in memory at once.
    """
    n, m, device = int(where.max()) + 1, len(images), images.device
    regions = torch.arange(n, device=device)
    shown_region = (torch.arange(2**n, device=device)[:, None] >> regions) & 1 > 0
    place, values = torch.from_numpy(where).to(device), []
    for part in torch.arange(m * 2**n, device=device).split(batch):
        image, subset = part // 2**n, part % 2**n
        shown = shown_region[subset][:, place].unsqueeze(1)
        values.append(log_odds(network(torch.where(shown, images[image], filler[image])), labels[image]))
    return torch.cat(values).cpu().view(m, 2**n).numpy()


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
        Key(STRENGTH, filling): np.abs(values[:, 1:]).sum(axis=1),
        Key(EFFECTIVE_NUMBER, filling): effective_count(values),
    }


def transfer_scores(before: np.ndarray, after: np.ndarray, filling: str) -> dict[Key, np.ndarray]:
    """What fine-tuning preserved, discarded and added, (m,), by all interactions and at each order (log-odds)."""
    kept = preserved(before, after)
    parts = dict(zip(PARTS, (kept, np.abs(before) - kept, np.abs(after) - kept), strict=True))
    size = orders(before.shape[1])
    scores = {Key(name, filling): part[:, 1:].sum(axis=1) for name, part in parts.items()}
    for order in range(1, size.max() + 1):
        for name, part in parts.items():
            scores[Key(at_order(name), filling, float(order))] = part[:, size == order].sum(axis=1)
    return scores


def found_scores(before: np.ndarray, other: np.ndarray, filling: str) -> dict[Key, np.ndarray]:
    """ "found by": how far `other` is made of the same interactions as `before`, (m,) from 0 to 1.

    Each network's I(S) is first divided by its strength in the image. Otherwise a network of larger log-odds would
    have more of everything: that is "found by, in log-odds", the share of |before| that `other` has with the same sign.
    """
    return {
        Key(FOUND_BY, filling): _share(preserved(relative(before), relative(other)), np.abs(relative(before))),
        Key(FOUND_BY_LOG_ODDS, filling): _share(preserved(before, other), np.abs(before)),
    }


def never_found_scores(
    before: np.ndarray, after: np.ndarray, scratch: Sequence[np.ndarray], filling: str
) -> dict[Key, np.ndarray]:
    """ "never found": share of what fine-tuning preserved that no network from scratch has, (m,).

    Of each preserved interaction, what the scratch network that has most of it lacks; all relative to their strength.
    """
    kept = preserved(relative(before), relative(after))
    best = np.max([preserved(relative(before), relative(other)) for other in scratch], axis=0)
    return {Key(NEVER_FOUND, filling): 1 - _share(np.minimum(kept, best), kept)}


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


def by_order(told: Told, name: str) -> dict[str, Figure]:
    """Strength preserved, discarded and new at each order, a panel a filling."""
    rows = {part: select(told, NAME, at_order(part)) for part in PARTS}
    if not rows[PRESERVED]:
        return {}
    colours = {PRESERVED: "#1f83c4", DISCARDED: "#9a9a9a", NEW: "#009e73"}

    def panel(filling: Filling) -> Figure:
        def paint(figure: Figure) -> None:
            axes = figure.subplots()
            for place, part in enumerate(PARTS):
                own = sorted((row for row in rows[part] if row["filling"] == filling), key=lambda row: row["at"])
                x = [row["at"] + (place - 1) * 0.27 for row in own]
                axes.bar(x, [row["value"] for row in own], 0.25, color=colours[part], label=part)
                for at, row in zip(x, own, strict=True):
                    if row["low"] is not None:
                        axes.plot([at, at], [row["low"], row["high"]], color=NEUTRAL, linewidth=1)
            label_below(figure, f"regions in an interaction,\n{FILLED[filling]}")
            axes.set_xticks(sorted({row["at"] for row in rows[PRESERVED]}))
            axes.grid(axis="x", visible=False)
            axes.set_ylabel("strength (log-odds)")
            legend_above(axes)

        return make(name, 3.6, paint)

    return levelled({FILLED[filling]: panel(filling) for filling in FILLINGS})


def shared(told: Told, name: str) -> dict[str, Figure]:
    """Share of the pretrained encoder's interactions that each arm's networks have too."""
    rows = select(told, NAME, FOUND_BY)
    by_filling = {filling: [row for row in rows if row["filling"] == filling] for filling in FILLINGS}
    return {FILLED[filling]: dots(told, name, own, FILLED[filling]) for filling, own in by_filling.items() if own}


INTERACTIONS = Measure(
    name=NAME,
    title="Interactions",
    about="What combinations of regions add to the log-odds of the class (Harsanyi interactions). Preserved: the "
    "smaller of before and after fine-tuning, where the signs agree; discarded: the rest of before; new: the rest of "
    "after. Found by: how far a network is made of the same interactions as the pretrained encoder, each network's "
    "divided by their sum, for larger log-odds are no more knowledge. Never found: the share of what was preserved "
    "that no network from scratch has.",
    take=take,
    expectations=(
        Expectation(
            quantities=(FOUND_BY,),
            fillings=FILLINGS,
            hides=True,
            supported="Fine-tuned networks are made of the pretrained encoder's interactions more than {theirs}.",
            against="{theirs} are made of the pretrained encoder's interactions more than fine-tuned ones.",
            open="Whether fine-tuned networks are made of the pretrained encoder's interactions more than {theirs} is "
            "open.",
        ),
    ),
    figures={
        "interactions": Drawing("Interactions kept, lost and gained in fine-tuning, by regions in each", by_order),
        "found": Drawing("Share of the pretrained encoder's interactions that each network also has", shared),
    },
)
