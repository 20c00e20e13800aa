"""The paper's own pretraining of its own network, on images: the expectation over masks in closed form.

Pan, Zhou and Yan (arXiv 2206.03826): one layer of patch kernels, smoothed ReLU, sum pooling, a linear decoder. With a_p
= sigma(W x_p), S = sum_p a_p, and masks that keep each patch with probability theta, the code of a masked image is
h'(eX) = (1/theta) sum_p e_p a_p, and no mask need be drawn: the two losses below are derived in
`whymask.theory.objectives`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from whymask import masks
from whymask.encoders import Encoder, EncoderConfig
from whymask.encoders.base import Size
from whymask.encoders.two_layer import TwoLayerEncoder
from whymask.errors import WhymaskError
from whymask.masks import to_squares
from whymask.methods.base import Method, MethodConfig
from whymask.methods.settings import TwoLayerSettings
from whymask.methods.teacher import compare
from whymask.randomness import seeded


@dataclass(frozen=True, kw_only=True)
class TwoLayerMethodConfig(MethodConfig):
    """See `TwoLayerSettings`."""

    mask_ratio: float
    objective: Literal["teacher", "pixels"]
    tau: float

    def check(self, encoder: EncoderConfig, size: Size) -> None:
        masks.check_ratio(self.mask_ratio)
        if isinstance(self.mask_ratio, tuple):
            raise WhymaskError(f"mask_ratio {self.mask_ratio}; the mean over masks has one ratio, such as 0.5")
        if not 0 < self.tau < math.inf:
            raise WhymaskError(f"tau {self.tau}; the teacher's kernels need a scale above 0, such as 1.26")


class TwoLayerMethod(Method):
    """kernels' activations, summed over patches -> a scaled teacher's, or pixels; the mean over all masks, none drawn.

    Teacher-student, exactly

        E loss = 1/2 sum_r (h^_r - S_r)^2 + (1 - theta) / (2 theta) sum_r sum_p a_pr^2,
        h^_r = sum_p sigma(tau <w_r, x_p>),

    where h^ has no gradient; or pixel reconstruction by a linear decoder D, exactly

        E loss = (1 - theta) / 2 sum_p [ ||x_p - D S_-p||^2 + (1 - theta) / theta sum_{p' != p} ||D a_p'||^2 ],
        S_-p = S - a_p,

    given here as the expected squared error of a hidden pixel. With tau > 1 a
    kernel would grow without end; it is stopped when the mean over a batch's images of its largest <w_r, x_p> passes
    rho, where sigma turns linear. That differs from the theory lab, which stops a kernel by what its own feature gives;
    and AdamW moves all kernels about equally fast, whatever their gradient. On glyphs all are stopped within some 200
    steps (the logged `stopped` is 1), after which a run changes nothing.
    """

    Settings = TwoLayerSettings
    Config = TwoLayerMethodConfig
    encoders = ("two-layer",)
    source = "2206.03826"
    config: TwoLayerMethodConfig
    encoder: TwoLayerEncoder
    stopped: Tensor
    final: Tensor
    reach: Tensor

    def __init__(self, encoder: Encoder, config: TwoLayerMethodConfig | None = None, seed: int = 0) -> None:
        super().__init__(encoder, config)
        net = self.encoder.net
        if self.config.objective == "pixels":
            with seeded(seed, "decoder"):
                self.decoder = nn.Linear(encoder.dim, encoder.channels * encoder.unit**2, bias=False)
            return
        self.register_buffer("stopped", torch.zeros(encoder.dim, dtype=torch.bool))
        self.register_buffer("final", torch.zeros_like(net.conv.weight))
        self.register_buffer("reach", torch.zeros(encoder.dim))

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """None: the loss is the expectation over all masks."""
        return ()

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        net, theta = self.encoder.net, 1 - self.config.mask_ratio
        z = net.conv(images).flatten(2).float()  # (B, K, N)
        active = net.sigma(z)
        if self.config.objective == "pixels":
            return {"loss": self._pixel_loss(images, active.transpose(1, 2), theta)}
        with torch.no_grad():
            self.reach.copy_(z.amax(dim=2).mean(dim=0))
            targets = net.sigma(self.config.tau * z).sum(dim=2)
        places = torch.zeros(len(images), dtype=torch.long, device=images.device)
        losses = compare(active.sum(dim=2), targets, places, 1, half_squares)
        penalty = (1 - theta) / (2 * theta) * active.square().sum(dim=(1, 2)).mean()
        return losses | {"loss": losses["loss"] + penalty, "penalty": penalty, "stopped": self.stopped.float().mean()}

    def _pixel_loss(self, images: Tensor, active: Tensor, theta: float) -> Tensor:
        pixels = to_squares(images, self.encoder.unit).float()  # (B, N, d)
        shown = self.decoder(active)  # D a_p
        left = pixels - (shown.sum(dim=1, keepdim=True) - shown)
        ridge = (1 - theta) / theta * (shown.shape[1] - 1) * shown.square().sum()  # every patch is left N - 1 times
        return (left.square().sum() + ridge) / pixels.numel()

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        if self.config.objective == "pixels":
            return
        weight = self.encoder.net.conv.weight
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(self.reach)
            self.reach /= torch.distributed.get_world_size()
        grown = (self.reach > self.encoder.net.sigma.rho) & ~self.stopped
        self.final.copy_(torch.where(grown[:, None, None, None], weight, self.final))
        self.stopped |= grown
        weight.copy_(torch.where(self.stopped[:, None, None, None], self.final, weight))


def half_squares(predictions: Tensor, targets: Tensor) -> Tensor:
    """Half the squared distance of two rows, the mean over rows."""
    return (predictions - targets).square().sum(dim=1).mean() / 2
