"""Whether pretraining is working, told on its way, without a bit of it changed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tiny import new_encoder, runtime
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_tensors
from whymask.encoders import EncoderSettings, resolve
from whymask.methods import METHODS, resolve_method
from whymask.stages import pretrain, watching
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder, pretraining
from whymask.stages.probe import features_of
from whymask.stages.watching import Watched, answers_of, spread_of
from whymask.stages.watching import watching as watching_of
from whymask.training.device import make_fabric
from whymask.training.optimisation import TrainingConfig

STEPS = 4 * (320 // 32)
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


def test_neighbours_and_a_linear_model_answer_for_the_other_half(prepared: Prepared) -> None:
    encoder = new_encoder(ASKED)
    rows = prepared.train[:100]
    features, labels = features_of(encoder, prepared, rows), prepared.images.labels[rows]
    one, other = np.array_split(watching.numpy_generator(0, "watched").permutation(100), 2)
    linear = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    models = {"knn": KNeighborsClassifier(10, metric="cosine", weights="distance"), "linear": linear}
    found = answers_of(prepared, rows, features)
    assert found.keys() == models.keys()
    for name, model in models.items():
        right = []
        for there, asked in ((one, other), (other, one)):
            model.fit(features[there], labels[there])
            right += list(zip(labels[asked], model.predict(features[asked]), strict=True))
        of_class = [np.mean([said == true for true, said in right if true == c]) for c in np.unique(labels)]
        assert found[name] == pytest.approx(np.mean(of_class), abs=0.02)  # ties


def test_of_one_class_nothing_is_learnt_and_nothing_fails(prepared: Prepared) -> None:
    labels = prepared.images.labels[prepared.train]
    alike = np.tile(np.flatnonzero(labels == labels[0]), 4)
    assert "linear" not in answers_of(prepared, prepared.train[alike], np.eye(len(alike)))


def test_watching_changes_no_bit_and_its_first_line_is_the_first_weights(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(watching, "SHARE", 1e-3)
    plain = pretrain_encoder(context, job(), tmp_path / "plain", "test")
    assert "watched" not in plain, "it would cost too much"
    shown: list[int] = []
    monkeypatch.setattr(pretrain, "write_arrays", lambda path, arrays: shown.append(len(arrays)))
    monkeypatch.setattr(watching, "SHARE", 20.0)
    result = pretrain_encoder(context, job(), tmp_path / "watched", "test", watch=3)
    bits = [read_tensors(tmp_path / name / "encoder/encoder.safetensors") for name in ("plain", "watched")]
    assert all(torch.equal(bits[0][key], bits[1][key]) for key in bits[0])
    found = result["watched"]
    assert found["images"] == 120
    assert {"knn", "linear", "effective_rank", "spread", "uniformity"} == found["first"].keys()
    fresh = pretraining(context, job()).model.encoder
    features = features_of(fresh, context.prepared, context.prepared.train)
    assert found["first"] == pytest.approx(
        spread_of(features) | answers_of(context.prepared, context.prepared.train, features)
    )
    lines = (tmp_path / "watched/metrics.jsonl").read_text().splitlines()
    seen = [json.loads(line) for line in lines]
    assert [line["step"] for line in seen if "validation" in line] == [*range(3, STEPS, 3), STEPS]
    assert all(0 < line["gradient_norm"] < 100 for line in seen if "loss" in line)
    assert shown == [3] * (STEPS // 3 + 1) + [3, 1], "reconstructions along the way and at the end, then the pool"
    assert f"watched {STEPS // 3 + 2} times, on 120 images" in capsys.readouterr().err


def test_test_images_are_never_watched(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = context.prepared
    monkeypatch.setattr(watching, "SHARE", 1e9)
    few = replace(prepared, train=prepared.train[:50], pool=np.arange(len(prepared.images)))
    for shown in (prepared, few):
        of_these = Context(context.fabric, shown)
        found = watching_of(pretraining(of_these, job()), shown, 1e6)[1]
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
    assert said.count("no better than its first weights") == 1
    assert "after 30% of the steps" in said and f"of {len(rows)} labelled images" in said
    found = Watched(found.encoder, context.prepared, rows, 100, first=found.first | {"knn": -1.0})
    found(100)
    assert "better" not in capsys.readouterr().err, "the neighbours are"
    again = Watched(found.encoder, context.prepared, rows, 100, first=found.first | {"knn": 1.0, "linear": 1.0})
    again.note_told([{"step": 30, "validation": again.last | {"knn": 0.2, "first_knn": 0.2}}])
    again(40)
    assert "better" not in capsys.readouterr().err, "it was said before the run was stopped"


def test_how_often_and_on_how_many_images_follows_from_the_operations(
    context: Context, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared, training = context.prepared, pretraining(context, job())
    seen = training.steps * training.batches.batch_size
    dear = watching._operations(training.model.encoder, prepared)

    def of(images: float, every: int | None = None) -> tuple[int, int] | None:
        """Looks and images, where 5 % of the operations are those of looking at so many images."""
        watched, found = watching_of(training, prepared, images * dear / seen / watching.SHARE, every)
        return None if found is None else (watched.validations, len(found.rows))

    assert of(499) is None and of(501) == (5, 100) and of(1_501) == (15, 100)
    assert of(2_201) == (20, 110) and of(1e6) == (20, 120)
    assert of(0, every=7) == (0, 120) and of(1e6, every=0) is None
    monkeypatch.setattr(watching, "FEWEST", 400)
    assert of(1e6, every=7) is None and "not watched" in capsys.readouterr().err


def test_a_look_is_left_out_while_watching_has_taken_more_than_its_share(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(watching.time, "perf_counter", lambda: clock[0])
    found = Watched(new_encoder(ASKED), context.prepared, context.prepared.train, 100, began=0.0)
    monkeypatch.setattr(watching, "FREE_SECONDS", 2.0)
    found.seconds = found.latest = 0.5
    assert found(10), "two looks as long are free"
    found.seconds, found.latest, clock[0] = 1.6, 0.8, 63.0
    assert found(20) is None and found.looks == 1 and found.last
    clock[0] = 65.0
    assert found(30), "5 % of the time have room for this look and the last"
    found.seconds = 100.0
    assert found(40) is None and found(100), "the last is taken"
    found.every = 10
    assert found(40), "it was asked for"
    assert found.summary().startswith("watched 4 times") and found.summary().endswith("153.8% of the time")
