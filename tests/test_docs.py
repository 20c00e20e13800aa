"""What the documents say of files is true: links lead somewhere, and results stay small enough to be cloned."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch

from documents import ROOT, documents
from test_layers import FROM_THE_GROUND_UP
from tiny import new_encoder
from whymask.disk import read_json
from whymask.encoders import EncoderSettings
from whymask.masks import indices, to_squares
from whymask.methods import build_method, resolve_method
from whymask.methods.settings import MAESettings
from whymask.randomness import torch_generator

DOCUMENTS = ("CONTRIBUTING.md", *documents())
RESULTS = ROOT / "docs" / "results"


def anchors(document: Path) -> set[str]:
    """What GitHub makes of its headings."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(name: str) -> None:
    document = ROOT / name
    links = re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", document.read_text())
    for path, anchor in links:
        target = document.parent / path if path else document
        assert target.exists(), f"{name} links {path}"
        assert not anchor or anchor in anchors(target), f"{name} links the heading {anchor} of {path or name}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_of_the_repository_that_is_named_exists(name: str) -> None:
    """In backticks: `tests/tiny.py`, but not `tests/methods/test_NAME.py`, which is to be written."""
    text = re.sub(r"```.*?```", "", (ROOT / name).read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`((?:src|tests|experiments|examples|docs|benchmarks)/[\w./-]+)`", text))
    assert not [path for path in named if not (ROOT / path).exists() and "NAME" not in path]


def test_recipes_name_what_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for name, module in {
        "METHODS": "methods.build",
        "SETTINGS": "methods.settings",
        "ENCODERS": "encoders.build",
        "OF_TIMM": "encoders.build",
        "MEASURES": "explanations.measures",
        "TASKS": "tasks",
    }.items():
        assert f"`{name}`" in text and isinstance(getattr(import_module(f"whymask.{module}"), name), dict)


def test_architecture_names_every_room_in_its_order() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().split("## The rooms")[1].split("## A run folder")[0]
    rooms = [room for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for room in re.findall(r"`(\w+)`", row)]
    assert rooms == list(FROM_THE_GROUND_UP)


def test_architecture_follows_a_batch_whose_shapes_are_true() -> None:
    table = (ROOT / "docs" / "architecture.md").read_text().split("## One batch")[1].split("## The rooms")[0]
    size, asked = (32, 32), EncoderSettings("vit", width=96, depth=4, patch=4)
    encoder = new_encoder(asked, size, channels=3)
    method = build_method("mae", encoder, resolve_method("mae", MAESettings(), encoder.config, size), seed=0)
    images = torch.randn(128, 3, *size)
    (hidden,) = method.draw(128, torch_generator(0, "mask", 0))
    features = encoder(images, hidden)
    shapes = [images, hidden, to_squares(images, 4), encoder.tokens(images, hidden), features]
    shapes += [method.decoder(features, hidden, indices(hidden)[1]), encoder.pool(features)]
    for tensor in shapes:
        assert str(tuple(tensor.shape)) in table
    assert f"{int(hidden[0].sum())} of {hidden[0].numel()} squares" in table


def test_pages_of_results_link_only_files_that_exist() -> None:
    for page in RESULTS.rglob("*.html"):
        for link in re.findall(r'href="(?!https?:|#|data:)([^"#]+)', page.read_text()):
            assert (page.parent / link).exists(), f"{page} links {link}"


def test_records_of_results_are_whole() -> None:
    """Those with a checksum are what was written: whoever edits a path within one makes it another record."""
    read = [read_json(path) for path in RESULTS.rglob("*.json")]
    assert sum("verdict" in record for record in read) >= 5


def test_results_are_small() -> None:
    sizes = {path: path.stat().st_size for path in RESULTS.rglob("*") if path.is_file()}
    assert max(sizes.values()) < 1e6 and sum(sizes.values()) < 6e6
