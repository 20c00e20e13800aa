"""How large what is measured on a GPU is: as the tables have it, or tiny, to run all of it on any machine."""

from dataclasses import dataclass

from benchmarks.detection import QUICK as QUICK_DETECTION
from benchmarks.detection import DetectionSizes
from benchmarks.mae_step import Sizes
from whymask.encoders import EncoderSettings


@dataclass(frozen=True)
class Network:
    """An encoder on colour images of `side` pixels, `batch` of them a step."""

    encoder: EncoderSettings
    side: int
    batch: int

    def __str__(self) -> str:
        asked = self.encoder
        size = "" if asked.width is None else f" {asked.width} x {asked.depth} / {asked.patch}"
        return f"{asked.name}{size}, {self.side} px, batch {self.batch:,}"


@dataclass(frozen=True)
class Images:
    """Of a whole loop: how many, of how many pixels a side as they are stored, seen how often."""

    count: int
    side: int
    epochs: int


@dataclass(frozen=True)
class Scale:
    """Sizes of everything; `study` and `theory` are arguments of the commands, `proves` whether their results say that
    they did their work."""

    product: int
    large: Network
    large_peer: Sizes
    large_images: Images
    small: Network
    small_peer: Sizes
    small_images: Images
    small_batches: tuple[int, int]
    cnn: Network
    detector: DetectionSizes
    study: tuple[str, ...]
    theory: tuple[str, ...]
    proves: bool
    seconds: float
    """Of a block that is timed."""
    checked: int
    """Images of the batch on which a GPU is compared with a CPU."""
    compiler: str
    """torch.compile's backend."""


FULL = Scale(
    product=8192,
    large=Network(EncoderSettings("vit_base_patch16_224"), 224, 256),
    large_peer=Sizes(768, 12, 12, 384, 4, 12, 224, 16, 256),
    large_images=Images(4096, 256, 6),
    small=Network(EncoderSettings("vit", width=192, depth=12, heads=3, patch=4), 32, 1024),
    small_peer=Sizes(batch=1024),
    small_images=Images(50_000, 32, 6),
    small_batches=(1024, 128),
    cnn=Network(EncoderSettings("resnet50"), 224, 256),
    detector=DetectionSizes(side=640, batch=16, objects=8),
    study=("--seeds", "3", "--budgets", "10", "--worth-budgets", "20", "30", "--pretrain.epochs", "4"),
    theory=("--quick",),
    proves=True,
    seconds=0.8,
    checked=8,
    compiler="inductor",
)
TINY = Scale(
    product=64,
    large=Network(EncoderSettings("vit", width=96, depth=1, heads=3, patch=8), 32, 8),
    large_peer=Sizes(96, 1, 3, 64, 2, 2, 32, 8, 8),
    large_images=Images(32, 36, 2),
    small=Network(EncoderSettings("vit", width=48, depth=1, heads=3, patch=8), 16, 8),
    small_peer=Sizes(48, 1, 3, 64, 2, 2, 16, 8, 8),
    small_images=Images(32, 16, 2),
    small_batches=(16, 8),
    cnn=Network(EncoderSettings("resnet10t"), 64, 4),
    detector=QUICK_DETECTION,
    study=(
        *("--seeds", "1", "--budgets", "2", "--worth-budgets", "4", "--width", "4", "--no-explain"),
        *("--pretrain.epochs", "1", "--finetune.epochs", "1"),
    ),
    theory=("--claims", "purity", "--seeds", "2", "--k", "2", "--m", "2", "--N", "20", "--batch", "20", "--test", "20"),
    proves=False,
    seconds=0.0,
    checked=4,
    compiler="eager",
)
