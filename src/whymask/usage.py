"""Help that can be read: of each long command the options that are common, in words; all of them by --help-all."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tyro

from whymask.flags import Flag, flags_of, narrowed

HELP, ALL = ("-h", "--help"), "--help-all"
WIDTH = 100
"""Columns of help, where the terminal does not say."""

_ANY = {
    "--out": "Folder of the results; the same command continues it.",
    "--device": "Where to compute. auto: on a GPU if there is one.",
    "--threads": "CPU threads. Default: chosen by PyTorch.",
}
_OF_IMAGES = {
    "--labels": "Labelled images, where DATA has no labels: a folder with one subfolder a class, a CSV, parquet. "
    "Default: DATA itself.",
    "--size": "Side of the images as the network sees them, in pixels. Default: their own up to 96, else 96.",
    "--encoder": "The network: cnn, vit, or one of timm's names (see whymask list).",
    "--method": "How to pretrain (see whymask list).",
    "--width": "Width of the network. Default: 32 channels (cnn), 192 numbers a token (vit).",
    "--augment": "Changes to the training images: auto, none, crop, crop-flip or MODULE:FUNCTION. auto: random crops "
    "and flips, none for glyphs.",
    "--seed": "Seed of every random draw.",
    "--pretrain.epochs": "Passes over the images in pretraining. Default: chosen by the number of images, 10 to 50.",
    "--pretrain.batch-size": "Images a step of pretraining.",
    "--pretrain.learning-rate": "Largest learning rate of pretraining. Default: 1e-3 at 128 images a step, "
    "growing with their square root.",
    "--finetune.epochs": "Passes over the labelled images. Default: chosen by their number, 8 to 40.",
    "--finetune.batch-size": "Images a step of fine-tuning.",
    "--finetune.learning-rate": "Largest learning rate of fine-tuning. Default: 1e-3 at 32 images a step, "
    "growing with their square root.",
    "--task": "What the labels are. auto: one class an image, unless they look like several or like numbers.",
    "--test-share": "Share of the labelled images to test on, where the data name no test images. "
    "Default: a fifth, or of few labels more, up to a half.",
    "--group-by": "What tells which images belong together (a patient, a video): a column, or a regular expression on "
    "file names. They are never on both sides of a split. Default: each image is its own.",
    "--budget": "How many labels to use: a number a class (10), a share (1%), or all.",
    "--store": "Folder for decoded images. Default: $WHYMASK_STORE, else ~/.cache/whymask.",
    "--images": "Keep images off the page, for data that must not leave.",
    "--names": "Keep file and class names off the page, for data that must not leave.",
}
_OR_NONE = (
    "Labelled images, where DATA has no labels; none: no image is labelled, also where names of folders look like "
    "classes. Default: DATA itself."
)
_OF: Mapping[str, Mapping[str, str]] = {
    "study": {
        "--plan": "Only say what would run, how long it takes, and what the test images can show.",
        "--hours": "Pretrain for as long as makes the study take so many hours. Default: no limit.",
        "--explain": "Leave out why pretraining helped or did not.",
        "--final": "Leave a network to use, trained on all labels. Default: auto, where pretraining helps.",
        "--seeds": "Independent repetitions; a verdict needs 3. Default: 5, or 3 in few hours.",
        "--budgets": "Labels to fine-tune on: numbers a class (10), shares (1%) or all. Default: about a fifth of the "
        "median class, and all.",
        "--metric": "What the verdict is about. Default: balanced accuracy, mean average precision or mean absolute "
        "error, as the labels are.",
        "--margin": "The smallest difference that matters, as a share of the metric's range.",
        "--scratch-long": "At which budgets training from scratch also gets pretraining's compute.",
        "--init": "A checkpoint to compare with, as a further arm: public weights, for one. Default: none.",
        "--search": "Choose learning rates first, alike for every arm.",
    },
    "pretrain": {
        "--labels": _OR_NONE,
        "--from": "Weights to start from: a run's folder or a checkpoint. Default: new weights.",
    },
    "finetune": {
        "--from": "What to start from: a pretraining run's folder, a checkpoint, or scratch.",
        "--like": "A run whose settings to take, to compare with it: whatever is not given here. Default: none.",
        "--finetune.train": "all: the whole network is trained; head: the classifier alone, on a frozen encoder.",
        "--finetune.class-weights": "balanced: each class weighs alike, however many images it has.",
    },
    "probe": {
        "--from": "What to ask: a pretraining run's folder or a checkpoint.",
        "--neighbours": "How many nearest neighbours vote.",
    },
    "data": {
        "--labels": _OR_NONE,
        "--out": "Page to write.",
        "--looked": "How many images to open, evenly spaced; 0 opens all.",
        "--frames": "Of several frames or pages: see the first, make each an image, or make them channels.",
        "--tile": "Side of the squares, in pixels, that each file is cut into. Default: files stay whole.",
        "--reader": "MODULE:FUNCTION that opens a file, for formats that nothing here opens. Default: whymask's own.",
    },
    "map": {
        "--labels": _OR_NONE,
        "--out": "Page to write.",
        "--cell": "Which network of a study, a name under its cells/. Default: that of embed.",
        "--layout": "Where points lie: pca, or umap beside it. Default: auto, umap where it is installed.",
        "--points": "How many images are shown, evenly spaced.",
        "--neighbours": "How many nearest images are listed of each.",
    },
    "explain": {
        "--data": "The labelled images that the runs were trained and tested on.",
        "--measures": "What to measure. Default: all that the images allow.",
        "--test-images": "On how many test images.",
        "--interaction-images": "On how many of these the interactions are computed, which take the longest.",
        "--label": "Where an image may show several classes: the one to ask about. Default: the one that half of the "
        "images come nearest to showing.",
        "--controls": "Do not train the networks that stand beside the two; most conclusions then stay open.",
    },
    "theory": {
        "--quick": "The claims and seeds that take about a minute.",
        "--claims": "Which claims to measure. Default: all.",
        "--seeds": "Independent networks a claim, or a range (10:20). Default: 20; with --quick 5.",
        "--k": "Classes.",
        "--m": "Kernels a class.",
        "--d": "Numbers a patch. Default: chosen by the number of classes.",
        "--N": "Training images a seed. Default: 200 a class.",
        "--epochs": "Passes over the images in training from scratch.",
        "--theta": "Share of the patches that a mask keeps.",
    },
}
"""What a flag is, and in words what it is where it is not given; a default that is a value is added to them."""


def common(command: str) -> Mapping[str, str]:
    """Of a command whose help is short: the flags that it shows and their words. Empty for one that shows all."""
    if command not in _OF:
        return {}
    return {**_ANY, **({} if command == "theory" else _OF_IMAGES), **_OF[command]}


def asks_for_help(arguments: Sequence[str]) -> bool:
    return any(argument in (*HELP, ALL) for argument in arguments)


def show_help(name: str, command: Callable[..., Any], arguments: Sequence[str], method: str | None) -> None:
    """Print the help of a command; with --help-all every option of it, and of the methods the one given."""
    words = {} if ALL in arguments else common(name)
    flags = flags_of(command)
    methods = next((flag.words for flag in flags if flag.name == "--method"), ())

    def change(flag: Flag) -> Any:
        if (words and flag.name not in words) or (flag.group in methods and flag.group != method):
            return tyro.conf.Suppress
        shown = flag.default is not None and flag.default != () and not flag.is_switch
        return tyro.conf.arg(
            help=words.get(flag.name),
            metavar="A B ..." if flag.takes_several and not flag.words else None,
            help_behavior_hint=None if shown or flag.is_required else "",
        )

    os.environ.setdefault("COLUMNS", str(WIDTH))
    tyro.cli(
        narrowed(command, change, described=not words),
        args=["--help"],
        prog=f"whymask {name}",
        description=_description(name, command, bool(words), methods, method),
        config=(tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff),
    )


def _description(
    name: str, command: Callable[..., Any], is_short: bool, methods: Sequence[str], method: str | None
) -> str:
    first = (command.__doc__ or "").partition("\n")[0]
    if is_short:
        of = f",\nand with --method NAME those of that method ({', '.join(methods)})" if methods else ""
        return f"{first}\n\nThese are the common options. whymask {name} {ALL} shows all{of}."
    others = ", ".join(other for other in methods if other != method)
    if not others:
        return first
    return f"{first}\n\nOptions of {method} are shown. Those of another method: --method NAME {ALL}\n({others})."
