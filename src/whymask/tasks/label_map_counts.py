"""What is counted of label maps, predicted ones beside true ones: every metric of segmentation is made of it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

IGNORED = 255
"""In a label map: of no class that counts."""
COUNTED = ("right", "predicted", "true", "edge_predicted", "edge_predicted_near", "edge_true", "edge_true_near")
"""Of a class, pixels of an image: predicted rightly, predicted, and true; and of the edges of what is predicted and of
what is true, all and those that lie near the other one's."""
AT_ONCE = 2**22
"""Pixels, of all classes, of the images that are counted together."""
TOLERANCE = 0.0075
"""How far edges may lie apart and still be near, as a share of the image's diagonal (Csurka et al., BMVC 2013)."""


def counts_of(predicted: Tensor, true: Tensor, classes: int) -> Tensor:
    """`COUNTED` of label maps int64 (B, h, w), each for all classes in turn: float32 (B, 7 k). Where the true map says
    IGNORED nothing is counted, and no edge is there."""
    each = max(1, AT_ONCE // (classes * true[0].numel()))
    parts = zip(predicted.split(each), true.split(each), strict=True)
    return torch.cat([_of_images(*part, classes) for part in parts])


def _of_images(predicted: Tensor, true: Tensor, classes: int) -> Tensor:
    counted = (true != IGNORED)[:, None]
    every = torch.arange(classes, device=true.device)[:, None, None]
    ours, theirs = (predicted[:, None] == every) & counted, (true[:, None] == every) & counted
    edges, true_edges = _edges(ours, counted), _edges(theirs, counted)
    parts = (ours & theirs, ours, theirs, edges, edges & _near(true_edges), true_edges, true_edges & _near(edges))
    return torch.cat([part.sum(dim=(2, 3)) for part in parts], dim=1).float()


def _edges(inside: Tensor, counted: Tensor) -> Tensor:
    """Pixels of regions, bool (B, k, h, w), with a neighbour, above, below or beside, that counts and is outside."""
    outside = F.pad(~inside & counted, (1, 1, 1, 1))
    beside = outside[..., 1:-1, :-2] | outside[..., 1:-1, 2:]
    return inside & (beside | outside[..., :-2, 1:-1] | outside[..., 2:, 1:-1])


def _near(edges: Tensor) -> Tensor:
    """Pixels no further than `TOLERANCE` from one of the edges, at least the neighbours."""
    reach = max(1.0, TOLERANCE * float(np.hypot(*edges.shape[2:])))
    side = torch.arange(-int(reach), int(reach) + 1, device=edges.device)
    disc = (side[:, None] ** 2 + side**2 <= reach**2).float()[None, None]
    flat = edges.flatten(0, 1)[:, None].float()
    return F.conv2d(flat, disc, padding=int(reach)).view(edges.shape) > 0.5
