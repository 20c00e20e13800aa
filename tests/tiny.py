"""Sizes for tests: a study of seconds, an explanation of few images, real pictures that a dependency ships."""

from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor

from whymask import ExplainSettings, StudySettings
from whymask.data.boxes import Boxes
from whymask.data.label_maps import GivenMaps, with_maps
from whymask.data.settings import DataSettings, LabelSettings
from whymask.data.sources import Source, open_source
from whymask.encoders import Encoder, EncoderSettings, build_encoder, resolve
from whymask.explanations.settings import NAMES as MEASURES
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.tasks import Classification, Detection, Multilabel, Task
from whymask.tasks.coco_matches import BITS, KEPT, THRESHOLDS
from whymask.training.settings import RuntimeSettings

GLYPHS = "glyphs:unlabelled=128,train=100,test=60"
CLASSES = ("okapi", "zebra")
NAMES = ("ant", "bee", "cow")
"""Of classes or targets."""


DEVICE: Literal["cpu", "cuda", "mps"] = "cpu"
"""Where tests train: that of ``pytest --device``, which conftest.py puts here before any test is read."""


def runtime(threads: int | None = 1) -> RuntimeSettings:
    """There, in single precision, so that a GPU gives what a CPU gives but for rounding."""
    return RuntimeSettings(device=DEVICE, precision="auto" if DEVICE == "cpu" else "32-true", threads=threads)


def tiny_settings(**changes: Any) -> StudySettings:
    """A study of seconds: a narrow CNN, an epoch of pretraining, two of fine-tuning."""
    settings = StudySettings(
        seeds=2,
        budgets=("2", "5"),
        worth_budgets=("4",),
        data=DataSettings(),
        encoder=EncoderSettings(width=4),
        pretrain=PretrainTrainingSettings(epochs=1, batch_size=32),
        finetune=FinetuneTrainingSettings(epochs=2, batch_size=8),
        runtime=runtime(),
    )
    return replace(settings, **changes)


def new_encoder(asked: EncoderSettings, size: tuple[int, int] = (32, 32), channels: int = 1, seed: int = 0) -> Encoder:
    """What is asked for, with new weights."""
    return build_encoder(resolve(asked, size, channels), size, channels, seed)


def small_explanation() -> ExplainSettings:
    """Every measure, on few images."""
    return ExplainSettings(
        measures=MEASURES, test_images=20, interaction_images=8, adversarial_images=8, regions=4, runtime=runtime()
    )


@cache
def digits(count: int, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Real images (count, 1, *size), standardised: scikit-learn's handwritten digits, enlarged."""
    small = torch.from_numpy(load_digits().images[:count]).float()[:, None]
    large = F.interpolate(small, size=size, mode="bilinear")
    return (large - large.mean()) / large.std()


def bars(task: str) -> Any:
    """240 noisy images of 16 x 16 pixels, each with up to three bars of different brightness, as arrays with labels.

    multilabel: which bars are seen; regression: how bright the image is, and how many bars; classification: whether one
    is seen in the first place; segmentation, as a source: of which bar each pixel is, or of none; detection, likewise:
    where bars are. Labels of the first 60 are missing.
    """
    generator = np.random.default_rng(0)
    seen = generator.random((240, 3)) < [0.6, 0.4, 0.2]
    images = generator.normal(60, 20, (240, 16, 16))
    for bar in range(3):
        images[seen[:, bar], 5 * bar + 1 : 5 * bar + 4] += 60 + 30 * bar
    if task == "segmentation":
        maps = np.zeros(images.shape, np.uint8)
        for bar in range(3):
            maps[seen[:, bar], 5 * bar + 1 : 5 * bar + 4] = bar + 1
        return scenes(images.clip(0, 255).astype(np.uint8), maps, np.arange(240) >= 60)
    if task == "detection":
        return boxed(images.clip(0, 255).astype(np.uint8), seen, np.arange(240) >= 60)
    labels: dict[str, np.ndarray] = {
        "classification": seen[:, 0].astype(np.int64),
        "multilabel": seen.astype(np.int64),
        "regression": np.stack([images.mean(axis=(1, 2)), seen.sum(axis=1)], axis=1),
    }
    unlabelled = {"classification": -1, "multilabel": -1, "regression": np.nan}
    labels[task][:60] = unlabelled[task]
    name = "targets" if task == "regression" else "labels"
    return {"images": images.clip(0, 255).astype(np.uint8), name: labels[task]}


def drawn_with_maps(folder: Path, train: int = 24, test: int = 8) -> Path:
    """images/ and masks/ in `folder`, in splits: pictures of 32 x 48 pixels in colour, with a bright red box and a
    bright green one on grey noise, whose classes are 1 and 2; the last row of pixels is of no class."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for number in range(count):
            pixels, classes = generator.normal(70, 20, (32, 48, 3)), np.zeros((32, 48), np.uint8)
            for kind, channel in ((1, 0), (2, 1)):
                top, left = generator.integers(0, 18), generator.integers(0, 24) + 24 * (kind - 1) * (number % 2)
                pixels[top : top + 14, left : left + 14, channel] += 120
                classes[top : top + 14, left : left + 14] = kind
            classes[-1] = 255
            for name, array in (("images", pixels.clip(0, 255).astype(np.uint8)), ("masks", classes)):
                path = folder / name / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (folder / "classes.txt").write_text("ground\nred\ngreen\n")
    return folder


def drawn_with_boxes(folder: Path, train: int = 24, test: int = 8) -> Path:
    """Pascal VOC's folders: pictures of 32 x 48 pixels in colour, with up to two red boxes and a green one, bright
    on grey noise. The second image shows none, the third one's green box is difficult."""
    generator = np.random.default_rng(0)
    names: dict[str, list[str]] = {"trainval": [], "test": []}
    for number in range(train + test):
        names["trainval" if number < train else "test"].append(f"{number:02}")
        pixels, objects = generator.normal(70, 20, (32, 48, 3)), list[str]()
        for kind, channel in [] if number == 1 else [("red", 0)] * int(generator.integers(0, 3)) + [("green", 1)]:
            height, width = (int(side) for side in generator.integers(8, 18, 2))
            top, left = int(generator.integers(0, 32 - height)), int(generator.integers(0, 48 - width))
            pixels[top : top + height, left : left + width, channel] += 120
            box = {"xmin": left + 1, "ymin": top + 1, "xmax": left + width, "ymax": top + height}
            corners = "".join(f"<{name}>{value}</{name}>" for name, value in box.items())
            difficult = int(number == 2 and kind == "green")
            about = f"<name>{kind}</name><difficult>{difficult}</difficult><bndbox>{corners}</bndbox>"
            objects.append(f"<object>{about}</object>")
        size = "<size><width>48</width><height>32</height><depth>3</depth></size>"
        for name, content in (
            (f"JPEGImages/{number:02}.png", pixels.clip(0, 255).astype(np.uint8)),
            (f"Annotations/{number:02}.xml", f"<annotation>{size}{''.join(objects)}</annotation>"),
        ):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content) if isinstance(content, str) else Image.fromarray(content).save(path)
    (folder / "ImageSets/Main").mkdir(parents=True)
    for split, images in names.items():
        (folder / f"ImageSets/Main/{split}.txt").write_text("\n".join(images) + "\n")
    return folder


def scenes(images: np.ndarray, maps: np.ndarray, there: np.ndarray, splits: np.ndarray | None = None) -> Source:
    """Images (N, H, W) with label maps (N, H, W), of which `there` bool (N,) are known."""
    source = open_source(images)
    stamp = sha256(maps[there].tobytes()).hexdigest()
    with_labels = with_maps(source, GivenMaps(there, lambda row: maps[row], stamp), None, LabelSettings())
    return replace(with_labels, splits=splits)


def boxed(images: np.ndarray, seen: np.ndarray, there: np.ndarray) -> Source:
    """Images (N, 16, 16) with boxes around the bars that are `seen`, bool (N, 3), where `there` bool (N,) says so."""
    image, bar = np.nonzero(seen & there[:, None])
    corners = np.stack([0 * bar, 5 * bar + 1, 0 * bar + 16, 5 * bar + 4], axis=1).astype(float)
    starts = np.searchsorted(image, np.arange(len(images) + 1))
    areas, sizes = np.full(len(bar), 48.0), np.full((len(images), 2), 16)
    boxes = Boxes(there, starts, corners, bar, np.zeros(len(bar), np.uint8), areas, sizes)
    return replace(open_source(images), boxes=boxes, labels=boxes.counts(3), task=Detection(("low", "middle", "high")))


def labels_of(task: Task, images: int, seed: int) -> np.ndarray:
    """Labels of the task with the names `NAMES`, unevenly spread."""
    generator = np.random.default_rng(seed)
    if isinstance(task, Classification):
        return generator.choice(3, images, p=[0.6, 0.3, 0.1])
    if isinstance(task, Multilabel):
        return (generator.random((images, 3)) < [0.6, 0.3, 0.1]).astype(np.int64)
    if isinstance(task, Detection):
        return generator.poisson([1.5, 0.7, 0.3], (images, 3))
    if task.is_dense:
        return generator.multinomial(64, generator.dirichlet([3, 1, 0.3], images))
    return generator.gamma(2, size=(images, 3)) * [1, 10, 100]


def maps_with(labels: np.ndarray) -> Tensor:
    """Label maps int64 (N, 8, 8) with so many pixels of each class, (N, k), class after class."""
    return torch.stack([torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)) for counts in labels]).view(
        -1, 8, 8
    )


def predictions_of(task: Task, labels: np.ndarray, seed: int, noise: float = 1.0) -> np.ndarray:
    """What a middling network says of images with these labels, as the task keeps it, float32 (N, k)."""
    if isinstance(task, Detection):
        return found_in(labels, seed, noise)
    if task.is_dense:
        maps, generator = maps_with(labels), torch.Generator().manual_seed(seed)
        logits = F.one_hot(maps, 3).movedim(-1, 1) + noise * torch.randn((len(maps), 3, 8, 8), generator=generator)
        return task.kept(logits, maps).numpy()
    signal = np.eye(3)[labels] if labels.ndim == 1 else labels / np.maximum(labels.std(axis=0), 1e-3)
    outputs = signal + noise * np.random.default_rng(seed).normal(size=signal.shape)
    return task.kept(torch.from_numpy(outputs).float(), torch.empty(0)).numpy()


def found_in(labels: np.ndarray, seed: int, noise: float) -> np.ndarray:
    """What is kept of detections in images with so many small objects of each class (N, k): six an image, of which more
    noise makes more wrong, less exact and less sure."""
    generator = np.random.default_rng(seed)
    images, classes = labels.shape
    detections = np.zeros((images, 6, len(KEPT)), np.float32)
    detections[..., 5] = generator.integers(classes, size=(images, 6))
    left = labels.copy()
    for place in range(6):
        of_class = detections[:, place, 5].astype(int)
        overlap = 0.9 - noise * generator.gamma(1.5, 0.15, images)
        right = np.minimum(THRESHOLDS, np.maximum(0, np.floor(20 * overlap - 9))).astype(int)
        right[left[np.arange(images), of_class] == 0] = 0
        left[np.arange(images), of_class] -= right > 0
        detections[:, place, 4] = 1 / (1 + np.exp(-2.0 * (right > 0) - noise * generator.normal(size=images)))
        detections[:, place, 6:8] = np.append(0, np.cumsum(BITS))[right, None]
    objects = np.concatenate([labels, labels, 0 * labels, 0 * labels], axis=1)
    return np.concatenate([objects, detections.reshape(images, -1)], axis=1, dtype=np.float32)
