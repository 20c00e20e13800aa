"""The networks that are compared: loaded from run folders, sorted into arms, and checked to be comparable."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from whymask.data.batches import in_order
from whymask.data.moving import Moves
from whymask.data.prepare import Prepared
from whymask.data.preprocessing import Preprocessing
from whymask.disk import read_json
from whymask.encoders import Encoder, load_encoder
from whymask.encoders.checkpoints import is_run
from whymask.errors import WhymaskError
from whymask.explanations.batching import BATCH, fitting
from whymask.stages.network import Classifier, load_classifier
from whymask.stages.record import UNKNOWN, RunRecord, origin_of, read_record
from whymask.stages.settings import A_RUN, SCRATCH, AugmentName
from whymask.stages.start import pretrained_by, run_of
from whymask.stages.taken import STUDY, checked, leading_of, named
from whymask.tasks import Task, task_from
from whymask.tasks.budgets import Budget, parse_budget

Role = Literal["pretrained", "baseline", "erased", "readout", "random", "shuffled"]
ROLES: tuple[Role, ...] = ("pretrained", "baseline", "erased", "readout", "random", "shuffled")


@dataclass
class Member:
    """A network of a cast: a classifier of one seed of an arm.

    It takes images as `preprocessing` normalises them, the same tensor for all members of a cast, and brings them to
    its own normalisation.
    """

    role: Role
    arm: str
    seed: int
    classifier: Classifier
    preprocessing: Preprocessing
    run: "Run | None" = None

    def __post_init__(self) -> None:
        self.classifier.eval().requires_grad_(False)
        ours, own = self.preprocessing, self.encoder.transform
        mean, std, own_mean, own_std = (
            torch.tensor(values).view(-1, 1, 1) for values in (ours.mean, ours.std, own.mean, own.std)
        )
        self._scale, self._shift = std / own_std, (mean - own_mean) / own_std
        self._fitting: dict[str, int] = {}

    @property
    def encoder(self) -> Encoder:
        return self.classifier.encoder

    @property
    def device(self) -> torch.device:
        return self.classifier.head.weight.device

    def there(self, tensor: Tensor) -> Tensor:
        """The tensor, where the network is."""
        return tensor if tensor.device == self.device else Moves(self.device)(tensor)

    def see(self, images: Tensor) -> Tensor:
        """Images (B, C, h, w) as the network itself normalises them, on its device."""
        self._scale, self._shift = self.there(self._scale), self.there(self._shift)
        return self.there(images) * self._scale + self._shift

    def logits(self, images: Tensor) -> Tensor:
        """Logits float32 (B, k) of a batch, on the network's device."""
        return self.classifier(self.see(images)).float()

    def features(self, images: Tensor) -> Tensor:
        """Pooled features of the encoder float32 (B, D) of a batch, on the network's device."""
        return self.encoder.pool(self.encoder(self.see(images))).float()

    def at_once(self, kind: str, compute: Callable[..., object], *given: Tensor) -> int:
        """How many rows of `given` at a time `compute` gets; found once for each `kind` of it."""
        if self.device.type == "cpu":
            return fitting(self.device, compute, *given)
        if kind not in self._fitting:
            self._fitting[kind] = fitting(self.device, compute, *given)
        return self._fitting[kind]

    def together(self, kind: str, compute: Callable[..., Tensor], *given: Tensor) -> Tensor:
        """`compute` of rows of `given`, (n, ...) each, so many at a time as fit; joined on the network's device, which
        is asked nothing between them."""
        size = self.at_once(kind, compute, *given)
        return torch.cat([compute(*parts) for parts in zip(*(x.split(size) for x in given), strict=True)])

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 (B, k) on the CPU."""
        return self.together("logits", self.logits, images).cpu()

    @torch.inference_mode()
    def pooled(self, images: Tensor) -> np.ndarray:
        """Pooled features of the encoder, float32 (B, D)."""
        return self.together("features", self.features, images).cpu().numpy()

    @torch.inference_mode()
    def pooled_rows(self, prepared: Prepared, rows: np.ndarray) -> np.ndarray:
        """Pooled features float32 (n, D) of images of `prepared`, `BATCH` in memory at a time."""
        batches = in_order(prepared.images, rows, BATCH)
        return torch.cat([self.together("features", self.features, batch.images) for batch in batches]).cpu().numpy()

    @torch.inference_mode()
    def layers(self, images: Tensor) -> list[np.ndarray]:
        """What every layer makes of images (n, C, h, w), the mean over its positions: float32 (n, D) each."""

        def of_batch(part: Tensor) -> list[Tensor]:
            return [self.encoder.mean_over_positions(x) for x in self.encoder.outputs(self.see(part))]

        parts = [of_batch(part) for part in images.split(self.at_once("layers", of_batch, images))]
        return [torch.cat(layer).float().cpu().numpy() for layer in zip(*parts, strict=True)]

    def recognises(self, images: Tensor, labels: Tensor) -> Tensor:
        """Which images (B, C, h, w) are given their class: bool (B,)."""
        return self(images).argmax(dim=1) == labels


@dataclass(frozen=True)
class Run:
    """A trained classifier's folder and what is recorded of it.

    Attributes:
        arm: what it is called: its kind, or its folder where that would name two alike.
        training: settings of the resolved recipe; empty for runs of early versions that did not record them.
        origin: the pretraining's folder, if it is still there.
        task: None of one that was not trained here (`explanations.given`).
    """

    folder: Path
    arm: str
    record: RunRecord
    training: dict[str, Any] = field(compare=False)
    origin: Path | None
    task: Task | None = field(compare=False)

    def classifier(self, prepared: Prepared) -> Classifier:
        """The network, whose outputs are the classes of `prepared`."""
        return load_classifier(self.folder)[0]

    @property
    def kind(self) -> str:
        """ "scratch", the method of the pretraining that it started from, or "given" where it was not trained here."""
        return self.record.arm

    @property
    def seed(self) -> int:
        return self.record.seed

    @property
    def budget(self) -> Budget:
        return parse_budget(self.record.budget or "all")

    @property
    def augment(self) -> AugmentName:
        return self.record.augment or "none"

    @property
    def fingerprint(self) -> str:
        """Of the data that it was trained on."""
        return self.record.data

    @property
    def mask_ratio(self) -> float | None:
        """What pretraining hid, as a share; None where nothing says."""
        return self.record.mask_ratio


def open_runs(folders: Sequence[Path], cells: Sequence[str] = ()) -> list[Run]:
    """The runs in `folders`; of a study, those of the verdict's budget, or its `cells` of these names.

    Raises WhymaskError for a folder without a classifier, and for cells of other than one study.
    """
    if cells:
        if len(folders) != 1:
            raise WhymaskError(
                f"--cell {' '.join(cells)} was given with {len(folders)} folders; one study's was expected; give that, "
                "or the cells' own folders"
            )
        folders = [named(folders[0], cell) for cell in cells]
    runs: list[Run] = []
    for folder in folders:
        runs += _of_study(folder) if (folder / STUDY).exists() else [_run(folder)]
    return runs


def two_arms(runs: list[Run]) -> tuple[dict[int, Run], dict[int, Run]]:
    """The pretrained arm and the baseline, each a run a seed.

    Scratch is the baseline. Two runs of the same kind are named by their folders, and the first one is asked about.

    Raises WhymaskError for other than two arms, or two runs of one arm and seed.
    """
    if len(runs) == 2 and runs[0].folder == runs[1].folder:
        raise WhymaskError(f"{runs[0].folder} was given twice; two networks were expected; give another one beside it")
    if len(runs) == 2 and runs[0].arm == runs[1].arm:
        first, second = (replace(run, arm=run.folder.name) for run in runs)
        if first.arm == second.arm:
            first, second = (replace(run, arm=str(run.folder)) for run in runs)
        return {first.seed: first}, {first.seed: second}
    names = list(dict.fromkeys(run.arm for run in runs))
    if len(names) != 2:
        found = ", ".join(f"{name} ({sum(run.arm == name for run in runs)})" for name in names)
        raise WhymaskError(
            f"the runs are of these arms: {found}; two were expected, such as runs fine-tuned after pretraining and "
            "runs from scratch. Give runs of two arms, or one study."
        )
    twice = [key for key, count in Counter((run.arm, run.seed) for run in runs).items() if count > 1]
    if twice:
        raise WhymaskError(
            f"there are several runs of {twice[0][0]} with seed {twice[0][1]}; one a seed was expected. "
            "Give runs of one label budget."
        )
    pretrained, baseline = sorted(names, key=lambda name: (name == SCRATCH, names.index(name)))
    ours, theirs = ({run.seed: run for run in runs if run.arm == name} for name in (pretrained, baseline))
    arms = (ours, theirs)
    if not arms[0].keys() & arms[1].keys() and len(arms[0]) == len(arms[1]) == 1:
        (run,), (other,) = arms[0].values(), arms[1].values()
        return {run.seed: run}, {run.seed: other}
    if not arms[0].keys() & arms[1].keys():
        raise WhymaskError(
            f"{pretrained} has the seeds {sorted(arms[0])} and {baseline} {sorted(arms[1])}; at least one in common "
            "was expected, for networks are compared seed by seed."
        )
    return arms


def check_comparable(runs: Sequence[Run], encoders: Sequence[Encoder], task: Task, data: str) -> None:
    """Raises WhymaskError when runs have other classes than the data, or images of different sizes."""
    for run, encoder in zip(runs, encoders, strict=True):
        if run.task is None:
            continue
        if type(run.task) is not type(task):
            raise WhymaskError(
                f"{run.folder} is of a {run.task.text()}; the labels of {data} make a {task.text()}. The same task was "
                f"expected: give --task {run.task.name}, or the data that the runs were trained on."
            )
        if run.task != task:
            raise WhymaskError(
                f"{run.folder} has the {task.names_are} {_listed(run.task.names)}; the images of {data} have "
                f"{_listed(task.names)}. The same {task.names_are}, in the same order, were expected: give the data "
                "that the runs were trained on."
            )
        first = encoders[0]
        if (encoder.size, encoder.channels) != (first.size, first.channels):
            shapes = [f"{e.size[0]}x{e.size[1]} pixels and {e.channels} channels" for e in (encoder, first)]
            raise WhymaskError(
                f"{run.folder} sees images of {shapes[0]}, {runs[0].folder} of {shapes[1]}; the same size was "
                "expected, or regions of images would not be the same ones. Fine-tune one again with --size, or with "
                f"--like {runs[0].folder}."
            )


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _of_study(folder: Path) -> Iterator[Run]:
    study = read_json(folder / STUDY)
    setting, arms = study["setting"], (leading_of(study), SCRATCH)
    for row in study["cells"]:
        if row["arm"] in arms and row["labels_per_class"] == setting["verdict_labels_per_class"] and row["metrics"]:
            yield _run(folder / row["folder"])


def _run(folder: Path) -> Run:
    for name in ("result.json", "config.json"):
        if not (checked(folder, "classifier") / name).exists():
            raise WhymaskError(f"{folder} holds no finished classifier, for it has no {name}; {A_RUN}")
    record = read_record(folder)
    if rule := record.about.get("choose"):
        raise WhymaskError(
            f"{folder}: its labels were chosen ({rule}) and not drawn; what is trained and read out beside it would "
            "have other labels; give a cell of drawn labels"
        )
    origin = origin_of(folder, record)
    if origin is not None and record.arm == UNKNOWN:  # of an early version, or fine-tuned from an encoder alone
        record = replace(record, **pretrained_by(origin))
    return Run(
        folder=folder,
        arm=record.arm,
        record=record,
        training=record.training or read_json(folder / "result.json").get("training") or {},
        origin=run_of(origin) if origin is not None and is_run(run_of(origin)) else None,
        task=task_from(read_json(folder / "head.json")),
    )


def load_network(role: Role, run: Run, prepared: Prepared, device: str | torch.device = "cpu") -> Member:
    classifier = run.classifier(prepared).to(device)
    return Member(role, run.arm, run.seed, classifier, prepared.images.preprocessing, run)


def mixed(classifier: Classifier, mixing: np.ndarray) -> Classifier:
    """A classifier whose logits are sums, `mixing` (classes, k), of the outputs (k,) of another."""
    head, weights = classifier.head, torch.from_numpy(mixing).to(classifier.head.weight)
    result = Classifier(classifier.encoder, len(mixing)).to(head.weight.device)
    with torch.no_grad():
        result.head.weight.copy_(weights @ head.weight)
        result.head.bias.copy_(weights @ head.bias)
    return result


def load_pretrained(run: Run) -> Encoder | None:
    """The encoder that a run was fine-tuned from; None for scratch and where it is gone."""
    return None if run.origin is None else load_encoder(run.origin)
