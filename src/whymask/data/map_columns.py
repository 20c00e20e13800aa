"""Which column of a table holds label maps: by its name, and by what is in it."""

from collections.abc import Callable, Iterable

from whymask.data.labels import LABEL, OTHER_NAMES, column_of_places
from whymask.data.settings import LabelSettings
from whymask.tasks.segmentation import Segmentation

MAP_COLUMNS = (
    *("mask", "masks", "label_map", "label_maps", "annotation", "annotations", "segmentation_mask", "segmentation"),
    *("mask_path", "label_map_path", "annotation_path", "label_path", "labelmap", "seg", "gt", "ground_truth"),
    *(LABEL, *OTHER_NAMES),
)
"""What it may be called, in any case."""


def map_column(
    source: str,
    columns: Iterable[str],
    holds_maps: Callable[[str], bool],
    labels: Callable[[list[str]], list[str]],
    asked: LabelSettings | None,
) -> str | None:
    """The column of label maps; None where there is none, or another task was asked for. `holds_maps` says whether a
    column may be one, `labels` which of some columns are of other labels.

    Raises WhymaskError where there are two, or other labels beside it and no task was asked for."""
    if asked is None or asked.task not in ("auto", Segmentation.name):
        return None
    columns = list(columns)
    named = asked.label_columns or [column for column in columns if column.lower() in MAP_COLUMNS]
    found = [column for column in named if column in columns and holds_maps(column)]
    words = {"held": "label maps", "learnt": "maps", "others_hold": "labels of whole images"}
    return column_of_places(source, columns, found, labels, asked, task=Segmentation.name, **words)
