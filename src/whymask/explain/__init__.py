"""Why pretraining helped: measures of what networks captured, each a function of networks and images."""

from whymask.explain.explanation import Explanation
from whymask.explain.run import explain
from whymask.explain.settings import ExplainSettings

__all__ = ["ExplainSettings", "Explanation", "explain"]
