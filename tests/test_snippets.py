"""Every command and every piece of Python that the documents show, as it is written and in the order in which they are
read, in one folder: a page may use what an earlier one has made. Names of Python are a page's own."""

import re
import shlex
import shutil
import sys
from collections.abc import Callable
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import torch

from documents import Block, blocks, commands_in, documents
from tiny import DEVICE
from whymask import cli
from whymask.methods import METHODS
from whymask.theory.claims import frozen, growth, interactions, ratios, regression, robustness

Command = Callable[..., int]

SMALL = {
    "study": "--seeds 1 --budgets 2 --scratch-long none --width 4 --pretrain.epochs 1 --pretrain.batch-size 16 "
    "--finetune.epochs 1",
    "pretrain": "--epochs 1 --batch-size 16 --width 4",
    "finetune": "--epochs 1",
    "explain": "--test-images 4 --interaction-images 4 --regions 4",
    "map": "--layout pca",
    "theory": "--k 3 --d 12 --m 4 --N 60 --batch 20 --test 40 --epochs 2 --pixel-epochs 2 --scale-k 3 --seeds 2",
}
"""What makes each documented command one of a second."""


def snippets() -> list[Block]:
    """Those of bash and Python; what else a document shows (console, text, yaml) is to be read."""
    shown = [page for page in documents() if not page.startswith("docs/results/")]
    return [block for page in shown for block in blocks(page) if block.language in ("bash", "python")]


def smaller(words: list[str], is_first_study: bool) -> list[str]:
    """Further flags for a command of `words`, so that it takes a second."""
    given = "--from" in words and "scratch" not in words  # what it starts from has its width
    flags = "" if given else SMALL.get(words[1], "")
    if words[1] in ("finetune", "pretrain") and not flags:
        flags = "--epochs 1 --batch-size 16"
    if words[1] == "study" and not is_first_study:
        flags += " --no-explain"  # one study's is enough
    if "--encoder" in words and words[words.index("--encoder") + 1] not in ("cnn", "vit"):
        flags = flags.replace("--width 4", "--size 16")
    if words[1] not in ("list", "data", "export", "check", "clean", "watch"):
        flags += f" --device {DEVICE} --threads 1"
    return flags.split()


@pytest.fixture
def folder(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the documents say that a reader has, in the working directory."""
    shutil.copytree(pictures, tmp_path, dirs_exist_ok=True)
    shutil.copy(pictures / "photos" / "1.png", tmp_path / "photo.jpg")
    (tmp_path / "scans").mkdir()
    for i in range(16):
        np.save(tmp_path / "scans" / f"{i}.npy", np.random.default_rng(i).integers(0, 255, (16, 16), dtype=np.uint8))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny_theory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen, "GRID", frozen.GRID[::22])
    monkeypatch.setattr(frozen, "SEARCH", 1)
    monkeypatch.setattr(growth, "IMAGES", 40)
    monkeypatch.setattr(growth, "KERNELS", 3)
    monkeypatch.setattr("whymask.theory.lab.PLAIN_STEPS", 20)
    monkeypatch.setattr(robustness, "IMAGES", 4)
    monkeypatch.setattr(ratios, "WIDTHS", (20, 150))
    monkeypatch.setattr(interactions, "IMAGES", 3)
    monkeypatch.setattr(regression, "EPOCHS", 3)


def test_every_command_is_documented() -> None:
    written = [words for block in snippets() if block.language == "bash" for words in commands_in(block.text)]
    assert {words[0] for words in written} == {"whymask"}, "what is not to be run by a test stands in a console block"
    assert {words[1] for words in written} == set(cli.COMMANDS)


@pytest.mark.usefixtures("undrawn")
def test_the_documented_commands_and_code_run_as_written(
    whymask: Command, folder: Path, tiny_theory: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("whymask.stages.settings.PretrainTrainingSettings.epochs_for", lambda self, images: 1)
    monkeypatch.setattr("whymask.watch.serve.Watcher.serve_forever", lambda self: self.answer(f"/{self.token}/"))
    torch.set_num_threads(1)
    studies = 0
    with mock.patch.dict(METHODS):  # a document's own methods are gone afterwards
        for document, shown in groupby(snippets(), attrgetter("document")):
            module = ModuleType(re.sub(r"\W", "_", document))  # where a page's own network is found by its name
            monkeypatch.setitem(sys.modules, module.__name__, module)
            for block in shown:
                if block.language == "python":
                    exec(compile("\n" * block.line + block.text, document, "exec"), vars(module))
                    continue
                for words in commands_in(block.text):
                    studies += words[1] == "study" and "--plan" not in words
                    assert whymask(*words[1:], *smaller(words, studies <= 1)) == 0, f"{document}: {shlex.join(words)}"
    for block in snippets():
        for out in re.findall(r"""(?:--out |\bout=["'])([\w./-]+)""", block.text):
            assert (folder / out).exists(), f"{block.document}: {out} was to be written"
