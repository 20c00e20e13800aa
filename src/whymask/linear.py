"""Linear layers that use the whole processor.

On a CPU, PyTorch gives float32 matrix products to MKL, which on AMD processors takes AVX2 kernels even where there is
AVX-512. Convolutions go to oneDNN, which asks the processor itself. A linear layer is a 1x1 convolution, the same sums
of the same products; as such it runs at about twice the rate there (measured: 215 against 100 GFLOP/s a core).
"""

import platform
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

IMAGES = 16  # PyTorch gives 1x1 convolutions to oneDNN from this many images on, at any number of threads


@cache
def convolution_is_faster() -> bool:
    """Whether this machine has an AMD processor with AVX-512, and oneDNN to use it."""
    if not torch.backends.mkldnn.is_available() or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    cpuinfo = Path("/proc/cpuinfo")
    return "AuthenticAMD" in (cpuinfo.read_text() if cpuinfo.exists() else platform.processor())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`, (..., D) -> (..., out), as a 1x1 convolution where that is faster."""
    if not as_convolution(x):
        return F.linear(x, weight, bias)
    result = F.conv2d(_image(x), weight[:, :, None, None], bias)
    return result.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def weight_gradient(x: Tensor, y: Tensor) -> Tensor:
    """sum over rows of y times x, (..., D) and (..., out) -> (out, D): the gradient of `linear`'s weight."""
    if not as_convolution(x):
        return y.flatten(0, -2).mT @ x.flatten(0, -2)
    return conv2d_weight(_image(x), (y.shape[-1], x.shape[-1], 1, 1), _image(y))[:, :, 0, 0]


def as_convolution(x: Tensor) -> bool:
    """Whether products with x are computed as convolutions."""
    if torch.compiler.is_compiling():  # which has kernels of its own
        return False
    on_cpu = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return on_cpu and x.numel() > 0 and convolution_is_faster()


def _image(x: Tensor) -> Tensor:
    """(..., D) -> (images, D, 1, rows), channels last."""
    rows = x.numel() // x.shape[-1]
    images = IMAGES if rows % IMAGES == 0 else x.shape[0]
    return x.reshape(images, 1, rows // images, x.shape[-1]).permute(0, 3, 1, 2)


class Linear(nn.Linear):
    """`torch.nn.Linear`, computed by `linear`. The state is the same."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def speed_up(module: nn.Module) -> None:
    """Makes every `torch.nn.Linear` in `module` a `Linear`."""
    for layer in module.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = Linear
