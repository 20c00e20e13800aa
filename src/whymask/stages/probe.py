"""Probing: what a frozen encoder's features tell, by nearest neighbours and by a linear model."""

from typing import Any

import numpy as np
import torch

from whymask.data.batches import in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder

BATCH = 256


@torch.inference_mode()
def features_of(encoder: Encoder, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Pooled features float32 (n, D) of `rows`, without augmentation; the encoder is put into eval mode."""
    encoder.eval()
    device = next(encoder.parameters()).device
    batches = in_order(prepared.images, rows, BATCH, device)
    return torch.cat([encoder.pool(encoder(batch.images)).float().cpu() for batch in batches]).numpy()


def probe_encoder(encoder: Encoder, prepared: Prepared, rows: np.ndarray, neighbours: int, seed: int) -> dict[str, Any]:
    """Metrics on the test images of two models that see the features and labels of `rows` alone: "knn", of as many
    `neighbours` (fewer where there are fewer images), and "linear". What they are is the task's to say.

    Standardising features is MAE's batch norm without parameters, with the whole training set's statistics. Both are
    exact, whatever the batches that features are computed in; `finetune --train head` is the same linear model trained
    in batches, with augmentation.
    """
    task, labels = prepared.task, prepared.images.labels
    train, test = (features_of(encoder, prepared, r) for r in (rows, prepared.test))
    knn = task.nearest(train, labels[rows], test, min(neighbours, len(rows)))
    linear = task.linear(train, labels[rows], test)
    return {
        "stage": "probe",
        "seed": seed,
        "labelled_images": len(rows),
        "dimensions": train.shape[1],
        "knn": task.metrics(knn, labels[prepared.test], prepared.test_tags),
        "linear": task.metrics(linear, labels[prepared.test], prepared.test_tags),
    }
