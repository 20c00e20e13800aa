"""The command line. Every flag is a field of the same typed settings that the Python functions take."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import timm
import tyro
from rich.console import Console
from rich.table import Table

import whymask
import whymask.theory
from whymask.encoders import kinds
from whymask.encoders.catalogue import support_of
from whymask.encoders.timm_names import PROVEN
from whymask.errors import WhymaskError
from whymask.export import TARGETS
from whymask.flags import Flat
from whymask.methods import METHODS
from whymask.progress import say
from whymask.training.loop import Interrupted
from whymask.training.settings import RuntimeSettings

Positional = tyro.conf.Positional
Data = Annotated[
    str,
    Positional,
    tyro.conf.arg(
        metavar="DATA",
        help="Images: a folder (any depth), a CSV of path and label, parquet, a Hugging Face data set on disk or by "
        "hub id, .npz, or the built-in glyphs (such as glyphs:unlabelled=2000,train=500).",
    ),
]
Run = Annotated[str, Positional, tyro.conf.arg(metavar="RUN", help="Folder of a finished run or study.")]


def study(
    data: Data,
    settings: Annotated[whymask.StudySettings, Flat],
    out: Path = Path("runs/study"),
    cells: str | None = None,
    hours: float | None = None,
    plan: bool = False,
    explain: bool = True,
    images: bool = True,
    names: bool = True,
) -> None:
    """Pretrain, fine-tune, train from scratch, and say how much pretraining helped.

    Args:
        out: Folder of the study. The same command continues it; finished cells are never run again.
        cells: Run only share i/n of the cells, such as 1/4; the page is made from what is there.
        hours: Fit the pretraining epochs to this many hours on this machine.
        plan: Only say what would run: cells, images, decode store, and the time, from 20 timed steps.
        explain: Say why, in short, once all cells are there; --no-explain leaves it out. "whymask explain" says more.
        images: Show images on the page; --no-images for data that must not leave.
        names: Show file and class names on the page; --no-names for data that must not leave.
    """
    whymask.study(
        data,
        out=out,
        settings=settings,
        cells=cells,
        hours=hours,
        plan=plan,
        explain=explain,
        images=images,
        names=names,
    )


def pretrain(
    data: Data, settings: Annotated[whymask.PretrainSettings, Flat], out: Path = Path("runs/pretrain")
) -> None:
    """Pretrain an encoder on unlabelled images.

    Args:
        out: Run folder. The same command continues it.
    """
    whymask.pretrain(data, out=out, settings=settings)


def finetune(
    data: Data, settings: Annotated[whymask.FinetuneSettings, Flat], out: Path = Path("runs/finetune")
) -> None:
    """Train a classifier on labelled images, from a pretrained encoder or from scratch, and test it.

    Args:
        out: Run folder. The same command continues it.
    """
    whymask.finetune(data, out=out, settings=settings)


def probe(data: Data, settings: Annotated[whymask.ProbeSettings, Flat], out: Path = Path("runs/probe")) -> None:
    """Nearest neighbours and a linear classifier on a frozen encoder's features.

    Args:
        out: Run folder, with both classifiers' numbers in result.json.
    """
    whymask.probe(data, out=out, settings=settings)


def predict(
    run: Run,
    data: Data,
    runtime: Annotated[RuntimeSettings, Flat],
    out: Path = Path("predictions.csv"),
    cell: str | None = None,
) -> None:
    """Classes and probabilities of images, as CSV.

    Args:
        out: File to write.
        cell: Which network of a study, a name under its cells/. Default: the pretrained arm (scratch where
            pretraining hurts), at the largest budget, first seed.
    """
    whymask.predict(run, data, out=out, cell=cell, runtime=runtime)


def embed(
    run: Run,
    data: Data,
    runtime: Annotated[RuntimeSettings, Flat],
    out: Path = Path("features.parquet"),
    cell: str | None = None,
) -> None:
    """Features of images, as parquet with the columns path and features.

    Args:
        out: File to write.
        cell: Which network of a study, a name under its cells/. Default: the first seed's pretrained encoder.
    """
    whymask.embed(run, data, out=out, cell=cell, runtime=runtime)


def explain(
    runs: Annotated[
        tuple[str, ...],
        Positional,
        tyro.conf.arg(metavar="RUNS", help="Fine-tuning runs of two arms, a seed each or several, or one study."),
    ],
    data: Annotated[str, tyro.conf.arg(help="The labelled images that the runs were trained and tested on.")],
    settings: Annotated[whymask.ExplainSettings, Flat],
    out: Path = Path("runs/why"),
    images: bool = True,
    names: bool = True,
) -> None:
    """Say why pretraining helped, or did not: which features each network captured.

    Args:
        out: Folder of explain.json and the page. The same command continues it.
        images: Show images on the page; --no-images for data that must not leave.
        names: Show file and class names on the page; --no-names for data that must not leave.
    """
    whymask.explain(runs, data, out=out, settings=settings, images=images, names=names)


def export(
    run: Run,
    to: Annotated[Literal[tuple(TARGETS)], tyro.conf.arg(help="The program that is to open it.")],  # type: ignore[valid-type]
    out: Path | None = None,
    cell: str | None = None,
    names: bool = True,
) -> None:
    """Write a trained network for timm, transformers, ONNX runtimes, or as safetensors, with a model card.

    Args:
        out: Folder to write. Default: RUN-TO beside the run.
        cell: Which network of a study, a name under its cells/. Default: the one that predict takes.
        names: Class names and paths in the card; --no-names leaves them out.
    """
    whymask.export(run, to, out=out, cell=cell, names=names)


def theory(settings: Annotated[whymask.theory.TheorySettings, Flat], out: Path = Path("runs/theory")) -> None:
    """Run the paper's two-layer model as an experiment: each claim a row of prediction against measurement.

    Args:
        out: Folder of claims.json, arrays.npz and the page. The same command continues; claims and seeds are added.
    """
    whymask.theory.theory(out, settings)


def list_methods(names: Annotated[tuple[str, ...], Positional] = ()) -> None:
    """Show the methods of pretraining, and which encoders each fits.

    Args:
        names: timm networks, such as resnet18 or "convnext*": shows of each whether it is proven to work as an
            encoder, untested, or impossible, and why.
    """
    Console().print(encoders_table(names) if names else methods_table())
    if not names:
        say("cnn, vit and two-layer are whymask's own encoders; any network of timm may be given by its name.")
        say(f"Proven: timm's {', '.join(PROVEN)}. 'whymask list NAME' says what a network's layers allow.")


def methods_table() -> Table:
    table = Table("method", *kinds(), "arXiv", "what it does")
    for name, method in METHODS.items():
        fits = ["yes" if kind in method.encoders else "" for kind in kinds()]
        table.add_row(name, *fits, method.source, (method.__doc__ or "").partition("\n")[0])
    return table


def encoders_table(patterns: tuple[str, ...]) -> Table:
    table = Table("encoder", "kind", "status", "why")
    for pattern in patterns:
        for name in timm.list_models(pattern) or [pattern]:
            found = support_of(name)
            table.add_row(found.name, found.kind, found.status, found.reason)
    return table


COMMANDS = {c.__name__: c for c in (study, pretrain, finetune, probe, explain, predict, embed, export, theory)} | {
    "list": list_methods
}


def main() -> None:
    """Entry point of `whymask`: exit code 2 for bad input, 130 after Ctrl-C."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="whymask",
            description="Does mask-reconstruction pretraining help on your images, how much, and what is it worth?",
        )
    except WhymaskError as error:
        say(f"error: {error}")
        sys.exit(2)
    except (Interrupted, KeyboardInterrupt) as stopped:
        say(str(stopped) or "stopped")
        sys.exit(130)


if __name__ == "__main__":
    main()
