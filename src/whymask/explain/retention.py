"""Retention: what of an encoder is still there after fine-tuning, layer by layer, and for a linear read-out."""

from collections.abc import Mapping, Sequence

import numpy as np

from whymask.explain.numbers import Key, Number, jackknife
from whymask.intervals import mean_interval

BLOCKS = 10
"""Parts of the images, each left out in turn, from which CKA's interval over images is told."""
ABSENT = -1e4
"""The logit of a class that a read-out has not seen."""

Layers = Sequence[np.ndarray]
"""The features of every layer, float32 (n, D) each."""


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


def cka_numbers(arm: str, networks: Mapping[int, tuple[Layers, Layers]]) -> list[Number]:
    """ "cka" of every layer (`item`) between before and after, seed -> (before, after), on the same images.

    Intervals over images: the jackknife over tenths of the images; over seeds: t.
    """
    first = next(iter(networks.values()))[0]
    rows = []
    for number, layer in enumerate(first, start=1):
        if number in too_wide(first):
            continue
        pairs = [(_gram(before[number - 1]), _gram(after[number - 1])) for before, after in networks.values()]
        whole = [_cka(*pair) for pair in pairs]
        without = np.array([[_cka(k[left], other[left]) for left in _blocks_left(len(layer))] for k, other in pairs])
        item = str(number)
        for seed, value, left in zip(networks, whole, without, strict=True):
            rows.append(_number(arm, value, jackknife(value, left), len(layer), seed, item))
        mean = float(np.mean(whole))
        rows.append(_number(arm, mean, jackknife(mean, without.mean(axis=0)), len(layer), None, item))
        over = mean_interval(whole)
        rows.append(Number("retention", "cka", arm, mean, over.low, over.high, over.seeds, "seeds", item=item))
    return [row for row in rows if np.isfinite(row.value)]


def _number(
    arm: str, value: float, bounds: tuple[float, float] | tuple[None, None], n: int, seed: int | None, item: str
) -> Number:
    low, high = bounds
    return Number("retention", "cka", arm, value, low, high, n, "images", seed, item=item)


def _blocks_left(n: int) -> list[tuple[np.ndarray, ...]]:
    """What is left of n images without each of `BLOCKS` blocks, as indices into a square matrix."""
    left = [np.delete(np.arange(n), block) for block in np.array_split(np.arange(n), BLOCKS)]
    return [np.ix_(kept, kept) for kept in left]


def fit_readout(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight float32 (classes, D) and bias (classes,) of a logistic regression on standardised features (n, D).

    L2 penalty 1, to convergence, as `whymask probe` has it; standardising is folded into the weights. A class without
    images gets the bias -10,000.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(features)
    regression = LogisticRegression(max_iter=1000).fit(scaler.transform(features), labels)
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn has a single row then
        coefficients, intercept = np.vstack([0 * coefficients, coefficients]), np.append(0 * intercept, intercept)
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, ABSENT)
    weight[regression.classes_] = coefficients / scaler.scale_
    bias[regression.classes_] = intercept - weight[regression.classes_] @ scaler.mean_
    return weight.astype(np.float32), bias.astype(np.float32)


def readout_scores(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    labels: tuple[np.ndarray, np.ndarray],
    classes: int,
) -> dict[Key, np.ndarray]:
    """What a linear read-out can decode of the test images before and after fine-tuning, (n_test,).

    Args:
        before, after: pooled features of the labelled images and of the test images, (n, D) each.
        labels: of both.

    Returns "read-out before" and "read-out after": whether it is right; their difference; and "kept": whether it is
    right after, of those where it was right before.
    """
    right = []
    for learn, test in (before, after):
        weight, bias = fit_readout(learn, labels[0], classes)
        right.append(((test @ weight.T + bias).argmax(axis=1) == labels[1]).astype(np.float64))
    return {
        Key("read-out before"): right[0],
        Key("read-out after"): right[1],
        Key("read-out after - before"): right[1] - right[0],
        Key("kept"): np.where(right[0] == 1, right[1], np.nan),
    }
