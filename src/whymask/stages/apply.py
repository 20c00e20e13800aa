"""Afterwards: what a trained network's task predicts of new images.

What a segmentation network predicts is in `segmented`, what a detection network finds in `detected`, features are
written by `embed`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whymask.data.inherited import inherited_text
from whymask.data.sources import Reader, Source, open_source
from whymask.disk import Table, check_writable
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import say
from whymask.stages.applying import Application, check_form, report
from whymask.stages.beside import Places, first_classes
from whymask.stages.confidence import Confidence, confidence_of
from whymask.stages.detect import Detector
from whymask.stages.detected import detect
from whymask.stages.network import Network, load_network
from whymask.stages.segment import Segmenter
from whymask.stages.segmented import segment
from whymask.stages.settings import OVERLAP, SURE, check_overlap
from whymask.stages.taken import in_groups, network_of, reader_left_out, worth_of
from whymask.tasks import Task
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

if TYPE_CHECKING:
    import pandas

TEXTS = ("path", "class", "classes", "confidences", "unsure", "label_map")
"""Columns of predictions that are no numbers."""


def predict(
    run: str | Path,
    data: Any,
    *,
    out: str | Path = "predictions.csv",
    cell: str | None = None,
    confidence: float = SURE,
    window_overlap: float = OVERLAP,
    overlays: bool = False,
    frame: bool = True,
    runtime: RuntimeSettings | None = None,
    reader: Reader | str | None = None,
    **keywords: Any,
) -> "pandas.DataFrame":
    """What a fine-tuning run, a study or its cell makes of the images of `data`: as a frame, and as the CSV file `out`.

    Columns: path, then `Task.header`. Of one class an image: class, confidence, and a probability for each, calibrated
    on the network's own test images where there are enough; and "yes" in a column unsure below the confidence from
    which on the share `confidence` of those was right (see `stages.confidence`). Of several: classes, as "cat|dog"
    those whose probability is above 0.5, their confidences, and a probability for each. Of numbers: each in its unit.
    Of a segmentation: label_map, the picture that was written, and the share of each class in its pixels; `out` may
    then be a folder (see `segmented.segment`, also for `window_overlap` and `overlays`). Of detection: how many objects
    of each class were found; the boxes are in detections.json (see `detected.detect`).

    A network that was trained on frames or tiles answers for each file, with the mean over its parts, and marks none as
    unsure. `data` is what `open_source` takes. Of a study, `cell` names the network (a folder of its cells/); by
    default see `network_of`. Images that cannot be read are left out and listed beside `out`. Settings of `runtime` may
    be given by their names, such as ``device="cuda"``. The file is written while images are read; without `frame` the
    frame is empty, and no more rows are held than a batch has.
    """
    check_overlap(window_overlap)
    fabric = make_fabric(with_keywords(runtime or RuntimeSettings(), keywords), alone=True)
    folder = network_of(Path(run), cell, images=data)
    model, task = load_network(folder)
    model = model.to(fabric.device)
    if isinstance(model, Segmenter | Detector):
        places = Places.of(Path(out), data)
        source = _opened(data, reader, model, folder, task)
        if isinstance(model, Segmenter):
            header, count, skipped = segment(model, task, source, places, window_overlap, overlays)
        else:
            header, count, skipped = detect(model, task, source, places, overlays)
        return _written(places.table, header, count, skipped, frame)
    if overlays:
        raise WhymaskError(
            f"--overlays: {folder} holds a {task.outputs.network}, which says nothing of places; leave it out"
        )
    check_writable(Path(out))
    check_form(Path(out), "csv")
    source = _opened(data, reader, model, folder, task)
    transform = model.encoder.transform
    is_of_parts = transform.frames == "all" or transform.tile is not None
    sure = confidence_of(folder, task, confidence, is_of_parts)
    known = sure if isinstance(sure, Confidence) else None
    temperature = 1.0 if known is None else known.temperature
    if sure is not None:
        say(sure if isinstance(sure, str) else sure.text(in_groups(folder)))
    applied = Application(lambda x: task.shown(model(x.to(fabric.device)) / temperature), transform, source)
    made = _answered(applied, task, known, Path(out))
    return _written(Path(out), *made, applied.skipped, frame)


def _answered(applied: Application, task: Task, known: Confidence | None, out: Path) -> tuple[list[str], int]:
    """Write a row for each image, or file where images are parts of files; the header, and how many rows there are.
    What is unsure is marked where that is `known`."""
    header = ["path", *task.header]
    place = None if known is None else header.index("confidence") + 1
    unsure = 0
    counts = np.zeros(1, int)  # of each class, once it is known how many there are
    if place is not None:
        header.insert(place, "unsure")
    with Table.at(out, header) as table:
        for keys, values in applied.answers():
            counts = counts + _counted(task, values)
            for key, shown in zip(keys, values, strict=True):
                row = [key, *task.row(shown)]
                if known is not None and place is not None:
                    is_unsure = known.is_unsure(float(shown.max()))
                    row.insert(place, "yes" if is_unsure else "")
                    unsure += is_unsure
                table.add(row)
    if applied.is_of_parts:
        say(f"{applied.images:,} parts of {table.count:,} files: each file's answer is the mean of its parts'")
    if known is not None:
        say(f"{unsure:,} of {table.count:,} images are marked unsure")
    _say_counts(task, counts)
    return header, table.count


def _opened(data: Any, reader: Reader | str | None, model: Network, folder: Path, task: Task) -> Source:
    """The images, and what is to be said of the network in `folder` that is to see them."""
    source = open_source(data, reader=reader, labels=None)
    say(f"predicting with {folder}: {len(source):,} images")
    inherited = inherited_text(model.encoder.transform, folder)
    for line in [*inherited, *reader_left_out(folder, reader), *worth_of(folder, task)]:
        say(line)
    return source


def _written(
    table: Path, header: list[str], count: int, skipped: list[tuple[str, str]], frame: bool
) -> "pandas.DataFrame":
    report(skipped, count, table)
    return _frame(table, header, None if frame else 0)


def _frame(table: Path, header: list[str], most: int | None) -> "pandas.DataFrame":
    """Predictions as they are written, or the first ones, what is no number as text: a class may be called 1, or NA."""
    import pandas

    frame = pandas.read_csv(table, dtype=str, keep_default_na=False, nrows=most)
    frame.columns = pandas.Index(header)
    return frame.assign(**{name: pandas.to_numeric(frame[name]) for name in header if name not in TEXTS})


def _counted(task: Task, shown: np.ndarray) -> np.ndarray:
    """How many of the images were found to be of each class; of numbers nothing."""
    decided = task.decided(shown)
    return np.zeros(0, int) if decided is None else np.array(task.counts(decided))


def _say_counts(task: Task, counts: np.ndarray) -> None:
    """The most frequent class first."""
    if len(counts):
        pairs = sorted(zip(counts.tolist(), task.names, strict=True), key=lambda pair: -pair[0])
        say(f"images by predicted class: {first_classes([f'{name}: {count:,}' for count, name in pairs])}")
