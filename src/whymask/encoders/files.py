"""Encoders in files: how one is kept in a run folder, and comes back from it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from whymask.data.preprocessing import Preprocessing
from whymask.disk import damaged, read_json, read_tensors, write_tensors
from whymask.encoders.base import Encoder
from whymask.encoders.build import build_encoder, resolve
from whymask.encoders.settings import EncoderSettings
from whymask.errors import WhymaskError
from whymask.functions import sources
from whymask.progress import say

SCHEMA = 1
WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"


def save_encoder(
    encoder: Encoder, preprocessing: Preprocessing, folder: Path, extra: dict[str, Any] | None = None
) -> None:
    """Writes `folder`/encoder.safetensors, the timm network's state, and encoder.json, from which it is rebuilt.

    ``timm.create_model(d["timm"]["name"], **d["timm"]["kwargs"])`` with the dict `d` of encoder.json takes the state
    strictly (for "plain_cnn" after ``import whymask.encoders.plain_cnn``). `extra` is added to encoder.json.
    """
    description = {
        "schema": SCHEMA,
        "timm": {"name": encoder.timm_name, "kwargs": encoder.timm_kwargs},
        "config": asdict(encoder.config),
        "size": list(encoder.size),
        "channels": encoder.channels,
        "preprocessing": preprocessing.to_dict(),
        "origin": encoder.origin,
    }
    about = description | sources(encoder.config.name) | (extra or {})
    write_tensors(Path(folder) / WEIGHTS, encoder.net.state_dict(), about)


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
        description = read_json(folder / DESCRIPTION)
        asked = EncoderSettings(**description["config"])  # older versions wrote None for what the kind has not
        size, channels = tuple(description["size"]), description["channels"]
        preprocessing = Preprocessing.from_dict(description["preprocessing"])
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(folder / DESCRIPTION, repr(error)) from error
    encoder = build_encoder(resolve(asked, size, channels), size, channels, seed=0)
    if any(description.get(source, digest) != digest for source, digest in sources(asked.name).items()):
        say(f"warning: the source of {asked.name} is not what it was when the weights in {folder} were saved")
    load_strictly(encoder.net, read_tensors(folder / WEIGHTS), folder / WEIGHTS)
    encoder.transform, encoder.origin = preprocessing, description.get("origin")
    return encoder.eval()


def network_in(path: Path) -> str:
    """The name of the encoder in `path`, a run folder, the `encoder` folder in it, or the weights there."""
    folder = path.parent if path.name == WEIGHTS else path
    inner = folder if (folder / DESCRIPTION).exists() else folder / "encoder"
    return str(read_json(inner / DESCRIPTION)["config"]["name"])


def read_description(run: Path) -> dict[str, Any]:
    """What encoder.json says of the encoder in a run's folder."""
    return read_json(run / "encoder" / DESCRIPTION)


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
