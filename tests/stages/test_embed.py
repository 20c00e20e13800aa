"""Features of images and of their patches: what they are, and that what is held does not grow with the images."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

import whymask
from tiny import bars, new_encoder, runtime
from whymask import FinetuneSettings, WhymaskError, load_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.disk import Table
from whymask.encoders import EncoderSettings
from whymask.encoders.pyramids import map_of
from whymask.stages import applying, embed
from whymask.stages.settings import FinetuneTrainingSettings

IMAGES = bars("regression")["images"][:40]
VIT = EncoderSettings("vit", width=16, depth=3, patch=4)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier on a ViT of three blocks, which sees 16 x 16 pixels as 4 x 4 patches."""
    folder = tmp_path_factory.mktemp("embed") / "run"
    training = FinetuneTrainingSettings(epochs=1, batch_size=16)
    settings = FinetuneSettings(encoder=VIT, training=training, runtime=runtime())
    whymask.finetune(bars("classification"), out=folder, settings=settings)
    return folder


def seen(run: Path) -> tuple[Any, torch.Tensor]:
    encoder = load_encoder(run)
    return encoder, torch.stack([encoder.transform(image) for image in IMAGES])


@pytest.mark.parametrize("layer", [None, 1, 3])
def test_patches_are_positions_row_by_row_from_the_upper_left(run: Path, layer: int | None, tmp_path: Path) -> None:
    frame = whymask.embed(run, IMAGES, out=tmp_path / "f.parquet", patches=True, layer=layer, runtime=runtime())
    encoder, images = seen(run)
    with torch.inference_mode():
        tokens = encoder(images) if layer is None else encoder.outputs(images)[layer - 1]
    expected = tokens[:, encoder.prefix :].numpy()  # (40, 16, 16)
    assert list(frame.columns) == ["path", "row", "column", "features"] and len(frame) == 40 * 16
    np.testing.assert_allclose(np.stack(frame["features"]).reshape(expected.shape), expected, atol=1e-5)
    assert frame["row"].tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + frame["row"].tolist()[:624]
    assert frame["column"].tolist()[:5] == [0, 1, 2, 3, 0] and frame["path"].nunique() == 40
    one = whymask.embed(run, IMAGES[7:8], out=tmp_path / "g.parquet", patches=True, layer=layer, runtime=runtime())
    np.testing.assert_allclose(np.stack(one["features"]), expected[7], atol=1e-5)


def test_pooled_features_of_a_layer_are_the_mean_of_its_patches(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "f.parquet"
    for layer in (None, 2):
        pooled = whymask.embed(run, IMAGES, out=out, layer=layer, runtime=runtime())
        patches = whymask.embed(run, IMAGES, out=out, layer=layer, patches=True, runtime=runtime())
        means = np.stack(patches["features"]).reshape(40, 16, 16).mean(axis=1)
        np.testing.assert_allclose(np.stack(pooled["features"]), means, atol=1e-5)


@pytest.mark.parametrize("name", ["vit", "cnn", "two-layer", "resnet18", "swin_tiny_patch4_window7_224", "beit_base"])
def test_of_every_kind_each_layer_is_a_map_whose_mean_is_what_is_pooled(name: str) -> None:
    own = {"vit": VIT, "cnn": EncoderSettings("cnn", width=4), "two-layer": EncoderSettings("two-layer", width=8)}
    full = "beit_base_patch16_224" if name == "beit_base" else name
    encoder = new_encoder(own.get(name, EncoderSettings(full)), (32, 32), channels=3).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for output, (width, _) in zip(encoder.outputs(images), encoder.config.layers(encoder.size), strict=True):
            found = encoder.as_map(output)
            assert found.ndim == 4 and found.shape[1] == width
            torch.testing.assert_close(found.mean(dim=(2, 3)), encoder.mean_over_positions(output))
        assert map_of(encoder, encoder(images)).shape[2:] == encoder.positions


def test_a_layer_that_is_not_there_is_told_before_an_image_is_read(run: Path, tmp_path: Path) -> None:
    for layer in (0, 4):
        with pytest.raises(WhymaskError, match=f"--layer {layer}: vit has 3 layers; a number from 1 to 3"):
            whymask.embed(run, IMAGES, out=tmp_path / "f.parquet", layer=layer, runtime=runtime())
    assert not list(tmp_path.iterdir())


class Held:
    """How many images were read of which no row is written yet: what is held, at most."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
        """`rows` of each image."""
        self.read = self.written = self.most = 0
        self.rows, prepare, write, add = rows, Preprocessing.__call__, pq.ParquetWriter.write_table, Table.add

        def prepared(how: Preprocessing, raw: Any) -> torch.Tensor:
            self.read += 1
            self.most = max(self.most, self.read - self.written)
            return prepare(how, raw)

        def wrote(writer: Any, table: Any, **given: Any) -> None:
            self.written += len(table) // self.rows
            write(writer, table, **given)

        def added(table: Table, row: Any) -> None:
            self.written += 1
            add(table, row)

        monkeypatch.setattr(Preprocessing, "__call__", prepared)
        monkeypatch.setattr(pq.ParquetWriter, "write_table", wrote)
        monkeypatch.setattr(Table, "add", added)
        monkeypatch.setattr(applying, "BATCH", 4)
        monkeypatch.setattr(embed, "BATCH", 4)


@pytest.mark.parametrize("patches", [False, True])
def test_embedding_holds_a_row_group_and_a_batch(
    patches: bool, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rows = tmp_path / "f.parquet", 16 if patches else 1
    whole = whymask.embed(run, IMAGES, out=out, patches=patches, runtime=runtime())
    held = Held(monkeypatch, rows)
    monkeypatch.setattr(embed, "GROUP", 8 * rows * 64)  # of eight images; of patches a batch is made to fit too
    given = whymask.embed(run, IMAGES, out=out, patches=patches, frame=False, runtime=runtime())
    assert held.read == held.written == 40 and 4 <= held.most <= 12
    file = pq.ParquetFile(out)
    assert file.num_row_groups >= 5 and file.metadata.num_rows == 40 * rows
    assert len(given) == 0 and list(given.columns) == list(whole.columns)
    again = file.read().to_pandas()
    np.testing.assert_allclose(np.stack(again["features"]), np.stack(whole["features"]), atol=1e-6)
    assert again["path"].tolist() == whole["path"].tolist()


def test_predicting_holds_a_batch(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "p.csv"
    whole = whymask.predict(run, IMAGES, out=out, runtime=runtime())
    text = out.read_bytes()
    held = Held(monkeypatch, 1)
    given = whymask.predict(run, IMAGES, out=out, frame=False, runtime=runtime())
    assert held.read == held.written == 40 and 4 <= held.most <= 8
    assert len(given) == 0 and list(given.columns) == list(whole.columns) and len(whole) == 40
    assert out.read_bytes().count(b"\r\n") == text.count(b"\r\n") == 41


def test_what_ends_a_command_leaves_the_file_that_was_there(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def failing(self: Any, images: torch.Tensor) -> np.ndarray:
        calls.append(len(images))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return np.zeros((len(images), 2), np.float32)

    monkeypatch.setattr(applying.Application, "_made", failing)
    monkeypatch.setattr(applying, "BATCH", 4)
    monkeypatch.setattr(embed, "BATCH", 4)
    for command, name in ((whymask.embed, "f.parquet"), (whymask.predict, "p.csv")):
        (tmp_path / name).write_text("before")
        calls.clear()
        with pytest.raises(KeyboardInterrupt):
            command(run, IMAGES, out=tmp_path / name, runtime=runtime())  # type: ignore[operator]
        assert (tmp_path / name).read_text() == "before" and len(calls) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.parquet", "p.csv"]
