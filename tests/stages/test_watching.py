"""Whether pretraining is working, told on its way, without a bit of it changed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from tiny import new_encoder, runtime
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_tensors
from whymask.encoders import EncoderSettings, resolve
from whymask.methods import METHODS, resolve_method
from whymask.stages import watching
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder, pretraining
from whymask.stages.probe import features_of
from whymask.stages.watching import Watched, neighbours_of, spread_of, watched
from whymask.training.device import make_fabric
from whymask.training.optimisation import TrainingConfig

ASKED = EncoderSettings("vit", width=16, depth=1, heads=1, patch=4)


@pytest.fixture(scope="module")
def context() -> Context:
    return Context(make_fabric(runtime()), prepare("glyphs:unlabelled=200,train=120,test=60,seed=3", DataSettings()))


@pytest.fixture(scope="module")
def prepared(context: Context) -> Prepared:
    return context.prepared


def job() -> PretrainJob:
    encoder = resolve(ASKED, (32, 32), 1)
    training = TrainingConfig(epochs=4, batch_size=32)
    config = resolve_method("mae", METHODS["mae"].Settings(), encoder, (32, 32))
    return PretrainJob(config=encoder, method="mae", method_config=config, training=training, augment="none", seed=0)


def test_spreads_of_known_features() -> None:
    axes = spread_of(np.tile(np.eye(6, 8), (10, 1)))
    assert axes["effective_rank"] == pytest.approx(6, abs=1e-3)
    alike = spread_of(np.ones((40, 8)) + 1e-9 * np.arange(8))
    assert alike["effective_rank"] == pytest.approx(1, abs=1e-3) and alike["spread"] == pytest.approx(0, abs=1e-6)
    assert alike["uniformity"] == pytest.approx(0, abs=1e-6)
    even = np.random.default_rng(0).normal(size=(400, 8))
    unit = even / np.linalg.norm(even, axis=1, keepdims=True)
    pairs = [np.exp(-2 * ((a - b) ** 2).sum()) for i, a in enumerate(unit) for b in unit[:i]]
    assert spread_of(even)["uniformity"] == pytest.approx(np.log(np.mean(pairs)))
    assert 0.9 < spread_of(even)["spread"] <= 1 and spread_of(3 * even) == pytest.approx(spread_of(even))


def test_neighbours_answer_for_the_other_half(prepared: Prepared) -> None:
    encoder = new_encoder(ASKED)
    rows = prepared.train[:100]
    features, labels = features_of(encoder, prepared, rows), prepared.images.labels[rows]
    one, other = np.array_split(watching.numpy_generator(0, "watched").permutation(100), 2)
    right = []
    for there, asked in ((one, other), (other, one)):
        model = KNeighborsClassifier(10, metric="cosine", weights="distance").fit(features[there], labels[there])
        right += list(zip(labels[asked], model.predict(features[asked]), strict=True))
    of_class = [np.mean([said == true for true, said in right if true == c]) for c in np.unique(labels)]
    assert neighbours_of(prepared, rows, features) == pytest.approx(np.mean(of_class), abs=0.02)  # ties


def test_watching_changes_no_bit_and_its_first_line_is_the_first_weights(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "SHARE", 1e-3)
    plain = pretrain_encoder(context, job(), tmp_path / "plain", "test")
    assert "watched" not in plain, "it would cost too much"
    monkeypatch.setattr(watching, "SHARE", 20.0)
    result = pretrain_encoder(context, job(), tmp_path / "watched", "test")
    bits = [read_tensors(tmp_path / name / "encoder/encoder.safetensors") for name in ("plain", "watched")]
    assert all(torch.equal(bits[0][key], bits[1][key]) for key in bits[0])
    found = result["watched"]
    assert found["images"] == 120 and {"knn", "effective_rank", "spread", "uniformity"} == found["first"].keys()
    fresh = pretraining(context, job()).model.encoder
    features = features_of(fresh, context.prepared, context.prepared.train)
    assert found["first"] == pytest.approx(
        spread_of(features) | {"knn": neighbours_of(context.prepared, context.prepared.train, features)}
    )
    lines = (tmp_path / "watched/metrics.jsonl").read_text().splitlines()
    assert sum('"first_knn"' in line for line in lines) == 10


def test_test_images_are_never_watched(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = context.prepared
    monkeypatch.setattr(watching, "SHARE", 1e9)
    few = replace(prepared, train=prepared.train[:50], pool=np.arange(len(prepared.images)))
    for shown in (prepared, few):
        of_these = Context(context.fabric, shown)
        found = watched(pretraining(of_these, job()), shown, 1e6)
        assert found is not None and not np.isin(found.rows, shown.test).any()
        assert ("knn" in found.first) == (shown is prepared)


def test_no_better_than_the_first_weights_is_said_once_and_not_at_once(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = context.prepared.train
    found = Watched(new_encoder(ASKED), context.prepared, rows, 100)
    found.first = found.look()
    for done in (10, 20, 30, 40):
        found(done)
    said = capsys.readouterr().err
    assert said.count("has not made them better") == 1
    assert "after 30% of the steps" in said and f"of {len(rows)} labelled images" in said
    found = Watched(found.encoder, context.prepared, rows, 100, first=found.first | {"knn": -1.0})
    found(100)
    assert "better" not in capsys.readouterr().err
