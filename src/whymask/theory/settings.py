"""What the theory lab is asked for: images, the regime, and which claims are run with which seeds.

Asymptotic expressions are those of [A] Allen-Zhu and Li, arXiv 2012.09816, and [P] Pan, Zhou and Yan, arXiv 2206.03826,
from memory.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from whymask.errors import WhymaskError
from whymask.flags import Flat, readable

Split = Literal["random", "equal", "simplex"]
ClaimId = Literal[
    "coverage", "purity", "kernel-lottery", "supervised-lottery", "downstream", "retention", "growth", "data-coverage",
    "ensembles", "scale", "reconstruction", "coupons",
    "masks", "augmentation", "norms", "frozen", "optimisers", "places",
    "robustness", "ratios", "interactions", "regression",
]  # fmt: skip
NAMES: tuple[ClaimId, ...] = get_args(ClaimId)
QUICK: tuple[ClaimId, ...] = (
    "coverage", "purity", "kernel-lottery", "supervised-lottery", "downstream", "retention", "growth",
)  # fmt: skip

NUMBERS = (
    "m", "scale", "tau", "N", "batch", "own_step", "common_step", "batches", "test", "kernel_rate", "head_rate",
    "tuning_kernel_rate", "tuning_head_rate", "pixel_rate", "pixel_epochs", "target", "epochs", "threads", "budget",
)  # fmt: skip
"""Settings that must be above 0."""


@readable
@dataclass(frozen=True)
class ImageSettings:
    """Multi-view and single-view images of k classes with L features each; see `whymask.theory.MultiView`."""

    k: int = 10
    """Classes. Asymptotically: sufficiently large; all else is measured in it."""
    L: int = 2
    """Features a class. The papers: 2."""
    d: int | None = None
    """Numbers a patch; k·L + 40 by default. Asymptotically: poly(k), at least k·L."""
    P: int | None = None
    """Patches an image; by default the least with which features overflow in at most 1 % of images. Asymptotically:
    polylog(k) or more."""
    C_p: int = 2
    """Patches a feature. Asymptotically: a constant above 1."""
    s: float = 2.0
    """Another class's feature is present with probability s/k. Asymptotically: between 1 and k^0.2."""
    mu: float = 0.01
    """Share of single-view images. Asymptotically: 1/poly(k)."""
    gamma: float = 0.0
    """Largest coefficient of another feature on an owned patch. Asymptotically: at most 1/k^1.5."""
    sigma: float | None = None
    """Standard deviation of the Gaussian noise, each number of a patch; 0.1/sqrt(d) by default. Asymptotically:
    1/(sqrt(d) polylog(k))."""
    Gamma: float = 0.2
    """Weight of other classes' features in a single-view image. Asymptotically: 1/polylog(k)."""
    rho_single: float = 0.05
    """Weight of the other features of the class in a single-view image. Asymptotically: k^-0.01."""
    split: Split = "random"
    """How a feature's weight is split over its patches: in random shares, proportional to draws from [0.5, 1.5];
    equally; or uniformly on the simplex, where one patch has nearly all and C_p counts for little."""
    covered: float = 1.0
    """Share of the k·L features that these images may show: pretraining data need not cover all of them."""
    covered_by: Literal["features", "classes"] = "features"
    """Whether single features or whole classes are left out."""
    copied: bool = True
    """Store the identical patches of noise-free, equally split images once, which changes nothing but the speed."""

    def __post_init__(self) -> None:
        if self.k < 2 or self.L < 1 or self.C_p < 1:
            raise WhymaskError(
                f"k={self.k}, L={self.L}, C_p={self.C_p}: at least 2 classes, 1 feature and 1 patch needed."
            )
        if self.count > self.width:
            raise WhymaskError(
                f"L·k = {self.L}·{self.k} = {self.count} orthonormal features do not fit into patches of "
                f"d={self.width} numbers; L·k <= d is needed. Give d of at least {self.count}."
            )
        for name in ("mu", "covered"):
            if not 0 <= getattr(self, name) <= 1:
                raise WhymaskError(f"{name}={getattr(self, name)}: a share from 0 to 1 was expected.")
        for name in ("s", "gamma", "sigma", "Gamma", "rho_single"):
            given = getattr(self, name)
            if given is not None and not 0 <= given < math.inf:
                raise WhymaskError(f"{name}={given}: a number of at least 0 was expected.")

    @property
    def count(self) -> int:
        """Features of all classes, k·L."""
        return self.k * self.L

    @property
    def width(self) -> int:
        """d, the default resolved."""
        return self.count + 40 if self.d is None else self.d


@readable
@dataclass(frozen=True)
class RegimeSettings:
    """Data, network, objective and training; the defaults are a regime that shows the effect on two cores."""

    data: Annotated[ImageSettings, Flat] = field(default_factory=ImageSettings)
    """The images."""
    m: int = 20
    """Kernels a class; the network has K = k·m. To find all k·L features it must grow with log k, as coupons are
    collected (claim coupons). Asymptotically: polylog(k)."""
    q: float = 3
    """Degree of the smoothed ReLU. Asymptotically: a constant of at least 3; 2 is allowed, outside the theorems."""
    rho: float = 0.5
    """Where the smoothed ReLU turns linear. Asymptotically: 1/polylog(k)."""
    scale: float = 0.03
    """Standard deviation of a kernel's first numbers. Asymptotically: sigma^(q-2) = 1/k [A] (memory), which at the
    defaults is 0.1."""
    theta: float = 0.5
    """Share of patches that a mask keeps. Asymptotically: a constant in (0, 1)."""
    tau: float | None = None
    """Scale of the teacher's kernels; by default at twice the growth threshold: tau^q = 1 + 2 (1/theta - 1)/C_eff,
    C_eff being as many patches as C_p unequal ones are worth. Asymptotically: a constant above 1."""
    N: int | None = None
    """Training images a seed; 200·k by default. Asymptotically: poly(k), at least k^1.2/mu."""
    batch: int = 200
    """Images a step. In the papers: all of them, or the expectation."""
    own_step: float = 0.03
    """Own clock: length of a step of pretraining, relative to each kernel."""
    decay: float | None = None
    """Normalised clock: weight decay of the kernels; by default that at which an overlap of `scale` neither grows nor
    shrinks."""
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
        if not 0 < self.theta < 1:
            raise WhymaskError(f"theta={self.theta}: the share of patches kept lies strictly between 0 and 1.")
        for name in NUMBERS:
            given = getattr(self, name)
            if given is not None and not 0 < given < math.inf:
                raise WhymaskError(f"{name}={given}: a number above 0 was expected.")
        if self.decay is not None and not 0 <= self.decay < math.inf:
            raise WhymaskError(f"decay={self.decay}: a number of at least 0 was expected.")
        if self.images % self.batch:
            raise WhymaskError(f"N={self.images} images do not divide into batches of {self.batch}. Give a multiple.")

    @property
    def images(self) -> int:
        """N, the default resolved."""
        return 200 * self.data.k if self.N is None else self.N


@readable
@dataclass(frozen=True)
class TheorySettings:
    """What `whymask theory` runs."""

    regime: Annotated[RegimeSettings, Flat] = field(default_factory=RegimeSettings)
    """Data, network, objective and training."""
    claims: tuple[ClaimId, ...] | None = None
    """Claims to run; by default all, with --quick the first seven. Negative controls are always run."""
    seeds: str | None = None
    """How many seeds, or a range such as 10:20: a share, which is merged with what the folder has. By default 20 seeds,
    with --quick 5."""
    quick: bool = False
    """The first seven claims with 5 seeds: at most two minutes on two cores."""
    scale_k: tuple[int, ...] | None = None
    """Numbers of classes that the claim `scale` compares; by default 10, 20, 50 ... up to k, 10 and 20 at least."""

    @property
    def classes(self) -> tuple[int, ...]:
        """`scale_k`, the default resolved."""
        return tuple(sorted(set(self.scale_k or classes_up_to(self.regime.data.k))))

    @property
    def chosen(self) -> list[str]:
        """The claims to run, in the order of the page. Raises WhymaskError for none, or for one that there is not."""
        if self.claims is not None and not self.claims:
            raise WhymaskError(f"no claim was given; one or more of {', '.join(NAMES)} was expected.")
        chosen = self.claims or (QUICK if self.quick else NAMES)
        unknown = set(chosen) - set(NAMES)
        if unknown:
            raise WhymaskError(f"no such claim: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}.")
        return [name for name in NAMES if name in chosen]


def classes_up_to(k: int) -> tuple[int, ...]:
    """The numbers of classes compared by default: 10, 20, 50, 100 ... up to `k`, at least two of them."""
    steps = [digit * 10**power for power in range(1, 10) for digit in (1, 2, 5)]
    return tuple(step for step in steps if step <= max(k, 20))


def parse_seeds(settings: TheorySettings) -> list[int]:
    """ "20" is 0 to 19; "10:20" is 10 to 19. Raises WhymaskError for anything else."""
    text = settings.seeds or ("5" if settings.quick else "20")
    first, colon, last = text.partition(":")
    try:
        seeds = list(range(int(first), int(last))) if colon else list(range(int(first)))
    except ValueError:
        seeds = []
    if not seeds or seeds[0] < 0 or (not colon and len(seeds) < 2):
        raise WhymaskError(
            f"--seeds {text}: expected was a number of at least 2, as an interval over seeds needs, or a range such as "
            "10:20."
        )
    return seeds
