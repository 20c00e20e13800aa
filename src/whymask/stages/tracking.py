"""What is told of a run to who tracks it: scalars, settings, reconstructions, the page. Training knows nothing of it.

A tracker is any logger of Lightning's or Fabric's interface. One that cannot be begun where a run stands alone is an
error, told before anything is computed; one that fails later is left out, which is said, and the run goes on.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whymask.errors import WhymaskError
from whymask.fabric import Logger
from whymask.progress import say
from whymask.report.pictures import arrays_of
from whymask.report.text import flatten, known
from whymask.runs import TRACKED, RunFolder, metrics_of
from whymask.stages.settings import Track, check_track
from whymask.stages.trackers import HINTS, TRACKERS

NAMING = frozenset({"about", "data", "init", "origin", "provenance", "starts"})
"""Settings that may hold names of files or classes."""
SHOWN = ("original", "masked", "reconstructed")


@dataclass(frozen=True)
class Tracking:
    """Who is told: names of `TRACKERS`, or loggers; and whether of reconstructions, and of names and paths."""

    asked: tuple[str | Logger, ...]
    images: bool = True
    names: bool = True

    @classmethod
    def of(cls, asked: Track, *, images: bool = True, names: bool = True) -> "Tracking | None":
        """What a function was given as `track`. Raises WhymaskError for what is no tracker, or not installed."""
        several = asked if isinstance(asked, tuple | list) else () if asked is None else (asked,)
        check_track([one for one in several if isinstance(one, str)])
        for one in several:
            if not isinstance(one, str) and not (hasattr(one, "log_metrics") and hasattr(one, "log_hyperparams")):
                raise WhymaskError(
                    f"track={one!r}: one of {', '.join(TRACKERS)}, or a logger of Lightning's interface, was expected"
                )
        return cls(tuple(several), images, names) if several else None


class Tracker:
    """The loggers of a run. Each is told what it can be told, and left out from its first failure on."""

    def __init__(self, loggers: Mapping[str, Logger], names: bool = True) -> None:
        self.loggers, self.names = dict(loggers), names

    @classmethod
    def begun(cls, tracking: Tracking, run: RunFolder) -> "Tracker":
        """Raises WhymaskError for one that cannot be begun."""
        loggers: dict[str, Logger] = {}
        for asked in tracking.asked:
            if not isinstance(asked, str):
                loggers[type(asked).__name__] = asked
                continue
            try:
                name = str(run.path) if tracking.names else run.path.name
                loggers[asked] = TRACKERS[asked](run.path, name, run.last_step() or 0)
            except Exception as error:  # a service says what it likes
                hint = f" ({HINTS[asked]})" if asked in HINTS else ""
                why = f"{error}".strip().rstrip(".")
                raise WhymaskError(f"--track {asked} cannot begin: {why}; mend that{hint}, or leave it out") from error
        return cls(loggers, tracking.names)

    def settings(self, values: Mapping[str, Any]) -> None:
        """What may hold names of files or classes is left out where they are not to be told."""
        told = flatten(dict(values) if self.names else _without_names(values))
        self._each(lambda logger: describe(logger, told))

    def line(self, line: Mapping[str, Any]) -> None:
        """The scalars of a line of metrics.jsonl, at its step."""
        told = dict(numbers_in(line))
        step = int(told.pop("step", 0))
        self._each(lambda logger: logger.log_metrics(told, step=step))

    def picture(self, name: str, image: np.ndarray) -> None:
        """uint8 (h, w, C), of 1 or 3 channels; to loggers that take pictures."""
        self._each(lambda logger: show(logger, name, image))

    def file(self, path: Path) -> None:
        """To loggers that take files."""
        self._each(lambda logger: attach(logger, path))

    def end(self, status: str) -> None:
        """ "success", "failed" or "stopped"."""
        self._each(lambda logger: logger.finalize(status))

    def _each(self, tell: Callable[[Logger], None]) -> None:
        for name, logger in list(self.loggers.items()):
            try:
                tell(logger)
            except NotImplementedError:  # as of Fabric's CSVLogger, which takes no settings
                continue
            except Exception as error:  # a service says what it likes; a run of days does not end of it
                del self.loggers[name]
                say(f"warning: tracking by {name} has ended: {type(error).__name__}: {error}; the run goes on without")


def _without_names(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: _without_names(value) if isinstance(value, dict) else value
        for key, value in values.items()
        if key not in NAMING
    }


def numbers_in(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """{"loss": 1.0, "validation": {"knn": 0.5}} -> ("loss", 1.0), ("validation/knn", 0.5)."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from numbers_in(value, f"{prefix}{name}/")
        elif known(value):
            yield f"{prefix}{name}", value


def describe(logger: Any, settings: Mapping[str, str]) -> None:
    """The settings; TensorBoard, which knows them only beside a number to choose by, gets them as a table."""
    behind: Any = getattr(logger, "experiment", None)
    if hasattr(behind, "add_text"):
        rows = "".join(f"| {name} | {value.replace('|', ' ')} |\n" for name, value in settings.items())
        behind.add_text("settings", f"| setting | value |\n| --- | --- |\n{rows}")
    logger.log_hyperparams(dict(settings))


def show(logger: Any, name: str, image: np.ndarray) -> None:
    """A picture, by what the logger or what is behind it has: wandb's, TensorBoard's or MLflow's."""
    behind: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_image"):
        logger.log_image(name, [image])
    elif hasattr(behind, "add_image"):
        behind.add_image(name, image, dataformats="HWC")
    elif hasattr(behind, "log_image") and hasattr(logger, "run_id"):
        behind.log_image(logger.run_id, image, f"{name}.png")


def attach(logger: Any, path: Path) -> None:
    """A file, likewise; TensorBoard, which takes none, is told where it lies."""
    behind: Any = getattr(logger, "experiment", None)
    if hasattr(logger, "log_file"):
        logger.log_file(path)
    elif hasattr(behind, "add_text"):
        behind.add_text(path.name, str(path))
    elif hasattr(behind, "log_artifact") and hasattr(logger, "run_id"):
        behind.log_artifact(logger.run_id, str(path))


@contextmanager
def tracked(tracking: Tracking | None, run: RunFolder, record: Mapping[str, Any], alone: bool) -> Iterator[None]:
    """Within, what `run` logs is told, and at the end what came of it; nothing of a finished run.

    Raises WhymaskError where a tracker cannot be begun and the run stands `alone`; else that is said."""
    if tracking is None or run.result is not None:
        yield
        return
    was_tracked, last = (run.path / TRACKED).exists(), run.last_step() or 0
    try:
        tracker = Tracker.begun(tracking, run)
    except WhymaskError as error:
        if alone:
            raise
        say(f"warning: {error}")
        yield
        return
    tracker.settings({**record, "provenance": run.provenance})
    for line in [] if was_tracked else metrics_of(run.path / "metrics.jsonl"):
        if line["step"] <= last:  # what comes behind the last checkpoint is done again
            tracker.line(line)
    run.tell = tracker.line
    try:
        yield
    except BaseException as error:
        tracker.end("stopped" if isinstance(error, KeyboardInterrupt) else "failed")
        raise
    finally:
        run.tell = None
    if run.result is not None:
        tell_end(tracker, tracking, run.path, run.result)
    tracker.end("success")


def tell_end(tracker: Tracker, tracking: Tracking, folder: Path, result: Mapping[str, Any]) -> None:
    """A finished run's numbers at its last step, and its reconstructions."""
    tracker.line({"result": result, "step": result.get("steps", 0)})
    arrays = arrays_of(folder / "gallery.npz") if tracking.images else {}
    if set(SHOWN) <= arrays.keys():
        tracker.picture("reconstructions", side_by_side(arrays[name] for name in SHOWN))


def side_by_side(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Images uint8 (n, h, w, C) each, as one of n rows; of other than 1 or 3 channels the first, or first three."""
    whole = np.concatenate([np.concatenate(list(images), axis=0) for images in columns], axis=1)
    return whole[..., :3] if whole.shape[-1] >= 3 else whole[..., :1]
