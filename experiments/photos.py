"""`python -m experiments.photos`: studies of real photos. Which road to take, and does scratch learn one part of two?

*roads*: CIFAR-10 (JPEG q75) and 50 classes of Tiny-ImageNet, each with own pretraining beside weights that were
pretrained on the other set, which stand for public ones: fine-tuned, pretrained further, frozen. *composites*: images
of two parts, each of which tells the class. Every study is a `whymask study`; its folder goes on where it was stopped,
on whatever device: what a lent GPU did in its minutes is copied into --out, and the same command here does the rest.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from experiments.defaults_trials import write_parquet

Scale = Literal["cpu", "gpu"]
ENCODERS: dict[Scale, dict[str, list[str]]] = {
    "cpu": {"vit": ["vit", "--width", "96", "--depth", "4", "--heads", "3"], "resnet": ["resnet10t"]},
    "gpu": {"vit": ["vit", "--width", "192", "--depth", "12"], "resnet": ["resnet50"]},
}
"""What a core trains in minutes, and what the field would take."""
EPOCHS: dict[Scale, int] = {"cpu": 6, "gpu": 100}
"""Of a pretraining on 50,000 images."""
PASSES = {"cifar10-jpeg": 1, "tiny-imagenet-50": 2}
"""Times as many epochs, of fewer images."""
ROADS = {"cifar10-jpeg": ("32", "50", "500"), "tiny-imagenet-50": ("64", "10", "100")}
"""Image size, and labels a class."""
OTHER = {"cifar10-jpeg": "tiny-imagenet-50", "tiny-imagenet-50": "cifar10-jpeg"}
METHODS = {"vit": ("mae", "data2vec2"), "cnn": ("mae", "data2vec")}
SECONDS_TO_STOP = 20


@dataclass(frozen=True)
class Step:
    """A command of whymask that leaves a folder of this name."""

    name: str
    arguments: tuple[str, ...]


def roads(shared: Path, out: Path, scale: Scale, seeds: int) -> Iterator[Step]:
    """The stand-ins for public weights, and the studies that start from them."""
    for encoder, asked in ENCODERS[scale].items():
        for data, (size, *budgets) in ROADS.items():
            epochs, own = (str(EPOCHS[scale] * PASSES[pretrained_on]) for pretrained_on in (OTHER[data], data))
            network, public = ["--size", size, "--encoder", *asked], f"public/{OTHER[data]}-{size}-{encoder}"
            given = ("pretrain", str(shared / OTHER[data]), "--epochs", epochs, *network)
            yield Step(public, (*given, "--seed", "100"))
            starts = [f"{kind}={out / public}" for kind in ("init", "continue", "frozen")]
            told = ("study", str(shared / data), "--starts", "scratch", "mae", *starts, "--budgets", *budgets)
            rest = ("--seeds", str(seeds), "--pretrain.epochs", own, "--metric", "accuracy", *network)
            yield Step(f"roads/{data}-{encoder}", (*told, *rest))


def composites(shared: Path, out: Path, scale: Scale, seeds: int) -> Iterator[Step]:
    """A CIFAR-10 photo above a garment, and a photo of one half of Tiny-ImageNet's classes above one of the other."""
    halves = [out / "data" / f"tiny-imagenet-50-{half}" for half in ("first", "second")]
    pairs = {
        "photo-garment": f"A={shared / 'cifar10-jpeg'},B={shared / 'fashion-mnist'},unlabelled=10000,side=32",
        "photo-photo": f"A={halves[0]},B={halves[1]},unlabelled=10000,side=32,train=2000",
    }
    for data, parts in pairs.items():
        for encoder, asked in (("cnn", ["cnn"]), ("vit", ENCODERS[scale]["vit"])):
            for method in METHODS[encoder]:
                told = ("study", f"composites:{parts}", "--method", method, "--encoder", *asked)
                rest = ("--seeds", str(seeds), "--pretrain.epochs", "100" if scale == "gpu" else "20")
                yield Step(f"composites/{data}-{encoder}-{method}", (*told, *rest))


def write_halves(shared: Path, out: Path) -> None:
    """The first and the last 25 of the 50 classes, as sets of their own with labels from 0."""
    import pyarrow
    from pyarrow import compute, parquet

    for file in sorted((shared / "tiny-imagenet-50").glob("*.parquet")):
        for half, low in {"first": 0, "second": 25}.items():
            target = out / "data" / f"tiny-imagenet-50-{half}" / file.name
            if target.exists():
                continue
            table = parquet.read_table(file)
            labels = table["label"]
            kept = compute.and_(compute.greater_equal(labels, low), compute.less(labels, low + 25))
            table = table.filter(kept)
            names = pyarrow.array([f"class {label:02d}" for label in table["label"].to_pylist()])
            table = table.set_column(table.column_names.index("label"), "label", names).replace_schema_metadata(None)
            write_parquet(target, table)


def main(
    out: Path = Path("runs/photos"),
    results: Path = Path("docs/results/photos"),
    shared: Path = Path("../shared/data"),
    scale: Scale = "cpu",
    only: str = "",
    road_seeds: int = 3,
    composite_seeds: int = 5,
    threads: int = 1,
    minutes: float = 0,
) -> None:
    """Run what is not finished, one study after the other, and copy what is into `results`, pages without images.

    Args:
        out: where the runs are kept; the same command continues.
        results: where each study.json and page is copied to.
        shared: the folder of the data sets.
        scale: networks and epochs for a core, or for a GPU.
        only: steps whose name contains this, and what they start from.
        road_seeds: of each study of roads.
        composite_seeds: of each study of composites.
        threads: of each command.
        minutes: stop after so many, with what is begun saved; 0 for as long as it takes.
    """
    write_halves(shared, out)
    steps = [*roads(shared, out, scale, road_seeds), *composites(shared, out, scale, composite_seeds)]
    carry_out(asked_for(steps, only, out), out, results, threads, minutes)


def asked_for(steps: Sequence[Step], only: str, out: Path) -> list[Step]:
    """The steps whose name contains `only`, and those before them whose folders they start from."""
    told = " ".join(" ".join(step.arguments) for step in steps if only in step.name)
    return [step for step in steps if only in step.name or f"{out / step.name}" in told]


def carry_out(steps: Iterable[Step], out: Path, results: Path, threads: int, minutes: float) -> None:
    """Each step in turn, in a process of its own; of studies the page, without images, and study.json in `results`."""
    ends = time.monotonic() + 60 * minutes - SECONDS_TO_STOP if minutes else None
    for step in steps:
        folder, is_study = out / step.name, step.arguments[0] == "study"
        less = ["--no-images", "--final", "no"] if is_study else []  # nobody uses these networks
        command = [sys.executable, "-m", "whymask.cli", *step.arguments, "--threads", str(threads), *less]
        if not finished_by(ends, [*command, "--out", str(folder)], out / f"{step.name}.log"):
            print(f"{step.name}: to be continued by the same command", flush=True)
            return
        print(f"{step.name}: finished", flush=True)
        if is_study:
            (results / step.name).mkdir(parents=True, exist_ok=True)
            for name in ("study.json", "report.html"):
                shutil.copy(folder / name, results / step.name / name)


def finished_by(ends: float | None, command: list[str], log: Path) -> bool:
    """Whether the command finished before `ends`; it is asked to stop then, which saves where it is.

    Raises CalledProcessError for one that failed."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            code = process.wait(None if ends is None else max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.terminate()
            process.wait()
            return False
    if code:
        raise subprocess.CalledProcessError(code, command)
    return True


if __name__ == "__main__":
    tyro.cli(main)
