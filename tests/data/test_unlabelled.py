"""`--labels none`: images are unlabelled, whatever their folders or files say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from packed import png, write_tar
from tiny import GLYPHS
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import NO_LABELS, DataSettings
from whymask.data.sources import open_asked, open_source
from whymask.errors import WhymaskError

DAYS = ("2023-01", "2023-02", "2024-05")
HINT = "; where these are no labels, give --labels none"


def photos(root: Path, folders: tuple[str, ...] = DAYS, each: int = 4) -> Path:
    """A folder with a subfolder a day, no two images alike."""
    random = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(each):
            Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(root / folder / f"{number}.png")
    return root


def of_day(root: Path) -> str:
    return str(photos(root / "d"))


def of_csv(root: Path) -> str:
    photos(root / "d", ("x",))
    (root / "l.csv").write_text("path,label\n" + "".join(f"d/x/{n}.png,{'ab'[n % 2]}\n" for n in range(4)))
    return str(root / "l.csv")


def of_table(root: Path) -> str:
    of_csv(root)
    (root / "l.csv").rename(root / "d" / "l.csv")
    (root / "d" / "l.csv").write_text((root / "d" / "l.csv").read_text().replace("d/x", "x"))
    return str(root / "d")


def of_maps(root: Path) -> str:
    photos(root / "d", ("images",))
    (root / "d" / "masks").mkdir()
    for number in range(4):
        Image.fromarray(np.full((12, 12), number % 2, np.uint8)).save(root / "d" / "masks" / f"{number}.png")
    return str(root / "d")


def of_arrays(root: Path) -> Any:
    return np.random.default_rng(0).integers(0, 256, (4, 12, 12), dtype=np.uint8), np.arange(4) % 2


def of_tar(root: Path) -> str:
    return str(write_tar(root / "d.tar", {f"{day}/{n}.png": png(n) for n, day in enumerate(DAYS * 2)}))


@pytest.mark.parametrize(
    "given",
    [of_day, of_csv, of_table, of_maps, of_arrays, of_tar, lambda root: GLYPHS, lambda root: open_source(GLYPHS)],
)
def test_no_source_has_labels_then(given: Any, tmp_path: Path) -> None:
    data = given(tmp_path)
    labelled = open_asked(data, DataSettings(store=tmp_path / "s"))
    source = open_asked(data, DataSettings(labels=NO_LABELS, store=tmp_path / "s"))
    assert labelled.labelled.any() and not source.labelled.any() and not source.classes
    assert {*source.keys} == {*labelled.keys} and source.maps is None and source.tags is None
    assert not any("class" in note for note in source.notes)


def prepared(data: Any, tmp_path: Path, said: list[str], needs_labels: bool = False, **settings: Any) -> Prepared:
    config = DataSettings(store=tmp_path / "store", **settings)
    return prepare(data, config, needs_labels=needs_labels, say=said.append)


def test_no_image_is_kept_back_then(tmp_path: Path) -> None:
    said: list[str] = []
    root = of_day(tmp_path)
    assert len(prepared(root, tmp_path, said, labels=NO_LABELS).pool) == 12 and "none of them labelled" in said
    assert len(prepared(root, tmp_path, []).pool) < 12
    with pytest.raises(WhymaskError, match=r"--labels none says that no image .* needs some .* --labels FOLDER\|CSV"):
        prepared(root, tmp_path, [], needs_labels=True, labels=NO_LABELS)


@pytest.mark.parametrize("given", [of_day, of_tar])
def test_it_is_named_where_the_names_of_folders_are_taken_for_labels(given: Any, tmp_path: Path) -> None:
    data, said = given(tmp_path), list[str]()
    prepared(data, tmp_path, said)
    (line,) = [line for line in said if "of them labelled" in line]
    assert line.endswith(f", by the names of their folders{HINT}")
    prepared(data, tmp_path, said, needs_labels=True)
    assert said.count(line.removesuffix(HINT)) == 1


@pytest.mark.parametrize("given", [of_csv, of_table, of_arrays])
def test_it_is_not_where_labels_are_given_otherwise(given: Any, tmp_path: Path) -> None:
    said: list[str] = []
    prepared(given(tmp_path), tmp_path, said, test_share=0.5)
    assert not any("names of their folders" in line for line in said)


def test_it_is_not_where_labelled_images_are_given(tmp_path: Path) -> None:
    said: list[str] = []
    photos(tmp_path / "labelled", ("cat", "dog"))
    prepared(of_day(tmp_path), tmp_path, said, labels=str(tmp_path / "labelled"))
    assert not any("names of their folders" in line or "2023" in line for line in said)


def test_a_folder_that_is_called_so_is_given_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / NO_LABELS, ("cat", "dog"))
    monkeypatch.chdir(tmp_path)
    assert open_asked(of_day(tmp_path), DataSettings(labels=f"./{NO_LABELS}")).classes == ("cat", "dog")
