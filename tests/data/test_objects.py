"""Objects of other libraries are sources: a frame, a Hugging Face data set and a PyTorch one give the same images."""

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.data.source import Source
from whymask.data.sources import open_source
from whymask.errors import WhymaskError

PIXELS = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3), dtype=np.uint8)
NAMES = ("ant", "bee")
LABELS = [0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0]


class Photos(Dataset[Any]):
    """Images of one form with labels, as torchvision's data sets give them."""

    classes = NAMES

    def __init__(self, form: str = "PIL") -> None:
        self.form = form

    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, index: int) -> Any:
        if index >= len(PIXELS):
            raise IndexError(index)
        made = {"PIL": Image.fromarray, "array": np.asarray, "tensor": lambda x: torch.from_numpy(x).permute(2, 0, 1)}
        return made[self.form](PIXELS[index]), torch.tensor(LABELS[index]) if self.form == "tensor" else LABELS[index]


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    for row, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{row}.png")
    return [str(tmp_path / f"{row}.png") for row in range(len(PIXELS))]


def check(source: Source) -> None:
    assert source.classes == NAMES and source.labels.tolist() == LABELS
    for row, pixels in enumerate(PIXELS):
        assert np.array_equal(np.asarray(source.read(row)), pixels)
    assert len(set(source.keys)) == len(PIXELS)


def test_a_frame_of_paths_is_a_table_of_them(files: list[str], monkeypatch: Any, tmp_path: Path) -> None:
    frame = pd.DataFrame({"path": files, "label": [NAMES[c] for c in LABELS], "patient": range(12)}, index=range(5, 17))
    source = open_source(frame)
    check(source)
    assert source.columns["patient"].tolist() == [str(row) for row in range(12)]
    monkeypatch.chdir(tmp_path)
    check(open_source(frame.assign(path=[Path(file).name for file in files])))


def test_a_frames_empty_cells_and_splits_are_read(files: list[str]) -> None:
    labels = [None, np.nan, *(NAMES[c] for c in LABELS[2:])]
    frame = pd.DataFrame({"file": files, "label": labels, "split": ["train"] * 8 + ["test"] * 4})
    source = open_source(frame)
    assert source.labelled.tolist() == [False] * 2 + [True] * 10
    assert source.splits is not None and source.splits.tolist() == ["train"] * 8 + ["test"] * 4
    several = open_source(frame.assign(label=[["ant", "bee"], ["bee"]] * 6))
    assert several.task.name == "multilabel" and several.labels.tolist() == [[1, 1], [0, 1]] * 6


def test_a_data_set_of_hugging_face_in_memory_and_its_splits(files: list[str]) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(NAMES))})
    table = datasets.Dataset.from_dict({"image": files, "label": LABELS}, features=features)
    check(open_source(table))
    shuffled = open_source(table.select(range(11, -1, -1)))
    assert shuffled.labels.tolist() == LABELS[::-1] and np.array_equal(np.asarray(shuffled.read(0)), PIXELS[11])
    both = datasets.DatasetDict({"train": table.select(range(8)), "test": table.select(range(8, 12))})
    assert open_source(both).splits.tolist() == ["train"] * 8 + ["test"] * 4
    check(open_source(both))


@pytest.mark.parametrize("form", ["PIL", "array", "tensor"])
def test_a_data_set_of_pytorch_whatever_form_its_images_have(form: str) -> None:
    check(open_source(Photos(form)))


def test_the_same_pixels_are_the_same_images_and_others_are_not(tmp_path: Path) -> None:
    stamps = [open_source(Photos(form)).stamp for form in ("array", "PIL", "tensor")]
    assert len(set(stamps)) == 1
    prepared = prepare(Photos(), DataSettings(store=tmp_path))
    assert len(prepared.test) == 6 and prepared.task.names == NAMES
    changed = Photos()
    changed.__class__ = type("Photos", (Photos,), {"__getitem__": lambda self, i: (PIXELS[11 - i], LABELS[i])})
    assert open_source(changed).stamp != stamps[0]


def test_unlabelled_images_alone_are_a_data_set_too() -> None:
    kind = type("Alone", (Photos,), {"__getitem__": lambda self, index: PIXELS[index]})
    assert not open_source(kind()).labelled.any()


def test_what_gives_another_image_each_time_or_has_no_length_is_refused() -> None:
    random = np.random.default_rng(0)
    kind = type("Random", (Photos,), {"__getitem__": lambda self, i: (random.random((8, 8)), LABELS[i])})
    with pytest.raises(WhymaskError, match=r"Random gives another image each time; .* leave out random transforms"):
        open_source(kind())
    with pytest.raises(WhymaskError, match="has no length; a data set with __len__ and __getitem__ was expected"):
        open_source(type("Stream", (IterableDataset,), {"__iter__": lambda self: iter(())})())
