"""Every number of an experiment: the regime, with the papers' asymptotic expression beside each finite default."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import torch

from whymask.devices import check_device
from whymask.errors import WhymaskError
from whymask.flags import Flat
from whymask.theory.data import MultiView
from whymask.theory.descent import horizon_of
from whymask.theory.network import SmoothedReLU
from whymask.theory.objectives import check_theta

IDEALISATIONS = (
    "Own clock: each kernel stops at its own horizon <w, v> = rho C_p / 1.2. That is this lab's idealisation, not a "
    "statement of the paper. The rows of the common clock stop all kernels when the first of them reaches its horizon.",
    "Own clock: a kernel whose winner has lost a tenth of its overlap stops too, as one that did not grow.",
    "Gradients are those of the expectation over masks in closed form, as if every image were masked infinitely often.",
    "The features and the test images are the same for every seed; seeds differ in first kernels and training images. "
    "Kernels start isotropic, so nothing is lost by it.",
    "[A] also asks sum_p z_p^q >= 1 of a class's features (memory); with C_p > 1 these defaults do not meet it.",
    "k, m, N and the number of steps are finite: where the theorems say 'with high probability, for large k', the "
    "table says what was seen at this k.",
)

NUMBERS = (
    "m", "scale", "tau", "N", "batch", "own_step", "common_step", "batches", "test", "kernel_rate", "head_rate",
    "tuning_kernel_rate", "tuning_head_rate", "pixel_rate", "pixel_epochs", "target", "epochs", "threads", "budget",
)  # fmt: skip
"""Settings that must be above 0."""


@dataclass(frozen=True)
class Setting:
    """Data, network, objective and training; the defaults are a regime that shows the effect on two cores.

    Asymptotic expressions are those of [A] arXiv 2012.09816 and [P] arXiv 2206.03826, from memory.
    """

    data: Annotated[MultiView, Flat] = field(default_factory=MultiView)
    """The images."""
    m: int = 10
    """Kernels a class; the network has K = k·m. Asymptotically: polylog(k)."""
    q: float = 3
    """Degree of the smoothed ReLU. Asymptotically: a constant of at least 3; 2 is allowed, outside the theorems."""
    rho: float = 0.5
    """Where the smoothed ReLU turns linear. Asymptotically: 1/polylog(k)."""
    scale: float = 0.03
    """Standard deviation of a kernel's first numbers. Asymptotically: 1/sqrt(k) up to logarithms."""
    theta: float = 0.5
    """Share of patches that a mask keeps. Asymptotically: a constant in (0, 1)."""
    tau: float | None = None
    """Scale of the teacher's kernels; by default at twice the growth threshold: tau^q = 1 + 2 (1/theta - 1)/C_p.
    Asymptotically: a constant above 1."""
    N: int | None = None
    """Training images a seed; 200·k by default. Asymptotically: poly(k), at least k^1.2/mu."""
    batch: int = 200
    """Images a step. In the papers: all of them, or the expectation."""
    own_step: float = 0.03
    """Own clock: length of a step of pretraining, relative to each kernel."""
    common_step: float = 0.05
    """Common clock: the same, relative to the fastest kernel."""
    batches: int | None = None
    """Batches averaged in a step of pretraining; k/10 by default, so that a feature is seen as often at every k."""
    test: int = 1000
    """Test images of each kind."""
    kernel_rate: float | None = None
    """Step size of kernels when training from scratch; k/20 by default, as a class has 1/k of the images.
    Asymptotically: at most 1/poly(k)."""
    head_rate: float | None = None
    """Step size of a learned head when training from scratch; k/2 by default."""
    tuning_kernel_rate: float | None = None
    """Step size of kernels when fine-tuning; k/500 by default: small [P]."""
    tuning_head_rate: float | None = None
    """Step size of the head when fine-tuning; k/50 by default: larger [P]."""
    pixel_rate: float = 0.003
    """Adam's step size in pixel reconstruction."""
    pixel_epochs: int = 150
    """Epochs of pixel reconstruction."""
    target: float = 0.05
    """Training loss at which every classifier stops, so that they are compared at the same one."""
    epochs: int = 300
    """Epochs after which a classifier stops anyway."""
    precision: Literal["32", "64"] = "32"
    """Bits a number."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    threads: int | None = None
    """CPU threads, each of which computes seeds of its own; default: what PyTorch finds."""
    budget: float = 2.0
    """GiB that images may take in memory; those that do not fit are made again when they are needed."""

    def __post_init__(self) -> None:
        SmoothedReLU(self.q, self.rho)
        check_theta(self.theta)
        for name in NUMBERS:
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise WhymaskError(f"{name}={given}: a number above 0 was expected.")
        if self.images % self.batch:
            raise WhymaskError(f"N={self.images} images do not divide into batches of {self.batch}. Give a multiple.")
        check_device(self.device)

    @property
    def sigma(self) -> SmoothedReLU:
        return SmoothedReLU(self.q, self.rho)

    @property
    def K(self) -> int:
        return self.data.k * self.m

    @property
    def images(self) -> int:
        """N, the default resolved."""
        return 200 * self.data.k if self.N is None else self.N

    @property
    def horizon(self) -> float:
        return horizon_of(self.rho, self.data.C_p)

    @property
    def teacher(self) -> float:
        """tau, the default resolved."""
        return self.tau_at(2) if self.tau is None else self.tau

    def tau_at(self, factor: float) -> float:
        """The tau at which tau^q - 1 is `factor` times the growth threshold."""
        return (1 + factor * self.threshold) ** (1 / self.q)

    @property
    def threshold(self) -> float:
        """(1/theta - 1)/C_p: what tau^q - 1 must exceed for a kernel to grow, without kappa [D]."""
        return (1 / self.theta - 1) / self.data.C_p

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
        return torch.float32 if self.precision == "32" else torch.float64

    def with_data(self, **changes: Any) -> "Setting":
        """The same with other images."""
        return replace(self, data=replace(self.data, **changes))
