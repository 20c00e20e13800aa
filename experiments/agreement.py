"""`python -m experiments.agreement`: do the measures of why tell what is known to be true?

Networks are trained on glyphs of which half of the classes, chosen by the seed, show one feature only; the other half
show either of two, so that both are needed. Asked on images that show all features, of which each network recognises
those of both halves alike, "views" and "interactions" must tell the classes of which the network can know one feature
from those of which it can know two: by the area under the ROC curve over classes, within each network.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from scipy.stats import rankdata
from torch import Tensor

from whymask.data.glyphs import Glyphs, generate, render
from whymask.data.prepare import DataConfig, Prepared, prepare
from whymask.encoders import EncoderConfig, build_encoder, resolve
from whymask.explain.evidence import means_of
from whymask.explain.fill import fillers
from whymask.explain.interactions import effective_count, interactions, masked_values, regions
from whymask.explain.networks import BATCH, Network
from whymask.explain.views import count_views
from whymask.intervals import mean_interval
from whymask.progress import say
from whymask.randomness import numpy_generator
from whymask.runs import RunFolder, provenance, write_json
from whymask.stages.classify import classification_task, load_classifier, train_classifier
from whymask.stages.recipes import Finetuning
from whymask.training.device import RuntimeConfig, make_fabric, precision_of

OUT = Path("runs/agreement")
RESULT = Path("docs/results/why/agreement.json")
NETWORKS = 8
ENCODERS = {"cnn": EncoderConfig("cnn"), "vit": EncoderConfig("vit", width=64, depth=3, heads=2, patch=4)}


@dataclass(frozen=True)
class Truth:
    """Attributes:
    data: training images of one and two features, and test images that show all.
    two: bool (classes,), which of them have two features in training.
    """

    data: Prepared
    two: np.ndarray


def make_truth(glyphs: Glyphs, seed: int) -> Truth:
    two = np.zeros(glyphs.classes, bool)
    two[numpy_generator(seed, "classes of two features").permutation(glyphs.classes)[: glyphs.classes // 2]] = True
    shown, labels = _training_images(glyphs, two)
    test, test_labels, _ = generate(glyphs, glyphs.test, "all features")
    arrays = {"x_train": shown, "y_train": labels, "x_test": test, "y_test": test_labels}
    return Truth(prepare(arrays, DataConfig(), multiple_of=4), two)


def _training_images(glyphs: Glyphs, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes of one feature never show their second; the others show either, by turns."""
    _, labels, truth = generate(glyphs, glyphs.train, "one or two features")
    own = np.arange(truth.amplitudes.shape[1]) < glyphs.features
    view = np.where(two[labels], np.arange(glyphs.train) // glyphs.classes % glyphs.features, 0)
    kept = ~own | (np.arange(truth.amplitudes.shape[1]) == view[:, None])
    drawn = render(glyphs, replace(truth, amplitudes=(truth.amplitudes * kept).astype(np.float32)))
    noise = numpy_generator(glyphs.seed, "agreement noise").standard_normal(drawn.shape, dtype=np.float32)
    return drawn + np.float32(glyphs.noise) * noise, labels


def train(truth: Truth, encoder: EncoderConfig, seed: int, epochs: int, out: Path) -> Network:
    """A network from scratch, kept in the run folder `out`."""
    fabric = make_fabric(RuntimeConfig(device="cpu"))
    data, prep = truth.data, truth.data.images.preprocessing
    config = resolve(encoder, prep.size, prep.channels)
    network = build_encoder(config, prep.size, prep.channels, seed)
    network.transform = prep
    training = Finetuning(epochs=epochs).resolve(len(data.train), data, config)
    task = classification_task(fabric, data, data.train, network, training, None, seed)
    about = {"encoder": encoder, "seed": seed, "epochs": epochs, "data": data.images.fingerprint}
    run = RunFolder.open(out, about, provenance("cpu", precision_of(fabric)))
    if run.result is None:
        train_classifier(fabric, data, task, data.test, training, seed=seed, run=run, label=out.name)
    return Network("baseline", out.name, seed, load_classifier(out)[0], prep)


def measured(network: Network, images: Tensor, labels: Tensor, interaction_images: int) -> dict[str, np.ndarray]:
    """Of each image (n,): "recognised", and by filling "views ..." and, of the first images, "interactions ..."; NaN
    where the image is not recognised."""
    whole = network.recognises(images, labels)
    cells = network.encoder.grid
    means = means_of(network, images, labels)
    where = regions(network.encoder.size, 8)
    found = {"recognised": whole.double().numpy()}
    some = slice(0, interaction_images)
    for name, filler in fillers(images, cells).items():
        counts = whole & ~network.recognises(filler, labels)
        views = count_views(network, images, labels, filler, counts, cells, means)
        found[f"views, {name}"] = np.where(counts, views, np.nan)
        values = masked_values(network, images[some], labels[some], filler[some], where, BATCH)
        count = effective_count(interactions(values))
        found[f"interactions, {name}"] = np.where(whole[some], count, np.nan)
    return found


def auc(scores: np.ndarray, two: np.ndarray) -> float:
    """Area under the ROC curve of `scores` (classes,) for the classes that are `two`: the share of pairs in order.

    A class without a score, since the network says it of a blank image too, is left out.
    """
    scores, two = scores[~np.isnan(scores)], two[~np.isnan(scores)]
    ranks = rankdata(scores)
    positive = int(two.sum())
    return float((ranks[two].sum() - positive * (positive + 1) / 2) / (positive * (len(two) - positive)))


def by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean of each class's images that count; NaN where none does."""
    labels, counts = labels[: len(values)], ~np.isnan(values)
    own = [values[counts & (labels == c)] for c in range(classes)]
    return np.array([part.mean() if len(part) else np.nan for part in own])


def agreement(network: Network, truth: Truth, images: int, interaction_images: int) -> dict[str, float]:
    """The AUC of each measure in one network, and its accuracy on classes of one and of two features."""
    data = truth.data
    rows = data.test[:images]  # the classes in turn
    shown = data.images.preprocessing.normalise(data.images.images[rows])
    labels = torch.from_numpy(data.images.labels[rows])
    found = measured(network, shown, labels, interaction_images)
    classes = len(truth.two)
    right = by_class(found.pop("recognised"), labels.numpy(), classes)
    result = {name: auc(by_class(values, labels.numpy(), classes), truth.two) for name, values in found.items()}
    return result | {
        "accuracy_one_feature": right[~truth.two].mean(),
        "accuracy_two_features": right[truth.two].mean(),
    }


def summary(rows: list[dict[str, float]], encoder: str) -> list[dict[str, Any]]:
    """Rows of agreement.json: of each measure and filling the mean AUC over networks, and its t interval in [0, 1]."""
    accuracy = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name.startswith("accuracy")}
    table = []
    for name in rows[0]:
        if name in accuracy:
            continue
        measure, filling = name.split(", ")
        over = mean_interval([row[name] for row in rows])
        low, high = (None if bound is None else float(np.clip(bound, 0, 1)) for bound in (over.low, over.high))
        told = {"measure": measure, "filling": filling, "encoder": encoder, "auc": over.mean, "low": low, "high": high}
        table.append(told | {"networks": over.seeds} | accuracy)
    return table


def main(networks: int = NETWORKS, epochs: int = 20, images: int = 500, interaction_images: int = 200) -> None:
    """Train the networks, measure them, and write docs/results/why/agreement.json."""
    glyphs = Glyphs(train=2000, test=max(images, 500))
    table: list[dict[str, Any]] = []
    for name, encoder in ENCODERS.items():
        rows = []
        for seed in range(networks):
            truth = make_truth(glyphs, seed)
            network = train(truth, encoder, seed, epochs, OUT / f"{name}-{seed}")
            rows.append(agreement(network, truth, images, interaction_images))
            say(f"{name} {seed}: " + ", ".join(f"{key} {value:.3f}" for key, value in rows[-1].items()))
        table += summary(rows, name)
    write_json(RESULT, table)


if __name__ == "__main__":
    tyro.cli(main)
