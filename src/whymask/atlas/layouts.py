"""Where images lie on a map, and the clusters that they form."""

from importlib.util import find_spec

import numpy as np

from whymask.atlas.neighbours import unit
from whymask.atlas.settings import Layout
from whymask.choosing.clusters import clusters_of as kmeans
from whymask.errors import WhymaskError

CLUSTERS = 10
"""Where classes do not say how many."""
UMAP_NEIGHBOURS = 15


def check_layout(layout: Layout) -> None:
    """Raise WhymaskError where UMAP is asked for and is not installed."""
    if layout == "umap" and find_spec("umap") is None:
        raise WhymaskError("--layout umap: umap-learn is not installed; pip install 'whymask[map]', or --layout pca")


def places_of(features: np.ndarray, layout: Layout) -> dict[str, np.ndarray]:
    """By the name of each layout the places float (N, 2) of images with features (N, D); PCA, of features of length 1,
    is always there. Both are the same at each call."""
    from sklearn.decomposition import PCA

    directions = unit(features)
    model = PCA(2, svd_solver="randomized", random_state=0) if directions.shape[1] > 2 else PCA(2)
    wide = directions if directions.shape[1] > 1 else np.hstack([directions, np.zeros_like(directions)])
    places = {"PCA": model.fit_transform(wide)}
    if layout != "pca" and find_spec("umap") is not None:
        from umap import UMAP

        near = min(UMAP_NEIGHBOURS, len(features) - 1)
        places["UMAP"] = UMAP(n_neighbors=near, metric="cosine", random_state=0, n_jobs=1).fit_transform(features)
    return places


def clusters_of(features: np.ndarray, classes: int) -> np.ndarray:
    """The cluster of each image (N,), by k-means of features of length 1: as many as `classes`, or CLUSTERS where there
    are fewer than two."""
    return kmeans(unit(features), min(classes if classes > 1 else CLUSTERS, len(features)), 0)
