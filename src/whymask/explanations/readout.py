"""A linear read-out of features: what an encoder holds, whatever a classifier makes of it."""

import numpy as np

ABSENT = -1e4
"""The logit of a class that a read-out has not seen."""


def fit_readout(features: np.ndarray, labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Weight float32 (classes, D) and bias (classes,) of a logistic regression on standardised features (n, D).

    L2 penalty 1, to convergence, as `whymask probe` has it; standardising is folded into the weights. A class without
    images gets the bias -10,000; the only one with images, weights of 0. Of two classes each has half of the log odds,
    so that evidence is found for either.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    weight, bias = np.zeros((classes, features.shape[1]), np.float32), np.full(classes, ABSENT, np.float32)
    present = np.unique(labels)
    if len(present) == 1:
        bias[present] = 0
        return weight, bias
    scaler = StandardScaler().fit(features)
    regression = LogisticRegression(max_iter=1000).fit(scaler.transform(features), labels)
    coefficients, intercept = regression.coef_, regression.intercept_
    if len(regression.classes_) == 2:  # scikit-learn has a single row then
        halves = np.array([-0.5, 0.5])
        coefficients, intercept = halves[:, None] * coefficients, halves * intercept
    coefficients = coefficients / scaler.scale_
    weight[present] = coefficients
    bias[present] = intercept - coefficients @ scaler.mean_
    return weight, bias
