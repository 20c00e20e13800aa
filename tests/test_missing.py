"""What a mistyped path is told with: what lies where it should, and what is spelt most alike."""

from pathlib import Path

import pytest

from whymask.missing import instead_of


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("photos/train/cats", "photos/test", "photos/.hidden", "many"):
        (tmp_path / name).mkdir(parents=True)
    for number in range(7):
        (tmp_path / "many" / f"{number}.png").touch()
    (tmp_path / "photos.csv").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("photos/tset", "; photos holds test, train; did you mean photos/test?"),
        ("photos/nothing", "; photos holds test, train"),
        ("photos/test/x", "; photos/test holds nothing"),
        ("photo/train/cats", "; did you mean photos/train/cats?"),
        ("photo/train/dogs", "; did you mean photos?"),
        ("photos.cvs", "; did you mean photos.csv?"),
        ("photos.csv/train", "; photos.csv is a file, and no folder"),
        ("many/nothing", "; many holds 0.png, 1.png, 2.png, 3.png, 4.png, ..."),
        ("elsewhere", ""),
    ],
)
def test_what_is_there_is_told_and_what_is_spelt_alike(given: str, said: str, photos: None) -> None:
    assert instead_of(given) == said
    assert instead_of(Path(given)) == said


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "two\nlines").mkdir()
    assert instead_of(tmp_path / "nothing") == f"; {tmp_path} holds two\\nlines"
