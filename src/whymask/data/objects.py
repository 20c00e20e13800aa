"""Objects of other libraries as sources: a pandas frame, a Hugging Face data set, a PyTorch one."""

import hashlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from whymask.data.annotations import Annotation, GivenBoxes, Size, with_boxes
from whymask.data.box_columns import marked_of
from whymask.data.class_names import ClassTable, classes_beside
from whymask.data.coco_regions import BACKGROUND
from whymask.data.files import from_table, path_column
from whymask.data.formats import there
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.labels import read_labels
from whymask.data.settings import LabelSettings, default_store
from whymask.data.source import RawImage, Reader, Source
from whymask.data.stamps import digest_of
from whymask.data.tables import from_loaded
from whymask.errors import WhymaskError
from whymask.progress import Decoding
from whymask.tasks import Detection, RawLabels
from whymask.tasks.segmentation import Segmentation

if TYPE_CHECKING:
    import pandas
    from torch.utils.data import Dataset


def from_object(data: Any, reader: Reader | None, asked: LabelSettings | None) -> Source | None:
    """The source that `data` is; None where it is of no such library."""
    if _is(data, "pandas", "DataFrame"):
        return _from_frame(data, reader, asked)
    if _is(data, "datasets", "Dataset") or _is(data, "datasets", "DatasetDict"):
        return _from_datasets(data, asked)
    if _is(data, "torch.utils.data", "Dataset"):
        return _from_torch(data, asked)
    return None


def _is(data: Any, module: str, name: str) -> bool:
    """Whether `data` is of that class, without importing it: an object of it has."""
    return module in sys.modules and isinstance(data, getattr(sys.modules[module], name))


def _from_frame(frame: "pandas.DataFrame", reader: Reader | None, asked: LabelSettings | None) -> Source:
    """A row an image: a column path (relative to the working directory) as a CSV has it, or images as parquet has
    them; label, target and split likewise."""
    frame = frame.reset_index(drop=True)
    titles = [str(title) for title in frame.columns]
    at = path_column(titles)
    if at is not None and all(isinstance(path, str | os.PathLike) for path in frame.iloc[:, at]):
        rows = frame.astype(object).where(frame.notna(), None).to_numpy().tolist()
        return from_table("frame", titles, rows, [Path.cwd()], reader, asked, default_store())
    import datasets

    return _from_datasets(datasets.Dataset.from_pandas(frame), asked, "frame")


def _from_datasets(data: Any, asked: LabelSettings | None, name: str = "data set") -> Source:
    """A `datasets.Dataset`, or a dict of one for each split."""
    parts = data.values() if isinstance(data, dict) else [data]
    stamp = digest_of([*there(), *(part._fingerprint for part in parts)])
    return from_loaded(name, f"dataset-{stamp[:8]}", data, stamp, asked)


def _from_torch(data: "Dataset[Any]", asked: LabelSettings | None) -> Source:
    """A map-style data set of images, or of pairs of image and label: PIL images, arrays (H, W) or (H, W, C), or
    tensors (C, H, W); a label may be a map, a picture or (H, W), or, as detectors of torchvision take it, a dict of
    boxes (n, 4), corners, and labels (n,). All are read once for their pixels' digest and the labels.

    Raises WhymaskError where it has no length, or an image is another one each time it is asked for.
    """
    name = type(data).__name__
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
        raise WhymaskError(
            f"{name} has no length; a data set with __len__ and __getitem__ was expected; list its items"
        )
    count = len(data)
    if count and not np.array_equal(np.asarray(_item(data[0])[0]), np.asarray(_item(data[0])[0])):
        raise WhymaskError(
            f"{name} gives another image each time; whymask augments by itself; leave out random transforms"
        )
    digest, labels = hashlib.blake2b(digest_size=16), list[Any]()
    maps, marked = np.zeros(count, bool), dict[int, Any]()
    progress = Decoding()
    for index in range(count):
        image, label = _item(data[index])
        pixels = np.ascontiguousarray(image)
        digest.update(f"{pixels.shape} {pixels.dtype.str}".encode() + pixels.tobytes())
        if _is_map(label, pixels):
            mapped = np.asarray(label)
            digest.update(f"{mapped.shape} {mapped.dtype.str}".encode() + mapped.tobytes())
            label, maps[index] = None, True
        if isinstance(label, Mapping):
            marked[index] = {key: np.asarray(value).tolist() for key, value in label.items()}
            label = None
        labels.append(label)
        progress(index + 1, count)
    classes = tuple(getattr(data, "classes", ()))
    raw = RawLabels(labels, classes, nothing=(-1,)) if any(label is not None for label in labels) else None
    task, encoded = read_labels(raw, count, asked, name)
    prefix = f"{name}-{digest.hexdigest()[:8]}"
    keys = [f"{prefix}#{index}" for index in range(count)]
    source = Source(name, keys, lambda index: _item(data[index])[0], digest.hexdigest(), encoded, task)
    if asked is None or not (maps.any() or marked):
        return source
    if marked:
        return _with_marks(source, marked, classes, raw is not None or bool(maps.any()), asked)
    if raw is not None or asked.task not in ("auto", Segmentation.name):
        raise WhymaskError(
            f"{name} gives label maps of {maps.sum():,} images; these alone, and --task segmentation, were expected"
        )
    given = GivenMaps(maps, lambda index: _item(data[index])[1], digest.hexdigest())
    return with_maps(source, given, classes_beside(None, asked), asked)


def _with_marks(
    source: Source, marked: dict[int, Any], classes: Sequence[str], has_others: bool, asked: LabelSettings
) -> Source:
    """`source` with the boxes of these rows; of its classes the first is none where it is called background."""
    if has_others or asked.task not in ("auto", Detection.name):
        raise WhymaskError(
            f"{source.name} gives boxes of {len(marked):,} images; these alone, and --task detection, were expected"
        )

    def read(row: int, size: Size) -> Annotation | None:
        return marked_of(marked[row], "xyxy", classes)

    there = np.isin(np.arange(len(source)), list(marked))
    names = classes[1:] if classes and classes[0].strip("_").lower() == BACKGROUND else classes
    own = ClassTable(tuple(names), f"{source.name}.classes") if names else None
    return with_boxes(source, GivenBoxes(there, read), classes_beside(None, asked) or own, asked)


def _is_map(label: Any, image: np.ndarray) -> bool:
    """Whether a label is a picture, or whole numbers for each pixel of its image."""
    return isinstance(label, Image.Image) or (isinstance(label, np.ndarray) and label.shape == image.shape[:2])


def _item(item: Any) -> tuple[RawImage, Any]:
    """Image and label of an item; None for no label."""
    image, *rest = item if isinstance(item, tuple | list) else (item,)
    label: Any = rest[0] if rest else None
    if hasattr(image, "detach"):  # a tensor, channels first
        image = image.detach().cpu().numpy()
        image = np.moveaxis(image, 0, -1) if image.ndim == 3 else image
    if hasattr(label, "detach"):
        label = label.detach().cpu().numpy()
    is_map = isinstance(label, np.ndarray) and label.ndim == 2
    return image, label.tolist() if hasattr(label, "tolist") and not is_map else label
