"""Probing: what a frozen encoder's features tell, by nearest neighbours and by a linear model."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from whymask.data.batches import in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder
from whymask.progress import Steps
from whymask.stages.probe_dense import dense_predictions

BATCH = 256


@torch.inference_mode()
def features_of(encoder: Encoder, prepared: Prepared, rows: np.ndarray, label: str = "") -> np.ndarray:
    """Pooled features float32 (n, D) of `rows`, without augmentation; the encoder is put into eval mode. With a `label`
    it is told how far that is."""
    encoder.eval()
    device = next(encoder.parameters()).device
    features: list[torch.Tensor] = []
    with Steps(label, len(rows), quiet=not label, unit="image") as bar:
        for batch in in_order(prepared.images, rows, BATCH, device):
            features.append(encoder.pool(encoder(batch.images)).float().cpu())
            bar.update(min(BATCH * len(features), len(rows)))
    return torch.cat(features).numpy()


def probe_encoder(encoder: Encoder, prepared: Prepared, rows: np.ndarray, neighbours: int, seed: int) -> dict[str, Any]:
    """Metrics on the test images of the two models of `probe_predictions`, as result.json has them."""
    return probe_result(prepared, rows, probe_predictions(encoder, prepared, rows, neighbours), encoder.dim, seed)


def probe_predictions(
    encoder: Encoder, prepared: Prepared, rows: np.ndarray, neighbours: int, kinds: Sequence[str] = ("knn", "linear")
) -> dict[str, np.ndarray]:
    """The task's predictions (n, k) of the test images, by models that see the features and labels of `rows` alone:
    "knn", of as many `neighbours` (fewer where there are fewer images), and "linear". What they are is the task's to
    say; of a dense one they are of positions (see `probe_dense`).

    Standardising features is MAE's batch norm without parameters, with the whole training set's statistics. Both are
    exact, whatever the batches that features are computed in; `finetune --train head` is the same linear model trained
    in batches, with augmentation.
    """
    task, labels = prepared.task, prepared.images.labels[rows]

    def nearest(train: np.ndarray, labels: np.ndarray, test: np.ndarray) -> np.ndarray:
        return task.nearest(train, labels, test, min(neighbours, len(train)))

    models = {kind: {"knn": nearest, "linear": task.linear}[kind] for kind in kinds}
    if task.is_dense:
        return dense_predictions(encoder, prepared, rows, models)
    train, test = (features_of(encoder, prepared, r, "features") for r in (rows, prepared.test))
    return {kind: model(train, labels, test) for kind, model in models.items()}


def probe_result(
    prepared: Prepared, rows: np.ndarray, predictions: dict[str, np.ndarray], dimensions: int, seed: int
) -> dict[str, Any]:
    """What result.json holds of a probe of features of so many `dimensions`."""
    labels = prepared.images.labels[prepared.test]
    about = {"stage": "probe", "seed": seed, "labelled_images": len(rows), "dimensions": dimensions}
    metrics = {kind: prepared.task.metrics(p, labels, prepared.test_tags) for kind, p in predictions.items()}
    return about | metrics
