"""Settings like those of a finished run, so that only what is meant to differ does."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from whymask.data.inherited import CUT
from whymask.disk import read_json
from whymask.encoders.files import read_description
from whymask.progress import say
from whymask.stages.recipes import RECIPES
from whymask.stages.record import read_record
from whymask.stages.settings import SCRATCH, FinetuneSettings, FinetuneTrainingSettings, ProbeSettings
from whymask.stages.taken import data_of, encoder_of, network_of

Asked = TypeVar("Asked", FinetuneSettings, ProbeSettings)


def settings_like(asked: Asked) -> Asked:
    """`asked`, in which whatever is at its default is as in the run `asked.like`; both are said in a line.

    What the weights of `asked.origin` bring with them, encoder, size, channels, frames and tiles, is left to them.
    Training from scratch takes no layer decay from a pretrained network, whose lower layers it is meant for. A
    pretraining used no labels: of it only encoder and how images are seen are taken. Raises WhymaskError where
    `asked.like` has no finished classifier, or for a probe no encoder.
    """
    if asked.like is None:
        return asked
    trains = isinstance(asked, FinetuneSettings)
    folder = network_of(Path(asked.like)) if trains else encoder_of(Path(asked.like))
    taken: dict[str, Any] = {}
    given: dict[str, Any] = {}

    def like(part: Any, found: Mapping[str, Any]) -> Any:
        default = type(part)(origin=asked.origin) if part is asked else type(part)()
        known = {name: value for name, value in found.items() if value is not None and hasattr(part, name)}
        free = {name: value for name, value in known.items() if getattr(part, name) == getattr(default, name)}
        taken.update({name: value for name, value in free.items() if value != getattr(default, name)})
        given.update({name: getattr(part, name) for name in known.keys() - free if getattr(part, name) != known[name]})
        return replace(part, **free)

    record = read_record(folder)
    of_labels = {} if record.budget is None else vars(record)
    settings = like(asked, {name: of_labels.get(name) for name in ("budget", "seed", "augment")})
    if isinstance(asked, FinetuneSettings):
        settings = replace(settings, training=like(asked.training, _training_of(folder, asked)))
    settings = replace(settings, data=like(asked.data, _data_of(folder, asked)))
    if asked.origin == SCRATCH and asked.encoder.name in ("auto", (record.encoder or {}).get("name")):
        settings = replace(settings, encoder=like(asked.encoder, record.encoder or {}))
    say(f"as in {folder}: {_listed(taken)}{f'; given otherwise: {_listed(given)}' if given else ''}")
    return replace(settings, like=str(folder))


def warn_of_other_data(like: str | None, fingerprint: str) -> None:
    """Say so where the images or labels are not those of the run `like`, which settings were taken from, and which
    learnt from labels too."""
    if like is None or (record := read_record(Path(like))).budget is None:
        return
    if record.data != fingerprint:
        say(f"warning: these are not the images, labels and split of {like}: the two runs are not tested on the same")


def _training_of(folder: Path, asked: FinetuneSettings) -> dict[str, Any]:
    record = read_record(folder)
    found = record.training or read_json(folder / "result.json").get("training") or {}
    left_out = {"checkpoint_every"}
    if asked.training.recipe != "auto":
        left_out |= RECIPES["few"].keys()
    if asked.origin == SCRATCH != record.arm:
        left_out |= {"layer_decay"}
    known = {f.name for f in fields(FinetuneTrainingSettings)} - left_out
    return {name: value for name, value in found.items() if name in known}


def _data_of(folder: Path, asked: FinetuneSettings | ProbeSettings) -> dict[str, Any]:
    data = {} if read_record(folder).budget is None else data_of(folder)
    found = {name: data.get(name) for name in ("task", "group_by", "test_share", "transductive")}
    found["near_duplicates"] = "keep" if data.get("near_kept") else None
    if asked.origin != SCRATCH:
        return found
    about = read_description(folder)
    height, width = about["size"]
    cut = {name: about["preprocessing"].get(name) for name in CUT}
    return found | cut | {"size": height if height == width else (height, width), "channels": about["channels"]}


def _listed(settings: Mapping[str, Any]) -> str:
    called = {"encoder" if name == "name" else name.replace("_", " "): value for name, value in settings.items()}
    changing = (f"{name} {value}" for name, value in called.items() if value not in ("", 0.0, False))
    return ", ".join(changing) or "nothing but defaults"
