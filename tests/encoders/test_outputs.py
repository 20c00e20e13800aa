"""Encoders as methods use them: the outputs of every layer, and a token in the place of what is hidden."""

import pytest
import timm
import torch
import torch.nn.functional as F

from formulas import SMALL, close, embedded, maps, photos, streams
from tiny import new_encoder
from whymask import masks
from whymask.encoders import Encoder
from whymask.randomness import torch_generator

KINDS = pytest.mark.parametrize("kind", list(SMALL))


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
