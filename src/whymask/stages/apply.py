"""Afterwards: a trained network on new images. `predict` gives what its task predicts, `embed` gives features.

What a segmentation network predicts is in `segmented`, what a detection network finds in `detected`."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from whymask.data.decoding import reason_of
from whymask.data.inherited import inherited_text
from whymask.data.lost import warnings_of
from whymask.data.parts import in_parts, mean_of_wholes
from whymask.data.preprocessing import Preprocessing
from whymask.data.readers import why_unread
from whymask.data.sources import Reader, Source, open_source
from whymask.disk import check_writable, printable, write_bytes, write_csv
from whymask.encoders import load_encoder
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import Steps, say
from whymask.stages.beside import Places, first_classes
from whymask.stages.confidence import Confidence, confidence_of
from whymask.stages.detect import Detector
from whymask.stages.detected import detect
from whymask.stages.network import Network, load_network
from whymask.stages.segment import Segmenter
from whymask.stages.segmented import segment
from whymask.stages.settings import OVERLAP, SURE, check_overlap
from whymask.stages.speaking import encoder_of, in_groups, network_of, reader_left_out, worth_of
from whymask.tasks import Task
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

if TYPE_CHECKING:
    import pandas

BATCH = 256
TEXTS = ("path", "class", "classes", "confidences", "unsure", "label_map")
"""Columns of predictions that are no numbers."""


@dataclass
class Applied:
    """What a model made of a source: the keys that could be read, a row of numbers for each, and the others."""

    keys: list[str] = field(default_factory=list)
    rows: list[np.ndarray] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    wholes: list[str] = field(default_factory=list)  # of parts, the file of each

    @cached_property
    def values(self) -> np.ndarray:
        """float32 (n, D), once all rows are there."""
        return np.concatenate(self.rows)


def predict(
    run: str | Path,
    data: Any,
    *,
    out: str | Path = "predictions.csv",
    cell: str | None = None,
    confidence: float = SURE,
    window_overlap: float = OVERLAP,
    overlays: bool = False,
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
    be given by their names, such as ``device="cuda"``.
    """
    check_overlap(window_overlap)
    fabric = make_fabric(with_keywords(runtime or RuntimeSettings(), keywords), alone=True)
    folder = network_of(Path(run), cell)
    model, task = load_network(folder)
    model = model.to(fabric.device)
    if isinstance(model, Segmenter):
        places = Places.of(Path(out), data)
        source = _opened(data, reader, model, folder, task)
        made = segment(model, task, source, places, window_overlap, overlays)
        return _written(made.header, made.rows, made.skipped, places.table)
    if isinstance(model, Detector):
        places = Places.of(Path(out), data)
        found = detect(model, task, _opened(data, reader, model, folder, task), places, overlays)
        return _written(found.header, found.rows, found.skipped, places.table)
    if overlays:
        raise WhymaskError(
            f"--overlays: {folder} holds a {task.outputs.network}, which says nothing of places; leave it out"
        )
    check_writable(Path(out))
    _check_form(Path(out), "csv")
    source = _opened(data, reader, model, folder, task)
    transform = model.encoder.transform
    is_of_parts = transform.frames == "all" or transform.tile is not None
    sure = confidence_of(folder, task, confidence, is_of_parts)
    known = sure if isinstance(sure, Confidence) else None
    temperature = 1.0 if known is None else known.temperature
    if sure is not None:
        say(sure if isinstance(sure, str) else sure.text(in_groups(folder)))
    applied = apply(lambda x: task.shown(model(x.to(fabric.device)) / temperature), transform, source)
    keys, values = mean_of_wholes(applied.wholes, applied.values) if is_of_parts else (applied.keys, applied.values)
    if is_of_parts:
        say(f"{len(applied.keys):,} parts of {len(keys):,} files: each file's answer is the mean of its parts'")
    rows = [[key, *task.row(shown)] for key, shown in zip(keys, values, strict=True)]
    header = ["path", *task.header]
    if known is not None:
        _mark(header, rows, [known.is_unsure(float(shown.max())) for shown in values])
    _say_counts(task, values)
    return _written(header, rows, applied.skipped, Path(out))


def _opened(data: Any, reader: Reader | str | None, model: Network, folder: Path, task: Task) -> Source:
    """The images, and what is to be said of the network in `folder` that is to see them."""
    source = open_source(data, reader=reader, labels=None)
    say(f"predicting with {folder}")
    inherited = inherited_text(model.encoder.transform, folder)
    for line in [*inherited, *reader_left_out(folder, reader), *worth_of(folder, task)]:
        say(line)
    return source


def _written(header: list[str], rows: list[list[str]], skipped: list[tuple[str, str]], out: Path) -> "pandas.DataFrame":
    write_csv(out, header, rows)
    _report(skipped, len(rows), out)
    return _frame(header, rows)


def embed(
    run: str | Path,
    data: Any,
    *,
    out: str | Path = "features.parquet",
    cell: str | None = None,
    runtime: RuntimeSettings | None = None,
    reader: Reader | str | None = None,
    **keywords: Any,
) -> "pandas.DataFrame":
    """Pooled features of the images of `data`, in the columns path and features (float32 lists): as a frame, and as the
    parquet file `out`; of frames or tiles a row each.

    `run` is any run with an encoder, a study or a study's cell; of a study the first seed's pretrained encoder, unless
    `cell` names another network. Settings of `runtime` may be given by their names, such as ``device="cuda"``.
    """
    check_writable(Path(out))
    _check_form(Path(out), "parquet")
    fabric = make_fabric(with_keywords(runtime or RuntimeSettings(), keywords), alone=True)
    folder = encoder_of(Path(run), cell)
    source = open_source(data, reader=reader, labels=None)
    encoder = load_encoder(folder).to(fabric.device)
    say(f"embedding with {folder}")
    for line in [*inherited_text(encoder.transform, folder), *reader_left_out(folder, reader)]:
        say(line)
    applied = apply(lambda x: encoder.pool(encoder(x.to(fabric.device))), encoder.transform, source)
    features = pa.FixedSizeListArray.from_arrays(pa.array(applied.values.ravel()), applied.values.shape[1])
    sink = pa.BufferOutputStream()
    table = pa.table({"path": [printable(key) for key in applied.keys], "features": features})
    pq.write_table(table, sink)
    write_bytes(Path(out), sink.getvalue().to_pybytes())
    if applied.wholes:
        say(f"a row for each of {len(applied.keys):,} parts of {len({*applied.wholes}):,} files")
    _report(applied.skipped, len(applied.keys), Path(out))
    return table.to_pandas()


def _check_form(out: Path, form: str) -> None:
    """Raises WhymaskError for a name that says that the file has another form than it will have."""
    if out.suffix.lower() in {".csv", ".tsv", ".parquet", ".json", ".npy", ".npz", ".xlsx"} - {f".{form}"}:
        raise WhymaskError(f"--out {out}: it is written as {form}; a name that ends in .{form} was expected; change it")


@torch.inference_mode()
def apply(network: Callable[[Tensor], Tensor], transform: Preprocessing, source: Source) -> Applied:
    """Run `network` over all images of `source`, decoded by threads, a batch at a time."""
    for line in warnings_of(source, transform):
        say(line)
    source = in_parts(source, transform)
    applied = Applied()

    def prepared(index: int) -> Tensor | str:
        try:
            return transform(source.read(index))
        except Exception as error:
            return reason_of(error)

    with ThreadPoolExecutor() as pool, Steps("reading", len(source.keys), unit="image") as bar:
        for start in range(0, len(source.keys), BATCH):
            indices = range(start, min(start + BATCH, len(source.keys)))
            results = list(zip(indices, pool.map(prepared, indices), strict=True))
            applied.skipped += [(source.keys[i], result) for i, result in results if isinstance(result, str)]
            usable = [(i, result) for i, result in results if isinstance(result, Tensor)]
            if usable:
                applied.keys += [source.keys[i] for i, _ in usable]
                applied.wholes += [] if source.wholes is None else [str(source.wholes[i]) for i, _ in usable]
                applied.rows.append(network(torch.stack([image for _, image in usable])).float().cpu().numpy())
            bar.update(indices[-1] + 1)
    if not applied.keys:
        raise WhymaskError(why_unread(source, len(source), [f"{key}: {reason}" for key, reason in applied.skipped]))
    return applied


def _frame(header: list[str], rows: list[list[str]]) -> "pandas.DataFrame":
    """Predictions as they are written, what is no number as text: a class may be called 1, or NA."""
    import pandas

    frame = pandas.DataFrame([[printable(cell) for cell in row] for row in rows], columns=header)
    return frame.assign(**{name: pandas.to_numeric(frame[name]) for name in header if name not in TEXTS})


def _mark(header: list[str], rows: list[list[str]], unsure: list[bool]) -> None:
    """A column unsure beside the confidence, and how many there are is said."""
    place = header.index("confidence") + 1
    for row, added in zip([header, *rows], ["unsure", *("yes" if mark else "" for mark in unsure)], strict=True):
        row.insert(place, added)
    say(f"{sum(unsure):,} of {len(rows):,} images are marked unsure")


def _say_counts(task: Task, shown: np.ndarray) -> None:
    """How many of the images were found to be of each class, the most frequent first, where there are classes."""
    decided = task.decided(shown)
    if decided is None:
        return
    counts = sorted(zip(task.counts(decided), task.names, strict=True), key=lambda pair: -pair[0])
    say(f"images by predicted class: {first_classes([f'{name}: {count:,}' for count, name in counts])}")


def _report(skipped: list[tuple[str, str]], rows: int, out: Path) -> None:
    say(f"{rows:,} images: {out}")
    if skipped:
        beside = out.with_name(f"{out.stem}.skipped.csv")
        write_csv(beside, ["image", "reason"], skipped)
        say(f"{len(skipped):,} images cannot be used: {beside}")
