"""`python -m experiments.dense`: does pretraining help to segment road scenes, or to find blood cells, and from which
images?

camvid-small (367 + 101 frames to train on, 233 to test on; 11 classes), mean IoU at 20, 100 and all labelled frames,
and bccd-voc (292 images to train on, 72 to test on; 3 classes), AP50 at 20, 80 and all labelled images: from scratch,
with as much more training, pretrained on their own images, and pretrained on 50 classes of Tiny-ImageNet, which stand
for public weights, as the paper's Table 1 transfers from ImageNet. Every study is a `whymask study`, whose folder goes
on where it was stopped.
"""

from collections.abc import Iterator
from pathlib import Path

import tyro

from experiments.photos import Step, asked_for, carry_out

CLASSES = (
    *("Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car"),
    *("Pedestrian", "Bicyclist"),
)
VOID = 11
SIZE = "96x128"
ENCODERS = {
    "vit": ["vit", "--width", "96", "--depth", "4", "--heads", "3", "--patch", "8"],
    "resnet18": ["resnet18"],
}
PAIRS = (("vit", "mae"), ("resnet18", "spark"), ("resnet18", "mae"), ("resnet18", "data2vec"))
"""The last one is the paper's way."""
EPOCHS = 6
"""Of 25,000 images of Tiny-ImageNet."""


def steps(shared: Path, out: Path, seeds: int) -> Iterator[Step]:
    """For each pair the pretraining on Tiny-ImageNet, and the studies that start from it."""
    for encoder, method in PAIRS:
        network, public = ["--size", SIZE, "--encoder", *ENCODERS[encoder]], f"public/{encoder}-{method}"
        pretraining = ("pretrain", str(shared / "tiny-imagenet-50"), "--method", method, "--epochs", str(EPOCHS))
        yield Step(public, (*pretraining, *network, "--seed", "100"))
        maps = ("--ignored", str(VOID), "--class-names", str(out / "classes.txt"))
        rest = ("--starts", "scratch", method, f"init={out / public}", "--seeds", str(seeds), *network)
        frames, cells = str(shared / "camvid-small"), str(shared / "bccd-voc")
        yield Step(f"camvid/{encoder}-{method}", ("study", frames, *maps, "--budgets", "20", "100", "all", *rest))
        boxes = ("--metric", "ap50", "--budgets", "20", "80", "all")
        yield Step(f"bccd/{encoder}-{method}", ("study", cells, *boxes, *rest))


def main(
    out: Path = Path("runs/dense"),
    results: Path = Path("docs/results/dense"),
    shared: Path = Path("../shared/data"),
    only: str = "",
    seeds: int = 3,
    threads: int = 1,
    minutes: float = 0,
) -> None:
    """Run what is not finished, one study after the other, and copy what is into `results`, pages without images.

    Args:
        out: where the runs are kept; the same command continues.
        results: where each study.json and page is copied to.
        shared: the folder of the data sets.
        only: steps whose name contains this, and what they start from.
        seeds: of each study.
        threads: of each command.
        minutes: stop after so many, with what is begun saved; 0 for as long as it takes.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    carry_out(asked_for(list(steps(shared, out, seeds)), only, out), out, results, threads, minutes)


if __name__ == "__main__":
    tyro.cli(main)
