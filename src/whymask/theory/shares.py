"""How a feature's weight is shared out over its patches, and what that does to growth and purity [D].

A patch has the share s_p of its feature's weight, sum_p s_p = 1. A kernel's activation on one patch goes with s_p^q, so
that its squares, which masks penalise, go with E[s_p^(2q)], and its sum over the patches, which the teacher asks for,
with E[(sum_p s_p^q)^2].
"""

from functools import cache
from math import gamma

import numpy as np

from whymask.theory.settings import Split

NODES = 200
LEAST, MOST = 0.5, 1.5
"""What random shares are drawn between, before they are divided by their sum."""
WEIGHTS = (1.0, 1.4)
"""Between which the weight of a class's feature is uniform in a multi-view image."""


def effective_patches(split: Split, C_p: int, q: float) -> float:
    """C_eff = E[(sum_p s_p^q)^2] / E[sum_p s_p^(2q)]: as many patches, with equal shares, grow a kernel as easily.

    Between 1 and C_p; C_p where shares are equal.
    """
    return _square_of_sum(split, C_p, q) / (C_p * moment(split, C_p, (2 * q,)))


def companionship(split: Split, C_p: int, q: float) -> float:
    """c = E[A A'] / E[A^2], A = sum_p z_p^q of two features of one class in multi-view images: at most 1."""
    mean, square = (_weight(power) for power in (q, 2 * q))
    together = mean**2 * (C_p * moment(split, C_p, (q,))) ** 2
    return together / (square * _square_of_sum(split, C_p, q))


def moment(split: Split, C_p: int, powers: tuple[float, ...]) -> float:
    """E[s_1^a s_2^b ...] for `powers` (a, b, ...), at most C_p of them."""
    if split == "equal":
        return C_p ** -sum(powers)
    if split == "simplex":  # Dirichlet's moments
        above = np.prod([gamma(1 + power) for power in powers])
        return float(above * gamma(C_p) / gamma(C_p + sum(powers)))
    return _random_moment(C_p, powers)


@cache
def _random_moment(C_p: int, powers: tuple[float, ...]) -> float:
    """For s_p = u_p / sum u, by (sum u)^-n = 1/Gamma(n) * integral of t^(n-1) exp(-t sum u) dt: the u_p come apart."""
    n = sum(powers)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    u, on_u = (LEAST + MOST) / 2 + nodes * (MOST - LEAST) / 2, weights / 2
    end = (n + 10 * n**0.5 + 40) / (C_p * LEAST)  # behind it the integrand is nothing
    t, on_t = end / 2 * (nodes + 1), weights * end / 2
    decay = np.exp(-t[:, None] * u)
    of_power = [(decay * u**power) @ on_u for power in powers] + [decay @ on_u] * (C_p - len(powers))
    return float((on_t * t ** (n - 1) * np.prod(of_power, axis=0)).sum() / gamma(n))


def _square_of_sum(split: Split, C_p: int, q: float) -> float:
    """E[(sum_p s_p^q)^2]."""
    crossed = C_p * (C_p - 1) * moment(split, C_p, (q, q)) if C_p > 1 else 0.0
    return C_p * moment(split, C_p, (2 * q,)) + crossed


def _weight(power: float) -> float:
    """E[W^power] of a weight W."""
    low, high = WEIGHTS
    return (high ** (power + 1) - low ** (power + 1)) / ((power + 1) * (high - low))
