"""Key names of other projects' checkpoints, brought to timm's.

Those of transformers: `transformers_names`. Official checkpoints of MAE, DINOv2, EVA, BEiT and data2vec have timm's
names, or nearly; those of SparK have them behind a prefix; ConvNeXt's, and FCMAE's after pretraining with sparse
convolutions, have names of their own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from whymask.encoders.transformers_names import State, from_transformers
from whymask.errors import WhymaskError

WRAPPERS = ("model", "state_dict", "module", "teacher", "student", "model_state")
"""Under which key of a file the weights may lie."""

PREFIXES = (
    *("module.", "timm_model.", "model.", "backbone.", "sparse_encoder.sp_cnn.", "vision_model.", "vit.", "resnet."),
    *("convnext.", "convnextv2.", "swin.", "swinv2.", "dinov2.", "dinov2_with_registers.", "beit.", "data2vec_vision."),
    "encoder.",
)

NOT_ENCODER = re.compile(
    r"(?:embeddings\.)?(?:"
    r"(head(?!\.norm)|head_dist|fc(?!_norm)|classifier|pooler|mask_tokens?|proj|pred|imn_[ms]|norm_black|lm_head"
    r"|text_model|text_projection|visual_projection|logit_scale|logit_bias)(?:\.|$)"
    r"|(decoder|dense_decoder|densify)[._]|relative_position_index$|.*\.(?:relative_position_index|attn_mask)$)"
)
"""Heads, decoders, mask tokens and constants: a checkpoint may have them, an encoder does not."""


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


TIMMS_FILTERS = tuple(
    f"timm.models.{name}"
    for name in ("convnext", "swin_transformer", "swin_transformer_v2", "eva", "beit", "vision_transformer")
)


def project_of(state: State) -> Project | None:
    """The project whose key names these are, of those in `PROJECTS`."""
    return next((project for project in PROJECTS if project.recognised(state)), None)


def to_timm(state: State, net: Any, origin: Any) -> tuple[State, set[str]]:
    """The encoder's part of `state` under the names of the timm network `net`, and what was left out of it.

    Raises:
        WhymaskError: where queries, keys and values do not belong together, and for what timm has no network for.
    """
    if any(key.startswith("modality_encoders.") for key in state):
        raise WhymaskError(
            f"{origin} holds an encoder of data2vec 2.0, whose blocks normalise behind each sum, as none of timm's do: "
            "its weights cannot be used. Give those of data2vec 1.0 (transformers' facebook/data2vec-vision-base), or "
            "pretrain by --method data2vec2"
        )
    state = without_prefixes(state)
    state = from_transformers(from_sparse(state), net, origin)
    own = net.state_dict()
    left_out = {
        key: match[1] or match[2] or "constants"
        for key in state
        if (match := NOT_ENCODER.match(key)) and key not in own  # a few have layers in their heads
    }
    if not hasattr(net, "attn_pool") or net.attn_pool is None:
        left_out |= {key: "attn_pool" for key in state if key.startswith("attn_pool.")}
    state = {key: tensor for key, tensor in state.items() if key not in left_out}
    return with_registers(by_timms_filter(state, net), net), set(left_out.values())


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


def with_registers(state: State, net: Any) -> State:
    """DINOv2's first position added to the class token, where timm's network embeds the places of patches alone."""
    positions, token, own = state.get("pos_embed"), state.get("cls_token"), net.state_dict().get("pos_embed")
    if not getattr(net, "no_embed_class", False) or positions is None or token is None or own is None:
        return state
    if round((positions.shape[1] - 1) ** 0.5) ** 2 != positions.shape[1] - 1:
        return state
    return state | {"cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}


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
    """What timm makes of official names, of ConvNeXt, Swin, EVA, DINOv3, BEiT (data2vec) or CLIP say. Tables of windows
    and of relative positions are brought to size too; positions that are added are left to whoever loads them."""
    module = import_module(type(net).__module__)
    own = net.state_dict()
    patch = "patch_embed.proj.weight"
    if patch in state and patch in own and state[patch].shape != own[patch].shape:
        return state  # timm would resample the patches, which whoever loads them should decide
    fits = all(key in own and tensor.shape == own[key].shape for key, tensor in state.items())
    if fits or module.__name__ not in TIMMS_FILTERS:
        return state
    positions = {key: tensor for key, tensor in state.items() if key == "pos_embed"}
    try:
        return module.checkpoint_filter_fn({k: v for k, v in state.items() if k not in positions}, net) | positions
    except (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, ValueError):  # not this network's names
        return state
