"""SimMIM: equal to transformers' implementation, and on a CNN to its formula."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from formulas import close, maps, method, photos
from whymask import masks
from whymask.randomness import torch_generator


def to_transformers(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """SimMIM's weights, or their gradients, under transformers' names and in its shapes."""
    renamed = {
        "encoder.net.cls_token": "vit.embeddings.cls_token",
        "encoder.net.pos_embed": "vit.embeddings.position_embeddings",
        "encoder.net.patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "encoder.net.blocks": "vit.layers",
        "encoder.net.norm": "vit.layernorm",
        "attn.proj": "attention.o_proj",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "mask_token": "vit.embeddings.mask_token",
        "head.": "decoder.0.",
    }
    result = {}
    for key, value in values.items():
        for ours, theirs in renamed.items():
            key = key.replace(ours, theirs)
        if key == "decoder.0.weight":
            value = value[:, :, None, None]
        if "attn.qkv" in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                result[key.replace("attn.qkv", f"attention.{name}_proj")] = part
        else:
            result[key] = value
    return result


@pytest.mark.parametrize("channels", [1, 3])
def test_simmim_equals_transformers(channels: int) -> None:
    transformers = pytest.importorskip("transformers")
    ours = method("simmim", "vit", channels=channels)
    theirs = transformers.ViTForMaskedImageModeling(
        transformers.ViTConfig(
            hidden_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            intermediate_size=128,
            image_size=32,
            patch_size=4,
            num_channels=channels,
            encoder_stride=4,
            layer_norm_eps=1e-6,
        )
    )
    theirs.load_state_dict(to_transformers(ours.state_dict()), strict=True)
    images = photos(6, channels)
    hidden = torch.rand(6, 8, 8, generator=torch_generator(0)) < torch.linspace(0.2, 0.9, 6)[:, None, None]
    expected = theirs(images, bool_masked_pos=hidden.flatten(1))
    loss = ours(images, hidden)["loss"]
    close(loss, expected.loss)
    close(ours.predict(images, hidden), expected.reconstruction)
    shown = masks.to_pixels(~hidden, 4)
    close(ours.reconstruct(images, hidden), torch.where(shown, images, expected.reconstruction.detach()))
    loss.backward()
    expected.loss.backward()
    gradients = to_transformers({name: parameter.grad for name, parameter in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-5, rtol=1e-4, msg=name)
        assert parameter.grad.abs().max() > 1e-4 or "k_proj.bias" in name, name


def test_simmim_on_a_cnn_is_a_dense_network_that_sees_the_token() -> None:
    model, images = method("simmim", "cnn", channels=3), photos(4, 3)
    (hidden,) = model.draw(4, torch_generator(0))
    pixels = masks.to_pixels(hidden, 4)
    features = maps(model.encoder.net, torch.where(pixels, model.mask_token.repeat(1, 1, 8, 8), images))[-1]
    head = model.head
    predicted = F.pixel_shuffle(F.conv2d(features, head.weight[:, :, None, None], head.bias), 8)
    close(model.predict(images, hidden), predicted)
    close(model(images, hidden)["loss"], (predicted - images).abs()[pixels.expand_as(images)].mean())
