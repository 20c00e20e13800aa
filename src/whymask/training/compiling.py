"""Whether a network's forward pass is compiled while it is trained, and how: by `torch.compile`, in place, so that
weights keep their names and a checkpoint goes on either way."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from whymask.errors import WhymaskError
from whymask.progress import say

Compiling = Literal["auto", "on", "off"]
Made = TypeVar("Made")

BACKEND: Any = "inductor"
EARNS = 1e16
"""Operations of a run from which on a compilation, of about a minute, is earned back: a quarter of the time is saved,
and on an H100 so many operations take from one minute (a ViT-B/16) to ten (a ViT of width 192 on 32 pixels)."""
SMALL = 1e12
"""Operations of a step, about 10 ms of an H100, below which starting kernels one by one takes longer than they do:
they are then recorded once and started together (CUDA graphs)."""


@dataclass(frozen=True)
class Plan:
    """`reason` is empty where there was nothing to decide; `graphs`: by CUDA graphs, `falls_back`: what cannot be
    compiled is trained as it is."""

    compiles: bool
    reason: str = ""
    graphs: bool = False
    falls_back: bool = False

    @property
    def text(self) -> str:
        """What was decided, and why; empty where there was nothing to decide."""
        how = " with CUDA graphs" if self.graphs else ""
        return self.reason and f"{f'compiled{how}' if self.compiles else 'not compiled'}: {self.reason}"


def planned(asked: Compiling, device: str, training: Any) -> Plan:
    """What to do on a type of device with a `Training`. auto compiles on a CUDA GPU what is one graph, where the run
    is long enough."""
    if asked == "off" or (asked == "auto" and device != "cuda"):
        return Plan(False)
    model = training.model
    if asked == "auto" and not model.is_one_graph:
        return Plan(False, "its forward pass is not one graph")
    operations = training.operations()
    small = operations / training.steps < SMALL
    graphs = device == "cuda" and small and model.draws_alike and model.is_one_graph and training.batches.parts == 1
    if asked == "on":
        return Plan(True, "--compile on", graphs)
    if operations < EARNS:
        return Plan(False, f"{operations:.1e} operations, fewer than the {EARNS:.0e} that earn a compilation back")
    return Plan(True, f"{operations:.1e} operations, which earn a compilation back", graphs, falls_back=True)


class Compiled:
    """A network's forward pass as it is planned, within `with compiled(...)`."""

    def __init__(self, model: nn.Module, plan: Plan) -> None:
        self.model, self.plan = model, plan
        self._is_proven = not plan.compiles

    def step(self, work: Callable[[], Made]) -> Made:
        """`work`, a step's forward and backward pass; the first time, which compiles, what fails is told or done
        without. Raises WhymaskError where it was to be compiled and cannot be."""
        if self.plan.graphs:
            torch.compiler.cudagraph_mark_step_begin()
        if self._is_proven:
            return work()
        from torch._dynamo.exc import TorchDynamoException

        self._is_proven = True
        try:
            return work()
        except TorchDynamoException as error:
            cause = str(getattr(error, "inner_exception", error)).strip().partition("\n")[0]
            if not self.plan.falls_back:
                raise WhymaskError(
                    f"--compile on: torch.compile failed ({cause}); a network that it can compile was expected, and "
                    "for a CPU a C++ compiler such as g++ (Debian: apt-get install g++); give --compile off"
                ) from error
            say(f"not compiled: torch.compile failed ({cause})")
            self.plan = replace(self.plan, compiles=False, reason="torch.compile failed", graphs=False)
            _uncompile(self.model)
            self.model.zero_grad()
            return work()

    def aside(self) -> AbstractContextManager[Any]:
        """Within, the network is computed as it is: images that it does not learn from come in batches of any size."""
        return torch.compiler.set_stance("force_eager") if self.plan.compiles else nullcontext()

    def kept(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Scalars of a step, so that the next one does not write over them."""
        return {name: value.detach().clone() if self.plan.graphs else value.detach() for name, value in values.items()}


@contextmanager
def compiled(model: nn.Module, plan: Plan) -> Iterator[Compiled]:
    """Within, the network's call is compiled, where that is the plan; what was decided is said."""
    if plan.text:
        say(plan.text)
    if not plan.compiles:
        yield Compiled(model, plan)
        return
    model.compile(backend=BACKEND, mode="reduce-overhead" if plan.graphs else None)
    try:
        yield Compiled(model, plan)
    finally:
        _uncompile(model)
        torch.compiler.reset()  # what was compiled for this network is for no other


def _uncompile(model: nn.Module) -> None:
    model._compiled_call_impl = None
