"""k-means whose bits do not depend on the order in which threads end."""

import numpy as np

from whymask.randomness import derive

MOST_AT_ONCE = 10_000_000
"""Distances of images to centres in a step of Lloyd's; of more, the centres move by batches."""
BATCH = 5_000


def clusters_of(features: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster, a number below `count`, of each of (n, D): (n,). Fewer clusters than `count` may have members."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from threadpoolctl import threadpool_limits

    distinct = len(np.unique(features, axis=0)) if len(features) <= BATCH else len(features)
    count = min(count, distinct)
    settings = {"n_clusters": count, "random_state": derive(seed, "choose", "clusters") % 2**32, "n_init": 1}
    if len(features) * count > MOST_AT_ONCE:
        model = MiniBatchKMeans(**settings, batch_size=BATCH)
    else:
        model = KMeans(**settings)
    with threadpool_limits(1):  # else sums are added in the order in which threads end
        return model.fit_predict(features)
