"""What the machine can do: float32 matrix products, of the size at which they are fastest."""

import platform
from pathlib import Path

import torch
from torch.nn.functional import linear as torch_linear

from benchmarks.measure import Effort, Row, Work, against, interleaved, threads
from whymask.linear import linear

SIDE = 2048  # of the square matrices


def matrix_products(side: int = SIDE) -> dict[str, Work]:
    """Products as whymask's linear layers compute them, and as PyTorch's do; in operations (2 a multiply-add)."""
    x, weight = torch.randn(side, side), torch.randn(side, side)

    def work(product) -> Work:
        def run() -> float:
            with torch.no_grad():
                product(x, weight)
            return 2.0 * side**3

        return run

    return {"product": work(linear), "torch product": work(torch_linear)}


def matmul_rows(effort: Effort, side: int) -> list[Row]:
    """matmul-1 and matmul-2: GFLOP/s on one thread and on two."""
    rows = []
    for count in (1, 2):
        with threads(count):
            rates = interleaved(matrix_products(side), effort)
        giga = {name: [rate / 1e9 for rate in values] for name, values in rates.items()}
        setting = f"{side} x {side} float32, threads: {count}, {processor()}, PyTorch {torch.__version__}"
        values = against(giga, "product", "torch product")
        rows.append(Row(name=f"matmul-{count}", peer="torch linear", unit="GFLOP/s", setting=setting, **values))
    return rows


def processor() -> str:
    """The processor's name, as far as the system tells."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
