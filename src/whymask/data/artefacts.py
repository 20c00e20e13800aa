"""What whymask itself leaves behind is no source of images: pictures in a run's or a study's folder are figures."""

from collections.abc import Iterable
from pathlib import Path

from whymask.disk import read_json
from whymask.errors import DamagedError, WhymaskError
from whymask.runs import folder_with

KNOWN = ("config.json", "study.json")


def refuse_artefacts(name: str, images: Iterable[Path], around: Iterable[Path], below: Iterable[Path] = ()) -> None:
    """Raise WhymaskError where a folder of `around`, or the folders of all `images`, lie in a run's or a study's.

    `below`: files among which those are looked for by which runs are known.
    """
    markers = [found / marker for folder in around for marker in KNOWN if (found := folder_with(marker, folder))]
    artefacts = [path for path in [*markers, *below] if path.name in KNOWN and _is_artefact(path)]
    runs = {path.parent for path in artefacts}
    if runs and all(runs.intersection(image.parents) for image in images):
        raise WhymaskError(
            f"{name}: of whymask's own runs ({artefacts[0]} is of one), whose pictures are figures; other images were "
            "expected; give the images that the network is to see"
        )


def _is_artefact(path: Path) -> bool:
    """Whether `path` is the file by which a run's or a study's folder is known."""
    if path.name == "study.json":
        return path.exists()
    try:
        return path.name == "config.json" and "provenance" in read_json(path)
    except (OSError, DamagedError, TypeError):  # of other software, or damaged
        return False
