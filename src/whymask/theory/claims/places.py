"""Pixel reconstruction with a map for each place, by measures that know no scale, beside every other network [D]."""

from dataclasses import replace

import numpy as np
import torch

from whymask.theory.claims.claim import Claim
from whymask.theory.claims.coverage import THRESHOLD
from whymask.theory.claims.downstream import accuracy_rows
from whymask.theory.claims.record import Finding, Row, averaged, finding, mean_share, named, pooled
from whymask.theory.lab import Lab
from whymask.theory.measures import captured_at_any_scale, decodability, largest_cosine
from whymask.theory.network import Network
from whymask.theory.placed import Permuted, Settled
from whymask.theory.store import numpy

ID = "places"
SEEDS = 3


def places(lab: Lab) -> list[Finding]:
    """A place betrays its feature, as images are drawn; so the same with the patches of each image permuted, and with
    images in which each feature has places of its own."""
    lab = lab.sub(lab.name, lab.regime, lab.seeds[:SEEDS])
    permuted = lab.sub(f"{lab.name}-permuted", replace(lab.regime, data=Permuted.of(lab.regime.data)), lab.seeds)
    settled = lab.sub(f"{lab.name}-settled", replace(lab.regime, data=Settled.of(lab.regime.data)), lab.seeds)
    networks = {
        "random kernels": lab.start(),
        "own clock": lab.pretrained("own").network,
        "normalised targets": lab.pretrained("normalised").network,
        "from scratch, learned head": lab.classifier("learned", "random").network,
        "pixels, one map": lab.reconstructed().network,
        "pixels, a map for each place": lab.reconstructed(placed=True).network,
        "pixels, a map for each place, permuted": permuted.reconstructed(placed=True).network,
        "pixels, a map for each place, which features keep": settled.reconstructed(placed=True).network,
        "pixels, one map, places that features keep": settled.reconstructed().network,
    }
    rows = [named(name, row) for name, net in networks.items() for row in _scale_free(lab, net)]
    for name, there in {"a map for each place": lab, "a map for each place, permuted": permuted}.items():
        tuned = there.classifier("learned", "placed")
        rows += [named(name, row) for row in accuracy_rows(there, tuned, "learned", "placed")]
    main = _captured(lab, networks["pixels, a map for each place"], THRESHOLD)
    predicted = "pixel reconstruction with a map for each place captures all features, by a measure that knows no scale"
    return [finding(ID, "[P] has the maps (memory); the rest [D]", predicted, main, rows)]


def _scale_free(lab: Lab, network: Network) -> list[Row]:
    cosines = numpy(largest_cosine(network, lab.features)).mean(1)
    each = [network.of(slice(place, place + 1)) for place in range(len(lab.seeds))]
    read = numpy(torch.cat([decodability(one, lab.tests["mixed"], lab.features) for one in each]))
    return [
        _captured(lab, network),
        mean_share("largest cosine within the features' span, mean over features", cosines),
        averaged("R^2 of a feature's weight read from the codes, mean over features", np.mean(read, axis=1)),
    ]


def _captured(lab: Lab, network: Network, threshold: float | None = None) -> Row:
    hits = numpy(captured_at_any_scale(network, lab.features))
    return pooled("features captured, at any scale", hits.sum(1), hits.shape[1], lab.seeds, threshold)


PLACES = Claim(ID, "Pixel reconstruction with a map for each place captures every feature", places)
