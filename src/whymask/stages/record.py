"""What a run is, in its config.json: written when it begins, compared when it is continued, read back by who asks."""

from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from whymask.disk import read_json
from whymask.errors import WhymaskError
from whymask.runs import CONFIG_SCHEMA
from whymask.stages.earlier import known_of_earlier_versions
from whymask.stages.settings import AugmentName

Stage = Literal["pretrain", "finetune", "probe"]

UNKNOWN = "pretrained"
"""The arm of weights of which nothing says what pretrained them."""
GIVEN = "given"
"""The arm of a classifier that was not trained here."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One network's training, or a probe of one.

    Attributes:
        arm: what its network is in a comparison: the method that pretrained it ("pretrained" where nothing says which),
            scratch, scratch-long, init, or a control's name.
        data: fingerprint of the images and their labels.
        budget: labels that it is trained on, as a user writes them; None of a pretraining.
        encoder: the resolved settings of its encoder, and `augment` the resolved name; None of a probe, whose weights
            say what they are, but where they are from scratch.
        origin: where its first weights came from, a run folder or a checkpoint, as given or relative to the run's own
            folder; None for new weights. `partial`: whether weights might be left out.
        method, method_settings: of the pretraining that it is, or began with.
        training: the resolved settings of the loop and, in fine-tuning, of the recipe.
        about: what else it was told, such as the neighbours of a probe, and digests of code of one's own.
    """

    stage: Stage
    arm: str
    seed: int
    data: str
    budget: str | None = None
    encoder: dict[str, Any] | None = None
    augment: AugmentName | None = None
    origin: str | None = None
    partial: bool = False
    method: str | None = None
    method_settings: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def mask_ratio(self) -> float | None:
        """What pretraining hid, as a share: the mean where it was drawn between two bounds; None where nothing says."""
        ratio = (self.method_settings or {}).get("mask_ratio")
        return None if ratio is None else float(sum(ratio) / len(ratio)) if isinstance(ratio, list) else float(ratio)


def content_of(stored: dict[str, Any]) -> dict[str, Any]:
    """Fields of a `RunRecord` that a config.json's content tells: all of today's, what is known of earlier ones."""
    config = stored.get("config", stored)  # or of no run at all, which then differs from any
    return known_of_earlier_versions(config) if stored.get("schema", 1) < CONFIG_SCHEMA else config


def with_same_origin(there: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """`there`, a stored record's content, with its origin as it is `given` now where both are one path, seen from the
    working directory: r/1, ./r/1 and its absolute path."""
    old, new = there.get("origin"), given.get("origin")
    same = old is not None and new is not None and Path(old).resolve() == Path(new).resolve()
    return there | {"origin": new} if same else there


def read_record(folder: Path) -> RunRecord:
    """What the run in `folder` is. Raises WhymaskError where there is none."""
    path = folder / "config.json"
    if not path.exists():
        raise WhymaskError(f"{folder} is no run folder (it has no config.json); give a finished run")
    content = {"arm": UNKNOWN} | content_of(read_json(path))
    if not {"stage", "arm", "seed", "data"} <= content.keys() <= {f.name for f in fields(RunRecord)}:
        raise WhymaskError(f"{path} is not of a run of pretrain, finetune or probe; give the folder of such a run")
    return RunRecord(**content)


def origin_of(folder: Path, record: RunRecord) -> Path | None:
    """The run folder or checkpoint that the run in `folder` began with, if it is still there; None for new weights."""
    if record.origin is None:
        return None
    own = [folder / record.origin] if record.origin.startswith("..") else []  # as a study's cells have it
    return next((path for path in (*own, Path(record.origin)) if path.exists()), None)
