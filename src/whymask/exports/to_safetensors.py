"""Weights alone: the encoder as whymask keeps it, with its head, or the decoder that it was pretrained with.

With a segmentation or detection network's come the classes that it is made of, so that it opens without whymask too.
"""

import shutil
from pathlib import Path

import torch

from whymask.disk import read_json, write_bytes, write_record
from whymask.encoders import load_encoder
from whymask.exports.network import Exported
from whymask.exports.plain import CODES, code_of, is_plain, making
from whymask.exports.seeing import seeing_code
from whymask.stages.detect import Detector
from whymask.stages.network import load_network

OPENING = """from PIL import Image
from whymask import load_encoder

encoder = load_encoder("{folder}")
features = encoder.pool(encoder(encoder.transform(Image.open("photo.jpg"))[None]))
"""

WITH_HEAD = """from PIL import Image
from whymask import load_network

model, task = load_network("{folder}")
{output} = model(model.encoder.transform(Image.open("photo.jpg"))[None])
"""

PLAIN = """{making}

import json

import numpy as np
import torch
from PIL import Image, ImageOps

about = json.load(open("{folder}/encoder/encoder.json"))["preprocessing"]
{seeing}with torch.inference_mode():
    {output} = model({images})
"""

IN_PIXELS = """boxes = detections[0]["boxes"] / torch.tensor([*scale, *scale])  # in pixels of photo.jpg
"""


def write_safetensors(what: Exported, folder: Path) -> str:
    shutil.copytree(what.source / "encoder", folder / "encoder")
    if not what.names and what.encoder.origin is not None:
        about = read_json(folder / "encoder" / "encoder.json")
        write_record(folder / "encoder" / "encoder.json", about | {"origin": what.encoder.origin.partition("; ")[2]})
    if what.task is not None:
        shutil.copyfile(what.source / "head.safetensors", folder / "head.safetensors")
        write_record(folder / "head.json", read_json(what.source / "head.json") | what.task.to_dict())
    images = what.sample()
    if what.task is None:
        encoder = load_encoder(folder)
        what.check("safetensors", images, encoder.pool(encoder(images)))
        return OPENING
    what.check("safetensors", images, load_network(folder)[0](images))
    placing = what.placing
    if placing is None or not is_plain(what.encoder):
        return WITH_HEAD.format(folder="{folder}", output=what.gives)
    is_detector = isinstance(placing, Detector)
    write_bytes(folder / CODES["boxes" if is_detector else "maps"], code_of(placing).encode())
    with torch.inference_mode():
        found = placing.found(what.network()([*images])) if isinstance(placing, Detector) else what.network()(images)
    what.check("safetensors", images, found)
    given = "[*torch.from_numpy(images)]" if is_detector else "torch.from_numpy(images)"
    parts = {"making": making(placing).strip(), "output": what.gives, "seeing": seeing_code(what), "images": given}
    return PLAIN.format(folder="{folder}", **parts) + IN_PIXELS * is_detector
