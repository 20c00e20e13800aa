"""What several test files share: a store of their own, one tiny finished study, and folders of pictures.

What is slow to import, torch above all, is imported where it is used: pytest-xdist reads this file also in the process
that runs no test, and starts the others only then.
"""

import math
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import hypothesis
import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

if TYPE_CHECKING:
    from whymask import Explanation

LONGEST_FIRST = (
    "studies/test_cluster", "test_snippets", "test_notebooks", "methods/test_every_method",
    "explanations/test_explain", "explanations/test_page", "training/test_ranks", "test_faults",
    "exports/test_export", "encoders/test_timm_encoders", "theory/test_theory", "training/test_nodes",
    "studies/test_study", "test_gpu_benchmarks", "studies/test_tasks", "explanations/test_label",
    "encoders/test_transformers", "studies/test_final", "encoders/test_masked", "studies/test_verdict",
    "test_package", "test_stopping", "training/test_loop", "test_startup", "training/test_detection",
    "training/test_compiling", "stages/test_classify", "encoders/test_recompute", "stages/test_detected",
    "studies/test_page", "test_systems", "tasks/test_scores", "tasks/test_every_task", "studies/test_starts",
    "test_surroundings", "stages/test_record", "test_site", "test_examples",
)  # fmt: skip
"""Files of ten seconds and more begin before all others: of two workers, none ends long after the other."""


_ANY_SPEED = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("new-cases", **_ANY_SPEED)
hypothesis.settings.register_profile("same-cases", **_ANY_SPEED, derandomize=True)
hypothesis.settings.load_profile("same-cases")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=("cpu", "cuda", "mps"), help="where tests train (default: cpu)")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ or not config.getoption("numprocesses", None):
        import tiny

        tiny.DEVICE = config.getoption("--device")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}

    def place(item: pytest.Item) -> int:
        name = item.path.with_suffix("").relative_to(Path(__file__).parent).as_posix()
        return places.get(name, len(places))

    items.sort(key=place)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a test draws without a seed of its own depends on its name, not on the tests before it."""
    import torch

    seed = crc32(item.nodeid.encode())
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.manual_seed(seed)


def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of all processes that share the tests."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that the first of these processes makes, for all of them."""
    folder = shared(tmp_path_factory) / name
    whole = folder.with_suffix(".whole")
    with FileLock(folder.with_suffix(".lock")):
        if not whole.exists():
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Decoded images go to a temporary folder, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYMASK_STORE", str(shared(tmp_path_factory) / "store"))
        yield


@pytest.fixture(scope="session", autouse=True)
def no_clock() -> Iterator[None]:
    """What is said, read or saved now and then, by the clock, is not, and planning takes none of a study's hours: no
    test depends on how fast the machine is."""
    with pytest.MonkeyPatch.context() as patch:
        for room in ("progress", "studies.run", "studies.hours"):
            patch.setattr(import_module(f"whymask.{room}"), "time", SimpleNamespace(monotonic=lambda: 0.0))
        patch.setattr("whymask.training.log.SECONDS_BETWEEN_READINGS", math.inf)
        patch.setattr("whymask.training.loop.SECONDS_BETWEEN_CHECKPOINTS", math.inf)
        patch.setattr("whymask.stages.watching.FREE_SECONDS", math.inf)
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, own_store: Any) -> Path:
    """The folder of a finished tiny study. Tests read it; one that writes copies it."""
    from tiny import GLYPHS, tiny_settings
    from whymask import study

    return made_once(tmp_path_factory, "tiny", lambda out: study(GLYPHS, out=out, settings=tiny_settings()))


@pytest.fixture(scope="session")
def explained(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> "Explanation":
    """The tiny study explained by every measure. Tests read its folder; one that writes copies it."""
    from tiny import GLYPHS, small_explanation
    from whymask import Explanation, explain

    def make(out: Path) -> None:
        explain(finished, GLYPHS, out=out, settings=small_explanation())

    return Explanation.load(made_once(tmp_path_factory, "why", make))


@pytest.fixture(scope="session")
def segmenter(tmp_path_factory: pytest.TempPathFactory, own_store: Any) -> Path:
    """A folder with data/, drawn pictures and their label maps, and run/, a network that was trained on them a little.
    Tests read it; one that writes copies it."""
    from tiny import drawn_with_maps, runtime
    from whymask import EncoderSettings, FinetuneSettings, FinetuneTrainingSettings, finetune

    def make(out: Path) -> None:
        training = FinetuneTrainingSettings(epochs=8, batch_size=8, learning_rate=1e-2)
        settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=8), training=training, runtime=runtime())
        finetune(drawn_with_maps(out / "data"), out=out / "run", settings=settings)

    return made_once(tmp_path_factory, "segmenter", make)


@pytest.fixture(scope="session")
def detector(tmp_path_factory: pytest.TempPathFactory, own_store: Any) -> Path:
    """A folder with data/, drawn pictures with boxes around what is drawn, and run/, a network that was trained on them
    a little. Tests read it; one that writes copies it."""
    from tiny import drawn_with_boxes, runtime
    from whymask import EncoderSettings, FinetuneSettings, FinetuneTrainingSettings, finetune

    def make(out: Path) -> None:
        training = FinetuneTrainingSettings(epochs=16, batch_size=8, learning_rate=1e-2)
        settings = FinetuneSettings(encoder=EncoderSettings("cnn", width=8), training=training, runtime=runtime())
        finetune(drawn_with_boxes(out / "data"), out=out / "run", settings=settings)

    return made_once(tmp_path_factory, "detector", make)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ (24 unlabelled files at two depths, one of them broken) and labelled/ (two classes of 10).

    An okapi is bright at the top, a zebra at the left; all are 24 x 24 pixels, in colour.
    """
    from tiny import CLASSES

    root = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)

    def save(path: Path, kind: int) -> None:
        ramp = np.linspace(200, 40, 24)[:, None].repeat(24, axis=1)
        pixels = (ramp if kind == 0 else ramp.T)[..., None] + random.normal(0, 15, (24, 24, 3))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)

    for i in range(23):
        save(root / "photos" / ("" if i % 2 else "2024/may") / f"{i}.png", i % 2)
    (root / "photos" / "broken.jpg").write_bytes(b"\xff\xd8 not a picture")
    for kind, name in enumerate(CLASSES):
        for i in range(10):
            save(root / "labelled" / name / f"{i}.png", kind)
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, driven by Playwright; without it the test is skipped."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as tools:
        running = tools.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(name="undrawn")
def _undrawn() -> Iterator[None]:
    """No figure is rendered in this test: `pages.undrawn`."""
    from pages import undrawn

    with undrawn():
        yield


@pytest.fixture
def whymask(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Runs a command line in this process: `whymask("study", "glyphs", ...)` -> exit code."""

    def run(*arguments: Any) -> int:
        from whymask import cli

        monkeypatch.setattr(sys, "argv", ["whymask", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as end:
            return 0 if end.code is None else int(end.code)
        return 0

    return run
