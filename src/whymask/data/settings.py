"""What is asked of the data: which images, how they are prepared, and who may see which."""

import os
import re
from dataclasses import dataclass, field
from glob import glob, has_magic
from pathlib import Path
from typing import Literal

from whymask.data.glyph_settings import parse_glyphs
from whymask.errors import WhymaskError
from whymask.flags import readable
from whymask.later import LATER


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


Alpha = Literal["drop", "white", "channel"]


@readable
@dataclass(frozen=True)
class LabelSettings:
    """What labels are, and where a table has them."""

    task: Literal["auto", "classification", "multilabel", "regression"] = field(default="auto", metadata=LATER)
    """What is to be learnt: one class an image, several, or numbers. auto: classification, but multilabel where labels
    are lists, 0 and 1 in several columns, or texts such as cat|dog, and regression where a column is called target."""
    label_columns: tuple[str, ...] | None = field(default=None, metadata=LATER)
    """Columns of a CSV or parquet file, or names of arrays, that hold the labels; several are several classes (0 or 1)
    or several numbers. Default: label, else target."""
    label_separator: str = field(default="|", metadata=LATER)
    """What stands between the classes of one image in a text."""
    unlabelled: str | None = field(default=None, metadata=LATER)
    """A label that says that an image has none, such as -1. Empty cells and NaN always say so; -1 says so in arrays and
    where class numbers have names."""


@readable
@dataclass(frozen=True)
class DataSettings(LabelSettings):
    """Which images, how they are prepared, and who may see which."""

    labels: str | None = None
    """Labelled images, where DATA itself has no labels: a folder with one subfolder a class, a CSV, parquet."""
    size: int | None = None
    """Side of the square that the network sees, pixels; default: the images' own size up to 96, else 96."""
    channels: int | None = None
    """1 grey, 3 colour; default: what the data have."""
    alpha: Alpha = field(default="drop", metadata=LATER)
    """What is done with transparency: drop it, lay it on white, or make it a further channel."""
    group_by: str | None = None
    """A column, or a regular expression on file names (its first group), whose equal values (one patient, part or
    video) are never on both sides of a split."""
    test_share: float | None = field(default=None, metadata=LATER | {"before": 0.2})
    """Share of the labelled images to test on, where the data name no test images; default: 0.2, or where that leaves
    fewer than 20 in the median class, as many as leave 20, but at most half."""
    near_duplicates: Literal["leave-out", "keep"] = field(default="leave-out", metadata=LATER | {"before": "keep"})
    """What is done with images that are near copies of a test image (encoded, resized or mirrored anew): leave them out
    of training and pretraining, as those with equal pixels are, or keep them. They are counted either way."""
    transductive: bool = False
    """Keep the test images, without their labels, in pretraining. The page then says so."""
    store: Path | None = None
    """Folder for decoded images, memory-mapped and shared by runs; default: $WHYMASK_STORE or ~/.cache/whymask."""

    def __post_init__(self) -> None:
        """Raises WhymaskError for a share that leaves nothing to test on or nothing to train on."""
        if self.test_share is not None and not 0 < self.test_share < 1:
            raise WhymaskError(f"--test-share {self.test_share:g}: expected a share between 0 and 1, such as 0.2")


def check_there(data: str) -> None:
    """Raises WhymaskError where `data`, as a user names images, is neither glyphs, nor a file or folder, nor a pattern
    that matches one, nor like the id of a data set on the Hugging Face hub: known before anything slow is imported or
    opened."""
    if data.partition(":")[0] == "glyphs":
        parse_glyphs(data)
    elif has_magic(data) and not Path(data).expanduser().exists():
        if not matching(data):
            raise WhymaskError(f"{data}: this pattern matches no file; images were expected there; check the path")
    elif not Path(data).expanduser().exists() and (not re.fullmatch(r"[\w.-]+/[\w.-]+", data) or data.startswith(".")):
        raise WhymaskError(f"{data}: no such file or folder; images were expected there; check the path")


def matching(pattern: str) -> list[Path]:
    """What a pattern such as "photos/**/*.jpg" matches, sorted, without hidden files; none of what is no pattern."""
    there = glob(str(Path(pattern).expanduser()), recursive=True) if has_magic(pattern) else []  # noqa: PTH207 absolute
    return sorted(path for path in map(Path, there) if path.exists())
