"""The regime of an experiment: what was asked for, with every default resolved."""

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch

from whymask.devices import check_device
from whymask.randomness import torch_generator
from whymask.theory.data import MultiView
from whymask.theory.descent import horizon_of
from whymask.theory.network import SmoothedReLU
from whymask.theory.rules import KEPT, RuleName
from whymask.theory.settings import RegimeSettings
from whymask.theory.shares import effective_patches

IDEALISATIONS = (
    "Own clock: each kernel stops at its own horizon <w, v> = rho C_p / (1.2 tau). That is this lab's idealisation, "
    "not a statement of the paper. The rows of the common clock stop all kernels when the first of them reaches its "
    "horizon.",
    "Own clock: a kernel whose winner has lost a tenth of its overlap stops too, as one that did not grow.",
    "Gradients are those of the expectation over masks in closed form, as if every image were masked infinitely often.",
    "The features and the test images are the same for every seed; seeds differ in first kernels and training images. "
    "Kernels start isotropic, so nothing is lost by it.",
    "[A] also asks sum_p z_p^q >= 1 of a class's features (memory); with C_p > 1 these defaults do not meet it.",
    "k, m, N and the number of steps are finite: where the theorems say 'with high probability, for large k', the "
    "table says what was seen at this k.",
)


IMAGES_OF_CONSTANTS = 8000


class Normalised(NamedTuple):
    """Constants of plain descent on normalised targets."""

    nu: float
    decay: float
    rate: float


@dataclass(frozen=True)
class Regime(RegimeSettings):
    """The settings of an experiment with all that follows from them, defaults among it."""

    data: MultiView = field(default_factory=MultiView)
    """The images, with every default resolved."""

    def __post_init__(self) -> None:
        super().__post_init__()
        SmoothedReLU(self.q, self.rho)
        check_device(self.device)

    @classmethod
    def of(cls, settings: RegimeSettings) -> "Regime":
        """The regime that was asked for. Raises WhymaskError for what cannot be run."""
        asked = {field.name: getattr(settings, field.name) for field in fields(settings)}
        return cls(**asked | {"data": MultiView.of(settings.data)})

    @property
    def sigma(self) -> SmoothedReLU:
        """The activation."""
        return SmoothedReLU(self.q, self.rho)

    @property
    def K(self) -> int:
        """Kernels, m of each class."""
        return self.data.k * self.m

    @property
    def horizon(self) -> float:
        """The overlap <w, v> at which a kernel stops; see `horizon_of`."""
        return horizon_of(self.rho, self.data.C_p, self.teacher)

    @property
    def teacher(self) -> float:
        """tau, the default resolved."""
        return self.tau_at(2) if self.tau is None else self.tau

    def tau_at(self, factor: float) -> float:
        """The tau at which tau^q - 1 is `factor` times the growth threshold."""
        return (1 + factor * self.threshold) ** (1 / self.q)

    @property
    def threshold(self) -> float:
        """(1/theta - 1)/C_eff: what tau^q - 1 must exceed for a kernel to grow, without kappa [D]."""
        return (1 / self.theta - 1) / self.C_eff

    @property
    def C_eff(self) -> float:
        """Patches of equal shares that a feature's patches are worth."""
        return effective_patches(self.data.split, self.data.C_p, self.q)

    def rate(self, name: str) -> float:
        """A step size, the default resolved."""
        shares = {"kernel_rate": 20, "head_rate": 2, "tuning_kernel_rate": 500, "tuning_head_rate": 50}
        given = getattr(self, name)
        return self.data.k / shares[name] if given is None else given

    @property
    def together(self) -> int:
        """`batches`, the default resolved."""
        return max(1, self.data.k // 10) if self.batches is None else self.batches

    @property
    def torch_device(self) -> torch.device:
        """`device`, auto resolved: a GPU if there is one."""
        if self.device != "auto":
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @property
    def workers(self) -> int:
        """Threads that compute seeds of their own; a GPU is given all of them at once."""
        if self.torch_device.type != "cpu":
            return 1
        return torch.get_num_threads() if self.threads is None else self.threads

    @property
    def dtype(self) -> torch.dtype:
        """What `precision` asks for."""
        return torch.float32 if self.precision == "32" else torch.float64

    @cached_property
    def normalised(self) -> "Normalised":
        """The constants of plain descent on normalised targets, all of which follow from the setting [D].

        On noise-free multi-view images: M, the root mean square of a feature's sum_p z_p^q, and R, that of the code of
        a kernel at the student's horizon. nu is where such a kernel rests; at the decay an overlap of the first scale
        neither grows nor shrinks; the rate moves a kernel at the horizon by 15 % a step.
        """
        clean = replace(self.data, sigma=0.0, gamma=0.0, copied=False, covered=1.0)
        patches = clean.draw(torch_generator("constants"), IMAGES_OF_CONSTANTS, "multi").patches[0].double()
        z = (patches @ clean.features.mT).clamp_min(0)  # (B, P, n)
        M = float((z**self.q).sum(1).square().mean().sqrt())
        horizon = horizon_of(self.rho, self.data.C_p, 1)
        R = float(self.sigma(horizon * z).sum(1).square().mean().sqrt())
        nu = (1 + (1 / self.theta - 1) / self.C_eff) * R
        pull = nu * M / self.rho ** (self.q - 1)  # what a kernel of overlap 1 is pulled by at the start, of its overlap
        decay = pull * self.scale ** (self.q - 2) if self.decay is None else self.decay
        return Normalised(nu, decay, 0.15 / (pull * horizon ** (self.q - 2)))

    def rate_by(self, rule: RuleName) -> float:
        """The constant step size on normalised targets by a rule of descent: momentum's takes a kernel as far as plain
        descent does in the long run, Adam's moves one by `own_step` of the student's horizon a step."""
        if rule == "adam":  # which moves each of d numbers by about the step size
            return self.own_step * horizon_of(self.rho, self.data.C_p, 1) / self.data.width**0.5
        return self.normalised.rate * (1 - KEPT if rule == "momentum" else 1)

    def with_data(self, **changes: Any) -> "Regime":
        """The same with other images."""
        return replace(self, data=replace(self.data, **changes))
