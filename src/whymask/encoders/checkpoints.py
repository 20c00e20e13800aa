"""Weights from elsewhere: local checkpoints of whymask, timm and transformers, loaded into an encoder.

Everything must match, but where a partial load is asked for. Nothing in a file is executed. A ViT of transformers adds
1e-12 to the variance in its layer norms where timm's adds 1e-6, which moves the features of a small untrained network
by 1e-3 to 3e-3. Weights do not tell how many heads they were trained with: that is compared where a description lies
beside them (encoder.json, config.json of timm or transformers).
"""

import hashlib
from pathlib import Path
from typing import Any

from timm.layers import resample_abs_pos_embed
from timm.models import VisionTransformer, adapt_input_conv
from timm.models.beit import Beit
from timm.models.eva import Eva

from whymask.disk import sha256_of
from whymask.encoders.base import Encoder
from whymask.encoders.described import NEW_WEIGHTS, NO_LICENCE, config_beside, described, licence_of
from whymask.encoders.fetched import told
from whymask.encoders.files import DESCRIPTION, WEIGHTS, load_encoder, load_strictly
from whymask.encoders.names import project_of, to_timm
from whymask.encoders.timm_names import sketch
from whymask.encoders.transformers_names import State
from whymask.encoders.weight_files import file_in, files_of, read_weights
from whymask.errors import WhymaskError

SETTINGS = {
    "hidden_size": "embed_dim",
    "num_hidden_layers": "depth",
    "num_attention_heads": "num_heads",
    "hidden_act": "act_layer",
}
"""What config.json of transformers calls timm's settings, of a ViT."""

ACTIVATIONS = {"GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh", "QuickGELU": "quick_gelu", "SiLU": "silu"}
"""timm's layers, as transformers calls them."""

TABLE = "relative_position_bias_table"
COLOURS = 3


def load_checkpoint(encoder: Encoder, path: Path, partial: bool = False) -> str:
    """Load the weights at `path` into `encoder`, in place.

    `path` is a run folder of whymask, a folder that timm or transformers saved, or a file: safetensors, or a pickle of
    tensors (.pt, .pth, .bin), which is read without executing what it holds. Position embeddings, and the tables of
    Swin's windows, of another grid are interpolated. A first layer of three colours is summed over them for grey
    images, and repeated for other numbers of channels, as timm does it. With `partial`, what does not
    match stays as it is.

    Returns one line: how much matched, what was left out (a classifier's head, a decoder), and the licence, if it is
    stated beside the file or known of the project whose key names the file has. Raises WhymaskError, naming the keys,
    where a weight is missing, unexpected or of another shape, for another architecture, and for what is no checkpoint;
    the encoder is then as it was.
    """
    path = Path(path)
    if is_run(path):
        return _load_run(encoder, path.parent if path.name == WEIGHTS else path)
    file = file_in(path)
    state, metadata = read_weights(file)
    about = config_beside(file)
    _compare(file, _settings(file, about), encoder)
    project = project_of(state)
    tables = {tensor.shape for key, tensor in state.items() if key.endswith(TABLE)}
    state, left_out = to_timm(state, encoder.net, file)
    said = [f"without its {', '.join(sorted(left_out))}"] if left_out else []
    if tables and not {tensor.shape for key, tensor in state.items() if key.endswith(TABLE)} <= tables:
        said.append("its windows' position tables interpolated to other windows")
    said += _fit_channels(state, encoder, file) + _interpolate_positions(state, encoder, described(path).size)
    matched = _load(encoder, state, file, partial)
    licence = licence_of(file, metadata, about)
    if licence == NO_LICENCE and project is not None:
        licence = f"licence: {project.licence}, as its key names are those of {project.name}"
    return f"weights from {told(file)}, {', '.join([matched, *said])}; {licence}"


def is_run(path: Path) -> bool:
    """Whether it is a run folder of whymask, or the encoder in one."""
    folder = path.parent if path.name == WEIGHTS else path
    return (folder / DESCRIPTION).exists() or (folder / "encoder" / DESCRIPTION).exists()


def digest_of(path: Path) -> str:
    """Of the weights at `path`, of a run or a checkpoint: others have another."""
    folder = path.parent if path.name == WEIGHTS else path
    kept = [file for file in (folder / WEIGHTS, folder / "encoder" / WEIGHTS) if file.exists()]
    files = kept[:1] if is_run(path) else files_of(path)
    return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()[:16]


def _load_run(encoder: Encoder, folder: Path) -> str:
    loaded = load_encoder(folder)
    fitted = {key: encoder.timm_kwargs.get(key) for key in ("global_pool", "img_size", "in_chans", "output_stride")}
    _compare(folder, {"network": loaded.timm_name} | loaded.timm_kwargs | fitted, encoder)
    state = loaded.net.state_dict()
    said = _fit_channels(state, encoder, folder) + _interpolate_positions(state, encoder, loaded.size)
    load_strictly(encoder.net, state, folder)
    began = f"which began as {loaded.origin}" if loaded.origin else NEW_WEIGHTS
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


def _fit_channels(state: State, encoder: Encoder, origin: Path) -> list[str]:
    """Brings a first layer of three colours to the encoder's channels, in `state`; says so. Raises WhymaskError for
    weights of another number of channels."""
    own, channels = encoder.net.state_dict(), encoder.channels
    for key, tensor in state.items():
        here = own[key].shape if key in own else tensor.shape
        if here == tensor.shape or (here[0], *here[2:]) != (tensor.shape[0], *tensor.shape[2:]):
            continue
        seen, rest = divmod(channels * tensor.shape[1], here[1])  # a stem may stack neighbouring pixels as channels
        if rest or tensor.ndim != 4:
            continue
        if seen != COLOURS:
            raise WhymaskError(
                f"{origin} holds weights for images of {seen} channels, and these have {channels}; give "
                f"--channels {seen}, or other weights"
            )
        state[key] = adapt_input_conv(channels, tensor)
        how = "summed over three colours for one channel" if channels == 1 else f"repeated for {channels} channels"
        return [f"its first layer {how}"]
    return []


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
    here = {"network": encoder.timm_name} | _told(encoder.net) | encoder.timm_kwargs
    differing = [f"{key} {there[key]} instead of {here[key]}" for key in there.keys() & here if there[key] != here[key]]
    if differing:
        raise WhymaskError(
            f"{origin} holds another architecture: {', '.join(sorted(differing))}. "
            "Set --encoder and its size to those of the checkpoint, or give another one."
        )


def _settings(file: Path, about: dict[str, Any]) -> dict[str, Any]:
    """What config.json says that shapes do not tell, in timm's words: the attention heads, and of a CNN its name."""
    if "architecture" not in about:
        about = about.get("vision_config") or about
        return {ours: about[theirs] for theirs, ours in SETTINGS.items() if isinstance(about.get(theirs), int | str)}
    config = described(file).encoder
    if config.heads is not None:
        return {"num_heads": config.heads}
    net = sketch(about["architecture"])
    return _told(net) or {"network": about["architecture"]}


def _told(net: Any) -> dict[str, Any]:
    """Of a ViT its attention heads and activation, {} of other networks."""
    if not isinstance(net, VisionTransformer | Eva | Beit) or not hasattr(net.blocks[0], "attn"):
        return {}
    block: Any = net.blocks[0]
    act = ACTIVATIONS.get(type(getattr(block.mlp, "act", None)).__name__)
    return {"num_heads": block.attn.num_heads} | ({"act_layer": act} if act else {})
