"""On a GPU a network of an explanation is shown as many images at once as fit, and is read once of all of them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from questions import Questions
from tiny import new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import EncoderSettings
from whymask.explanations import batching
from whymask.explanations.batching import MOST, SHARE, TRIED, fitting
from whymask.explanations.evidence import evidence
from whymask.explanations.measures.interactions import masked_values
from whymask.explanations.networks import Member
from whymask.explanations.regions import regions
from whymask.randomness import torch_generator
from whymask.stages.network import Classifier

CELLS = (4, 4)
VIEW = Preprocessing((32, 32), (32, 32), 1, mean=(0.5,), std=(0.25,))
GPU = torch.device("cuda:0")


def member() -> Member:
    encoder = new_encoder(EncoderSettings("cnn", width=8))
    encoder.transform = VIEW
    return Member("baseline", "scratch", 0, Classifier(encoder, 3), VIEW)


def shown(count: int) -> tuple[Tensor, Tensor]:
    return torch.randn(count, 1, 32, 32, generator=torch_generator(0)), torch.arange(count) % 3


ASKED: dict[str, Callable[[Member, Tensor, Tensor], Any]] = {
    "logits": lambda network, images, labels: network(images),
    "features": lambda network, images, labels: network.pooled(images),
    "grad-cam": lambda network, images, labels: evidence(network, images, labels, CELLS),
    "occlusion": lambda network, images, labels: evidence(network, images, labels, CELLS, "occlusion"),
    "interactions": lambda network, images, labels: masked_values(
        network.logits, *map(network.there, (images, labels, 0 * images)), regions((32, 32), 4), 5
    ),
}


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    """What was brought to the CPU."""
    read: list[Tensor] = []
    bring = Tensor.cpu
    monkeypatch.setattr(Tensor, "cpu", lambda tensor: read.append(tensor) or bring(tensor))
    yield read


@pytest.mark.parametrize("name", ASKED)
def test_a_network_is_read_once_of_many_batches(
    name: str, reads: list[Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, (images, labels) = member(), shown(12)
    whole = ASKED[name](network, images, labels)
    monkeypatch.setattr(batching, "BATCH", 5)
    reads.clear()
    with Questions() as questions:
        parts = ASKED[name](network, images, labels)
    assert len(reads) == 1 and questions.asked == []
    np.testing.assert_allclose(np.asarray(parts), np.asarray(whole), atol=1e-5)


def claimed(network: Member, mode: FakeTensorMode) -> Member:
    """It, on a GPU, as its weights claim."""
    network._scale, network._shift = map(mode.from_tensor, (network._scale, network._shift))
    for layer in network.classifier.modules():
        for tensors in (layer._parameters, layer._buffers):
            for key, tensor in tensors.items():
                if tensor is not None:
                    there: Any = torch.empty(tensor.shape, dtype=tensor.dtype, device=GPU)
                    tensors[key] = nn.Parameter(there, False) if isinstance(tensor, nn.Parameter) else there
    return network


@pytest.mark.parametrize("name", [name for name in ASKED if name != "grad-cam"])  # autograd wants a real GPU
def test_all_is_brought_to_where_the_network_is(
    name: str, monkeypatch: pytest.MonkeyPatch, reads: list[Tensor]
) -> None:
    """By tensors without content, of which some claim to lie on a GPU: operations between the two fail."""
    monkeypatch.setattr("whymask.data.moving.Moves.__call__", lambda moves, tensor: tensor.to(moves.device))
    monkeypatch.setattr(torch, "from_numpy", lambda array: torch.empty(array.shape, dtype=torch.int64))
    monkeypatch.setattr("whymask.explanations.networks.fitting", lambda device, compute, *given: 5)
    monkeypatch.setattr(Tensor, "numpy", lambda tensor: tensor)
    network, given = member(), shown(12)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        found = ASKED[name](claimed(network, mode), *map(mode.from_tensor, given))
    assert found.device.type == "cpu" and reads[-1].device == GPU


def test_on_a_gpu_a_batch_takes_a_share_of_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    free = {"bytes": 2**30}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: None)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 500 + 2**20 * tried[-1])
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free["bytes"], 2**34))

    def compute(images: Tensor, labels: Tensor) -> None:
        assert len(images) == len(labels)
        tried.append(len(images))

    given = torch.zeros(40, 1), torch.zeros(40)
    assert fitting(GPU, compute, *given) == SHARE * 1024 and tried == [TRIED]
    free["bytes"] = 2**33
    assert fitting(GPU, compute, *(x[:4] for x in given)) == SHARE * 8192 and tried[-1] == 4
    free["bytes"] = 2**36
    assert fitting(GPU, compute, *given) == MOST
    free["bytes"] = 2**19
    assert fitting(GPU, compute, *given) == 1
    assert fitting(torch.device("cpu"), compute, *given) == batching.BATCH and len(tried) == 4
