"""A linear read-out of features: what an encoder holds, whatever a classifier makes of it."""

import numpy as np

ABSENT = -1e4
"""The logit of a class that a read-out has not seen."""


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
