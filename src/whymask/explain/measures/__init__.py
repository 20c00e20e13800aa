"""The measures of why: each a file, read from top to bottom."""

from whymask.explain.measure import Measure
from whymask.explain.measures.features import FEATURES
from whymask.explain.measures.interactions import INTERACTIONS
from whymask.explain.measures.lottery import LOTTERY
from whymask.explain.measures.retention import RETENTION
from whymask.explain.measures.robustness import ROBUSTNESS
from whymask.explain.measures.views import VIEWS

MEASURES: dict[str, Measure] = {
    "features": FEATURES,
    "views": VIEWS,
    "lottery": LOTTERY,
    "interactions": INTERACTIONS,
    "retention": RETENTION,
    "robustness": ROBUSTNESS,
}
"""By the names of `ExplainSettings.measures`, in the order of the page."""
