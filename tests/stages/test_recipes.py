"""Fine-tuning beyond crops and flips: each part alone, the recipes, the frozen encoder."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

import whymask
from tiny import GLYPHS, new_encoder, runtime, tiny_settings
from whymask.data.batches import Batches
from whymask.data.crops import Augment
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.strong import Strong
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.errors import WhymaskError
from whymask.randomness import derive
from whymask.stages import classify, probe
from whymask.stages.classify import ClassifierJob, classifier_training, loss_of, set_drop_path, train_classifier
from whymask.stages.context import Context
from whymask.stages.network import load_classifier
from whymask.stages.recipes import LONG, MANY, RECIPES, resolve_finetuning
from whymask.stages.settings import FinetuneSettings, FinetuneTrainingSettings
from whymask.studies.cells import Runner
from whymask.studies.config import resolve_study
from whymask.studies.search import search
from whymask.tasks.classification import CrossEntropy
from whymask.tasks.probing import LEAST_SHARE
from whymask.training.device import make_fabric
from whymask.training.loop import Interrupted

RUNTIME = runtime()
VIT = EncoderSettings("vit", width=16, depth=2, heads=2, patch=8)
CNN = EncoderSettings("cnn", width=4)
SMALL_VIT = resolve(VIT, (32, 32), 3)
PARTS: dict[str, Any] = {
    "drop_path": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "random_erasing": 1.0,
    "label_smoothing": 0.2,
}
FAMILIES = ["vit", "test_vit", "test_resnet", "test_convnext", "efficientnet_b0", "swin_tiny_patch4_window7_224"]


@pytest.fixture(scope="module")
def prepared(pictures: Path) -> Prepared:
    return prepare(pictures / "labelled", DataSettings(), multiple_of=8)


def on_cpu(prepared: Prepared) -> Context:
    return Context(make_fabric(RUNTIME), prepared)


def job_of(
    prepared: Prepared, asked: FinetuneTrainingSettings, encoder: EncoderSettings = VIT, rows: int | None = None
) -> ClassifierJob:
    prep = prepared.images.preprocessing
    network = new_encoder(encoder, prep.size, prep.channels, 0)
    chosen = prepared.train[:rows]
    return ClassifierJob(
        arm="scratch",
        seed=0,
        budget="all",
        rows=chosen,
        test=prepared.test,
        config=network.config,
        build=lambda: network,
        training=resolve_finetuning(asked, len(chosen), prepared, network.config),
        augment="crop-flip",
    )


def task_of(prepared: Prepared, asked: FinetuneTrainingSettings, **further: Any) -> Any:
    return classifier_training(on_cpu(prepared), job_of(prepared, asked, **further))


def step_of(task: Any, step: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a step, as the loop seeds it."""
    torch.manual_seed(step)
    task.model.train()
    task.model.zero_grad()
    loss = task.loss_of(task.model, task.batches(step), step)["loss"]
    loss.backward()
    return loss.detach(), [p.grad for p in task.model.parameters() if p.requires_grad and p.grad is not None]


# The recipes


def test_few_is_plain_cross_entropy_on_crops_and_flips(prepared: Prepared) -> None:
    task = task_of(prepared, FinetuneTrainingSettings(batch_size=4))
    batch = task.batches(0)
    plain = Batches(prepared.images, prepared.train, batch_size=4, seed=0, augment=Augment())(0)
    assert torch.equal(batch.images, plain.images)
    torch.manual_seed(0)
    loss = task.loss_of(task.model.train(), batch, 0)["loss"]
    assert torch.equal(loss, nn.functional.cross_entropy(task.model(batch.images), batch.labels))


def test_auto_takes_many_from_many_labels_a_class_and_long_training_on(prepared: Prepared) -> None:
    labels = MANY * len(prepared.classes)
    assert resolve_finetuning(FinetuneTrainingSettings(epochs=LONG), labels - 1, prepared, SMALL_VIT).recipe == "few"
    assert resolve_finetuning(FinetuneTrainingSettings(epochs=LONG - 1), labels, prepared, SMALL_VIT).recipe == "few"
    many = resolve_finetuning(FinetuneTrainingSettings(epochs=LONG), labels, prepared, SMALL_VIT)
    assert many.recipe == "many" and {key: getattr(many, key) for key in RECIPES["many"]} == RECIPES["many"]


@pytest.mark.parametrize("name", list(PARTS))
def test_a_given_setting_comes_before_the_recipe(name: str, prepared: Prepared) -> None:
    for recipe in RECIPES:
        for value in (type(PARTS[name])(), PARTS[name]):  # nothing, and something
            asked = FinetuneTrainingSettings(recipe=recipe, **{name: value})  # type: ignore[arg-type]
            resolved = resolve_finetuning(asked, 20, prepared, SMALL_VIT)
            assert getattr(resolved, name) == value
            others = {key: getattr(resolved, key) for key in PARTS if key != name}
            assert others == {key: value for key, value in RECIPES[recipe].items() if key != name}


@pytest.mark.parametrize("encoder", [CNN, EncoderSettings("densenet121")], ids=lambda config: config.name)
def test_a_recipe_leaves_drop_path_out_of_a_network_without_branches_and_says_so(
    encoder: EncoderSettings, prepared: Prepared
) -> None:
    config = resolve(encoder, (32, 32), 3)
    many = resolve_finetuning(FinetuneTrainingSettings(recipe="many", batch_size=2), 20, prepared, config)
    assert many.drop_path == 0 and many.text().endswith("label smoothing 0.1; without drop path")
    with pytest.raises(WhymaskError, match=f"'{encoder.name}' has no residual branches to drop; leave drop_path out"):
        resolve_finetuning(FinetuneTrainingSettings(drop_path=0.1), 20, prepared, config)


def test_a_recipe_leaves_out_what_the_images_do_not_allow(prepared: Prepared) -> None:
    many_channels = replace(prepared.images.preprocessing, channels=5)
    other = replace(prepared, images=replace(prepared.images, preprocessing=many_channels))
    assert resolve_finetuning(FinetuneTrainingSettings(recipe="many"), 20, other, SMALL_VIT).rand_augment == ""
    with pytest.raises(WhymaskError, match="8-bit images with 1 or 3 channels; these have 5"):
        resolve_finetuning(FinetuneTrainingSettings(rand_augment=PARTS["rand_augment"]), 20, other, SMALL_VIT)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("drop_path", 1.0),
        ("drop_path", -0.1),
        ("label_smoothing", 1.0),
        ("random_erasing", 1.1),
        ("mixup", -1.0),
        ("cutmix", float("inf")),
        ("recipe", "some"),
        ("train", "tail"),
    ],
)
def test_settings_out_of_range_are_refused(setting: str, value: Any) -> None:
    with pytest.raises(WhymaskError, match=rf"{setting} '?{value}'? was given"):
        FinetuneTrainingSettings(**{setting: value})


def test_a_description_that_timm_does_not_read_is_refused_before_anything_runs(prepared: Prepared) -> None:
    with pytest.raises(WhymaskError, match="'strong' is no description that timm reads"):
        resolve_finetuning(FinetuneTrainingSettings(rand_augment="strong"), 20, prepared, SMALL_VIT)
    with pytest.raises(WhymaskError, match="magnitudes end at 10; leave mmax out"):
        resolve_finetuning(FinetuneTrainingSettings(rand_augment="rand-m15-mmax20"), 20, prepared, SMALL_VIT)


def test_a_study_keeps_the_recipe_of_every_budget(finished: Path) -> None:
    recipes = read_json(finished / "study.json")["setting"]["recipes"]
    assert recipes == dict.fromkeys(("2", "5", "4"), "recipe few: 2 epochs, nothing added")


def test_a_search_tries_the_recipe_of_the_whole_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whymask.stages.recipes.LONG", 1)
    monkeypatch.setattr("whymask.stages.recipes.MANY", 5)  # a fifth of the 5 labels a class is held out
    tried = []

    def trial(runner: Runner, cell: Any, asked: FinetuneTrainingSettings, rows: Any, held: Any) -> float:
        tried.append(resolve_finetuning(asked, len(rows), runner.context.prepared, runner.config.encoder).recipe)
        return 0.5

    monkeypatch.setitem(search.__globals__, "_trial", trial)
    glyphs = prepare(GLYPHS, DataSettings(), multiple_of=4)
    config = resolve_study(tiny_settings(budgets=("5",), worth_budgets=()), glyphs)
    chosen = search(Runner(on_cpu(glyphs), config, tmp_path))
    assert tried == ["many"] * 12 and {training.recipe for training in chosen.values()} == {"auto"}


def test_the_recipe_is_printed_and_stored(pictures: Path, tmp_path: Path, capsys: Any) -> None:
    settings = FinetuneSettings(
        encoder=VIT,
        training=FinetuneTrainingSettings(epochs=1, recipe="many", mixup=0.0, batch_size=4),
        runtime=RUNTIME,
    )
    result = whymask.finetune(pictures / "labelled", out=tmp_path / "run", settings=settings)
    stored = read_json(tmp_path / "run" / "config.json")["config"]["training"]
    assert (stored["recipe"], stored["mixup"], stored["cutmix"]) == ("many", 0.0, 1.0)
    assert result["training"]["random_erasing"] == 0.25
    assert "recipe many: 1 epoch, drop path 0.1, cutmix 1.0" in " ".join(capsys.readouterr().err.split())


# Its parts


@pytest.mark.parametrize("name", list(PARTS))
def test_each_part_changes_the_step_and_trains_everything(name: str, prepared: Prepared) -> None:
    plain, _ = step_of(task_of(prepared, FinetuneTrainingSettings(batch_size=4)))
    changed, gradients = step_of(task_of(prepared, FinetuneTrainingSettings(batch_size=4, **{name: PARTS[name]})))
    assert torch.isfinite(changed) and changed != plain
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert sum(bool(gradient.any()) for gradient in gradients) > 10


def test_all_parts_together_are_the_same_again(prepared: Prepared) -> None:
    training = FinetuneTrainingSettings(batch_size=5, **PARTS)  # an odd batch can be mixed too
    first, second = (step_of(task_of(prepared, training), step=3) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(a, b) for a, b in zip(first[1], second[1], strict=True))


def test_augmentation_depends_neither_on_ranks_nor_on_what_was_drawn_before(prepared: Prepared) -> None:
    settings: dict[str, Any] = {
        "batch_size": 8,
        "seed": 0,
        "augment": Augment(),
        "strong": Strong(PARTS["rand_augment"], 0.5, (100.0, 100.0, 100.0)),
    }
    whole = Batches(prepared.images, prepared.train, **settings)(1)
    random.random()
    np.random.default_rng().random()
    halves = [Batches(prepared.images, prepared.train, rank=rank, world=2, **settings)(1) for rank in range(2)]
    assert torch.equal(whole.images, torch.cat([half.images for half in halves]))


def test_augmentation_leaves_the_global_generators_alone(prepared: Prepared) -> None:
    strong = Strong(PARTS["rand_augment"], 1.0)
    random.seed(1)
    torch.manual_seed(1)
    expected = random.random(), torch.rand(1)
    random.seed(1)
    torch.manual_seed(1)
    Batches(prepared.images, prepared.train, batch_size=4, seed=0, augment=None, strong=strong)(0)
    assert (random.random(), torch.rand(1)) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_rand_augment_gives_timms_image(channels: int) -> None:
    from timm.data.auto_augment import rand_augment_transform

    from whymask.randomness import reseeding

    pixels = torch.randint(256, (2, 16, 12, channels), dtype=torch.uint8)
    ours = Strong("rand-m9-inc1").augment(pixels, seed=4, step=2, first=6)
    timms = rand_augment_transform("rand-m9-inc1", {"translate_const": 5, "img_mean": (124, 116, 104)[:channels]})
    if channels == 3:
        with reseeding() as seed_all:
            seed_all(4, "rand augment", 2, 7)
            assert np.array_equal(ours[1], timms(Image.fromarray(pixels[1].numpy())))
    assert ours.shape == pixels.shape and ours.dtype == torch.uint8 and not torch.equal(ours, pixels)


def test_random_erasing_replaces_one_box_by_standard_noise() -> None:
    images = torch.full((64, 1, 32, 32), 7.0)
    erased = Strong(random_erasing=0.5).erase(images.clone(), 0, 0, 0)
    changed = erased != 7
    assert 0.3 < changed.flatten(1).any(1).float().mean() < 0.7
    for mask in changed[changed.flatten(1).any(1)][:, 0]:
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        assert mask.sum() == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
    assert abs(float(erased[changed].std()) - 1) < 0.1


@pytest.mark.parametrize("shape", [(40, 3, 32, 32), (20, 1, 96, 50), (20, 3, 4, 5)])
def test_random_erasing_gives_timms_images(shape: tuple[int, ...]) -> None:
    from timm.data.random_erasing import RandomErasing

    images = torch.randn(shape)
    ours, timms = Strong(random_erasing=0.6).erase(images.clone(), seed=3, step=4, first=5), images.clone()
    for i, image in enumerate(timms):
        number = derive(3, "random erasing", 4, 5 + i)
        random.seed(number)
        torch.manual_seed(number)
        RandomErasing(0.6, mode="pixel", device="cpu")(image)
    assert torch.equal(ours, timms) and not torch.equal(ours, images)


def test_mixing_spreads_labels_and_a_single_image_stays_itself(prepared: Prepared) -> None:
    loss = loss_of(FinetuneTrainingSettings(mixup=1.0), CrossEntropy(2, label_smoothing=0.1))

    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            self.seen = images
            return torch.tensor([[2.0, 0.0]]).expand(len(images), 2)

    batch = Batches(prepared.images, prepared.train[:1], batch_size=1, seed=0, augment=None)(0)
    model = Fixed()
    alone = loss(model, batch, 0)["loss"]
    assert torch.allclose(model.seen, batch.images, atol=1e-6)
    logits = torch.tensor([[2.0, 0.0]])
    torch.testing.assert_close(alone, nn.functional.cross_entropy(logits, batch.labels, label_smoothing=0.1))


@pytest.mark.parametrize("name", FAMILIES)
def test_drop_path_rises_over_the_blocks_and_leaves_state_and_evaluation_alone(name: str) -> None:
    config = VIT if name == "vit" else EncoderSettings(name, width=32 if name.startswith("swin") else None)
    encoder = new_encoder(config, (32, 32), 3, 0).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():  # ResNet's branches begin at zero
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = torch.randn(8, 3, 32, 32)
    before, state = encoder(images), list(encoder.state_dict())
    set_drop_path(encoder, 0.9)
    assert list(encoder.state_dict()) == state and torch.equal(encoder(images), before)
    rates = [layer.drop_prob for layer in encoder.modules() if type(layer).__name__ == "DropPath"]
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.9)
    encoder.train()
    torch.manual_seed(0)
    first = encoder(images)
    torch.manual_seed(1)
    assert not torch.equal(first, encoder(images))


def test_a_network_without_blocks_refuses_drop_path() -> None:
    with pytest.raises(WhymaskError, match="plain_cnn has no residual branches"):
        set_drop_path(new_encoder(CNN, (32, 32), 1, 0), 0.1)


def test_a_run_with_everything_that_is_stopped_ends_with_the_same_bits(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FinetuneTrainingSettings(epochs=3, batch_size=5, checkpoint_every=1, ema=0.9, **PARTS)

    def train(folder: Path) -> Any:
        return train_classifier(on_cpu(prepared), job_of(prepared, training), folder, "test")

    train(tmp_path / "whole")
    original = Batches.__call__

    def stopping(self: Batches, step: int) -> Any:
        if step == 4:
            raise Interrupted
        return original(self, step)

    monkeypatch.setattr(Batches, "__call__", stopping)
    with pytest.raises(Interrupted):
        train(tmp_path / "stopped")
    monkeypatch.setattr(Batches, "__call__", original)
    train(tmp_path / "stopped")
    for name in ("encoder/encoder.safetensors", "head.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


# The frozen encoder


@pytest.mark.parametrize("config", [VIT, CNN, EncoderSettings("test_resnet")], ids=lambda config: config.name)
def test_a_frozen_encoder_changes_by_no_bit_while_its_head_learns(
    config: EncoderSettings, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = FinetuneTrainingSettings(epochs=4, batch_size=8, train="head", layer_decay=0.75)
    job = job_of(prepared, training, config)
    encoder = job.build()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    trained: list[Any] = []
    make = classifier_training
    monkeypatch.setattr(classify, "classifier_training", lambda *args: trained.append(make(*args)) or trained[0])
    train_classifier(on_cpu(prepared), job, tmp_path / "run", "test")
    after, model = encoder.state_dict(), trained[0].model
    assert model.encoder is encoder and all(torch.equal(before[key], after[key]) for key in before)
    assert model.norm.running_mean.any()
    classifier, _ = load_classifier(tmp_path / "run")
    images = trained[0].batches(0).images
    torch.testing.assert_close(classifier(images), model.eval()(images), atol=1e-4, rtol=1e-4)


def test_a_frozen_encoder_with_one_image_a_step_is_refused(prepared: Prepared) -> None:
    with pytest.raises(WhymaskError, match="a batch norm needs at least 2"):
        task_of(prepared, FinetuneTrainingSettings(train="head", batch_size=1))


def test_a_frozen_encoder_costs_less(prepared: Prepared) -> None:
    whole, head = (task_of(prepared, FinetuneTrainingSettings(batch_size=4, train=train)) for train in ("all", "head"))
    assert head.operations_per_image() < 0.6 * whole.operations_per_image()


def test_the_exact_probe_standardises_as_a_batch_norm_with_the_whole_sets_statistics() -> None:
    rng = np.random.default_rng(0)
    features, labels = (rng.normal(2, 3, (60, 5)) * [1, 2, 3, 4, 5]).astype(np.float32), rng.integers(3, size=60)
    norm = nn.BatchNorm1d(5, affine=False, eps=1e-6)
    normal = norm(torch.from_numpy(features)).numpy()
    exact = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
    behind_norm = LogisticRegression(max_iter=1000).fit(normal, labels)
    np.testing.assert_allclose(exact.predict_proba(features), behind_norm.predict_proba(normal), atol=1e-3)


def test_both_probes_are_exact_whatever_the_batches(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = new_encoder(VIT, prepared.images.preprocessing.size, 3, 0)
    results = []
    for size in (3, 256):
        monkeypatch.setattr(probe, "BATCH", size)
        results.append(probe.probe_encoder(encoder, prepared, prepared.train, neighbours=5, seed=0))
    for kind in ("knn", "linear"):
        assert results[0][kind] == pytest.approx(results[1][kind], rel=1e-3)

    train, test = (probe.features_of(encoder, prepared, rows).astype(float) for rows in (prepared.train, prepared.test))
    train, test = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (train, test))
    labels, truth = prepared.images.labels[prepared.train], prepared.images.labels[prepared.test]
    shares = np.full((len(test), 2), LEAST_SHARE)
    for row, distances in enumerate(1 - test @ train.T):
        nearest = np.argsort(distances)[:5]
        votes = np.bincount(labels[nearest], weights=1 / distances[nearest], minlength=2)
        shares[row] += votes / votes.sum()
    expected = -np.log(shares[np.arange(len(test)), truth] / shares.sum(1)).mean()
    assert results[0]["knn"]["log_loss"] == pytest.approx(expected, rel=1e-2)
