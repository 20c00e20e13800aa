"""A training step of each method, beside the same method made of transformers' or lightly's parts, of equal size.

All contenders of a method are given our masks, drawn within the step, and the same ones in every step, so that blocks,
whose sizes are random, cost all of them the same. A teacher's update is part of the step.
"""

import copy
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from transformers import ViTConfig, ViTForMaskedImageModeling

from benchmarks.machine import matrix_products
from benchmarks.mae_step import Sizes, encoder_of, necessary_operations, new_encoder, our_vit, step_of
from benchmarks.measure import Effort, Row, Work, against, interleaved
from whymask.encoders import EncoderSettings
from whymask.masks import indices
from whymask.methods import METHODS
from whymask.methods.ijepa import IJEPA
from whymask.randomness import torch_generator

LIGHTLY_MISSING: str | None = None
try:
    from lightly.models import utils
    from lightly.models.modules import (
        IJEPAPredictorTIMM,
        MaskedVisionTransformerDecoderTIMM,
        MaskedVisionTransformerTIMM,
    )
except ImportError as error:
    LIGHTLY_MISSING = str(error)

DECAY = 0.996  # of the peer's teacher
STEPS = 1000  # of the run that our decays are derived from


class Peer(nn.Module):
    """forward(images, *masks), the masks being ours, gives the loss."""

    origin: str
    """What it is made of."""

    def after_step(self, step: int, steps: int) -> None:
        """As a `Method`'s."""


class TransformersSimMIM(Peer):
    origin = "transformers ViTForMaskedImageModeling"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        config = ViTConfig(
            hidden_size=sizes.width,
            num_hidden_layers=sizes.depth,
            num_attention_heads=sizes.heads,
            intermediate_size=4 * sizes.width,
            image_size=sizes.image,
            patch_size=sizes.patch,
            encoder_stride=sizes.patch,
        )
        self.model = ViTForMaskedImageModeling(config)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        return self.model(images, bool_masked_pos=hidden.flatten(1)).loss


class LightlySimMIM(Peer):
    """The head and the loss see hidden patches only."""

    origin = "lightly MaskedVisionTransformerTIMM"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.backbone = MaskedVisionTransformerTIMM(vit=timm_vit(sizes))
        self.head = nn.Linear(sizes.width, 3 * sizes.patch**2)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        places = indices(hidden)[1]
        tokens = self.backbone.encode(images, idx_mask=places + 1)
        wanted = utils.get_at_index(utils.patchify(images, self.patch), places)
        return F.l1_loss(self.head(utils.get_at_index(tokens, places + 1)), wanted)


class LightlyMAE(Peer):
    origin = "lightly MaskedVisionTransformerTIMM and its decoder"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.patch = sizes.patch
        self.backbone = MaskedVisionTransformerTIMM(vit=timm_vit(sizes))
        self.embed = nn.Linear(sizes.width, sizes.decoder_width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=(sizes.image // sizes.patch) ** 2,
            embed_dim=sizes.decoder_width,
            depth=sizes.decoder_depth,
            num_heads=sizes.decoder_heads,
        )
        self.head = nn.Linear(sizes.decoder_width, 3 * sizes.patch**2)

    def forward(self, images: Tensor, hidden: Tensor) -> Tensor:
        visible, places = indices(hidden)
        kept = F.pad(visible + 1, (1, 0))  # the class token is the first
        seen = self.embed(self.backbone.encode(images, idx_keep=kept))
        empty = seen.new_zeros(len(seen), self.backbone.sequence_length, seen.shape[2])
        tokens = self.decoder(utils.set_at_index(empty, kept, seen), idx_mask=places + 1)
        wanted = utils.get_at_index(utils.patchify(images, self.patch), places)
        return F.mse_loss(self.head(utils.get_at_index(tokens, places + 1)), utils.normalize_mean_var(wanted))


class LightlyIJEPA(Peer):
    """Without a class token, which lightly's predictor does not take; ours has one."""

    origin = "lightly MaskedVisionTransformerTIMM and IJEPAPredictorTIMM"

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = MaskedVisionTransformerTIMM(vit=timm_vit(sizes, class_token=False))
        self.teacher = copy.deepcopy(self.encoder).requires_grad_(False)
        ours = IJEPA(encoder_of(sizes)).config
        self.predictor = IJEPAPredictorTIMM(
            num_patches=(sizes.image // sizes.patch) ** 2,
            depth=ours.predictor_depth,
            mlp_dim=sizes.width,
            predictor_embed_dim=ours.predictor_width,
            num_heads=sizes.heads,
        )

    def forward(self, images: Tensor, hidden: Tensor, *targets: Tensor) -> Tensor:
        context, places = [indices(hidden)[0]], [indices(target)[1] for target in targets]
        predictions = self.predictor(self.encoder.encode(images, idx_keep=context[0]), context, places)
        with torch.no_grad():
            features = self.teacher.encode(images)
            wanted = utils.apply_masks(F.layer_norm(features, (features.shape[2],)), places)
        return F.smooth_l1_loss(predictions, wanted)

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        utils.update_momentum(self.encoder, self.teacher, DECAY)


def timm_vit(sizes: Sizes, **settings: Any) -> VisionTransformer:
    return VisionTransformer(
        img_size=sizes.image,
        patch_size=sizes.patch,
        embed_dim=sizes.width,
        depth=sizes.depth,
        num_heads=sizes.heads,
        num_classes=0,
        global_pool="avg",
        fc_norm=False,  # the norm stays before the pooling, as in ours
        **settings,
    )


PEERS: dict[str, dict[str, type[Peer] | None]] = {
    "mae": {"mae-step-lightly": LightlyMAE},
    "simmim": {"simmim-step": TransformersSimMIM, "simmim-step-lightly": LightlySimMIM},
    "ijepa": {"ijepa-step": LightlyIJEPA},
    "data2vec": {"data2vec-step": None},
    "data2vec2": {"data2vec2-step": None},
    "maskfeat": {"maskfeat-step": None},
}
"""The rows of each method on a ViT, and whom they compare it with."""


def method_rows(effort: Effort, sizes: Sizes) -> list[Row]:
    """The rows of PEERS; those that need lightly only where it is installed."""
    images = torch.randn(sizes.batch, 3, sizes.image, sizes.image, generator=torch_generator("bench"))
    rows = []
    for name, compared in PEERS.items():
        skipped = [row for row, peer in compared.items() if LIGHTLY_MISSING and peer and "lightly" in peer.origin]
        if skipped:
            print(f"skipped {', '.join(skipped)}: {LIGHTLY_MISSING}; pip install 'whymask[peers]'", flush=True)
        peers = {row: peer for row, peer in compared.items() if row not in skipped}
        rows += rows_of(name, peers, images, sizes, effort) if peers else []
    return rows


def rows_of(name: str, peers: dict[str, type[Peer] | None], images: Tensor, sizes: Sizes, effort: Effort) -> list[Row]:
    """The rows of one method, measured in turns."""
    model = our_model(name, sizes)
    operations = necessary_operations(model, images)
    works = {"ours": step(model, model.draw, lambda *given: model(*given)["loss"], images)}
    for row, peer in peers.items():
        if peer is not None:
            other = peer(sizes)
            works[row] = step(other, model.draw, other, images)
    rates = interleaved(works | matrix_products(), effort)
    share = median(rates["ours"]) * operations / max(median(rates["product"]), median(rates["torch product"]))
    setting = (
        f"ViT {sizes.width} x {sizes.depth}, {sizes.heads} heads, {sizes.image}x{sizes.image}, patch {sizes.patch}, "
        f"batch {sizes.batch}, {name}'s defaults, float32, threads: {torch.get_num_threads()}"
    )
    rows = []
    for row, peer in peers.items():
        values: dict[str, Any] = {"ours": median(rates["ours"])}
        if peer is not None:
            values = against(rates, "ours", row) | {"peer": peer.origin}
        rows.append(Row(name=row, share=share, unit="images/s", setting=setting, **values))
    return rows


def our_model(name: str, sizes: Sizes) -> Any:
    if name == "mae":
        return our_vit(sizes, decode_share=1.0)
    return METHODS[name](encoder_of(sizes))


def spark_rows(effort: Effort, batch: int = 128, width: int | None = None) -> list[Row]:
    """spark-step: the default encoder on 32x32 grey images; without a peer."""
    model: Any = METHODS["spark"](new_encoder(EncoderSettings("cnn", width=width), 32, 1))
    images = torch.randn(batch, 1, 32, 32, generator=torch_generator("bench"))
    rates = interleaved({"ours": step(model, model.draw, lambda *given: model(*given)["loss"], images)}, effort)
    setting = f"plain CNN, 32x32 grey, batch {batch}, 60 % hidden, float32, threads: {torch.get_num_threads()}"
    return [Row(name="spark-step", ours=median(rates["ours"]), unit="images/s", setting=setting)]


def step(model: Any, draw: Callable[..., tuple[Tensor, ...]], loss: Callable[..., Tensor], images: Tensor) -> Work:
    """Draws masks, trains `model` by `loss` of them, and updates its teacher, if it has one."""
    trained = step_of(model, lambda: loss(images, *draw(len(images), torch_generator("bench", "mask"))), len(images))

    def work() -> float:
        done = trained()
        model.after_step(0, STEPS)
        return done

    return work
