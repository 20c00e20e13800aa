"""One's own networks and augmentations: pretrained, fine-tuned, found again by their names."""

import random
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tiny import runtime
from whymask import WhymaskError, export, finetune, load_encoder, pretrain, study
from whymask.data.batches import Batches
from whymask.data.own_augment import OwnAugment
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, build_encoder, resolve
from whymask.encoders.catalogue import support_of
from whymask.exports.network import gather
from whymask.functions import sources
from whymask.studies.cluster import check_cluster
from whymask.studies.settings import ClusterSettings, StudySettings

IMAGES = np.random.default_rng(0).integers(256, size=(60, 16, 16, 3), dtype=np.uint8)
LABELS = np.arange(60) % 2
SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 16, "runtime": asdict(runtime())}


class Maps(nn.Module):
    num_features = 8

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_chans, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Shifted(Maps):
    """What it does behind its layers fills hidden positions."""

    def forward_features(self, x: Tensor) -> Tensor:
        return self.layers(x) + 1


class Tokens(nn.Module):
    num_features = 12

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 4, 4)
        self.attend = nn.MultiheadAttention(12, 2, batch_first=True)

    def forward_features(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).mT
        return tokens + self.attend(tokens, tokens, tokens)[0]


class WithClassToken(Tokens):
    def forward_features(self, x: Tensor) -> Tensor:
        tokens = super().forward_features(x)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], 1)


class Pairs(Tokens):
    """Which patches a token is of cannot be told by how many there are."""

    def forward_features(self, x: Tensor) -> Tensor:
        return super().forward_features(x)[:, :-3]


class Weightless(nn.Module):
    num_features = 3

    def forward_features(self, x: Tensor) -> Tensor:
        return x


class Drawn(Maps):
    """Its first weights come from NumPy and Python."""

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__(in_chans)
        with torch.no_grad():
            self.layers[0].weight.fill_(random.random())
            self.layers[0].weight[0, 0].fill_(np.random.random())  # noqa: NPY002


class NoWidth(Maps):
    num_features = None  # type: ignore[assignment]


class Asking(Maps):
    def __init__(self, width: int) -> None:
        super().__init__()


class OtherWidth(Maps):
    num_features = 9


def changed(image: Tensor) -> Tensor:
    return image.roll(int(torch.randint(16, ())), 1) if np.random.random() < 0.5 else image  # noqa: NPY002


def halved(image: Tensor) -> Tensor:
    return image[:, ::2, ::2]


def no_module() -> dict[str, int]:
    return {}


HERE = __name__


def config(network: type, size: int = 16) -> Any:
    return resolve(EncoderSettings(f"{HERE}:{network.__name__}"), (size, size), 3)


@pytest.mark.parametrize(("network", "tokens"), [(Tokens, 32), (WithClassToken, 33)])
@pytest.mark.parametrize("size", [(16, 32), (32, 16)])
def test_tokens_lie_as_their_patches_do_on_images_of_any_shape(
    network: type, tokens: int, size: tuple[int, int]
) -> None:
    resolved = resolve(EncoderSettings(f"{HERE}:{network.__name__}"), size, 3)
    encoder = build_encoder(resolved, size, 3, seed=0).eval()
    assert encoder.config.layers(size) == [(12, 4)]  # pixels a position
    features = encoder(torch.rand(1, 3, *size))
    assert features.shape[1] == tokens and encoder.rows(features).shape[1] == 32
    hidden = torch.zeros(1, size[0] // encoder.unit, size[1] // encoder.unit, dtype=torch.bool)
    hidden[0, 0, -1] = True
    place = size[1] // 4 - 1  # of the last patch of the first row
    assert encoder.rows_hidden(hidden).nonzero().tolist() == [[0, place]]


def test_tokens_that_no_patches_make_are_not_shown_a_part() -> None:
    encoder = build_encoder(config(Pairs), (16, 16), 3, seed=0)
    hidden = torch.ones(1, 16 // encoder.unit, 16 // encoder.unit, dtype=torch.bool)
    with pytest.raises(WhymaskError, match="13 tokens of images of 16x16 pixels"):
        encoder(torch.rand(1, 3, 16, 16), hidden, torch.zeros(3, 1, 1))


@pytest.mark.parametrize(("network", "kind"), [(Maps, "cnn"), (Shifted, "own"), (Tokens, "own")])
def test_a_network_is_shown_a_part_where_its_layers_and_its_code_allow_it(network: type, kind: str) -> None:
    encoder = build_encoder(config(network), (16, 16), 3, seed=0).eval()
    assert encoder.kind == kind and encoder.dim == network.num_features  # type: ignore[attr-defined]
    images, hidden = torch.randn(2, 3, 16, 16), torch.zeros(2, *encoder.grid, dtype=torch.bool)
    hidden[:, 0] = True
    pixels = hidden.repeat_interleave(encoder.unit, 1).repeat_interleave(encoder.unit, 2)[:, None]
    other = torch.where(pixels, torch.full_like(images, torch.nan), images)
    if kind == "cnn":
        assert torch.equal(encoder(images, hidden), encoder(other, hidden))
    token = encoder.mask_token()
    assert torch.equal(encoder(images, hidden, token), encoder(other, hidden, token))
    assert encoder.rows(encoder(images)).shape == (2, encoder.rows_hidden(hidden).shape[1], encoder.dim)
    assert encoder.rows_hidden(hidden).any() and not encoder.rows_hidden(hidden).all()
    assert encoder.pool(encoder(images)).shape == (2, encoder.dim)


@pytest.mark.parametrize("network", [Maps, Drawn])
def test_first_weights_are_a_function_of_the_seed_and_nothing_else_is_drawn(network: type) -> None:
    made = config(network)
    before = torch.random.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, again, other = (build_encoder(made, (16, 16), 3, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    weight = "net.own.layers.0.weight"
    assert not torch.equal(first[weight][0, 0], other[weight][0, 0])
    assert not torch.equal(first[weight][1], other[weight][1])
    config(network, 32)
    assert torch.equal(torch.random.get_rng_state(), before[0]) and random.getstate() == before[1]
    assert np.random.get_state()[1].tolist() == before[2]  # noqa: NPY002


def test_a_network_of_other_channels_is_told_before_it_is_built() -> None:
    with pytest.raises(WhymaskError, match=r"16x16 pixels and 1 channels .* let it take in_chans"):
        resolve(EncoderSettings(f"{HERE}:Tokens"), (16, 16), 1)
    assert build_encoder(resolve(EncoderSettings(f"{HERE}:Maps"), (16, 16), 1), (16, 16), 1, 0).channels == 1


@pytest.mark.parametrize(("network", "reason"), [(Maps, ""), (Tokens, "layer attend"), (Shifted, "mixes")])
def test_it_is_listed(network: type, reason: str) -> None:
    found = support_of(f"{HERE}:{network.__name__}")
    assert set(found.starts) == {"scratch", "init", "frozen", "pretrain", "continue"} and reason in found.reason


BLOCKS = """
SCALE = 2

class Block:
    def __init__(self):
        self.width = 4

class Base:
    def run(self):  # a comment
        return [SCALE * each for each in range(3)]

class Own(Base):
    def __init__(self):
        self.block = Block()

    def __call__(self, image):
        return image

class Beside:
    pass

made = Own()
"""
NUMBERS = count()


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("# a comment", "", False),
        ("    pass", "    x = 1", False),
        ("SCALE = 2", "SCALE = 3", True),
        ("width = 4", "width = 5", True),
        ("range(3)", "range(4)", True),
        ("self.block = Block()", "self.block = None", True),
    ],
)
def test_code_that_became_another_is_told_by_what_it_is_made_of(
    old: str, new: str, is_other: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for text in (BLOCKS, BLOCKS.replace(old, new)):
        module = f"blocks_{next(NUMBERS)}"  # Python keeps what it has imported by its name
        (tmp_path / f"{module}.py").write_text(text)
        found += sources(f"{module}:Own", None, "crop").values()
        assert not sources(f"{module}:made") and not sources("builtins:len")
    assert (found[0] != found[1]) == is_other


def test_edited_code_does_not_continue_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {"encoder": Maps, "method": "mae", "augment": changed, "out": tmp_path / "run"}
    pretrain(IMAGES, **asked, **SMALL)
    monkeypatch.setattr("whymask.functions._digest", lambda thing: "edited")
    with pytest.raises(WhymaskError, match=f"source of {HERE}:Maps: '[0-9a-f]{{16}}' there, 'edited' now"):
        pretrain(IMAGES, **asked, **SMALL)
    said: list[str] = []
    monkeypatch.setattr("whymask.encoders.files.say", said.append)
    load_encoder(tmp_path / "run")
    assert "is not what it was" in said[0]


def test_ray_is_refused_where_its_processes_cannot_find_the_network() -> None:
    settings = StudySettings(encoder=EncoderSettings("__main__:Maps"), cluster=ClusterSettings(ray="auto"))
    with pytest.raises(WhymaskError, match="put it into a module"):
        check_cluster(settings, None)


@pytest.mark.parametrize(
    ("network", "method"),
    [(Maps, "mae"), (Maps, "spark"), (Tokens, "simmim"), (Tokens, "data2vec"), (Shifted, "maskfeat")],
)
def test_it_is_pretrained_kept_and_found_again(network: type, method: str, tmp_path: Path) -> None:
    result = pretrain(IMAGES, encoder=network, method=method, augment=changed, out=tmp_path / "run", **SMALL)
    assert np.isfinite(result["loss"])
    record = read_json(tmp_path / "run" / "config.json")["config"]
    assert record["encoder"]["name"] == f"{HERE}:{network.__name__}" and record["augment"] == f"{HERE}:changed"
    encoder = load_encoder(tmp_path / "run")
    assert encoder.pool(encoder(encoder.transform(IMAGES[0])[None])).shape == (1, network.num_features)  # type: ignore[attr-defined]
    with pytest.raises(WhymaskError, match="augment"):
        pretrain(IMAGES, encoder=network, method=method, out=tmp_path / "run", **SMALL)


def test_it_is_an_arm_of_a_study_whose_arms_begin_alike(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        (folder / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"class {label}" / f"{i}.png")
    short = {"pretrain": {"epochs": 1}, "finetune": {"epochs": 1}, "runtime": SMALL["runtime"], "explain": False}
    found = study(str(folder), encoder=Tokens, method="simmim", seeds=2, budgets=("2",), out=tmp_path / "s", **short)
    assert {row["arm"] for row in found["levels"]} == {"scratch", "simmim", "scratch-long"}
    ours = finetune(str(folder), encoder=Tokens, out=tmp_path / "f", **SMALL)
    assert 0 <= ours["metrics"]["accuracy"] <= 1
    classifier = gather(tmp_path / "f", None, names=True)  # as onnx gets it
    classifier.check("own", classifier.sample(), classifier.network()(classifier.sample()))
    with pytest.raises(WhymaskError, match="use --to onnx"):
        export(tmp_path / "f", "timm")


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (Maps(), "an object was given, a Maps; give its class"),
        (NoWidth, "num_features None"),
        (Asking, "cannot be called without width"),
        (OtherWidth, "D = 9"),
        (Weightless, "without weights; there is nothing to train"),
        (f"{HERE}:Nobody", "has no attribute 'Nobody'"),
        ("nowhere:Nobody", "No module named 'nowhere'"),
        ("__main__:Nobody", "put it into a module"),
        (f"{HERE}:LABELS", "no function or class"),
        (f"{HERE}:halved", "cannot be called without image"),
        (f"{HERE}:no_module", "an nn.Module with forward_features"),
        (Tokens, "can be shown mask tokens alone"),
    ],
    ids=str,
)
def test_what_is_no_network_is_told(network: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "dict", dict)
    with pytest.raises(WhymaskError, match=told.replace("(", r"\(")):
        pretrain(IMAGES, encoder=network, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        ("crip", "expected auto, none, crop, crop-flip, or MODULE:FUNCTION"),
        (f"{HERE}:nothing", "has no attribute"),
        (halved, "made torch.uint8 of \\(3, 8, 8\\)"),
        (lambda image: image, "define it by a name of a module"),
    ],
    ids=["name", "missing", "size", "lambda"],
)
def test_what_is_no_augmentation_is_told(augment: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(WhymaskError, match=told):
        pretrain(IMAGES, augment=augment, encoder={"width": 4}, out=tmp_path / "run", **SMALL)


def test_an_augmentation_draws_by_seed_step_and_place_however_the_batch_is_divided() -> None:
    images = prepare(IMAGES, DataSettings()).images
    own = OwnAugment("changed", changed)

    def batch(step: int, seed: int = 0, **divided: int) -> Tensor:
        rows = np.arange(60)
        return Batches(images, rows, batch_size=16, seed=seed, augment=own, **divided)(step).images

    whole = batch(3)
    assert torch.equal(whole, batch(3)) and not torch.equal(whole, batch(4)) and not torch.equal(whole, batch(3, 1))
    assert torch.equal(whole, torch.cat([batch(3, rank=rank, world=2) for rank in (0, 1)]))
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()  # noqa: NPY002
    batch(0)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
