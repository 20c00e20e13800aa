"""Weights from elsewhere: local checkpoints of whymask, timm and transformers, loaded strictly into an encoder.

Names follow timm. A ViT of transformers (ViTModel, ViTForImageClassification, ViTMAE...) is the same network under
other names, with queries, keys and values in separate matrices; its layer norms add 1e-12 to the variance where timm's
add 1e-6, which was seen to move the features of an untrained network by up to 1e-3.
"""

import json
import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from whymask.encoders import DESCRIPTION, load_encoder, load_strictly
from whymask.encoders.base import Encoder
from whymask.errors import WhymaskError

State = dict[str, Tensor]

NOT_ENCODER = re.compile(r"(head|fc|classifier|pooler|decoder|mask_token|.*\.mask_token)(\.|$)")
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


def load_checkpoint(encoder: Encoder, path: Path) -> str:
    """Load the weights at `path` into `encoder`, in place and strictly.

    `path` is a run folder of whymask, a folder that transformers saved, or a file: safetensors, or a pickle of tensors
    (.pt, .pth, .bin), which is read without executing what it holds.

    Returns one line: what was loaded, what was left out (a classifier's head, a decoder), and the licence, if it is
    stated beside the file. Raises WhymaskError, naming the keys, where a weight is missing, unexpected or of another
    shape, and for what is no checkpoint.
    """
    path = Path(path)
    if (path / DESCRIPTION).exists() or (path / "encoder" / DESCRIPTION).exists():
        loaded = load_encoder(path)
        load_strictly(encoder.net, loaded.net.state_dict(), path)
        return loaded.origin or f"weights from {path}, trained by whymask"
    file = path / "model.safetensors" if path.is_dir() else path
    state, metadata = _read(file)
    state = {key.removeprefix("vit."): tensor for key, tensor in state.items()}
    left_out = sorted(key for key in state if NOT_ENCODER.match(key))
    state = _to_timm({key: tensor for key, tensor in state.items() if key not in left_out})
    load_strictly(encoder.net, state, file)
    parts = sorted({key.split(".")[0] for key in left_out})
    without = f", without its {', '.join(parts)}" if parts else ""
    return f"weights from {file}{without}; {_licence(file, metadata)}"


def _read(file: Path) -> tuple[State, dict[str, str]]:
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


def _to_timm(state: State) -> State:
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
        if parts.keys() == {"q", "k", "v"}:
            renamed[key] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return renamed


def _licence(file: Path, metadata: dict[str, str]) -> str:
    """The licence that the file, its config.json or its README names."""
    found = metadata.get("license")
    config, readme = file.parent / "config.json", file.parent / "README.md"
    if found is None and config.exists():
        found = json.loads(config.read_text(encoding="utf-8")).get("license")
    if found is None and readme.exists():
        match = re.search(r"^license:\s*(\S+)", readme.read_text(encoding="utf-8"), re.MULTILINE)
        found = match.group(1) if match else None
    if found is None:
        return "no licence is stated beside them: they keep that of whoever trained them"
    return f"licence {found}, which what is trained from them keeps"
