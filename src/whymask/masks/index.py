"""What is asked of a mask, in the form of numbers: found once, where the mask is drawn."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class Mask(Tensor):
    """A mask that keeps what was once found in it, such as its index form: found on the CPU, before the mask is moved,
    nothing waits for a GPU to answer. What is computed from it is a plain tensor."""

    found: dict[str, Any]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @classmethod
    def of(cls, mask: Tensor) -> "Mask":
        """The same mask, with an empty memory."""
        made = mask.as_subclass(cls)
        made.found = {}
        return made

    def moved(self, move: Callable[[Tensor], Tensor]) -> "Mask":
        """It, and all that was found in it, where `move` brings tensors."""
        made = Mask.of(move(self.as_subclass(Tensor)))
        made.found = {name: _moved(value, move) for name, value in self.found.items()}
        return made

    def tensors(self) -> tuple[Tensor, ...]:
        """All that lies on the device."""
        parts = [part for value in self.found.values() for part in (value if isinstance(value, tuple) else (value,))]
        within = [part.tensors() if isinstance(part, Mask) else (part,) for part in parts if isinstance(part, Tensor)]
        return self, *(tensor for tensors in within for tensor in tensors)


def _moved(value: Any, move: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, tuple):
        return tuple(_moved(part, move) for part in value)
    if isinstance(value, Mask):
        return value.moved(move)
    return move(value) if isinstance(value, Tensor) else value


def once(mask: Tensor, name: str, find: Callable[[Tensor], T]) -> T:
    """`find(mask)`: tensors, a tuple of them, or a number. A `Mask` is asked once, and knows it by this name."""
    if not isinstance(mask, Mask):
        return find(mask)
    if name not in mask.found:
        mask.found[name] = find(mask.as_subclass(Tensor))
    return mask.found[name]


def look(mask: Tensor) -> None:
    """Finds whether anything is hidden, and the index form, where samples hide equally many squares."""
    counts = mask.flatten(1).sum(dim=1)
    if hides(mask) and bool((counts == counts[0]).all()):
        indices(mask)


def hides(mask: Tensor) -> bool:
    """Whether anything is hidden at all."""
    return once(mask, "hides", lambda mask: bool(mask.any()))


def indices(mask: Tensor) -> tuple[Tensor, Tensor]:
    """A mask (B, gh, gw) in index form: (visible (B, n_visible), hidden (B, n_hidden)), long, ascending.

    Squares are numbered row by row.

    Raises:
        ValueError: when samples hide different numbers of squares.
    """
    return once(mask, "indices", _indices)


def joined(masks: tuple[Tensor, ...]) -> Tensor:
    """Masks one behind another, (M * B, gh, gw), mask by mask, with their index forms, if each has one, joined too."""
    whole = torch.cat([mask.as_subclass(Tensor) for mask in masks])
    if not all(isinstance(mask, Mask) for mask in masks):
        return whole
    together = Mask.of(whole)
    visible, hidden = zip(*map(indices, masks), strict=True)
    if len({part.shape[1] for part in hidden}) == 1:
        together.found["indices"] = torch.cat(visible), torch.cat(hidden)
    return together


def _indices(mask: Tensor) -> tuple[Tensor, Tensor]:
    flat = mask.flatten(1)
    counts = flat.sum(dim=1)
    if not bool((counts == counts[0]).all()):
        raise ValueError("samples hide different numbers of squares; index form needs equal counts")
    visible, hidden = ((part.nonzero()[:, 1]).view(len(flat), -1) for part in (~flat, flat))
    return visible, hidden


def take(tokens: Tensor, index: Tensor) -> Tensor:
    """Picks rows of each sample: tokens (B, N, D), index (B, n) -> (B, n, D)."""
    batch, length, width = tokens.shape
    start = torch.arange(0, batch * length, length, device=index.device).unsqueeze(1)
    rows = tokens.reshape(-1, width).index_select(0, (index + start).flatten())
    return rows.view(batch, -1, width)
