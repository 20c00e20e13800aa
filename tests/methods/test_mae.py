"""MAE: equality with transformers' implementation, and what must hold for any encoder."""

import json
from dataclasses import asdict, fields

import pytest
import torch
from torch import Tensor

from method_cases import new_method
from tiny import digits, new_encoder
from whymask import masks
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.encoders.vit import sincos_positions
from whymask.errors import WhymaskError
from whymask.methods import METHODS, SETTINGS, load_method, resolve_method, save_method
from whymask.methods.autoencoder import Autoencoder
from whymask.methods.crossmae import CrossMAE
from whymask.methods.fcmae import FCMAE, FCMAEConfig
from whymask.methods.mae import MAE, MAEConfig
from whymask.methods.settings import FCMAESettings, MAESettings
from whymask.randomness import torch_generator

TINY = {"cnn": EncoderSettings("cnn", width=8), "vit": EncoderSettings("vit", width=32, depth=2, heads=2)}
KINDS = pytest.mark.parametrize("kind", list(TINY))


def mae(kind: str, size: tuple[int, int] = (32, 32), channels: int = 1, **settings) -> Autoencoder:
    return new_method("mae", new_encoder(TINY[kind], size, channels), **settings)


# Equality with transformers


def pair(size: tuple[int, int], channels: int, normalise: bool):
    """Our MAE and transformers', with the same weights."""
    transformers = pytest.importorskip("transformers")
    config = EncoderSettings("vit", width=48, depth=3, heads=3, patch=4)
    sizes = {"decoder_width": 32, "decoder_depth": 2, "decoder_heads": 2}
    ours = new_method("mae", new_encoder(config, size, channels), normalise_targets=normalise, **sizes)
    theirs = transformers.ViTMAEForPreTraining(
        transformers.ViTMAEConfig(
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=3,
            intermediate_size=192,
            decoder_hidden_size=32,
            decoder_num_hidden_layers=2,
            decoder_num_attention_heads=2,
            decoder_intermediate_size=128,
            image_size=size,
            patch_size=4,
            num_channels=channels,
            layer_norm_eps=1e-6,
            norm_pix_loss=normalise,
            mask_ratio=0.75,
        )
    )
    torch.manual_seed(0)
    for parameter in ours.parameters():  # biases and norms too, which start alike
        parameter.data += 0.05 * torch.randn_like(parameter)
    state = to_transformers({**ours.state_dict(), "decoder.positions": ours.decoder.positions}, channels)
    theirs.load_state_dict(state, strict=True)
    return ours, theirs


def to_transformers(values: dict[str, Tensor], channels: int) -> dict[str, Tensor]:
    """Our weights, or their gradients, under transformers' names and in its shapes."""
    renamed = {
        "encoder.net.cls_token": "vit.embeddings.cls_token",
        "encoder.net.pos_embed": "vit.embeddings.position_embeddings",
        "encoder.net.patch_embed.proj": "vit.embeddings.patch_embeddings.projection",
        "encoder.net.blocks": "vit.layers",
        "encoder.net.norm": "vit.layernorm",
        "decoder.positions": "decoder.decoder_pos_embed",
        "decoder.embed": "decoder.decoder_embed",
        "decoder.blocks": "decoder.decoder_layers",
        "decoder.norm": "decoder.decoder_norm",
        "decoder.predict": "decoder.decoder_pred",
        "attn.proj": "attention.o_proj",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
    }
    result = {}
    for key, value in values.items():
        for ours, theirs in renamed.items():
            key = key.replace(ours, theirs)
        if "decoder_pred" in key:  # a square's pixels: ours are channel by channel, theirs pixel by pixel
            value = value.unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)
        if "decoder_pos_embed" in key:
            value = value[None]
        if "attn.qkv" in key:
            for name, part in zip("qkv", value.chunk(3), strict=True):
                result[key.replace("attn.qkv", f"attention.{name}_proj")] = part
        else:
            result[key] = value
    return result


def noise_of(hidden: Tensor) -> Tensor:
    """Noise for which transformers hides these squares: it keeps those of the smallest values."""
    return hidden.flatten(1).float() + 0.5 * torch.rand(hidden.flatten(1).shape)


def check_gradients(ours: Autoencoder, theirs: torch.nn.Module, channels: int) -> None:
    gradients = to_transformers({n: p.grad for n, p in ours.named_parameters()}, channels)
    for name, parameter in theirs.named_parameters():
        if parameter.requires_grad:  # its position embeddings are fixed
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-4, rtol=1e-4, msg=name)
            assert parameter.grad.abs().max() > 1e-3 or "k_proj.bias" in name, name


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_loss_and_gradients_equal_those_of_transformers(normalise, channels):
    ours, theirs = pair((32, 32), channels, normalise)
    pixels = digits(6 * channels).reshape(6, channels, 32, 32)
    (hidden,) = ours.draw(6, torch_generator(0))
    loss, expected = ours(pixels, hidden)["loss"], theirs(pixels, noise=noise_of(hidden)).loss
    assert abs(loss - expected) < 1e-5
    loss.backward()
    expected.backward()
    check_gradients(ours, theirs, channels)


def test_images_that_are_not_square_equal_transformers_parts():
    """Its loss takes square images only, so it is computed here from its encoder and decoder."""
    ours, theirs = pair((16, 36), 1, normalise=False)
    pixels = digits(6, (16, 36))
    (hidden,) = ours.draw(6, torch_generator(0))
    encoded = theirs.vit(pixels, noise=noise_of(hidden))
    logits = theirs.decoder(encoded.last_hidden_state, encoded.ids_restore).logits
    targets = pixels.reshape(6, 1, 4, 4, 9, 4).permute(0, 2, 4, 3, 5, 1).reshape(6, 36, 16)
    expected = ((logits - targets) ** 2)[hidden.flatten(1)].mean()
    loss = ours(pixels, hidden)["loss"]
    assert abs(loss - expected) < 1e-5
    loss.backward()
    expected.backward()
    check_gradients(ours, theirs, 1)


@pytest.mark.parametrize("width", [32, 48])
def test_position_embedding_equals_that_of_transformers(width):
    theirs = pytest.importorskip("transformers.models.vit_mae.modeling_vit_mae")
    rows_first = theirs.build_2d_sinusoidal_position_embedding(3, 5, width, cls_token=True)
    columns_first = torch.cat([rows_first[:, width // 2 :], rows_first[:, : width // 2]], dim=1)
    torch.testing.assert_close(sincos_positions((3, 5), width)[0], columns_first)


# What must hold for any encoder


@KINDS
@pytest.mark.parametrize("normalise", [False, True])
def test_eight_images_can_be_learnt_by_heart(kind, normalise):
    model = mae(kind, normalise_targets=normalise)
    pixels, (hidden,) = digits(8), model.draw(8, torch_generator(0))
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        losses.append(model(pixels, hidden)["loss"])
        optimiser.zero_grad()
        losses[-1].backward()
        optimiser.step()
    assert losses[-1] < 0.3 * losses[0]


@KINDS
def test_every_parameter_gets_a_gradient(kind):
    model = mae(kind)
    model(digits(8), *model.draw(8, torch_generator(0)))["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@KINDS
def test_bfloat16_gives_about_the_same_loss(kind):
    model = mae(kind)
    pixels, (hidden,) = digits(8), model.draw(8, torch_generator(0))
    full = model(pixels, hidden)["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(pixels, hidden)["loss"]
        rebuilt = model.reconstruct(pixels, hidden)
    loss.backward()
    torch.testing.assert_close(loss, full, atol=0, rtol=0.02)
    assert rebuilt.dtype == torch.float32 and torch.isfinite(rebuilt).all()


@KINDS
def test_the_decoders_weights_are_a_function_of_the_seed(kind):
    torch.manual_seed(0)
    first, again = mae(kind), mae(kind)
    other = new_method("mae", new_encoder(TINY[kind]), seed=1)
    assert torch.equal(first.decoder.predict.weight, again.decoder.predict.weight)
    assert not torch.equal(first.decoder.predict.weight, other.decoder.predict.weight)


@KINDS
@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
def test_loss_is_the_mean_squared_error_of_the_reconstruction_at_hidden_pixels(kind, size):
    model = mae(kind, size, normalise_targets=False).eval()
    pixels, (hidden,) = digits(4, size), model.draw(4, torch_generator(0))
    rebuilt, hides = model.reconstruct(pixels, hidden), masks.to_pixels(hidden, model.encoder.unit)
    assert torch.equal(rebuilt[~hides], pixels[~hides])
    loss = model(pixels, hidden)["loss"]
    torch.testing.assert_close(loss, (rebuilt - pixels)[hides].square().mean(), atol=1e-6, rtol=1e-5)


@KINDS
def test_normalised_loss_is_that_of_standardised_squares(kind):
    model = mae(kind, normalise_targets=True).eval()
    pixels, (hidden,) = digits(4), model.draw(4, torch_generator(0))
    unit = model.encoder.unit
    hides = hidden.flatten(1)
    true, rebuilt = (masks.to_squares(x, unit)[hides] for x in (pixels, model.reconstruct(pixels, hidden)))
    deviation = (true.var(dim=1, keepdim=True) + 1e-6).sqrt()
    loss = model(pixels, hidden)["loss"]
    torch.testing.assert_close(loss, ((rebuilt - true) / deviation).square().mean(), atol=1e-4, rtol=1e-4)


@KINDS
def test_reconstruction_knows_nothing_of_hidden_pixels(kind):
    model = mae(kind, normalise_targets=False).eval()
    pixels, (hidden,) = digits(4), model.draw(4, torch_generator(0))
    hides = masks.to_pixels(hidden, model.encoder.unit)
    replaced = pixels.masked_fill(hides, torch.nan)
    assert torch.equal(model.reconstruct(pixels, hidden), model.reconstruct(replaced, hidden))


def test_normalised_reconstruction_takes_mean_and_contrast_from_the_hidden_squares():
    model = mae("vit", normalise_targets=True).eval()
    pixels, (hidden,) = digits(4), model.draw(4, torch_generator(0))
    pixels = pixels + 0.1 * torch.randn(pixels.shape, generator=torch_generator(1))  # no square without contrast
    hides = masks.to_pixels(hidden, model.encoder.unit)
    first = model.reconstruct(pixels, hidden)
    second = model.reconstruct(torch.where(hides, 3 * pixels + 5, pixels), hidden)
    torch.testing.assert_close(second[hides], 3 * first[hides] + 5, atol=1e-3, rtol=1e-3)


# Decoding a share of the hidden squares


def test_a_share_of_the_hidden_squares_is_drawn_and_scored():
    model = mae("vit", decode_share=0.25)
    hidden, scored = model.draw(4, torch_generator(0))
    assert hidden.flatten(1).sum(dim=1).tolist() == [48] * 4
    assert scored.flatten(1).sum(dim=1).tolist() == [12] * 4
    assert not (scored & ~hidden).any()
    assert len(mae("vit").draw(4, torch_generator(0))) == 1
    assert torch.equal(mae("vit").draw(4, torch_generator(0))[0], hidden)


def test_scoring_all_hidden_squares_is_the_full_loss():
    model = mae("vit")
    pixels, (hidden,) = digits(4), model.draw(4, torch_generator(0))
    assert torch.equal(model(pixels, hidden)["loss"], model(pixels, hidden, hidden)["loss"])


@pytest.mark.parametrize(("mixing", "tolerance"), [(False, 1e-5), (True, 0.1)])
def test_losses_of_shares_average_to_the_full_loss(mixing, tolerance):
    """Exactly where tokens do not mix. Mask tokens attend to each other, so a prediction may depend on which other
    places are asked for, but not on what is there."""
    model = mae("vit").eval()
    if not mixing:
        for block in model.decoder.blocks:
            torch.nn.init.zeros_(block.attn.proj.weight)
    pixels, (hidden,) = digits(8), model.draw(8, torch_generator(0))
    quarter = masks.indices(hidden)[1].view(8, 12, 4)  # four shares that have no square in common
    none = torch.zeros_like(hidden).flatten(1)
    shares = [none.scatter(1, quarter[:, :, i], True).view_as(hidden) for i in range(4)]
    losses = torch.stack([model(pixels, hidden, share)["loss"] for share in shares])
    torch.testing.assert_close(losses.mean(), model(pixels, hidden)["loss"], atol=0, rtol=tolerance)
    assert losses.std() > 0


# Settings


def test_settings_are_derived_from_the_encoder():
    large = resolve(EncoderSettings("vit"), (32, 32), 3)
    shown = {"mask": "uniform", "mask_block": 1}
    decoder = {"decoder_width": 96, "decoder_depth": 4, "decoder_heads": 3, "decode_share": 1.0}
    size = (32, 32)
    expected = MAEConfig(mask_ratio=0.75, **shown, normalise_targets=True, **decoder)
    assert resolve_method("mae", MAESettings(), large, size) == expected
    small = resolve(EncoderSettings("vit", width=64, depth=5), (32, 32), 3)
    decoder |= {"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 2}
    given = resolve_method("mae", MAESettings(mask_ratio=0.6), small, size)
    assert given == MAEConfig(mask_ratio=0.6, **shown, normalise_targets=True, **decoder)
    cnn = resolve(EncoderSettings("cnn"), size, 3)
    masked = resolve_method("mae", MAESettings(), cnn, size)
    assert masked == FCMAEConfig(mask_ratio=0.5, **shown, normalise_targets=False)
    assert resolve_method("fcmae", FCMAESettings(), cnn, size) == masked
    for encoder in (large, cnn):
        config = resolve_method("mae", MAESettings(), encoder, size)
        assert resolve_method("mae", config.asked(MAESettings), encoder, size) == config


def test_what_is_told_of_a_form_of_mae_has_the_names_of_its_flags():
    """Files and comparisons of older versions hold them, whatever the encoder."""
    size = (32, 32)
    cnn, vit = (resolve(TINY[kind], size, 1) for kind in ("cnn", "vit"))
    told = asdict(resolve_method("mae", MAESettings(), cnn, size).asked(MAESettings))
    masked = {"mask_ratio": 0.5, "mask": "uniform", "mask_block": 1, "normalise_targets": False}
    unused = dict.fromkeys(("decoder", "decoder_width", "decoder_depth", "decoder_heads"))
    assert told == masked | unused | {"decode_share": 1.0} and list(told) == [f.name for f in fields(MAESettings)]
    for decoder in ("self", "cross"):
        config = resolve_method("mae", MAESettings(decoder=decoder), vit, size)
        assert config.asked(MAESettings).decoder == decoder


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("vit", MAESettings(mask_ratio=1.0), "between 0 and 1"),
        ("cnn", MAESettings(mask_ratio=0.0), "between 0 and 1"),
        ("vit", MAESettings(decode_share=0.0), "decode_share"),
        ("vit", MAESettings(decoder_width=30), "multiple of 4"),
        ("vit", MAESettings(decoder_width=32, decoder_heads=3), "number of heads"),
        ("vit", MAESettings(decoder_depth=0), "positive"),
        ("vit", MAESettings(decoder_width=0), "positive"),
        ("cnn", MAESettings(decoder_width=32), "no decoder_width"),
        ("cnn", MAESettings(decode_share=0.5), "no decode_share"),
        ("cnn", MAESettings(decoder="cross"), "the CNN's decoder is linear"),
    ],
)
def test_settings_that_do_not_fit_are_refused(kind, config, message):
    with pytest.raises(WhymaskError, match=message):
        new_method("mae", new_encoder(TINY[kind]), **vars(config))


def test_the_method_has_its_config_beside_it():
    assert METHODS["mae"] is MAE
    assert MAE.Config is MAEConfig and MAE.Settings is MAESettings
    assert {name: method.Settings for name, method in METHODS.items()} == SETTINGS


def test_mae_is_a_method_of_its_own_by_encoder_and_decoder():
    assert type(mae("cnn")) is FCMAE and type(mae("vit")) is MAE and type(mae("vit", decoder="cross")) is CrossMAE
    with pytest.raises(WhymaskError, match="MAE does not fit encoder 'cnn'; it pretrains vit"):
        MAE(new_encoder(TINY["cnn"]))


@pytest.mark.parametrize(("kind", "name"), [("vit", "crossmae"), ("cnn", "fcmae")])
def test_a_form_of_mae_by_its_own_name_computes_the_same(kind, name):
    ours = mae(kind, **({"decoder": "cross", "decode_share": 0.5} if kind == "vit" else {}))
    other = new_method(name, new_encoder(TINY[kind]), **({"decode_share": 0.5} if kind == "vit" else {}))
    assert other.config == ours.config
    drawn = ours.draw(4, torch_generator(0))
    assert all(torch.equal(a, b) for a, b in zip(drawn, other.draw(4, torch_generator(0)), strict=True))
    assert torch.equal(ours(digits(4), *drawn)["loss"], other(digits(4), *drawn)["loss"])


@pytest.mark.parametrize(("kind", "method"), [("cnn", FCMAE), ("vit", MAE), ("vit", CrossMAE)])
def test_the_files_of_an_older_version_are_read(kind, method, tmp_path):
    """They name the method mae, and hold every setting of its flags, None where the encoder has no such thing."""
    decoder = {FCMAE: None, MAE: "self", CrossMAE: "cross"}[method]
    model = mae(kind, decoder=decoder, mask_ratio=0.6)
    save_method(model, "mae", tmp_path)
    sizes = dict.fromkeys(("decoder_width", "decoder_depth", "decoder_heads"))
    if kind == "vit":
        sizes = {"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 2}
    config = {"mask_ratio": 0.6, "mask": "uniform", "mask_block": 1, "normalise_targets": kind == "vit"}
    older = {"schema": 1, "method": "mae", "config": config | {"decoder": decoder} | sizes | {"decode_share": 1.0}}
    assert {key: value for key, value in read_json(tmp_path / "decoder.json").items() if key != "sha256"} == older
    (tmp_path / "decoder.json").write_text(json.dumps(older))
    loaded = load_method(tmp_path, new_encoder(TINY[kind]))
    assert type(loaded) is method and loaded.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(loaded.parameters(), model.parameters(), strict=True))
