"""What is asked of the data: which images, how they are prepared, and who may see which."""

import os
import re
import sys
from dataclasses import dataclass, field
from glob import glob, has_magic
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from whymask.data.braces import braced, refuse_missing
from whymask.data.composite_settings import is_composites, parse_composites
from whymask.data.glyph_settings import parse_glyphs
from whymask.data.protocols import check_address, is_address
from whymask.errors import WhymaskError
from whymask.flags import readable
from whymask.later import LATER
from whymask.missing import instead_of


def default_store() -> Path:
    """$WHYMASK_STORE, else whymask's folder in the user's cache."""
    if "WHYMASK_STORE" in os.environ:
        return Path(os.environ["WHYMASK_STORE"])
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"]) / "whymask"
    try:
        return Path.home() / ".cache" / "whymask"
    except RuntimeError:  # a container whose user has no entry, and no HOME
        raise WhymaskError(
            "no home folder is known to keep decoded images in; give --store FOLDER, or set WHYMASK_STORE"
        ) from None


NO_LABELS = "none"
"""Given as labelled images: none are, whatever their folders or files say. A folder of that name is ./none."""
Alpha = Literal["drop", "white", "channel"]
Frames = Literal["first", "all", "channels"]
BoxFormat = Literal["xywh", "xyxy", "cxcywh"]
Sides = int | tuple[int, int]
"""Of an image, pixels: of a square, or height and width."""
Size = Annotated[
    Sides | None,
    tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="N|HxW",
        instance_from_str=lambda given: _sides_of(given[0]),
        is_instance=lambda value: value is None or isinstance(value, int | tuple),
        str_from_instance=lambda value: ["None" if value is None else _size_text(value)],
    ),
]
"""A flag of one number, or of two such as 64x256."""


def as_sides(size: Sides) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _size_text(size: Sides) -> str:
    return "x".join(map(str, as_sides(size)))


def _sides_of(text: str) -> Sides:
    """Raises WhymaskError for what is neither N nor HxW."""
    if not re.fullmatch(r"\d+(x\d+)?", text):
        raise WhymaskError(f"--size {text}: a number of pixels, or height x width such as 64x256, was expected")
    height, _, width = text.partition("x")
    return (int(height), int(width)) if width else int(height)


@readable
@dataclass(frozen=True)
class LabelSettings:
    """What labels are, and where a table has them."""

    task: Literal["auto", "classification", "multilabel", "regression", "segmentation", "detection"] = field(
        default="auto", metadata=LATER
    )
    """What is to be learnt: one class an image, several, numbers, of each pixel a class, or where objects are, of each
    a box and a class. auto: classification, but multilabel where labels are lists, 0 and 1 in several columns, or texts
    such as cat|dog, regression where a column is called target, and segmentation where labels are pictures or maps: in
    folders images and masks, a column mask, arrays as large as the images, or a COCO JSON; detection where they are
    boxes: Pascal VOC's XML, YOLO's texts, a column of objects, corners in a table, or a COCO JSON without regions."""
    label_columns: tuple[str, ...] | None = field(default=None, metadata=LATER)
    """Columns of a CSV or parquet file, or names of arrays, that hold the labels; several are several classes (0 or 1)
    or several numbers. Default: label, else target."""
    label_separator: str = field(default="|", metadata=LATER)
    """What stands between the classes of one image in a text."""
    unlabelled: str | None = field(default=None, metadata=LATER)
    """A label that says that an image has none, such as -1. Empty cells and NaN always say so; -1 says so in arrays and
    where class numbers have names."""
    ignored: int | str = field(default=255, metadata=LATER)
    """Of label maps, the value of pixels that are of no class, or the name of a class that does not count."""
    class_names: Path | None = field(default=None, metadata=LATER)
    """Of label maps, a file with the name of each class, one a line, from class 0 on, or a CSV of name, and of maps in
    colours r, g and b. Default: a file such as classes.txt or class_dict.csv beside the images, else the numbers."""
    box_format: BoxFormat = field(default="xywh", metadata=LATER)
    """Of a column of objects, what the four numbers of a box are, in pixels: left, top, width and height, as COCO has
    them, two corners, or centre, width and height."""


@readable
@dataclass(frozen=True)
class DataSettings(LabelSettings):
    """Which images, how they are prepared, and who may see which."""

    labels: str | None = None
    """Labelled images, where DATA itself has no labels: a folder with one subfolder a class, a CSV, parquet. none: no
    image is labelled, whatever its folder or file says."""
    size: Size = None
    """Side of the square that the network sees, pixels, or height x width, such as 64x256; default: the images' own
    size up to 96, else 96."""
    channels: int | None = None
    """1 grey, 3 colour, or as many as the images have; default: what the data have."""
    alpha: Alpha = field(default="drop", metadata=LATER)
    """What is done with transparency: drop it, lay it on white, or make it a further channel."""
    frames: Frames = field(default="first", metadata=LATER)
    """Of several frames or pages (GIF, WebP, TIFF, DICOM): see the first, make each an image, or make them channels."""
    tile: int | None = field(default=None, metadata=LATER)
    """Cut each file into squares of so many pixels, each an image with its label; predict answers with their mean."""
    overlap: int = field(default=0, metadata=LATER)
    """Of neighbouring tiles, pixels."""
    reader: str | None = field(default=None, metadata=LATER)
    """MODULE:FUNCTION, which gets the path of a file and returns a PIL image or an array (H, W) or (H, W, C): for
    formats that nothing here opens. The module is looked for in the working directory too."""
    group_by: str | None = None
    """A column, or a regular expression on file names (its first group), whose equal values (one patient, part or
    video) are never on both sides of a split."""
    test_share: float | None = field(default=None, metadata=LATER | {"before": 0.2})
    """Share of the labelled images to test on, where the data name no test images; default: 0.2, or where that leaves
    fewer than 20 (files of frames or tiles, or groups) in the median class, as many as leave 20, but at most half."""
    near_duplicates: Literal["leave-out", "keep"] = field(default="leave-out", metadata=LATER | {"before": "keep"})
    """What is done with images that are near copies of a test image (encoded, resized or mirrored anew): leave them out
    of training and pretraining, as those with equal pixels are, or keep them. They are counted either way."""
    transductive: bool = False
    """Keep the test images, without their labels, in pretraining. The page then says so."""
    store: Path | None = None
    """Folder for decoded images, shared by runs; default: $WHYMASK_STORE or ~/.cache/whymask."""
    store_form: Literal["auto", "decoded", "encoded"] = field(default="auto", metadata=LATER | {"before": "decoded"})
    """How they are kept there: decoded, mapped into memory, or encoded, as JPEG of quality 95 (of photos an eighth of
    the room) or PNG what is not 8-bit grey or colour, and decoded at each step. auto: decoded where that fits into half
    of the free disk and of the memory."""

    @property
    def is_unlabelled(self) -> bool:
        """Whether no image is labelled, whatever its folder or file says."""
        return isinstance(self.labels, str) and self.labels == NO_LABELS

    def __post_init__(self) -> None:
        """Raises WhymaskError for a size or channels that no image has, for a share that leaves nothing to test on or
        nothing to train on, for tiles that do not advance, and for a reader whose module is not there."""
        if self.size is not None and min(as_sides(self.size)) < 1:
            raise WhymaskError(f"--size {_size_text(self.size)}: sides of at least 1 pixel were expected, as in 64x256")
        if self.channels is not None and self.channels < 1:
            raise WhymaskError(f"--channels {self.channels}: 1 or more were expected, such as 1 (grey) or 3 (colour)")
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise WhymaskError(f"--test-share {self.test_share:g}: expected a share between 0 and 1, such as 0.2")
        if self.tile is not None and not 0 <= self.overlap < self.tile:
            raise WhymaskError(
                f"--tile {self.tile} --overlap {self.overlap}: expected one pixel or more, and an overlap of less"
            )
        if self.overlap and self.tile is None:
            raise WhymaskError(f"--overlap {self.overlap} says how tiles lie; give --tile, such as --tile 512")
        if self.reader is not None:
            check_reader(self.reader)


def check_reader(reader: str) -> None:
    """Raises WhymaskError for what does not name a function, or one of a module that is not there, which is not
    imported yet; it may lie in the working directory."""
    if not re.fullmatch(r"[\w.]+:\w+", reader):
        raise WhymaskError(
            f"--reader {reader}: MODULE:FUNCTION was expected, such as scans:read for the function read in scans.py"
        )
    package = reader.partition(":")[0].partition(".")[0]
    if package not in sys.modules and not _can_be_imported(package):
        raise WhymaskError(
            f"--reader {reader}: No module named {package!r}; a function in a module that can be imported, or lies in "
            "the working directory, was expected"
        )


def _can_be_imported(package: str) -> bool:
    sys.path.insert(0, "")
    try:
        return find_spec(package) is not None
    finally:
        sys.path.remove("")


def check_there(data: str) -> None:
    """Raises WhymaskError where `data`, as a user names images, is neither glyphs nor composites, nor a file or folder,
    nor a pattern that matches one, nor like the id of a data set on the Hugging Face hub, and for a folder without any
    file: known before anything slow is imported or opened."""
    if data.partition(":")[0] == "glyphs":
        parse_glyphs(data)
    elif is_composites(data):
        for _, part in parse_composites(data).parts:
            check_there(part)
    elif is_address(data):  # which is asked later
        check_address(braced(data)[0])
    elif len(files := braced(data)) > 1 and not Path(data).expanduser().exists():
        refuse_missing(
            data, files, [file for file in files if not has_magic(file) and not Path(file).expanduser().exists()]
        )
    elif has_magic(data) and not Path(data).expanduser().exists():
        if not matching(data):
            raise WhymaskError(f"{data}: this pattern matches no file; images were expected there; check the path")
    elif not Path(data).expanduser().exists() and not _may_be_of_the_hub(data):
        raise WhymaskError(
            f"{data}: no such file or folder; images were expected there{instead_of(data) or '; check the path'}"
        )

    elif Path(data).expanduser().is_dir() and not _holds_a_file(Path(data).expanduser()):
        raise WhymaskError(
            f"{data}: no images in this folder (no files); files such as .jpg, .png or .parquet were expected; check "
            "the path"
        )


def _holds_a_file(folder: Path) -> bool:
    """Whether there is a file at any depth that is not hidden."""
    for inner, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        linked = any(Path(inner, name).is_symlink() for name in subfolders)  # what is behind it is seen later
        if linked or any(not name.startswith(".") for name in files):
            return True
    return False


def _may_be_of_the_hub(data: str) -> bool:
    """Whether it reads "owner/name", and is no path into a folder that is here."""
    is_like = re.fullmatch(r"[\w.-]+/[\w.-]+", data) is not None and not data.startswith(".")
    return is_like and not Path(data).parent.is_dir()


def matching(pattern: str) -> list[Path]:
    """What a pattern such as "photos/**/*.jpg" matches, sorted, without hidden files, or "train-{000..009}.tar", in the
    order of the braces; none of what is no pattern. Raises WhymaskError where a file of braces is not there."""
    if not has_magic(pattern) and len(braced(pattern)) == 1:
        return []
    several = [str(Path(name).expanduser()) for name in braced(pattern)]
    refuse_missing(pattern, several, [name for name in several if not has_magic(name) and not Path(name).exists()])
    there = [sorted(glob(name, recursive=True)) if has_magic(name) else [name] for name in several]  # noqa: PTH207
    return [path for names in there for path in map(Path, names) if path.exists()]
