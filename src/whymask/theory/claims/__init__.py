"""The claims of the paper and its models, each in a file: what was predicted, how it is tested, what the page draws."""

from whymask.theory.claims.augmentation import AUGMENTATION
from whymask.theory.claims.claim import Claim
from whymask.theory.claims.controls import CONTROLS
from whymask.theory.claims.coupons import COUPONS
from whymask.theory.claims.coverage import COVERAGE
from whymask.theory.claims.data_coverage import DATA_COVERAGE
from whymask.theory.claims.downstream import DOWNSTREAM
from whymask.theory.claims.ensembles import ENSEMBLES
from whymask.theory.claims.frozen import FROZEN_CLAIM
from whymask.theory.claims.growth import GROWTH
from whymask.theory.claims.interactions import INTERACTIONS
from whymask.theory.claims.kernel_lottery import KERNEL_LOTTERY
from whymask.theory.claims.masks import MASKS
from whymask.theory.claims.norms import NORMS
from whymask.theory.claims.optimisers import OPTIMISERS
from whymask.theory.claims.places import PLACES
from whymask.theory.claims.purity import PURITY
from whymask.theory.claims.ratios import RATIOS
from whymask.theory.claims.reconstruction import RECONSTRUCTION
from whymask.theory.claims.regression import REGRESSION
from whymask.theory.claims.retention import RETENTION
from whymask.theory.claims.robustness import ROBUSTNESS
from whymask.theory.claims.scale import SCALE
from whymask.theory.claims.supervised_lottery import SUPERVISED_LOTTERY

CLAIMS: dict[str, Claim] = {
    "coverage": COVERAGE,
    "purity": PURITY,
    "kernel-lottery": KERNEL_LOTTERY,
    "supervised-lottery": SUPERVISED_LOTTERY,
    "downstream": DOWNSTREAM,
    "retention": RETENTION,
    "growth": GROWTH,
    "data-coverage": DATA_COVERAGE,
    "ensembles": ENSEMBLES,
    "scale": SCALE,
    "reconstruction": RECONSTRUCTION,
    "coupons": COUPONS,
    "masks": MASKS,
    "augmentation": AUGMENTATION,
    "norms": NORMS,
    "frozen": FROZEN_CLAIM,
    "optimisers": OPTIMISERS,
    "places": PLACES,
    "robustness": ROBUSTNESS,
    "ratios": RATIOS,
    "interactions": INTERACTIONS,
    "regression": REGRESSION,
}
"""By the ids of claims.json, in the order of the page."""

__all__ = ["CLAIMS", "CONTROLS"]
