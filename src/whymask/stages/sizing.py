"""The batch size, where it is to be found: once, when a run begins. It is recorded, so that the run goes on with it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from whymask.errors import WhymaskError
from whymask.progress import say
from whymask.stages.context import Context
from whymask.stages.record import read_record
from whymask.training.loop import Training
from whymask.training.memory import ASKED, device_text, largest_batch
from whymask.training.settings import TrainingSettings
from whymask.training.sharding import is_sharded

T = TypeVar("T", bound=TrainingSettings)


def with_batch_size(asked: T, context: Context, out: Path, trial: Callable[[T], Training]) -> T:
    """`asked`, with a number for "auto": that of the run in `out` if one was begun there, else the largest batch that
    fits the device, found by what `trial` makes. It is said."""
    if asked.batch_size != "auto":
        return asked
    default, fabric = int(type(asked).batch_size), context.fabric
    together = asked.accumulate * fabric.world_size
    default = max(together, default - default % together)
    begun = context.by_first(lambda: _begun_with(out))
    if begun is not None:
        found, reason = begun, f"as in {out}"
    elif fabric.device.type not in ASKED:
        found, reason = default, f"the default: the memory of a {fabric.device.type} is not asked"
    elif is_sharded(fabric):
        raise WhymaskError("--batch-size auto with --shard: what fits is not tried of a divided network; give a number")
    else:
        training = trial(replace(asked, batch_size=default))
        masks = getattr(training.model, "masks_per_image", 1)
        found = largest_batch(fabric, training, default, masks)
        reason = f"by trial on {device_text(fabric)}, a fifth of it left"
    chosen = replace(asked, batch_size=found)
    say(f"batch size {found}, {reason}; learning rate {chosen.peak:.3g}")
    return chosen


def _begun_with(out: Path) -> int | None:
    """The batch size of the run in `out`; None where there is none, or it does not say."""
    if not (out / "config.json").exists():
        return None
    return (read_record(out).training or {}).get("batch_size")
