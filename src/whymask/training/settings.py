"""What is asked of the training loop, and of the machine that it runs on."""

import math
from dataclasses import dataclass, field
from typing import Literal

from whymask.errors import WhymaskError
from whymask.flags import readable
from whymask.later import LATER

RATE = 1e-3
"""The peak learning rate at the default batch size."""


@readable
@dataclass(frozen=True)
class RuntimeSettings:
    """Where and how precisely to compute. Changes speed, not what is tested."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; auto takes a GPU if there is one: cuda, or mps, that of an Apple Mac."""
    devices: int = 1
    """How many GPUs (or CPU processes) of each node share each batch, by distributed data parallel."""
    nodes: int = 1
    """On how many nodes (machines), started by torchrun or srun: docs/cluster.md."""
    shard: bool = False
    """Divide weights, gradients and moments of a ViT among the processes (FSDP2), where one GPU has no room for all."""
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    """auto: bf16-mixed on a GPU that has it, else 32-true: most CPUs multiply bf16 far slower than fp32. 16-mixed, with
    a scaled loss, is for GPUs that have no bf16. In both, what stays fp32 is multiplied in tf32, in 32-true nothing."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Whether torch.compile compiles what is trained, which takes a minute at first: auto on a CUDA GPU, of a ViT and
    of classifiers, where the run is long enough to earn that back. Results differ by rounding."""
    threads: int | None = None
    """CPU threads; default: what PyTorch finds. Bit-identical resuming needs the same number, so it is recorded."""

    def __post_init__(self) -> None:
        """Raises WhymaskError for no thread or no device."""
        for name, value in (("threads", self.threads), ("devices", self.devices), ("nodes", self.nodes)):
            if value is not None and value < 1:
                raise WhymaskError(f"--{name} {value} was given; at least 1 was expected; change it, or leave it out")


@readable
@dataclass(frozen=True)
class TrainingSettings:
    """How a network is to be trained, in any stage."""

    epochs: int | None = None
    """Passes over the training images; the stage says what the default is."""
    batch_size: int | Literal["auto"] = 128
    """Images a step. Fewer images than this make one batch. auto: the largest that fits the GPU; on a CPU the
    default."""
    learning_rate: float | None = None
    """Peak learning rate, reached after the warm-up; default: 1e-3 at the default batch size, and the square root of
    how many times as large a batch is (arXiv 2205.10287) as many times that."""
    weight_decay: float = 0.05
    """AdamW's decay; biases, norms, positions and tokens are left out."""
    beta2: float = 0.999
    """AdamW's averaging of squared gradients; 0.95 is usual for mask reconstruction (arXiv 2111.06377)."""
    warmup: float = 0.1
    """Share of the steps in which the learning rate rises from 0; then it falls as a cosine to 0."""
    clip: float = 3.0
    """Largest norm of the gradient; a larger one is scaled down."""
    layer_decay: float = 1.0
    """Each layer below the head learns this factor slower (arXiv 2106.08254); 1 = all alike."""
    ema: float | None = None
    """Decay of a moving average of the weights, which then is the result; none = the last weights. At step t at most
    (1 + t) / (10 + t), so that a short run's average forgets its first weights."""
    checkpoint_every: int | None = None
    """Steps between checkpoints; default: about one a minute."""
    accumulate: int = field(default=1, metadata=LATER)
    """In how many parts a batch is computed, one after another, for less memory: the same step to rounding, where
    nothing is counted over a batch, as batch norm does, and nothing is drawn in it, as drop path is."""
    recompute: bool = field(default=False, metadata=LATER)
    """Compute on the way back again what blocks would keep for it. Less memory, the same bits, about a third more time
    of a ViT. Of the two-layer encoder it is refused."""

    @property
    def peak(self) -> float:
        """The peak learning rate, given or by the batch."""
        if self.learning_rate is not None:
            return self.learning_rate
        return RATE * math.sqrt(int(self.batch_size) / int(type(self).batch_size))

    def __post_init__(self) -> None:
        """Raises WhymaskError for a setting out of its range."""
        ranges: dict[str, tuple[bool, str]] = {
            "epochs": (self.epochs is None or self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size == "auto" or self.batch_size >= 1, "at least 1"),
            "learning_rate": (self.learning_rate is None or self.learning_rate > 0, "above 0"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "beta2": (0 <= self.beta2 < 1, "from 0 to below 1"),
            "warmup": (0 <= self.warmup <= 1, "a share from 0 to 1"),
            "clip": (self.clip > 0, "above 0"),
            "layer_decay": (0 < self.layer_decay <= 1, "above 0 and at most 1"),
            "ema": (self.ema is None or 0 <= self.ema < 1, "from 0 to below 1, such as 0.999"),
            "checkpoint_every": (self.checkpoint_every is None or self.checkpoint_every >= 1, "at least 1 step"),
            "accumulate": (self.accumulate >= 1, "at least 1 part"),
        }
        for name, (fits, expected) in ranges.items():
            if not fits:
                raise WhymaskError(f"{name} {getattr(self, name)} was given; {expected} was expected; change it")
        if self.batch_size != "auto" and self.batch_size % self.accumulate:
            raise WhymaskError(
                f"--accumulate {self.accumulate} parts of a batch of {self.batch_size} images; parts of one size were "
                f"expected; give another of the two, such as --batch-size "
                f"{max(1, self.batch_size // self.accumulate) * self.accumulate}"
            )
