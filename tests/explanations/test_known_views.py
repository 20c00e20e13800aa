"""Whether views are true on a user's own images: networks of known views, on composites and on photos put together."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from tiny import runtime, small_explanation
from whymask import Explanation, FinetuneSettings, explain, finetune
from whymask.data.prepare import Prepared, prepare
from whymask.data.preprocessing import Preprocessing
from whymask.data.settings import DataSettings
from whymask.encoders import EncoderSettings
from whymask.explanations.measures.known_views import (
    ALL,
    AUC,
    AUC_ALL,
    AUC_OF_ACCURACY,
    ONE,
    PAIRS,
    Truth,
    agreement,
    auc,
    auc_interval,
    make_truth,
    numbers_of_truth,
)
from whymask.explanations.networks import Member
from whymask.stages.network import Classifier
from whymask.stages.settings import FinetuneTrainingSettings

SIDE, CLASSES = 16, 6


def colour_of(source: str, label: int) -> list[int]:
    """Of the square that tells a class."""
    strong = 255 - 90 * (label % 2)
    return [strong, 110 * (label // 2), 30] if source == "a" else [30, 110 * (label // 2), strong]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a/ and b/: pictures of six classes each, told by the colour of a square, reddish in a and bluish in b."""
    root, random = tmp_path_factory.mktemp("folders"), np.random.default_rng(0)
    for source in "ab":
        for label in range(CLASSES):
            (root / source / f"class {label}").mkdir(parents=True)
            for number in range(20):
                pixels = random.normal(90, 12, (SIDE, SIDE, 3))
                row, column = 4 * random.integers(SIDE // 4 - 1, size=2)  # of two cells a side
                pixels[row : row + 8, column : column + 8] = colour_of(source, label)
                image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
                image.save(root / source / f"class {label}" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def composites(folders: Path) -> str:
    return f"composites:A={folders / 'a'},B={folders / 'b'},unlabelled=0,train=240,test=180,side={SIDE}"


@pytest.fixture(scope="module")
def runs(composites: str, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two networks from scratch on the composites, of one seed."""
    root = tmp_path_factory.mktemp("runs")
    training, cnn = FinetuneTrainingSettings(epochs=3, batch_size=32), EncoderSettings("cnn", width=4)
    finetune(
        composites, out=root / "scratch", settings=FinetuneSettings(training=training, encoder=cnn, runtime=runtime())
    )
    shutil.copytree(root / "scratch", root / "other")
    return [root / "other", root / "scratch"]


# what is known ---------------------------------------------------------------------------------------------------


Names = Callable[[int, int], tuple[str, int]]
"""A class and a part -> of which folder and of which class there its picture is."""


def shown_class(half: np.ndarray, part: int, classes: int, names: Names) -> int | None:
    """Of which class a half shows the picture of a part; None of noise."""
    near = [(np.abs(half - np.array(colour_of(*names(c, part)))).max(axis=2) < 12).sum() for c in range(classes)]
    return int(np.argmax(near)) if max(near) > 40 else None


def check_truth(prepared: Prepared, classes: int, names: Names) -> None:
    truth = make_truth(prepared, seed=0, test=24)
    known, data, shown = truth.known, truth.data, truth.data.images
    assert known.shape == (classes, 2) and truth.several.sum() == classes - classes // 2
    assert len(data.test) == 24 and len(data.classes) == classes

    def seen(row: int) -> tuple[int, list[int | None]]:
        parts = np.split(shown.images[row].astype(int), 2)
        return int(shown.labels[row]), [shown_class(half, part, classes, names) for part, half in enumerate(parts)]

    told = np.zeros_like(known)
    for label, parts in map(seen, data.train):
        telling = [part for part in range(2) if parts[part] == label and known[label, part]]
        assert len(telling) == 1
        told[label, telling] = True
        other = parts[1 - telling[0]]  # tells nothing: of no class that is told by it
        assert (other is None) == bool(known[:, 1 - telling[0]].all())
        assert other is None or not known[other, 1 - telling[0]]
    assert np.array_equal(told, known)
    assert all(parts == [label, label] for label, parts in map(seen, data.test))
    again = make_truth(prepared, seed=0, test=24)
    assert np.array_equal(again.data.images.images, shown.images) and np.array_equal(again.known, known)
    assert any(not np.array_equal(make_truth(prepared, seed, 6).known, known) for seed in (1, 2, 3))


def test_training_images_of_half_of_the_classes_are_told_by_one_part_of_composites(composites: str) -> None:
    check_truth(prepare(composites, DataSettings(), multiple_of=4), CLASSES, lambda c, part: ("ab"[part], c))


def test_photos_of_two_classes_are_put_together(folders: Path) -> None:
    prepared = prepare(str(folders / "a"), DataSettings(), multiple_of=4)
    check_truth(prepared, CLASSES // 2, lambda c, part: ("a", 2 * c + part))
    truth = make_truth(prepared, seed=0, test=6)
    originals = {image.tobytes() for image in np.asarray(prepared.images.images[prepared.test])}
    tested = np.asarray(truth.data.images.images[truth.data.test])
    assert {half.tobytes() for image in tested for half in np.split(image, 2)} <= originals  # none was trained on


# how well it is told ---------------------------------------------------------------------------------------------


def test_the_area_counts_pairs_of_classes_recognised_alike() -> None:
    several, scores = np.array([True, True, False, False]), np.array([3.0, 1.0, 1.0, 2.0])
    assert auc(scores, several) == (1 + 1 + 0.5 + 0) / 4
    assert auc(scores, several, np.array([0.9, 0.5, 0.88, 0.1])) == 1  # only the first and the third
    assert np.isnan(auc(scores, several, np.array([0.9, 0.8, 0.3, 0.1])))
    assert auc_interval(np.ones(20))[0] == pytest.approx(0.83, abs=0.005) and auc_interval(np.ones(20))[1] == 1


def test_networks_that_say_nothing_do_not_count() -> None:
    found = {0: {(AUC, "mean"): 1.0, (AUC, "patches"): np.nan}, 1: {(AUC, "mean"): 0.5, (AUC, "patches"): np.nan}}
    rows = numbers_of_truth("scratch", {**found, 2: {(AUC, "mean"): np.nan, (AUC, "patches"): np.nan}})
    assert [(row.value, row.seed, row.over, row.count) for row in rows] == [
        (1.0, 0, "networks", 1), (0.5, 1, "networks", 1), (0.75, None, "seeds", 2),
    ]  # fmt: skip


class Colours(nn.Module):
    """An encoder with a feature for each colour, of a/ and then of b/: how near the nearest cell of 4 x 4 is to it."""

    kind, dim, grid, size, channels = "cnn", 2 * CLASSES, (2 * SIDE // 4, SIDE // 4), (2 * SIDE, SIDE), 3

    def __init__(self, transform: Preprocessing) -> None:
        super().__init__()
        self.transform = transform
        self.mean, self.std = (torch.tensor(v).view(-1, 1, 1) for v in (transform.mean, transform.std))

    def forward(self, images: Tensor) -> Tensor:
        cells = F.avg_pool2d(images * self.std + self.mean, 4)[:, None]
        colours = torch.tensor([colour_of(source, label) for source in "ab" for label in range(CLASSES)])
        return (1 - 5 * (cells - colours[None, :, :, None, None] / 255).abs().amax(dim=2)).relu()

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        return point(self(images))

    def pool(self, features: Tensor) -> Tensor:
        return features.amax(dim=(2, 3))


def knowing(truth: Truth, known: np.ndarray) -> Member:
    """A network that knows exactly the parts `known` (classes, parts)."""
    transform = truth.data.images.preprocessing
    classifier = Classifier(Colours(transform), CLASSES)  # type: ignore[arg-type]
    with torch.no_grad():
        diagonals = [torch.diag(10 * torch.from_numpy(part).float()) for part in known.T]
        classifier.head.weight.copy_(torch.cat(diagonals, dim=1))
    return Member("baseline", "scratch", 0, classifier, transform)


def test_views_tell_which_parts_of_composites_a_network_knows(composites: str) -> None:
    truth = make_truth(prepare(composites, DataSettings(), multiple_of=4), seed=0, test=60)
    found = agreement(knowing(truth, truth.known), truth)
    assert found[AUC, "mean"] == found[AUC_ALL, "mean"] == 1 and found[AUC, "patches"] > 0.6  # others' squares shine in
    assert found[PAIRS, "mean"] == 3 * 2  # the class that is said of a blank image is left out
    assert found[f"views, {ONE}", "mean"] == 2 and found[f"views, {ALL}", "mean"] == 4  # a sixteenth is half a square
    assert found[f"accuracy, {ONE}", None] == found[f"accuracy, {ALL}", None] == 1
    of_all = agreement(knowing(truth, np.ones_like(truth.known)), truth)  # it knows more than it was to learn
    assert of_all[AUC, "mean"] == of_all[AUC_OF_ACCURACY, None] == 0.5


def test_the_page_of_composites_is_asked_for_it(
    composites: str, runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(small_explanation(), measures=("known-views",), controls=False, test_images=8, view_images=60)
    why = explain(runs, composites, out=tmp_path / "why", settings=settings)
    assert {row.quantity for row in why.numbers} >= {AUC_OF_ACCURACY, f"accuracy, {ONE}", f"accuracy, {ALL}"}
    assert {row.arm for row in why.numbers} == {"scratch"} and {row.seed for row in why.numbers} == {0, None}
    assert 'id="known-views"' in (tmp_path / "why" / "report.html").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.safetensors")}
    assert len(before) == 2
    (tmp_path / "why" / "result.json").unlink()  # as if it had been stopped behind its network
    monkeypatch.setattr(Explanation, "write_page", lambda self, **asked: self.folder)
    again = explain(runs, composites, out=tmp_path / "why", settings=settings)
    assert again.numbers == why.numbers and {path: path.stat().st_mtime_ns for path in before} == before


def test_what_cannot_be_put_together_is_noted(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Explanation, "write_page", lambda self, **asked: self.folder)
    settings = FinetuneSettings(
        training=FinetuneTrainingSettings(epochs=1), encoder=EncoderSettings("cnn", width=4), runtime=runtime()
    )
    finetune(str(pictures / "labelled"), out=tmp_path / "one", settings=settings)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    asked = replace(small_explanation(), measures=("known-views",), controls=False, test_images=4)
    why = explain(
        [tmp_path / "one", tmp_path / "two"], str(pictures / "labelled"), out=tmp_path / "why", settings=asked
    )
    assert why.numbers == [] and any("it needs 4 classes" in note for note in why.notes)
