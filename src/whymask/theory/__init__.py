"""The theory lab: the two-layer model in which mask-reconstruction pretraining provably helps, as an experiment."""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "data": ["Sample", "Distribution", "MultiView", "Samples"],
        "descent": ["CommonClock", "OwnClock", "MiniBatchDescent", "horizon_of"],
        "lab": ["Lab"],
        "measures": ["accuracy", "captured", "largest_overlap", "overlaps", "second_to_first"],
        "network": ["Network", "SmoothedReLU"],
        "objectives": ["CrossEntropy", "Objective", "PixelReconstruction", "TeacherStudent"],
        "regime": ["Regime"],
        "run": ["theory"],
        "settings": ["TheorySettings"],
    },
)

if TYPE_CHECKING:
    from whymask.theory.data import Distribution as Distribution
    from whymask.theory.data import MultiView as MultiView
    from whymask.theory.data import Sample as Sample
    from whymask.theory.data import Samples as Samples
    from whymask.theory.descent import CommonClock as CommonClock
    from whymask.theory.descent import MiniBatchDescent as MiniBatchDescent
    from whymask.theory.descent import OwnClock as OwnClock
    from whymask.theory.descent import horizon_of as horizon_of
    from whymask.theory.lab import Lab as Lab
    from whymask.theory.measures import accuracy as accuracy
    from whymask.theory.measures import captured as captured
    from whymask.theory.measures import largest_overlap as largest_overlap
    from whymask.theory.measures import overlaps as overlaps
    from whymask.theory.measures import second_to_first as second_to_first
    from whymask.theory.network import Network as Network
    from whymask.theory.network import SmoothedReLU as SmoothedReLU
    from whymask.theory.objectives import CrossEntropy as CrossEntropy
    from whymask.theory.objectives import Objective as Objective
    from whymask.theory.objectives import PixelReconstruction as PixelReconstruction
    from whymask.theory.objectives import TeacherStudent as TeacherStudent
    from whymask.theory.regime import Regime as Regime
    from whymask.theory.run import theory as theory
    from whymask.theory.settings import TheorySettings as TheorySettings
