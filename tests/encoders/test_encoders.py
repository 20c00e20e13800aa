"""Encoders: what is hidden leaves no trace, masked convolution against loops, timm's own networks, files."""

import json
from dataclasses import asdict, fields

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tiny import new_encoder
from whymask import masks
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import EncoderSettings, load_encoder, load_strictly, resolve, save_encoder
from whymask.encoders.cnn import PlainCNNConfig
from whymask.encoders.masked import hiding, mask_layers
from whymask.encoders.plain_cnn import PlainCNN
from whymask.errors import WhymaskError
from whymask.linear import Linear
from whymask.randomness import torch_generator

TINY = {"cnn": EncoderSettings("cnn", width=4), "vit": EncoderSettings("vit", width=16, depth=2, heads=2)}
KINDS = pytest.mark.parametrize("kind", list(TINY))


def images(batch: int, channels: int, size: tuple[int, int], seed: int = 0) -> Tensor:
    return torch.randn(batch, channels, *size, generator=torch_generator(seed, "images"))


def prep(size: tuple[int, int], channels: int) -> Preprocessing:
    return Preprocessing(size, size, channels, mean=(0.4,) * channels, std=(0.2,) * channels)


# What is derived, and what is refused


@pytest.mark.parametrize(
    ("size", "patch", "unit", "last_grid"),
    [
        ((8, 8), 1, 1, (4, 4)),
        ((28, 28), 2, 4, (4, 4)),
        ((32, 32), 4, 4, (4, 4)),
        ((48, 32), 4, 4, (6, 4)),
        ((64, 64), 8, 4, (4, 4)),
        ((96, 96), 8, 8, (6, 6)),
        ((224, 224), 16, 16, (4, 4)),
    ],
)
def test_patch_mask_unit_and_depth_are_derived_from_the_size(size, patch, unit, last_grid):
    assert resolve(EncoderSettings("vit"), size, 3).patch == patch
    assert resolve(EncoderSettings("cnn"), size, 3).unit == unit
    cnn = new_encoder(TINY["cnn"], size, 1, seed=0)
    assert cnn(images(2, 1, size)).shape == (2, 16, *last_grid)


def test_auto_is_the_cnn_of_the_issue():
    encoder = new_encoder(EncoderSettings(), (32, 32), 1, seed=0)
    assert encoder.config == PlainCNNConfig("cnn", width=32, unit=4)
    assert encoder.timm_kwargs["widths"] == [32, 64, 128, 128]
    assert encoder.timm_kwargs["strides"] == [2, 2, 2, 1]
    assert encoder.grid == (8, 8) and encoder.dim == 128


@pytest.mark.parametrize(("width", "heads"), [(16, 1), (64, 2), (128, 4), (192, 3), (384, 6), (100, 2)])
def test_heads_are_derived_from_the_width_and_divide_it(width, heads):
    assert resolve(EncoderSettings("vit", width=width), (32, 32), 3).heads == heads


def test_what_a_config_asks_for_is_itself():
    for asked in TINY.values():
        config = resolve(asked, (32, 32), 3)
        assert None not in vars(config).values()
        assert resolve(config.asked(), (32, 32), 3) == config


@pytest.mark.parametrize(
    ("config", "size", "message"),
    [
        (EncoderSettings("vti"), (32, 32), "vit"),
        (EncoderSettings("resnet51"), (32, 32), "all: auto, cnn, vit"),
        (EncoderSettings("cnn", depth=3), (32, 32), "no setting 'depth'"),
        (EncoderSettings("auto", patch=4), (32, 32), "no setting 'patch'"),
        (EncoderSettings("vit", unit=4), (32, 32), "no setting 'unit'"),
        (EncoderSettings("vit", patch=5), (32, 32), "does not divide"),
        (EncoderSettings("cnn", unit=5), (32, 32), "does not divide"),
        (EncoderSettings("vit", patch=16), (8, 8), "larger image size"),
        (EncoderSettings("vit", patch=0), (8, 8), "between 1 and 8"),
        (EncoderSettings("vit", patch=8), (8, 8), "whole image"),
        (EncoderSettings("vit", width=30), (32, 32), "multiple of 4"),
        (EncoderSettings("vit", width=32, heads=3), (32, 32), "number of heads"),
        (EncoderSettings("vit", depth=0), (32, 32), "positive"),
        (EncoderSettings("cnn", width=0), (32, 32), "at least 1 channel"),
    ],
)
def test_settings_that_do_not_fit_are_refused(config, size, message):
    with pytest.raises(WhymaskError, match=message):
        resolve(config, size, 3)


@KINDS
def test_weights_are_a_function_of_the_seed_alone(kind):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first, other = (new_encoder(TINY[kind], (32, 32), 1, seed) for seed in (0, 1))
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    again = new_encoder(TINY[kind], (32, 32), 1, 0)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


# Masks


def run(kind: str, pixels: Tensor, hidden: Tensor | None, training: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """Features of a fresh encoder, and everything that training would change: gradients and buffers."""
    encoder = new_encoder(TINY[kind], tuple(pixels.shape[2:]), pixels.shape[1], seed=0).train(training)
    features = encoder(pixels, hidden)
    (features * torch.linspace(-1, 1, features[0].numel()).view(features.shape[1:])).sum().backward()
    left = {f"gradient of {n}": p.grad for n, p in encoder.named_parameters() if p.grad is not None}
    return features.detach(), left | dict(encoder.named_buffers())


@KINDS
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", [(32, 32), (20, 28)])
@pytest.mark.parametrize("junk", ["noise", "1e6", "nan"])
def test_hidden_pixels_leave_no_trace_not_even_in_the_last_bit(kind, training, size, junk):
    pixels = images(3, 2, size)
    hidden = masks.uniform(3, new_encoder(TINY[kind], size, 2, 0).grid, 0.5, torch_generator(0))
    fill = {"noise": images(3, 2, size, seed=1), "1e6": torch.tensor(1e6), "nan": torch.tensor(torch.nan)}[junk]
    unit = new_encoder(TINY[kind], size, 2, 0).unit
    replaced = torch.where(masks.to_pixels(hidden, unit), fill, pixels)

    features, left = run(kind, pixels, hidden, training)
    features_replaced, left_replaced = run(kind, replaced, hidden, training)
    assert torch.isfinite(features).all()
    assert torch.equal(features, features_replaced)
    for name, value in left.items():
        assert torch.equal(value, left_replaced[name]), name


@KINDS
def test_visible_pixels_do_matter(kind):
    """Lest the test above pass because nothing is seen at all."""
    pixels = images(1, 1, (32, 32))
    encoder = new_encoder(TINY[kind], (32, 32), 1, 0).eval()
    hidden = masks.uniform(1, encoder.grid, 0.5, torch_generator(0))
    for row, column in (~hidden[0]).nonzero().tolist():
        changed = pixels.clone()
        top, left = row * encoder.unit, column * encoder.unit
        changed[:, :, top : top + encoder.unit, left : left + encoder.unit] += 1
        assert not torch.equal(encoder(changed, hidden), encoder(pixels, hidden))


@KINDS
@pytest.mark.parametrize("training", [True, False])
def test_with_nothing_hidden_the_masked_form_is_the_dense_one(kind, training):
    pixels = images(3, 2, (20, 28))
    grid = new_encoder(TINY[kind], (20, 28), 2, 0).grid
    masked, left = run(kind, pixels, torch.zeros(3, *grid, dtype=torch.bool), training)
    dense, left_dense = run(kind, pixels, None, training)
    torch.testing.assert_close(masked, dense, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(left, left_dense, atol=1e-4, rtol=1e-4)


def test_vit_features_follow_the_order_of_the_visible_patches():
    encoder = new_encoder(TINY["vit"], (32, 32), 1, 0).eval()
    pixels = images(2, 1, (32, 32))
    hidden = torch.ones(2, *encoder.grid, dtype=torch.bool)
    hidden[:, 2, 3] = hidden[:, 5, 1] = False
    features = encoder(pixels, hidden)
    assert features.shape == (2, 3, 16)
    # One block's attention ignores order, so each visible patch alone gives its own embedding before the blocks.
    embedded = encoder.net._pos_embed(encoder.net.patch_embed(pixels))[:, [0, 1 + 2 * 8 + 3, 1 + 5 * 8 + 1]]
    torch.testing.assert_close(features, encoder.net.norm(encoder.net.blocks(embedded)), atol=1e-5, rtol=1e-4)


def layer_by_loops(x: np.ndarray, visible: np.ndarray, layer: nn.Module, training: bool) -> tuple[np.ndarray, ...]:
    """One masked layer, position by position: (features, visibility, mean, unbiased variance of visible positions)."""
    weight, norm, stride = layer.conv.weight.detach().numpy(), layer.norm, layer.conv.stride[0]
    batch, _, height, width = x.shape
    rows, columns = -(-height // stride), -(-width // stride)
    out, seen = np.zeros((batch, len(weight), rows, columns)), np.zeros((batch, rows, columns), bool)
    for b, r, c in np.ndindex(batch, rows, columns):
        seen[b, r, c] = visible[b, r * stride : (r + 1) * stride, c * stride : (c + 1) * stride].any()
        for i, j in np.ndindex(3, 3):
            y, z = r * stride + i - 1, c * stride + j - 1
            if 0 <= y < height and 0 <= z < width and visible[b, y, z]:
                out[b, :, r, c] += weight[:, :, i, j] @ x[b, :, y, z]
    values = out.transpose(0, 2, 3, 1)[seen]  # (n, C): visible positions only
    mean, variance = values.mean(axis=0), values.var(axis=0)
    if not training:
        mean, variance = norm.running_mean.numpy(), norm.running_var.numpy()
    scale, shift = norm.weight.detach().numpy(), norm.bias.detach().numpy()
    normal = (out.transpose(0, 2, 3, 1) - mean) / np.sqrt(variance + norm.eps) * scale + shift
    features = (np.maximum(normal, 0) * seen[..., None]).transpose(0, 3, 1, 2)
    return features, seen, values.mean(axis=0), values.var(axis=0, ddof=1)


def seen_by(net, pixels, visible):
    with hiding(net, visible), torch.no_grad():
        return net.forward_features(pixels * visible)


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (5, 6)])
@pytest.mark.parametrize("strides", [(2, 1), (1, 2, 2), (3, 2)])
def test_masked_convolution_equals_a_position_by_position_reference(size, strides):
    torch.manual_seed(0)
    net = PlainCNN(2, 0, widths=(3, 4, 5)[: len(strides)], strides=strides).double()
    mask_layers(net, "plain_cnn")
    for layer in net.layers:
        nn.init.normal_(layer.norm.weight)
        nn.init.normal_(layer.norm.bias)
    pixels = torch.randn(3, 2, *size, dtype=torch.double)
    visible = torch.rand(3, 1, *size) < 0.5

    expected, seen = pixels.numpy(), visible[:, 0].numpy()
    for layer in net.layers:
        expected, seen, mean, variance = layer_by_loops(expected, seen, layer, training=True)
        layer.expected_statistics = 0.1 * mean, 0.9 + 0.1 * variance
    np.testing.assert_allclose(seen_by(net.train(), pixels, visible), expected, atol=1e-10)
    for layer in net.layers:
        np.testing.assert_allclose(layer.norm.running_mean, layer.expected_statistics[0], atol=1e-10)
        np.testing.assert_allclose(layer.norm.running_var, layer.expected_statistics[1], atol=1e-10)

    expected, seen = pixels.numpy(), visible[:, 0].numpy()
    for layer in net.layers:
        expected, seen, *_ = layer_by_loops(expected, seen, layer, training=False)
    np.testing.assert_allclose(seen_by(net.eval(), pixels, visible), expected, atol=1e-10)


# Linear layers as convolutions


@pytest.mark.parametrize("shape", [(3, 5, 8), (16, 8), (7, 8), (1, 32, 8), (4, 2, 3, 8)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("faster", [True, False])
def test_linear_is_the_linear_layer_of_torch(shape, bias, faster, monkeypatch):
    monkeypatch.setattr("whymask.linear.convolution_is_faster", lambda: faster)
    ours, theirs = Linear(8, 6, bias=bias), nn.Linear(8, 6, bias=bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(shape)
    results = []
    for layer in (ours, theirs):
        given = x.clone().requires_grad_()
        with FlopCounterMode(display=False) as counter:
            result = layer(given)
            result.square().sum().backward()
        gradients = [parameter.grad for parameter in layer.parameters()]
        results.append([result, given.grad, *gradients, torch.tensor(counter.get_total_flops())])
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)


def test_a_vits_linear_layers_are_all_sped_up():
    net = new_encoder(TINY["vit"], (32, 32), 1, seed=0).net
    assert {type(layer) for layer in net.modules() if isinstance(layer, nn.Linear)} == {Linear}


# timm, layers and files


@KINDS
def test_timm_builds_the_same_network_and_takes_its_state_strictly(kind):
    encoder = new_encoder(TINY[kind], (20, 28), 2, seed=0).eval()
    other = timm.create_model(encoder.timm_name, **encoder.timm_kwargs).eval()
    other.load_state_dict(encoder.net.state_dict(), strict=True)
    pixels = images(2, 2, (20, 28))
    torch.testing.assert_close(other(pixels), encoder.pool(encoder(pixels)), atol=1e-6, rtol=1e-5)
    assert encoder.pool(encoder(pixels)).shape == (2, encoder.dim)
    other.reset_classifier(5)
    assert other(pixels).shape == (2, 5)


@KINDS
def test_layers_count_from_the_input_to_the_output(kind):
    encoder = new_encoder(TINY[kind], (32, 32), 1, seed=0)
    found = [encoder.layer_of(name) for name, _ in encoder.named_parameters()]
    assert sorted(set(found)) == list(range(encoder.layers + (kind == "vit")))  # a ViT's last norm stands with the head
    assert encoder.layer_of("net.patch_embed.proj.weight" if kind == "vit" else "net.layers.0.conv.weight") == 0
    assert found == sorted(found)


@KINDS
def test_a_saved_encoder_comes_back_whole(kind, tmp_path):
    encoder = new_encoder(TINY[kind], (20, 28), 2, seed=3)
    encoder(images(4, 2, (20, 28)))  # moves batch norm's statistics
    save_encoder(encoder, prep((20, 28), 2), tmp_path / "encoder", {"method": "mae"})
    raw = np.random.default_rng(0).integers(0, 256, (20, 28, 2), dtype=np.uint8)
    for path in (tmp_path, tmp_path / "encoder", str(tmp_path)):
        loaded = load_encoder(path)
        assert not loaded.training
        assert torch.equal(loaded.transform(raw), prep((20, 28), 2)(raw))
        pixels = loaded.transform(raw)[None]
        assert torch.equal(loaded(pixels), encoder.eval()(pixels))
    description = json.loads((tmp_path / "encoder" / "encoder.json").read_text())
    assert description["schema"] == 1 and description["method"] == "mae"
    other = timm.create_model(description["timm"]["name"], **description["timm"]["kwargs"])
    other.load_state_dict(encoder.net.state_dict(), strict=True)


OLDER = {
    "cnn": {"name": "cnn", "width": 4, "unit": 4},
    "vit": {"name": "vit", "width": 16, "depth": 2, "heads": 2, "patch": 2, "pool": "mean"},
}
"""What encoder.json holds of TINY at 20x28 pixels; the first version also held None for each setting of other kinds."""


@KINDS
def test_the_encoder_of_an_older_folder_comes_back(kind, tmp_path):
    encoder = new_encoder(TINY[kind], (20, 28), 2, seed=3).eval()
    save_encoder(encoder, prep((20, 28), 2), tmp_path)
    described = json.loads((tmp_path / "encoder.json").read_text())
    assert described["config"] == OLDER[kind]
    nothing = {field.name: None for field in fields(EncoderSettings)}
    assert asdict(encoder.config.asked()) == nothing | OLDER[kind]
    older = {key: value for key, value in described.items() if key not in ("checksum", "sha256")}
    (tmp_path / "encoder.json").write_text(json.dumps(older | {"config": nothing | OLDER[kind]}))
    loaded = load_encoder(tmp_path)
    assert loaded.config == encoder.config
    assert torch.equal(loaded(images(2, 2, (20, 28))), encoder(images(2, 2, (20, 28))))


def test_a_folder_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(WhymaskError, match="no encoder in"):
        load_encoder(tmp_path)
    with pytest.raises(WhymaskError, match="no encoder in"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder.json"])
def test_a_damaged_file_is_refused(name, tmp_path):
    save_encoder(new_encoder(TINY["cnn"], (32, 32), 1, seed=0), prep((32, 32), 1), tmp_path)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(WhymaskError, match=f"{name} is damaged"):
        load_encoder(tmp_path)


def test_weights_that_do_not_fit_are_named():
    net, other = nn.Linear(2, 3), nn.Linear(4, 3)
    whole = net.state_dict()
    with pytest.raises(WhymaskError, match=r"1 missing: bias"):
        load_strictly(net, {"weight": whole["weight"]}, "file")
    with pytest.raises(WhymaskError, match=r"1 unexpected: extra"):
        load_strictly(net, whole | {"extra": torch.zeros(1)}, "file")
    with pytest.raises(WhymaskError, match=r"weight \(3, 4\) instead of \(3, 2\)"):
        load_strictly(net, other.state_dict(), "file")


@pytest.mark.parametrize(
    "name", ["densenet121", "resnet18", "cnn", "vit", "vit_small_patch16_224", "swin_tiny_patch4_window7_224"]
)
def test_what_is_resolved_resolves_to_itself(name):
    """As a run's record is read again."""
    config = resolve(EncoderSettings(name), (224, 224), 3)
    assert resolve(config.asked(), (224, 224), 3) == config
