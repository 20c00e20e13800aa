"""The claims of the paper and its models, each a function of a lab: what was predicted, what was measured."""

from collections.abc import Callable

from whymask.theory.claims import (
    data_coverage,
    downstream,
    ensembles,
    growth,
    pretraining,
    reconstruction,
    scale,
)
from whymask.theory.claims.record import Claim
from whymask.theory.lab import Lab

CLAIMS: dict[str, Callable[[Lab], list[Claim]]] = {
    "coverage": pretraining.coverage,
    "purity": pretraining.purity,
    "kernel-lottery": pretraining.kernel_lottery,
    "supervised-lottery": downstream.supervised_lottery,
    "downstream": downstream.downstream,
    "retention": downstream.retention,
    "growth": growth.growth,
    "data-coverage": data_coverage.data_coverage,
    "ensembles": ensembles.ensembles,
    "scale": scale.scale,
    "reconstruction": reconstruction.reconstruction,
}
"""By the ids of claims.json, in the order of the page."""

__all__ = ["CLAIMS", "Claim"]
