"""A kind of encoder is one file and its name in ENCODERS: an MLP-Mixer, written here, goes through everything."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.models import register_model
from timm.models.mlp_mixer import MlpMixer
from torch import Tensor, nn

from method_cases import new_method
from tiny import digits, new_encoder
from whymask.data.preprocessing import Preprocessing
from whymask.encoders import ENCODERS, Encoder, EncoderConfig, EncoderSettings, kinds, load_encoder, save_encoder
from whymask.encoders.base import Size, check_divides, square_side
from whymask.encoders.checkpoints import load_checkpoint
from whymask.errors import WhymaskError
from whymask.explanations.evidence import evidence, means_of
from whymask.explanations.networks import Member
from whymask.masks import to_pixels
from whymask.methods import METHODS, encoder_for
from whymask.methods.files import load_method, save_method
from whymask.randomness import torch_generator
from whymask.stages.classify import set_drop_path
from whymask.stages.network import Classifier

SIZE = (32, 32)
METHODS_OF_TOKENS = ("data2vec", "simmim", "maskfeat")


@register_model
def small_mixer(
    pretrained: bool = False,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: Any = None,
    cache_dir: Any = None,
    **kwargs: Any,
) -> MlpMixer:
    """timm's own names have fixed sizes."""
    return MlpMixer(**kwargs)


@dataclass(frozen=True)
class MixerConfig(EncoderConfig):
    """timm's MLP-Mixer (arXiv 2105.01601): tokens of all patches, mixed by layers that know their number."""

    kind = "mixer"
    patchwise = True

    width: int
    depth: int
    patch: int

    @classmethod
    def resolve(cls, asked: EncoderSettings, size: Size) -> "MixerConfig":
        patch = asked.patch or square_side(size)
        check_divides("patch", patch, size)
        return cls(asked.name, asked.width or 64, asked.depth or 4, patch)

    def build(self, size: Size, channels: int) -> "MixerEncoder":
        return MixerEncoder(self, size, channels)

    @property
    def square(self) -> int:
        return self.patch

    def layers(self, size: Size) -> list[tuple[int, int]]:
        return [(self.width, self.patch)] * self.depth

    @property
    def timm_name(self) -> str:
        return "small_mixer"

    def timm_kwargs(self, size: Size, channels: int) -> dict[str, Any]:
        sizes = {"embed_dim": self.width, "num_blocks": self.depth, "patch_size": self.patch}
        return {"img_size": list(size), "in_chans": channels, "num_classes": 0, **sizes}


class MixerEncoder(Encoder):
    def __init__(self, config: MixerConfig, size: Size, channels: int) -> None:
        super().__init__(config, size, channels)
        self.layers = config.depth + 1

    def forward(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> Tensor:
        return self.net.norm(self.outputs(images, hidden, token)[-1])

    def outputs(self, images: Tensor, hidden: Tensor | None = None, token: Tensor | None = None) -> list[Tensor]:
        if hidden is None or token is None:
            x = self.net.stem(images)
        else:
            embedded = self.net.stem(images.masked_fill(to_pixels(hidden, self.unit), 0))
            x = torch.where(hidden.flatten(1).unsqueeze(2), token.to(embedded.dtype), embedded)
        return [x := block(x) for block in self.net.blocks]

    def mask_token(self) -> nn.Parameter:
        return nn.Parameter(torch.randn(1, 1, self.dim) * 0.02)

    def rows(self, features: Tensor) -> Tensor:
        return features

    def rows_hidden(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(1)

    def features_by(self, point: nn.Module, images: Tensor) -> Tensor:
        tokens = self(images)
        return point(tokens.transpose(1, 2).unflatten(2, self.grid)).flatten(2).transpose(1, 2)

    def mean_over_positions(self, output: Tensor) -> Tensor:
        return output.mean(dim=1)

    def layer_of(self, name: str) -> int:
        parts = name.removeprefix("net.").split(".")
        return int(parts[1]) + 1 if parts[0] == "blocks" else self.layers if parts[0] == "norm" else 0


@pytest.fixture(autouse=True)
def mixer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name in the dict, and in the list of kinds that a method fits."""
    monkeypatch.setitem(ENCODERS, "mixer", MixerConfig)
    for name in METHODS_OF_TOKENS:
        monkeypatch.setattr(METHODS[name], "encoders", (*METHODS[name].encoders, "mixer"))


def small(seed: int = 0) -> Encoder:
    encoder = new_encoder(EncoderSettings("mixer", width=32, depth=2), SIZE, 1, seed)
    encoder.transform = Preprocessing(SIZE, SIZE, 1, mean=(0.5,), std=(0.2,))
    return encoder


def test_it_is_listed_and_its_settings_are_its_own() -> None:
    assert kinds() == ["cnn", "vit", "swin", "two-layer", "mixer", "own"]
    assert small().config == MixerConfig("mixer", width=32, depth=2, patch=4)
    with pytest.raises(WhymaskError, match=r"encoder 'mixer' has no setting 'heads' .* it has width, depth, patch;"):
        new_encoder(EncoderSettings("mixer", heads=2))
    with pytest.raises(WhymaskError, match="method 'spark' does not fit encoder 'mixer'; it pretrains cnn"):
        encoder_for("spark", EncoderSettings("mixer"))


@pytest.mark.parametrize("name", METHODS_OF_TOKENS)
def test_it_can_be_pretrained_and_the_method_comes_back(name: str, tmp_path: Path) -> None:
    model = new_method(name, small())
    (hidden,) = model.draw(4, torch_generator(0))
    loss = model(digits(4), hidden)["loss"]
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters() if p.requires_grad)
    unseen = digits(4).masked_fill(to_pixels(hidden, model.encoder.unit), torch.nan)
    seen = model.encoder(digits(4), hidden, model.mask_token)
    assert torch.equal(model.encoder(unseen, hidden, model.mask_token), seen)
    save_encoder(model.encoder, model.encoder.transform, tmp_path / "encoder")
    save_method(model, name, tmp_path)
    loaded = load_method(tmp_path)
    assert type(loaded.encoder) is MixerEncoder and loaded.config == model.config
    own = [key for key in model.state_dict() if not key.startswith("teacher.")]
    assert all(torch.equal(loaded.state_dict()[key], model.state_dict()[key]) for key in own)


def test_it_can_be_a_classifier_whose_evidence_is_found(tmp_path: Path) -> None:
    encoder = small()
    set_drop_path(encoder, 0.1)  # it has residual branches, and says so
    assert encoder.config.has_branches()
    network = Member("baseline", "scratch", 0, Classifier(encoder, 3).eval(), encoder.transform)
    images, labels = digits(4), torch.tensor([0, 1, 2, 0])
    assert means_of(network, images, labels) == "grad-cam"
    assert evidence(network, images, labels, (8, 8)).shape == (4, 8, 8)
    assert [encoder.mean_over_positions(x).shape for x in encoder.outputs(images)] == [(4, 32)] * 2


def test_it_is_saved_and_its_weights_are_taken_over(tmp_path: Path) -> None:
    encoder = small(seed=3).eval()
    save_encoder(encoder, encoder.transform, tmp_path)
    loaded = load_encoder(tmp_path)
    assert loaded.config == encoder.config and torch.equal(loaded(digits(2)), encoder(digits(2)))
    other = small(seed=4).eval()
    load_checkpoint(other, tmp_path)
    assert torch.equal(other(digits(2)), encoder(digits(2)))
    with pytest.raises(WhymaskError, match=r"another architecture|do not fit"):
        load_checkpoint(new_encoder(replace(EncoderSettings("mixer"), width=16, depth=2)), tmp_path)
