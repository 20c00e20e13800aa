"""The rows: what each measures, how long that takes, and what it stands beside."""

from dataclasses import dataclass

GROUPS = ("products", "large", "small", "resnet", "commands", "detection")
"""Of rows; the products are measured whatever is chosen, as all rates are shares of theirs."""
DEFAULT = GROUPS[:-1]
"""What is measured unless it is named: what detection takes is a guess yet."""


@dataclass(frozen=True)
class Row:
    """`call` names a function of `rows.py`. `seconds` is about what the row takes on an H100, its check included;
    `beside` the row that it is compared with."""

    group: str
    about: str
    call: str
    seconds: float
    beside: str | None = None

    @property
    def limit(self) -> float:
        """Seconds after which the row is given up."""
        return 2 * self.seconds + 15


PRODUCT = "bf16-product"
ROWS: dict[str, Row] = {
    PRODUCT: Row("products", "product of bf16 matrices", "half_product", 3),
    "fp32-product": Row("products", "product of float32 matrices, without tf32", "full_product", 3),
    "mae-large": Row("large", "MAE step", "large_step", 10, "vitmae-large"),
    "mae-large-compiled": Row("large", "MAE step under torch.compile", "large_compiled", 45, "mae-large"),
    "mae-large-loop": Row("large", "whole loop, images on the GPU", "large_loop", 20, "mae-large"),
    "mae-large-store": Row("large", "whole loop, images from the store", "large_store", 17, "mae-large"),
    "vitmae-large": Row("large", "step of transformers' ViTMAE", "large_transformers", 8),
    "lightly-large": Row("large", "MAE step of lightly's parts", "large_lightly", 8, "mae-large"),
    "mae-small": Row("small", "MAE step", "small_step", 6, "vitmae-small"),
    "mae-small-compiled": Row("small", "MAE step under torch.compile", "small_compiled", 35, "mae-small"),
    "mae-small-loop": Row("small", "whole loop", "small_loop", 12, "mae-small"),
    "mae-small-loop-128": Row("small", "whole loop in small batches", "small_loop_128", 10, "mae-small-loop"),
    "vitmae-small": Row("small", "step of transformers' ViTMAE", "small_transformers", 5),
    "mae-resnet": Row("resnet", "MAE step", "mae_resnet", 12, "dense-resnet-last"),
    "spark-resnet": Row("resnet", "SparK step", "spark_resnet", 14, "dense-resnet-last"),
    "dense-resnet": Row("resnet", "step of the dense network, contiguous", "dense_contiguous", 5, "dense-resnet-last"),
    "dense-resnet-last": Row("resnet", "step of the dense network, channels_last", "dense_last", 5),
    "detector": Row("detection", "Faster R-CNN step, channels_last", "detector", 15, "torchvision-detector"),
    "torchvision-detector": Row("detection", "step of torchvision's own, contiguous", "torchvision_detector", 15),
    "torchvision-detector-last": Row(
        "detection", "step of torchvision's own, channels_last", "torchvision_detector_last", 15
    ),
    "demo": Row("commands", "the demo with 3 seeds, whole command", "demo", 66),
    "theory": Row("commands", "theory --quick, whole command", "theory", 34),
}

TOTAL = 345.0
"""Seconds for everything; what is not measured then is given up."""
START = 25.0
"""Of them, about, for the start of the process that measures."""


def chosen(asked: tuple[str, ...]) -> list[str]:
    """The rows of these groups, or of these names, or of `DEFAULT`; the products first. Raises KeyError, naming what
    there is not."""
    if unknown := [name for name in asked if name not in GROUPS and name not in ROWS]:
        raise KeyError(", ".join(unknown))
    return [
        name
        for name, row in ROWS.items()
        if row.group in (asked or DEFAULT) or row.group == "products" or name in asked
    ]
