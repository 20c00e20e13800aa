"""Every random draw is a function of (seed, purpose, step or sample).

There is no running generator state anywhere in whymask: two arms of a study differ in nothing but what they test, a
resumed run equals an unbroken one, and the number of workers or ranks does not matter.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch


def derive(*key: int | str) -> int:
    """A 63-bit number that depends on all parts of `key`, such as ``derive(seed, "mask", step)``.

    Equal keys give equal numbers on every machine; the type counts, so 1 and "1" are different parts.
    """
    digest = hashlib.blake2b(repr(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def torch_generator(*key: int | str) -> torch.Generator:
    """A fresh CPU generator seeded by `key`. Draw on the CPU and move: all devices then see the same numbers."""
    return torch.Generator().manual_seed(derive(*key))


def numpy_generator(*key: int | str) -> np.random.Generator:
    """A fresh NumPy generator seeded by `key`."""
    return np.random.default_rng(derive(*key))


@contextmanager
def seeded(*key: int | str) -> Iterator[None]:
    """Within, PyTorch's global CPU generator is seeded by `key`; afterwards it is as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(*key))
        yield


@contextmanager
def reseeding() -> Iterator[Callable[..., None]]:
    """Within, what is given seeds by a key the global generators from which other libraries draw: Python's and NumPy's.
    Afterwards they are as they were: keeping their states costs far more than seeding them. PyTorch's is left alone: a
    training step may be drawing from it in another thread."""

    def seed(*key: int | str) -> None:
        number = derive(*key)
        random.seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002

    states = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield seed
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
