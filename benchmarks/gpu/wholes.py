"""Whole loops, from images in memory by way of the store to an encoder, and whole commands."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.gpu.checks import HALF, CheckError, check
from benchmarks.gpu.place import Place
from benchmarks.gpu.scale import Images, Network
from benchmarks.gpu.steps import Figures
from benchmarks.wheels import ROOT
from whymask import DataSettings, PretrainSettings, PretrainTrainingSettings, RuntimeSettings, pretrain
from whymask.disk import read_json
from whymask.randomness import numpy_generator

HOLDING = ("growth", "retention")
"""Claims of the theory that 5 seeds suffice to see hold, on a CPU."""


def loop(place: Place, network: Network, images: Images, batch: int, resident: bool = True) -> Figures:
    """`whymask.pretrain` by `mae` from a store of random images; the rate between two lines of its metrics, behind the
    start. Not `resident`: the images do not lie on the GPU, but come from the store batch by batch."""
    shape = images.count, images.side, images.side, 3
    pixels = numpy_generator("bench").integers(0, 256, shape, dtype=np.uint8)
    away = nullcontext() if resident else patch("whymask.data.moving.RESIDENT_SHARE", 0.0)
    with TemporaryDirectory() as folder, away:
        few = pixels[: place.scale.checked]
        kinds = ("cpu", place.device.type)  # where the device is the CPU, that run is there already
        expected, loss = (pretrained(few, Path(folder), network, len(few), 1, kind)["loss"] for kind in kinds)
        off = abs(loss - expected) / abs(expected)
        checked = [check("first loss off the CPU's by", off, HALF)]
        with place.memory() as peak:
            result = pretrained(pixels, Path(folder), network, batch, images.epochs, place.device.type)
        if not np.isfinite(result["loss"]) or result["images_seen"] != result["steps"] * batch:
            raise CheckError(f"loss {result['loss']}, {result['images_seen']} images in {result['steps']} steps")
        lines = (Path(folder) / name_of(place.device.type, len(pixels)) / "metrics.jsonl").read_text().splitlines()
    rate, wait = steady([json.loads(line) for line in lines], batch)
    return Figures(value=rate, unit="images/s", checked=(*checked, "loss finite"), memory=peak.get("memory"), wait=wait)


def name_of(device: str, images: int) -> str:
    return f"{device}-{images}"


def pretrained(
    pixels: np.ndarray, folder: Path, network: Network, batch: int, epochs: int, device: Any
) -> dict[str, Any]:
    """The result of pretraining on these images, kept in a folder of this name."""
    settings = PretrainSettings(
        encoder=network.encoder,
        data=DataSettings(size=network.side, store=folder / "store"),
        training=PretrainTrainingSettings(epochs=epochs, batch_size=batch),
        runtime=RuntimeSettings(device=device),
    )
    return pretrain(pixels, out=folder / name_of(device, len(pixels)), settings=settings)


def steady(lines: Sequence[dict[str, Any]], batch: int) -> tuple[float, float]:
    """Images a second and the share of waiting, between a third of the lines of metrics and the last."""
    first, last = lines[len(lines) // 3 if len(lines) > 1 else 0], lines[-1]
    (seen, began), (all_seen, ended) = ((line["step"] * batch, seconds_at(line, batch)) for line in (first, last))
    if ended <= began:
        return last["images_per_second"], last["data_wait"]
    waited = last["data_wait"] * ended - first["data_wait"] * began
    return (all_seen - seen) / (ended - began), waited / (ended - began)


def seconds_at(line: dict[str, Any], batch: int) -> float:
    """The loop's, at a line of metrics, which tells the rate since the start."""
    return line["step"] * batch / line["images_per_second"]


def demo(place: Place) -> Figures:
    """The seconds of the whole command of the demo, its start-up included."""
    with TemporaryDirectory() as folder:
        arguments = ("study", "glyphs" if place.scale.proves else "glyphs:unlabelled=64,train=60,test=60")
        seconds = command(place, Path(folder), *arguments, *place.scale.study)
        said = read_json(Path(folder) / "out" / "study.json")["verdict"]["kind"]
    if place.scale.proves and said != "helps":
        raise CheckError(f"the demo's verdict is {said!r} after {seconds:.1f} s, helps was expected")
    return Figures(value=seconds, unit="s", checked=(f"verdict: {said}",))


def theory(place: Place) -> Figures:
    """The seconds of the whole command of the theory lab."""
    with TemporaryDirectory() as folder:
        seconds = command(place, Path(folder), "theory", *place.scale.theory)
        claims = read_json(Path(folder) / "out" / "claims.json")["claims"]
    states = [claim["state"] for claim in claims if claim["state"]]
    lost = [claim["id"] for claim in claims if claim["id"] in HOLDING and claim["state"] != "holds"]
    if place.scale.proves and lost:
        raise CheckError(f"{', '.join(lost)} of the theory do not hold, after {seconds:.1f} s")
    return Figures(value=seconds, unit="s", checked=(f"{states.count('holds')} of {len(states)} claims hold",))


def command(place: Place, folder: Path, *arguments: str) -> float:
    """Seconds that `whymask ARGUMENTS` takes, its run in folder/out. Raises CheckError where it fails."""
    given = ["--device", place.device.type, "--out", str(folder / "out")]
    ways = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": ways, "WHYMASK_STORE": str(folder / "store")}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "whymask", *arguments, *given], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        raise CheckError(f"whymask {arguments[0]} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return time.perf_counter() - began
