"""For timm: a folder as on the hub, opened by ``timm.create_model("local-dir:FOLDER", pretrained=True)``."""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from timm.models import save_for_hf

from whymask.disk import read_json, write_json
from whymask.errors import WhymaskError
from whymask.exports.network import Exported

OPENING = """import timm
import torch
from PIL import Image, ImageOps

model = timm.create_model("local-dir:{folder}", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_data_config(model=model))
with torch.inference_mode():
    {output} = model(transform(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("{mode}"))[None])
"""


def write_timm(what: Exported, folder: Path) -> str:
    what.refuse_places("timm")
    if not what.is_timms:
        raise WhymaskError(
            f"timm has no {what.encoder.timm_name}, so it cannot open it; use --to onnx or --to safetensors, or train "
            "one of timm's networks (--encoder resnet18, vit, ...)"
        )
    net = what.network()
    save_for_hf(
        net,
        str(folder),
        model_config={"label_names": list(what.labels)} if what.task else None,
        model_args=what.encoder.timm_kwargs | {"num_classes": len(what.labels)},
        safe_serialization=True,
        data_config=data_config(what),
    )
    write_json(folder / "config.json", mended(read_json(folder / "config.json"), what))
    images = what.sample()
    with torch.inference_mode():
        what.check("timm", images, timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images))
    return OPENING.format(folder="{folder}", output=what.gives, mode=what.mode)


def mended(about: dict[str, Any], what: Exported) -> dict[str, Any]:
    """config.json without what timm says there of its own weights of this name."""
    cfg = {key: value for key, value in about["pretrained_cfg"].items() if key not in ("license", "tag", "first_conv")}
    args = {key: value for key, value in about["model_args"].items() if key != "num_classes"}  # stands beside it
    return about | {"model_args": args, "pretrained_cfg": cfg | licence_of(what)}


def data_config(what: Exported) -> dict[str, Any]:
    """The preprocessing in timm's words. Its Resize takes floor(size / crop_pct), which is the stored size here."""
    prep = what.encoder.transform
    return {
        "input_size": (prep.channels, *prep.size),
        "mean": prep.mean,
        "std": prep.std,
        "interpolation": prep.interpolation,
        "crop_mode": "center",
        "crop_pct": 1.0 if prep.store == prep.size or not is_plain(what) else crop_share(prep.size, prep.store),
    }


def crop_share(size: tuple[int, int], store: tuple[int, int]) -> float:
    """A share with floor(side / share) the stored side, for both sides.

    Raises WhymaskError where there is none, as there may be of sizes that are not square."""
    low = max(side / (stored + 1) for side, stored in zip(size, store, strict=True))
    high = min(side / stored for side, stored in zip(size, store, strict=True))
    if low >= high:
        raise WhymaskError(
            f"timm's transform cannot crop {size[0]}x{size[1]} pixels from {store[0]}x{store[1]}; use --to onnx, or "
            "train on a square --size"
        )
    return (low + high) / 2


def is_plain(what: Exported) -> bool:
    """Whether Pillow and timm's transform see raw images as the network was trained to: 8 bit, grey or colour."""
    prep = what.encoder.transform
    return prep.channels in (1, 3) and prep.dtype == np.uint8


def licence_of(what: Exported) -> dict[str, str]:
    """The licence of the weights that it began from, if any."""
    origin = what.encoder.origin or ""
    found = origin.partition("licence: ")[2].split(",")[0].strip()
    return {"license": found} if found and not found.startswith("not stated") else {}
