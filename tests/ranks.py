"""Several processes that compute together, as torchrun starts them, but forked from the server of children.py: in
tenths of a second instead of ten."""

import os
import socket
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess

from children import start_child


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def start_ranks(world: int, work: Callable[..., object], *given: object) -> list[ForkServerProcess]:
    """`work`, a function of a module, with these arguments, in each of `world` processes that were just started."""
    port = free_port()
    return [start_child(_as_rank, rank, world, port, work, given) for rank in range(world)]


def on_ranks(world: int, work: Callable[..., object], *given: object) -> list[int | None]:
    """The same, waited for: their exit codes."""
    return ended(start_ranks(world, work, *given))


def ended(children: list[ForkServerProcess], seconds: float = 240) -> list[int | None]:
    """Exit codes of processes that were started. Who has not ended by then, because another one failed, is killed."""
    until = time.monotonic() + seconds
    for child in children:
        child.join(max(1, until - time.monotonic()))
        child.kill()
        child.join()
    return [child.exitcode for child in children]


def _as_rank(rank: int, world: int, port: int, work: Callable[..., object], given: tuple[object, ...]) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test",
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world),
        "LOCAL_WORLD_SIZE": str(world),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    work(*given)
