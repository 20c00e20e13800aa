"""Robustness: accuracy under noise and under occlusion, of networks side by side on the same disturbed images."""

import numpy as np
import torch
from torch import Tensor

from whymask.explain.evidence import ranks
from whymask.explain.fill import Filling, cells_of, hide
from whymask.explain.networks import Network
from whymask.explain.numbers import Key
from whymask.randomness import torch_generator

NOISE = (0.25, 0.5, 1.0, 1.5, 2.0)
"""Standard deviations of Gaussian pixel noise, in standard deviations of the data."""
OCCLUSION = (1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
"""Shares of an image's cells that are hidden, at random places."""


def robustness_scores(
    network: Network, images: Tensor, labels: Tensor, fillers: dict[Filling, Tensor], cells: tuple[int, int]
) -> dict[Key, np.ndarray]:
    """Measure 6 on images (n, C, h, w): whether each is recognised ("accuracy"), under "noise" and "occlusion" `at`
    five strengths, and the mean over these. Every network sees the same noise and the same cells."""

    def right(shown: Tensor) -> np.ndarray:
        return network.recognises(shown, labels).double().numpy()

    noise = torch.randn(images.shape, generator=torch_generator(0, "noise"))
    cell_order = ranks(torch.rand(len(images), *cells, generator=torch_generator(0, "occlusion")))
    scores = {Key("accuracy"): right(images)}
    noisy = {Key("noise", at=strength): right(images + strength * noise) for strength in NOISE}
    scores |= noisy | {Key("noise mean"): np.mean(list(noisy.values()), axis=0)}
    for name, filler in fillers.items():
        occluded = {}
        for number, share in cells_of(OCCLUSION, cells):
            hidden = (cell_order < number).view(-1, *cells)
            occluded[Key("occlusion", name, share)] = right(hide(images, hidden, filler))
        scores |= occluded | {Key("occlusion mean", name): np.mean(list(occluded.values()), axis=0)}
    return scores
