"""Whether the device that was asked for is there, which is best, and whether another process is still there."""

import os
import re
from typing import Literal

import torch

from whymask.errors import WhymaskError

GPUS = {"cuda": "GPU", "mps": "GPU of an Apple Mac"}
"""By PyTorch's names."""


def check_device(device: str, count: int = 1) -> None:
    """Raise WhymaskError where `device` is a GPU that is not there, or not so many times."""
    if device not in GPUS:
        return
    if not is_there(device):
        raise WhymaskError(
            f"--device {device} was given, but PyTorch sees no {GPUS[device]}. Use --device {best_device()}."
        )
    there = torch.cuda.device_count() if device == "cuda" else 1
    if count > there:
        raise WhymaskError(
            f"--devices {count} was given, but PyTorch sees {there} {GPUS[device]}. Use --devices {there}."
        )


def best_device() -> Literal["cpu", "cuda", "mps"]:
    """A GPU where there is one."""
    if is_there("cuda"):
        return "cuda"
    return "mps" if is_there("mps") else "cpu"


def is_there(device: str) -> bool:
    """Whether PyTorch sees such a GPU, "cuda" or "mps"."""
    return torch.cuda.is_available() if device == "cuda" else torch.backends.mps.is_available()


def lost_another(error: BaseException) -> bool:
    """Whether the error comes of another one of the processes that compute together having ended."""
    together = int(os.environ.get("WORLD_SIZE", "1")) > 1
    told = re.search(r"gloo|nccl|closed by peer|reset by peer|broken pipe", str(error), re.IGNORECASE)
    return together and isinstance(error, RuntimeError) and told is not None
