"""Pretraining: a method, unlabelled images and the loop make an encoder."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from whymask.data.batches import Augment, Batch, Batches, in_order
from whymask.data.prepare import Prepared
from whymask.encoders import EncoderConfig, build_encoder, read_tensors, save_encoder
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError
from whymask.masks import to_pixels
from whymask.methods import Method, MethodConfig, build_method, method_of
from whymask.methods.files import DECODER, folder_of, kept_method, load_own, save_method
from whymask.methods.teacher import collapse
from whymask.progress import say
from whymask.randomness import torch_generator
from whymask.runs import RunFolder, write_arrays
from whymask.stages.start import POOL, hashes_seen
from whymask.training.device import batches_on
from whymask.training.loop import Task, fit
from whymask.training.settings import Optimisation

GALLERY_IMAGES = 8


@dataclass(frozen=True)
class Pretraining(Optimisation):
    """How an encoder is pretrained. The recipe is the masked autoencoder's (arXiv 2111.06377), for short runs: a
    higher learning rate than its 1.5e-4 * batch / 256, which is meant for 800 epochs of ImageNet."""

    epochs: int | None = None
    """Passes over the unlabelled images; default: 50,000 image passes, but at least 10 and at most 50 epochs."""
    batch_size: int = 128
    """Masked images a step: a method with several masks an image takes so many fewer images. Fewer than this make one
    batch."""
    beta2: float = 0.95
    """AdamW's averaging of squared gradients."""

    def epochs_for(self, images: int) -> int:
        return self.epochs or int(np.clip(round(50_000 / images), 10, 50))


@dataclass(frozen=True)
class Recipe:
    """An encoder, a method, how they are trained, and the weights that they start from: all resolved."""

    encoder: EncoderConfig
    method: str
    method_config: MethodConfig
    training: Pretraining
    augment: Augment | None
    origin: str | None = None
    """A run folder or a checkpoint; None for new weights."""
    partial: bool = False

    def written(self) -> dict[str, Any]:
        """What a run folder says of it. Encoder and method are told as settings, whose names all kinds share."""
        settings = self.method_config.asked(method_of(self.method).Settings)
        return asdict(self) | {"encoder": asdict(self.encoder.asked()), "method_config": asdict(settings)}


def pretraining_task(
    fabric: Fabric, prepared: Prepared, recipe: Recipe, seed: int, tell: Callable[[str], None] = lambda line: None
) -> Task:
    """A new encoder in its method, over `prepared.pool`; `tell` is told what its weights start from."""
    prep = prepared.images.preprocessing
    encoder = build_encoder(recipe.encoder, prep.size, prep.channels, seed)
    if recipe.origin is not None:
        encoder.origin = load_checkpoint(encoder, Path(recipe.origin), recipe.partial)
        tell(encoder.origin)
    model = build_method(recipe.method, encoder, recipe.method_config, seed)
    if recipe.origin is not None:
        tell(_continue_method(model, recipe))
    batch_size = max(1, recipe.training.batch_size // model.masks_per_image)
    batches = batches_on(fabric, prepared.images, prepared.pool, batch_size, recipe.augment, seed)

    def loss_of(wrapped: nn.Module, batch: Batch, step: int) -> Mapping[str, Tensor]:
        return wrapped(batch.images, *masks_of(model, batches, step, seed))

    steps = recipe.training.epochs_for(len(prepared.pool)) * batches.steps_per_epoch
    return Task(model.to(fabric.device), loss_of, batches, steps, collapse)


def _continue_method(model: Method, recipe: Recipe) -> str:
    """Takes the method's own weights from the run that is continued, if its method is the same; says so."""
    assert recipe.origin is not None
    folder = folder_of(Path(recipe.origin))
    kept = kept_method(folder)
    anew = f"the weights of {recipe.method} itself (decoder and the like) start anew"
    if kept is None or kept[0] != recipe.method:
        return anew
    read_tensors(folder / DECODER)  # a damaged file is an error, other settings are none
    try:
        load_own(model, folder)
    except WhymaskError:
        return f"{anew}: those of {recipe.origin} are of other settings"
    return f"the weights of {recipe.method} itself (decoder and the like) are those of {recipe.origin}"


def pretrain_encoder(
    fabric: Fabric, prepared: Prepared, recipe: Recipe, *, seed: int, run: RunFolder, label: str = "pretrain"
) -> dict[str, Any]:
    """Pretrain and leave encoder/, gallery.npz and result.json in `run`. A finished run is kept as it is.

    Returns the result: {"stage", "method", "seed", "loss", "operations", "images_seen", "seconds", "data_wait", ...}.
    `operations` counts multiplications and additions of forward and backward passes, over the whole run.
    """
    if run.result is not None:
        return run.result
    task = pretraining_task(fabric, prepared, recipe, seed, tell=say)
    per_image = task.operations_per_image()
    fitted = fit(fabric, task, recipe.training, seed=seed, run=run, label=label)
    result = {
        "stage": "pretrain",
        "method": recipe.method,
        "seed": seed,
        "operations": per_image * fitted["images_seen"],
        "operations_per_image": per_image,
        **fitted,
    }
    if fabric.is_global_zero:
        model: Any = task.model
        save_encoder(
            model.encoder, prepared.images.preprocessing, run.path / "encoder", {"method": recipe.method, "seed": seed}
        )
        save_method(model, recipe.method, run.path)
        save_gallery(model, prepared, run, seed)
        write_arrays(run.path / POOL, {"hashes": seen_hashes(prepared, recipe)})
        run.finish(result)
    fabric.barrier()
    return result


def seen_hashes(prepared: Prepared, recipe: Recipe) -> np.ndarray:
    """Of every image that the encoder was pretrained on, also in the run that it started from."""
    own = prepared.images.hashes[prepared.pool]
    before = hashes_seen(None if recipe.origin is None else Path(recipe.origin))
    return own if before is None else np.union1d(own, before)


def masks_of(model: Any, batches: Batches, step: int, seed: int) -> tuple[Tensor, ...]:
    """This rank's masks of `step`: drawn for the whole batch, so that they do not depend on the number of ranks."""
    drawn = model.draw(batches.batch_size, torch_generator(seed, "mask", step))
    return tuple(mask[batches.mine].to(batches.device) for mask in drawn)


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
