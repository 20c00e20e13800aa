"""The process that measures rows, one after another, and tells of each in a line of JSON; `run.py` starts it.

python -m benchmarks.gpu.worker DEVICE full|tiny ROW...
"""

import json
import os
import sys
import warnings
from dataclasses import asdict
from typing import Any, TextIO

DEVICE_LOST = ("CUDA error", "device-side assert", "unspecified launch failure")
"""In an error after which a process gets no more answers of its GPU."""


def main(device: str, size: str, names: list[str], told: TextIO) -> None:
    """Lines: {"device": ...} at first, or why nothing can be measured; then of each row {"begins": name}, and its
    figures, or why there are none."""

    def tell(**about: Any) -> None:
        print(json.dumps(about), file=told, flush=True)

    warnings.filterwarnings("ignore")
    import torch

    from benchmarks.gpu import rows, scale
    from benchmarks.gpu.catalogue import ROWS
    from benchmarks.gpu.checks import CheckError
    from benchmarks.gpu.place import Place
    from benchmarks.gpu.steps import NotHereError

    if device == "cuda" and not torch.cuda.is_available():
        tell(impossible="--device cuda was given, but PyTorch sees no GPU; use --device cpu")
        return
    place = Place(torch.device(device), scale.FULL if size == "full" else scale.TINY)
    tell(device=place.name, torch=torch.__version__)
    for name in names:
        tell(begins=name)
        try:
            figures = getattr(rows, ROWS[name].call)(place)
        except NotHereError as error:
            tell(why=f"not here: {error}")
        except CheckError as error:
            tell(why=f"its check failed: {error}")
        except Exception as error:
            tell(why=f"{type(error).__name__}: {str(error).strip()[:300]}")
            if any(part in str(error) for part in DEVICE_LOST):
                sys.exit(1)
        else:
            tell(figures=asdict(figures))


if __name__ == "__main__":
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is none of these lines
    main(sys.argv[1], sys.argv[2], sys.argv[3:], own)
