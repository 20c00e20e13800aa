"""Key names of transformers' vision networks, those in its files and those in memory, brought to timm's.

ViT, ViT-MAE, DINOv2 (with registers), DINOv3 (ViT and ConvNeXt), SigLIP, CLIP, BEiT, data2vec-vision, ResNet, ConvNeXt
(V2) and Swin (V2) are timm's under other names, with queries, keys and values in separate matrices.
"""

import re
from typing import Any

import torch
from torch import Tensor

from whymask.errors import WhymaskError

State = dict[str, Tensor]

LAYER = r"(?:encoder\.layer|layers|layer)\.(\d+)\."
WINDOW = r"layers\.(\d+)\.blocks\.(\d+)\."
STAGE = r"stages\.(\d+)\.layers\.(\d+)\."

TRANSFORMER = {
    r"embeddings\.(?:cls_token|class_embedding)": "cls_token",
    r"(?:embeddings\.)?register_tokens": "reg_token",
    r"embeddings\.position_embeddings?(?:\.weight)?": "pos_embed",
    r"embeddings\.patch_embedding(?:s\.projection)?\.": "patch_embed.proj.",
    r"embeddings\.norm\.": "patch_embed.norm.",
    r"pre_layrnorm\.": "norm_pre.",
    r"(?:layernorm|post_layernorm)\.": "norm.",
    LAYER + r"(?:layernorm_before|layer_norm1|norm1)\.": r"blocks.\1.norm1.",
    LAYER + r"(?:layernorm_after|layer_norm2|norm2)\.": r"blocks.\1.norm2.",
    LAYER + r"(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj)\.": r"blocks.\1.attn.proj.",
    LAYER + r"(?:intermediate\.dense|mlp\.fc1|mlp\.weights_in|mlp\.up_proj)\.": r"blocks.\1.mlp.fc1.",
    LAYER + r"(?:output\.dense|mlp\.fc2|mlp\.weights_out|mlp\.down_proj)\.": r"blocks.\1.mlp.fc2.",
    LAYER + r"mlp\.gate_proj\.": r"blocks.\1.mlp.fc1_g.",
    LAYER + r"layer_scale([12])\.lambda1": r"blocks.\1.ls\2.gamma",
    LAYER + r"lambda_([12])": r"blocks.\1.gamma_\2",
    LAYER + r"(?:attention\.(?:attention\.)?)?relative_position_bias\.(\w+)": r"blocks.\1.attn.\2",
    r"pooler\.layernorm\.": "fc_norm.",
    r"head\.probe": "attn_pool.latent",
    r"head\.attention\.out_proj\.": "attn_pool.proj.",
    r"head\.layernorm\.": "attn_pool.norm.",
    r"head\.mlp\.": "attn_pool.mlp.",
}

SWIN = {
    WINDOW + r"layernorm_before\.": r"layers.\1.blocks.\2.norm1.",
    WINDOW + r"layernorm_after\.": r"layers.\1.blocks.\2.norm2.",
    WINDOW + r"attention\.(?:output\.dense|o_proj)\.": r"layers.\1.blocks.\2.attn.proj.",
    WINDOW + r"(?:intermediate\.dense|mlp\.fc1)\.": r"layers.\1.blocks.\2.mlp.fc1.",
    WINDOW + r"(?:output\.dense|mlp\.fc2)\.": r"layers.\1.blocks.\2.mlp.fc2.",
    WINDOW + r"attention\.(?:self\.)?(?:relative_position_bias\.)?(relative_position_bias_table|logit_scale)": (
        r"layers.\1.blocks.\2.attn.\3"
    ),
    WINDOW + r"attention\.(?:self\.)?(?:\w+\.)?continuous_position_bias_mlp\.": r"layers.\1.blocks.\2.attn.cpb_mlp.",
}

CONVNEXT = {
    r"embeddings\.patch_embeddings\.(?=weight|bias)": "stem.0.",
    r"embeddings\.layernorm\.": "stem.1.",
    r"stages\.0\.downsample_layers\.(\d+)\.": r"stem.\1.",
    r"stages\.(\d+)\.downsampl(?:ing_layer|e_layers)\.(\d+)\.": r"stages.\1.downsample.\2.",
    STAGE + r"(?:dwconv|depthwise_conv)\.": r"stages.\1.blocks.\2.conv_dw.",
    STAGE + r"layer_?norm\.": r"stages.\1.blocks.\2.norm.",
    STAGE + r"(?:pwconv|pointwise_conv)([12])\.": r"stages.\1.blocks.\2.mlp.fc\3.",
    STAGE + r"grn\.(weight|bias)": r"stages.\1.blocks.\2.mlp.grn.\3",
    STAGE + r"(?:layer_scale_parameter|gamma)": r"stages.\1.blocks.\2.gamma",
    r"layer_?norm\.": "head.norm.",
}

RESNET = {
    r"embedder\.embedder\.convolution\.": "conv1.",
    r"embedder\.embedder\.normalization\.": "bn1.",
    STAGE + r"shortcut\.convolution\.": "layer{stage}.{layer}.downsample.0.",
    STAGE + r"shortcut\.normalization\.": "layer{stage}.{layer}.downsample.1.",
    STAGE + r"layer\.(\d+)\.convolution\.": "layer{stage}.{layer}.conv{part}.",
    STAGE + r"layer\.(\d+)\.normalization\.": "layer{stage}.{layer}.bn{part}.",
}

ATTENTION = (
    r"(?:(?:encoder\.layer|layers|layer)\.(?P<block>\d+)\.|layers\.(?P<stage>\d+)\.blocks\.(?P<window>\d+)\.)"
    r"(?:attention\.(?:attention\.|self\.)?|self_attn\.)(?P<part>q|k|v)(?:uery|ey|alue|_proj)\.(?P<kind>weight|bias)"
)


def from_transformers(state: State, net: Any, origin: Any) -> State:
    """Names of transformers as those of the timm network `net`; names that are timm's already stay.

    Raises:
        WhymaskError: where queries, keys and values do not belong together.
    """
    own = net.state_dict()
    rules = (CONVNEXT | RESNET if any(key.startswith(("stem.", "conv1.")) for key in own) else SWIN) | TRANSFORMER
    renamed: State = {}
    attention: dict[tuple[str, str], State] = {}
    for key, tensor in state.items():
        if match := re.fullmatch(ATTENTION, key):
            windows = f"layers.{match['stage']}.blocks.{match['window']}"
            where = windows if match["block"] is None else f"blocks.{match['block']}"
            attention.setdefault((f"{where}.attn", match["kind"]), {})[match["part"]] = tensor
        else:
            renamed[named(key, rules)] = tensor
    for (where, kind), parts in attention.items():
        renamed |= _together(where, kind, parts, own, origin)
    for step in (_of_shared, _of_pool, _of_gates, _of_scales, _of_windows, _fitted):
        renamed = step(renamed, own)
    return renamed


def named(key: str, rules: dict[str, str]) -> str:
    """timm's name of a key by the first of the rules that is about it; the key itself where none is."""
    for pattern, name in rules.items():
        if match := re.match(pattern, key):
            if "{" in name:
                stage, layer, *part = (int(group) for group in match.groups())
                name = name.format(stage=stage + 1, layer=layer, part=part[0] + 1 if part else "")
                return name + key[match.end() :]
            return match.expand(name) + key[match.end() :]
    if re.match(r"embeddings\.patch_embeddings\.(weight|bias)$", key):
        return key.replace("embeddings.patch_embeddings", "patch_embed.proj")
    return key


def _together(where: str, kind: str, parts: State, own: State, origin: Any) -> State:
    """Queries, keys and values as one tensor, or the biases of queries and values where keys have none."""
    if kind == "bias" and f"{where}.q_bias" in own and {"q", "v"} <= parts.keys():
        return {f"{where}.{part}_bias": parts[part] for part in ("q", "v")}
    if parts.keys() != {"q", "k", "v"} or len({tensor.shape for tensor in parts.values()}) > 1:
        found = ", ".join(f"{part} {tuple(tensor.shape)}" for part, tensor in sorted(parts.items()))
        raise WhymaskError(
            f"{origin} has {found} for {where}.qkv.{kind}; q, k and v of one shape belong there. Check the file."
        )
    return {f"{where}.qkv.{kind}": torch.cat([parts["q"], parts["k"], parts["v"]])}


def _of_pool(state: State, own: State) -> State:
    """The attention that pools: queries by themselves, keys and values as one."""
    for kind in ("weight", "bias"):
        whole = state.pop(f"head.attention.in_proj_{kind}", None)
        if whole is not None:
            third = len(whole) // 3
            state[f"attn_pool.q.{kind}"], state[f"attn_pool.kv.{kind}"] = whole[:third], whole[third:]
    return state


def _of_gates(state: State, own: State) -> State:
    """Beside a gate, what timm's SwiGLU calls fc1_x."""
    gated = {key.replace("fc1_g", "fc1"): key.replace("fc1_g", "fc1_x") for key in state if ".mlp.fc1_g." in key}
    return {gated.get(key, key): tensor for key, tensor in state.items()}


def _of_scales(state: State, own: State) -> State:
    """Layer scale, which timm's EVA has in the block itself."""
    if "blocks.0.gamma_1" not in own:
        return state
    return {re.sub(r"^(blocks\.\d+)\.ls([12])\.gamma$", r"\1.gamma_\2", key): state[key] for key in state}


def _of_shared(state: State, own: State) -> State:
    """BEiT's table of positions that all blocks share, once for each block."""
    shared = state.pop("encoder.relative_position_bias.relative_position_bias_table", None)
    shared = state.pop("relative_position_bias.relative_position_bias_table", shared)
    if shared is not None:
        state |= {key: shared for key in own if re.fullmatch(r"blocks\.\d+\.attn\.relative_position_bias_table", key)}
    return state


def _of_windows(state: State, own: State) -> State:
    """A Swin's patches are merged before a stage in timm, behind the stage before in transformers."""
    merging = re.compile(r"layers\.(\d+)\.downsample\.")
    if not any(key.startswith("layers.0.downsample.") for key in state) or "layers.0.downsample.norm.weight" in own:
        return state
    return {merging.sub(lambda match: f"layers.{int(match[1]) + 1}.downsample.", key): state[key] for key in state}


def _fitted(state: State, own: State) -> State:
    """Tensors that differ from the network's by axes of length 1 alone, in its shapes."""
    for key, tensor in state.items():
        wanted = own[key].shape if key in own else tensor.shape
        if tensor.shape != wanted and [n for n in tensor.shape if n > 1] == [n for n in wanted if n > 1]:
            state[key] = tensor.reshape(wanted)
        elif key == "pos_embed" and tensor.ndim == 2:
            state[key] = tensor[None]
    return state
