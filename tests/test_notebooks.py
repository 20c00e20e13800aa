"""The notebooks run as they are read, and what they show and claim is what their code gives.

Executed whole, at small sizes, all in one kernel; what the text claims at its own sizes is held by the numbers that
were kept when their outputs were made, by the same code.
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nbformat import NotebookNode

import notebooks
from notebooks import FOLDER, code_of, digest_of, execute, kernel, read
from tiny import CLASSES

FEW = "glyphs:classes=4,unlabelled=100,train=40,test=20"
SMALL: dict[str, dict[str, Any]] = {
    "photos": {"SEEDS": 1, "EPOCHS": 1, "WIDTH": 4, "LABELS_A_CLASS": "5"},
    "why": {"DATA": FEW, "SEEDS": 1, "EPOCHS": 1, "WIDTH": 4, "VIEW_IMAGES": 4},
    "theory": {"CLASSES": 3, "SEEDS": 2, "EPOCHS": 50},
}
NAMES = sorted(SMALL)
MOST_BYTES = 400_000
OF_A_MACHINE = re.compile(r"/(tmp|home|root|work|Users|usr|opt|mnt|var)/|[A-Z]:\\\\|\d s left|images/s")
"""Paths, and what is told along the way."""


@pytest.fixture(scope="module")
def executed(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, NotebookNode]:
    """Each by its name; "own" is photos of a reader's own folders."""
    own = SMALL["photos"] | {"PHOTOS": str(pictures / "photos"), "LABELS": str(pictures / "labelled")}
    with kernel(tmp_path_factory.mktemp("own")) as manager:
        ran = {"own": execute("photos", manager, own)}
        return ran | {name: execute(name, manager, SMALL[name]) for name in NAMES}


def test_every_notebook_is_tested() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES == sorted(notebooks.CLAIMED)


@pytest.mark.parametrize("name", NAMES)
def test_outputs_come_from_the_code_as_it_is(name: str) -> None:
    notebook = read(name)
    cells = code_of(notebook)
    assert notebook.metadata.whymask.code == digest_of(notebook), f"make notebooks: {name} was edited"
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    kinds = {output.output_type for cell in cells for output in cell.outputs}
    assert kinds == {"display_data", "execute_result"}


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_small_and_shows_nothing_of_the_machine_that_made_it(name: str) -> None:
    text = (FOLDER / f"{name}.ipynb").read_text()
    assert len(text) < MOST_BYTES
    without_pictures = re.sub(r"base64,[^\"]*", "", text)
    assert OF_A_MACHINE.search(without_pictures) is None


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_notebook_lead_to_pages(name: str) -> None:
    text = "".join(cell.source for cell in read(name).cells if cell.cell_type == "markdown")
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (FOLDER / link).exists(), f"{name} links {link}"


def photos_tells(claimed: dict[str, Any]) -> None:
    """At its own sizes: scratch-long is better, gravel is taken for grass, which the study knew."""
    long, scratch = claimed["pairs"]["scratch-long"], claimed["pairs"]["scratch"]
    assert claimed["kind"] == "not worth its compute" and long["high"] < 0 < scratch["high"]
    assert claimed["pool"] < 600
    right, found = claimed["right"], claimed["found"]
    assert right["gravel"] < 0.5 < min(share for name, share in right.items() if name != "gravel")
    assert found["grass"] > 1.5 * found["moon"]
    recall = {key.split()[1]: share for key, share in claimed["recall"].items() if key.startswith("scratch-long")}
    assert min(recall, key=lambda name: recall[name]) == "gravel"


def why_tells(claimed: dict[str, Any]) -> None:
    """The gain is certain; the networks recognise images by more parts; no conclusion is drawn."""
    assert claimed["kind"] == "helps" and all(pair["low"] > 0 for pair in claimed["pairs"].values())
    assert all(low > 0 for low, _ in claimed["views"]) and len(claimed["views"]) == 2
    assert claimed["conclusions"] == ["open"] * 3
    accuracy = {arm: row["single-view accuracy"] for arm, row in claimed["table"].items()}
    assert accuracy["mae"] > accuracy["scratch"] + 0.1 and accuracy["mae"] > accuracy["scratch-erased"] + 0.1


def theory_tells(claimed: dict[str, Any]) -> None:
    """Each clock, each control."""
    captured, right = claimed["captured"], claimed["right"]
    assert captured["own clock"] == [10] * 4 and max(captured["common clock"]) < 5
    single = {name: row["single-view images right"] for name, row in right.items()}
    assert (
        single["from scratch"] + 0.05 < single["from scratch, patches hidden"] < single["pretrained, own clock"] - 0.1
    )
    assert single["frozen random kernels"] > 0.95 and single["pretrained, own clock"] > 0.95
    assert all(row["training loss"] <= 0.051 for row in right.values())
    states = {(id, clock): state for id, clock, state in claimed["claims"]}
    assert states["coverage", "own"] == "undecided" and states["coverage", "common"] == "fails"


@pytest.mark.parametrize(("name", "tells"), [("photos", photos_tells), ("why", why_tells), ("theory", theory_tells)])
def test_what_the_text_claims_is_what_was_found(name: str, tells: Callable[[dict[str, Any]], None]) -> None:
    tells(read(name).metadata.whymask.claimed)


def test_photos_run(executed: dict[str, NotebookNode]) -> None:
    claimed = executed["photos"].metadata.whymask.claimed
    assert set(claimed["pairs"]) == {"scratch", "scratch-long"} and claimed["kind"] == "cannot tell"
    assert sum(claimed["found"].values()) == 6 * 32 and claimed["points"] == [1344, 1344]
    assert claimed["right"].keys() == {"brick", "galaxies", "grass", "gravel", "moon", "tissue"}
    assert sum(claimed["right"].values()) > 2, "of six, at chance one"


def test_photos_run_on_ones_own_folders(executed: dict[str, NotebookNode]) -> None:
    claimed = executed["own"].metadata.whymask.claimed
    assert set(claimed["pairs"]) == {"scratch", "scratch-long"} and claimed["kind"] == "cannot tell"
    assert sum(claimed["found"].values()) == 23 and set(claimed["found"]) <= set(CLASSES)


def test_why_runs(executed: dict[str, NotebookNode]) -> None:
    """What does not hang on the size: who has not learnt the classes has captured next to nothing."""
    claimed = executed["why"].metadata.whymask.claimed
    held = {arm: row["captured a class"] for arm, row in claimed["table"].items()}
    assert held["shuffled labels"] <= 1 and held["random weights"] <= 1, "who names one class only has 0.5"
    assert all(0 <= held[arm] <= 2 for arm in ("mae", "scratch", "scratch-erased"))
    assert set(claimed["conclusions"]) == {"open"}, "one seed allows none"


def test_theory_runs(executed: dict[str, NotebookNode]) -> None:
    claimed = executed["theory"].metadata.whymask.claimed
    losses, captured = claimed["losses"], claimed["captured"]
    closed, drawn, without = losses.values()
    assert abs(closed - drawn) < 0.05 * closed and without < 0.95 * closed
    assert (
        min(captured["own clock"]) >= 5 and max(captured["common clock"]) <= 3 and not any(captured["random kernels"])
    )
    states = {(id, clock): state for id, clock, state in claimed["claims"]}
    assert states["control-tau", None] == states["control-frozen", None] == "holds"
    right = {name: row["single-view images right"] for name, row in claimed["right"].items()}
    assert right["pretrained, own clock"] > right["from scratch"] + 0.1


def test_what_is_told_along_the_way_is_one_stream_in_a_notebook(executed: dict[str, NotebookNode]) -> None:
    """Not an output of its own for each line, as rich would have it, and not on stderr, which JupyterLab paints red."""
    outputs = [output for cell in code_of(executed["photos"]) for output in cell.outputs]
    told = [output for output in outputs if output.output_type == "stream"]
    assert any("mae, 5 labels, seed 0: balanced accuracy" in output.text for output in told)
    assert not any("balanced accuracy" in output.text for output in told if output.name == "stderr")
    assert "seed 0: balanced accuracy" not in json.dumps([output for output in outputs if output not in told])


@pytest.mark.parametrize("name", NAMES)
def test_a_result_is_a_few_words_of_text(name: str, executed: dict[str, NotebookNode]) -> None:
    """Which a notebook keeps beside what it shows: not all of its numbers."""
    for cell in code_of(executed[name]):
        for output in cell.outputs:
            assert len(output.get("data", {}).get("text/plain", "")) < 2000
