"""What is read is what was written: one changed bit in any file is an error that names it, and never another value."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whymask import pretrain
from whymask.disk import (
    CHECKSUM,
    as_json,
    as_named,
    check,
    check_folder,
    printable,
    read_arrays,
    read_json,
    read_tensors,
    write_arrays,
    write_csv,
    write_json,
    write_record,
    write_tensors,
)
from whymask.errors import DamagedError, WhymaskError

RECORD = {"seed": 3, "rate": 0.1, "name": "caf\xe9", "rows": [[1, "x"], [2, None]], "path": Path("a/b"), "yes": True}
TENSORS = {"weight": torch.arange(12.0).view(3, 4), "bias": torch.zeros(3, dtype=torch.float16)}
ARRAYS = {"rows": np.arange(40), "predictions": np.linspace(0, 1, 30, dtype=np.float32).reshape(10, 3)}


def _tensors(folder: Path) -> Path:
    write_tensors(folder / "head.safetensors", TENSORS, RECORD)
    return folder / "head.safetensors"


def _record(folder: Path) -> Path:
    write_record(folder / "result.json", RECORD)
    return folder / "result.json"


def _arrays(folder: Path) -> Path:
    write_arrays(folder / "predictions.npz", ARRAYS)
    return folder / "predictions.npz"


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "record": (_record, read_json),
    "tensors": (_tensors, read_tensors),
    "arrays": (_arrays, read_arrays),
}


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    return np.array_equal(one, other) if isinstance(one, np.ndarray | torch.Tensor) else bool(one == other)


@pytest.mark.parametrize("kind", KINDS)
def test_no_flipped_bit_changes_what_is_read(kind: str, tmp_path: Path) -> None:
    """Every byte of the file, a bit of each: an error that names the file, or the very content."""
    write, read = KINDS[kind]
    path = write(tmp_path)
    whole, content = path.read_bytes(), read(path)
    errors = 0
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        try:
            found = read(path)
        except DamagedError as error:
            assert str(path) in str(error) and "delete" in str(error)
            errors += 1
        else:
            found = found if kind != "record" else {key: found[key] for key in content if key in found}
            assert equal(content, found), f"byte {place} of {len(whole)}"
    assert errors > 0.9 * len(whole)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_or_empty_is_damaged(kind: str, tmp_path: Path) -> None:
    write, read = KINDS[kind]
    path = write(tmp_path)
    whole = path.read_bytes()
    for length in (0, 1, len(whole) // 2, len(whole) * 7 // 8):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError, match=path.name):
            read(path)
        with pytest.raises(DamagedError, match=path.name):
            check(path)


def test_a_record_of_tensors_that_is_damaged_is_found_by_who_reads_the_tensors(tmp_path: Path) -> None:
    path = _tensors(tmp_path)
    record = path.with_suffix(".json")
    record.write_bytes(record.read_bytes().replace(b'"seed": 3', b'"seed": 4'))
    with pytest.raises(DamagedError, match=r"head\.json is damaged"):
        read_tensors(path)


def test_weights_of_another_run_are_not_taken_for_these(tmp_path: Path) -> None:
    path = _tensors(tmp_path)
    write_tensors(tmp_path / "other.safetensors", {"weight": torch.ones(3, 4)}, {})
    path.write_bytes((tmp_path / "other.safetensors").read_bytes())
    with pytest.raises(DamagedError, match="checksum"):
        read_tensors(path)


def test_files_of_others_and_of_earlier_versions_have_no_checksum_and_are_read(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"a": [1, 2]})
    assert read_json(tmp_path / "config.json") == {"a": [1, 2]} and not check(tmp_path / "config.json")
    path = _tensors(tmp_path)
    path.with_suffix(".json").unlink()
    assert equal(read_tensors(path), TENSORS) and not check(path)
    assert check(_record(tmp_path)) and check(_arrays(tmp_path)) and not check(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("name", "written"),
    [
        *(("photos/a b.png",) * 2, ("日本",) * 2, ("-1",) * 2, ("C:\\photos\\a.png",) * 2),
        *(("caf\udce9.png", "caf\\udce9.png"), ("a\nb", "a\\nb"), ("=cmd|'x'!A1", "\\x3dcmd|'x'!A1")),
        *(("@SUM(1)", "\\x40SUM(1)"), ("a\\x41", "a\\\\x41"), ("\u202egnp.exe", "\\u202egnp.exe")),
    ],
)
def test_a_name_is_written_so_that_every_table_can_hold_it(name: str, written: str, tmp_path: Path) -> None:
    assert printable(name) == written
    write_csv(tmp_path / "list.csv", ["image"], [[name], [-1]])
    assert (tmp_path / "list.csv").read_text(encoding="utf-8").splitlines()[1].strip('"') == written


@given(st.text(st.characters(exclude_categories=())))
@settings(max_examples=200, deadline=None)
def test_any_name_comes_back_from_how_it_is_written(name: str) -> None:
    assert as_named(printable(name)) == name
    assert printable(name).isprintable() and printable(name).encode().decode() == printable(name)


def test_a_folder_that_cannot_be_made_is_told_before_the_work_and_one_that_can_is_not_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WhymaskError, match="is a file; a new or empty folder"):
        check_folder(tmp_path / "file")
    with pytest.raises(WhymaskError, match=r"cannot be written .*Choose another --out"):
        check_folder(tmp_path / "file" / "below" / "it")
    check_folder(tmp_path / "a" / "b")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    with pytest.raises(WhymaskError, match="is a file"):  # before any image is decoded
        pretrain("nothing-here", out=tmp_path / "file")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != CHECKSUM), JSON, max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_record_comes_back_and_written_again_is_the_same(tmp_path_factory: Any, record: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("record") / "a.json"
    write_record(path, record)
    first = path.read_bytes()
    assert read_json(path) == as_json(record)
    write_record(path, read_json(path))
    assert path.read_bytes() == first
