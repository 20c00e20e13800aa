"""Evidence: which cells of an image carry a network's decision.

Grad-CAM (Selvaraju et al., arXiv 1610.02391), by captum, at the encoder's last map. In a ViT that is what its last
block is given, as is usual: behind it the gradient is the same at all patches, or reaches only the class token, and
what stands at a patch no longer belongs to it alone. On glyphs of known truth, views found there tell one feature from
two with an AUC of 0.96, behind the last block with 0.74 (3 networks; docs/results). Where there is no map with several
positions, or no gradient reaches it, evidence is found by occlusion: how much hiding a cell lowers the class's log
probability.
"""

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from whymask.explanations.fill import hide
from whymask.explanations.networks import Member
from whymask.stages.network import Classifier

Means = Literal["grad-cam", "occlusion"]
FEWEST = 4
"""Positions that a last map must have to point at a part of an image."""
TOP = 1 / 4
"""Of the cells of an image, those that count as its strongest evidence."""


class Pointing(nn.Module):
    """A classifier, unchanged, whose `point` is passed a map (B, D, h', w') for captum to find: the one that its kind
    of encoder says, by `Encoder.features_by`."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier
        self.point = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        model, encoder = self.classifier, self.classifier.encoder
        return model.head(model.norm(encoder.pool(encoder.features_by(self.point, images))))


def means_of(network: Member, images: Tensor, labels: Tensor) -> Means:
    """Grad-CAM where the network has a map that the gradient reaches, as tried on a few images."""
    maps = _grad_cam(network, images[:8], labels[:8])
    return "grad-cam" if maps[0].numel() >= FEWEST and bool(maps.abs().max() > 0) else "occlusion"


def evidence(
    network: Member, images: Tensor, labels: Tensor, cells: tuple[int, int], means: Means = "grad-cam"
) -> Tensor:
    """float32 (B, gh, gw): how much each of `cells` (gh, gw) speaks for the class `labels` (B,); higher is more.

    Grad-CAM's map is resized (bilinear, area where cells are coarser), and keeps its negative values, so that cells can
    be ranked to the last.
    """
    if means == "occlusion":
        return _occlusion(network, images, labels, cells)
    maps = network.together("grad-cam", partial(_grad_cam, network), images, labels).cpu()
    if maps.shape[2] > cells[0] or maps.shape[3] > cells[1]:
        return F.adaptive_avg_pool2d(maps, cells)[:, 0]
    return F.interpolate(maps, size=cells, mode="bilinear", align_corners=False)[:, 0]


def _grad_cam(network: Member, images: Tensor, labels: Tensor) -> Tensor:
    """(B, 1, h', w') of a batch, on the network's device."""
    from captum.attr import LayerGradCam

    model = Pointing(network.classifier)
    seen = network.see(images).requires_grad_()
    with torch.enable_grad():
        maps = LayerGradCam(model, model.point).attribute(seen, target=network.there(labels))
    return maps.detach().float()


@torch.inference_mode()
def _occlusion(network: Member, images: Tensor, labels: Tensor, cells: tuple[int, int]) -> Tensor:
    count = cells[0] * cells[1]
    single = network.there(torch.eye(count, dtype=torch.bool).view(count, *cells))

    def drops(images: Tensor, labels: Tensor) -> Tensor:
        images, labels = network.there(images), network.there(labels)
        whole, empty = _log_probability(network, images, labels), torch.zeros_like(images)
        hidden = (hide(images, cell.expand(len(images), *cells), empty) for cell in single)
        return torch.stack([whole - _log_probability(network, shown, labels) for shown in hidden], dim=1)

    return network.together("occlusion", drops, images, labels).cpu().view(-1, *cells)


def _log_probability(network: Member, images: Tensor, labels: Tensor) -> Tensor:
    return network.logits(images).log_softmax(dim=1).gather(1, labels[:, None])[:, 0]


def ranks(maps: Tensor) -> Tensor:
    """Place of each cell in the order of evidence, 0 the strongest: long (B, gh * gw). Ties go to the first cell."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))


def top_cells(cells: int) -> int:
    """How many of an image's cells are its strongest evidence."""
    return max(1, round(TOP * cells))
