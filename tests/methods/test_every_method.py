"""What must hold for every method on every encoder that it fits (`method_cases.CASES`).

tests/methods/golden/<case>.json holds the losses of 50 steps. After a change that is meant to alter them, run
``PYTHONPATH=tests python tests/methods/test_every_method.py`` (all cases), or with the names of some behind it, such as
``spark-cnn mae-vit``, and commit the files with the change.
"""

import copy
import json
import math
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from children import exit_code_of, signal_itself
from method_cases import CASES, SMALL, WITH_TEACHER, Case, build, losses_of
from tiny import DEVICE, digits, new_encoder, runtime
from whymask.data.batches import Batches
from whymask.data.glyph_settings import Glyphs
from whymask.data.glyphs import generate
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, load_encoder, resolve
from whymask.errors import WhymaskError
from whymask.masks import to_pixels, uniform
from whymask.methods import METHODS, Method, encoder_for, method_of, resolve_method
from whymask.methods.teacher import collapse
from whymask.randomness import torch_generator
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, masks_of, pretrain_encoder
from whymask.training.device import make_fabric
from whymask.training.optimisation import TrainingConfig, make_optimiser, rate_at

GOLDEN = Path(__file__).with_name("golden")
STEPS = 50

EVERY = pytest.mark.parametrize("name", list(CASES))
MASKED = pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.method != "two-layer"])


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def glyphs(drawn: Glyphs = Glyphs()) -> Tensor:  # noqa: B008
    """1024 images (1024, 1, 32, 32), standardised."""
    images = torch.from_numpy(generate(drawn, 1024, "unlabelled")[0])[:, None]
    return (images - images.mean()) / images.std()


def train(model: Method, images: Tensor, batch: int, rate: float = 1e-3, steps: int = STEPS) -> list[dict[str, float]]:
    """The first `steps` of STEPS as the training loop takes them, with its optimiser and schedule; what each logs."""
    training = TrainingConfig(epochs=1, batch_size=batch, learning_rate=rate, beta2=0.95)
    optimiser = make_optimiser(model, training)
    logged = []
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, STEPS, training) * group["scale"]
        losses = losses_of(model, images[torch.arange(step * batch, (step + 1) * batch) % len(images)], step)
        optimiser.zero_grad()
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(model.parameters(), training.clip)
        optimiser.step()
        model.after_step(step, STEPS)
        logged.append({key: float(value.detach()) for key, value in losses.items()})
    return logged


# Loss and gradients


@EVERY
def test_losses_are_finite_and_every_trained_parameter_gets_a_gradient(name: str) -> None:
    model = build(name)
    losses = losses_of(model, digits(8))
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    losses["loss"].backward()
    for key, parameter in model.named_parameters():
        if key.startswith("teacher."):
            assert not parameter.requires_grad and parameter.grad is None, key
        else:
            assert parameter.grad is not None and parameter.grad.abs().max() > 0, key


@EVERY
def test_the_loss_is_a_function_of_the_seed(name: str) -> None:
    first, again, other = (losses_of(build(name, seed=seed), digits(8)) for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert first["loss"] != other["loss"]


@EVERY
@pytest.mark.parametrize(("size", "channels"), [((20, 28), 3), ((20, 28), 5), ((36, 44), 1)])
def test_other_sizes_and_channels_work(name: str, size: tuple[int, int], channels: int) -> None:
    if CASES[name].encoder == "swin":  # whose positions are of 16 pixels
        size = (2 * size[0], 2 * size[1])
    images = torch.randn(4, channels, *size, generator=torch_generator(0))
    model = build(name, size, channels)
    losses = losses_of(model, images)
    losses["loss"].backward()
    assert all(torch.isfinite(value) for value in losses.values())
    for hidden in model.draw(4, torch_generator(1))[:1]:
        rebuilt = model.eval().reconstruct(images, hidden)
        assert rebuilt is None or (rebuilt.shape == images.shape and torch.isfinite(rebuilt).all())


@EVERY
def test_bfloat16_gives_about_the_same_loss(name: str) -> None:
    model = build(name)
    full = losses_of(model, digits(8))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses_of(model, digits(8))["loss"]
    loss.backward()
    torch.testing.assert_close(loss, full, atol=0, rtol=0.02)


@EVERY
@pytest.mark.parametrize("size", [(32, 32), (20, 28), (8, 16), (224, 224)])
def test_what_a_config_asks_for_is_itself(name: str, size: tuple[int, int]) -> None:
    case = CASES[name]
    small = EncoderSettings(**{**vars(SMALL[case.encoder]), "patch": None})
    encoder = resolve(small, size, 1)
    settings = METHODS[case.method].Settings
    config = resolve_method(case.method, settings(**case.settings), encoder, size)
    assert resolve_method(case.method, config.asked(settings), encoder, size) == config
    assert all(getattr(config, key) == value for key, value in case.settings.items())


# Hidden pixels

REPLACEMENTS = pytest.mark.parametrize("replacement", ["noise", 1e6, torch.nan])


def replaced(images: Tensor, hidden: Tensor, unit: int, replacement: str | float) -> Tensor:
    noise = torch.randn(images.shape, generator=torch_generator(7))
    other = noise if replacement == "noise" else torch.full_like(images, float(replacement))
    return torch.where(to_pixels(hidden, unit), other, images)


def computed(model: Method, images: Tensor, masks: tuple[Tensor, ...]) -> list[tuple[str, Tensor]]:
    """The output of every layer of the student and of what predicts from it, and the student's buffers afterwards."""
    model = copy.deepcopy(model)  # running statistics start alike
    found: list[tuple[str, Tensor]] = []

    def keep(name: str) -> Callable[..., None]:
        return lambda layer, given, result: found.append((name, result.clone())) if torch.is_tensor(result) else None

    for name, layer in model.named_modules():
        if name and not name.startswith("teacher"):
            layer.register_forward_hook(keep(name))
    torch.manual_seed(0)
    with torch.no_grad():
        model(images, *masks)
    return found + [(name, buffer) for name, buffer in model.encoder.named_buffers()]


@MASKED
@REPLACEMENTS
def test_hidden_pixels_change_nothing_that_is_encoded_or_predicted(name: str, replacement: str | float) -> None:
    model = build(name, **({"masks": 1} if name == "data2vec2-vit" else {}))
    images, masks = digits(4), model.draw(4, torch_generator(0))
    other = replaced(images, masks[0], model.encoder.unit, replacement)
    pairs = list(zip(computed(model, images, masks), computed(model, other, masks), strict=True))
    assert sum(key.startswith("encoder.net.") for (key, _), _ in pairs) > 4
    assert any(not key.startswith("encoder.") for (key, _), _ in pairs)  # a head, decoder or predictor
    for (key, first), (_, second) in pairs:
        assert torch.equal(first, second), key


@pytest.mark.parametrize("name", ["mae-cnn", "mae-vit", "mae-vit-cross", "simmim-cnn", "simmim-vit", "spark-cnn"])
@REPLACEMENTS
def test_a_reconstruction_knows_nothing_of_hidden_pixels(name: str, replacement: str | float) -> None:
    model = build(name, **({} if "simmim" in name else {"normalise_targets": False})).eval()
    images, hidden = digits(4), model.draw(4, torch_generator(0))[0]
    first = model.reconstruct(images, hidden)
    assert first is not None and torch.isfinite(first).all()
    again = model.reconstruct(replaced(images, hidden, model.encoder.unit, replacement), hidden)
    assert again is not None and torch.equal(first, again)
    shown = ~to_pixels(hidden, model.encoder.unit)
    assert torch.equal(first[shown], images[shown])


@pytest.mark.parametrize(
    ("kind", "with_token"),
    [(kind, with_token) for kind in SMALL for with_token in (False, True) if with_token or kind != "swin"],
)
@REPLACEMENTS
def test_hidden_pixels_change_no_encoders_outputs(kind: str, with_token: bool, replacement: str | float) -> None:
    encoder = new_encoder(SMALL[kind], (32, 32), 1, seed=0)
    token = encoder.mask_token() if with_token else None
    hidden = uniform(4, encoder.grid, 0.5, torch_generator(0))
    images, other = digits(4), replaced(digits(4), hidden, encoder.unit, replacement)
    first, second = (encoder.outputs(x, hidden, token) for x in (images, other))
    assert all(torch.isfinite(a).all() and torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert torch.equal(encoder(images, hidden, token), encoder(other, hidden, token))


# Learning

TILED = Glyphs(classes=4, features=1, others=0, copies=16, noise=0.2)
"""Images whose every cell shows their class's pattern: what is seen tells what is hidden. Of default glyphs the cells
are drawn one by one, and 50 steps do not suffice to predict more of them than the mean."""

BY_HEART = [f"{name}-{method.encoders[0]}" for name, method in METHODS.items() if name != "two-layer"]


@pytest.mark.parametrize("name", [*BY_HEART, "mae-vit", "mae-vit-cross", "two-layer-pixels"])
def test_eight_images_can_be_learnt_by_heart(name: str) -> None:
    """From a teacher that stays what it is; that of the two-layer network cannot, so there it is the pixels. Its code
    does not say where a patch was, so its images are such as have the same patch everywhere."""
    model, images = build(name), glyphs(TILED)[:8] if name == "two-layer-pixels" else digits(8)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    found = []
    for _ in range(80):
        loss = losses_of(model, images)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.3 * found[0]


def fit_loss(model: Method, logged: dict[str, float]) -> float:
    """The part of the loss that compares predictions with a teacher's features."""
    weight = getattr(model.config, "class_weight", 0.0)
    return logged["loss"] - logged.get("penalty", 0.0) - weight * logged.get("class_loss", 0.0)


@pytest.mark.parametrize("name", [*WITH_TEACHER, "two-layer-two-layer"])
def test_a_teachers_features_keep_telling_images_apart(name: str) -> None:
    logged = train(build(name), glyphs(), batch=64)
    assert logged[-1]["target_std"] >= logged[0]["target_std"] / 2
    assert collapse(logged[0], logged[-1]) is None


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("data2vec-cnn", {}),
        ("data2vec-vit", {}),
        ("data2vec2-vit", {"mask_ratio": 0.6, "target_norm": "instance"}),  # its defaults take more than 50 steps
        ("ijepa-vit", {}),
        ("two-layer-two-layer", {}),
    ],
)
def test_a_teachers_features_are_predicted_better_than_by_their_mean(name: str, settings: dict[str, Any]) -> None:
    model = build(name, **settings)
    logged = train(model, glyphs(TILED), batch=64, rate=6e-3)
    last = logged[-10:]
    assert logged[-1]["target_std"] >= logged[0]["target_std"] / 2
    assert logged[-1]["prediction_std"] > 0.3 * logged[-1]["target_std"]
    assert sum(fit_loss(model, line) for line in last) < 0.95 * sum(line["mean_loss"] for line in last)


# Through the stage


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare("glyphs:unlabelled=128,train=10,test=10", DataSettings(), multiple_of=4)


def pretraining(folder: Path, prepared: Prepared, case: Case, **changes: Any) -> dict[str, Any]:
    """A pretraining of 8 steps, as the stage runs it."""
    encoder = resolve(SMALL[case.encoder], (32, 32), 1)
    config = resolve_method(case.method, METHODS[case.method].Settings(**case.settings), encoder, (32, 32))
    length = {"epochs": 2, "batch_size": 32 * build(case).masks_per_image, "beta2": 0.95, "checkpoint_every": 2}
    job = PretrainJob(
        config=encoder,
        method=case.method,
        method_config=config,
        training=TrainingConfig(**(length | changes)),
        augment="none",
        seed=3,
    )
    context = Context(make_fabric(runtime()), prepared)
    return pretrain_encoder(context, job, folder, "test", keep_checkpoints=True)


def test_several_masks_of_an_image_share_the_batch_size(prepared: Prepared, tmp_path: Path) -> None:
    results = [
        pretraining(tmp_path / str(masks), prepared, Case("data2vec2", "vit", {"masks": masks}), batch_size=32)
        for masks in (1, 2)
    ]
    assert [result["steps"] for result in results] == [8, 16]
    assert [result["images_seen"] for result in results] == [256, 256]


def until_step_5(folder: Path, prepared: Prepared, name: str) -> None:
    signal_itself(signal.SIGKILL, 5)
    pretraining(folder, prepared, CASES[name])


@pytest.mark.parametrize("name", [*WITH_TEACHER, "two-layer-two-layer", "spark-cnn"])
def test_a_killed_pretraining_ends_with_the_same_bits(name: str, prepared: Prepared, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert exit_code_of(until_step_5, killed, prepared, name) == -signal.SIGKILL
    assert sorted(path.name for path in (killed / "checkpoints").glob("*.json"))[-1] == "step-00000004.json"
    results = [pretraining(folder, prepared, CASES[name]) for folder in (whole, killed)]
    assert results[0]["loss"] == results[1]["loss"]
    # encoder; teacher, decoder and moments
    for file in ("encoder/encoder.safetensors", "checkpoints/step-00000008.safetensors"):
        assert (whole / file).read_bytes() == (killed / file).read_bytes(), file
    assert (whole / "gallery.npz").exists() == (name == "spark-cnn")


RANGED = Case("mae", "vit", {"mask_ratio": (0.3, 0.9)})


def test_a_drawn_ratio_is_one_for_all_ranks_and_a_function_of_the_step() -> None:
    draw = masks_of(build("mae-vit", **RANGED.settings), 5)
    (whole,), *parts = (draw(3, 8, part) for part in (slice(None), slice(0, 4), slice(4, 8)))
    assert torch.equal(torch.cat([hidden for (hidden,) in parts]), whole)
    shares = {float(draw(step, 8, slice(None))[0].float().mean()) for step in range(6)}
    assert len(shares) > 3 and min(shares) >= 0.25 and max(shares) <= 0.95


def test_a_run_of_drawn_ratios_that_was_broken_off_ends_with_the_same_bits(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretraining(tmp_path / "whole", prepared, RANGED)
    original = Batches.__call__

    def broken(self: Batches, step: int) -> Any:
        if step == 5:
            raise RuntimeError("broken off")
        return original(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__call__", broken)
        with pytest.raises(RuntimeError, match="broken off"):
            pretraining(tmp_path / "broken", prepared, RANGED)
    assert pretraining(tmp_path / "broken", prepared, RANGED)["loss"] == whole["loss"]
    of = "encoder/encoder.safetensors"
    assert (tmp_path / "whole" / of).read_bytes() == (tmp_path / "broken" / of).read_bytes()


@pytest.mark.parametrize("name", ["spark-cnn", "ijepa-vit", "two-layer-two-layer"])
def test_a_pretrained_encoder_is_one_that_timm_loads(name: str, prepared: Prepared, tmp_path: Path) -> None:
    pretraining(tmp_path, prepared, CASES[name], epochs=1)
    described = read_json(tmp_path / "encoder/encoder.json")
    assert described["method"] == CASES[name].method
    net = timm.create_model(described["timm"]["name"], **described["timm"]["kwargs"]).eval()
    net.load_state_dict(load_file(tmp_path / "encoder/encoder.safetensors"), strict=True)
    encoder = load_encoder(tmp_path)
    with torch.no_grad():
        pooled = encoder.pool(encoder(glyphs()[:8]))
        torch.testing.assert_close(net(glyphs()[:8]), pooled, atol=1e-5, rtol=1e-5)
    assert pooled.shape == (8, encoder.dim) and pooled.std(dim=0).max() > 0


def follows(monkeypatch: pytest.MonkeyPatch, spreads: Callable[[int], float]) -> None:
    """data2vec's targets differ between images by `spreads(call)`; the first call counts operations."""
    forward, calls = METHODS["data2vec"].forward, []

    def changed(self: Method, images: Tensor, hidden: Tensor) -> dict[str, Tensor]:
        calls.append(None)
        return forward(self, images, hidden) | {"target_std": torch.tensor(spreads(len(calls)))}

    monkeypatch.setattr(METHODS["data2vec"], "forward", changed)


def test_a_run_that_collapses_says_so_once(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follows(monkeypatch, lambda call: 0.5**call)
    result = pretraining(tmp_path, prepared, CASES["data2vec-cnn"])
    printed = capsys.readouterr().err
    assert printed.count("are collapsing") == 1
    assert "warning: the teacher's features are collapsing: they differ between images by 0.0625" in printed
    assert "0.25 at first" in printed
    assert "are collapsing" in result["warning"] and "0.25 at first" in result["warning"]
    assert read_json(tmp_path / "result.json")["warning"] == result["warning"]


def test_the_result_of_a_run_that_recovers_has_no_warning(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    follows(monkeypatch, lambda call: 0.1 if call in (4, 5) else 1.0)
    assert pretraining(tmp_path, prepared, CASES["data2vec-cnn"])["warning"] is None
    assert capsys.readouterr().err.count("are collapsing") == 1


def test_a_run_that_does_not_collapse_says_nothing(
    prepared: Prepared, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = pretraining(tmp_path, prepared, CASES["data2vec-cnn"])
    assert result["warning"] is None and "warning" not in capsys.readouterr().err
    logged = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line[key] > 0 for line in logged for key in ("target_std", "prediction_std", "mean_loss"))


# Golden loss curves


def curve(name: str, steps: int = STEPS) -> list[float]:
    """The losses of steps on glyphs."""
    return [line["loss"] for line in train(build(name), glyphs(), batch=32, steps=steps)]


@EVERY
def test_losses_are_those_on_file(name: str) -> None:
    """Of a Swin's, which take ten times as long as another's, the first."""
    golden = json.loads((GOLDEN / f"{name}.json").read_text())[: 8 if CASES[name].encoder == "swin" else STEPS]
    losses = curve(name, len(golden))
    assert losses[0] == pytest.approx(golden[0], rel=1e-4)
    assert losses == pytest.approx(golden, rel=2e-2)


def test_no_golden_file_is_left_over() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(CASES)


def write_golden(names: list[str]) -> None:
    torch.set_num_threads(1)
    GOLDEN.mkdir(exist_ok=True)
    for name in names or list(CASES):
        rounded = [float(f"{loss:.6g}") for loss in curve(name)]
        (GOLDEN / f"{name}.json").write_text(json.dumps(rounded) + "\n")


# Bad input


@pytest.mark.parametrize(
    ("method", "kind", "fitting"),
    [
        ("data2vec2", "cnn", "vit"),
        ("ijepa", "cnn", "vit"),
        ("spark", "vit", "cnn"),
        ("mae", "two-layer", "cnn or vit"),
        ("two-layer", "vit", "two-layer"),
    ],
)
def test_a_method_and_an_encoder_that_do_not_fit_are_refused(method: str, kind: str, fitting: str) -> None:
    with pytest.raises(WhymaskError, match=f"{method!r} does not fit encoder {kind!r}; it pretrains {fitting}"):
        encoder_for(method, SMALL[kind])
    with pytest.raises(WhymaskError, match=f"does not fit encoder {kind!r}; it pretrains {fitting}"):
        build(Case(method, kind))


def test_auto_is_the_encoder_that_a_method_takes_first() -> None:
    for name, method in METHODS.items():
        assert encoder_for(name, EncoderSettings(width=16)) == EncoderSettings(method.encoders[0], width=16)
        for kind in (kind for kind in method.encoders if kind in SMALL):
            assert encoder_for(name, SMALL[kind]) == SMALL[kind]


@pytest.mark.parametrize(
    ("given", "nearest"), [("data2vce", "data2vec"), ("MAE", "mae"), ("jepa", "ijepa"), ("simim", "simmim")]
)
def test_an_unknown_method_offers_the_nearest(given: str, nearest: str) -> None:
    with pytest.raises(WhymaskError, match=f"unknown method {given!r}; nearest: .*{nearest}"):
        method_of(given)


@MASKED
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_ratio": (0.9, 0.5)}, "from 0.9 to 0.5; the lower bound comes first, such as 0.5 0.9"),
        ({"mask_ratio": (0.5, 1.0)}, "between 0 and 1"),
        ({"mask_ratio": math.nan}, "between 0 and 1"),
        ({"mask_block": 9}, "mask block of 9 .* grid has 8x8 squares: choose a block between 1 and 7"),
        ({"mask_block": 8}, "choose a block between 1 and 7"),
        ({"mask_block": 0}, "choose a block between 1 and 7"),
        ({"mask": "uniform", "mask_block": 3}, "does not divide the grid of 8x8"),
    ],
)
def test_masks_out_of_range_are_refused(name: str, settings: dict[str, Any], message: str) -> None:
    if CASES[name].method != "ijepa":  # it has masks of its own
        with pytest.raises(WhymaskError, match=message):
            build(name, **settings)


@pytest.mark.parametrize("name", ["data2vec-cnn", "maskfeat-cnn", "simmim-cnn", "spark-cnn", "mae-cnn"])
@pytest.mark.parametrize("settings", [{"mask_ratio": 0.1}, {"mask_ratio": (0.05, 0.1)}])
def test_masks_that_hide_no_whole_position_are_refused_or_work(name: str, settings: dict[str, Any]) -> None:
    """Squares of 4 pixels, hidden one by one, where a position of the CNN's last map is 8 wide."""
    try:
        losses = losses_of(build(name, mask="uniform", mask_block=1, **settings), digits(2))
    except WhymaskError as refusal:
        assert "hides no position" in str(refusal) and "mask_block of 2" in str(refusal)
        return
    assert torch.isfinite(losses["loss"])


@pytest.mark.parametrize("command", ["pretrain", "study"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--method", "spark", "--encoder", "vit"), "method 'spark' does not fit encoder 'vit'; it pretrains cnn"),
        (("--method", "data2vec", "--data2vec.decay", "1.0"), "teacher decay 1.0; it must lie in [0, 1)"),
        (("--mae.mask-ratio", "0.9", "0.5"), "mask ratio from 0.9 to 0.5; the lower bound comes first"),
        (("--method", "ijepa", "--ijepa.predictor-width", "30"), "predictor of width 30; it must be a multiple"),
    ],
)
def test_the_command_line_refuses_with_exit_code_2(
    command: str, flags: tuple[str, ...], message: str, whymask: Callable[..., int], capsys: Any, tmp_path: Path
) -> None:
    small = ("--device", DEVICE, "--threads", 1, "--out", tmp_path / "out")
    assert whymask(command, "glyphs:unlabelled=128,train=100,test=60", *flags, *small) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert "error: " in printed and message in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


if __name__ == "__main__":
    write_golden(sys.argv[1:])
