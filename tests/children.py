"""Work in a process of its own, which a test may kill.

It is forked from a server that has imported much and computed nothing. Forked from a test's own process, it could not
train once autograd's threads run there: a GPU starts them, and so does whatever was traced before the first backward
pass (torch.compile, torch.export), in any test that the process has run before.
"""

import multiprocessing
import os
from collections.abc import Callable
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any, Literal

import tiny
from whymask.data.batches import Batches

PRELOADED = [
    *("pytest", "sklearn.datasets", "sklearn.metrics", "timm"),
    *("whymask.cli", "whymask.stages.classify", "whymask.stages.pretrain"),
]
"""What the modules with such tests import of libraries; every child would do so anew."""


@cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    return context


def start_child(work: Callable[..., object], *given: object) -> ForkServerProcess:
    """`work`, a function of a module, with these arguments, in a process that was just started."""
    child = _server().Process(target=_train, args=(tiny.DEVICE, work, given))
    child.start()
    return child


def exit_code_of(work: Callable[..., object], *given: object) -> int | None:
    """That of such a process, once it has ended."""
    child = start_child(work, *given)
    child.join()
    return child.exitcode


def _train(device: Literal["cpu", "cuda", "mps"], work: Callable[..., object], given: tuple[object, ...]) -> None:
    tiny.DEVICE = device
    work(*given)


def signal_itself(number: int, step: int) -> None:
    """For the rest of this process: a training that asks for the batch of `step` sends the process a signal before. So
    many steps are done and logged by then, however fast the machine is."""
    original = Batches.__call__

    def deadly(self: Batches, at: int) -> Any:
        if at == step:
            os.kill(os.getpid(), number)
        return original(self, at)

    Batches.__call__ = deadly  # type: ignore[method-assign]
