"""Several processes that compute together, as torchrun starts them, but forked from the server of children.py: in
tenths of a second instead of ten."""

import os
import socket
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerProcess

from children import start_child

SECONDS_TO_FOLLOW = 300
_HELD: list[socket.socket] = []


def held_port() -> int:
    """A port that nobody else is given as long as this process lives: it is bound here too, and listened at there."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    _HELD.append(held)
    return int(held.getsockname()[1])


def start_ranks(world: int, work: Callable[..., object], *given: object) -> list[ForkServerProcess]:
    """`work`, a function of a module, with these arguments, in each of `world` processes that were just started."""
    port = held_port()
    return [start_child(_as_rank, rank, world, port, work, given) for rank in range(world)]


def on_ranks(world: int, work: Callable[..., object], *given: object) -> list[int | None]:
    """The same, waited for: their exit codes."""
    return ended(start_ranks(world, work, *given))


def ended(children: list[ForkServerProcess]) -> list[int | None]:
    """Exit codes of processes that were started. Who goes on for minutes though another one failed is killed."""
    while not any(child.exitcode for child in children) and (left := [c.sentinel for c in children if c.is_alive()]):
        wait(left)
    for child in children:
        child.join(SECONDS_TO_FOLLOW)
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
