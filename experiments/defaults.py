"""`python -m experiments.defaults`: which encoder and method to start with, on which images, at equal operations.

A trial is one network: pretrained by a method for so many counted operations (or not at all), and fine-tuned on few
labels, with one seed. Each runs in a process of its own on one thread. Finished ones are rows of trials.json beside the
results, and are not run again: so the table grows from day to day, and from a GPU's machine to this one.
"""

import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

from experiments.defaults_table import write_results
from experiments.defaults_trials import DATA, ENCODERS, OPERATIONS, TUNING, Trial, all_trials, source_of
from whymask.data.prepare import prepare
from whymask.data.settings import DataSettings
from whymask.disk import read_json, write_json
from whymask.encoders import EncoderConfig, build_encoder, load_encoder, resolve
from whymask.methods import resolve_method
from whymask.methods.settings import SETTINGS
from whymask.randomness import numpy_generator
from whymask.stages.classify import ClassifierJob, classifier_training, train_classifier
from whymask.stages.context import Context
from whymask.stages.pretrain import PretrainJob, pretrain_encoder, pretraining
from whymask.stages.recipes import resolve_finetuning, resolve_pretraining
from whymask.stages.settings import SCRATCH, AugmentName, FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.tasks.budgets import parse_budget
from whymask.training.device import make_fabric
from whymask.training.settings import RuntimeSettings

AUGMENT: AugmentName = "crop-flip"


def run_trial(trial: Trial, shared: Path, out: Path, device: Literal["cpu", "cuda"]) -> dict[str, Any]:
    """Pretrain (or not) and fine-tune; what was measured, or why the trial is left out."""
    folder = out / trial.name
    data = prepare(str(source_of(trial.data, shared, out)), DataSettings(), multiple_of=4)
    context = Context(make_fabric(RuntimeSettings(device=device, threads=1)), data)
    encoder = resolve(ENCODERS[trial.encoder], context.preprocessing.size, context.preprocessing.channels)
    tuning = tuning_of(trial, context, encoder)
    whole = classifier_training(context, tuning).operations()
    row = vars(trial) | {"finetuning_operations": whole}
    if whole > TUNING * trial.operations:
        return row | {"left_out": f"fine-tuning alone costs {whole:.1e} operations"}
    if trial.method == SCRATCH and any(TUNING * fewer >= whole for fewer in OPERATIONS if fewer < trial.operations):
        return row | {"left_out": "nothing is pretrained: it is the trial of fewer operations"}
    begun = time.monotonic()
    if trial.method != SCRATCH:
        row |= pretrain(trial, context, encoder, folder / "pretrain")
        tuning = replace(tuning, build=load_encoder(folder / "pretrain").train)
    metrics = train_classifier(context, tuning, folder / "finetune", trial.name)["metrics"]
    return row | {
        "balanced_accuracy": metrics["balanced_accuracy"],
        "seconds": time.monotonic() - begun,
        "device": context.provenance()["device"],
    }


def tuning_of(trial: Trial, context: Context, encoder: EncoderConfig) -> ClassifierJob:
    """Fine-tuning on the trial's labels, from the seed's first weights."""
    data, prep = context.prepared, context.preprocessing
    budget = parse_budget(DATA[trial.data].labels_per_class)
    rows = context.labelled_rows(budget, trial.seed)
    decay = 0.75 if "vit" in trial.encoder and trial.method != SCRATCH else 1.0
    return ClassifierJob(
        arm=trial.method,
        seed=trial.seed,
        budget=budget.name,
        rows=rows,
        test=data.test,
        config=encoder,
        build=lambda: build_encoder(encoder, prep.size, prep.channels, trial.seed),
        training=resolve_finetuning(FinetuneTrainingSettings(layer_decay=decay), len(rows), data, encoder),
        augment=AUGMENT,
    )


def pretrain(trial: Trial, context: Context, encoder: EncoderConfig, folder: Path) -> dict[str, Any]:
    """Pretrains for the trial's operations: to the nearest epoch, or where they are less than one, on so many images
    drawn by the seed, each seen once."""
    prepared = context.prepared
    job = PretrainJob(
        config=encoder,
        method=trial.method,
        method_config=resolve_method(trial.method, SETTINGS[trial.method](), encoder, context.preprocessing.size),
        training=resolve_pretraining(PretrainTrainingSettings(epochs=1), len(prepared.pool)),
        augment=AUGMENT,
        seed=trial.seed,
    )
    passes = trial.operations / pretraining(context, job).operations_per_image()
    pool = prepared.pool
    if passes < len(pool):
        order = numpy_generator(trial.seed, "defaults").permutation(len(pool))
        pool = pool[order[: max(job.training.batch_size, round(passes))]]
        context = replace(context, prepared=replace(prepared, pool=pool))
    job = replace(job, training=replace(job.training, epochs=max(1, round(passes / len(pool)))))
    result = pretrain_encoder(context, job, folder, trial.name)
    return {f"pretraining_{key}": result[key] for key in ("operations", "images_seen")}


def main(
    out: Path = Path("runs/defaults"),
    results: Path = Path("docs/results/defaults"),
    shared: Path = Path("../shared/data"),
    device: Literal["cpu", "cuda"] = "cpu",
    jobs: int = 2,
    operations: float = 1e13,
    only: tuple[str, ...] = ("",),
    minutes: float = 0,
    trial: str | None = None,
) -> None:
    """Run what is not finished, and write trials.json and the table.

    Args:
        out: where the runs are kept; the same command continues.
        results: where trials.json, of whose rows none is run again, and the table are written.
        shared: the folder of the data sets.
        jobs: trials at a time, one thread each.
        operations: the most that a pretraining of those that are run may cost.
        only: regular expressions: those whose names match the first one, then the next, and no others.
        minutes: stop after so many, what is begun to be continued; 0 for as long as it takes.
        trial: run this one alone, in this process, and write no table.
    """
    if trial is not None:
        write_json(out / trial / "measured.json", run_trial(Trial.of(trial), shared, out, device))
        return
    table = results / "trials.json"
    known = {row_name(row): row for row in read_json(table)["trials"]} if table.exists() else {}
    waiting = [each for each in all_trials() if each.name not in known and each.operations <= operations]
    waiting = list(dict.fromkeys(each for pattern in only for each in waiting if re.search(pattern, each.name)))
    ends = time.monotonic() + 60 * minutes if minutes else None

    def alone(each: Trial) -> dict[str, Any] | None:
        measured, left = out / each.name / "measured.json", None if ends is None else ends - time.monotonic()
        if not measured.exists() and (left is None or left > 0):
            measured.parent.mkdir(parents=True, exist_ok=True)
            given = ["--out", str(out), "--shared", str(shared), "--device", device, "--trial", each.name]
            command = [sys.executable, "-m", "experiments.defaults", *given]
            with (measured.parent / "log").open("w") as log, suppress(subprocess.TimeoutExpired):
                subprocess.run(command, stdout=log, stderr=log, check=False, timeout=left)
        return read_json(measured) if measured.exists() else None

    with ThreadPoolExecutor(jobs) as pool:
        for each, row in zip(waiting, pool.map(alone, waiting), strict=True):
            if row is not None:
                known[each.name] = row
                write_results(list(known.values()), results)
                print(each.name, row.get("left_out") or f"{row['balanced_accuracy']:.3f}", flush=True)
            elif ends is None or time.monotonic() < ends:
                print(f"{each.name} failed, see {out / each.name}/log", flush=True)
    write_results(list(known.values()), results)


def row_name(row: dict[str, Any]) -> str:
    return Trial(*(row[key] for key in ("data", "encoder", "method", "operations", "seed"))).name


if __name__ == "__main__":
    tyro.cli(main)
