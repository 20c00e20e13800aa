"""Weights from elsewhere: local checkpoints of whymask, timm and transformers, loaded strictly into an encoder.

Names follow timm. A ViT of transformers (ViTModel, ViTForImageClassification, ViTMAE...) is the same network under
other names, with queries, keys and values in separate matrices; its layer norms add 1e-12 to the variance where timm's
add 1e-6, which moves the features of a small untrained network by 1e-3 to 3e-3. Weights do not tell how many heads they
were trained with: that is compared where a description lies beside them (encoder.json, config.json of transformers).
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whymask.encoders import DESCRIPTION, WEIGHTS, load_encoder, load_strictly
from whymask.encoders.base import Encoder
from whymask.errors import WhymaskError

State = dict[str, Tensor]

NOT_ENCODER = re.compile(r"(?:embeddings\.)?(?:(head|fc|classifier|pooler|mask_token)(?:\.|$)|(decoder)[._])")
"""Heads, decoders and mask tokens: a checkpoint may have them, an encoder does not."""

LAYER = r"(?:encoder\.layer|layers)\.(\d+)\."
FROM_TRANSFORMERS = {
    r"embeddings\.cls_token": "cls_token",
    r"embeddings\.position_embeddings": "pos_embed",
    r"embeddings\.patch_embeddings\.projection\.": "patch_embed.proj.",
    LAYER + r"layernorm_before\.": r"blocks.\1.norm1.",
    LAYER + r"layernorm_after\.": r"blocks.\1.norm2.",
    LAYER + r"attention\.(?:output\.dense|o_proj)\.": r"blocks.\1.attn.proj.",
    LAYER + r"(?:intermediate\.dense|mlp\.fc1)\.": r"blocks.\1.mlp.fc1.",
    LAYER + r"(?:output\.dense|mlp\.fc2)\.": r"blocks.\1.mlp.fc2.",
    r"layernorm\.": "norm.",
}
"""The names in its files, and those that version 5 uses in memory."""

ATTENTION = LAYER + r"attention\.(?:attention\.)?(q|k|v)(?:uery|ey|alue|_proj)\.(weight|bias)"

SETTINGS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "hidden_act": "act_layer",
}
"""What config.json of transformers calls timm's settings."""

NO_LICENCE = "licence: not stated there; weights keep the licence of whoever trained them"


def load_checkpoint(encoder: Encoder, path: Path) -> str:
    """Load the weights at `path` into `encoder`, in place and strictly.

    `path` is a run folder of whymask, a folder that transformers saved, or a file: safetensors, or a pickle of tensors
    (.pt, .pth, .bin), which is read without executing what it holds.

    Returns one line: what was loaded, what was left out (a classifier's head, a decoder), and the licence, if it is
    stated beside the file. Raises WhymaskError, naming the keys, where a weight is missing, unexpected or of another
    shape, for another architecture, and for what is no checkpoint; the encoder is then as it was.
    """
    path = Path(path)
    folder = path.parent if path.name == WEIGHTS else path
    if (folder / DESCRIPTION).exists() or (folder / "encoder" / DESCRIPTION).exists():
        return _load_run(encoder, folder)
    file = path / "model.safetensors" if path.is_dir() else path
    state, metadata = _read(file)
    about = _config_beside(file)
    _compare(file, {ours: about[theirs] for theirs, ours in SETTINGS.items() if theirs in about}, encoder)
    state = {key.removeprefix("vit."): tensor for key, tensor in state.items()}
    left_out = {key: match[1] or match[2] for key in state if (match := NOT_ENCODER.match(key))}
    state = _to_timm({key: tensor for key, tensor in state.items() if key not in left_out}, file)
    load_strictly(encoder.net, state, file)
    without = f", without its {', '.join(sorted(set(left_out.values())))}" if left_out else ""
    return f"weights from {file}{without}; {_licence(file, metadata, about)}"


def _load_run(encoder: Encoder, folder: Path) -> str:
    loaded = load_encoder(folder)
    _compare(folder, {"network": loaded.timm_name} | loaded.timm_kwargs, encoder)
    load_strictly(encoder.net, loaded.net.state_dict(), folder)
    began = f"which began as {loaded.origin}" if loaded.origin else NO_LICENCE
    return f"weights from {folder}, trained by whymask; {began}"


def _compare(origin: Path, there: dict[str, Any], encoder: Encoder) -> None:
    """Raises WhymaskError that names the settings in which the network described `there` differs from the encoder's."""
    here = {"network": encoder.timm_name, "act_layer": "gelu"} | encoder.timm_kwargs
    differing = [f"{key} {there[key]} instead of {here[key]}" for key in there.keys() & here if there[key] != here[key]]
    if differing:
        raise WhymaskError(
            f"{origin} holds another architecture: {', '.join(sorted(differing))}. "
            "Set --encoder and its size to those of the checkpoint, or give another one."
        )


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
        state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files and refused pickles raise whatever their reader likes
        reason = "not a whole safetensors file" if isinstance(error, SafetensorError) else "not a file of tensors alone"
        raise WhymaskError(
            f"{file} is {reason}, and nothing in it was executed ({type(error).__name__}). "
            "Give a safetensors file, or a pickle that holds only tensors."
        ) from error
    for wrapper in ("model", "state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WhymaskError(f"{file} holds no weights by name. Give the state dict of a network, best as safetensors.")
    return state, {}


def _to_timm(state: State, file: Path) -> State:
    """Names of transformers as timm's, queries, keys and values stacked; names that are timm's already stay."""
    renamed: State = {}
    attention: dict[str, dict[str, Tensor]] = {}
    for key, tensor in state.items():
        if match := re.fullmatch(ATTENTION, key):
            layer, part, kind = match.groups()
            attention.setdefault(f"blocks.{layer}.attn.qkv.{kind}", {})[part] = tensor
            continue
        for pattern, name in FROM_TRANSFORMERS.items():
            key = re.sub(f"^{pattern}", name, key)
        renamed[key] = tensor
    for key, parts in attention.items():
        if parts.keys() != {"q", "k", "v"} or len({tensor.shape for tensor in parts.values()}) > 1:
            found = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in sorted(parts.items()))
            raise WhymaskError(f"{file} has {found} for {key}; q, k and v of one shape belong there. Check the file.")
        renamed[key] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return renamed


def _config_beside(file: Path) -> dict[str, Any]:
    """The config.json of transformers or timm in the file's folder, {} where there is none."""
    path = file.parent / "config.json"
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
