"""Pretraining: a method, unlabelled images and the loop make an encoder."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whymask.data.batches import Batch, Draw, in_order
from whymask.data.prepare import Prepared
from whymask.disk import read_tensors, write_arrays
from whymask.encoders import EncoderConfig, build_encoder, save_encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError
from whymask.functions import sources
from whymask.later import recorded
from whymask.masks import Mask, to_pixels
from whymask.methods import Method, MethodConfig, build_method, settings_for
from whymask.methods.files import DECODER, folder_of, kept_method, load_own, save_method
from whymask.methods.teacher import TeacherConfig, collapse
from whymask.progress import say
from whymask.randomness import torch_generator
from whymask.runs import RunFolder, metrics_of
from whymask.stages.augment import augment_of
from whymask.stages.context import Context
from whymask.stages.record import RunRecord
from whymask.stages.settings import TEACHER, AugmentName, no_teacher
from whymask.stages.start import POOL, hashes_seen
from whymask.stages.watching import watching
from whymask.training.device import batches_on, placed
from whymask.training.loop import Training, fit
from whymask.training.memory import told
from whymask.training.optimisation import TrainingConfig
from whymask.training.sharding import check_shardable

GALLERY_IMAGES = 8


@dataclass(frozen=True, kw_only=True)
class PretrainJob:
    """One encoder that is to be pretrained.

    Attributes:
        config: of the encoder; `method_config` of the method.
        seed: of all first weights, order, augmentation and masks.
        origin: run folder or checkpoint that it starts from, `partial` where some of its weights may be missing; None
            for new weights.
    """

    config: EncoderConfig
    method: str
    method_config: MethodConfig
    training: TrainingConfig
    augment: AugmentName
    seed: int
    origin: str | None = None
    partial: bool = False

    def record(self, data: str) -> RunRecord:
        return RunRecord(
            stage="pretrain",
            arm=self.method,
            seed=self.seed,
            data=data,
            encoder=asdict(self.config.asked()),
            augment=self.augment,
            origin=self.origin,
            partial=self.partial,
            method=self.method,
            method_settings=asdict(settings_for(self.method, self.method_config)),
            training=recorded(self.training),
            about=sources(self.config.name, self.augment),
        )


def pretraining(context: Context, job: PretrainJob, tell: Callable[[str], None] = lambda line: None) -> Training:
    """A new encoder in its method, over the pool of images; `tell` is told what its weights start from."""
    prep, pool = context.preprocessing, context.prepared.pool
    encoder = build_encoder(job.config, prep.size, prep.channels, job.seed)
    if job.origin is not None:
        encoder.origin = load_checkpoint(encoder, Path(job.origin), job.partial)
        tell(encoder.origin)
    model = build_method(job.method, encoder, job.method_config, job.seed)
    if job.origin is not None:
        tell(_continue_method(model, job.method, job.origin))
    batch_size = max(1, job.training.batch_size // model.masks_per_image)
    augment = augment_of(job.augment)
    draw = masks_of(model, job.seed)
    images, parts = context.prepared.images, job.training.accumulate
    batches = batches_on(context.fabric, images, pool, batch_size, augment, job.seed, draw=draw, parts=parts)

    def loss_of(wrapped: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        return wrapped(batch.images, *batch.masks)

    steps = job.training.epochs * batches.steps_per_epoch
    check_shardable(context.fabric, model, job.training.ema)
    return Training(placed(model, context.fabric.device, job.training.recompute), loss_of, batches, steps, collapse)


def _continue_method(model: Method, method: str, origin: str) -> str:
    """Takes the method's own weights from the run that is continued, if its method is the same; says so."""
    folder = folder_of(Path(origin))
    kept = kept_method(folder)
    anew = f"the weights of {method} itself (decoder and the like) start anew"
    if kept is None or kept[0] != method:
        return anew
    read_tensors(folder / DECODER)  # a damaged file is an error, other settings are none
    try:
        load_own(model, folder)
    except WhymaskError:
        return f"{anew}: those of {origin} are of other settings"
    return f"the weights of {method} itself (decoder and the like) are those of {origin}"


def pretrain_encoder(
    context: Context,
    job: PretrainJob,
    folder: Path,
    label: str,
    *,
    alone: bool = False,
    wait: bool = False,
    keep_checkpoints: bool = False,
    keep_teacher: bool = False,
    watch: int | None = None,
) -> dict[str, Any]:
    """Pretrain and leave encoder/, gallery.npz and result.json in `folder`. A finished run is kept as it is;
    `alone` and `wait` as in `Context.open`. Checkpoints, which are three times the weights each, go when it is finished
    unless `keep_checkpoints`. With `keep_teacher` the method's teacher is an encoder of its own, in teacher/.
    `watch` as `every` of `watching`.

    Returns the result: {"stage", "method", "seed", "loss", "operations", "images_seen", "seconds", "data_wait", ...}.
    `operations` counts multiplications and additions of forward and backward passes, over the whole run. Raises
    WhymaskError where `folder` holds another run, or there is no teacher to keep.
    """
    if keep_teacher and not isinstance(job.method_config, TeacherConfig):
        raise no_teacher(job.method)
    with context.open(folder, job.record(context.fingerprint), alone=alone, wait=wait) as run:
        result = context.by_first(lambda: run.result) or _pretrained(context, job, run, label, keep_teacher, watch)
        if context.fabric.is_global_zero and not keep_checkpoints:
            run.drop_checkpoints()
    return result


def _pretrained(
    context: Context, job: PretrainJob, run: RunFolder, label: str, keep_teacher: bool, watch: int | None
) -> dict[str, Any]:
    fabric, prepared = context.fabric, context.prepared
    training = pretraining(context, job, tell=say)
    with told(fabric, training, run):
        per_image = training.operations_per_image()
        training, found = watching(training, prepared, per_image, watch)
    model: Any = training.model
    if found is not None and fabric.is_global_zero:
        found.note_told(metrics_of(run.path / "metrics.jsonl"))
        found.show = partial(save_gallery, model, prepared, run, job.seed)
    fitted = fit(fabric, training, job.training, seed=job.seed, run=run, label=label, compiling=context.compiling)
    result = {
        "stage": "pretrain",
        "method": job.method,
        "seed": job.seed,
        "operations": per_image * fitted["images_seen"],
        "operations_per_image": per_image,
        **fitted,
        **({} if found is None else {"watched": found.to_dict()}),
    }
    if found is not None:
        say(found.summary())
    if fabric.is_global_zero:
        about = {"method": job.method, "seed": job.seed}
        save_encoder(model.encoder, context.preprocessing, run.path / "encoder", about)
        if keep_teacher:
            save_encoder(model.teacher.encoder, context.preprocessing, run.path / TEACHER, about)
        save_method(model, job.method, run.path)
        save_gallery(model, prepared, run, job.seed)
        write_arrays(run.path / POOL, {"hashes": seen_hashes(prepared, job)})
        run.finish(result)
    fabric.barrier()
    return result


def seen_hashes(prepared: Prepared, job: PretrainJob) -> np.ndarray:
    """Of every image that the encoder was pretrained on, also in the run that it started from."""
    own = prepared.images.hashes[prepared.pool]
    before = hashes_seen(None if job.origin is None else Path(job.origin))
    return own if before is None else np.union1d(own, before)


def masks_of(model: Method, seed: int) -> Draw:
    """The masks of a step: drawn for the whole batch, so that they do not depend on the number of ranks; each with all
    that the method will ask of it."""

    def draw(step: int, count: int, mine: slice) -> tuple[Mask, ...]:
        drawn = tuple(Mask.of(mask[mine]) for mask in model.draw(count, torch_generator(seed, "mask", step)))
        model.look(*drawn)
        return drawn

    return draw


@torch.no_grad()
def save_gallery(model: Method, prepared: Prepared, run: RunFolder, seed: int) -> None:
    """gallery.npz: original, masked and reconstructed images, uint8 (n, h, w, C), for the page; of methods that predict
    pixels."""
    rows = prepared.test if len(prepared.test) else prepared.pool
    chosen = rows[np.linspace(0, len(rows) - 1, min(GALLERY_IMAGES, len(rows))).astype(int)]
    prep = prepared.images.preprocessing
    batch = next(in_order(prepared.images, chosen, len(chosen), next(model.parameters()).device))
    model.eval()
    for hidden in model.draw(len(chosen), torch_generator(seed, "gallery"))[:1]:
        hidden = hidden.to(batch.images.device)
        rebuilt = model.reconstruct(batch.images, hidden)
        if rebuilt is not None:
            masked = batch.images.masked_fill(to_pixels(hidden, model.encoder.unit), 0.0)
            arrays = {"original": batch.images, "masked": masked, "reconstructed": rebuilt}
            write_arrays(run.path / "gallery.npz", {name: to_bytes(tensor, prep) for name, tensor in arrays.items()})


def to_bytes(images: Tensor, prep: Any) -> np.ndarray:
    """Normalised images (B, C, h, w) back to uint8 (B, h, w, C) for people to look at."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (prep.mean, prep.std))
    values = (images.float().cpu() * std + mean).clamp(0, 1) * 255
    return values.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
