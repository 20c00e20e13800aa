"""What a page of why begins with: the conclusion, then what was seen, each number with what it rests on."""

import pytest

from whymask.explanations.compared import Compared
from whymask.explanations.conclusions import draw, lead
from whymask.explanations.numbers import Number, Over, stated

ARMS = Compared("mae", "scratch", ("mae", "scratch"))


def number(quantity: str, arm: str, value: float, half: float, count: int = 5, over: Over = "seeds") -> Number:
    measure = "lottery" if quantity in ("agreement", "error consistency", "evidence overlap") else "features"
    return Number(measure, quantity, arm, value, value - half, value + half, count, over)


def features(gain: float, half: float, images: int = 500) -> list[Number]:
    """Features captured by both arms, and how much more by mae."""
    of_arms = [
        row
        for arm, captured in (("mae", 1.2 + gain), ("scratch", 1.2))
        for row in (
            number("captured a class", arm, captured, 0.1),
            number("single-view accuracy", arm, captured / 2, 0.05),
            number("single-view accuracy", arm, captured / 2, 0.01, images, "images"),
        )
    ]
    return [*of_arms, number("captured a class", "mae - scratch", gain, half)]


def begins(numbers: list[Number]) -> str:
    return lead(numbers, ARMS, draw(numbers, ARMS), 2)


def test_it_begins_with_the_conclusion_then_numbers_with_interval_and_count() -> None:
    assert begins(features(0.5, 0.2)) == (
        "Pretrained networks captured more of each class's features than networks from scratch. The pretrained "
        "networks captured 1.70 (1.60 to 1.80 over 5 seeds) of 2 features a class, scratch 1.20 (1.10 to 1.30 over 5 "
        "seeds); they recognise 0.850 (0.800 to 0.900 over 5 seeds; 500 images) of single-view images, scratch 0.600 "
        "(0.550 to 0.650 over 5 seeds; 500 images)."
    )


def test_what_is_open_says_what_was_seen() -> None:
    said = begins(features(0.1, 0.2))
    assert said.startswith(
        "No certain difference in the features captured. Seen, mae - scratch: captured a class +0.100 (-0.100 to "
        "+0.300 over 5 seeds). The pretrained"
    )


def test_a_certain_conclusion_comes_before_an_open_one() -> None:
    lottery = [number(name, "mae - scratch", 0.2, 0.1) for name in ("error consistency", "evidence overlap")]
    said = begins([*features(0.1, 0.2), *lottery])
    assert said.startswith("Networks from scratch are more of a lottery than pretrained networks")


@pytest.mark.parametrize("images", [8, 29])
def test_a_rate_of_few_images_is_no_headline(images: int) -> None:
    said = begins(features(0.5, 0.2, images))
    assert "recognise" not in said and "captured 1.70" in said


def test_what_a_number_rests_on_is_said_however_little_it_is() -> None:
    few = [number("agreement", "mae", 0.5, 0.1, 2), number("agreement", "mae", 0.5, 0.02, 60, "images")]
    assert stated(few, "lottery", "agreement", "mae") == "0.500 (0.480 to 0.520 over 60 images)"
    alike = [Number("lottery", "agreement", "mae", 1.0, None, None, 40, "images")]
    assert stated(alike, "lottery", "agreement", "mae") == "1.000 (40 images)"
    assert stated([], "lottery", "agreement", "mae") is None
