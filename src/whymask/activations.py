"""The activation of the two-layer networks, in the theory lab and on images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from whymask.errors import WhymaskError

ASKED = ("cpu",)
"""Types of devices that are asked whether anything is beyond rho, and compute it only then. On another one the question
would wait for all work before."""


@dataclass(frozen=True)
class SmoothedReLU:
    """0 for z <= 0; z^q / (q rho^(q-1)) on [0, rho]; z - (1 - 1/q) rho above. Continuous with its slope [A].

    The theorems need q >= 3; q = 2 is allowed and lies outside them.
    """

    q: float = 3
    """Degree of the polynomial part. Asymptotically: a constant of at least 3 [P, A]."""
    rho: float = 0.5
    """Where it turns linear. Asymptotically: 1/polylog(k)."""

    def __post_init__(self) -> None:
        if not (2 <= self.q < math.inf and 0 < self.rho < math.inf):
            raise WhymaskError(f"q={self.q}, rho={self.rho}: a smoothed ReLU needs q >= 2 and rho > 0.")

    def __call__(self, z: Tensor) -> Tensor:
        beyond = z > self.rho  # not clamp: its gradient at the bound is 0
        bent = torch.where(beyond, self.rho, z.clamp_min(0))
        return bent * (bent / self.rho) ** (self.q - 1) / self.q + torch.where(beyond, z - self.rho, 0)

    def with_slope(self, z: Tensor, value: Tensor | None = None, slope: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Value and slope, in few passes over memory, written there if given. Overwrites z."""
        bent = torch.clamp(z, 0, self.rho, out=value)
        slope = torch.mul(bent, 1 / self.rho, out=slope).pow_(self.q - 1)
        value = bent.mul_(slope).mul_(1 / self.q)
        if z.device.type not in ASKED or (z.numel() and z.amax() > self.rho):
            value.add_(z.sub_(self.rho).clamp_min_(0))
        return value, slope
