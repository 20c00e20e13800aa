"""--compile: what is compiled is one graph that is made once, and a run goes on either way."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.fx import GraphModule

from method_cases import build
from tiny import GLYPHS
from whymask import finetune, pretrain
from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.stages.network import Classifier
from whymask.training import compiling
from whymask.training.compiling import planned

TINY: dict[str, Any] = {"encoder": {"name": "vit", "width": 16, "depth": 2, "patch": 8}, "seed": 1}
CPU: dict[str, Any] = {"device": "cpu", "threads": 1}


def counting(monkeypatch: Any) -> list[GraphModule]:
    """Graphs that are made from now on, by a stand-in for inductor that computes them as they are."""
    made: list[GraphModule] = []

    def backend(graph: GraphModule, inputs: Any) -> Any:
        made.append(graph)
        return graph.forward

    monkeypatch.setattr(compiling, "BACKEND", backend)
    return made


def trained(out: Path, method: str, compile: str = "on") -> dict[str, Any]:
    """4 steps an epoch, with images left over; fewer images a step where a method has several masks."""
    training = {"epochs": 2, "batch_size": 48, "checkpoint_every": 2}
    runtime = CPU | {"compile": compile}
    return pretrain(GLYPHS, out=out, method=method, training=training, runtime=runtime, keep_checkpoints=True, **TINY)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, own_store: Any) -> Path:
    """The same run compiled, in on/, and not, in off/."""
    folder = tmp_path_factory.mktemp("compiled")
    with pytest.MonkeyPatch.context() as patch:
        made = counting(patch)
        trained(folder / "on", "mae")
        assert len(made) == 1
        trained(folder / "off", "mae", "off")
        assert len(made) == 1
    return folder


def test_a_compiled_run_is_the_same_but_for_rounding(runs: Path) -> None:
    on, off = (read_json(runs / run / "result.json") for run in ("on", "off"))
    assert on["compiled"] == "compiled: --compile on" and "compiled" not in off
    assert on["loss"] == pytest.approx(off["loss"], rel=1e-4) and on["operations"] == off["operations"]
    last = "checkpoints/step-00000008.safetensors"
    assert load_file(runs / "on" / last).keys() == load_file(runs / "off" / last).keys()


@pytest.mark.parametrize(("method", "most"), [("data2vec2", 1), ("ijepa", 2)])
def test_a_run_makes_one_graph_for_all_steps(method: str, most: int, monkeypatch: Any, tmp_path: Path) -> None:
    """Of I-JEPA, whose masks have other sizes in every step, a second one for any size."""
    made = counting(monkeypatch)
    assert trained(tmp_path, method)["steps"] >= 8 and len(made) == most


@pytest.mark.parametrize(("first", "then"), [("on", "off"), ("off", "on")])
def test_a_run_goes_on_either_way(first: str, then: str, runs: Path, tmp_path: Path, monkeypatch: Any) -> None:
    run = Path(shutil.copytree(runs / first, tmp_path / "run"))
    for file in (run / "result.json", *(run / "checkpoints").glob("step-00000008*")):
        file.unlink()  # what is left is the checkpoint of step 6
    made = counting(monkeypatch)
    continued = trained(run, "mae", then)
    assert continued["loss"] == pytest.approx(read_json(runs / "off" / "result.json")["loss"], rel=1e-4)
    assert len(made) == (then == "on")


def test_a_classifier_is_compiled_where_it_learns_and_not_where_it_is_tested(monkeypatch: Any, tmp_path: Path) -> None:
    made = counting(monkeypatch)
    data = "glyphs:unlabelled=0,train=400,test=60"
    finetune(data, out=tmp_path, training={"epochs": 8, "drop_path": 0.1}, runtime=CPU | {"compile": "on"}, **TINY)
    assert len(made) == 1 and "validation" in (tmp_path / "metrics.jsonl").read_text()


def test_what_cannot_be_compiled_is_told_or_done_without(
    runs: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    def missing(graph: GraphModule, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiling, "BACKEND", missing)
    with pytest.raises(WhymaskError, match=r"--compile on: torch.compile failed \(.*no C\+\+ compiler.*--compile off"):
        trained(tmp_path / "on", "mae")
    monkeypatch.setattr("whymask.training.loop.planned", lambda *given: compiling.Plan(True, "long", falls_back=True))
    result = trained(tmp_path / "auto", "mae", "auto")
    assert "not compiled: torch.compile failed (" in capsys.readouterr().err
    assert result["compiled"] == "not compiled: torch.compile failed"
    weights = [(run / "encoder/encoder.safetensors").read_bytes() for run in (tmp_path / "auto", runs / "off")]
    assert weights[0] == weights[1]


def stands_for(model: Any, operations: float, steps: int = 1000, parts: int = 1) -> Any:
    return SimpleNamespace(
        model=model, operations=lambda: operations, steps=steps, batches=SimpleNamespace(parts=parts)
    )


def test_auto_compiles_on_a_gpu_what_earns_it_back() -> None:
    vit, cnn, ijepa = build("mae-vit"), build("mae-cnn"), build("ijepa-vit")
    assert planned("auto", "cpu", stands_for(vit, 1e20)) == compiling.Plan(False)
    assert planned("off", "cuda", stands_for(vit, 1e20)).text == ""
    assert planned("auto", "cuda", stands_for(cnn, 1e20)).text == "not compiled: its forward pass is not one graph"
    assert planned("auto", "cuda", stands_for(vit, 9e15)).text.startswith("not compiled: 9.0e+15 operations, fewer")
    large = planned("auto", "cuda", stands_for(vit, 1e18, steps=1000))
    assert large.compiles and large.falls_back and not large.graphs
    small = planned("auto", "cuda", stands_for(vit, 1e18, steps=10**7))
    assert small.graphs and small.text.startswith("compiled with CUDA graphs: 1.0e+18 operations, which earn")
    for other in (stands_for(ijepa, 1e18, steps=10**7), stands_for(vit, 1e18, steps=10**7, parts=2)):
        assert planned("auto", "cuda", other).compiles and not planned("auto", "cuda", other).graphs
    ranged = build("mae-vit", mask_ratio=(0.5, 0.8))
    assert vit.draws_alike and not ranged.draws_alike and not ijepa.draws_alike
    assert Classifier(vit.encoder, 3).is_one_graph and not Classifier(build("simmim-swin").encoder, 3).is_one_graph


def test_what_a_cuda_graph_gave_is_kept_apart() -> None:
    """The next step writes over it."""
    model, loss = build("mae-vit"), torch.ones(())
    for graphs in (False, True):
        kept = compiling.Compiled(model, compiling.Plan(True, "long", graphs)).kept({"loss": loss})["loss"]
        assert (kept.data_ptr() != loss.data_ptr()) is graphs
