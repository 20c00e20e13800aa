"""`python -m experiments.gpu`: what a lent GPU can do of `experiments.defaults` and `experiments.photos` in one call.

Both leave folders in --out, whole or to be continued. Copied into runs/ of a checkout (`cp -r OUT/defaults OUT/photos
runs/`), `python -m experiments.defaults` takes the finished trials into its table, and `python -m experiments.photos
--scale gpu` goes on with the studies, on whatever device. The data sets are given by --shared.
"""

import subprocess
import sys
from pathlib import Path

import tyro


def main(out: Path, shared: Path = Path("../shared/data"), minutes: float = 9, jobs: int = 4) -> None:
    """Trials for half of the minutes, several at once; studies for the other half.

    Args:
        out: where what was done is left.
        shared: the folder of the data sets.
        minutes: of the whole call; what is begun is saved before they end.
        jobs: trials at a time.
    """
    given = ["--shared", str(shared), "--minutes", str(minutes / 2)]
    trials = ["--device", "cuda", "--operations", "1e15", "--jobs", str(jobs), "--results", str(out / "table")]
    commands = {"defaults": trials, "photos": ["--scale", "gpu", "--results", str(out / "pages")]}
    for name, told in commands.items():
        command = [sys.executable, "-m", f"experiments.{name}", "--out", str(out / name), *given, *told]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    tyro.cli(main)
