"""`python -m faults`: makes faults for a minute, says how many were tried, survived and lost, and exits 1 on a loss."""

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from faults.damage import damages
from faults.full_disk import full_disks
from faults.kills import kills
from faults.pictures import pictures
from faults.trial import Kind, Trial
from faults.two_at_once import two_at_once

KINDS: dict[str, Kind] = {
    "kill": kills,
    "damage": damages,
    "odd picture": pictures,
    "full disk": full_disks,
    "two at once": two_at_once,
}
MINUTE, HOUR = 60.0, 3600.0
console = Console(stderr=True, highlight=False)


def trials(kind: Kind, seed: int, seconds: float, rounds: int | None = None) -> Iterator[Trial]:
    """Trials of a kind until the time is used, one at least; or of so many rounds, whatever time they take."""
    until = time.monotonic() + seconds
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        for trial in chain.from_iterable(islice(kind(Path(folder), np.random.default_rng(seed)), rounds)):
            yield trial
            if rounds is None and time.monotonic() > until:
                return


def faults(long: bool = False, seed: int = 0, kinds: tuple[str, ...] = tuple(KINDS), rounds: int | None = None) -> bool:
    """Whether nothing was lost.

    Args:
        long: An hour, in place of a minute.
        seed: Of moments, places and damages; another one makes other faults.
        kinds: Which faults.
        rounds: So many of each kind, in place of a minute: in a round each run, or picture, has one fault.
    """
    torch.set_num_threads(1)
    tried: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    for kind in kinds:
        for trial in trials(KINDS[kind], seed, (HOUR if long else MINUTE) / len(kinds), rounds):
            tried[trial.kind] += 1
            if trial.lost:
                lost[trial.kind] += 1
                console.print(f"LOST {trial.kind}: {trial.what}: {trial.lost}", markup=False, soft_wrap=True)
    table = Table("fault", "tried", "survived", "lost")
    for name in tried:
        table.add_row(name, str(tried[name]), str(tried[name] - lost[name]), str(lost[name]))
    table.add_row("all", str(tried.total()), str(tried.total() - lost.total()), str(lost.total()))
    Console().print(table)
    return not lost


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(0 if tyro.cli(faults, prog="python -m faults") else 1)
