"""Which augmentation a data set gets when none is named."""

from whymask.data.crops import Augment
from whymask.data.own_augment import OwnAugment
from whymask.functions import is_named, named
from whymask.stages.settings import AugmentName


def resolve_augment(name: AugmentName, source: str) -> AugmentName:
    """The name that "auto" stands for with data from `source` (its name)."""
    if name != "auto":
        return name
    return "none" if source.split(":")[0] == "glyphs" else "crop-flip"


def augment_of(name: AugmentName) -> Augment | OwnAugment | None:
    """The augmentation of a resolved name; None is the centre crop of evaluation. Raises WhymaskError for a function
    that there is not."""
    if is_named(name):
        return OwnAugment(name, named(name, f"--augment {name}", "a function of an image"))
    return {"none": None, "crop": Augment(flip=False), "crop-flip": Augment()}[name]
