"""Files of weights, read without executing anything that they hold: safetensors, whole or in shards, and pickles of
tensors alone."""

import argparse
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whymask.disk import read_json
from whymask.encoders.names import WRAPPERS, State
from whymask.errors import WhymaskError

WHOLE = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""What timm and transformers call the weights in a folder."""
SHARDS = "model.safetensors.index.json"


def file_in(path: Path) -> Path:
    """The file of weights at `path`: itself, or in a folder the one there, of shards their index."""
    if not path.is_dir():
        return path
    return next((path / name for name in (WHOLE[0], SHARDS, *WHOLE[1:]) if (path / name).exists()), path / WHOLE[0])


def files_of(path: Path) -> list[Path]:
    """The files of tensors at `path`, a checkpoint: one, or the shards that an index names."""
    file = file_in(path)
    if file.name != SHARDS:
        return [file]
    return [file.parent / str(name) for name in sorted(set(read_json(file).get("weight_map", {}).values()))]


def read_weights(file: Path, device: str = "cpu") -> tuple[State, dict[str, str]]:
    """The tensors in `file` and its metadata. On the device "meta" shapes alone are read.

    Raises:
        WhymaskError: for what is not there, damaged, no weights by name, or would execute something.
    """
    if not file.exists():
        raise WhymaskError(
            f"{file}: no such file; expected a checkpoint (safetensors, or a run folder). Check the path."
        )
    if file.name == SHARDS:
        return _read_shards(file, device)
    try:
        if file.suffix == ".safetensors":
            return _read_safetensors(file, device)
        with torch.serialization.safe_globals([argparse.Namespace]):  # MAE's and ConvNeXt's files hold their settings
            state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # damaged files and refused pickles raise whatever their reader likes
        reason = "not a whole safetensors file" if isinstance(error, SafetensorError) else "not a file of tensors alone"
        raise WhymaskError(
            f"{file} is {reason}, and nothing in it was executed ({type(error).__name__}). "
            "Give a safetensors file, or a pickle that holds only tensors."
        ) from error
    return _unwrapped(state, file), {}


def _read_safetensors(file: Path, device: str) -> tuple[State, dict[str, str]]:
    with safe_open(file, framework="pt") as opened:
        keys = list(opened.keys())
        if device != "meta":
            return {key: opened.get_tensor(key) for key in keys}, opened.metadata() or {}
        shapes = {key: opened.get_slice(key).get_shape() for key in keys}
        return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}, opened.metadata() or {}


def _read_shards(index: Path, device: str) -> tuple[State, dict[str, str]]:
    state: State = {}
    for file in files_of(index):
        state |= read_weights(file, device)[0]
    return state, {}


def _unwrapped(state: Any, file: Path) -> State:
    while isinstance(state, dict) and (inner := [w for w in WRAPPERS if isinstance(state.get(w), dict)]):
        state = state[inner[0]]
    if isinstance(state, dict):
        state.pop("config", None)  # SparK keeps its settings among the weights
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WhymaskError(f"{file} holds no weights by name. Give the state dict of a network, best as safetensors.")
    return state
