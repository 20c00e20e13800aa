"""The paper's own network on images, known to timm as "two_layer": patch convolution, smoothed ReLU, sum pooling."""

from dataclasses import dataclass
from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from whymask.activations import SmoothedReLU
from whymask.encoders.base import Encoder, EncoderConfig, Size, check_divides, square_side
from whymask.encoders.settings import EncoderSettings
from whymask.errors import WhymaskError
from whymask.masks import to_pixels

SCALE = 0.03
"""Standard deviation of <w_r, x_p> at the start, for patches of standardised pixels: small, as the theory asks."""


class TwoLayer(nn.Module):
    """h_r(X) = sum over patches p of sigma(<w_r, x_p>), and a linear head; the interface is that of timm's models.

    Pan, Zhou and Yan (arXiv 2206.03826); sigma as in Allen-Zhu and Li (arXiv 2012.09816), 0 below 0, a power q up to
    rho, then linear.
    """

    def __init__(
        self,
        in_chans: int = 3,
        num_classes: int = 1000,
        patch_size: int = 8,
        kernels: int = 256,
        q: float = 3,
        rho: float = 0.5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_chans, kernels, patch_size, patch_size, bias=False)
        self.sigma = SmoothedReLU(q, rho)
        self.num_features = self.head_hidden_size = kernels
        self.reset_classifier(num_classes)
        nn.init.normal_(self.conv.weight, std=SCALE / self.conv.weight[0].numel() ** 0.5)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> activations (B, K, H / patch, W / patch)."""
        return self.sigma(self.conv(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = x.sum(dim=(2, 3))
        return pooled if pre_logits else self.head(pooled)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Module:
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str = "sum") -> None:
        if global_pool != "sum":
            raise ValueError(f"global_pool {global_pool!r}; this network has 'sum' only")
        self.num_classes = num_classes
        self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


@register_model
def two_layer(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> TwoLayer:
    """For `timm.create_model("two_layer", in_chans=..., num_classes=..., patch_size=..., kernels=...)`."""
    if pretrained:
        raise ValueError("two_layer has no public weights; use pretrained=False")
    return TwoLayer(**kwargs)


def default_patch(size: Size) -> int:
    """Twice the side that `square_side` gives, as one layer must see a whole feature, where that divides the size."""
    side = square_side(size)
    whole = size[0] % (2 * side) == size[1] % (2 * side) == 0 and 4 * side * side < size[0] * size[1]
    return 2 * side if whole else side


@dataclass(frozen=True)
class TwoLayerConfig(EncoderConfig):
    """`width` is the number of kernels, `patch` their side in pixels and that of a mask square."""

    kind = "two-layer"
    patchwise = True

    width: int
    patch: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "TwoLayerConfig":
        width = 256 if asked.width is None else asked.width
        if width < 1:
            raise WhymaskError(f"two-layer network of {width} kernels; at least 1 is needed, such as 256")
        patch = default_patch(size) if asked.patch is None else asked.patch
        check_divides("patch", patch, size)
        return cls(asked.name, width, patch)

    def build(self, size: Size, channels: int) -> "TwoLayerEncoder":
        return TwoLayerEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.patch

    def layers(self, size: Size) -> list[tuple[int, int]]:
        return [(self.width, self.patch)]

    @property
    def timm_name(self) -> str:
        return "two_layer"

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        return {"in_chans": channels, "num_classes": 0, "patch_size": self.patch, "kernels": self.width}


class TwoLayerEncoder(Encoder):
    """`TwoLayer`: patches do not overlap, so a hidden one is left out exactly. Features (B, K, gh, gw)."""

    config: TwoLayerConfig

    def __init__(self, config: TwoLayerConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        self.layers = 1

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        if hidden is None:
            return self.net.forward_features(images)
        visible = ~to_pixels(hidden, self.unit)
        if token is None:
            return self.net.forward_features(images.masked_fill(~visible, 0))
        return self.net.forward_features(self.with_token(images, visible, token))

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        return [self(images, hidden, token)]

    def rows(self, features: Tensor) -> Tensor:
        return features.flatten(2).transpose(1, 2)

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(1)

    def layer_of(self, name: str) -> int:
        return 0
