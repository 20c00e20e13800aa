"""From a step to its batch, without state: order, crops and flips are functions of (seed, purpose, epoch or step).

So the next batches can be made while a step runs: `Batches.ahead`. However far ahead, they are the same.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch

from whymask.data.ahead import DEPTH, Ahead
from whymask.data.crops import (
    SMALL,
    Augment,
    Crops,
    crop_bytes,
    draw_crops,
    nearest_crops,
    objects_in_crops,
    resized_crops,
    resized_in_turn,
)
from whymask.data.moving import Moves, Resident, Staging, arrive, fits
from whymask.data.own_augment import OwnAugment
from whymask.data.preprocessing import Preprocessing
from whymask.data.strong import Strong
from whymask.errors import WhymaskError
from whymask.masks import Mask
from whymask.randomness import numpy_generator, torch_generator
from whymask.tasks.base import Targets

Order = Callable[[int], np.ndarray]
"""Epoch -> the rows of its images, in their order."""


Draw = Callable[[int, int, slice], tuple[Mask, ...]]
"""(step, images of all ranks' batch, which of these are this rank's) -> their masks, on the CPU."""


class Images(Protocol):
    """The part of `whymask.data.store.ImageSet` that is needed here."""

    @property
    def images(self) -> np.ndarray: ...  # uint8 or uint16 (N, H, W, C)
    @property
    def labels(self) -> np.ndarray: ...  # int64 or float64, N rows
    @property
    def preprocessing(self) -> Preprocessing: ...
    def maps_of(self, rows: np.ndarray) -> np.ndarray: ...  # uint8 (n, H, W), where there are label maps
    def objects_of(self, rows: np.ndarray) -> np.ndarray: ...  # float32 (n, M, 8), where there are boxes


@dataclass
class Batch:
    """Images float32 (B, C, h, w), normalised; labels, int64 or float32, such as (B,) or (B, L), label maps int64
    (B, h, w), or objects float32 (B, M, 8) (`boxes.COLUMNS`); the rows of the image set they came from; and the masks
    that were drawn with them."""

    images: torch.Tensor
    labels: torch.Tensor
    rows: np.ndarray
    masks: tuple[Mask, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """All that lies on the device."""
        return self.images, self.labels, *(tensor for mask in self.masks for tensor in mask.tensors())


class Batches:
    """The training batches of some rows: ``batches(step)`` is the same whenever and wherever it is called.

    An epoch is a permutation of the rows, or another order, cut into batches; the rows left over are dropped, other
    ones each epoch. With fewer rows than a batch, every batch is all rows. The batch of all ranks together does not
    depend on their number: each takes its slice of it.

    Args:
        rows: rows of `images` to train on.
        batch_size: images of a step, over all ranks.
        augment: None for the centre crop of evaluation; with one's own, no batch is made ahead.
        strong: what is done beyond that.
        order: epoch -> its rows, as many as `rows`, of which some may come more than once; by default a permutation.
        draw: the masks of a step, where it has any.
        targets: what labels are: those of whole images, or the images' label maps or boxes, cropped as these are, which
            all `rows` then have.
        rank, world: this process and their number; `world` must divide the batch.
        parts: in how many parts a batch comes, one after another, each divided among the ranks; with `world` it must
            divide the batch. `share` is the images of a part that a rank has.
    """

    def __init__(
        self,
        images: Images,
        rows: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        augment: Augment | OwnAugment | None,
        strong: Strong | None = None,
        order: Order | None = None,
        draw: Draw | None = None,
        targets: Targets = "labels",
        device: str | torch.device = "cpu",
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
    ) -> None:
        if len(rows) == 0:
            raise WhymaskError("no images to train on; expected at least one; check the labels and the splits")
        self.images, self.rows, self.seed, self.augment = images, np.asarray(rows), seed, augment
        self.strong, self.order, self.draw, self.targets = strong, order or self._permuted, draw, targets
        self.device, self.rank, self.world = torch.device(device), rank, world
        self._epoch: tuple[int, np.ndarray] = (-1, self.rows)  # the order last used: a cache, not a state
        self._ahead: Ahead[tuple[Batch, Any]] | None = None
        self._resident: Resident | None = None
        self._cut(batch_size, parts)
        if isinstance(augment, OwnAugment):  # what it cannot do is told before the first step
            augment(torch.from_numpy(images.images[self.rows[:1]]), images.preprocessing.size, seed, 0, 0)

    def _cut(self, batch_size: int, parts: int) -> None:
        self.batch_size, self.parts = max(0, min(batch_size, len(self.rows))), parts
        check_divides(self.batch_size, self.world, parts)
        self.steps_per_epoch = len(self.rows) // self.batch_size
        self.share = self.batch_size // self.world // parts

    def cut(self, *, batch_size: int | None = None, parts: int | None = None) -> "Batches":
        """The same images in batches of another size, or in another number of parts, which must divide them."""
        other = copy.copy(self)
        other._ahead = None
        other._cut(batch_size or self.batch_size, parts or self.parts)
        return other

    def __call__(self, turn: int) -> Batch:
        """This rank's batch at step `turn`, counted from 0 over all epochs; of batches in parts, the part whose turn it
        is."""
        if self._ahead is None or self._ahead.next != turn:
            return self.made(turn, Moves(self.device))
        batch, arrival = self._ahead.take()
        arrive(arrival, batch.tensors())
        return batch

    @contextmanager
    def ahead(self, steps: range, depth: int = DEPTH) -> Iterator[None]:
        """Within, a thread makes the parts of the batches of `steps`, up to `depth` before they are asked for; none
        with 0.

        On a GPU they are brought there meanwhile, on a stream of their own, or made there of images that all lie there.
        """
        if depth == 0 or self.device.type not in ("cpu", "cuda") or isinstance(self.augment, OwnAugment):
            yield
            return
        if fits(self.images.images, self.rows, self.device):
            self._resident = Resident(self.images.images, self.rows, self.device)
        moves = Staging(self.device) if self.device.type == "cuda" else Moves(self.device)
        turns = range(steps.start * self.parts, steps.stop * self.parts)
        with Ahead(lambda turn: moves.together(partial(self.made, turn)), turns, depth) as self._ahead:
            try:
                yield
            finally:
                self._ahead = None

    def made(self, turn: int, moves: Moves) -> Batch:
        """The part of this rank's batch whose turn it is, brought to the device by `moves`."""
        step, part = divmod(turn, self.parts)
        first = (part * self.world + self.rank) * self.share
        mine = slice(first, first + self.share)
        rows = self.rows_of(step)[mine]
        crops = None
        if isinstance(self.augment, Augment):
            generator = torch_generator(self.seed, "augment", step)
            crops = draw_crops(self.batch_size, self.images.images.shape[1:3], self.augment, generator)[mine]
        strong, own = self.strong, self.augment if isinstance(self.augment, OwnAugment) else None
        if own is None and (strong is None or not strong.rand_augment):
            pixels = _pixels(self._stored(rows, moves), crops, self.images.preprocessing, moves)
        else:
            if own is None:
                changed = _cropped_bytes(self.images, rows, crops)
            else:
                stored = torch.from_numpy(self.images.images[rows])
                changed = own(stored, self.images.preprocessing.size, self.seed, step, first)
            if strong is not None:
                changed = strong.augment(changed, self.seed, step, first)
            pixels = self.images.preprocessing.normalise(moves(changed))
        if strong is not None:
            strong.erase(pixels, self.seed, step, first, moves)
        masks = () if self.draw is None else self.draw(step, self.batch_size, mine)
        labels = LABELS[self.targets](self.images, rows, crops, moves)
        return Batch(pixels, labels, rows, tuple(mask.moved(moves) for mask in masks))

    def rows_of(self, step: int) -> np.ndarray:
        """Of which images the batch of all ranks is made, with all its parts."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._of_epoch(epoch)[position * self.batch_size :][: self.batch_size]

    def _stored(self, rows: np.ndarray, moves: Moves) -> torch.Tensor:
        """Their stored images (B, H, W, C), on the device."""
        if not isinstance(moves, Staging):
            return moves.rows(self.images.images, rows)
        return moves.rows(self.images.images, rows) if self._resident is None else self._resident.rows(rows, moves)

    def _of_epoch(self, epoch: int) -> np.ndarray:
        known = self._epoch
        if known[0] != epoch:
            self._epoch = known = (epoch, self.order(epoch))
        return known[1]

    def _permuted(self, epoch: int) -> np.ndarray:
        return numpy_generator(self.seed, "order", epoch).permutation(self.rows)


def check_divides(batch: int, world: int, parts: int = 1) -> None:
    """Raise WhymaskError where a batch cannot be divided among so many processes, in so many parts."""
    if batch < 1 or batch % world:
        raise WhymaskError(
            f"a batch of {batch} images over {world} processes; expected a multiple of {world}; give another "
            f"--batch-size, other numbers of labels, or another number of processes (--devices, --nodes)"
        )
    if batch % (world * parts):
        raise WhymaskError(
            f"--accumulate {parts} parts of a batch of {batch} images"
            f"{f' over {world} processes' if world > 1 else ''}; a number was expected that divides it, such as "
            f"{max(n for n in range(1, parts + 1) if batch // world % n == 0)}; change one of the two"
        )


def in_order(
    images: Images, rows: np.ndarray, batch_size: int, device: str | torch.device = "cpu", targets: Targets = "labels"
) -> Iterator[Batch]:
    """All `rows` as they come, the last batch perhaps smaller; centre crops."""
    rows, moves = np.asarray(rows), Moves(torch.device(device))
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        pixels = _pixels(moves.rows(images.images, part), None, images.preprocessing, moves)
        yield Batch(pixels, LABELS[targets](images, part, None, moves), part)


def _labels(images: Images, rows: np.ndarray, crops: Crops | None, moves: Moves) -> torch.Tensor:
    kind = np.float32 if images.labels.dtype.kind == "f" else np.int64
    return moves(torch.from_numpy(np.asarray(images.labels[rows], kind)))


def _maps(images: Images, rows: np.ndarray, crops: Crops | None, moves: Moves) -> torch.Tensor:
    """The label maps of these images int64 (B, h, w), by the same boxes."""
    stored = torch.from_numpy(images.maps_of(rows))
    size = images.preprocessing.size
    seen = images.preprocessing.centre_crop(stored) if crops is None else nearest_crops(stored, crops, size)
    return moves(seen.contiguous()).long()


def _objects(images: Images, rows: np.ndarray, crops: Crops | None, moves: Moves) -> torch.Tensor:
    """The objects of these images float32 (B, M, 8), in the same boxes."""
    stored = torch.from_numpy(images.objects_of(rows))
    return moves(stored if crops is None else objects_in_crops(stored, crops, images.preprocessing.size))


LABELS = {"labels": _labels, "maps": _maps, "boxes": _objects}


def _pixels(raw: torch.Tensor, crops: Crops | None, preprocessing: Preprocessing, moves: Moves) -> torch.Tensor:
    """Stored images (B, H, W, C), where the batch is to be -> float32 (B, C, h, w), cropped and normalised."""
    if crops is None:
        return preprocessing.normalise(preprocessing.centre_crop(raw.movedim(-1, 1)).movedim(1, -1))
    if raw.device.type != "cpu":
        crops = Crops(*map(moves, crops.tensors()))
        return preprocessing.scaled(resized_in_turn(raw, crops, preprocessing.size), raw.dtype)
    if raw.dtype == torch.uint8 and raw.shape[1] * raw.shape[2] > SMALL:
        return preprocessing.normalise(crop_bytes(raw, crops, preprocessing.size))
    return resized_crops(preprocessing.normalise(raw), crops, preprocessing.size)


def _cropped_bytes(images: Images, rows: np.ndarray, crops: Crops | None) -> torch.Tensor:
    """Of the stored images, uint8 (B, h, w, C), on the CPU."""
    pixels, preprocessing = torch.from_numpy(images.images[rows]), images.preprocessing
    if crops is None:
        return preprocessing.centre_crop(pixels.movedim(-1, 1)).movedim(1, -1)
    return crop_bytes(pixels, crops, preprocessing.size)
