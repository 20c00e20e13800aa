"""What lies beside weights from elsewhere and says which network they are of: config.json of timm or transformers."""

import json
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import timm

from whymask.data.prepare import Moments
from whymask.encoders.build import config_class
from whymask.encoders.names import to_timm
from whymask.encoders.settings import EncoderSettings, Pool
from whymask.encoders.timm_names import sketch
from whymask.encoders.transformers_names import State
from whymask.encoders.vit import pool_of
from whymask.encoders.weight_files import file_in, read_weights
from whymask.errors import WhymaskError

BESIDE = "config.json"
NEW_WEIGHTS = "begun with new weights: the licence is the choice of whoever trained it"
"""Of a run that started from nobody's."""
NO_LICENCE = "licence: not stated there; weights keep the licence of whoever trained them"

NETWORKS: dict[str, tuple[str, ...]] = {
    "resnet": ("resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152"),
    "convnext": ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large", "convnext_xlarge"),
    "convnextv2": tuple(
        f"convnextv2_{size}" for size in ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")
    ),
    "dinov3_convnext": ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large"),
    "swin": ("swin_tiny_*", "swin_small_*", "swin_base_*", "swin_large_*"),
    "swinv2": ("swinv2_tiny_*", "swinv2_small_*", "swinv2_base_*", "swinv2_large_*"),
    "dinov2": tuple(f"vit_{size}_patch14_dinov2" for size in ("small", "base", "large", "giant")),
    "dinov2_with_registers": tuple(f"vit_{size}_patch14_reg4_dinov2" for size in ("small", "base", "large", "giant")),
    "dinov3_vit": (
        *(f"vit_{size}_patch16_dinov3_qkvb" for size in ("small", "small_plus", "base", "large", "huge_plus")),
        *(f"vit_{size}_patch16_dinov3" for size in ("small", "small_plus", "base", "large", "huge_plus", "7b")),
    ),
    "siglip": ("vit_base_*_siglip_[0-9]*", "vit_large_*_siglip_[0-9]*", "vit_so400m_*_siglip_[0-9]*"),
    "clip": ("vit_base_*_clip_*", "vit_large_*_clip_*", "vit_huge_*_clip_*"),
    "beit": ("beit_base_patch16_224", "beit_large_patch16_224"),
}
"""Kinds of transformers' networks (model_type), and those of timm that they may be: the one whose weights have the same
shapes, smaller ones first."""
NETWORKS |= {"siglip_vision_model": NETWORKS["siglip"], "clip_vision_model": NETWORKS["clip"]}
NETWORKS |= {"data2vec-vision": NETWORKS["beit"]}

POOLED: dict[str, Pool] = {"siglip": "attention", "siglip_vision_model": "attention"}
POOLED |= dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "clip", "clip_vision_model"), "token")

RESAMPLED = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, in preprocessor_config.json."""


@dataclass(frozen=True)
class Described:
    """What timm's or transformers' config.json says of the weights beside it; None where it says nothing."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    size: tuple[int, int] | None = None
    channels: int | None = None
    moments: Moments | None = None
    interpolation: str | None = None
    """How images were brought to size."""
    unknown: str = ""
    """Why the network is not told, where a description is there."""

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
    file = file_in(path)
    about = config_beside(file)
    try:
        if "architecture" in about:
            return _of_timm(about)
        return _of_transformers(file, about) if "model_type" in about else Described()
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise WhymaskError(
            f"{file.parent / BESIDE} describes no network of timm or transformers ({error!r}); mend it, or move the "
            f"weights"
        ) from error


def described_as(name: str) -> Described:
    """What timm says of its network `name`, and of the weights where it ends in a tag of theirs.

    Raises WhymaskError for a name that timm does not have."""
    network = name.partition(".")[0]
    cfg = timm.models.get_pretrained_cfg(name) if timm.is_model(network) else None
    if cfg is None:
        raise WhymaskError(f"timm has no network {name}; check the name, by 'whymask list {network}'")
    return _of_timm({"architecture": network, "pretrained_cfg": cfg.to_dict()})


def _of_timm(about: dict[str, Any]) -> Described:
    network, cfg = about.get("model_args") or {}, about.get("pretrained_cfg") or {}
    name = about["architecture"]
    known = {setting.name for setting in fields(config_class(name))}
    plain = {key: tuple(value) if isinstance(value, list) else value for key, value in network.items()}
    plain.pop("num_classes", None)
    net = sketch(name, **plain)
    settings: dict[str, Any] = {"patch": network.get("patch_size"), "output_stride": network.get("output_stride")}
    if "pool" in known:
        settings |= {"patch": net.patch_embed.patch_size[0], "pool": pool_of(net)}
    if "embed_dim" in network and name.startswith("vit_"):
        name = "vit"
        settings |= {"width": network["embed_dim"], "depth": network["depth"], "heads": network["num_heads"]}
    elif "embed_dim" in network:
        settings |= {"width": network["embed_dim"]}
    channels, *size = cfg.get("input_size") or (None,)
    return Described(
        EncoderSettings(name, **{key: value for key, value in settings.items() if key in known or key == "width"}),
        _whole(size, settings["patch"]) if size else None,
        channels,
        _moments(cfg.get("mean"), cfg.get("std")),
        cfg.get("interpolation"),
    )


def _of_transformers(file: Path, about: dict[str, Any]) -> Described:
    kind, inner = about["model_type"], about.get("vision_config") or about
    processor = json_in(file.parent / "preprocessor_config.json")
    size = inner.get("image_size")
    told: dict[str, Any] = {
        "size": (size, size) if isinstance(size, int) else _size_of(processor),
        "channels": inner.get("num_channels"),
        "moments": _moments(processor.get("image_mean"), processor.get("image_std")),
        "interpolation": RESAMPLED.get(processor.get("resample", -1)),
    }
    if kind in ("vit", "vit_mae"):
        names = {"width": "hidden_size", "depth": "num_hidden_layers", "heads": "num_attention_heads"}
        sizes = {ours: about[theirs] for ours, theirs in (names | {"patch": "patch_size"}).items() if theirs in about}
        return Described(EncoderSettings("vit", **sizes), **told)
    if kind not in NETWORKS:
        known = ", ".join(["vit", "vit_mae", *NETWORKS])
        return Described(unknown=f"config.json says {kind!r}; networks of transformers are known of {known}")
    name = network_of(read_weights(file, device="meta")[0], kind, inner)
    if name is None:
        return Described(unknown=f"no {kind} among {', '.join(NETWORKS[kind])} has weights of such shapes", **told)
    has = {setting.name for setting in fields(config_class(name))}
    settings: dict[str, Any] = {"pool": POOLED.get(kind), "patch": inner.get("patch_size")}
    return Described(EncoderSettings(name, **{key: value for key, value in settings.items() if key in has}), **told)


def network_of(state: State, kind: str, about: dict[str, Any]) -> str | None:
    """The first network of timm for transformers' `kind` whose weights have the shapes of those in `state`, or would
    have with patches of another size."""
    names = [name for pattern in NETWORKS[kind] for name in timm.list_models(pattern) or [pattern]]
    fitting = [name for name in names if _may_be(name, kind, about)]
    patches = dict.fromkeys((None, about.get("patch_size")))
    return next((name for patch in patches for name in fitting if _fits(state, name, patch)), None)


def _may_be(name: str, kind: str, about: dict[str, Any]) -> bool:
    """What shapes do not tell: the activation, and the windows of a Swin V2."""
    if kind.startswith("clip"):
        return ("quickgelu" in name) == (about.get("hidden_act") == "quick_gelu")
    if kind == "swinv2":
        before = max(about.get("pretrained_window_sizes") or [0])
        return f"window{f'{before}to' if before else ''}{about.get('window_size')}_" in name
    return True


def _fits(state: State, name: str, patch: int | None) -> bool:
    net = sketch(name)
    embed = getattr(net, "patch_embed", None)
    if patch and embed is not None and embed.patch_size[0] != patch:
        net = sketch(name, patch_size=patch)
    own = net.state_dict()
    try:
        found, _ = to_timm(state, net, name)
    except WhymaskError:
        return False
    shaped = {key for key in own if key in found and (found[key].shape == own[key].shape or key == "pos_embed")}
    return shaped == set(own) == set(found)


def _whole(size: list[int], patch: int | None) -> tuple[int, int]:
    """The size that whole patches cover: a network of 27 patches of 14 pixels was given images of 384."""
    height, width = (side - side % patch if patch else side for side in size)
    return height, width


def _size_of(processor: dict[str, Any]) -> tuple[int, int] | None:
    size = processor.get("size") or {}
    if "height" in size and "width" in size:
        return size["height"], size["width"]
    side = size.get("shortest_edge")
    return (side, side) if side else None


def moments_for(moments: Moments | None, channels: int | None) -> Moments | None:
    """Mean and deviation for images of so many channels: themselves, or of grey ones the mean over colours; None where
    nothing tells."""
    if moments is None or channels in (None, len(moments[0])):
        return moments
    return ((fmean(moments[0]),), (fmean(moments[1]),)) if channels == 1 else None


def _moments(mean: Any, std: Any) -> Moments | None:
    return (tuple(mean), tuple(std)) if mean and std else None


def config_beside(file: Path) -> dict[str, Any]:
    """The config.json of transformers or timm in the file's folder, {} where there is none."""
    return json_in(file.parent / BESIDE)


def json_in(path: Path) -> dict[str, Any]:
    """What the file holds, {} where there is none."""
    try:
        config = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise WhymaskError(f"{path} is damaged ({error}). Mend it, or move the weights to another folder.") from error
    return config if isinstance(config, dict) else {}


def licence_of(file: Path, metadata: dict[str, str], config: dict[str, Any]) -> str:
    """The licence that the file, its config.json or the model card beside it names."""
    readme = file.parent / "README.md"
    found = metadata.get("license") or (config.get("pretrained_cfg") or config).get("license")
    if not found and readme.exists():
        text = readme.read_text(encoding="utf-8", errors="replace")
        found = ", ".join(re.findall(r"^license(?:_name)?:[ \t]*(\S+)", text, re.MULTILINE))
    return f"licence: {found}, which weights trained from them keep" if found else NO_LICENCE
