"""What goes with a network's weights: how its run saw images. Other is refused, and what is not usual is said."""

from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings, as_sides
from whymask.errors import WhymaskError

CUT = ("alpha", "frames", "tile", "overlap")
"""Of the settings, what else than size and channels says which pixels are an image."""
USUAL = DataSettings()


def check_inherited(asked: DataSettings, seen: Preprocessing, who: str, otherwise: str = "") -> None:
    """Raises WhymaskError where a size, channels, frames, tiles or transparency are asked for that are not those of
    `seen`, a network's own. `who` sees so, as "the runs see"; `otherwise` is what can be done but to leave it out."""
    other = asked.size is not None and as_sides(asked.size) != seen.size
    if other or asked.channels not in (None, seen.channels):
        raise WhymaskError(
            f"{who} images of {seen.size[0]}x{seen.size[1]} pixels and {seen.channels} channels; "
            f"leave --size and --channels out{otherwise}"
        )
    given = [name for name in CUT if getattr(asked, name) not in (getattr(USUAL, name), getattr(seen, name))]
    if given:
        raise WhymaskError(
            f"{who} images by {_flags(seen, given)}, and {_flags(asked, given)} was given; "
            f"leave {' and '.join(f'--{name}' for name in given)} out{otherwise}"
        )


def inherited_text(seen: Preprocessing, run: object) -> list[str]:
    """A line on how images are seen as `run` saw them, where that is not how they usually are; else none."""
    unusual = [name for name in CUT if getattr(seen, name) != getattr(USUAL, name)]
    return [f"images are seen as by {run}: {_flags(seen, unusual)}"] if unusual else []


def _flags(of: DataSettings | Preprocessing, names: list[str]) -> str:
    """ "--tile none --frames all": as they stand on a command line, or would if they were not left out."""
    return " ".join(f"--{name} {'none' if (value := getattr(of, name)) is None else value}" for name in names)
