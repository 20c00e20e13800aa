"""Probing: what a frozen encoder's features tell, by nearest neighbours and by a linear classifier."""

from typing import Any

import numpy as np
import torch

from whymask.data.batches import in_order
from whymask.data.prepare import Prepared
from whymask.encoders import Encoder

BATCH = 256
LEAST_SHARE = 1e-3  # kNN shares of 0 would make the log loss infinite


@torch.inference_mode()
def features_of(encoder: Encoder, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
    """Pooled features float32 (n, D) of `rows`, without augmentation; the encoder is put into eval mode."""
    encoder.eval()
    device = next(encoder.parameters()).device
    batches = in_order(prepared.images, rows, BATCH, device)
    return torch.cat([encoder.pool(encoder(batch.images)).float().cpu() for batch in batches]).numpy()


def probe_encoder(encoder: Encoder, prepared: Prepared, rows: np.ndarray, neighbours: int, seed: int) -> dict[str, Any]:
    """Metrics on the test images of two classifiers that see the features of `rows` alone.

    kNN: cosine distance, `neighbours` votes (fewer where there are fewer images) weighted by 1 / distance. Linear:
    logistic regression on standardised features, L2 penalty 1, to convergence. Standardising is MAE's batch norm
    without parameters, with the whole training set's statistics. Both are exact, whatever the batches that features are
    computed in; `finetune --train head` is the same classifier trained in batches, with augmentation.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = prepared.images.labels
    train, test = (features_of(encoder, prepared, r) for r in (rows, prepared.test))
    knn = KNeighborsClassifier(min(neighbours, len(rows)), metric="cosine", weights="distance")
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    result: dict[str, Any] = {
        "stage": "probe",
        "seed": seed,
        "labelled_images": len(rows),
        "dimensions": train.shape[1],
    }
    for name, classifier in (("knn", knn), ("linear", linear)):
        classifier.fit(train, labels[rows])
        shares = np.full((len(test), len(prepared.classes)), LEAST_SHARE)
        shares[:, classifier.classes_] += classifier.predict_proba(test)
        log_probabilities = np.log(shares / shares.sum(axis=1, keepdims=True))
        result[name] = prepared.task.metrics(log_probabilities, labels[prepared.test], prepared.test_tags)
    return result
