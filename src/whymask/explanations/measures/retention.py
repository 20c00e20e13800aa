"""Retention: what of an encoder is still there after fine-tuning, layer by layer, and for a linear read-out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from whymask.explanations.cast import Cast
from whymask.explanations.choice import in_turn
from whymask.explanations.compared import Compared
from whymask.explanations.controls import random_network
from whymask.explanations.drawing import Told, lines, select
from whymask.explanations.measure import Drawing, Expectation, Measure
from whymask.explanations.networks import Member, Role
from whymask.explanations.numbers import Bounds, Key, Number, jackknife, mean_of, summarise
from whymask.explanations.readout import fit_readout
from whymask.explanations.shown import Shown, groups_of, images_of
from whymask.intervals import Range, level_interval, units_of
from whymask.report.figures import legend_above, make
from whymask.report.text import proportion

NAME = "retention"
CKA = "cka"
CKA_LIES: Range = (None, 1.0)
BEFORE, AFTER, GAIN, KEPT = "read-out before", "read-out after", "read-out after - before", "kept"

MOST = 2000
"""Test images: more than other measures take, for CKA needs more than there are features."""
BLOCKS = 10
"""Parts of the images, each left out in turn, from which CKA's interval over images is told."""
FEWEST = 4
"""Images that the estimator needs."""

Layers = Sequence[np.ndarray]
"""The features of every layer, float32 (n, D) each."""


def take(cast: Cast, shown: Shown) -> list[Number]:
    """Of pretrained encoders before and after fine-tuning; of networks from scratch, before is their first weights."""
    if "readout" not in cast.networks:
        return []
    before, after = cast.networks["readout"], cast.networks["pretrained"]
    numbers = _of_arm(cast, cast.pretrained, {seed: (before[seed], after[seed]) for seed in before})
    from_scratch: tuple[Role, ...] = ("baseline", "shuffled") if cast.baseline_is_scratch else ()
    for role in from_scratch:
        if role in cast.networks:
            trained = cast.networks[role]
            numbers += _of_arm(cast, cast.arm(role), {seed: (_first(cast, net), net) for seed, net in trained.items()})
    return numbers


def _first(cast: Cast, network: Member) -> Member:
    """A network as it was before any training."""
    seed = network.run.seed if network.run else network.seed
    return random_network(network.encoder, len(cast.prepared.classes), seed, cast.preprocessing, cast.fabric.device)


def _of_arm(cast: Cast, arm: str, pairs: Mapping[int, tuple[Member, Member]]) -> list[Number]:
    """Of networks before and after their training, by seed."""
    rows = in_turn(cast.prepared, cast.prepared.test)[:MOST]
    images, groups = images_of(cast.prepared, rows)[0], groups_of(cast.prepared, rows)
    layers = {seed: (before.layers(images), after.layers(images)) for seed, (before, after) in pairs.items()}
    wide = too_wide(next(iter(layers.values()))[0])
    if wide:
        listed = ", ".join(map(str, wide))
        cast.notes.append(f"CKA of layer {listed} of {arm} needs more test images than features: left out.")
    numbers = cka_numbers(arm, layers, groups)
    read = {seed: right for seed, pair in pairs.items() if (right := _read_out(cast, arm, seed, pair, rows))}
    if read:
        gains = {seed: {Key(GAIN): after - before} for seed, (before, after) in read.items()}
        numbers += summarise(NAME, arm, {seed: readout_scores(*right) for seed, right in read.items()}, groups)
        numbers += summarise(NAME, arm, gains, groups, difference=True)
    return numbers


def _read_out(
    cast: Cast, arm: str, seed: int, pair: tuple[Member, Member], rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    """Whether read-outs before and after are right on the images `rows`; None where the labels are not there."""
    prepared = cast.prepared
    run = cast.runs.get(arm, cast.runs[cast.baseline])[seed]
    if run.fingerprint != prepared.identity:
        return None
    learn = cast.context.labelled_rows(run.budget, run.seed)
    labels = prepared.images.labels[learn], prepared.images.labels[rows]
    before, after = (
        readout(
            (network.pooled_rows(prepared, learn), network.pooled_rows(prepared, rows)), labels, len(prepared.classes)
        )
        for network in pair
    )
    return before, after


def unbiased_cka(x: np.ndarray, y: np.ndarray) -> float:
    """Linear CKA of features (n, D) and (n, D'), from the unbiased estimator of HSIC; may be slightly negative.

    With K = x x^T, L = y y^T, their diagonals set to 0 (Song et al., 2012; Nguyen et al., arXiv 2010.15327, eq. 3)::

        HSIC_1(K, L) = (tr(K L) + 1^T K 1 1^T L 1 / ((n - 1) (n - 2)) - 2 / (n - 2) 1^T K L 1) / (n (n - 3))
        CKA = HSIC_1(K, L) / sqrt(HSIC_1(K, K) HSIC_1(L, L))

    Args: at least 4 images, and more than features, or the estimate is of little use.
    """
    return _cka(_gram(x), _gram(y))


def _gram(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)  # HSIC_1 does not change; its rounding does
    gram = x @ x.T
    np.fill_diagonal(gram, 0)
    return gram


def _cka(k: np.ndarray, other: np.ndarray) -> float:
    both = _hsic(k, k) * _hsic(other, other)
    return float(_hsic(k, other) / np.sqrt(both)) if both > 0 else float("nan")


def _hsic(k: np.ndarray, other: np.ndarray) -> float:
    n = len(k)
    rows, columns = k.sum(axis=0), other.sum(axis=0)
    middle = rows.sum() * columns.sum() / ((n - 1) * (n - 2))
    return float((np.vdot(k, other) + middle - 2 / (n - 2) * rows @ columns) / (n * (n - 3)))


def too_wide(layers: Layers) -> list[int]:
    """Numbers, from 1, of the layers with no more images than features, whose CKA is left out."""
    return [number for number, layer in enumerate(layers, start=1) if layer.shape[0] <= layer.shape[1]]


def cka_numbers(
    arm: str, networks: Mapping[int, tuple[Layers, Layers]], groups: np.ndarray | None = None
) -> list[Number]:
    """ "cka" of every layer (`item`) between before and after, seed -> (before, after), on the same images.

    Intervals over images: the jackknife over tenths of the images, in which a group of `groups` (n,) stays together;
    over seeds: t.
    """
    first = next(iter(networks.values()))[0]
    left_of = _blocks_left(len(first[0]), groups)
    rows = []
    for number, layer in enumerate(first, start=1):
        if number in too_wide(first):
            continue
        pairs = [(_gram(before[number - 1]), _gram(after[number - 1])) for before, after in networks.values()]
        whole = [_cka(*pair) for pair in pairs]
        without = np.array([[_cka(k[left], other[left]) for left in left_of] for k, other in pairs])
        item = str(number)
        for seed, value, left in zip(networks, whole, without, strict=True):
            rows.append(_number(arm, value, jackknife(value, left, CKA_LIES), len(layer), seed, item))
        mean = float(np.mean(whole))
        rows.append(_number(arm, mean, jackknife(mean, without.mean(axis=0), CKA_LIES), len(layer), None, item))
        over = level_interval(whole, CKA_LIES)
        rows.append(Number(NAME, CKA, arm, mean, over.low, over.high, over.seeds, "seeds", item=item))
    return [row for row in rows if np.isfinite(row.value)]


def _number(arm: str, value: float, bounds: Bounds, n: int, seed: int | None, item: str) -> Number:
    low, high = bounds
    return Number(NAME, CKA, arm, value, low, high, n, "images", seed, item=item)


def _blocks_left(n: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, ...]]:
    """What is left of n images without each of `BLOCKS` blocks, as indices into a square matrix."""
    units, unit = units_of(n, groups)
    left = [np.flatnonzero(~np.isin(unit, block)) for block in np.array_split(np.arange(units), min(BLOCKS, units))]
    return [np.ix_(kept, kept) for kept in left if len(kept) >= FEWEST]


def readout(features: tuple[np.ndarray, np.ndarray], labels: tuple[np.ndarray, np.ndarray], classes: int) -> np.ndarray:
    """Whether a linear read-out of the pooled features (n, D) of labelled images is right on test images: (n_test,).

    Args:
        features, labels: of the labelled images, and of the test images.
    """
    weight, bias = fit_readout(features[0], labels[0], classes)
    return ((features[1] @ weight.T + bias).argmax(axis=1) == labels[1]).astype(np.float64)


def readout_scores(before: np.ndarray, after: np.ndarray) -> dict[Key, np.ndarray]:
    """What a read-out decodes before fine-tuning, and after it; "kept": of what it decoded before, what it still does.

    Args: from `readout`.
    """
    return {
        Key(BEFORE): before,
        Key(AFTER): after,
        Key(KEPT): np.where(before == 1, after, np.nan),
    }


def similarity(told: Told, name: str) -> dict[str, Figure]:
    """CKA before and after, by layer."""
    rows = [row | {"at": float(row["item"])} for row in select(told, NAME, CKA)]
    if not rows:
        return {}

    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        lines(axes, told, rows, {})
        axes.set_xticks(sorted({row["at"] for row in rows}))
        axes.set_xlabel("layer")
        axes.set_ylabel("similarity (CKA)")
        axes.set_ylim(top=1.02)
        legend_above(axes)

    return {"": make(name, 3.5, paint)}


def _what_is_kept(numbers: Sequence[Number], compared: Compared) -> str | None:
    kept = mean_of(numbers, NAME, KEPT, compared.pretrained)
    return None if kept is None else f"of what it decoded before, {proportion(kept)} is kept"


RETENTION = Measure(
    name=NAME,
    title="Retention",
    about="How alike each layer is before and after fine-tuning (1: the same up to a rotation), and what a linear "
    "read-out decodes before and after. Of scratch, before is its first weights.",
    take=take,
    expectations=(
        Expectation(
            quantities=(GAIN,),
            of_one=True,
            supported="A linear read-out decodes more after fine-tuning than before.",
            against="A linear read-out decodes less after fine-tuning than before.",
            open="Whether a linear read-out decodes more or less after fine-tuning is not certain.",
            further=_what_is_kept,
        ),
    ),
    figures={
        "retention": Drawing("Similarity of each layer before and after fine-tuning (unbiased linear CKA)", similarity)
    },
    unnamed=lambda item, classes: item,  # the number of a layer
)
