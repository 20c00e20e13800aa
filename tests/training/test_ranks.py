"""Two processes that share each batch learn what one learns: every method, fine-tuning, and the probe."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from method_cases import CASES, SMALL, Case
from ranks import on_ranks
from tiny import GLYPHS, bars, new_encoder, runtime, scenes, tiny_settings
from whymask import study
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.data.sources import Source
from whymask.disk import read_json
from whymask.encoders import EncoderSettings, resolve
from whymask.errors import WhymaskError
from whymask.methods import METHODS, resolve_method
from whymask.stages.classify import ClassifierJob, classifier_training, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder
from whymask.stages.recipes import resolve_finetuning
from whymask.stages.settings import FinetuneTrainingSettings
from whymask.training.device import make_fabric
from whymask.training.optimisation import TrainingConfig

TRAINING = TrainingConfig(epochs=2, batch_size=16, learning_rate=3e-4, beta2=0.95, checkpoint_every=2)
"""Four steps. Of a larger rate's, AdamW makes more than the tolerance of rounding alone."""
PRETRAINED = {name: case for name, case in CASES.items() if case.encoder != "swin" and name != "crossmae-vit"}
"""Every method; a Swin counts over a batch what a ViT does, at three times the time."""
FINETUNED: dict[str, tuple[EncoderSettings, dict[str, Any]]] = {
    "vit, drop path": (SMALL["vit"], {"drop_path": 0.4}),
    "vit, mixed, averaged": (SMALL["vit"], {"mixup": 0.8, "cutmix": 1.0, "ema": 0.9, "layer_decay": 0.7}),
    "cnn": (SMALL["cnn"], {}),
    "cnn, in parts": (SMALL["cnn"], {"accumulate": 2}),
    "resnet, drop path": (EncoderSettings("resnet10t", output_stride=8), {"drop_path": 0.4, "batch_size": 16}),
    "whole images": (EncoderSettings("efficientvit_b0"), {"batch_size": 16, "learning_rate": 3e-5}),
    "cnn, head": (SMALL["cnn"], {"train": "head"}),
    "vit, head": (SMALL["vit"], {"train": "head"}),
}
DENSE: dict[str, tuple[EncoderSettings, dict[str, Any]]] = {
    "pixels, linear": (SMALL["vit"], {"learning_rate": 3e-5}),
    "pixels, pyramid": (SMALL["cnn"], {"class_weights": "balanced", "accumulate": 2}),
}
"""Of label maps that are partly ignored."""
BOXES: dict[str, tuple[EncoderSettings, dict[str, Any]]] = {
    "boxes, cnn": (SMALL["cnn"], {"head": "fcos", "learning_rate": 3e-5}),
    "boxes, vit": (SMALL["vit"], {"head": "fcos", "learning_rate": 3e-5}),
}
REGIONS: tuple[EncoderSettings, dict[str, Any]] = (SMALL["cnn"], {"head": "faster-rcnn"})
"""Each process draws other regions than one process would."""
SHARDED = ("mae-vit-cross", "data2vec-vit", "data2vec2-vit", "ijepa-vit", "vit, drop path", "vit, head", "boxes, vit")


COUNTED = ("steps", "images_seen", "operations")


def pretrained(case: Case, context: Context, folder: Path) -> None:
    encoder = resolve(SMALL[case.encoder], (32, 32), 1)
    job = PretrainJob(
        config=encoder,
        method=case.method,
        method_config=resolve_method(case.method, METHODS[case.method].Settings(**case.settings), encoder, (32, 32)),
        training=TRAINING,
        augment="none",
        seed=3,
    )
    small = replace(context.prepared, pool=context.prepared.pool[:32])
    pretrain_encoder(Context(context.fabric, small), job, folder, "test", keep_checkpoints=True)


def classified(asked: EncoderSettings, settings: dict[str, Any], context: Context) -> ClassifierJob:
    encoder = new_encoder(asked, context.preprocessing.size)
    return ClassifierJob(
        arm="scratch",
        seed=0,
        budget="4",
        rows=context.prepared.train[:32],
        test=context.prepared.test,
        config=encoder.config,
        build=lambda: encoder,
        training=resolve_finetuning(
            FinetuneTrainingSettings(**{"epochs": 1, "batch_size": 8, "learning_rate": 3e-4} | settings),
            32,
            context.prepared,
            encoder.config,
        ),
        augment="none",
    )


def finetuned(asked: EncoderSettings, settings: dict[str, Any], context: Context, folder: Path) -> None:
    train_classifier(context, classified(asked, settings, context), folder, "test")


def train_all(prepared: Prepared, dense: Prepared, boxed: Prepared, out: Path) -> None:
    """Every case in a folder of its own."""
    context = Context(make_fabric(runtime()), prepared)
    for name, case in PRETRAINED.items():
        pretrained(case, context, out / name)
    for name, given in FINETUNED.items():
        finetuned(*given, context, out / name)
    for name, given in DENSE.items():
        finetuned(*given, replace(context, prepared=dense), out / name)
    for name, given in BOXES.items():
        finetuned(*given, replace(context, prepared=boxed), out / name)
    finetuned(*REGIONS, replace(context, prepared=boxed), out / "regions")
    finetune = FinetuneTrainingSettings(epochs=1, batch_size=8, mixup=0.5, cutmix=0.5, learning_rate=3e-4)
    small = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), finetune=finetune)
    study(GLYPHS, out=out / "study", settings=small, explain=False, final=True)


def partly_ignored() -> Source:
    """Of some images whole halves."""
    pixels, generator = (
        np.random.default_rng(0).integers(0, 256, (60, 16, 16)).astype(np.uint8),
        np.random.default_rng(1),
    )
    maps = (pixels > 128).astype(np.uint8)
    maps[generator.random(60) < 0.5, :8] = 255
    return scenes(pixels, maps, np.ones(60, bool))


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(GLYPHS, DataSettings(), multiple_of=4)


@pytest.fixture(scope="module")
def boxed() -> Prepared:
    return prepare(bars("detection"), DataSettings())


def train_in_shards(prepared: Prepared, boxed: Prepared, out: Path) -> None:
    """What a ViT can, and what cannot be."""
    context = Context(make_fabric(replace(runtime(), shard=True)), prepared)
    for name in SHARDED:
        if name in PRETRAINED:
            pretrained(PRETRAINED[name], context, out / name)
        elif name in BOXES:
            finetuned(*BOXES[name], replace(context, prepared=boxed), out / name)
        else:
            finetuned(*FINETUNED[name], context, out / name)
    for refused in ("cnn", "vit, mixed, averaged"):
        with pytest.raises(WhymaskError, match=r"--shard with (encoder cnn|--ema); a ViT .* was expected"):
            classifier_training(context, classified(*FINETUNED[refused], context))


def shorten(run: Path, to: Path) -> None:
    """A copy of a run that was stopped after its second step."""
    shutil.copytree(run, to)
    (to / "result.json").unlink()
    for last in to.glob("checkpoints/step-00000004.*"):
        last.unlink()


@pytest.fixture(scope="module")
def trained(prepared: Prepared, boxed: Prepared, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process has trained, and what two have."""
    one, two = (tmp_path_factory.mktemp(name) for name in ("one", "two"))
    dense = prepare(partly_ignored(), DataSettings())
    assert on_ranks(2, train_all, prepared, dense, boxed, two) == [0, 0]
    train_all(prepared, dense, boxed, one)
    return one, two


@pytest.mark.parametrize("name", [*PRETRAINED, *FINETUNED, *DENSE, "boxes, vit", "study"])
def test_two_processes_learn_what_one_learns(name: str, trained: tuple[Path, Path]) -> None:
    one, two = (folder / name for folder in trained)
    assert_equal(one, two)
    for result in sorted(one.rglob("result.json")):
        ours, theirs = read_json(result), read_json(two / result.relative_to(one))
        assert [ours.get(key) for key in COUNTED] == [theirs.get(key) for key in COUNTED]


@pytest.mark.parametrize("name", BOXES)
def test_losses_of_positions_within_objects_count_those_of_all_processes(name: str, trained: tuple[Path, Path]) -> None:
    """After the last step. Of the weights of a CNN some hardly learn, and AdamW makes steps of their rounding."""
    one, two = (read_json(folder / name / "result.json")["loss"] for folder in trained)
    assert two == pytest.approx(one, rel=1e-4)


def test_where_each_process_draws_regions_as_much_is_learnt(trained: tuple[Path, Path]) -> None:
    one, two = (read_json(folder / "regions/result.json") for folder in trained)
    assert [one[key] for key in ("steps", "images_seen")] == [two[key] for key in ("steps", "images_seen")]
    assert two["loss"] == pytest.approx(one["loss"], rel=0.1)


def assert_equal(one_run: Path, other_run: Path) -> None:
    """All weights, statistics and moments, to rounding."""
    files = sorted(path.relative_to(one_run) for path in one_run.rglob("*.safetensors"))
    assert files
    for file in files:
        one, two = (load_file(folder / file) for folder in (one_run, other_run))
        assert one.keys() == two.keys()
        for key in one:
            torch.testing.assert_close(two[key], one[key], atol=1e-4, rtol=0, msg=partial("{}: {}".format, key))


@pytest.fixture(scope="module")
def sharded(
    prepared: Prepared, boxed: Prepared, trained: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What two processes have trained in shards; the run ijepa-vit goes on from a checkpoint of one process."""
    out = tmp_path_factory.mktemp("shards")
    shorten(trained[0] / "ijepa-vit", out / "ijepa-vit")
    assert on_ranks(2, train_in_shards, prepared, boxed, out) == [0, 0]
    return out


@pytest.mark.parametrize("name", SHARDED)
def test_shards_learn_what_one_process_learns(name: str, sharded: Path, trained: tuple[Path, Path]) -> None:
    assert_equal(trained[0] / name, sharded / name)


def test_a_checkpoint_of_shards_is_continued_by_one_process(
    sharded: Path, trained: tuple[Path, Path], prepared: Prepared, tmp_path: Path
) -> None:
    shorten(sharded / "data2vec-vit", tmp_path / "run")
    pretrained(PRETRAINED["data2vec-vit"], Context(make_fabric(runtime()), prepared), tmp_path / "run")
    assert_equal(trained[0] / "data2vec-vit", tmp_path / "run")


def test_a_study_of_two_processes_is_that_of_one(trained: tuple[Path, Path]) -> None:
    one, two = (read_json(folder / "study/study.json") for folder in trained)
    assert one["final"]["metrics"] == pytest.approx(two["final"]["metrics"], abs=0.05)
    assert len(one["levels"]) == len(two["levels"]) > 0
    for ours, theirs in zip(one["levels"], two["levels"], strict=True):
        assert ours["mean"] == pytest.approx(theirs["mean"], abs=0.05) and ours["arm"] == theirs["arm"]
    assert one["verdict"]["kind"] == two["verdict"]["kind"] and (trained[1] / "study/report.html").exists()
