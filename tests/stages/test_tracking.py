"""What trackers are told of a run; that training does not notice; that a run goes on as the same tracked run."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from lightning_fabric.loggers import CSVLogger, Logger

import tiny
from tiny import runtime, tiny_settings
from whymask import PretrainSettings, PretrainTrainingSettings, pretrain, study
from whymask.data.batches import Batches
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.errors import WhymaskError
from whymask.runs import TRACKED, RunFolder
from whymask.stages import trackers
from whymask.stages.context import Context
from whymask.stages.record import RunRecord
from whymask.stages.tracking import Tracker, Tracking, attach, numbers_in, show, side_by_side, tracked
from whymask.training.loop import Interrupted

GLYPHS = "glyphs:unlabelled=64,train=8,test=8"
SETTINGS = PretrainSettings(
    encoder=EncoderSettings(width=4),
    training=PretrainTrainingSettings(epochs=4, batch_size=16, checkpoint_every=4),
    runtime=runtime(),
)
STEPS = 16


class Told(Logger):
    """A logger of somebody's own, which keeps what it is told, and fails at a step."""

    name, version = "told", 0

    def __init__(self, failing: int | None = None) -> None:
        self.failing = failing
        self.lines: dict[int, dict[str, float]] = {}
        self.settings: dict[str, Any] = {}
        self.images: list[np.ndarray] = []
        self.status: list[str] = []

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        if step == self.failing:
            raise ConnectionError("nobody answers")
        assert step is not None
        self.lines.setdefault(step, {}).update(metrics)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.settings |= params

    def log_image(self, key: str, images: list[np.ndarray]) -> None:
        self.images += images

    def finalize(self, status: str) -> None:
        self.status.append(status)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pretraining that nobody tracks."""
    out = tmp_path_factory.mktemp("plain") / "run"
    pretrain(GLYPHS, out=out, settings=SETTINGS)
    return out


def weights(out: Path) -> bytes:
    return (out / "encoder/encoder.safetensors").read_bytes()


def losses(out: Path) -> dict[int, float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes the next training end as a killed one does, when it asks for a step's batch; the one after goes on."""

    def arm(step: int) -> None:
        original, left = Batches.__call__, [1]

        def deadly(self: Batches, at: int) -> Any:
            if at == step and left:
                left.clear()
                raise Interrupted("killed")
            return original(self, at)

        monkeypatch.setattr(Batches, "__call__", deadly)

    return arm


def test_any_logger_is_told_all_and_changes_no_bit(plain: Path, tmp_path: Path) -> None:
    told, csv = Told(), CSVLogger(tmp_path / "csv")
    pretrain(GLYPHS, out=tmp_path / "run", settings=SETTINGS, track=[told, csv])
    assert weights(tmp_path / "run") == weights(plain)
    assert losses(plain) == {step: line["loss"] for step, line in told.lines.items()} and len(told.lines) == STEPS
    assert told.settings["training.epochs"] == "4" and "provenance.versions.torch" in told.settings
    result = read_json(tmp_path / "run/result.json")
    assert told.lines[STEPS]["result/operations"] == result["operations"] and told.status == ["success"]
    (image,) = told.images
    assert image.shape == (8 * 32, 3 * 32, 1) and image.dtype == np.uint8
    assert f"{losses(plain)[STEPS]}" in Path(csv.log_dir, "metrics.csv").read_text()
    pretrain(GLYPHS, out=tmp_path / "run", settings=SETTINGS, track=told)
    assert told.status == ["success"], "nothing is told of a run that was finished before"


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on(
    plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, good = Told(failing=3), Told()
    tracker = Tracker({"bad": bad, "good": good})
    run = RunFolder(tmp_path)
    run.tell = tracker.line
    for step in (1, 2, 3, 4):
        run.log({"step": step, "loss": 0.5, "validation": {"knn": 0.25}, "note": "x"})
    tracker.end("success")
    assert list(good.lines) == [1, 2, 3, 4] and good.lines[3] == {"loss": 0.5, "validation/knn": 0.25}
    assert list(bad.lines) == [1, 2] and not bad.status
    assert capsys.readouterr().err.count("warning: tracking by bad has ended: ConnectionError: nobody answers") == 1


def test_tensorboard_goes_on_in_the_runs_folder_without_steps_that_were_done_again(
    plain: Path, tmp_path: Path, stopped_at: Callable[[int], None]
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    out = tmp_path / "run"
    stopped_at(10)
    with pytest.raises(Interrupted):
        pretrain(GLYPHS, out=out, settings=SETTINGS, track="tensorboard")
    pretrain(GLYPHS, out=out, settings=SETTINGS, track="tensorboard")
    assert weights(out) == weights(plain)
    events = accumulator.EventAccumulator(str(out / TRACKED))
    events.Reload()
    assert {event.step: pytest.approx(event.value) for event in events.Scalars("loss")} == losses(plain)
    assert [event.step for event in events.Scalars("loss")] == list(range(1, STEPS + 1)), "each once"
    assert events.Tags()["images"] == ["reconstructions"]
    assert [event for event in events.Tags()["tensors"] if event.startswith("settings")]


def test_wandb_offline_goes_on_as_the_same_run(
    plain: Path, tmp_path: Path, stopped_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    stopped_at(10)
    with pytest.raises(Interrupted):
        pretrain(GLYPHS, out=out, settings=SETTINGS, track="wandb")
    pretrain(GLYPHS, out=out, settings=SETTINGS, track="wandb")
    assert weights(out) == weights(plain)
    name = read_json(out / TRACKED / "ids.json")["wandb"]
    sessions = sorted((out / TRACKED / "wandb").glob("offline-run-*"))
    assert len(sessions) == 2 and all(session.name.endswith(f"-{name}") for session in sessions)
    told = b"".join(next(session.glob("*.wandb")).read_bytes() for session in sessions)
    assert b"gradient_norm" in told or b"images_per_second" in told
    assert str(losses(plain)[STEPS]).encode() in told and b"training.epochs" in told
    assert list(sessions[1].glob("files/media/images/reconstructions*.png"))


def test_mlflow_in_a_file_store_goes_on_as_the_same_run(
    plain: Path, tmp_path: Path, stopped_at: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "masks")
    out = tmp_path / "run"
    stopped_at(10)
    with pytest.raises(Interrupted):
        pretrain(GLYPHS, out=out, settings=SETTINGS, track="mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("masks").experiment_id
    assert [run.info.status for run in client.search_runs([experiment])] == ["KILLED"]
    pretrain(GLYPHS, out=out, settings=SETTINGS, track="mlflow")
    assert weights(out) == weights(plain)
    (run,) = client.search_runs([experiment])
    assert run.info.status == "FINISHED" and run.data.params["training.epochs"] == "4"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert {metric.step: metric.value for metric in history} == losses(plain)
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["reconstructions.png"]
    logger = trackers.MLflowLogger(out, "again")
    logger.log_hyperparams({"training.epochs": "5", "new": 1})
    run = client.get_run(logger.run_id)
    assert run.data.params["training.epochs"] == "4" and run.data.tags["training.epochs"] == "5"
    attach(logger, out / "config.json")
    assert "config.json" in [file.path for file in client.list_artifacts(run.info.run_id)]


def test_a_study_is_a_run_beside_those_of_its_cells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: dict[str, Told] = {}
    monkeypatch.setitem(
        trackers.TRACKERS, "tensorboard", lambda folder, name, step: told.setdefault(folder.name, Told())
    )
    files: list[Path] = []
    monkeypatch.setattr(Told, "log_file", lambda self, path: files.append(path), raising=False)
    settings = tiny_settings(seeds=1, budgets=("2",), worth_budgets=(), scratch_long="none")
    table = study(
        tiny.GLYPHS,
        out=tmp_path / "mine",
        settings=settings,
        explain=False,
        images=False,
        names=False,
        track="tensorboard",
    )
    assert sorted(told) == ["mae-2-0", "mine", "pretrain-mae-0", "scratch-2-0"]
    assert all(len(set(one.status)) == 1 for one in told.values())
    level = next(row for row in table["levels"] if row["arm"] == "mae")
    assert told["mine"].lines[2][f"{level['metric']}/mae/mean"] == level["mean"]
    assert files == [tmp_path / "mine/report.html"] and told["mine"].settings["stage"] == "study"
    assert not any(one.images for one in told.values()), "--no-images"
    hidden = ("provenance", "data", "settings.data")
    assert not [key for one in told.values() for key in one.settings if key.startswith(hidden)], "--no-names"
    with pytest.raises(WhymaskError, match="a logger was given, which is one run"):
        study(tiny.GLYPHS, out=tmp_path / "other", settings=settings, track=Told())


def test_what_is_no_tracker_cannot_begin_or_is_not_installed_is_told_before_anything(
    tmp_path: Path, whymask: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(WhymaskError, match="expected tensorboard, wandb or mlflow"):
        pretrain(GLYPHS, out=tmp_path / "run", track="excel")
    with pytest.raises(WhymaskError, match="a logger of Lightning's interface, was expected"):
        pretrain(GLYPHS, out=tmp_path / "run", track=3)
    assert Tracking.of(None) is None and Tracking.of(()) is None

    def refuse(folder: Path, name: str, step: int) -> Logger:
        raise ConnectionError("no key")

    monkeypatch.setitem(trackers.TRACKERS, "tensorboard", refuse)
    with pytest.raises(WhymaskError, match="--track tensorboard cannot begin: no key"):
        pretrain(GLYPHS, out=tmp_path / "run", settings=SETTINGS, track="tensorboard")
    assert not (tmp_path / "run/config.json").exists(), "other settings may take the folder"
    run = RunFolder.open(tmp_path / "cell", {}, {})
    with tracked(Tracking(("tensorboard",)), run, {}, alone=False):
        assert run.tell is None
    assert "warning: --track tensorboard cannot begin: no key" in capsys.readouterr().err
    monkeypatch.setattr("whymask.stages.settings.find_spec", lambda name: None)
    assert whymask("pretrain", GLYPHS, "--out", tmp_path / "x", "--track", "wandb") == 2
    assert "--track wandb needs wandb; install it: pip install 'whymask[wandb]'" in capsys.readouterr().err


def test_a_run_that_is_tracked_later_is_told_what_was_before(tmp_path: Path, stopped_at: Callable[[int], None]) -> None:
    told = Told()
    stopped_at(10)
    with pytest.raises(Interrupted):
        pretrain(GLYPHS, out=tmp_path / "run", settings=SETTINGS)
    pretrain(GLYPHS, out=tmp_path / "run", settings=SETTINGS, track=told)
    assert sorted(told.lines) == list(range(1, STEPS + 1))


def test_pictures_and_files_go_to_what_takes_them() -> None:
    class Bare:
        experiment = None

    show(Bare(), "a", np.zeros((2, 2, 1), np.uint8))
    attach(Bare(), Path("page.html"))
    many = [np.zeros((4, 8, 6, 5), np.uint8)] * 3
    assert side_by_side(many).shape == (32, 18, 3) and side_by_side([np.zeros((2, 8, 6, 2), np.uint8)]).shape[-1] == 1
    assert dict(numbers_in({"a": {"b": 1, "c": True}, "d": None, "e": float("nan"), "f": 2.0})) == {"a/b": 1, "f": 2.0}


def test_of_processes_that_train_together_only_the_first_tracks(tmp_path: Path) -> None:
    told = Told()
    second: Any = SimpleNamespace(is_global_zero=False, world_size=2, broadcast=lambda made: made)
    record = RunRecord(stage="pretrain", arm="mae", seed=0, data="x")
    nothing: Any = None
    with Context(second, nothing, tracking=Tracking((told,))).open(tmp_path / "run", record) as run:
        assert run.tell is None
    assert not told.settings and not told.status and not (tmp_path / "run").exists()
