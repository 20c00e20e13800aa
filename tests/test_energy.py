"""What a GPU took is what its own counter says, and where it says nothing, nothing is said."""

import sys
from collections.abc import Iterator
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from whymask.energy import Meter, joules_of

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")


class NVMLError(Exception):
    pass


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    joules_of.cache_clear()
    yield
    joules_of.cache_clear()


def library(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """In place of NVIDIA's: a counter that rises by 1,500 millijoules each time it is read."""
    readings = count(9_000_000, 1_500)
    nvml: Any = ModuleType("pynvml")
    nvml.NVMLError, nvml.nvmlInit = NVMLError, lambda: None
    nvml.nvmlDeviceGetHandleByUUID = {"GPU-1f-2e": "the first"}.__getitem__
    nvml.nvmlDeviceGetTotalEnergyConsumption = lambda handle: next(readings)
    vars(nvml).update(functions)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="1f-2e"))


def test_a_meter_gives_joules_since_it_was_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    library(monkeypatch)
    meter = Meter(GPU)
    assert [meter.since(), meter.since()] == [1.5, 1.5]


def test_a_device_that_does_not_tell_has_taken_nobody_knows_what(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: object) -> int:
        raise NVMLError("not supported")

    library(monkeypatch, nvmlDeviceGetTotalEnergyConsumption=refused)
    assert Meter(GPU).since() is None and Meter(CPU).since() is None


def test_without_the_library_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Meter(GPU).since() is None
