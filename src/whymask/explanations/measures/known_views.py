"""Known views: does the number of views tell the truth on such images?

Of photos nobody knows the features; of two photos one above the other each tells the class. Networks are trained on
such images, as those from scratch were, but half of the classes, chosen by the seed, are always told by the same part
of a training image, the others by any one part, by turns. What else an image shows tells nothing: pictures of classes
that are never told by that part, beside all classes alike (noise where there are none, but not always: test images show
none, and a network would be lost there). So a network can know one view of a class, or all. Asked on images that show
every part of their class, `whymask.explanations.measures.views` must tell these classes apart: by the area under the
ROC curve over classes, within each network.

At equal accuracy: images that a network does not recognise do not count, and a class of one view is compared only with
those classes of all of which the network recognises as many images, within `ALIKE`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from whymask.data.composite_settings import WHOLE
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders import build_encoder, resolve
from whymask.explanations.cast import Cast
from whymask.explanations.controls import can_be_trained
from whymask.explanations.drawing import Told, dots, select
from whymask.explanations.evidence import means_of
from whymask.explanations.fill import FILLED, FILLINGS, fillers
from whymask.explanations.measure import Drawing, Measure
from whymask.explanations.measures.views import MOST, count_views
from whymask.explanations.networks import Member, Run
from whymask.explanations.numbers import Number
from whymask.explanations.shown import Shown
from whymask.intervals import SHARE, Range, clopper_pearson, level_interval
from whymask.randomness import numpy_generator
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.recipes import FinetuneTrainingConfig
from whymask.stages.settings import SCRATCH
from whymask.tasks import Classification

NAME = "known-views"
AUC, AUC_ALL, AUC_OF_ACCURACY = "auc of views", "auc of views, all pairs", "auc of accuracy"
PAIRS = "pairs of classes recognised alike"
ONE, ALL = "one view known", "all views known"
VIEWS, ACCURACY = "views", "accuracy"

ALIKE = 0.05
"""Difference in accuracy within which two classes are recognised alike."""
IMAGES = 2000
"""Most images to train on."""
PAIR = 2
"""Parts of an image that is made of two classes' photos."""
FEWEST = 4
"""Classes of photos, of which two stand in each image."""

Pick = Callable[[int, int, bool, np.random.Generator], np.ndarray]
"""A class, a part, whether it is to test on, a generator -> a picture (h, w, C) as stored."""


@dataclass(frozen=True)
class Truth:
    """Attributes:
    data: training images of which one part tells the class, and test images that show all parts of their class.
    known: bool (classes, parts), by which parts of a class training images tell it.
    """

    data: Prepared
    known: np.ndarray

    @property
    def several(self) -> np.ndarray:
        """Of which classes all parts are known, bool (classes,)."""
        return np.asarray(self.known.all(axis=1))


def take(cast: Cast, shown: Shown) -> list[Number]:
    obstacle = _obstacle(cast)
    if obstacle or cast.folder is None:
        cast.notes.append(f"Whether views tell what is known was not asked: {obstacle or 'no folder was given'}.")
        return []
    found = {}
    for seed, run in cast.runs[cast.baseline].items():
        truth = make_truth(cast.context.prepared, seed, shown.settings.view_images)
        like = cast.networks["baseline"][seed]
        network = train(cast.context, truth, like, run, cast.folder / f"{NAME}-{seed}")
        found[seed] = agreement(network, truth)
    return numbers_of_truth(cast.baseline, found)


def _obstacle(cast: Cast) -> str | None:
    prepared = cast.context.prepared
    if not isinstance(prepared.task, Classification):
        return f"images of a {prepared.task.text()} cannot be put together"
    if _parts(prepared) is None and len(prepared.classes) < FEWEST:
        return f"it needs {FEWEST} classes, of which two stand in an image"
    if not cast.baseline_is_scratch:
        return f"{cast.baseline} was not trained from scratch, whose recipe the networks for it would follow"
    found = (can_be_trained(run, prepared) for run in cast.runs[cast.baseline].values())
    return next((reason for reason in found if reason), None)


def _parts(prepared: Prepared) -> int | None:
    """How many pictures stand one above the other in each image; None where they are no composites."""
    tags = prepared.test_tags
    return None if tags is None or WHOLE not in tags else len(np.unique(tags)) - 1


def make_truth(prepared: Prepared, seed: int, test: int) -> Truth:
    """Images whose views are known, with `test` to be asked about, of those in `prepared`: the parts of composites, or
    photos of classes 0 and 1, of 2 and 3, ... together. Training images are made of training images."""
    parts = _parts(prepared)
    count = parts or PAIR
    classes = len(prepared.classes) // (1 if parts else PAIR)
    known = np.ones((classes, count), bool)
    single = numpy_generator(seed, NAME, "classes of one view").permutation(classes)[: classes // 2]
    known[single] = np.eye(count, dtype=bool)[np.arange(len(single)) % count]
    pick = _picks(prepared, parts)
    split = {"train": min(IMAGES, len(prepared.train)), "test": test}
    arrays: dict[str, np.ndarray] = {}
    for name, images in split.items():
        made = [_image(known, pick, i, name == "test", numpy_generator(seed, NAME, name, i)) for i in range(images)]
        arrays |= {f"x_{name}": np.stack(made), f"y_{name}": np.arange(images) % classes}
    size = arrays["x_train"].shape[1:3]
    asked = DataSettings(size=size, store=prepared.config.store, near_duplicates="keep")
    return Truth(prepare(arrays, asked), known)


def _picks(prepared: Prepared, parts: int | None) -> Pick:
    (height, width), stored = prepared.images.preprocessing.size, prepared.images
    tags, labels = prepared.test_tags, stored.labels
    test = prepared.test if parts is None or tags is None else prepared.test[tags == WHOLE]

    def pick(label: int, part: int, testing: bool, random: np.random.Generator) -> np.ndarray:
        rows = test if testing else prepared.train
        of = label if parts else PAIR * label + part
        image = stored.images[int(random.choice(rows[labels[rows] == of]))]
        top, left = ((whole - seen) // 2 for whole, seen in zip(image.shape, (height, width), strict=False))
        image = np.asarray(image)[top : top + height, left : left + width]
        return np.split(image, parts)[part] if parts else image

    return pick


def _image(known: np.ndarray, pick: Pick, i: int, testing: bool, random: np.random.Generator) -> np.ndarray:
    """The i-th image: of class i, i + classes, ...; to train on, told by one of the parts that are known, by turns."""
    classes, parts = known.shape
    label, own = i % classes, np.flatnonzero(known[i % classes])
    telling = own[i // classes % len(own)]

    def picture(part: int) -> np.ndarray:
        if testing or part == telling:
            return pick(label, part, testing, random)
        idle = np.flatnonzero(~known[:, part])
        if len(idle):
            return pick(int(random.choice(idle)), part, testing, random)
        like = pick(label, part, testing, random)
        return random.integers(np.iinfo(like.dtype).max, size=like.shape, dtype=like.dtype, endpoint=True)

    return np.concatenate([picture(part) for part in range(parts)])


def train(context: Context, truth: Truth, like: Member, run: Run, out: Path) -> Member:
    """A network such as `like`, from scratch, with the recipe of `run`; kept in the run folder `out`, and not trained
    again if it is there."""
    data, prep = truth.data, truth.data.images.preprocessing
    config = resolve(like.encoder.config.asked(), prep.size, prep.channels)
    network = build_encoder(config, prep.size, prep.channels, run.seed)
    network.transform = prep
    job = ClassifierJob(
        arm=SCRATCH,
        seed=run.seed,
        budget="all",
        rows=data.train,
        test=data.test,
        config=config,
        build=lambda: network,
        training=FinetuneTrainingConfig(**run.training),
        augment="none",
    )
    train_classifier(Context(context.fabric, data, context.compiling), job, out, f"{NAME}-{run.seed}")
    return Member("baseline", run.arm, run.seed, load_classifier(out)[0].to(context.fabric.device), prep)


def agreement(network: Member, truth: Truth) -> dict[tuple[str, str | None], float]:
    """By quantity and filling; NaN where no classes can be compared."""
    data, several = truth.data, truth.several
    images = data.images.preprocessing.normalise(data.images.images[data.test])
    labels = torch.from_numpy(data.images.labels[data.test])
    recognised = network.recognises(images, labels)
    cells, classes = network.encoder.grid, len(several)
    means = means_of(network, images, labels)
    accuracy = by_class(recognised.double().numpy(), labels.numpy(), classes)
    found: dict[tuple[str, str | None], float] = {(AUC_OF_ACCURACY, None): auc(accuracy, several)}
    found |= _of_kinds(ACCURACY, accuracy, several, None)
    for name, filler in fillers(images, cells).items():
        counts = recognised & ~network.recognises(filler, labels)
        views = count_views(network, images, labels, filler, counts, cells, means)
        scores = by_class(np.where(counts, views, np.nan), labels.numpy(), classes)
        found |= {(AUC, name): auc(scores, several, accuracy), (AUC_ALL, name): auc(scores, several)}
        found[PAIRS, name] = len(_gaps(scores, several, accuracy))
        found |= _of_kinds(VIEWS, scores, several, name)
    return found


def _of_kinds(
    quantity: str, scores: np.ndarray, several: np.ndarray, filling: str | None
) -> dict[tuple[str, str | None], float]:
    """Means over the classes of each kind that have a score."""
    own = {kind: scores[of & ~np.isnan(scores)] for kind, of in ((ONE, ~several), (ALL, several))}
    return {(f"{quantity}, {kind}", filling): float(v.mean()) if len(v) else float("nan") for kind, v in own.items()}


def auc(scores: np.ndarray, several: np.ndarray, accuracy: np.ndarray | None = None) -> float:
    """Of pairs of a class that is `several` and one that is not, in what share the first scores higher (ties: half).

    With `accuracy` (classes,), of the pairs whose accuracies differ by no more than `ALIKE`. NaN without such pairs. A
    class without a score, since the network says it of a blank image too, is left out.
    """
    gaps = _gaps(scores, several, accuracy)
    return float(((1 + np.sign(gaps)) / 2).mean()) if len(gaps) else float("nan")


def _gaps(scores: np.ndarray, several: np.ndarray, accuracy: np.ndarray | None) -> np.ndarray:
    first, second = np.meshgrid(np.flatnonzero(several), np.flatnonzero(~several), indexing="ij")
    gaps = scores[first] - scores[second]
    counts = ~np.isnan(gaps)
    if accuracy is not None:
        counts &= np.abs(accuracy[first] - accuracy[second]) <= ALIKE
    return gaps[counts]


def by_class(values: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Mean of each class's images that count; NaN where none does."""
    labels, counts = labels[: len(values)], ~np.isnan(values)
    own = [values[counts & (labels == c)] for c in range(classes)]
    return np.array([part.mean() if len(part) else np.nan for part in own])


def auc_interval(aucs: np.ndarray) -> tuple[float | None, float | None]:
    """Student's t over networks, within 0 and 1; where all have 1 and so no spread, the exact interval for as many that
    all succeed (Clopper and Pearson)."""
    if (aucs == 1).all():
        return clopper_pearson(len(aucs), len(aucs))
    over = level_interval(aucs)
    return over.low, over.high


def numbers_of_truth(arm: str, found: dict[int, dict[tuple[str, str | None], float]]) -> list[Number]:
    """Of each network, and the mean over those that say something, whose number is told."""
    rows = []
    for quantity, filling in next(iter(found.values())):
        values = {s: own[quantity, filling] for s, own in found.items() if not np.isnan(own[quantity, filling])}
        if not values:
            continue
        several = np.array(list(values.values()))
        within: Range = (0.0, MOST) if quantity.startswith(VIEWS) else (0.0, None) if quantity == PAIRS else SHARE
        over = level_interval(several, within)
        low, high = auc_interval(several) if quantity.startswith("auc") else (over.low, over.high)
        rows += [Number(NAME, quantity, arm, v, None, None, 1, "networks", s, filling) for s, v in values.items()]
        rows.append(Number(NAME, quantity, arm, over.mean, low, high, len(values), "seeds", None, filling))
    return rows


def areas(told: Told, name: str) -> dict[str, Figure]:
    """The area under the curve, with each filling."""
    rows = {filling: [row for row in select(told, NAME, AUC) if row["filling"] == filling] for filling in FILLINGS}
    panels = {
        FILLED[filling]: dots(told, name, own, "area under the curve", (0.5, "by chance"))
        for filling, own in rows.items()
        if own
    }
    for figure in panels.values():
        figure.axes[0].set_xlim(-0.02, 1.02)
    return panels


KNOWN_VIEWS = Measure(
    name=NAME,
    title="Known views",
    about="Does the number of views tell the truth on such images? Photos of two classes (of composites, their parts) "
    "stand one above the other. New networks from scratch learn half of these classes by one part only, the others by "
    "either; what else an image shows then tells nothing. Told is in what share of pairs of a class of each kind, "
    f"recognised alike (within {ALIKE}), the number of views is higher where all are known (area under the ROC curve; "
    "0.5 by chance); all pairs: whatever their accuracy. Accuracy's own area is what could be told without views.",
    take=take,
    figures={"known-views": Drawing("Classes of one known view told from those of all, by the number of views", areas)},
)
