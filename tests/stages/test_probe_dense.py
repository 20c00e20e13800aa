"""What single positions of a frozen encoder's map tell of the classes of pixels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import KNeighborsClassifier

from tiny import bars
from whymask.data.batches import in_order
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders import Encoder, EncoderSettings, build_encoder, resolve
from whymask.stages import probe_dense
from whymask.stages.probe import probe_predictions
from whymask.stages.probe_dense import _classes
from whymask.tasks.label_map_counts import IGNORED, counts_of


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(bars("segmentation"), DataSettings())


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    asked = EncoderSettings("vit", width=16, depth=1, heads=1, patch=2)
    return build_encoder(resolve(asked, (16, 16), 1), (16, 16), 1, 0)


def test_a_position_is_of_the_commonest_class_of_its_pixels_that_count() -> None:
    maps = torch.from_numpy(np.random.default_rng(0).choice([0, 1, 2, IGNORED], (3, 8, 12), p=[0.2, 0.2, 0.2, 0.4]))
    found = _classes(maps, 3, (4, 4))
    for image, row, column in np.ndindex(3, 4, 4):
        pixels = maps[image, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3].flatten()
        counts = np.bincount(pixels[pixels != IGNORED], minlength=3)
        assert found[image, row, column] == (counts.argmax() if counts.any() else -1)


def test_neighbours_are_scikit_learns_and_their_answers_are_brought_to_pixels(
    encoder: Encoder, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = prepared.train[:10]
    found = probe_predictions(encoder, prepared, rows, 5)

    def positions(of: np.ndarray) -> tuple[np.ndarray, torch.Tensor]:
        batch = next(in_order(prepared.images, of, 1000, targets="maps"))
        with torch.inference_mode():
            return encoder.rows(encoder(batch.images)).flatten(0, 1).numpy(), batch.labels

    (train, maps), (test, true) = positions(rows), positions(prepared.test)
    model = KNeighborsClassifier(5, metric="cosine", weights="distance").fit(train, _classes(maps, 4, (8, 8)).flatten())
    shares = np.full((len(test), 4), 1e-3)
    shares[:, model.classes_] += model.predict_proba(test)
    logits = torch.from_numpy(np.log(shares / shares.sum(axis=1, keepdims=True))).float()
    maps_of = F.interpolate(logits.view(-1, 8, 8, 4).movedim(-1, 1), size=(16, 16), mode="bilinear").argmax(1)
    expected = counts_of(maps_of, true, 4).numpy()
    assert (np.abs(found["knn"] - expected).sum(axis=1) > 8).mean() < 0.1  # ties of distances in float32
    labels = prepared.images.labels[prepared.test]
    knn, linear = (prepared.task.metrics(found[kind], labels)["mean_iou"] for kind in ("knn", "linear"))
    assert min(knn, linear) > prepared.chance["mean_iou"]
    monkeypatch.setattr(probe_dense, "AT_ONCE", 64 * 32)
    parts = probe_predictions(encoder, prepared, rows, 5, ["knn"])
    assert np.abs(parts["knn"] - found["knn"]).sum() <= 0.01 * found["knn"].sum()
