"""The measures of why: each a file, read from top to bottom."""

from whymask.explanations.measure import Measure
from whymask.explanations.measures.adversarial import ADVERSARIAL
from whymask.explanations.measures.along_training import ALONG_TRAINING
from whymask.explanations.measures.features import FEATURES
from whymask.explanations.measures.interactions import INTERACTIONS
from whymask.explanations.measures.known_views import KNOWN_VIEWS
from whymask.explanations.measures.lottery import LOTTERY
from whymask.explanations.measures.retention import RETENTION
from whymask.explanations.measures.robustness import ROBUSTNESS
from whymask.explanations.measures.views import VIEWS

MEASURES: dict[str, Measure] = {
    "features": FEATURES,
    "views": VIEWS,
    "lottery": LOTTERY,
    "interactions": INTERACTIONS,
    "retention": RETENTION,
    "robustness": ROBUSTNESS,
    "adversarial": ADVERSARIAL,
    "known-views": KNOWN_VIEWS,
    "along-training": ALONG_TRAINING,
}
"""By the names of `ExplainSettings.measures`, in the order of the page."""
