"""A pretraining step: forward, backward and fused AdamW, beside transformers' ViTMAEForPreTraining of equal size."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from benchmarks.machine import matrix_products
from benchmarks.measure import Effort, Row, Work, against, interleaved
from whymask.encoders import Encoder, EncoderSettings, build_encoder, resolve
from whymask.methods import Method, build_method, resolve_method
from whymask.methods.fcmae import FCMAE
from whymask.methods.settings import MAESettings
from whymask.randomness import torch_generator

DECODE_SHARE = 0.5  # recommended for ViTs: half of the hidden patches are decoded, other ones each step


@dataclass(frozen=True)
class Sizes:
    """Both networks' sizes, in tokens' widths, blocks, heads, and pixels."""

    width: int = 192
    depth: int = 12
    heads: int = 3
    decoder_width: int = 96
    decoder_depth: int = 4
    decoder_heads: int = 3
    image: int = 32
    patch: int = 4
    batch: int = 128

    def __str__(self) -> str:
        return (
            f"ViT {self.width} x {self.depth}, {self.heads} heads, {self.image}x{self.image}, patch {self.patch}, "
            f"decoder {self.decoder_width} x {self.decoder_depth}, batch {self.batch}, 75 % hidden, float32"
        )


def mae_rows(effort: Effort, sizes: Sizes) -> list[Row]:
    """mae-step: the same mathematics as the peer; mae-step-half: with DECODE_SHARE."""
    images = torch.randn(sizes.batch, 3, sizes.image, sizes.image, generator=torch_generator("bench"))
    models = {"mae-step": our_vit(sizes, 1.0), "mae-step-half": our_vit(sizes, DECODE_SHARE)}
    operations = {name: necessary_operations(model, images) for name, model in models.items()}
    works = {name: our_step(model, images) for name, model in models.items()}
    rates = interleaved(works | {"peer": peer_step(sizes, images)} | matrix_products(), effort)
    machine = max(median(rates["product"]), median(rates["torch product"]))
    rows = []
    for name, decoded in (("mae-step", "all"), ("mae-step-half", f"{DECODE_SHARE:.0%} of")):
        setting = f"{sizes}, {decoded} hidden patches decoded, threads: {torch.get_num_threads()}"
        share = median(rates[name]) * operations[name] / machine
        values = against(rates, name, "peer")
        rows.append(Row(name=name, peer="transformers ViTMAE", share=share, unit="images/s", setting=setting, **values))
    return rows


def cnn_rows(effort: Effort, batch: int = 128, width: int | None = None) -> list[Row]:
    """cnn-step: the default encoder, masked convolutions on 32x32 grey images; without a peer."""
    model = FCMAE(new_encoder(EncoderSettings("cnn", width=width), 32, 1))
    images = torch.randn(batch, 1, 32, 32, generator=torch_generator("bench"))
    rates = interleaved({"ours": our_step(model, images)}, effort)
    setting = f"plain CNN, 32x32 grey, batch {batch}, 50 % hidden, float32, threads: {torch.get_num_threads()}"
    return [Row(name="cnn-step", ours=median(rates["ours"]), unit="images/s", setting=setting)]


def new_encoder(asked: EncoderSettings, image: int, channels: int) -> Encoder:
    size = (image, image)
    return build_encoder(resolve(asked, size, channels), size, channels, seed=0)


def encoder_of(sizes: Sizes) -> Encoder:
    asked = EncoderSettings("vit", width=sizes.width, depth=sizes.depth, heads=sizes.heads, patch=sizes.patch)
    return new_encoder(asked, sizes.image, 3)


def our_vit(sizes: Sizes, decode_share: float) -> Method:
    asked = MAESettings(
        mask_ratio=0.75,
        normalise_targets=True,
        decoder_width=sizes.decoder_width,
        decoder_depth=sizes.decoder_depth,
        decoder_heads=sizes.decoder_heads,
        decode_share=decode_share,
    )
    encoder = encoder_of(sizes)
    return build_method("mae", encoder, resolve_method("mae", asked, encoder.config, encoder.size), seed=0)


def our_step(model: Method, images: Tensor) -> Work:
    """Masks are drawn within the step, as the peer does."""
    generator = torch_generator("bench", "mask")
    return step_of(model, lambda: model(images, *model.draw(len(images), generator))["loss"], len(images))


def peer_step(sizes: Sizes, images: Tensor) -> Work:
    config = ViTMAEConfig(
        hidden_size=sizes.width,
        num_hidden_layers=sizes.depth,
        num_attention_heads=sizes.heads,
        intermediate_size=4 * sizes.width,
        decoder_hidden_size=sizes.decoder_width,
        decoder_num_hidden_layers=sizes.decoder_depth,
        decoder_num_attention_heads=sizes.decoder_heads,
        decoder_intermediate_size=4 * sizes.decoder_width,
        image_size=sizes.image,
        patch_size=sizes.patch,
        mask_ratio=0.75,
        norm_pix_loss=True,
    )
    model = ViTMAEForPreTraining(config)
    return step_of(model, lambda: model(pixel_values=images).loss, len(images))


def step_of(model: nn.Module, loss_of: Callable[[], Tensor], batch: int) -> Work:
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    model.train()

    def step() -> float:
        loss_of().backward()
        optimiser.step()
        optimiser.zero_grad()
        return batch

    return step


def necessary_operations(model: Method, images: Tensor) -> float:
    """Operations an image (2 a multiply-add) of products in forward and backward, nothing computed twice.

    Counted with plain attention: the fused kernel's backward repeats its forward, which is a choice, not a need.
    """
    masks = model.draw(len(images), torch_generator("bench", "mask"))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(images, *masks)["loss"].backward()
    model.zero_grad()
    return counter.get_total_flops() / len(images)
