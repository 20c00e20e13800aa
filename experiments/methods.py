"""`python -m experiments.methods`: every method beside training from scratch, on glyphs and on CIFAR-10 (JPEG q75).

A cell is one network: pretrained by a method (or not), fine-tuned and probed on a few labels, with one seed. Each runs
in a process of its own on one thread, so that its memory is its own, and leaves a folder; finished ones are not run
again.
"""

import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Protocol

import tyro

from experiments.methods_cells import ENCODER_SETTINGS, IMAGES, SCRATCH, VARIANTS, Cell, DataSet, all_cells
from experiments.methods_table import write_results
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import write_json
from whymask.encoders import EncoderSettings, build_encoder, load_encoder, resolve
from whymask.methods import MethodSettings, resolve_method
from whymask.stages.augment import resolve_augment
from whymask.stages.classify import ClassifierJob, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder, pretraining
from whymask.stages.probe import probe_encoder
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.tasks.budgets import parse_budget
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

NEIGHBOURS = 20
MEASURED = "measured.json"


def run_cell(cell: Cell, out: Path) -> dict[str, Any]:
    """Pretrain (or not), fine-tune, probe; what was measured."""
    images = IMAGES[cell.data]
    asked = None if cell.variant == SCRATCH else VARIANTS[cell.variant]

    def epochs(operations: float) -> int:
        return max(1, round(cell.share * images.epochs(operations, cell.variant, cell.encoder)))

    return train(cell, images, ENCODER_SETTINGS[cell.encoder], asked, epochs, out / cell.name)


class Named(Protocol):
    """A network of an experiment."""

    @property
    def name(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def seed(self) -> int: ...


def train(
    cell: Named,
    images: DataSet,
    encoder_settings: EncoderSettings,
    asked: tuple[str, MethodSettings] | None,
    epochs: Callable[[float], int],
    folder: Path,
) -> dict[str, Any]:
    """Pretrain by a method as `asked` (or not), for as many `epochs` as a pass's operations say; fine-tune, probe."""
    data = prepare(images.source, DataSettings(), multiple_of=8)
    context = Context(make_fabric(RuntimeSettings(device="cpu", threads=1)), data)
    prep = context.preprocessing
    encoder = resolve(encoder_settings, prep.size, prep.channels)
    augment = resolve_augment("auto", data.name)
    measured: dict[str, Any] = {"cell": cell.name}
    if asked is None:
        network = build_encoder(encoder, prep.size, prep.channels, cell.seed)
    else:
        job = PretrainJob(
            config=encoder,
            method=asked[0],
            method_config=resolve_method(*asked, encoder, prep.size),
            training=resolve_pretraining(PretrainTrainingSettings(epochs=1), len(data.pool)),
            augment=augment,
            seed=cell.seed,
        )
        measured |= pretrain(cell, context, job, epochs, folder / "pretrain")
        network = load_encoder(folder / "pretrain")
    budget = parse_budget(str(images.labels_per_class))
    rows = context.labelled_rows(budget, cell.seed)
    probed = probe_encoder(network, data, rows, NEIGHBOURS, cell.seed)
    measured |= {name: probed[name] for name in ("linear", "knn")}
    decay = 0.75 if encoder.kind == "vit" and asked is not None else 1.0
    tuning = ClassifierJob(
        arm=cell.variant,
        seed=cell.seed,
        budget=budget.name,
        rows=rows,
        test=data.test,
        config=encoder,
        build=network.train,
        training=resolve_finetuning(FinetuneTrainingSettings(layer_decay=decay), len(rows), data, encoder),
        augment=augment,
    )
    return measured | {"finetuned": train_classifier(context, tuning, folder / "finetune", cell.name)["metrics"]}


def pretrain(
    cell: Named, context: Context, job: PretrainJob, epochs: Callable[[float], int], folder: Path
) -> dict[str, Any]:
    """Pretrains for so many epochs; what was measured."""
    operations = pretraining(context, replace(job, seed=0)).operations_per_image() * len(context.prepared.pool)
    job = replace(job, training=replace(job.training, epochs=epochs(operations)))
    result = pretrain_encoder(context, job, folder, cell.name)
    return {f"pretraining_{key}": result[key] for key in ("loss", "seconds", "operations", "images_seen")} | {
        "epochs": job.training.epochs,
        "warning": result.get("warning"),
        "images_per_second": result["images_seen"] / result["seconds"],
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def main(
    out: Path = Path("runs/methods"),
    results: Path = Path("docs/results/methods"),
    jobs: int = 2,
    data: Literal["all", "glyphs", "cifar10-jpeg"] = "all",
    cell: str | None = None,
) -> None:
    """Run what is not finished, and write table.json and the page.

    Args:
        out: where the runs are kept; the same command continues.
        results: where the table and the page are written.
        jobs: cells at a time, one thread each.
        data: only these images.
        cell: run this one alone, in this process, and write no table.
    """
    if cell is not None:
        write_json(out / cell / MEASURED, run_cell(Cell.of(cell), out))
        return
    run_waiting([c for c in all_cells() if data in ("all", c.data)], out, jobs, "experiments.methods")
    write_results(out, results)


def run_waiting(cells: Sequence[Named], out: Path, jobs: int, module: str) -> None:
    """Those that are not finished, each in a process of its own, `jobs` at a time."""
    waiting = [cell for cell in cells if not (out / cell.name / MEASURED).exists()]
    with ThreadPoolExecutor(jobs) as pool:
        codes = pool.map(lambda cell: run_alone(cell, out, module), waiting)
        for done, (cell, code) in enumerate(zip(waiting, codes, strict=True), start=1):
            failed = "" if code == 0 else f" failed, see {out / cell.name}/log"
            print(f"[{done}/{len(waiting)}] {cell.name}{failed}", flush=True)


def run_alone(cell: Named, out: Path, module: str) -> int:
    """The cell in a process of its own; its exit code. What it says is kept in its folder's log."""
    if (out / cell.name / MEASURED).exists():  # by another process in the meantime
        return 0
    (out / cell.name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", module, "--out", str(out), "--cell", cell.name]
    with (out / cell.name / "log").open("w") as log:
        return subprocess.run(command, stdout=log, stderr=log, check=False).returncode


if __name__ == "__main__":
    tyro.cli(main)
