"""CrossMAE: its decoder equal to torch's attention, and what its places see."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from formulas import close, embedded, method, photos, streams
from whymask import masks
from whymask.randomness import torch_generator


def cross(**settings: Any) -> Any:
    return method("mae", "vit", decoder="cross", decoder_width=16, decoder_depth=2, decoder_heads=2, **settings)


def test_the_cross_decoder_equals_torchs_attention() -> None:
    model, images = cross(), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    decoder, net = model.decoder, model.encoder.net
    visible = F.pad(~hidden.flatten(1), (1, 0), value=True)
    tokens = torch.stack([t[v] for t, v in zip(embedded(net, images), visible, strict=True)])
    first, second, third = streams(net, tokens)
    sources = [first, second, net.norm(third)]
    chosen = masks.indices(hidden)[1]
    x = decoder.mask_token + decoder.positions[chosen + 1]
    for weights, block in zip(decoder.mix, decoder.blocks, strict=True):
        attention = nn.MultiheadAttention(16, 2, kdim=32, vdim=32, batch_first=True)
        key, value = block.key_value.weight.chunk(2)
        copied = {
            "q_proj_weight": block.query.weight,
            "k_proj_weight": key,
            "v_proj_weight": value,
            "in_proj_bias": torch.cat([block.query.bias, block.key_value.bias]),
            "out_proj.weight": block.project.weight,
            "out_proj.bias": block.project.bias,
        }
        attention.load_state_dict(copied)
        read = block.source_norm(sum(w * source for w, source in zip(weights, sources, strict=True)))
        x = x + attention(block.norm1(x), read, read)[0]
        x = x + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(x))))
    expected = decoder.predict(decoder.norm(x))
    close(decoder(model.encode(images, hidden), hidden, chosen), expected)
    true = masks.take(masks.to_squares(images, 4), chosen)
    true = (true - true.mean(dim=2, keepdim=True)) / (true.var(dim=2, keepdim=True) + 1e-6).sqrt()
    close(model(images, hidden)["loss"], (expected - true).square().mean(), 1e-4)


def test_places_that_the_cross_decoder_is_asked_for_do_not_see_each_other() -> None:
    model, images = cross(), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    encoded, chosen = model.encode(images, hidden), masks.indices(hidden)[1]
    whole = model.decoder(encoded, hidden, chosen)
    for some in (slice(0, 1), slice(3, 20), slice(1, None, 2)):
        close(model.decoder(encoded, hidden, chosen[:, some]), whole[:, some], 1e-6)
    turned = model.decoder(encoded, hidden, chosen.flip(1)).flip(1)
    close(turned, whole, 1e-6)
    assert (whole[:, 0] - whole[:, 1]).abs().max() > 0.01


def test_shares_average_to_the_full_loss_exactly_with_the_cross_decoder() -> None:
    model, images = cross(decode_share=0.25), photos(4)
    hidden, scored = model.draw(4, torch_generator(0))
    assert scored.sum() * 4 == hidden.sum()
    chosen = masks.indices(hidden)[1].view(4, 12, 4)
    none = torch.zeros_like(hidden).flatten(1)
    shares = [none.scatter(1, chosen[:, :, i], True).view_as(hidden) for i in range(4)]
    losses = torch.stack([model(images, hidden, share)["loss"] for share in shares])
    close(losses.mean(), model(images, hidden)["loss"])
    assert losses.std() > 0
