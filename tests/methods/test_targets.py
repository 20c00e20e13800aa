"""What methods are trained to predict, and how: equal to transformers, scikit-image, the theory lab, or the formula.

The references here are few lines long, and run timm's own modules one by one.
"""

import copy
from itertools import product
from typing import Any

import numpy as np
import pytest
import skimage.data
import timm
import torch
import torch.nn.functional as F
from skimage.feature import _hog, _hoghistogram
from torch import Tensor, nn

from method_cases import new_method
from tiny import new_encoder
from whymask import masks
from whymask.encoders import Encoder, EncoderSettings
from whymask.encoders.plain_cnn import ConvLayer
from whymask.methods.maskfeat import hog
from whymask.methods.teacher import compare
from whymask.randomness import torch_generator
from whymask.theory.data import Batch
from whymask.theory.network import Network
from whymask.theory.objectives import PixelReconstruction, TeacherStudent

SMALL = {
    "vit": EncoderSettings("vit", width=32, depth=3, heads=2, patch=4),
    "cnn": EncoderSettings("cnn", width=8),
    "two-layer": EncoderSettings("two-layer", width=16, patch=8),
}
KINDS = pytest.mark.parametrize("kind", list(SMALL))


def photos(count: int, channels: int = 1, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Cut out of a photo, (count, channels, *size), standardised."""
    camera = skimage.data.camera()
    corners = torch.randint(0, 512 - max(size), (count * channels, 2), generator=torch_generator("photos")).tolist()
    cuts = [camera[top : top + size[0], left : left + size[1]] for top, left in corners]
    images = torch.from_numpy(np.stack(cuts)).float()
    return ((images - images.mean()) / images.std()).view(count, channels, *size)


def method(
    name: str, kind: str, size: tuple[int, int] = (32, 32), channels: int = 1, config: Any = None, **settings: Any
) -> Any:
    """A method whose weights, the teacher's too, have all been moved at random: biases and norms start alike."""
    config = config or SMALL[kind]
    model = new_method(name, new_encoder(config, size, channels), **settings)
    generator = torch_generator("moved")
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def close(result: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(result, expected, atol=tolerance, rtol=tolerance)


def smooth_l1(errors: Tensor, beta: float) -> Tensor:
    size = errors.abs()
    assert (size < beta).any() and (size > beta).any()  # both branches are tried
    return torch.where(size < beta, size**2 / (2 * beta), size - beta / 2).mean()


def embedded(net: Any, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
    """A ViT's tokens, (B, 1 + N, D), by timm's own embedding; those of hidden patches replaced by `token`."""
    tokens = net.patch_embed(images)
    if hidden is not None:
        tokens = torch.where(hidden.flatten(1)[:, :, None], token, tokens)
    return net._pos_embed(tokens)


def streams(net: Any, tokens: Tensor) -> list[Tensor]:
    """The stream behind every block of a ViT."""
    found = []
    for block in net.blocks:
        tokens = tokens + block.attn(block.norm1(tokens))
        tokens = tokens + block.mlp(block.norm2(tokens))
        found.append(tokens)
    return found


def maps(net: Any, images: Tensor) -> list[Tensor]:
    """The output of every layer of a CNN, in train mode."""
    found = []
    for layer in net.layers:
        normal = F.batch_norm(layer.conv(images), None, None, layer.norm.weight, layer.norm.bias, training=True)
        found.append(images := normal.relu())
    return found


def layer_norm(x: Tensor) -> Tensor:
    return (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()


# SimMIM


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


# data2vec


@pytest.mark.parametrize("top", [1, 2, 3])
def test_data2vec_on_a_vit_is_its_formula(top: int) -> None:
    model, images = method("data2vec", "vit", top_layers=top, beta=0.5), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    teacher, student = model.teacher.encoder.net, model.encoder.net
    targets = torch.stack([layer_norm(x[:, 1:]) for x in streams(teacher, embedded(teacher, images))[-top:]]).mean(0)
    close(model.targets(images), targets)
    features = student.norm(streams(student, embedded(student, images, hidden, model.mask_token))[-1])[:, 1:]
    errors = (model.head(features) - targets)[hidden.flatten(1)]
    losses = model(images, hidden)
    close(losses["loss"], smooth_l1(errors, 0.5))
    assert losses.keys() == {"loss", "target_std", "prediction_std", "mean_loss"}


@pytest.mark.parametrize(("top", "beta"), [(1, 2.0), (2, 0.5)])
def test_data2vec_on_a_cnn_is_its_formula(top: int, beta: float) -> None:
    model = method("data2vec", "cnn", top_layers=top, beta=beta, mask="uniform", mask_block=1, mask_ratio=0.8)
    images = photos(6)
    (hidden,) = model.draw(6, torch_generator(0))
    last = [x.flatten(2).transpose(1, 2) for x in maps(model.teacher.encoder.net, images)[-top:]]  # (B, 4 * 4, D)
    targets = torch.stack([layer_norm(x) for x in last]).mean(0)
    close(model.targets(images), targets)
    pixels = masks.to_pixels(hidden, 4)
    shown = torch.where(pixels, model.mask_token.repeat(1, 1, 8, 8), images)
    features = maps(model.encoder.net, shown)[-1].flatten(2).transpose(1, 2)
    whole = hidden.view(6, 4, 2, 4, 2).all(dim=4).all(dim=2).flatten(1)  # positions are 2 x 2 squares
    assert 0 < whole.sum() < hidden.view(6, 4, 2, 4, 2).any(dim=4).any(dim=2).sum()
    close(model(images, hidden)["loss"], smooth_l1((model.head(features) - targets)[whole], beta))


def test_data2vec_averages_the_layers_of_a_cnn_that_are_alike() -> None:
    """Of strides 2, 2, 2, 1 and widths 8, 16, 32, 32 the last two; of 2, 1, 1, 1 the last two, by their width."""
    assert method("data2vec", "cnn").config.top_layers == 2
    assert method("data2vec", "cnn", (12, 12)).config.top_layers == 2


# data2vec 2.0


@pytest.mark.parametrize("norm", ["instance", "layer"])
@pytest.mark.parametrize("top", [1, 2])
def test_data2vec2s_targets_are_the_formula(norm: str, top: int) -> None:
    """Of the stream behind each block, as data2vec's; the paper's code, of post-norm blocks, has the MLP's output."""
    model, images = method("data2vec2", "vit", top_layers=top, target_norm=norm), photos(4)
    teacher = model.teacher.encoder.net
    outputs = [x[:, 1:] for x in streams(teacher, embedded(teacher, images))[-top:]]
    mean = [x.mean(dim=1, keepdim=True) for x in outputs]  # of each channel over the image's patches
    deviation = [(x.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt() for x in outputs]
    instance = [(x - m) / d for x, m, d in zip(outputs, mean, deviation, strict=True)]
    normalised = instance if norm == "instance" else [layer_norm(x) for x in outputs]
    close(model.targets(images), layer_norm(torch.stack(normalised).mean(0)), 1e-4)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_data2vec2s_loss_is_the_formula(weight: float) -> None:
    model, images = method("data2vec2", "vit", masks=3, class_weight=weight, mask_ratio=0.6), photos(4)
    hidden = model.draw(4, torch_generator(0))
    assert len(hidden) == 3 and not torch.equal(hidden[0], hidden[1])
    targets, net, decoder = model.targets(images), model.encoder.net, model.decoder
    torch.manual_seed(1)
    noises = (0.01 * torch.randn(12, 64, 32)).chunk(3)
    errors, class_errors = [], []
    for mask, noise in zip(hidden, noises, strict=True):
        visible = ~mask.flatten(1)
        tokens = embedded(net, images)
        shown = torch.stack([t[F.pad(v, (1, 0), value=True)] for t, v in zip(tokens, visible, strict=True)])
        features = net.norm(streams(net, shown)[-1])
        class_errors.append(features[:, 0] - targets.mean(dim=1))
        x = noise.masked_scatter(visible[:, :, None], features[:, 1:]).transpose(1, 2).reshape(4, 32, 8, 8)
        for layer in decoder.layers:
            x = x + F.gelu(layer_norm(layer(x).movedim(1, 3)).movedim(3, 1))
        errors.append((decoder.predict(x.flatten(2).transpose(1, 2)) - targets)[mask.flatten(1)])
    expected = torch.cat(errors).square().mean() + weight * torch.cat(class_errors).square().mean()
    torch.manual_seed(1)
    losses = model(images, *hidden)
    close(losses["loss"], expected)
    assert ("class_loss" in losses) == (weight > 0)


# I-JEPA


def in_blocks(model: Any, images: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The mask, the numbers of each target block's squares (B, n), and what is predicted there, block by block."""
    hidden, *targets = model.draw(len(images), torch_generator(0))
    net, predictor = model.encoder.net, model.predictor
    visible = F.pad(~hidden.flatten(1), (1, 0), value=True)
    tokens = torch.stack([t[v] for t, v in zip(embedded(net, images), visible, strict=True)])
    places = [torch.stack([mask.flatten().nonzero()[:, 0] for mask in target]) for target in targets]
    positions = predictor.positions.expand(len(images), -1, -1)
    seen = torch.stack([p[v] for p, v in zip(positions, visible, strict=True)])
    seen = predictor.embed(net.norm(streams(net, tokens)[-1])) + seen
    predictions = []
    for block in places:
        asked = predictor.mask_token + predictor.positions[block + 1]
        out = streams(predictor, torch.cat([seen, asked], dim=1))[-1]
        predictions.append(predictor.predict(predictor.norm(out))[:, -block.shape[1] :])
    return hidden, places, predictions


def test_ijepa_is_its_formula() -> None:
    model, images = method("ijepa", "vit", predictor_depth=2), photos(4)
    teacher = model.teacher.encoder.net
    features = teacher.norm(streams(teacher, embedded(teacher, images))[-1])[:, 1:]
    close(model.targets(images), layer_norm(features))
    hidden, places, predictions = in_blocks(model, images)
    errors = [predictions[t][i] - layer_norm(features)[i, block[i]] for t, block in enumerate(places) for i in range(4)]
    losses = model(images, *model.draw(4, torch_generator(0)))
    close(losses["loss"], smooth_l1(torch.cat(errors), 1.0))
    context = model.encoder(images, hidden)
    close(model.predictor(context, hidden, torch.cat(places), len(places)), torch.cat(predictions))


def test_ijepas_target_blocks_do_not_see_each_other() -> None:
    model, images = method("ijepa", "vit"), photos(4)
    hidden, *targets = model.draw(4, torch_generator(0))
    places = [masks.indices(target)[1] for target in targets]
    context = model.encoder(images, hidden)
    together = model.predictor(context, hidden, torch.cat(places), 4).chunk(4)
    for block, predictions in zip(places, together, strict=True):
        close(model.predictor(context, hidden, block, 1), predictions, 1e-6)
    assert (together[0] - together[1]).abs().max() > 0.01


# What a teacher's losses are compared with


def test_compare_is_its_formula_on_rows_that_are_spread_unevenly() -> None:
    generator = torch_generator("compare")
    predictions, targets = torch.randn(2, 23, 5, generator=generator)
    targets[4] += 3
    places = torch.tensor([7] + [0] * 9 + [3] * 2 + [5] * 11)[torch.randperm(23, generator=generator)]
    result = compare(predictions.requires_grad_(), targets, places, F.l1_loss)

    def centre(values: np.ndarray) -> np.ndarray:
        means = {place: values[places.numpy() == place].mean(axis=0) for place in places.tolist()}
        return np.stack([means[place] for place in places.tolist()])

    true, guess = targets.double().numpy(), predictions.detach().double().numpy()
    expected = {
        "loss": np.abs(guess - true).mean(),
        "target_std": np.sqrt(((true - centre(true)) ** 2).mean()),
        "prediction_std": np.sqrt(((guess - centre(guess)) ** 2).mean()),
        "mean_loss": np.abs(centre(true) - true).mean(),
    }
    assert result.keys() == expected.keys()
    for key, value in expected.items():
        assert abs(float(result[key].detach()) - value) < 1e-6, key
        assert result[key].requires_grad == (key == "loss")


def test_compare_tells_features_that_are_the_same_for_every_image() -> None:
    """They may differ between places all the same."""
    same = torch.randn(6, 4, generator=torch_generator(0)).repeat(8, 1)
    result = compare(same, same, torch.arange(6).repeat(8), F.mse_loss)
    assert result["target_std"] < 1e-6 and result["prediction_std"] < 1e-6 and result["mean_loss"] < 1e-10


# MaskFeat


@pytest.mark.parametrize("size", [(128, 128), (96, 160)])
@pytest.mark.parametrize(("bins", "cell"), [(9, 8), (9, 2), (9, 4), (6, 8), (18, 4), (3, 16), (5, 1)])
def test_histograms_of_gradients_equal_those_of_scikit_image(bins: int, cell: int, size: tuple[int, int]) -> None:
    """Without block norm. Cells at the border too: both take the gradient across the border to be 0. (With bins in
    multiples of 4, gradients along a diagonal lie between two bins, and rounding tells into which they fall.)"""
    image = skimage.data.camera()[100 : 100 + size[0], 150 : 150 + size[1]] / 255
    rows, columns = size[0] // cell, size[1] // cell
    expected = np.zeros((rows, columns, bins))
    down, right = _hog._hog_channel_gradient(image)
    _hoghistogram.hog_histograms(right, down, cell, cell, *size[::-1], columns, rows, bins, expected)
    result = hog(torch.from_numpy(image).float()[None, None], cell, bins)
    assert result.shape == (1, 1, bins, rows, columns) and expected.max() > 0.05
    np.testing.assert_allclose(result[0, 0].permute(1, 2, 0), expected, atol=1e-5)


def test_every_channel_and_image_has_its_own_histograms() -> None:
    images = photos(3, 2)
    apart = torch.stack([hog(image[None, None], 4)[0, 0] for image in images.flatten(0, 1)])
    assert torch.equal(hog(images, 4).flatten(0, 1), apart)


@pytest.mark.parametrize(("kind", "size"), [("vit", (32, 32)), ("cnn", (20, 28)), ("cnn", (36, 44))])
def test_maskfeats_targets_are_unit_vectors_for_each_cell_and_channel(kind: str, size: tuple[int, int]) -> None:
    model, images = method("maskfeat", kind, size, channels=2), photos(3, 2, size)
    images[0, :, :16, :16] = 5.0
    cells, stride = (model.encoder.stride // model.config.cell) ** 2, model.encoder.stride
    positions = -(-size[0] // stride) * -(-size[1] // stride)
    targets = model.targets(images)
    assert targets.shape == (3, positions, 2 * 9 * cells) and (targets >= 0).all()
    lengths = targets.view(3, positions, 2, 9, cells).norm(dim=3)
    close(lengths[lengths > 0], torch.ones(int((lengths > 0).sum())))
    assert (lengths[0, 0] == 0).any() and (lengths[1:] > 0).float().mean() > 0.9  # nothing but flat cells has none


def test_maskfeats_head_predicts_the_histograms_where_they_are() -> None:
    """A bright pixel in a cell of one patch and channel makes edges down and across there, and nowhere else."""
    model = method("maskfeat", "vit", (32, 48), 3, config=EncoderSettings("vit", width=16, depth=1, heads=2, patch=16))
    assert model.config.cell == 8
    nn.init.zeros_(model.head.weight)
    for patch, channel, row, column in product(range(6), range(3), range(2), range(2)):
        images = torch.zeros(1, 3, 32, 48)
        images[0, channel, patch // 3 * 16 + row * 8 + 3, patch % 3 * 16 + column * 8 + 4] = 1.0
        wanted = torch.zeros(3, 9, 2, 2)
        wanted[channel, [0, 4], row, column] = 0.5**0.5  # from 0 and from 80 degrees
        targets = model.targets(images)[0]
        close(targets[patch], wanted.flatten(), 1e-6)
        assert targets.any(dim=1).sum() == 1
        model.head.bias.data.copy_(wanted.flatten())
        hidden = torch.zeros(1, 6, dtype=torch.bool)
        hidden[0, patch] = True
        assert model(images, hidden.view(1, 2, 3))["loss"] < 1e-10
        assert model(images, hidden.roll(1).view(1, 2, 3))["loss"] > 1e-3


def test_maskfeats_loss_is_the_mean_squared_error_at_hidden_positions() -> None:
    model, images = method("maskfeat", "vit", channels=2), photos(4, 2)
    (hidden,) = model.draw(4, torch_generator(0))
    net = model.encoder.net
    features = net.norm(streams(net, embedded(net, images, hidden, model.mask_token))[-1])[:, 1:]
    errors = (model.head(features) - model.targets(images))[hidden.flatten(1)]
    close(model(images, hidden)["loss"], errors.square().mean())


# The two-layer network


def two_layer(objective: str, size: tuple[int, int] = (16, 16), **settings: Any) -> Any:
    """Kernels so large that their activations lie below 0, on the bend and above rho."""
    model = method("two-layer", "two-layer", size, 2, objective=objective, **settings)
    model.encoder.net.conv.weight.data *= 4 / 3
    z = model.encoder.net.conv(photos(4, 2, size))
    assert all(share > 0.1 for share in ((z < 0).float().mean(), (z > 0.5).float().mean()))
    return model


def in_the_lab(model: Any, images: Tensor) -> tuple[Network, Batch]:
    """The same network and images as the theory lab has them."""
    patches = F.unfold(images, 8, stride=8).transpose(1, 2)[None]
    labels = torch.zeros(1, len(images), dtype=torch.long)
    network = Network(model.encoder.net.conv.weight.detach().flatten(1)[None], sigma=model.encoder.net.sigma)
    if model.config.objective == "pixels":
        network = network.having(decoder=model.decoder.weight.detach()[None])
    return network, Batch(patches, labels, labels.bool())


def by_mask(model: Any, images: Tensor, hidden: Tensor) -> Tensor:
    """The loss of each image under its mask by the definition, from what the encoder makes of the masked image."""
    net, theta = model.encoder.net, 1 - model.config.mask_ratio
    codes = model.encoder.pool(model.encoder(images, hidden)) / theta
    if model.config.objective == "teacher":
        teacher = net.sigma(model.config.tau * net.conv(images)).sum(dim=(2, 3))
        return (teacher - codes).square().sum(dim=1) / 2
    squares = F.unfold(images, 8, stride=8).transpose(1, 2)
    errors = (squares - model.decoder(codes)[:, None]).square().mean(dim=2)
    expected_hidden = (1 - theta) * squares.shape[1]
    return (errors * hidden.flatten(1)).sum(dim=1) / expected_hidden


OBJECTIVES = pytest.mark.parametrize("objective", ["teacher", "pixels"])


@pytest.mark.parametrize(("ratio", "tau"), [(0.5, 2 ** (1 / 3)), (0.7, 1.5), (0.2, 1.0)])
def test_the_two_layer_teachers_loss_is_that_of_the_theory_lab(ratio: float, tau: float) -> None:
    model, images = two_layer("teacher", (24, 32), mask_ratio=ratio, tau=tau), photos(5, 2, (24, 32))
    losses = model(images)
    (loss,), gradients = TeacherStudent(1 - ratio, tau).gradients(*in_the_lab(model, images))
    close(losses["loss"], loss)
    losses["loss"].backward()
    close(model.encoder.net.conv.weight.grad.flatten(1), gradients["kernels"][0], 1e-4)
    assert 0 < losses["penalty"] <= losses["loss"]


@pytest.mark.parametrize("ratio", [0.5, 0.7])
def test_the_two_layer_pixel_loss_is_that_of_the_theory_lab_for_a_hidden_pixel(ratio: float) -> None:
    model, images = two_layer("pixels", (24, 32), mask_ratio=ratio), photos(5, 2, (24, 32))
    loss = model(images)["loss"]
    (whole,), gradients = PixelReconstruction(1 - ratio).gradients(*in_the_lab(model, images))
    factor = ratio / 2 * 2 * 24 * 32  # half the squared error, over the pixels that are hidden in the mean
    close(loss * factor, whole)
    (loss * factor).backward()
    close(model.encoder.net.conv.weight.grad.flatten(1), gradients["kernels"][0], 1e-3)
    close(model.decoder.weight.grad, gradients["decoder"][0], 1e-3)


@OBJECTIVES
def test_the_two_layer_loss_is_the_mean_over_all_masks(objective: str) -> None:
    model, images = two_layer(objective, mask_ratio=0.3), photos(3, 2, (16, 16))
    loss = torch.zeros(3)
    for hidden in product([False, True], repeat=4):
        weight = 0.3 ** sum(hidden) * 0.7 ** (4 - sum(hidden))
        loss += weight * by_mask(model, images, torch.tensor(hidden).view(1, 2, 2).expand(3, 2, 2))
    close(model(images)["loss"], loss.mean())


@OBJECTIVES
def test_the_two_layer_loss_is_the_mean_over_drawn_masks(objective: str) -> None:
    model, images = two_layer(objective, (24, 32), mask_ratio=0.6), photos(2, 2, (24, 32))
    hidden = torch.rand(6000, 3, 4, generator=torch_generator(0)) < 0.6
    with torch.no_grad():
        drawn = torch.stack([by_mask(model, x.expand(6000, -1, -1, -1), hidden) for x in images]).mean(dim=0)
    error = drawn.std() / 6000**0.5
    assert error < 0.02 * drawn.mean()
    assert (drawn.mean() - model(images)["loss"]).abs() < 4 * error


def steps(model: Any, optimiser: torch.optim.Optimizer, images: Tensor, first: int, last: int) -> None:
    for step in range(first, last):
        optimiser.zero_grad()
        model(images)["loss"].backward()
        optimiser.step()
        model.after_step(step, last)


def test_a_kernel_stops_where_sigma_turns_linear_and_stays_where_it_is() -> None:
    model, images = two_layer("teacher", tau=1.5), photos(6, 2, (16, 16))
    weight = model.encoder.net.conv.weight
    optimiser = torch.optim.AdamW([weight], lr=0.01, weight_decay=0.1)
    stopped_before = torch.zeros(16, dtype=torch.bool)
    for step in range(12):
        before = weight.detach().clone()
        reach = model.encoder.net.conv(images).amax(dim=(2, 3)).mean(dim=0)  # of the weights that the loss is of
        steps(model, optimiser, images, step, step + 1)
        assert torch.equal(model.stopped, stopped_before | (reach > 0.5))
        assert torch.equal(weight[stopped_before], before[stopped_before])
        assert (weight != before).flatten(1).any(dim=1)[~stopped_before].all()
        stopped_before = model.stopped.clone()
    assert 0 < stopped_before.sum() < 16
    close(model(images)["stopped"], stopped_before.float().mean())


def test_kernels_that_stopped_stay_so_after_resuming() -> None:
    images = photos(6, 2, (16, 16))

    def fresh() -> tuple[Any, torch.optim.Optimizer]:
        model = two_layer("teacher", tau=1.5)
        return model, torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)

    model, optimiser = fresh()
    steps(model, optimiser, images, 0, 6)
    again, its_optimiser = fresh()
    again.load_state_dict(model.state_dict())
    its_optimiser.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    stopped, kept = model.stopped.clone(), model.encoder.net.conv.weight.detach().clone()
    assert 0 < stopped.sum() < 16
    steps(model, optimiser, images, 6, 10)
    steps(again, its_optimiser, images, 6, 10)
    for key, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[key]), key
    assert torch.equal(again.encoder.net.conv.weight[stopped], kept[stopped])


def test_the_pixel_objective_stops_nothing() -> None:
    model, images = two_layer("pixels"), photos(4, 2, (16, 16))
    before = model.encoder.net.conv.weight.detach().clone()
    steps(model, torch.optim.AdamW(model.parameters(), lr=0.01), images, 0, 2)
    assert (model.encoder.net.conv.weight != before).flatten(1).any(dim=1).all()
    assert not [key for key in model.state_dict() if key not in ("encoder.net.conv.weight", "decoder.weight")]


# CrossMAE's decoder


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


# SparK


def batch_norm(x: Tensor, norm: nn.BatchNorm2d) -> Tensor:
    """In train mode; x (B, C, ...) or (n, C)."""
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)


def decoded(model: Any, outputs: list[Tensor], seen: list[Tensor], layers: list[int]) -> Tensor:
    """SparK's decoder, the lowest resolution first: fill holes, then double, cut and add."""
    x = None
    decoder = model.decoder
    for fill, layer, step in zip(decoder.fillings, layers, [None, *decoder.steps][: len(layers)], strict=True):
        visible = seen[layer][:, 0]
        filled = fill.mask_token.movedim(1, 3).expand(outputs[layer].movedim(1, 3).shape).clone()
        filled[visible] = batch_norm(outputs[layer].movedim(1, 3)[visible], fill.norm)
        filled = fill.project(filled.movedim(3, 1))
        x = filled if x is None else doubled(x, step)[:, :, : filled.shape[2], : filled.shape[3]] + filled
    for step in decoder.steps[len(layers) - 1 :]:
        x = doubled(x, step)
    return decoder.predict(x)[:, :, : model.encoder.size[0], : model.encoder.size[1]]


def doubled(x: Tensor, step: Any) -> Tensor:
    up, first, norm, _, second, last_norm = step.layers
    x = F.conv_transpose2d(x, up.weight, up.bias, stride=2, padding=1)
    x = batch_norm(F.conv2d(x, first.weight, padding=1), norm).clamp(0, 6)
    return batch_norm(F.conv2d(x, second.weight, padding=1), last_norm)


@pytest.mark.parametrize(
    ("size", "layers", "cell"),
    [((24, 24), [3, 0], 4), ((20, 28), [3, 0], 4), ((32, 32), [3, 1, 0], 8), ((28, 36), [3, 1, 0], 4),
     ((31, 47), [3, 1, 0], 1), ((12, 16), [3], 2)],
)  # fmt: skip
def test_spark_is_its_formula(size: tuple[int, int], layers: list[int], cell: int) -> None:
    """Images of 28 x 36 and 31 x 47 have maps of odd sizes; where positions do not divide the grid, or are no larger
    than squares, a square is a cell."""
    model, images = method("spark", "cnn", size, 2), photos(4, 2, size)
    (hidden,) = model.draw(4, torch_generator(0))
    visible, seen = ~masks.to_pixels(hidden, model.encoder.unit), []
    for stride in model.encoder.strides:
        whole = F.pad(visible.float(), (0, visible.shape[3] % stride, 0, visible.shape[2] % stride))
        seen.append(visible := F.max_pool2d(whole, stride) > 0)
    x, outputs = images.masked_fill(masks.to_pixels(hidden, model.encoder.unit), 0), []
    for layer, where in zip(model.encoder.net.layers, seen, strict=True):
        assert isinstance(layer, ConvLayer)
        x = layer.conv(x).movedim(1, 3)
        filled = torch.zeros_like(x)
        filled[where[:, 0]] = batch_norm(x[where[:, 0]], layer.norm).relu()
        outputs.append(x := filled.movedim(3, 1))
    expected = decoded(model, outputs, seen, layers)
    close(model.predict(images, hidden), expected, 1e-4)
    errors = []
    for i, row, column in product(range(4), range(size[0] // cell), range(size[1] // cell)):
        top, left = row * cell, column * cell
        if hidden[i, top // model.encoder.unit, left // model.encoder.unit]:
            where = (i, slice(None), slice(top, top + cell), slice(left, left + cell))
            true = images[where]
            errors.append(expected[where] - (true - true.mean()) / (true.var() + 1e-6).sqrt())
    close(model(images, hidden)["loss"], torch.stack(errors).square().mean(), 1e-4)


def test_spark_can_predict_pixels_as_they_are() -> None:
    model, images = method("spark", "cnn", normalise_targets=False), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    pixels = masks.to_pixels(hidden, 4)
    predicted = model.predict(images, hidden)
    close(model(images, hidden)["loss"], (predicted - images)[pixels].square().mean())
    close(model.reconstruct(images, hidden), torch.where(pixels, predicted, images))


def test_sparks_reconstruction_has_each_cells_mean_and_contrast() -> None:
    model, images = method("spark", "cnn"), photos(4)
    (hidden,) = model.draw(4, torch_generator(0))
    cells, rebuilt, predicted = (
        masks.to_squares(x, 8) for x in (images, model.reconstruct(images, hidden), model.predict(images, hidden))
    )
    hides = hidden[:, ::2, ::2].flatten(1)
    deviation, mean = torch.var_mean(cells, dim=2, keepdim=True)
    close(rebuilt[hides], (predicted * (deviation + 1e-6).sqrt() + mean)[hides])
    assert torch.equal(rebuilt[~hides], cells[~hides])


# Encoders as methods use them


def encoder_of(kind: str, size: tuple[int, int] = (32, 32), channels: int = 2) -> Encoder:
    encoder = new_encoder(SMALL[kind], size, channels, seed=0)
    for parameter in encoder.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=torch_generator("moved", parameter.ndim))
    return encoder


@KINDS
@pytest.mark.parametrize("given", ["nothing", "hidden", "token"])
@pytest.mark.parametrize("training", [True, False])
def test_an_encoders_last_output_is_its_result(kind: str, given: str, training: bool) -> None:
    encoder, images = encoder_of(kind).train(training), photos(4, 2)
    hidden = None if given == "nothing" else masks.uniform(4, encoder.grid, 0.5, torch_generator(0))
    token = encoder.mask_token() if given == "token" else None
    outputs = encoder.outputs(images, hidden, token)
    last = encoder.net.norm(outputs[-1]) if kind == "vit" else outputs[-1]
    close(encoder(images, hidden, token), last)
    assert len(outputs) == {"vit": 3, "cnn": 4, "two-layer": 1}[kind]
    assert token is None or encoder.rows(last).shape == encoder.rows(encoder(images)).shape


@KINDS
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_a_token_that_hides_nothing_changes_nothing(kind: str, size: tuple[int, int]) -> None:
    encoder, images = encoder_of(kind, size), photos(4, 2, size)
    hidden = torch.zeros(4, *encoder.grid, dtype=torch.bool)
    dense, masked = encoder.outputs(images), encoder.outputs(images, hidden, encoder.mask_token())
    assert all(torch.equal(a, b) for a, b in zip(dense, masked, strict=True))
    close(encoder(images, hidden, encoder.mask_token()), encoder(images))
    assert not encoder.rows_hidden(hidden).any() and encoder.rows_hidden(~hidden).all()


@KINDS
def test_an_encoders_outputs_are_those_of_timms_modules(kind: str) -> None:
    encoder, images = encoder_of(kind), photos(4, 2)
    net = encoder.net
    if kind == "two-layer":
        patches = F.unfold(images, 8, stride=8)
        expected = [net.sigma(net.conv.weight.flatten(1) @ patches).view(4, 16, 4, 4)]
    else:
        expected = streams(net, embedded(net, images)) if kind == "vit" else maps(net, images)
    for result, reference in zip(encoder.outputs(images), expected, strict=True):
        close(result, reference)
    rows = expected[-1][:, 1:] if kind == "vit" else expected[-1].flatten(2).transpose(1, 2)
    assert torch.equal(encoder.rows(expected[-1]), rows)


@KINDS
def test_timm_builds_the_network_with_a_classifier_of_its_own(kind: str) -> None:
    encoder, images = encoder_of(kind).eval(), photos(4, 2)
    net = timm.create_model(encoder.timm_name, **encoder.timm_kwargs)
    net.load_state_dict(encoder.net.state_dict(), strict=True)
    close(net.eval()(images), encoder.pool(encoder(images)))
    classifier = timm.create_model(encoder.timm_name, **{**encoder.timm_kwargs, "num_classes": 5}).eval()
    missing = classifier.load_state_dict(encoder.net.state_dict(), strict=False)
    assert set(missing.missing_keys) == {"head.weight", "head.bias"} and not missing.unexpected_keys
    close(classifier(images), classifier.get_classifier()(encoder.pool(encoder(images))))
    assert classifier.num_classes == 5 and classifier.num_features == encoder.dim
    classifier.reset_classifier(0)
    close(classifier(images), encoder.pool(encoder(images)))


@pytest.mark.parametrize("kind", ["cnn", "two-layer"])
def test_our_networks_have_no_public_weights_and_one_pooling(kind: str) -> None:
    encoder = encoder_of(kind)
    with pytest.raises(ValueError, match="no public weights"):
        timm.create_model(encoder.timm_name, pretrained=True)
    with pytest.raises(ValueError, match="only"):
        encoder.net.reset_classifier(2, global_pool="max")
