"""For transformers: its own ViT and ViTMAE where they are the same network, else its wrapper of timm."""

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from timm.models import VisionTransformer
from torch import Tensor

from whymask.disk import read_json, write_json
from whymask.encoders.transformers_names import ATTENTION, TRANSFORMER, named
from whymask.errors import WhymaskError
from whymask.exports.network import Exported
from whymask.exports.to_timm import data_config, licence_of, write_timm
from whymask.methods.mae import MAE

PROCESSOR = "timm_preprocessing.json"

NATIVE = """import torch
from PIL import Image, ImageOps
from transformers import TimmWrapperImageProcessor, {model}

processor = TimmWrapperImageProcessor.from_pretrained("{folder}", image_processor_filename="timm_preprocessing.json")
model = {model}.from_pretrained("{folder}").eval()
with torch.inference_mode():
    image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
    {output} = model(**processor(image, return_tensors="pt")){attribute}
"""

WRAPPED = """import torch
from PIL import Image, ImageOps
from transformers import AutoImageProcessor, {model}

processor = AutoImageProcessor.from_pretrained("{folder}")
model = {model}.from_pretrained("{folder}").eval()
with torch.inference_mode():
    image = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}")
    {output} = model(**processor(image, return_tensors="pt")){attribute}
"""

PLAIN = re.compile(
    r"cls_token|pos_embed|patch_embed\.proj\.(weight|bias)|norm\.(weight|bias)"
    r"|blocks\.\d+\.(norm[12]|attn\.(qkv|proj)|mlp\.fc[12])\.(weight|bias)"
)
"""The weights of a ViT as transformers has it."""

DECODER = {
    "decoder_embed.": "embed.",
    "decoder_layers.": "blocks.",
    "decoder_norm.": "norm.",
    "decoder_pred.": "predict.",
    "mask_token": "mask_token",
}
"""ViTMAE's names of our decoder's parts."""


def write_transformers(what: Exported, folder: Path) -> str:
    what.refuse_places("transformers")
    transformers = _library()
    if not is_plain_vit(what):
        return _write_wrapped(what, folder)
    square = what.encoder.size[0] == what.encoder.size[1]  # transformers' MAE takes no others
    if square and isinstance(what.method, MAE):
        kind, attribute = "ViTMAEForPreTraining", ".logits"
        model = transformers.ViTMAEForPreTraining(transformers.ViTMAEConfig(**_sizes(what), **_decoder_sizes(what)))
        model.load_state_dict(_encoder_state(what, model.vit, "vit.") | _decoder_state(what, model.decoder))
    elif what.classifier is not None and what.task is not None:
        kind, attribute = "ViTForImageClassification", ".logits"
        labels = dict(enumerate(what.labels))
        config = transformers.ViTConfig(**_sizes(what), num_labels=len(labels), id2label=labels)
        config.problem_type = what.task.outputs.problem_type
        config.label2id = {name: number for number, name in labels.items()}
        model = transformers.ViTForImageClassification(config)
        head = {f"classifier.{key}": tensor for key, tensor in what.classifier.head.state_dict().items()}
        model.load_state_dict(_encoder_state(what, model.vit, "vit.") | head)
    else:
        kind, attribute = "ViTModel", ".last_hidden_state"
        model = transformers.ViTModel(transformers.ViTConfig(**_sizes(what)), add_pooling_layer=False)
        model.load_state_dict(_encoder_state(what, model, ""))
    model.save_pretrained(folder)
    _write_processor(what, folder)
    _check_native(what, getattr(transformers, kind), folder)
    if kind == "ViTMAEForPreTraining":
        _check_mae(what, folder)
    output = "predictions" if kind == "ViTMAEForPreTraining" else what.gives
    return NATIVE.format(folder="{folder}", model=kind, output=output, attribute=attribute, mode=what.mode)


def is_plain_vit(what: Exported) -> bool:
    """Whether transformers' ViT is the same network: one class token, the usual blocks, and a head on that token."""
    net: Any = what.encoder.net
    if type(net) is not VisionTransformer or net.num_prefix_tokens != 1 or net.cls_token is None:
        return False
    if what.classifier is not None and what.encoder.config.asked().pool != "token":
        return False
    block: Any = net.blocks[0]
    usual = type(block.mlp.act).__name__ == "GELU" and not net.no_embed_class
    return usual and all(map(PLAIN.fullmatch, net.state_dict()))


def _write_wrapped(what: Exported, folder: Path) -> str:
    if not what.is_timms:
        raise WhymaskError(
            f"transformers has no {what.encoder.timm_name}, so it cannot open it; use --to onnx or --to safetensors"
        )
    write_timm(what, folder)
    if what.task is not None:
        about = read_json(folder / "config.json")
        write_json(folder / "config.json", about | {"problem_type": what.task.outputs.problem_type})
    model = "AutoModelForImageClassification" if what.classifier else "AutoModel"
    found = getattr(_library(), model).from_pretrained(folder).eval()
    images = what.sample()
    with torch.inference_mode():
        result = found(pixel_values=images)
    what.check("transformers", images, result.logits if what.classifier else result.pooler_output)
    attribute = ".logits" if what.classifier else ".pooler_output"
    return WRAPPED.format(folder="{folder}", model=model, output=what.gives, attribute=attribute, mode=what.mode)


def _sizes(what: Exported) -> dict[str, Any]:
    net: Any = what.encoder.net
    size = what.encoder.size
    return {
        "hidden_size": net.embed_dim,
        "num_hidden_layers": len(net.blocks),
        "num_attention_heads": net.blocks[0].attn.num_heads,
        "intermediate_size": net.blocks[0].mlp.fc1.out_features,
        "image_size": size[0] if size[0] == size[1] else list(size),
        "patch_size": what.encoder.unit,
        "num_channels": what.encoder.channels,
        "layer_norm_eps": net.norm.eps,
        "hidden_dropout_prob": 0.0,
    }


def _decoder_sizes(what: Exported) -> dict[str, Any]:
    config: Any = what.method.config  # type: ignore[union-attr]
    ratio = config.mask_ratio if isinstance(config.mask_ratio, float) else sum(config.mask_ratio) / 2
    return {
        "decoder_hidden_size": config.decoder_width,
        "decoder_num_hidden_layers": config.decoder_depth,
        "decoder_num_attention_heads": config.decoder_heads,
        "decoder_intermediate_size": 4 * config.decoder_width,
        "norm_pix_loss": config.normalise_targets,
        "mask_ratio": ratio,
    }


def _encoder_state(what: Exported, model: Any, prefix: str) -> dict[str, Tensor]:
    """The encoder's weights under the names of `model`, a ViT of transformers, with `prefix` before them."""
    return {
        f"{prefix}{key}": tensor.reshape(model.state_dict()[key].shape)
        for key, tensor in _renamed(model.state_dict(), what.encoder.net.state_dict()).items()
    }


def _decoder_state(what: Exported, decoder: Any) -> dict[str, Tensor]:
    ours: Any = what.method.decoder  # type: ignore[union-attr]
    own = ours.state_dict() | {"positions": ours.positions[None]}
    channels = what.encoder.channels
    for key in ("predict.weight", "predict.bias"):  # a square's pixels: ours are channel by channel, theirs by pixel
        own[key] = own[key].unflatten(0, (channels, -1)).transpose(0, 1).flatten(0, 1)
    renamed = {}
    for key in decoder.state_dict():
        if key == "decoder_pos_embed":
            renamed[f"decoder.{key}"] = own["positions"]
            continue
        theirs = next(name for name in DECODER if key.startswith(name))
        inner = key.replace(theirs, DECODER[theirs], 1)
        layer = re.sub(r"^blocks\.", "layers.", inner)
        renamed[f"decoder.{key}"] = next(iter(_renamed([layer], own).values()))
    return renamed


def _renamed(theirs: Any, own: dict[str, Tensor]) -> dict[str, Tensor]:
    """For each of their keys our tensor, queries, keys and values apart."""
    result = {}
    for key in theirs:
        if match := re.fullmatch(ATTENTION, key):
            stacked = own[f"blocks.{match['block']}.attn.qkv.{match['kind']}"]
            result[key] = stacked.chunk(3)["qkv".index(match["part"])]
        else:
            result[key] = own[named(key, TRANSFORMER)]
    return result


def _write_processor(what: Exported, folder: Path) -> None:
    """preprocessor_config.json for AutoImageProcessor, and timm's transform as transformers wraps it.

    Transformers' own center crop rounds down where torchvision's, timm's and ours rounds half to even, so for a quarter
    of all image shapes it lies a pixel aside; the wrapped one is exact.
    """
    prep = what.encoder.transform
    cfg = {key: list(value) if isinstance(value, tuple) else value for key, value in data_config(what).items()}
    write_json(folder / PROCESSOR, {"image_processor_type": "TimmWrapperImageProcessor", "pretrained_cfg": cfg})
    own = {
        "image_processor_type": "BitImageProcessorPil",
        "do_resize": True,
        "size": {"shortest_edge": min(prep.store)},
        "resample": int(Image.Resampling[prep.interpolation.upper()]),
        "do_center_crop": True,
        "crop_size": {"height": prep.size[0], "width": prep.size[1]},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(prep.mean),
        "image_std": list(prep.std),
        "do_convert_rgb": prep.channels == 3,
    }
    write_json(folder / "preprocessor_config.json", own)
    write_json(folder / "config.json", read_json(folder / "config.json") | licence_of(what))


def _check_native(what: Exported, kind: Any, folder: Path) -> None:
    images = what.sample()
    arguments = {} if kind.__name__ != "ViTMAEForPreTraining" else {"mask_ratio": 0.0}
    model = kind.from_pretrained(folder, **arguments).eval()
    with torch.inference_mode():
        if what.classifier is not None:
            found = model(images).logits
        else:
            inner, places = getattr(model, "vit", model), what.encoder.grid[0] * what.encoder.grid[1]
            shown = {"noise": torch.arange(float(places)).expand(len(images), -1)} if arguments else {}
            found = what.encoder.pool(inner(images, **shown).last_hidden_state)
    what.check("transformers", images, found)


def _check_mae(what: Exported, folder: Path) -> None:
    """Prediction and loss are the method's own on the same mask."""
    method: Any = copy.deepcopy(what.method)
    method.config = replace(method.config, decode_share=1.0)  # transformers decodes every hidden square
    (hidden,) = method.draw(2, torch.Generator().manual_seed(0))
    images = what.sample()
    share = float(hidden[0].float().mean())
    model = _library().ViTMAEForPreTraining.from_pretrained(folder, mask_ratio=share).eval()
    noise = hidden.flatten(1).float() + torch.arange(hidden[0].numel()) * 1e-6
    with torch.inference_mode():
        ours, theirs = method(images, hidden)["loss"], model(images, noise=noise).loss
    if abs(float(ours - theirs)) > 1e-5 * max(1.0, float(ours)):
        raise WhymaskError(f"the transformers export has loss {theirs:.6f} instead of {ours:.6f}; report this")


def _library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise WhymaskError("this needs transformers; install it: pip install 'whymask[peers]'") from error
    return transformers
