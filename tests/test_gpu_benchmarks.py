"""The rows of the GPU run on a CPU at tiny sizes, by the same code; and what hangs, dies or is wrong is given up."""

import json
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
HANGS = 3000.0
"""Seconds that nothing here takes, however busy the machine is."""


@pytest.fixture(scope="module", autouse=True)
def from_the_repository() -> Any:
    """`benchmarks` lies at the root and is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield


@pytest.fixture(scope="module")
def run(from_the_repository: None) -> Any:
    return import_module("benchmarks.gpu.run")


@pytest.fixture(scope="module")
def rows() -> Any:
    return import_module("benchmarks.gpu.catalogue").ROWS


@pytest.fixture(scope="module")
def place() -> Any:
    scale, places = import_module("benchmarks.gpu.scale"), import_module("benchmarks.gpu.place")
    return places.Place(torch.device("cpu"), scale.TINY)


# All rows, by the process that measures them


@pytest.fixture(scope="module")
def written(run: Any, rows: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What `python -m benchmarks --device cuda` writes, but of a CPU and tiny."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "STARTING", HANGS)
        patch.setattr(type(rows["demo"]), "limit", HANGS)
        run.measure(import_module("benchmarks.gpu.catalogue").GROUPS, out, quick=True, device="cpu", total=HANGS)
    return json.loads(out.read_text())


def test_every_row_is_checked_and_measured(written: dict[str, Any], rows: Any) -> None:
    absent = set() if find_spec("lightly") else {"lightly-large"}
    assert set(written["given_up"]) == absent and set(written["rows"]) == set(rows) - absent
    assert written["device"] == "CPU" and written["torch"] == torch.__version__
    for name, row in written["rows"].items():
        assert row["value"] > 0 and row["checked"] and row["about"], name


def test_rates_stand_beside_each_other_and_beside_the_products(written: dict[str, Any]) -> None:
    rows = written["rows"]
    counted = {name for name, row in rows.items() if row["share"] is not None}
    ours = {"mae-large", "mae-large-compiled", "mae-small", "mae-small-compiled", "mae-resnet", "spark-resnet"}
    assert counted == ours
    step = rows["mae-large"]
    assert step["share"] == pytest.approx(step["value"] * step["operations"] / rows["bf16-product"]["value"] / 1e12)
    assert step["ratio"] == pytest.approx(step["value"] / rows["vitmae-large"]["value"])
    assert {name for name, row in rows.items() if row["wait"] is not None} == {
        *("mae-large-loop", "mae-large-store", "mae-small-loop", "mae-small-loop-128")
    }


def test_on_an_h100_all_rows_are_expected_to_end_in_time(rows: Any) -> None:
    catalogue = import_module("benchmarks.gpu.catalogue")
    assert catalogue.START + sum(rows[name].seconds for name in catalogue.chosen(())) <= catalogue.TOTAL <= 350
    assert {row.group for row in rows.values()} == set(catalogue.GROUPS) > set(catalogue.DEFAULT)
    assert all(row.beside in rows for row in rows.values() if row.beside)
    names = import_module("benchmarks.gpu.rows")
    assert all(callable(getattr(names, row.call)) for row in rows.values())


def test_rows_are_chosen_by_group_or_name_with_the_products(run: Any, tmp_path: Path) -> None:
    chosen = import_module("benchmarks.gpu.catalogue").chosen
    products = ["bf16-product", "fp32-product"]
    assert chosen(("commands",)) == [*products, "demo", "theory"] and chosen(("mae-small",)) == [*products, "mae-small"]
    with pytest.raises(SystemExit, match="nothing: no rows; choose among products, large"):
        run.measure(("nothing",), tmp_path / "bench.json")


# What goes wrong

BEGIN = """
import json, os, sys, time
def tell(**about):
    print(json.dumps(about), flush=True)
def figures(name):
    tell(begins=name)
    tell(figures={"value": 1.0, "unit": "s", "checked": ["it"], "operations": None, "memory": None, "wait": None})
tell(device="a stand-in", torch="none")
for name in sys.argv[1:]:
"""


def measured(run: Any, folder: Path, code: str, names: Sequence[str], done: Any = lambda name: None) -> Any:
    """What is found where `code` is what the measuring process does of each `name`; `done` hears of each."""

    def command(waiting: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", f"{BEGIN}    {code}", *waiting]

    found, told = run.Found(), []
    for name in run.rows_within(names, command, found, folder / "log", HANGS):
        told.append(name)
        done(name)
    assert told == list(names)
    return found


def test_a_row_that_hangs_or_dies_is_given_up_and_the_others_are_measured(
    run: Any, rows: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "STARTING", HANGS)
    monkeypatch.setattr(type(rows["demo"]), "limit", property(lambda row: 0.4 if row == rows["mae-large"] else HANGS))
    hangs = f"time.sleep({HANGS}) if name == 'mae-large' and not tell(begins=name) else None; "
    dies = "os.kill(os.getpid(), 9) if name == 'demo' and not tell(begins=name) else None; "
    places = f"open({str(tmp_path / 'places')!r}, 'a').write(os.environ['TMPDIR'] + ' ')"
    scratch = f"open(os.environ['TMPDIR'] + '/left', 'w'); {places}; "
    code = scratch + hangs + dies + "figures(name)"
    found = measured(run, tmp_path, code, ["bf16-product", "mae-large", "demo", "theory"])
    assert not any(Path(place).exists() for place in (tmp_path / "places").read_text().split())
    assert list(found.rows) == ["bf16-product", "theory"] and found.device == "a stand-in"
    assert found.given_up == {"mae-large": "given up after 0 s", "demo": "its process ended with -9"}


def test_a_failed_check_is_told_and_costs_no_new_process(run: Any, tmp_path: Path) -> None:
    fails = "tell(begins=name) or tell(why=f'its check failed in {os.getpid()}')"
    found = measured(run, tmp_path, fails, ["mae-large", "demo"])
    first, second = found.given_up.values()
    assert first == second and "its check failed" in first


def test_all_ends_in_time(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on when a row is done: then little is left, and then nothing."""
    at, later = [0.0], iter((HANGS - 0.4, HANGS, HANGS, HANGS))
    monkeypatch.setattr(run, "time", SimpleNamespace(monotonic=lambda: at[-1]))
    monkeypatch.setattr(run, "STARTING", HANGS)
    monkeypatch.setattr(run, "FEWEST", 0.1)
    slow = f"figures(name) if name == 'bf16-product' else tell(begins=name) or time.sleep({HANGS})"
    names = ["bf16-product", "mae-large", "demo", "theory"]
    found = measured(run, tmp_path, slow, names, done=lambda name: at.append(next(later)))
    assert list(found.rows) == ["bf16-product"] and found.given_up["mae-large"] == "given up after 0 s"
    assert found.given_up["demo"] == found.given_up["theory"] == "no time was left of 3000 s"


def test_a_process_that_never_comes_up_is_not_waited_for(run: Any, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such thing')"]
    found = run.Found()
    assert len(list(run.rows_within(["demo", "theory"], lambda names: command, found, tmp_path / "log", HANGS))) == 2
    assert set(found.given_up.values()) == {"its process ended with 1"}
    assert (tmp_path / "log").read_text().count("no such thing") == 2


def test_without_a_gpu_it_says_so(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, told = import_module("benchmarks.gpu.worker"), tmp_path / "told"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with told.open("w") as lines:
        worker.main("cuda", "full", ["demo"], lines)
    assert "PyTorch sees no GPU" in json.loads(told.read_text())["impossible"]
    with pytest.raises(SystemExit, match="no GPU"):
        measured(run, tmp_path, "tell(impossible='no GPU')", ["demo"])


# Checks find what is wrong


def test_a_wrong_masked_norm_a_leak_and_a_wrong_loss_are_found(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    checks, steps = import_module("benchmarks.gpu.checks"), import_module("benchmarks.gpu.steps")
    network = place.scale.cnn
    model, images = steps.method_on(network, "mae"), steps.random_images(network, 4)
    (hidden,) = steps.masks_of(model, 0)(0, 4, slice(None))
    assert checks.norms_agree(place, model, steps.our_loss, images, hidden)
    with monkeypatch.context() as patch, pytest.raises(checks.CheckError, match="masked norms"):
        sums = checks.masked_norm.by_sums
        patch.setattr(checks.masked_norm, "by_sums", lambda x, visible, norm: 1.1 * sums(x, visible, norm))
        checks.norms_agree(place, model, steps.our_loss, images, hidden)

    class Blind(torch.nn.Module):
        unit = model.encoder.unit

        def forward(self, images: Any, hidden: Any) -> Any:
            return images

    with pytest.raises(checks.CheckError, match="hidden pixels"):
        checks.hidden_is_unseen(place, Blind(), images, hidden)
    calls = iter(range(3))
    with pytest.raises(checks.CheckError, match="loss off the CPU's by"):
        checks.same_loss(place, model, lambda *given: torch.tensor(1.0 + 0.1 * next(calls)), images)
    with pytest.raises(checks.CheckError, match="nan"):
        checks.check("it is", float("nan"), 1)


def test_a_loops_rate_is_that_behind_its_start() -> None:
    """10 steps of 100 images in 10 s, of which 5 waiting; then 20 in 2 s without."""
    steady = import_module("benchmarks.gpu.wholes").steady
    lines = [
        {"step": step, "images_per_second": 100 * step / seconds, "data_wait": 5 / seconds}
        for step, seconds in ((5, 9), (10, 10), (20, 11), (30, 12))
    ]
    assert steady(lines, 100) == (pytest.approx(1000), pytest.approx(0))
    assert steady(lines[:1], 100) == (lines[0]["images_per_second"], lines[0]["data_wait"])


# What a bare machine lacks


def test_what_is_lacking_is_found_by_way_of_what_is_there() -> None:
    wheels = import_module("benchmarks.wheels")
    installed = {"there": ["lost>=1", "more; extra == 'all'", "old; python_version < '3'"], "known": None}

    def requires(name: str) -> list[str] | None:
        if name not in installed:
            raise PackageNotFoundError(name)
        return installed[name]

    found = wheels.closure(["There>=2", "known", "Gone_too"], requires)
    assert found == {"there": True, "known": True, "lost": False, "gone-too": False}
    assert wheels.lacking() == [] and {"torch", "tyro", "transformers"} <= set(wheels.closure(wheels.needed()))
    assert wheels.locked()["tyro"] and "tyro" in wheels.told(["tyro==1"])
