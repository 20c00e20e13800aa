"""Masked prediction as minimum-norm regression of linear data, and its risk in closed form [D].

p numbers x = A z + noise of latent z ~ N(0, I) are seen, each kept with probability theta and then divided by theta, as
codes are in the lab; another such number y, without noise, is predicted from them by the shortest vector that fits n
images best. With c = Cov(x, y), E over masks gives these inputs the covariance

    M = Cov(x) + (E[1/theta] - 1) diag Cov(x)

and the same c: of a drawn theta only E[1/theta] is in it. (Without the division it would be E[theta^2] / E[theta].)
"""

from dataclasses import dataclass

import torch
from scipy.optimize import brentq
from torch import Tensor


@dataclass(frozen=True)
class LinearTask:
    """What is seen and what is predicted; float64."""

    seen: Tensor
    """A, (p, latents)."""
    told: Tensor
    """Of y, (latents,)."""
    noise: float
    """Variance of each seen number's noise."""

    @classmethod
    def drawn(cls, p: int, latents: int, noise: float, generator: torch.Generator) -> "LinearTask":
        """Normal loadings: of its latents each number has variance 1 on average, and y has it exactly."""
        A = torch.randn(p + 1, latents, generator=generator, dtype=torch.float64) / latents**0.5
        return cls(A[1:], A[0] / A[0].norm(), noise)

    @property
    def covariance(self) -> Tensor:
        """Of x, (p, p)."""
        return self.seen @ self.seen.T + self.noise * torch.eye(len(self.seen), dtype=self.seen.dtype)

    def risk(self, weights: Tensor) -> float:
        """E (y - w x)^2 of whole images, for w (p,)."""
        missed = self.told - weights @ self.seen
        return float(missed.square().sum() + self.noise * weights.square().sum())

    def masked(self, inverse: float) -> Tensor:
        """M of inputs with E[1/theta] = `inverse`, (p, p)."""
        return self.covariance + (inverse - 1) * self.covariance.diagonal().diag()

    def fitted(self, thetas: Tensor, generator: torch.Generator) -> Tensor:
        """w (p,) of minimum norm, fitted to an image for each of `thetas` (n,), the share of it that is kept."""
        n, p = len(thetas), len(self.seen)
        z = torch.randn(n, len(self.told), generator=generator, dtype=torch.float64)
        x = z @ self.seen.T + self.noise**0.5 * torch.randn(n, p, generator=generator, dtype=torch.float64)
        kept = torch.rand(n, p, generator=generator, dtype=torch.float64) < thetas[:, None]
        return torch.linalg.pinv(x * kept / thetas[:, None]) @ (z @ self.told)

    def predicted(self, n: int, inverse: float) -> float:
        """The risk of `fitted` for large n and p, as if masked images were normal with covariance M.

        With w* = M^-1 c, s = Var y - c w*, k the root of tr M (M + k)^-1 = n for p > n, else 0, and G = (M + k)^-1: the
        mean fit is M G w*, and its scatter, in the metric of Cov(x), (s + k^2 w* G M G w*) tr(Cov(x) G M G) /
        (n - tr M G M G). For M = I that is the ridgeless risk of Hastie et al. (arXiv 1903.08560, memory).
        """
        values, vectors = torch.linalg.eigh(self.masked(inverse))
        best = vectors.T @ (self.seen @ self.told) / values
        k = _ridge(values, n)
        shrunk = values / (values + k)  # M G
        spread = shrunk / (values + k)  # G M G
        left = 1 - float((values * best.square()).sum()) + k**2 * float((spread * best.square()).sum())
        metric = (vectors.T @ self.seen).square().sum(1) + self.noise
        scatter = left * float((metric * spread).sum()) / (n - float(shrunk.square().sum()))
        return self.risk(vectors @ (shrunk * best)) + scatter


def _ridge(values: Tensor, n: int) -> float:
    """k of sum v / (v + k) = n; 0 where there are not so many values."""
    if len(values) <= n:
        return 0.0
    return float(brentq(lambda k: float((values / (values + k)).sum()) - n, 0, float(values.sum()), xtol=1e-12))
