"""What may be asked of `python -m benchmarks`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def main(
    groups: Annotated[tuple[str, ...], tyro.conf.Positional] = (),
    device: Literal["cpu", "cuda"] = "cpu",
    out: Path = Path("bench.json"),
    quick: bool = False,
) -> None:
    """Measure speed beside the usual alternatives, on this machine.

    Args:
        groups: which rows to measure. On a CPU: vit, cnn, methods, spark, detection, small-images, photos, matmul,
            theory; all but methods unless told. On a GPU: large, small, resnet, detection, commands,
            or rows by their names; all but detection unless told.
        device: cpu compares single parts with their peers; cuda checks and times steps, whole loops and commands on a
            GPU, in at most 6 minutes.
        out: the file that is written.
        quick: tiny sizes, seconds instead of minutes: shows that it runs; the numbers mean nothing.
    """
    if device == "cuda":
        from benchmarks.gpu.run import measure

        measure(groups, out, quick=quick)
    else:
        from benchmarks.cpu import main as measure_cpu  # which needs more than a bare machine has

        measure_cpu(groups, out, quick)
