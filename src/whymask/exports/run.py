"""`export`: a trained network, written for another program, with a model card."""

import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError

from whymask.disk import unwritable
from whymask.errors import WhymaskError
from whymask.exports.card import write_card
from whymask.exports.network import Exported, gather
from whymask.exports.settings import Target
from whymask.exports.to_onnx import write_onnx
from whymask.exports.to_safetensors import write_safetensors
from whymask.exports.to_timm import write_timm
from whymask.exports.to_transformers import write_transformers
from whymask.methods.files import ABOUT, DECODER
from whymask.progress import say
from whymask.stages.taken import study_of

TARGETS: dict[Target, Callable[[Exported, Path], str]] = {
    "timm": write_timm,
    "transformers": write_transformers,
    "onnx": write_onnx,
    "safetensors": write_safetensors,
}
"""How each is written: (what, folder) -> how to open it, as Python code. Each opens what it wrote and compares."""


def export(
    run: str | Path,
    to: Target,
    *,
    out: str | Path | None = None,
    cell: str | None = None,
    names: bool = True,
    encoder_alone: bool = False,
) -> Path:
    """Writes the network of `run` into the folder `out`, for `to`: "timm", "transformers", "onnx" or "safetensors".

    Of a pretraining run that is the encoder, with the decoder where there is a place for it; of a fine-tuning run the
    network with its head, or with `encoder_alone` without it; of a study the network that `predict` takes, or that of
    `cell`. Without `names`, class names and paths are left out.

    Returns the folder, by default RUN-TO beside the run, or beside the study whose cell it is.

    Raises:
        WhymaskError: where there is no network, the target has no form for it, the folder exists, or what was written
            does not compute the same.
    """
    if to not in TARGETS:
        raise WhymaskError(f"--to {to}: unknown; it is one of {', '.join(TARGETS)}")
    folder = Path(out) if out is not None else _beside(Path(run).resolve(), to)
    if folder.exists():
        raise WhymaskError(f"{folder} exists; give another --out, or remove it")
    say(f"export to {to}, written to {folder}, which takes seconds to minutes: what was written is opened and compared")
    what = gather(Path(run), cell, names, encoder_alone)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        opening = TARGETS[to](what, unfinished)
        for name in (DECODER, ABOUT) if what.method is not None else ():
            shutil.copyfile(what.source / name, unfinished / name)  # the decoder is kept whoever opens the rest
        write_card(what, to, opening, unfinished)
        unfinished.rename(folder)
    except (OSError, SafetensorError) as error:
        raise unwritable(folder, error) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    say(f"{what.title}: {folder}")
    return folder


def _beside(run: Path, to: Target) -> Path:
    study = study_of(run)  # among whose cells only cells lie
    return run.with_name(f"{run.name}-{to}") if study is None else study.with_name(f"{study.name}-{run.name}-{to}")
