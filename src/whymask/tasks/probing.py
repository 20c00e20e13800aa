"""What the tasks' models of frozen features (`Task.nearest`, `Task.linear`) have in common."""

from typing import Any

LEAST_SHARE = 1e-3
"""Is added to what `Task.nearest` and `Task.linear` find: shares of 0 would make the log loss infinite."""


def by_distance(neighbours: int) -> dict[str, Any]:
    """Arguments of scikit-learn's nearest neighbours."""
    return {"n_neighbors": neighbours, "metric": "cosine", "weights": "distance"}
