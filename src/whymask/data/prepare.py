"""From what the user gave to the images of one experiment: decoded once, split, and free of leaks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from whymask.data import doubts
from whymask.data.derive import cut_off, derive, looks, statistics
from whymask.data.forms import FORMS, Form
from whymask.data.lost import lost, other_depth
from whymask.data.near import NONE, NearCopies, near_copies
from whymask.data.parts import in_parts
from whymask.data.preprocessing import INTERPOLATIONS, Preprocessing
from whymask.data.settings import DataSettings, default_store
from whymask.data.sources import Reader, Source, open_asked
from whymask.data.splits import USUAL_SHARE, counts_of, groups_of, leaking_rows, raised_text, share_for, test_rows
from whymask.data.store import ImageSet, form_for, form_text, open_images
from whymask.errors import WhymaskError
from whymask.tasks import Classification, Task

FEW_UNLABELLED = 3_000
"""Below some thousand images own pretraining is not expected to win. Measured were 292 and 980, where it gained
nothing, and 10,000 drawn and 50,000 small ones, where it did (docs/results); nothing between."""
MEASURED = (
    "with 980 images of clothes mae reached 0.147 where training from scratch reached 0.144, and 0.175 with the same "
    "compute (docs/results)"
)

SHOWN = 3
"""Images or boxes that are named of those that cannot be used as they are."""

TEST = " test "
"""In an identity, between the images' fingerprint and a share that is not the usual."""
ENCODED = " encoded"
"""In an identity, behind the images' fingerprint where they are not to the bit what was decoded."""
NEAR = " near "
"""In an identity, before the number of near copies that are left out, where there are any."""

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and standard deviation of each channel, in units of [0, 1]."""


@dataclass(frozen=True)
class Prepared:
    """The images of one experiment. `pool`, `train` and `test` are rows of `images`.

    pool: what pretraining sees (everything but test images and their equals); train: labelled, not test; test_share: of
    the labelled images, that was drawn to test on; None where the data name their test images; notes: on how the source
    was read, and `reader` by whose; mended: its boxes that were repaired or left out; near: near copies of test images,
    in `pool` and `train` only if `near_kept`.
    """

    name: str
    images: ImageSet
    groups: np.ndarray | None
    pool: np.ndarray
    train: np.ndarray
    test: np.ndarray
    leaking: int
    test_share: float | None
    config: DataSettings
    notes: tuple[str, ...] = ()
    near: NearCopies = NONE
    near_kept: bool = False
    reader: str | None = None
    mended: tuple[tuple[str, str, str], ...] = ()

    @property
    def task(self) -> Task:
        return self.images.task

    @property
    def classes(self) -> tuple[str, ...]:
        return self.images.classes

    @property
    def identity(self) -> str:
        """What a run's images, labels and split are: the images' fingerprint, a share that is not the usual, and how
        many near copies are left out."""
        tested = _tested(self.images, self.test_share)
        return tested if self.near_kept or not len(self.near) else f"{tested}{NEAR}{len(self.near)}"

    @property
    def train_counts(self) -> list[int]:
        """Training images of each class."""
        return self.task.counts(self.images.labels[self.train])

    @property
    def stock(self) -> list[int]:
        """The numbers of training images that a budget counts in: of each class, or of all."""
        return self.task.stock(self.images.labels[self.train])

    @cached_property
    def chance(self) -> dict[str, float]:
        """Every metric of who looks at no image: what the test images define."""
        labels = self.images.labels
        return self.task.chance(labels[self.train], labels[self.test], self.test_tags)

    @property
    def test_tags(self) -> np.ndarray | None:
        return None if self.images.tags is None else self.images.tags[self.test]

    def require_labels(self) -> None:
        """Raise WhymaskError unless there are training labels from which something can be learnt, and test images."""
        if len(self.train) == 0:
            why = "".join(f" ({note})" for note in self.notes)
            where = {
                "labels": "each class in a subfolder of its own",
                "maps": "label maps into masks/ beside images/",
                "boxes": "boxes into annotations/ beside images/, as Pascal VOC's XML",
            }[self.task.targets]
            raise WhymaskError(
                f"{self.name} has no labelled images{why}, and this needs some. Put {where}, or give labelled images "
                "with --labels FOLDER|CSV."
            )
        self.task.check(self.images.labels[self.train], self.name)
        if len(self.test) == 0:
            raise WhymaskError(f"{self.name} has too few labelled images to keep any for testing; {self.task.least}.")

    def warnings(self) -> list[str]:
        """What these images cannot show."""
        return [self.few] * bool(self.few) + self.doubts()

    @property
    def few(self) -> str:
        """That own pretraining is not expected to win on so few images; "" where it is not known to lose."""
        if self.distinct >= FEW_UNLABELLED:
            return ""
        different = " different" if self.copies else ""
        return (
            f"only {self.distinct:,}{different} images to pretrain on: below some thousand own pretraining is not "
            f"expected to win: {MEASURED}. Public weights are the start to try: study --starts init=NAME frozen=NAME"
        )

    @cached_property
    def distinct(self) -> int:
        """How many different images the pool holds: those with equal pixels count once."""
        return len(np.unique(self.images.hashes[self.pool]))

    @property
    def copies(self) -> str:
        """That some images of the pool are there more than once; "" where each is there once."""
        if self.distinct == len(self.pool):
            return ""
        return (
            f"{len(self.pool):,} images to pretrain on, {self.distinct:,} different ones: the others have equal "
            "pixels, and pretraining sees each of them"
        )

    def doubts(self) -> list[str]:
        """Of these, what concerns labels."""
        return doubts.of_classes(self.images, self.train, self.test) + doubts.of_labels(self.images)

    def describe(self) -> dict[str, Any]:
        """What the run folder and the page say about the data.

        images: that could be used; pool: to pretrain on; distinct: different ones of these; labelled: all that have
        labels, of which train and test are used, and those that equal a test image are not; train_counts, test_counts:
        of each class.
        """
        images, prep = self.images, self.images.preprocessing
        return {
            "name": self.name,
            "fingerprint": images.fingerprint,
            "images": len(images.keys),
            "pool": len(self.pool),
            "distinct": self.distinct,
            "labelled": int(images.labelled.sum()),
            "train": len(self.train),
            "test": len(self.test),
            "task": self.task.name,
            "classes": list(self.classes),
            "train_counts": self.train_counts,
            "test_counts": self.task.counts(images.labels[self.test]),
            **self.task.summary(images.labels[self.train]),
            "size": list(prep.size),
            "channels": prep.channels,
            "mean": list(prep.mean),
            "std": list(prep.std),
            "skipped": len(images.skipped),
            "skipped_examples": [list(row) for row in images.skipped[:20]],
            "duplicates": self.leaking,
            **self.near.describe(images.keys),
            "near_kept": self.near_kept,
            "transductive": self.config.transductive,
            "group_by": self.config.group_by,
            "groups": None if self.groups is None else len(np.unique(self.groups)),
            "test_split": "source" if self.test_share is None else "drawn",
            "test_share": self.test_share,
            "store": {"path": str(images.path), "bytes": images.nbytes},
            "warnings": self.warnings(),
            **({} if self.reader is None else {"reader": self.reader}),
        }


def prepare(
    data: Any,
    config: DataSettings,
    *,
    multiple_of: int = 1,
    preprocessing: Preprocessing | None = None,
    moments: Moments | None = None,
    interpolation: str | None = None,
    like: str | None = None,
    reader: Reader | str | None = None,
    needs_labels: bool = False,
    fits: Callable[[Preprocessing, Task], None] = lambda prep, task: None,
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[int, int], None] | None = None,
) -> Prepared:
    """Open `data`, decode it once, and decide who is test, who may be trained on and who may be pretrained on.

    `multiple_of`: a patch's or mask square's side, which the image size must be a multiple of.
    `preprocessing`: that of an encoder which is given; by default it is derived, and its mean and std are measured.
    `moments`: mean and std that are taken instead, where there is one for each channel; `interpolation`: by which
    images are resized, likewise.
    `like`: the `identity` of a run whose test images are to be these, unless other images or another share are given.
    `needs_labels`: whether images without labels are of no use.
    `fits`: asked before an image is decoded whether what is to see them fits them and their task; raises WhymaskError
    where not.
    `say` is told what was derived before anything slow begins. Raises WhymaskError where `data` cannot be used.
    """
    if needs_labels and config.is_unlabelled:
        raise WhymaskError(
            f"--labels {config.labels} says that no image is labelled, and this needs some that are; leave it out, or "
            "give labelled images with --labels FOLDER|CSV. pretrain needs none"
        )
    source = open_asked(data, config, reader)
    how = preprocessing or config
    losses = lost(source, how)
    source = in_parts(source, how)
    seen = looks(source, how.alpha, how.frames)
    prep = preprocessing or derive(source, config, multiple_of, seen)
    if moments is not None and preprocessing is None and len(moments[0]) == prep.channels:
        prep = replace(prep, mean=moments[0], std=moments[1])
    if preprocessing is None and interpolation in INTERPOLATIONS[1:]:
        prep = replace(prep, interpolation=str(interpolation))
        say(f"images are resized {interpolation}, as the weights were trained to see them")
    store = config.store or default_store()
    height, width = prep.size
    say(f"{source.name}: {len(source.keys):,} images, seen at {height}x{width} pixels, {prep.channels} channels")
    for note in [*source.notes, *losses, *cut_off(seen, prep)]:
        say(note)
    if preprocessing is not None and (warning := other_depth(source, preprocessing)):
        say(f"warning: {warning}")
    if (prep.low, prep.high) != (0.0, 255.0):
        say(f"values from {prep.low:,.6g} to {prep.high:,.6g} become 0 to 1; what lies outside is seen as the nearest")
    say(doubts.labels_text(source, needs_labels))
    fits(prep, source.task)
    form = form_for(source, prep, store, config.store_form, _form_of(like, prep))
    say(form_text(source, prep, store, form))
    images = open_images(source, prep, store, progress=progress, form=form)
    if images.skipped:
        shown = doubts.listed([f"{key} ({reason})" for key, reason in images.skipped], SHOWN)
        say(f"{len(images.skipped):,} images cannot be used and are left out: {shown}")
    if source.mended:
        shown = doubts.listed([f"{box} of {key} ({what})" for key, box, what in source.mended], SHOWN)
        say(f"{len(source.mended):,} boxes are repaired or left out: {shown}")
    return split(source, images, config, like, say)


def split(
    source: Source, images: ImageSet, config: DataSettings, like: str | None, say: Callable[[str], None]
) -> Prepared:
    """Decide the rows of each set, and measure mean and std on the pool where an encoder has not brought its own."""
    groups = groups_of(images, config.group_by)
    labelled = images.labelled
    counts = counts_of(images.task, images.labels[labelled], None if groups is None else groups[labelled])
    there = _share_of(like, images)
    share = _test_share(source, images, config, counts, there)
    test = test_rows(images, groups, USUAL_SHARE if share is None else share)
    if share not in (None, USUAL_SHARE, config.test_share, there):
        units = "images" if groups is None else "files" if config.group_by is None else "groups"
        say(raised_text(images.task, counts, test, labelled, units))
    leaking = leaking_rows(images, test, groups)
    if leaking.any():
        say(f"{leaking.sum():,} images equal a test image, or share its group, and are left out of all training")
    near = near_copies(images.images, np.flatnonzero(test), np.flatnonzero(~test & ~leaking))
    near_kept = len(near) > 0 and (config.near_duplicates == "keep" or like == _tested(images, share))
    for line in near.text(near_kept):
        say(line)
    out = leaking.copy()
    out[near.rows] |= not near_kept
    train = np.flatnonzero(labelled & ~test & ~out)
    pool = np.arange(len(images.keys)) if config.transductive else np.flatnonzero(~test & ~out)
    if len(pool) == 0:
        raise WhymaskError(f"{source.name} has no image left for training once its test images are set aside.")
    if not images.preprocessing.mean:
        mean, std = statistics(images.images, pool)
        images = replace(images, preprocessing=replace(images.preprocessing, mean=mean, std=std))
    if len(train):
        say(f"{len(train):,} labelled images to train on, {test.sum():,} to test on")
    rows = np.flatnonzero(test)
    if groups is not None and share is not None:
        _refuse_untested(images, groups, train, rows, config)
    leaks, notes, reader, mended = int(leaking.sum()), source.notes, source.reader, source.mended
    return Prepared(
        source.name, images, groups, pool, train, rows, leaks, share, config, notes, near, near_kept, reader, mended
    )


def _form_of(like: str | None, preprocessing: Preprocessing) -> Form | None:
    """That of the images of a run of this identity; None where either gives the same images."""
    if like is None or FORMS["encoded"].is_exact(preprocessing):
        return None
    return FORMS["encoded" if ENCODED in like else "decoded"]


def are_same_images(identity: str, other: str) -> bool:
    """Whether two identities differ at most in how the images are kept."""
    return identity.replace(ENCODED, "") == other.replace(ENCODED, "")


def _tested(images: ImageSet, share: float | None) -> str:
    """The identity of images of which this share is tested on."""
    stored = f"{images.fingerprint}{'' if images.is_exact else ENCODED}"
    return stored if share in (None, USUAL_SHARE) else f"{stored}{TEST}{share:g}"


def _refuse_untested(
    images: ImageSet, groups: np.ndarray, train: np.ndarray, test: np.ndarray, config: DataSettings
) -> None:
    """Raise WhymaskError where whole groups leave classes without test images."""
    if images.task.name != Classification.name:
        return
    trained, tested = (images.task.counts(images.labels[rows]) for rows in (train, test))
    rows = np.flatnonzero(images.labelled)
    wanting = [
        f"{name} ({len(np.unique(groups[rows[images.labels[rows] == number]]))} groups)"
        for number, (name, many, few) in enumerate(zip(images.classes, trained, tested, strict=True))
        if many and not few
    ]
    if wanting:
        raise WhymaskError(
            f"{'keeping the parts of a file together' if config.group_by is None else f'group-by {config.group_by!r}'} "
            f"leaves no test images of {doubts.listed(wanting)}; a class needs two groups "
            "at least, one on each side; group by something finer, or leave these classes out"
        )


def _share_of(like: str | None, images: ImageSet) -> float | None:
    """The share that was tested on in a run of this identity, if its images were these."""
    stored, _, share = (like or "").partition(NEAR)[0].partition(TEST)
    return float(share or USUAL_SHARE) if stored.removesuffix(ENCODED) == images.fingerprint else None


def _test_share(
    source: Source, images: ImageSet, config: DataSettings, counts: list[int], there: float | None
) -> float | None:
    """The share of the labelled images to draw for testing: as asked, or as `there` in a run that is gone on from, or
    by the `counts` of each class; None where the source names test images."""
    asked = config.test_share
    if images.splits is not None and (images.labelled & (images.splits == "test")).any():
        if asked is not None:
            raise WhymaskError(
                f"--test-share {asked:g}: {source.name} names its own test images; leave out --test-share, or the "
                "names of the splits"
            )
        return None
    return asked or there or (share_for(counts) if images.labelled.any() else USUAL_SHARE)
