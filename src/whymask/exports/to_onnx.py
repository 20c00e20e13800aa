"""For ONNX runtimes: normalised images in, outputs of a head or pooled features out; any number, of one size. Of a
segmentation network logits (B, k, h, w)."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch

from whymask.disk import write_json
from whymask.errors import WhymaskError
from whymask.exports.network import Exported
from whymask.exports.seeing import seeing_code

OPENING = """import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

about = json.load(open("{folder}/preprocessing.json"))
{seeing}session = onnxruntime.InferenceSession("{folder}/model.onnx")
({output},) = session.run(None, {{"images": images}})
"""


def write_onnx(what: Exported, folder: Path) -> str:
    what.refuse_places("onnx")
    net = what.network()
    refuse_dynamic_sizes(net, what.encoder.timm_name)
    output = what.gives
    images = what.sample()
    export_onnx(net, images, folder / "model.onnx", output)
    prep = what.encoder.transform
    about = prep.to_dict() | {"resampling": f"{prep.interpolation}, antialiased", "input": "images", "output": output}
    write_json(folder / "preprocessing.json", about | (what.task.to_dict() if what.task else {}))
    _check(what, folder / "model.onnx")
    return OPENING.format(folder="{folder}", output=output, seeing=seeing_code(what))


def refuse_dynamic_sizes(net: Any, name: str) -> None:
    """Raises WhymaskError for a network that resizes its position embedding to each image: a graph cannot."""
    dynamic = [key for key in ("dynamic_img_size", "dynamic_img_pad") if getattr(net, key, False)]
    dynamic += [key for key in ("dynamic_img_pad",) if getattr(getattr(net, "patch_embed", None), key, False)]
    if dynamic:
        raise WhymaskError(
            f"{name} has {dynamic[0]}: it fits itself to images of any size, and an ONNX graph has one size; build it "
            "without, for the size that it will see"
        )


def export_onnx(net: Any, images: torch.Tensor, path: Path, output: str) -> None:
    """Raises WhymaskError where the exporter is not installed, or cannot translate the network."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise WhymaskError(f"ONNX export needs {error.name}; install it: pip install 'whymask[onnx]'") from error
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net,
                (images,),
                str(path),
                input_names=["images"],
                output_names=[output],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except Exception as error:  # whatever a network does that has no translation
        raise WhymaskError(
            f"this network cannot be written as an ONNX graph ({type(error).__name__}: {str(error)[:300]}); use "
            "another target"
        ) from error


def _check(what: Exported, path: Path) -> None:
    """By onnxruntime, else by onnx's own slow evaluator, on another number of images than it was traced with."""
    images = torch.cat([what.sample(), what.sample().flip(3)])[:3]
    feed = {"images": images.numpy()}
    try:
        import onnxruntime

        (found,) = onnxruntime.InferenceSession(str(path)).run(None, feed)
    except ImportError:
        from onnx.reference import ReferenceEvaluator

        (found,) = ReferenceEvaluator(str(path)).run(None, feed)
    what.check("ONNX", images, torch.from_numpy(found))
