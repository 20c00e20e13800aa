"""A method's own weights (decoder, mask token, predictor), kept beside the encoder that they were trained with."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from whymask.disk import damaged, read_json, read_tensors, write_tensors
from whymask.encoders import Encoder, load_encoder, load_strictly
from whymask.errors import WhymaskError
from whymask.methods.base import Method
from whymask.methods.build import build_method, method_of, resolve_method, settings_for
from whymask.runs import folder_with

DECODER, ABOUT = "decoder.safetensors", "decoder.json"
NOT_OWN = ("encoder.", "teacher.")
"""A teacher is an average of encoders, which ends with pretraining."""


def save_method(model: Method, name: str, folder: Path) -> None:
    """decoder.safetensors and decoder.json in `folder`, from which `load_method` makes the method again."""
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(NOT_OWN)}
    config = asdict(settings_for(name, model.config))
    write_tensors(folder / DECODER, own, {"schema": 1, "method": name, "config": config})


def load_method(path: str | Path, encoder: Encoder | None = None) -> Method:
    """The method that pretrained in the run folder `path`, in eval mode, with its encoder and its own weights.

    Raises:
        WhymaskError: where there is no pretraining run, or its files are damaged.
    """
    folder = Path(path)
    if not (folder / ABOUT).exists() or not (folder / DECODER).exists():
        raise WhymaskError(f"{folder} keeps no method ({ABOUT}, {DECODER}); give a finished pretraining run")
    try:
        about = read_json(folder / ABOUT)
        name = about["method"]
        listed = {key: tuple(value) if isinstance(value, list) else value for key, value in about["config"].items()}
        asked = method_of(name).Settings(**listed)
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder / ABOUT, repr(error)) from error
    encoder = encoder or load_encoder(folder)
    model = build_method(name, encoder, resolve_method(name, asked, encoder.config, encoder.size), seed=0)
    load_own(model, folder)
    return model.eval()


def load_own(model: Method, folder: Path) -> None:
    """Loads the method's own weights from `folder` strictly."""
    rest = {key: value for key, value in model.state_dict().items() if key.startswith(NOT_OWN)}
    load_strictly(model, rest | read_tensors(folder / DECODER), folder / DECODER)


def folder_of(path: Path) -> Path:
    """The run folder that a path into it belongs to."""
    return folder_with(ABOUT, path) or path


def kept_method(folder: Path) -> tuple[str, dict[str, Any]] | None:
    """Name and settings of the method whose weights are kept in `folder`; None where there is none."""
    if not (folder / ABOUT).exists() or not (folder / DECODER).exists():
        return None
    try:
        about = read_json(folder / ABOUT)
        return about["method"], about["config"]
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder / ABOUT, repr(error)) from error
