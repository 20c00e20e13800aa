"""`python -m experiments.conflict STUDY`: which of two parts do a study's networks answer with, on composites?

Test images of a study of composites show either part beside noise, which no network has met in training. So here the
same networks see test images that show both parts, of which one is at the mean colour, or is taken from an image of
another class: then whoever goes by the one part answers with another class than who goes by the other.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor

from whymask.data.composite_settings import WHOLE
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.intervals import level_interval
from whymask.stages.network import Classifier, load_classifier

ASKED = ("first part alone", "second part alone", "the first part's class", "the second part's class")
"""Accuracy with the other part at the mean colour; and what is answered where parts are of different classes."""


Shown = list[tuple[Tensor, dict[str, np.ndarray]]]
"""Images, and for each of `ASKED` that is asked of them the class that counts."""


def seen(images: Tensor, labels: np.ndarray) -> Shown:
    """What is shown, and asked of it.

    images: standardised, (N, C, H, W), the first part in the upper half of H; labels: of both parts, (N,), of which
    neighbours differ, as composites have their classes in turn.
    """
    half = images.shape[2] // 2
    first, second, others = images.clone(), images.clone(), np.roll(labels, 1)
    if (others == labels).any():
        raise ValueError("two neighbours of one class; classes in turn were expected")
    first[:, :, half:], second[:, :, :half] = 0, 0
    mixed = torch.cat([images[:, :, :half], images.roll(1, 0)[:, :, half:]], dim=2)
    alone, other_alone, of_first, of_second = ASKED
    return [(first, {alone: labels}), (second, {other_alone: labels}), (mixed, {of_first: labels, of_second: others})]


@torch.inference_mode()
def shares(network: Classifier, shown: Shown) -> dict[str, float]:
    """How often the network's answer is the class that counts."""
    answered = [(network.eval()(images).argmax(dim=1).numpy(), asked) for images, asked in shown]
    return {name: float((answers == right).mean()) for answers, asked in answered for name, right in asked.items()}


def rows_of(study: Path, data: str) -> list[dict[str, Any]]:
    """[{"arm", "budget", "seeds", "images", each of `ASKED`: {"mean", "low", "high"} over seeds}]."""
    prepared = prepare(data, DataSettings(), multiple_of=4)
    rows = prepared.test[prepared.test_tags == WHOLE]
    shown = seen(prepared.images.preprocessing.normalise(prepared.images.images[rows]), prepared.images.labels[rows])
    found: dict[tuple[str, str], list[dict[str, float]]] = {}
    for cell in read_json(study / "study.json")["cells"]:
        network, _ = load_classifier(study / "cells" / Path(cell["folder"]).name)
        found.setdefault((cell["arm"], cell["budget"]), []).append(shares(network, shown))
    return [
        {"arm": arm, "budget": budget, "seeds": len(each), "images": len(rows)}
        | {name: _over_seeds([values[name] for values in each]) for name in ASKED}
        for (arm, budget), each in found.items()
    ]


def _over_seeds(values: list[float]) -> dict[str, float | None]:
    interval = level_interval(values)
    return {"mean": interval.mean, "low": interval.low, "high": interval.high}


def main(
    study: Path = Path("runs/photos/composites/photo-garment-vit-mae"),
    data: str = "composites:A=../shared/data/cifar10-jpeg,B=../shared/data/fashion-mnist,unlabelled=10000,side=32",
    out: Path = Path("docs/results/photos/composites/photo-garment-vit-mae/conflict.json"),
) -> None:
    """Print the table and write it.

    Args:
        study: a finished study of composites of two parts.
        data: what it was of.
        out: json.
    """
    found = rows_of(study, data)
    table = Table("arm", "labels", "seeds", *ASKED)
    for row in found:
        told = [f"{row[name]['mean']:.3f} ({row[name]['low']:.3f} to {row[name]['high']:.3f})" for name in ASKED]
        table.add_row(row["arm"], row["budget"], str(row["seeds"]), *told)
    Console().print(table)
    write_json(out, found)


if __name__ == "__main__":
    tyro.cli(main)
