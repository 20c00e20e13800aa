"""Weights alone: the encoder as whymask keeps it, with its head, or the decoder that it was pretrained with."""

import shutil
from pathlib import Path

from whymask.disk import read_json, write_record
from whymask.encoders import load_encoder
from whymask.exports.network import Exported

OPENING = """from PIL import Image
from whymask import load_encoder

encoder = load_encoder("{folder}")
features = encoder.pool(encoder(encoder.transform(Image.open("photo.jpg"))[None]))
"""

WITH_HEAD = """from PIL import Image
from whymask.stages.classify import load_classifier

model, task = load_classifier("{folder}")
{output} = model(model.encoder.transform(Image.open("photo.jpg"))[None])
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
    encoder = load_encoder(folder)
    features = encoder.pool(encoder(images))
    what.check("safetensors", images, features if what.classifier is None else what.classifier.head(features))
    return WITH_HEAD.format(folder="{folder}", output=what.gives) if what.task else OPENING
