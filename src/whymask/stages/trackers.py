"""Where a run may be tracked: TensorBoard, Weights & Biases, MLflow, each as a logger of Lightning Fabric's interface.

Each goes on with what it tracked of the folder before. What that was called is kept in the run's own folder.
"""

import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from whymask.disk import read_json, write_json
from whymask.fabric import Logger, TensorBoardLogger
from whymask.runs import TRACKED

PROJECT = "whymask"
"""Unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME says another."""
MOST_PARAMETERS = 100
"""Of a request to MLflow."""


def tensorboard(folder: Path, name: str, step: int) -> Logger:
    """Events in the run's folder; those of steps that are done again are taken back."""
    return TensorBoardLogger(folder, TRACKED, "", default_hp_metric=False, purge_step=step + 1 if step else None)


def wandb(folder: Path, name: str, step: int) -> Logger:
    return WandbLogger(folder, name)


def mlflow(folder: Path, name: str, step: int) -> Logger:
    return MLflowLogger(folder, name)


TRACKERS: Mapping[str, Callable[[Path, str, int], Logger]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}
"""(run's folder, its name, the step that it goes on from) -> a logger."""
HINTS = {
    "wandb": "wandb login, or WANDB_MODE=offline",
    "mlflow": "MLFLOW_TRACKING_URI names a server; the whole mlflow brings a database of its own",
}
"""What usually is to be mended."""


class WandbLogger(Logger):
    """A run of Weights & Biases, which goes on by its id. Steps are a number like others, so that those of a run that
    goes on from a checkpoint may come twice."""

    def __init__(self, folder: Path, name: str) -> None:
        import wandb

        ids = _ids(folder)
        ids.setdefault("wandb", secrets.token_hex(4))
        _keep(folder, ids)
        settings = wandb.Settings(console="off", silent=True, save_code=False, disable_git=True, reinit="create_new")
        self._name, self._id = name, ids["wandb"]
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        place = str(folder / TRACKED)
        self.experiment = wandb.init(
            project=project, name=name, id=self._id, dir=place, resume="allow", settings=settings
        )
        self.experiment.define_metric("*", step_metric="step")

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return str(self._id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log({**metrics, "step": step})

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        self.experiment.config.update(params, allow_val_change=True)

    def log_image(self, key: str, images: list[np.ndarray]) -> None:
        import wandb

        self.experiment.log({key: [wandb.Image(image) for image in images]})

    def log_file(self, path: Path) -> None:
        self.experiment.log_artifact(str(path), name=f"{path.stem}-{self._id}", type="page")

    def finalize(self, status: str) -> None:
        self.experiment.finish(exit_code=0 if status == "success" else 1)


class MLflowLogger(Logger):
    """A run of MLflow, at MLFLOW_TRACKING_URI, which goes on by its id where that server knows it."""

    def __init__(self, folder: Path, name: str) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.experiment, self._name = MlflowClient(), name
        ids = _ids(folder)
        try:
            self.experiment.update_run(ids["mlflow"], status="RUNNING")
            self.run_id = ids["mlflow"]
        except (KeyError, MlflowException):
            self.run_id = self.experiment.create_run(self._experiment_id(), run_name=name).info.run_id
            _keep(folder, ids | {"mlflow": self.run_id})

    def _experiment_id(self) -> str:
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self.experiment.get_experiment_by_name(title)
        return str(found.experiment_id if found is not None else self.experiment.create_experiment(title))

    @property
    def name(self) -> str:
        return self._name

    @property
    def version(self) -> str:
        return str(self.run_id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        told = [Metric(name, value, now, step or 0) for name, value in metrics.items()]
        self.experiment.log_batch(self.run_id, metrics=told)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """What was told before, and is now another, becomes a tag: MLflow's parameters never change."""
        from mlflow.entities import Param

        before = self.experiment.get_run(self.run_id).data.params
        told = [Param(name, str(value)) for name, value in params.items() if name not in before]
        for name in before.keys() & params.keys():
            if before[name] != str(params[name]):
                self.experiment.set_tag(self.run_id, name, str(params[name]))
        for at in range(0, len(told), MOST_PARAMETERS):
            self.experiment.log_batch(self.run_id, params=told[at : at + MOST_PARAMETERS])

    def finalize(self, status: str) -> None:
        kinds = {"success": "FINISHED", "failed": "FAILED"}
        self.experiment.set_terminated(self.run_id, kinds.get(status, "KILLED"))


def _ids(folder: Path) -> dict[str, str]:
    path = folder / TRACKED / "ids.json"
    return read_json(path) if path.exists() else {}


def _keep(folder: Path, ids: Mapping[str, str]) -> None:
    write_json(folder / TRACKED / "ids.json", dict(ids))
