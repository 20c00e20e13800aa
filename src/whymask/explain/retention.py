"""Retention: what of an encoder is still there after fine-tuning, layer by layer, and for a linear read-out."""

from collections.abc import Mapping, Sequence

import numpy as np

from whymask.explain.numbers import Bounds, Key, Number, jackknife, t_interval
from whymask.intervals import units_of

BLOCKS = 10
"""Parts of the images, each left out in turn, from which CKA's interval over images is told."""
FEWEST = 4
"""Images that the estimator needs."""
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
            rows.append(_number(arm, value, jackknife(value, left), len(layer), seed, item))
        mean = float(np.mean(whole))
        rows.append(_number(arm, mean, jackknife(mean, without.mean(axis=0)), len(layer), None, item))
        over = t_interval(whole)
        rows.append(Number("retention", "cka", arm, mean, over.low, over.high, over.seeds, "seeds", item=item))
    return [row for row in rows if np.isfinite(row.value)]


def _number(arm: str, value: float, bounds: Bounds, n: int, seed: int | None, item: str) -> Number:
    low, high = bounds
    return Number("retention", "cka", arm, value, low, high, n, "images", seed, item=item)


def _blocks_left(n: int, groups: np.ndarray | None) -> list[tuple[np.ndarray, ...]]:
    """What is left of n images without each of `BLOCKS` blocks, as indices into a square matrix."""
    units, unit = units_of(n, groups)
    left = [np.flatnonzero(~np.isin(unit, block)) for block in np.array_split(np.arange(units), min(BLOCKS, units))]
    return [np.ix_(kept, kept) for kept in left if len(kept) >= FEWEST]


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
        Key("read-out before"): before,
        Key("read-out after"): after,
        Key("kept"): np.where(before == 1, after, np.nan),
    }
