"""Weights from elsewhere: local checkpoints of whymask, timm and transformers, loaded into an encoder.

Everything must match, but where a partial load is asked for. Nothing in a file is executed. A ViT of transformers adds
1e-12 to the variance in its layer norms where timm's adds 1e-6, which moves the features of a small untrained network
by 1e-3 to 3e-3. Weights do not tell how many heads they were trained with: that is compared where a description lies
beside them (encoder.json, config.json of timm or transformers).
"""

import argparse
import json
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer
from torch import Tensor

from whymask.encoders.base import Encoder
from whymask.encoders.build import config_class
from whymask.encoders.files import DESCRIPTION, WEIGHTS, load_encoder, load_strictly
from whymask.encoders.names import WRAPPERS, State, project_of, to_timm
from whymask.encoders.settings import EncoderSettings
from whymask.encoders.timm_names import sketch
from whymask.errors import WhymaskError

SETTINGS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "hidden_act": "act_layer",
}
"""What config.json of transformers calls timm's settings."""

TABLE = "relative_position_bias_table"

NO_LICENCE = "licence: not stated there; weights keep the licence of whoever trained them"
BESIDE = "config.json"


def load_checkpoint(encoder: Encoder, path: Path, partial: bool = False) -> str:
    """Load the weights at `path` into `encoder`, in place.

    `path` is a run folder of whymask, a folder that timm or transformers saved, or a file: safetensors, or a pickle of
    tensors (.pt, .pth, .bin), which is read without executing what it holds. Position embeddings, and the tables of
    Swin's windows, of another grid are interpolated. With `partial`, what does not match stays as it is.

    Returns one line: how much matched, what was left out (a classifier's head, a decoder), and the licence, if it is
    stated beside the file or known of the project whose key names the file has. Raises WhymaskError, naming the keys,
    where a weight is missing, unexpected or of another shape, for another architecture, and for what is no checkpoint;
    the encoder is then as it was.
    """
    path = Path(path)
    if is_run(path):
        return _load_run(encoder, path.parent if path.name == WEIGHTS else path)
    file = path / "model.safetensors" if path.is_dir() else path
    state, metadata = _read(file)
    about = _config_beside(file)
    _compare(file, _settings(file, about), encoder)
    project = project_of(state)
    tables = {tensor.shape for key, tensor in state.items() if key.endswith(TABLE)}
    state, left_out = to_timm(state, encoder.net, file)
    said = [f"without its {', '.join(sorted(left_out))}"] if left_out else []
    if tables and not {tensor.shape for key, tensor in state.items() if key.endswith(TABLE)} <= tables:
        said.append("its windows' position tables interpolated to other windows")
    said += _interpolate_positions(state, encoder, described(path).size)
    matched = _load(encoder, state, file, partial)
    licence = _licence(file, metadata, about)
    if licence == NO_LICENCE and project is not None:
        licence = f"licence: {project.licence}, as its key names are those of {project.name}"
    return f"weights from {file}, {', '.join([matched, *said])}; {licence}"


def is_run(path: Path) -> bool:
    """Whether it is a run folder of whymask, or the encoder in one."""
    folder = path.parent if path.name == WEIGHTS else path
    return (folder / DESCRIPTION).exists() or (folder / "encoder" / DESCRIPTION).exists()


def _load_run(encoder: Encoder, folder: Path) -> str:
    loaded = load_encoder(folder)
    fitted = {key: encoder.timm_kwargs.get(key) for key in ("global_pool", "img_size", "output_stride")}
    _compare(folder, {"network": loaded.timm_name} | loaded.timm_kwargs | fitted, encoder)
    state = loaded.net.state_dict()
    said = _interpolate_positions(state, encoder, loaded.size)
    load_strictly(encoder.net, state, folder)
    began = f"which began as {loaded.origin}" if loaded.origin else NO_LICENCE
    return f"weights from {folder}, trained by whymask{''.join(f', {line}' for line in said)}; {began}"


def _load(encoder: Encoder, state: State, file: Path, partial: bool) -> str:
    """How much of the encoder's network is now `state`'s."""
    own = encoder.net.state_dict()
    fitting = {key: tensor for key, tensor in state.items() if key in own and tensor.shape == own[key].shape}
    if not partial or not fitting:
        try:
            load_strictly(encoder.net, state, file)
        except WhymaskError as error:
            how = "--partial, of a study --init-partial"
            advice = f", or ask for a partial load ({how}), in which the rest stays as it is" if fitting else ""
            raise WhymaskError(f"{error}{advice}") from None
        return f"all {len(own)} tensors"
    encoder.net.load_state_dict(fitting, strict=False)
    share = sum(tensor.numel() for tensor in fitting.values()) / sum(tensor.numel() for tensor in own.values())
    fresh, ignored = ([key for key in a if key not in fitting] for a in (own, state))
    rest = [f"{what} {', '.join(keys)}" for what, keys in (("fresh:", fresh), ("ignored:", ignored)) if keys]
    return f"{len(fitting)} of {len(own)} tensors, {share:.1%} of the weights" + "".join(f" ({part})" for part in rest)


def _interpolate_positions(state: State, encoder: Encoder, size: tuple[int, int] | None) -> list[str]:
    """Brings a ViT's position embedding to the encoder's grid, in `state`; says so. `size` is that of the images that
    it was trained with; where that is not known they were square."""
    own, there = encoder.net.state_dict().get("pos_embed"), state.get("pos_embed")
    if own is None or there is None or own.shape[2:] != there.shape[2:]:
        return []
    prefix = own.shape[1] - encoder.grid[0] * encoder.grid[1]
    count = there.shape[1] - prefix
    side = round(max(count, 0) ** 0.5)
    height, width = (side, side) if size is None else encoder.config.grid(size)
    if height * width != count:
        height, width = side, side
    if (height, width) == encoder.grid or height * width != count or (size is None and own.shape == there.shape):
        return []
    state["pos_embed"] = resample_abs_pos_embed(there, list(encoder.grid), [height, width], num_prefix_tokens=prefix)
    return [f"positions interpolated from {height}x{width} to {encoder.grid[0]}x{encoder.grid[1]}"]


def _compare(origin: Path, there: dict[str, Any], encoder: Encoder) -> None:
    """Raises WhymaskError that names the settings in which the network described `there` differs from the encoder's."""
    here = {"network": encoder.timm_name, "act_layer": "gelu"} | _heads(encoder.net) | encoder.timm_kwargs
    differing = [f"{key} {there[key]} instead of {here[key]}" for key in there.keys() & here if there[key] != here[key]]
    if differing:
        raise WhymaskError(
            f"{origin} holds another architecture: {', '.join(sorted(differing))}. "
            "Set --encoder and its size to those of the checkpoint, or give another one."
        )


def _settings(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What config.json says that shapes do not tell, in timm's words: the attention heads, and of a CNN its name."""
    if "architecture" not in about:
        return {ours: about[theirs] for theirs, ours in SETTINGS.items() if theirs in about}
    config = described(file).encoder
    if config.heads is not None:
        return {"num_heads": config.heads}
    net = sketch(about["architecture"])
    return _heads(net) or {"network": about["architecture"]}


def _heads(net: Any) -> dict[str, Any]:
    """Of a ViT its attention heads, {} of other networks."""
    if not isinstance(net, VisionTransformer):
        return {}
    block: Any = net.blocks[0]
    return {"num_heads": block.attn.num_heads}


# what lies beside the weights --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Described:
    """What timm's or transformers' config.json says of the weights beside it; None where it says nothing."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    size: tuple[int, int] | None = None
    channels: int | None = None
    moments: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and standard deviation of each channel, in units of [0, 1]."""

    def merged(self, given: EncoderSettings) -> EncoderSettings:
        """`given`, its settings that are not given being those of the checkpoint."""
        name = self.encoder.name if given.name == "auto" else given.name
        if name != self.encoder.name:
            return given
        asked = {setting.name: getattr(given, setting.name) for setting in fields(given) if setting.name != "name"}
        return replace(self.encoder, **{key: value for key, value in asked.items() if value is not None})


def described(path: Path) -> Described:
    """What config.json beside the weights at `path` says."""
    path = Path(path)
    about = _config_beside(path / "model.safetensors" if path.is_dir() else path)
    try:
        return _described(path, about)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        folder = path if path.is_dir() else path.parent
        raise WhymaskError(
            f"{folder / BESIDE} describes no network of timm or transformers ({error!r}); mend it, or move the weights"
        ) from error


def _described(path: Path, about: dict[str, Any]) -> Described:
    if "architecture" in about:
        return _of_timm(about)
    if about.get("model_type") in ("vit", "vit_mae"):
        names = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads"}
        sizes = {ours: about[theirs] for ours, theirs in (names | {"patch": "patch_size"}).items() if theirs in about}
        size = about.get("image_size")
        processor = _json((path if path.is_dir() else path.parent) / "preprocessor_config.json")
        return Described(
            EncoderSettings("vit", **sizes),
            (size, size) if isinstance(size, int) else None,
            about.get("num_channels"),
            _moments(processor.get("image_mean"), processor.get("image_std")),
        )
    return Described()


def _of_timm(about: dict[str, Any]) -> Described:
    network, cfg = about.get("model_args") or {}, about.get("pretrained_cfg") or {}
    pooled = {"avg": "mean", "token": "token"}.get(network.get("global_pool", ""))
    name = about["architecture"]
    settings: dict[str, Any] = {"patch": network.get("patch_size"), "output_stride": network.get("output_stride")}
    settings["pool"] = pooled if "pool" in {field.name for field in fields(config_class(name))} else None
    if "embed_dim" in network and name.startswith("vit_"):
        name = "vit"
        settings |= {"width": network["embed_dim"], "depth": network["depth"], "heads": network["num_heads"]}
    elif "embed_dim" in network:
        settings |= {"width": network["embed_dim"]}
    channels, *size = cfg.get("input_size") or (None,)
    return Described(
        EncoderSettings(name, **settings),
        (size[0], size[1]) if size else None,
        channels,
        _moments(cfg.get("mean"), cfg.get("std")),
    )


def _moments(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    return (tuple(mean), tuple(std)) if mean and std else None


def _config_beside(file: Path) -> dict[str, Any]:
    """The config.json of transformers or timm in the file's folder, {} where there is none."""
    return _json(file.parent / BESIDE)


def _json(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise WhymaskError(f"{path} is damaged ({error}). Mend it, or move the weights to another folder.") from error
    return config if isinstance(config, dict) else {}


def _licence(file: Path, metadata: dict[str, str], config: dict[str, Any]) -> str:
    """The licence that the file, its config.json or the model card beside it names."""
    readme = file.parent / "README.md"
    found = metadata.get("license") or (config.get("pretrained_cfg") or config).get("license")
    if not found and readme.exists():
        text = readme.read_text(encoding="utf-8", errors="replace")
        found = ", ".join(re.findall(r"^license(?:_name)?:[ \t]*(\S+)", text, re.MULTILINE))
    return f"licence: {found}, which weights trained from them keep" if found else NO_LICENCE


# the file ----------------------------------------------------------------------------------------------------


def _read(file: Path) -> tuple[State, dict[str, str]]:
    """The tensors in `file` and its metadata."""
    if not file.exists():
        raise WhymaskError(
            f"{file}: no such file; expected a checkpoint (safetensors, or a run folder). Check the path."
        )
    try:
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                return {key: opened.get_tensor(key) for key in opened.keys()}, opened.metadata() or {}  # noqa: SIM118
        with torch.serialization.safe_globals([argparse.Namespace]):  # MAE's and ConvNeXt's files hold their settings
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and refused pickles raise whatever their reader likes
        reason = "not a whole safetensors file" if isinstance(error, SafetensorError) else "not a file of tensors alone"
        raise WhymaskError(
            f"{file} is {reason}, and nothing in it was executed ({type(error).__name__}). "
            "Give a safetensors file, or a pickle that holds only tensors."
        ) from error
    while isinstance(state, dict) and (inner := [w for w in WRAPPERS if isinstance(state.get(w), dict)]):
        state = state[inner[0]]
    if isinstance(state, dict):
        state.pop("config", None)  # SparK keeps its settings among the weights
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WhymaskError(f"{file} holds no weights by name. Give the state dict of a network, best as safetensors.")
    return state, {}
