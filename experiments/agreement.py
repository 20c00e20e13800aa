"""`python -m experiments.agreement`: do the measures of why tell what is known to be true?

Networks are trained on glyphs of which half of the classes, chosen by the seed, show one feature only; the other half
show either of two, so that both are needed. Asked on images that show all features, "views" and "interactions" (their
effective number) must tell the classes of which the network can know one feature from those of which it can know two:
by the area under the ROC curve over classes, within each network.

At equal accuracy: images that a network does not recognise do not count, and a class of one feature is compared only
with those classes of two of which the network recognises as many images, within `ALIKE`.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from whymask.data.glyph_settings import Glyphs
from whymask.data.glyphs import generate, render
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import write_json
from whymask.encoders import EncoderSettings, build_encoder, resolve
from whymask.explanations.batching import BATCH
from whymask.explanations.evidence import means_of
from whymask.explanations.fill import FILLINGS, fillers
from whymask.explanations.measures.features import features_alone, recognised
from whymask.explanations.measures.interactions import effective_count, interactions, masked_values
from whymask.explanations.measures.known_views import auc, auc_interval, by_class
from whymask.explanations.measures.views import count_views
from whymask.explanations.networks import Member
from whymask.explanations.regions import regions
from whymask.progress import say
from whymask.randomness import numpy_generator
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.recipes import resolve_finetuning
from whymask.stages.settings import SCRATCH, FinetuneTrainingSettings
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

OUT = Path("runs/agreement")
RESULT = Path("docs/results/why/agreement.json")
NETWORKS = 20
ENCODERS = {"cnn": EncoderSettings("cnn"), "vit": EncoderSettings("vit", width=64, depth=3, heads=2, patch=4)}


@dataclass(frozen=True)
class Truth:
    """Attributes:
    glyphs: which images.
    data: training images of one and two features, and test images that show all.
    two: bool (classes,), which of them have two features in training.
    """

    glyphs: Glyphs
    data: Prepared
    two: np.ndarray


def make_truth(glyphs: Glyphs, seed: int) -> Truth:
    two = np.zeros(glyphs.classes, bool)
    two[numpy_generator(seed, "classes of two features").permutation(glyphs.classes)[: glyphs.classes // 2]] = True
    shown, labels = _training_images(glyphs, two)
    test, test_labels, _ = generate(glyphs, glyphs.test, "all features")
    arrays = {"x_train": shown, "y_train": labels, "x_test": test, "y_test": test_labels}
    return Truth(glyphs, prepare(arrays, DataSettings(), multiple_of=4), two)


def _training_images(glyphs: Glyphs, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Classes of one feature never show their second; the others show either, by turns."""
    _, labels, truth = generate(glyphs, glyphs.train, "one or two features")
    own = np.arange(truth.amplitudes.shape[1]) < glyphs.features
    view = np.where(two[labels], np.arange(glyphs.train) // glyphs.classes % glyphs.features, 0)
    kept = ~own | (np.arange(truth.amplitudes.shape[1]) == view[:, None])
    drawn = render(glyphs, replace(truth, amplitudes=(truth.amplitudes * kept).astype(np.float32)))
    noise = numpy_generator(glyphs.seed, "agreement noise").standard_normal(drawn.shape, dtype=np.float32)
    return drawn + np.float32(glyphs.noise) * noise, labels


def train(truth: Truth, encoder: EncoderSettings, seed: int, epochs: int, out: Path) -> Member:
    """A network from scratch, kept in the run folder `out`."""
    data = truth.data
    context = Context(make_fabric(RuntimeSettings(device="cpu")), data)
    prep = context.preprocessing
    config = resolve(encoder, prep.size, prep.channels)
    network = build_encoder(config, prep.size, prep.channels, seed)
    network.transform = prep
    job = ClassifierJob(
        arm=SCRATCH,
        seed=seed,
        budget="all",
        rows=data.train,
        test=data.test,
        config=config,
        build=lambda: network,
        training=resolve_finetuning(FinetuneTrainingSettings(epochs=epochs), len(data.train), data, config),
        augment="none",
    )
    train_classifier(context, job, out, out.name)
    return Member("baseline", out.name, seed, load_classifier(out)[0], prep)


def measured(network: Member, images: Tensor, labels: Tensor, interaction_images: int) -> dict[str, np.ndarray]:
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


def agreement(network: Member, truth: Truth, images: int, interaction_images: int) -> dict[str, float]:
    """The AUC of each measure in one network, and of accuracy itself; its accuracy on both kinds of classes.

    "captured_...": how many features of these it captured (measure 1).
    """
    data = truth.data
    rows = data.test[:images]  # the classes in turn
    shown = data.images.preprocessing.normalise(data.images.images[rows])
    labels = torch.from_numpy(data.images.labels[rows])
    found = measured(network, shown, labels, interaction_images)
    classes = len(truth.two)
    accuracy = by_class(found.pop("recognised"), labels.numpy(), classes)
    captured = (recognised(network, features_alone(truth.glyphs, network.preprocessing)) > 0.5).sum(axis=1)
    result: dict[str, float] = {}
    for name, values in (("accuracy", accuracy), ("captured", captured)):
        result |= {f"{name}_one_feature": values[~truth.two].mean(), f"{name}_two_features": values[truth.two].mean()}
    for name, values in found.items():
        scores = by_class(values, labels.numpy(), classes)
        result |= {name: auc(scores, truth.two, accuracy), f"{name}, all pairs": auc(scores, truth.two)}
    return result | {"accuracy": auc(accuracy, truth.two)}


def summary(rows: list[dict[str, float]], encoder: str) -> list[dict[str, Any]]:
    """Rows of agreement.json: of each measure and filling the mean AUC over networks, and its interval.

    "auc" is at equal accuracy, "auc_all_pairs" is not; "networks" are those that have classes of both kinds with equal
    accuracy. Interval: Student's t over networks, within 0 and 1; where all have an AUC of 1 and so no spread, the
    exact one for as many networks that all succeed (Clopper and Pearson). The row "accuracy" says what the share of
    images that are recognised would tell.
    """
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    truth = {name: float(values.mean()) for name, values in columns.items() if "_feature" in name}
    table = []
    for name in (*(f"{m}, {f}" for f in FILLINGS for m in ("views", "interactions")), "accuracy"):
        measure, _, filling = name.partition(", ")
        found = columns[name][~np.isnan(columns[name])]
        low, high = auc_interval(found)
        told: dict[str, Any] = {
            "measure": measure,
            "filling": filling or None,
            "encoder": encoder,
            "auc": float(found.mean()),
        }
        told |= {"low": low, "high": high, "networks": len(found)}
        if filling:
            told["auc_all_pairs"] = float(np.nanmean(columns[f"{name}, all pairs"]))
        table.append(told | truth)
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
