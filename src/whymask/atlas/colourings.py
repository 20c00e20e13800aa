"""What the points of a map may be coloured by: each image's class, split, cluster, and what networks got wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.data.prepare import Prepared, are_same_images
from whymask.data.sheet import captions_of
from whymask.disk import read_arrays, read_json
from whymask.report.label_maps import palette
from whymask.stages.record import read_record
from whymask.stages.taken import STUDY, leading_of
from whymask.tasks.answers import answers_of, are_right_or_wrong, wrongness

MOST = 20
"""Groups that have a colour of their own, the largest; the others share one."""
OTHERS = "others"
GREY = "#8a8a8a"
NOT_TESTED = "not tested"
SPLITS = ("trained on", "tested on", "unlabelled", "left out")


@dataclass(frozen=True)
class Colouring:
    """Into which group each image falls: `of` int64 (N,), numbers of `names`; `colours` such as #1f77b4."""

    title: str
    names: list[str]
    colours: list[str]
    of: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        return {"title": self.title, "names": self.names, "colours": self.colours}


def colouring(title: str, names: Sequence[str], of: np.ndarray, grey: Sequence[str] = ()) -> Colouring:
    """The groups that there are, up to MOST, the largest, and the others as one; those called `grey` without colour."""
    counts = np.bincount(of, minlength=len(names))
    there = [number for number in np.argsort(-counts, kind="stable").tolist() if counts[number]]
    kept = sorted(there[:MOST])
    place = np.full(len(names), len(kept))
    place[kept] = np.arange(len(kept))
    shown = [names[number] for number in kept]
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in palette(len(kept)).tolist()]
    colours = [GREY if name in grey else colour for name, colour in zip(shown, colours, strict=True)]
    if len(there) > len(kept):
        shown, colours = [*shown, OTHERS], [*colours, GREY]
    return Colouring(title, shown, colours, place[of])


def by_class(prepared: Prepared, rows: np.ndarray) -> Colouring:
    """By class; of several classes by which; of numbers by quarters; of label maps by whether there is one."""
    found = captions_of(prepared.images.labels[rows], prepared.task)
    order = sorted(set(found))
    number = {caption: place for place, caption in enumerate(order)}
    of = np.array([number[caption] for caption in found])
    return colouring(prepared.task.name_is, [name for _, name in order], of, grey=("unlabelled",))


def by_split(prepared: Prepared, rows: np.ndarray) -> Colouring:
    """By who may see them: trained on, tested on, in pretraining alone, or in neither."""
    of = np.full(len(prepared.images), 3)
    of[prepared.pool], of[prepared.train], of[prepared.test] = 2, 0, 1
    return colouring("split", SPLITS, of[rows], grey=SPLITS[3:])


def by_cluster(clusters: np.ndarray) -> Colouring:
    return colouring("cluster", [f"cluster {number}" for number in range(clusters.max() + 1)], clusters)


def by_error(run: Path, folder: Path, prepared: Prepared, rows: np.ndarray) -> Colouring | None:
    """By what networks say of the test images: of a study its arm beside training from scratch, at the budget of the
    verdict and over all seeds, else of the network in `folder`. None where they were tested on others than these, or
    answers are not right or wrong."""
    if not are_right_or_wrong(prepared.task, prepared.images.labels[prepared.test]):
        return None
    if (run / STUDY).exists():
        return _of_study(run, read_json(run / STUDY), prepared, rows)
    wrong = _wrong_in(folder, prepared)
    if wrong is None:
        return None
    found = (wrong > 0).astype(int)
    return _tested("error", ("right", "wrong"), found, prepared, rows)


def _of_study(run: Path, study: Mapping[str, Any], prepared: Prepared, rows: np.ndarray) -> Colouring | None:
    """Less wrong than from scratch in the mean over the seeds that both have, or more; else right or wrong in all."""
    arm, labels = leading_of(study), study["verdict"].get("labels_per_class")
    wrong: dict[str, dict[int, np.ndarray]] = {arm: {}, "scratch": {}}
    for cell in study["cells"]:
        if cell["arm"] in wrong and cell.get("metrics") and cell["labels_per_class"] == labels:
            found = _wrong_in(run / cell["folder"], prepared)
            if found is not None:
                wrong[cell["arm"]][cell["seed"]] = found
    seeds = sorted(wrong[arm].keys() & wrong["scratch"].keys())
    if not seeds or arm == "scratch":
        return None
    own, other = (np.mean([wrong[name][seed] for seed in seeds], axis=0) for name in (arm, "scratch"))
    names = ("right in every seed", f"repaired by {arm}", f"broken by {arm}", "as often wrong")
    found = np.select([own + other == 0, own < other, own > other], [0, 1, 2], 3)
    return _tested(f"error of {arm} and scratch", names, found, prepared, rows)


def _tested(title: str, names: Sequence[str], found: np.ndarray, prepared: Prepared, rows: np.ndarray) -> Colouring:
    of = np.full(len(prepared.images), len(names))
    of[prepared.test] = found
    return colouring(title, [*names, NOT_TESTED], of[rows], grey=(NOT_TESTED,))


def _wrong_in(folder: Path, prepared: Prepared) -> np.ndarray | None:
    """How wrong the network in `folder` is on each test image (n,); None where it was tested on others."""
    path = folder / "predictions.npz"
    if not path.exists() or not are_same_images(read_record(folder).data, prepared.identity):
        return None
    kept = read_arrays(path)
    if not np.array_equal(kept["rows"], prepared.test):
        return None
    return wrongness(prepared.task, answers_of(prepared.task, kept[prepared.task.kept_as]), kept["labels"])
