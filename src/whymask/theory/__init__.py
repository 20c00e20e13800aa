"""The theory lab: the two-layer model in which mask-reconstruction pretraining provably helps, as an experiment."""

from whymask.theory.data import Batch, Distribution, MultiView, Samples
from whymask.theory.descent import CommonClock, OwnClock, Training, horizon_of
from whymask.theory.lab import Lab
from whymask.theory.measures import accuracy, captured, largest_overlap, overlaps, second_to_first
from whymask.theory.network import Network, SmoothedReLU
from whymask.theory.objectives import CrossEntropy, Objective, PixelReconstruction, TeacherStudent
from whymask.theory.regime import Regime
from whymask.theory.run import theory
from whymask.theory.settings import TheorySettings

__all__ = [
    "Batch",
    "CommonClock",
    "CrossEntropy",
    "Distribution",
    "Lab",
    "MultiView",
    "Network",
    "Objective",
    "OwnClock",
    "PixelReconstruction",
    "Regime",
    "Samples",
    "SmoothedReLU",
    "TeacherStudent",
    "TheorySettings",
    "Training",
    "accuracy",
    "captured",
    "horizon_of",
    "largest_overlap",
    "overlaps",
    "second_to_first",
    "theory",
]
