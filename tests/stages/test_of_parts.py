"""A run that was trained on tiles: what starts from it sees tiles, and its worth is said as when it was trained."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import whymask
from tiny import runtime
from whymask import FinetuneSettings, WhymaskError
from whymask.data.inherited import check_inherited, inherited_text
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.disk import read_arrays, write_arrays
from whymask.encoders import EncoderSettings, load_encoder
from whymask.stages.like import settings_like
from whymask.stages.settings import FinetuneTrainingSettings

RUNTIME = runtime()
SEEN = Preprocessing((8, 8), (8, 8), 3, tile=8, overlap=2)
FLAGS = "--tile 8 --overlap 2"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six files, each of four tiles."""
    root, random = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)
    for name in ("ant", "bee"):
        (root / name).mkdir()
        for number in range(6):
            Image.fromarray(random.integers(0, 255, (14, 14, 3), dtype=np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def trained(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out, training = tmp_path_factory.mktemp("tiled") / "run", FinetuneTrainingSettings(epochs=1, batch_size=8)
    data = DataSettings(tile=8, overlap=2, size=8)
    settings = FinetuneSettings(data=data, encoder=EncoderSettings("cnn", width=4), training=training, runtime=RUNTIME)
    whymask.finetune(photos, out=out, settings=settings)
    return out


def said_by(command: Any, capsys: Any, *given: Any, **named: Any) -> str:
    capsys.readouterr()
    command(*given, runtime=RUNTIME, **named)
    return str(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"frames": "all"}, "by --frames first, and --frames all was given; leave --frames out"),
        ({"tile": 4}, "by --tile 8, and --tile 4 was given; leave --tile out"),
        ({"tile": 4, "overlap": 1}, "by --tile 8 --overlap 2, and --tile 4 --overlap 1 was given"),
        ({"alpha": "white"}, "by --alpha drop, and --alpha white was given"),
        ({"size": 9}, "images of 8x8 pixels and 3 channels; leave --size"),
    ],
)
def test_what_a_network_does_not_see_cannot_be_asked_for(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(WhymaskError, match=f"^the runs see images .*{said}" if "size" not in asked else said):
        check_inherited(DataSettings(**asked), SEEN, "the runs see")


def test_what_a_network_sees_may_be_given_or_left_out_and_is_said_where_it_is_unusual() -> None:
    for asked in ({}, {"tile": 8}, {"tile": 8, "overlap": 2, "size": 8, "channels": 3}):
        check_inherited(DataSettings(**asked), SEEN, "the runs see")
    assert inherited_text(SEEN, "runs/a") == [f"images are seen as by runs/a: {FLAGS}"]
    assert inherited_text(Preprocessing((8, 8), (8, 8), 3), "runs/a") == []


def test_what_goes_on_from_a_run_says_its_tiles_and_refuses_others(
    trained: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    said = said_by(whymask.probe, capsys, photos, out=tmp_path / "p", origin=str(trained), neighbours=3)
    assert f"images are seen as by {trained}: {FLAGS}\n" in said
    assert "12 files are 48 images: their tiles" in said
    with pytest.raises(WhymaskError, match=f"--from {trained} sees images by --tile 8, and --tile 4 was given"):
        whymask.probe(photos, out=tmp_path / "q", origin=str(trained), tile=4, runtime=RUNTIME)
    said = said_by(whymask.embed, capsys, trained, photos, out=tmp_path / "f.parquet")
    assert f": {FLAGS}\n" in said


def test_from_scratch_like_a_run_sees_the_same_tiles(trained: Path) -> None:
    data = settings_like(FinetuneSettings(like=str(trained))).data
    assert (data.tile, data.overlap, data.size) == (8, 2, 8)
    assert load_encoder(trained).transform.tile == 8


def test_what_a_network_of_tiles_is_worth_is_said_alike_when_it_is_trained_and_used(
    trained: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    """Tiles of a file depend on each other: what is counted among them has no Wilson interval."""
    settings = FinetuneSettings(like=str(trained), runtime=RUNTIME)
    told = said_by(whymask.finetune, capsys, photos, out=tmp_path / "run", settings=settings)
    said = said_by(whymask.predict, capsys, tmp_path / "run", photos, out=tmp_path / "p.csv")
    (line,) = re.findall(r"  accuracy .*? in \d groups; [^;]*", told)
    assert line in said and said.count(" groups; ") == 2
    assert "a file's confidence is the mean of its parts' and not calibrated" in said
    with pytest.raises(WhymaskError, match="--confidence 2"):
        whymask.predict(tmp_path / "run", photos, out=tmp_path / "p.csv", confidence=2.0, runtime=RUNTIME)


def test_a_run_of_before_that_does_not_tell_its_groups_has_no_interval(
    trained: Path, photos: Path, tmp_path: Path, capsys: Any
) -> None:
    kept = read_arrays(trained / "predictions.npz")
    assert len(np.unique(kept.pop("groups"))) * 4 == len(kept["labels"])
    (trained / "predictions.npz").rename(tmp_path / "as it was")
    write_arrays(trained / "predictions.npz", kept)
    said = said_by(whymask.predict, capsys, trained, photos, out=tmp_path / "p.csv")
    (tmp_path / "as it was").replace(trained / "predictions.npz")
    assert "test images; no interval" in said and "95 %" not in said
