"""Key names of other projects' checkpoints, brought to timm's.

A ViT of transformers (ViTModel, ViTForImageClassification, ViTMAE...) is timm's under other names, with queries, keys
and values in separate matrices. Official checkpoints of MAE have timm's names already; those of SparK have them behind
a prefix; ConvNeXt's, and FCMAE's after pretraining with sparse convolutions, have names of their own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from whymask.errors import WhymaskError

State = dict[str, Tensor]

WRAPPERS = ("model", "state_dict", "module", "teacher", "student", "model_state")
"""Under which key of a file the weights may lie."""

PREFIXES = ("module.", "timm_model.", "vit.", "backbone.", "sparse_encoder.sp_cnn.", "encoder.")

NOT_ENCODER = re.compile(
    r"(?:embeddings\.)?(?:"
    r"(head(?!\.norm)|head_dist|fc(?!_norm)|classifier|pooler|mask_tokens?|proj|pred|imn_[ms]|norm_black)(?:\.|$)"
    r"|(decoder|dense_decoder|densify)[._]|relative_position_index$|.*\.(?:relative_position_index|attn_mask)$)"
)
"""Heads, decoders, mask tokens and constants: a checkpoint may have them, an encoder does not."""

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


@dataclass(frozen=True)
class Project:
    """Whose checkpoint it is, by its key names, and under which licence that project gives its weights."""

    name: str
    licence: str
    recognised: Callable[[State], bool]


PROJECTS = (
    Project(
        "MAE (facebookresearch/mae)",
        "CC-BY-NC 4.0",
        lambda state: {"decoder_pred.weight", "decoder_pos_embed"} <= set(state),
    ),
    Project(
        "SparK (keyu-tian/SparK)",
        "MIT",
        lambda state: any(key.startswith("sparse_encoder.") for key in state),
    ),
    Project(
        "ConvNeXt V2 (facebookresearch/ConvNeXt-V2)",
        "CC-BY-NC 4.0",
        lambda state: any("downsample_layers." in key for key in state) and any("grn.gamma" in key for key in state),
    ),
)


TIMMS_FILTERS = tuple(f"timm.models.{name}" for name in ("convnext", "swin_transformer", "swin_transformer_v2"))


def project_of(state: State) -> Project | None:
    """The project whose key names these are, of those in `PROJECTS`."""
    return next((project for project in PROJECTS if project.recognised(state)), None)


def to_timm(state: State, net: Any, origin: Any) -> tuple[State, set[str]]:
    """The encoder's part of `state` under the names of the timm network `net`, and what was left out of it.

    Raises:
        WhymaskError: where queries, keys and values do not belong together.
    """
    state = without_prefixes(state)
    left_out = {key: match[1] or match[2] or "constants" for key in state if (match := NOT_ENCODER.match(key))}
    state = {key: tensor for key, tensor in state.items() if key not in left_out}
    state = from_transformers(from_sparse(state), origin)
    return by_timms_filter(state, net), set(left_out.values())


def without_prefixes(state: State) -> State:
    """Key names without what wrappers put before them."""
    changed = True
    while changed:
        changed = False
        for prefix in PREFIXES:
            inner = {key for key in state if key.startswith(prefix)}
            if inner and not (prefix == "encoder." and any(key.startswith("encoder.layer.") for key in inner)):
                state = {key.removeprefix(prefix): tensor for key, tensor in state.items()}
                changed = True
    return state


def from_transformers(state: State, origin: Any) -> State:
    """Names of transformers' ViT as timm's, queries, keys and values stacked; names that are timm's already stay."""
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
            raise WhymaskError(f"{origin} has {found} for {key}; q, k and v of one shape belong there. Check the file.")
        renamed[key] = torch.cat([parts["q"], parts["k"], parts["v"]])
    return renamed


def from_sparse(state: State) -> State:
    """FCMAE's sparse layers as dense ones: `kernel`s (places, [in,] out), column by column, and wrapped layers."""
    renamed: State = {}
    for key, tensor in state.items():
        if key.endswith(".kernel"):
            side = round(len(tensor) ** 0.5)
            grid = tensor.reshape(side, side, -1, tensor.shape[-1])  # (columns, rows, in or 1, out)
            renamed[key.removesuffix("kernel") + "weight"] = grid.permute(3, 2, 1, 0).contiguous()
        else:
            flat = tensor.flatten() if key.endswith(".bias") else tensor
            renamed[re.sub(r"\.(?:ln|linear)\.(weight|bias)$", r".\1", key)] = flat
    return renamed


def by_timms_filter(state: State, net: Any) -> State:
    """What timm makes of the official names of a ConvNeXt or Swin, whose windows' tables it also brings to size."""
    module = import_module(type(net).__module__)
    own = net.state_dict()
    patch = "patch_embed.proj.weight"
    if patch in state and patch in own and state[patch].shape != own[patch].shape:
        return state  # timm would resample the patches, which whoever loads them should decide
    fits = all(key in own and tensor.shape == own[key].shape for key, tensor in state.items())
    if fits or module.__name__ not in TIMMS_FILTERS:
        return state
    try:
        return module.checkpoint_filter_fn(dict(state), net)
    except (KeyError, RuntimeError, AttributeError):  # of names that are not this network's
        return state
