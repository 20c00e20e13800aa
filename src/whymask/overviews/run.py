"""`overview`: the images of a source as a run would read them, in words and as a page with a contact sheet."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.decoding import hash_of, reason_of
from whymask.data.derive import cut_off, derive, looks
from whymask.data.doubts import labels_text, listed
from whymask.data.lost import lost
from whymask.data.near import LIKENESS, near_pairs
from whymask.data.parts import in_parts
from whymask.data.pixels import native_pixels
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.data.sheet import legend, sample_groups
from whymask.data.sources import Reader, Source, open_asked
from whymask.disk import check_writable, write_bytes
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import Decoding, say
from whymask.report.marks import counted, marked
from whymask.report.page import render
from whymask.report.pictures import as_bytes
from whymask.report.text import clean
from whymask.tasks import Classification, Regression

LOOKED = 2000
"""Images that are opened, unless more are asked for."""
MOST_ROWS = 10
_TEMPLATES = Path(__file__).with_name("templates")
Row = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """One image: its native height, width, channels, type and values, the digest of its pixels, and what is stored."""

    height: int
    width: int
    channels: int
    kind: str
    low: float
    high: float
    digest: bytes
    stored: np.ndarray  # (H, W, C) uint8

    @classmethod
    def at(cls, source: Source, row: int, how: Preprocessing) -> "Look | str":
        """The image of a row, or why it would be skipped."""
        try:
            pixels = native_pixels(source.read(row), how.alpha, how.frames)
            stored = how.fit(pixels)
        except Exception as error:  # decoders raise anything
            return reason_of(error)
        small = as_bytes(stored)
        low, high = float(pixels.min()), float(pixels.max())
        height, width, channels = pixels.shape
        return cls(height, width, channels, str(pixels.dtype), low, high, hash_of(pixels), small)


def overview(
    data: Any,
    *,
    out: str | Path = "data.html",
    looked: int = LOOKED,
    settings: DataSettings | None = None,
    reader: Reader | None = None,
    **keywords: Any,
) -> Row:
    """Say what a run would read of `data`, and write a page of it, with a contact sheet, as the file `out`.

    Nothing else is written, but for what is fetched from addresses or unpacked. Up to `looked` images, evenly spaced,
    are opened (0: all). Settings may be given by their names, such as ``tile=512``. Returns what the page tells:

    {"name", "images", "looked", "notes", "labels", "classes": [{"name", splits ...}], "maps", "objects", "splits",
    "suffixes", "sizes", "kinds", "values", "size", "channels", "equal": [[key, ...], ...],
    "torn": [[key, class, key, class], ...], "near": [[key, key, likeness], ...],
    "skipped": [[key, reason], ...], "mended": [[key, box, what], ...]}

    maps: how many images have label maps, of whose pixels each class has the share "pixels", or None; objects: how many
    the images with boxes show, "objects" of each class, or None; equal: of one picture; torn: of them, the first two of
    each group that have two labels; near: pairs of near copies; mended: boxes repaired or left out.

    Raises WhymaskError where `data` cannot be used, and for another `looked` than 0 or more.
    """
    check_writable(Path(out))
    if looked < 0:
        raise WhymaskError(f"--looked {looked}: how many images to open, or 0 for all, was expected")
    asked = with_keywords(settings or DataSettings(), keywords)
    source = open_asked(data, asked, reader)
    losses = lost(source, asked)
    source = in_parts(source, asked)
    seen = looks(source, asked.alpha, asked.frames)
    how = derive(source, asked, seen=seen)
    rows = np.array(source.sample(looked or len(source)))
    found = _looks(source, how, rows)
    usable = {row: look for row, look in found.items() if isinstance(look, Look)}
    equal = _equal(usable)
    told = {
        "name": source.name,
        "images": len(source),
        "looked": len(rows),
        "notes": [*source.notes, *losses, *cut_off(seen, how), *_alone(source)],
        "labels": labels_text(source),
        "splits": [] if source.splits is None else sorted({*source.splits}),
        "classes": _classes(source),
        "maps": None if source.maps is None else int(source.maps.there.sum()),
        "objects": None if source.boxes is None else len(source.boxes.classes),
        "suffixes": _counted(map(_suffix, source.keys)),
        "sizes": _counted(f"{look.height} × {look.width}" for look in usable.values()),
        "kinds": _counted(f"{look.channels} of {look.kind}" for look in usable.values()),
        "values": [min(look.low for look in usable.values()), max(look.high for look in usable.values())],
        "size": list(how.size),
        "channels": how.channels,
        "equal": [[source.keys[row] for row in rows] for rows in equal],
        "torn": _torn(source, equal),
        "near": _near(source, usable),
        "skipped": [[source.keys[row], look] for row, look in found.items() if isinstance(look, str)],
        "mended": [list(box) for box in source.mended],
    }
    for line in text_of(told):
        say(line)
    write_bytes(Path(out), _page(told, source, usable, how))
    say(f"The contact sheet: {out}")
    return told


def text_of(told: Row) -> list[str]:
    """What the command prints."""
    of = "" if told["looked"] == told["images"] else f", of which {told['looked']:,} were opened"
    low, high = told["values"]
    lines = [
        f"{told['name']}: {told['images']:,} images{of}",
        *told["notes"],
        told["labels"],
        *([] if told["maps"] is None else [f"{told['maps']:,} label maps; of their pixels {_pixels(told)}"]),
        *([] if told["objects"] is None else [f"{told['objects']:,} objects: {_objects(told)}"]),
        *(f"in the {split} split: {_per_class(told, split)}" for split in told["splits"]),
        f"names end in: {_listed(told['suffixes'])}",
        f"height × width: {_listed(told['sizes'])}",
        f"channels: {_listed(told['kinds'])}; values from {low:,.6g} to {high:,.6g}",
        f"a network would see {told['size'][0]} × {told['size'][1]} pixels, {told['channels']} channels",
    ]
    if told["equal"]:
        example = " and ".join(told["equal"][0][:2])
        lines.append(f"equal pixels in {len(told['equal'])} groups of images, such as {example}")
    if told["torn"]:
        first, label, second, other = told["torn"][0]
        lines.append(
            f"in {len(told['torn'])} of them with two labels, such as {first} ({label}) and {second} ({other})"
        )
    if told["near"]:
        first, second, likeness = told["near"][0]
        lines.append(
            f"{len(told['near']):,} pairs of near copies (likeness {LIKENESS} or more), the least alike {first} and "
            f"{second} ({likeness:.2f})"
        )
    if told["skipped"]:
        key, reason = told["skipped"][0]
        lines.append(f"{len(told['skipped']):,} would be skipped, such as {key}: {reason}")
    return lines


def _looks(source: Source, how: Preprocessing, rows: np.ndarray) -> dict[int, Look | str]:
    """Of each row its look, decoded by threads."""
    progress = Decoding()
    found: dict[int, Look | str] = {}
    with ThreadPoolExecutor() as pool:
        looks = pool.map(lambda row: Look.at(source, row, how), rows.tolist())
        for row, look in zip(rows.tolist(), looks, strict=True):
            found[row] = look
            progress(len(found), len(rows))
    if not any(isinstance(look, Look) for look in found.values()):
        raise WhymaskError(f"{source.name}: none of {len(rows)} images can be used ({next(iter(found.values()))})")
    return found


def _classes(source: Source) -> list[Row]:
    """Labelled images of each class, in all and in each split; nothing of numbers to predict."""
    if source.task.name == Regression.name or not source.labelled.any():
        return []
    parts = {"all": np.ones(len(source), bool)}
    if source.splits is not None:
        parts |= {split: source.splits == split for split in sorted({*source.splits})}
    counts = {part: source.task.counts(source.labels[rows & source.labelled]) for part, rows in parts.items()}
    rows: list[Row] = [
        {"name": name} | {part: counts[part][at] for part in parts} for at, name in enumerate(source.classes)
    ]
    counted = {"maps": ("pixels", "pixel_shares"), "boxes": ("objects", "objects")}.get(source.task.targets)
    if counted is None:
        return rows
    name, key = counted
    of_classes = source.task.summary(source.labels[source.labelled])[key]
    return [row | {name: count} for row, count in zip(rows, of_classes, strict=True)]


def _alone(source: Source) -> list[str]:
    """What to say of classes of one image, which is trained on or tested on."""
    if source.task.name != Classification.name or source.splits is not None:
        return []
    counts = zip(source.classes, source.task.counts(source.labels[source.labelled]), strict=True)
    alone = [name for name, count in counts if count == 1]
    return [f"of {listed(alone)} there is one image: it will not be tested"] * bool(alone)


def _per_class(told: Row, split: str) -> str:
    return listed([f"{row['name']} {row[split]:,}" for row in told["classes"]], 10) or "no labels"


def _pixels(told: Row) -> str:
    """ "road 38.1 %, sky 20.4 % and 3 more", the largest share first."""
    rows = sorted(told["classes"], key=lambda row: -row["pixels"])
    return listed([f"{row['name']} {row['pixels']:.1%}" for row in rows], 10)


def _objects(told: Row) -> str:
    """ "RBC 4,153 and WBC 372", the most frequent first."""
    rows = sorted(told["classes"], key=lambda row: -row["objects"])
    return listed([f"{row['name']} {row['objects']:,}" for row in rows], 10)


def _suffix(key: str) -> str:
    """Of a file, or of the name that a table gives for an image: "/a/train.parquet#17:cat/3.jpg" ends in .jpg."""
    suffix = Path(key).suffix
    return (Path(key.partition("#")[0]).suffix if "#" in suffix else suffix).lower() or "none"


def _counted(values: Any) -> list[list[Any]]:
    """[value, how often], the most frequent first."""
    return [[value, count] for value, count in Counter(values).most_common()]


def _listed(counts: Sequence[Sequence[Any]]) -> str:
    return listed([f"{value} ({count:,})" for value, count in counts])


def _equal(usable: dict[int, Look]) -> list[list[int]]:
    """The rows of images with equal pixels, group by group."""
    groups: dict[bytes, list[int]] = {}
    for row, look in usable.items():
        groups.setdefault(look.digest, []).append(row)
    return [rows for rows in groups.values() if len(rows) > 1]


def _torn(source: Source, equal: list[list[int]]) -> list[list[str]]:
    """Of each group that has two classes, two images of different ones."""
    if source.task.name != Classification.name:
        return []
    found = []
    for rows in equal:
        labelled = [row for row in rows if source.labels[row] >= 0]
        others = [row for row in labelled if source.labels[row] != source.labels[labelled[0]]]
        if others:
            pair = (labelled[0], others[0])
            found.append([text for row in pair for text in (source.keys[row], source.classes[source.labels[row]])])
    return found


def _near(source: Source, usable: dict[int, Look]) -> list[list[Any]]:
    """Pairs of near copies, the least alike first; of equal pictures the first alone is compared."""
    rows = list({look.digest: row for row, look in reversed(usable.items())}.values())[::-1]
    found = near_pairs(np.stack([usable[row].stored for row in rows]))
    pairs = zip(found.of.tolist(), found.rows.tolist(), found.likeness.tolist(), strict=True)
    return [[source.keys[rows[of]], source.keys[rows[row]], likeness] for of, row, likeness in pairs]


def _page(told: Row, source: Source, usable: dict[int, Look], how: Preprocessing) -> bytes:
    rows = list(usable)
    pictures = [_with_marks(source, row, usable[row].stored, how) for row in rows]
    return render(
        "overview.html.j2",
        _TEMPLATES,
        told=clean(told),
        groups=clean(sample_groups(pictures, source.labels[rows], source.task)),
        legend=clean(legend(source.task)),
        most=MOST_ROWS,
    )


def _with_marks(source: Source, row: int, stored: np.ndarray, how: Preprocessing) -> np.ndarray:
    """The picture of a row, under the colours of its label map or with the boxes of its objects, where it has any."""
    if source.boxes is not None and source.boxes.there[row]:
        return marked(stored, counted(source.boxes.seen(np.array([row]), how.fitting)[0]), len(source.classes))
    if source.maps is None or not source.maps.there[row]:
        return stored
    sides = stored.shape[:2]
    nearest = Preprocessing(sides, sides, 1, interpolation="nearest")
    return marked(stored, nearest.fit(source.maps.read(row)[..., None])[..., 0], len(source.classes))
