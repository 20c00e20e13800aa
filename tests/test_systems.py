"""What other systems do otherwise, simulated: nothing here was run on Windows or macOS."""

import errno
import multiprocessing
import os
import re
import stat
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tiny import GLYPHS, runtime
from whymask import Explanation, devices, disk
from whymask.data.batches import Batches
from whymask.data.crops import Augment
from whymask.data.prepare import prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.errors import WhymaskError
from whymask.methods import METHODS
from whymask.studies.cells import Cell
from whymask.studies.settings import INIT, SCRATCH, SCRATCH_LONG
from whymask.tasks import LossConfig, Regression
from whymask.tasks.budgets import parse_budget

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
LONGEST = 120
"""Characters of a path below --out, of the 260 that Windows allows in all unless it is asked for more."""


def fits_windows(name: str) -> bool:
    """Whether a file or folder may be called so there."""
    return not re.search(r'[<>:"/\\|?*\x00-\x1f]|[. ]$', name) and not RESERVED.fullmatch(name)


def test_what_windows_refuses_as_a_name_is_known() -> None:
    assert all(map(fits_windows, ("mae-1percent-0", ".lock", "console.txt", "a.b")))
    assert not any(map(fits_windows, ("mae:0", "NUL", "aux.json", "ends.", "ends ", "a|b", "what?", "com1.txt")))


# Windows ---------------------------------------------------------------------------------------------------


def test_where_no_folder_can_be_opened_files_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def open_file(path: Any, *arguments: Any) -> int:
        assert Path(path).is_dir()
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(disk.os, "open", open_file)
    write_json(tmp_path / "new" / "a.json", [1])
    assert read_json(tmp_path / "new" / "a.json") == [1]


@pytest.mark.parametrize(("number", "is_told"), [(errno.EINVAL, False), (errno.EIO, True)])
def test_a_disk_that_syncs_no_folder_is_written_to_and_one_that_fails_is_told(
    number: int, is_told: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sync = os.fsync

    def of_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        sync(descriptor)

    monkeypatch.setattr(disk.os, "fsync", of_files)
    if is_told:
        with pytest.raises(WhymaskError, match="cannot be written"):
            write_json(tmp_path / "a.json", [1])
    else:
        write_json(tmp_path / "a.json", [1])
    assert read_json(tmp_path / "a.json") == [1]


def test_the_folder_of_every_cell_may_be_called_so_on_windows_too() -> None:
    """Also where a disk takes large and small letters for the same."""
    budgets = [None, *map(parse_budget, ("1", "10", "1%", "0.5%", "100%", "all"))]
    cells = [Cell(arm, budget, 0) for arm, budget in product([*METHODS, SCRATCH, SCRATCH_LONG, INIT], budgets)]
    names = [cell.name for cell in cells]
    assert all(map(fits_windows, names))
    assert len({name.lower() for name in names}) == len(names)


def test_every_file_of_a_study_and_an_explanation_may_be_called_so_on_windows_too(
    finished: Path, explained: Explanation, tmp_path: Path
) -> None:
    prepare(GLYPHS, DataSettings(store=tmp_path))  # into the store of all tests others write meanwhile
    for folder in (finished, explained.folder, tmp_path):
        found = [str(path.relative_to(folder)) for path in folder.rglob("*")]
        assert found and all(fits_windows(part) for path in found for part in Path(path).parts)
        assert len({path.lower() for path in found}) == len(found)
        assert max(map(len, found)) <= LONGEST


def pretrained(out: Path) -> float:
    """Pretrains, as a process of its own."""
    from whymask import EncoderSettings, PretrainTrainingSettings, pretrain

    training = PretrainTrainingSettings(epochs=1, batch_size=64)
    pretrain(GLYPHS, out=out, encoder=EncoderSettings(width=4), training=training, runtime=runtime())
    return float(read_json(out / "result.json")["steps"])


def test_a_process_that_was_spawned_and_not_forked_pretrains(tmp_path: Path) -> None:
    """As processes begin on Windows and macOS: with nothing but what they are given."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(pretrained, (tmp_path / "run",)) > 0


# macOS -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "best"), [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")]
)
def test_auto_takes_the_gpu_that_is_there(there: tuple[str, ...], best: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert devices.best_device() == best
    for device in ("cuda", "mps"):
        if device in there:
            devices.check_device(device)
            with pytest.raises(WhymaskError, match=r"--devices 2 was given, but PyTorch sees 1 GPU.* Use --devices 1"):
                devices.check_device(device, 2)
        else:
            with pytest.raises(WhymaskError, match=rf"--device {device} .*sees no GPU.* Use --device {best}\."):
                devices.check_device(device)


class NoDoubles(TorchDispatchMode):
    """As on MPS: no number of 64 bits lies on a device that is not the CPU; "meta" stands for it."""

    def __torch_dispatch__(self, what: Any, types: Any, given: Any = (), named: Any = None) -> Any:
        made = what(*given, **(named or {}))
        for tensor in made if isinstance(made, list | tuple) else [made]:
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                assert tensor.dtype != torch.float64, f"{what} makes a float64"
        return made


@pytest.mark.parametrize("labels", [np.arange(8), np.linspace(0, 1, 16).reshape(8, 2)], ids=["classes", "targets"])
def test_no_batch_holds_doubles_which_mps_does_not_know(labels: np.ndarray) -> None:
    prep = Preprocessing((8, 8), (10, 10), 1, 0.0, 255.0, (0.5,), (0.25,))
    images: Any = SimpleNamespace(images=np.zeros((8, 10, 10, 1), np.uint8), labels=labels, preprocessing=prep)
    with pytest.raises(AssertionError, match="float64"), NoDoubles():
        torch.zeros(2, dtype=torch.float64).to("meta")
    loss = Regression(("a", "b")).objective(np.random.default_rng(0).normal(size=(8, 2)), LossConfig(bins=3))
    with NoDoubles():
        for augment in (None, Augment()):
            batch = Batches(images, np.arange(8), batch_size=4, seed=0, augment=augment, device="meta")(0)
            assert batch.images.shape == (4, 1, 8, 8) and batch.images.device.type == "meta"
        if labels.ndim == 2:
            outputs = torch.zeros(4, loss.width, device="meta")
            assert loss.to("meta")(outputs, batch.labels).dtype == torch.float32


def test_mps_is_named_where_the_device_is_asked_for(whymask: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert whymask("pretrain", "--help-all") == 0
    assert "mps, that of an Apple Mac" in " ".join(capsys.readouterr().out.replace("│", " ").split())
