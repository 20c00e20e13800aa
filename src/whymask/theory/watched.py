"""What a network is along its training: an objective that shows it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from whymask.theory.data import Sample
from whymask.theory.network import Network
from whymask.theory.objectives import Gradients, Trainable


@dataclass
class Watched:
    """An objective as it is; `look` is shown the network before every `steps` steps, the first one included."""

    objective: Trainable
    steps: int
    look: Callable[[Network], None]
    is_apart: bool = False
    _step: int = field(default=0, init=False)

    def gradients(self, network: Network, batch: Sample) -> tuple[Tensor, Gradients]:
        if self._step % self.steps == 0:
            self.look(network)
        self._step += 1
        return self.objective.gradients(network, batch)
