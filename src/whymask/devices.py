"""Whether the device that was asked for is there."""

import torch

from whymask.errors import WhymaskError


def check_device(device: str) -> None:
    """Raise WhymaskError where `device` is "cuda" and there is no GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise WhymaskError("--device cuda was given, but PyTorch sees no GPU. Use --device cpu.")
