"""`choose`: which images of a source to label next, as a CSV to fill in and a contact sheet."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import torch
from torch import Tensor

from whymask.choosing.distances import to_nearest, unit
from whymask.choosing.labelling import labelling_keys
from whymask.choosing.rules import RULES, Choice, Images
from whymask.choosing.settings import SOURCES, UNCERTAIN, Rule, check_count
from whymask.choosing.uncertain import uncertain
from whymask.data.csv_rows import read_csv
from whymask.data.inherited import inherited_text
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import NO_LABELS, DataSettings
from whymask.data.sources import Reader, Source, open_asked
from whymask.disk import check_writable, printable, read_json, write_bytes, write_csv
from whymask.encoders import load_encoder
from whymask.errors import WhymaskError
from whymask.keywords import with_keywords
from whymask.progress import say
from whymask.report.page import render
from whymask.report.pictures import as_bytes, data_uri
from whymask.report.text import clean
from whymask.stages.applying import Application, report_skipped
from whymask.stages.network import load_classifier
from whymask.stages.taken import encoder_of, network_of, reader_left_out
from whymask.tasks import Classification, task_from
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

if TYPE_CHECKING:
    import pandas

HEADER = ["path", "label", "rank", "why"]
SAME = 1e-3
"""Distance of features of length 1 below which two pictures are one: what rounding leaves of none."""
SIDE = 144
"""Of a picture on the contact sheet, pixels."""
_TEMPLATES = Path(__file__).with_name("templates")


def choose(
    run: str | Path,
    data: Any,
    *,
    labels: int,
    rule: Rule = "auto",
    labelled: Any = None,
    out: str | Path = "to-label.csv",
    cell: str | None = None,
    seed: int = 0,
    runtime: RuntimeSettings | None = None,
    reader: Reader | str | None = None,
    **keywords: Any,
) -> "pandas.DataFrame":
    """Which of the images of `data` to label next, as many as `labels`: as a frame, and as the CSV file `out`.

    Columns: path, label (to be filled in), rank (1 is the most useful) and why. With labels filled in, it is what
    ``labels`` of the other functions take. Images that are no files of their own, as in parquet, are written as PNG
    into a folder beside it. A contact sheet lies beside it too.

    `run` is what `embed` takes; its features decide, by `rule`: see `whymask.choosing.settings`. "auto" is uncertain
    where the network classifies, else typical. What has a label in `data`, or in `labelled` (a folder or CSV, as
    ``labels`` elsewhere), counts as chosen, and is left out; `labelled` "none" says that nothing has. Images of a test
    split are left out, and count for nothing. Where every image would have the name of its folder as label, folders are
    taken for no labels, which is said. Raises WhymaskError where fewer are left than are asked for.
    """
    check_count(labels)
    _check_out(Path(out))
    if rule not in get_args(Rule):
        raise WhymaskError(f"--rule {rule}: one of {', '.join(get_args(Rule))} was expected")
    fabric = make_fabric(with_keywords(runtime or RuntimeSettings(), keywords), alone=True)
    folder = (network_of if rule == UNCERTAIN else encoder_of)(Path(run), cell, images=data)
    source = _opened(data, labelled, reader)
    seer = _Seer.of(folder, rule, fabric.device)
    say(f"choosing with {seer.folder}: {SOURCES[seer.rule]}")
    for line in [*inherited_text(seer.transform, seer.folder), *reader_left_out(seer.folder, reader)]:
        say(line)
    applied = Application(seer.network, seer.transform, source)
    rows, values = _seen(applied, source)
    known = _labelled_alike(values[:, : seer.dim], source.labelled[rows])
    counted, left = _counted_text(source.labelled[rows], known), int((~known).sum())
    _check_left(source, counted, len(rows), left, labels)
    chosen = seer.choose(values, known, labels, seed, len(source.classes) or None)
    found = [Choice(int(rows[choice.row]), choice.why) for choice in chosen]
    named = labelling_keys(source, [choice.row for choice in found], Path(out))
    page = _page(source, found, named, seer, counted, len(rows))
    table = [[key, "", rank, choice.why] for rank, (key, choice) in enumerate(zip(named, found, strict=True), 1)]
    said = f"{len(table):,} of {left:,} unlabelled images are chosen, {counted}: {out}"
    return _written(table, page, Path(out), applied.skipped, said)


def _labelled_alike(features: np.ndarray, labelled: np.ndarray) -> np.ndarray:
    """Which images are `labelled`, bool (N,), or are the picture of one that is, such as a PNG that an earlier choice
    made of a parquet's image."""
    directions = unit(features)
    return labelled | (to_nearest(directions, directions[labelled]) < SAME)


def _counted_text(labelled: np.ndarray, known: np.ndarray) -> str:
    """ "60 labelled ones and 58 copies of them count as chosen"; bool (N,) both, `known` of what counts."""
    copies = int((known & ~labelled).sum())
    beside = f" and {copies:,} copies of them" if copies else ""
    return f"{int(labelled.sum()):,} labelled ones{beside} count as chosen"


def _check_out(out: Path) -> None:
    """Raises WhymaskError for a file that cannot be written, or in which somebody has filled in labels."""
    check_writable(out)
    if out.suffix.lower() != ".csv":
        raise WhymaskError(f"--out {out}: it is written as csv; a name that ends in .csv was expected; change it")
    if not out.exists():
        return
    header, rows = read_csv(str(out), out)
    filled = sum(bool(dict(zip(header, row, strict=False)).get("label", "").strip()) for row in rows)
    if filled:
        raise WhymaskError(
            f"--out {out}: {filled:,} labels are filled in there, which would be lost; give another --out, and the "
            "file as --labelled"
        )


def _seen(applied: Application, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n,) of the files that could be read and are not to be tested on, and what was made of each (n, D)."""
    parts = [*applied.answers()]
    place = {key: row for row, key in enumerate(source.keys)}
    rows = np.array([place[key] for names, _ in parts for key in names])
    values = np.concatenate([values for _, values in parts])
    counted = np.ones(len(rows), bool) if source.splits is None else source.splits[rows] != "test"
    return rows[counted], values[counted]


def _written(
    table: list[list[Any]], page: bytes, out: Path, skipped: list[tuple[str, str]], said: str
) -> "pandas.DataFrame":
    """The list and the contact sheet in their files, and `said` how many; the list as a frame."""
    import pandas

    write_csv(out, HEADER, table)
    write_bytes(out.with_suffix(".html"), page)
    report_skipped(skipped, out)
    say(f"{said}\nFill in its column label, and give it as --labels. The contact sheet: {out.with_suffix('.html')}")
    rows = [[printable(str(cell)) for cell in row] for row in table]
    return pandas.DataFrame(rows, columns=HEADER).astype({"rank": int})


@dataclass(frozen=True)
class _Seer:
    """What sees the images, and the rule by which its answers choose."""

    folder: Path
    rule: str
    transform: Preprocessing
    network: Callable[[Tensor], Tensor]
    dim: int

    @classmethod
    def of(cls, folder: Path, rule: str, device: torch.device) -> "_Seer":
        classifies = _classifies(folder)
        if rule == UNCERTAIN and not classifies:
            raise WhymaskError(
                f"--rule uncertain: {folder} holds no classifier of one class an image; give a run that was "
                "fine-tuned to classify, or --rule typical"
            )
        if rule == "auto":
            rule = UNCERTAIN if classifies else "typical"
        if rule != UNCERTAIN:
            encoder = load_encoder(folder).to(device)
            return cls(
                folder, rule, encoder.transform, lambda images: encoder.pool(encoder(images.to(device))), encoder.dim
            )
        model = load_classifier(folder)[0].to(device)

        def features_and_answers(images: Tensor) -> Tensor:
            features = model.encoder.pool(model.encoder(images.to(device)))
            return torch.cat([features, model.head(features).softmax(dim=1)], dim=1)

        return cls(folder, rule, model.encoder.transform, features_and_answers, model.encoder.dim)

    def choose(self, values: np.ndarray, known: np.ndarray, count: int, seed: int, classes: int | None) -> list[Choice]:
        if self.rule == UNCERTAIN:
            found = uncertain(values[:, : self.dim], values[:, self.dim :], ~known, count, seed)
            return [Choice(row, f"confidence {sure:.2f}") for row, sure in found]
        return RULES[self.rule](Images(unit(values), known, ~known, classes), count, seed)


def _classifies(folder: Path) -> bool:
    head = folder / "head.json"
    return head.exists() and task_from(read_json(head)).name == Classification.name


def _opened(data: Any, labelled: Any, reader: Reader | str | None) -> Source:
    source = open_asked(data, DataSettings(labels=labelled), reader)
    if labelled is not None or not source.by_folders or not source.labelled.all():
        return source
    say("every image would be labelled by the name of its folder, and none left to choose: folders are no labels here")
    return open_asked(data, DataSettings(labels=NO_LABELS), reader)


def _check_left(source: Source, counted: str, images: int, left: int, labels: int) -> None:
    if labels <= left:
        return
    otherwise = f"; --labelled {NO_LABELS} says that what looks like labels, such as folders, is none"
    raise WhymaskError(
        f"--labels {labels}: of {source.name}, {images:,} images without those to test on, {counted}, and {left:,} can "
        f"be chosen{otherwise if not left or source.by_folders else ''}"
    )


def _page(
    source: Source, found: Sequence[Choice], named: Sequence[str], seer: _Seer, counted: str, images: int
) -> bytes:
    prep = seer.transform

    def picture(row: int) -> str:
        stored = prep.decode(source.read(row))
        return data_uri(as_bytes(stored), SIDE)

    with ThreadPoolExecutor() as pool:
        pictures = list(pool.map(picture, [choice.row for choice in found]))
    shown = [
        {"uri": uri, "name": Path(key).name, "why": choice.why}
        for uri, key, choice in zip(pictures, named, found, strict=True)
    ]
    told = {"name": source.name, "counted": counted, "images": images, "rule": seer.rule}
    told |= {"source": SOURCES[seer.rule]}
    return render("choice.html.j2", _TEMPLATES, told=clean(told), shown=clean(shown))
