"""Encoders: one wrapper a kind of network over timm's models, how they are built, saved and loaded."""

import json
from dataclasses import asdict, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from_bytes
from safetensors.torch import save as tensors_to_bytes

from whymask.data.preprocessing import Preprocessing
from whymask.encoders.base import Encoder, EncoderConfig
from whymask.encoders.cnn import CNNEncoder
from whymask.encoders.swin import SwinEncoder
from whymask.encoders.timm_names import is_timm, kind_of
from whymask.encoders.two_layer import TwoLayerEncoder
from whymask.encoders.vit import ViTEncoder
from whymask.errors import WhymaskError
from whymask.randomness import seeded
from whymask.runs import write_bytes, write_json

__all__ = [
    "ENCODERS",
    "Encoder",
    "EncoderConfig",
    "build_encoder",
    "encoder_class",
    "load_encoder",
    "load_strictly",
    "notes",
    "read_tensors",
    "resolve",
    "save_encoder",
]

SCHEMA = 1
WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"

ENCODERS: dict[str, type[Encoder]] = {
    "cnn": CNNEncoder,
    "vit": ViTEncoder,
    "two-layer": TwoLayerEncoder,
}
"""whymask's own names; any other name is a network of timm."""

KINDS: dict[str, type[Encoder]] = {kind.kind: kind for kind in (CNNEncoder, ViTEncoder, SwinEncoder, TwoLayerEncoder)}


def encoder_class(name: str) -> type[Encoder]:
    """The wrapper of the encoder `name`. Raises WhymaskError, with the nearest names, for one that does not exist."""
    if name in ENCODERS or name == "auto":
        return ENCODERS["cnn" if name == "auto" else name]
    if is_timm(name):
        return KINDS[kind_of(name)]
    near = get_close_matches(name, [*ENCODERS, *filter(is_timm, timm.list_models())], cutoff=0.3) or list(ENCODERS)
    raise WhymaskError(
        f"unknown encoder {name!r}; nearest: {', '.join(near)} (all: auto, {', '.join(ENCODERS)}, and timm's names)"
    )


def resolve(config: EncoderConfig, size: tuple[int, int], channels: int) -> EncoderConfig:
    """Fills in every setting that is None for images of `size` (height, width) in pixels and `channels`.

    Raises:
        WhymaskError: for an unknown name, a setting that the encoder does not have, or one that does not fit the size.
    """
    name = "cnn" if config.name == "auto" else config.name
    if channels < 1:
        raise WhymaskError(f"images of {channels} channels; at least 1 is needed")
    return encoder_class(name).resolve(replace(config, name=name), size)


def notes(config: EncoderConfig, size: tuple[int, int]) -> list[str]:
    """What a user should know of how a resolved `config` was fitted to images of `size`, a sentence each."""
    return encoder_class(config.name).notes(config, size)


def build_encoder(config: EncoderConfig, size: tuple[int, int], channels: int, seed: int) -> Encoder:
    """A new encoder with weights drawn from `seed`: the same seed and settings give the same weights."""
    config = resolve(config, size, channels)
    with seeded(seed, "encoder"):
        return encoder_class(config.name)(config, size, channels)  # type: ignore[call-arg]


def save_encoder(
    encoder: Encoder, preprocessing: Preprocessing, folder: Path, extra: dict[str, Any] | None = None
) -> None:
    """Writes `folder`/encoder.safetensors, the timm network's state, and encoder.json, from which it is rebuilt.

    ``timm.create_model(d["timm"]["name"], **d["timm"]["kwargs"])`` with the dict `d` of encoder.json takes the state
    strictly (for "plain_cnn" after ``import whymask.encoders``). `extra` is added to encoder.json.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in encoder.net.state_dict().items()}
    description = {
        "schema": SCHEMA,
        "timm": {"name": encoder.timm_name, "kwargs": encoder.timm_kwargs},
        "config": asdict(encoder.config),
        "size": list(encoder.size),
        "channels": encoder.channels,
        "preprocessing": preprocessing.to_dict(),
        "origin": encoder.origin,
    }
    folder = Path(folder)
    write_bytes(folder / WEIGHTS, tensors_to_bytes(state))
    write_json(folder / DESCRIPTION, description | (extra or {}))


def load_encoder(path: str | Path) -> Encoder:
    """The encoder saved in `path`, a run folder or the `encoder` folder in it, in eval mode and on the CPU.

    Its `.transform`, the Preprocessing it was trained with, turns a raw image into its input:
    ``encoder.pool(encoder(encoder.transform(image)[None]))`` is (1, D).

    Raises:
        WhymaskError: no encoder there, a damaged file, or weights that do not fit the described network.
    """
    folder = Path(path)
    if not (folder / DESCRIPTION).exists():
        folder = folder / "encoder"
    if not (folder / DESCRIPTION).exists() or not (folder / WEIGHTS).exists():
        raise WhymaskError(
            f"no encoder in {path}: expected {DESCRIPTION} and {WEIGHTS} there or in its folder 'encoder'; "
            f"give the folder of a finished run"
        )
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        config = EncoderConfig(**description["config"])
        size, channels = tuple(description["size"]), description["channels"]
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
    except (ValueError, KeyError, TypeError) as error:
        raise WhymaskError(f"{folder / DESCRIPTION} is damaged ({error!r}); use another copy of the run") from error
    encoder = build_encoder(config, size, channels, seed=0)
    load_strictly(encoder.net, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    encoder.transform, encoder.origin = preprocessing, description.get("origin")
    return encoder.eval()


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises WhymaskError when it is damaged."""
    try:
        return tensors_from_bytes(path.read_bytes())
    except (SafetensorError, OSError) as error:
        raise WhymaskError(f"{path} is damaged ({error}); use another copy of the run") from error


def load_strictly(module: torch.nn.Module, state: dict[str, torch.Tensor], origin: str | Path) -> None:
    """Loads `state` where every key and shape fits, else raises WhymaskError that names what does not."""
    own = module.state_dict()
    problems = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and state[key].shape != own[key].shape
        ],
    }
    found = [
        f"{len(keys)} {kind}: {', '.join(keys[:5])}" + ", ..." * (len(keys) > 5)
        for kind, keys in problems.items()
        if keys
    ]
    if found:
        raise WhymaskError(f"weights in {origin} do not fit the network: {'; '.join(found)}; build the same encoder")
    module.load_state_dict(state)
