"""The benchmarks run, at tiny sizes, and report what they say they do. No time is asserted."""

import json
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
FIELDS = {"name", "ours", "peer", "peer_rate", "ratio", "share", "unit", "setting"}
VIT_ROWS, LOADER_ROWS = {"mae-step", "mae-step-half"}, {"loader-32", "decode-32", "loader-224", "decode-224"}
MATMUL_ROWS = {"matmul-1", "matmul-2"}


@pytest.fixture(scope="module", autouse=True)
def from_the_repository() -> Any:
    """`benchmarks` lies at the root and is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What `python -m benchmarks --quick` writes, by name."""
    out = tmp_path_factory.mktemp("bench") / "bench.json"
    import_module("benchmarks.__main__").main(out, quick=True)
    return {row["name"]: row for row in json.loads(out.read_text())}


def test_every_row_is_written_whole(rows):
    assert set(rows) == VIT_ROWS | LOADER_ROWS | MATMUL_ROWS | {"cnn-step"}
    for row in rows.values():
        assert set(row) == FIELDS
        assert row["ours"] > 0 and row["unit"] and row["setting"]


@pytest.mark.parametrize("name", sorted(VIT_ROWS | LOADER_ROWS | MATMUL_ROWS))
def test_rows_with_a_peer_compare(rows, name):
    assert rows[name]["peer"] and rows[name]["peer_rate"] > 0 and rows[name]["ratio"] > 0


def test_only_transformers_steps_have_a_share_of_the_machine(rows):
    assert {name for name, row in rows.items() if row["share"] is not None} == VIT_ROWS
    assert all(rows[name]["share"] > 0 for name in VIT_ROWS)


def test_contenders_take_turns_and_ratios_are_medians_of_blocks():
    measure = import_module("benchmarks.measure")
    ticks, turns = count(), []

    def work(name: str, amount: float) -> Any:
        return lambda: turns.append(name) or amount

    works = {"ours": work("ours", 6.0), "peer": work("peer", 2.0)}
    rates = measure.interleaved(works, measure.Effort(blocks=3, seconds=0), clock=lambda: next(ticks))
    assert turns == ["ours", "peer"] * 4  # the first of each warms up
    assert {name: len(values) for name, values in rates.items()} == {"ours": 3, "peer": 3}
    blocks = {"ours": [4.0, 9.0, 40.0], "peer": [2.0, 3.0, 80.0]}
    assert measure.against(blocks, "ours", "peer") == {"ours": 9.0, "peer_rate": 3.0, "ratio": 2.0}


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_necessary_operations_are_those_of_the_formula(share):
    """Three times the forward pass's, but for the first layer's input, which needs no gradient."""
    bench = import_module("benchmarks.mae_step")
    torch = import_module("torch")
    sizes = bench.Sizes(width=48, depth=2, decoder_width=24, decoder_depth=1, batch=16)
    counted = bench.necessary_operations(bench.our_vit(sizes, share), torch.randn(16, 3, 32, 32))
    visible, scored, pixels = 16, round(48 * share), 48

    def block(tokens: int, width: int) -> int:
        return 12 * tokens * width**2 + 2 * tokens**2 * width

    embed = visible * pixels * 48
    encoder = 2 * block(visible + 1, 48)
    decoder = (visible + 1) * 48 * 24 + block(visible + 1 + scored, 24) + scored * 24 * pixels
    assert counted == 2 * (2 * embed + 3 * (encoder + decoder))


@pytest.mark.parametrize("sides", [(32, 32), (400, 888)])
def test_without_shared_data_photographs_of_scikit_image_stand_in(sides, monkeypatch, tmp_path):
    loading = import_module("benchmarks.loading")
    monkeypatch.setattr(loading, "SHARED", tmp_path)
    files, name = loading.jpegs("cifar10-jpeg", 6, sides)
    assert "scikit-image" in name and len(files) == 6
    source = loading.source_of(files, name)
    for row in range(6):
        assert source.read(row).format == "JPEG"
        assert all(sides[0] <= side <= sides[1] for side in source.read(row).size)
