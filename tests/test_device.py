"""``pytest --device cuda``: the tests that train do so on a GPU."""

import sys

import pytest

import tiny
from children import exit_code_of


def test_runs_are_asked_for_the_device_of_the_option(request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--device")
    for settings in (tiny.tiny_settings(), tiny.small_explanation()):
        assert settings.runtime.device == asked
    assert tiny.runtime().device == tiny.DEVICE == asked


def passes(test: str, *options: str) -> None:
    sys.exit(pytest.main([*options, "-p", "no:cacheprovider", test]))


def test_the_option_is_passed_through() -> None:
    """In a process of its own: nothing is trained, so that no GPU is needed."""
    test = f"{__file__}::{test_runs_are_asked_for_the_device_of_the_option.__name__}"
    assert exit_code_of(passes, test, "--device", "cuda") == pytest.ExitCode.OK


def test_without_the_option_tests_train_on_the_cpu() -> None:
    runtime = tiny.runtime()
    if tiny.DEVICE != "cpu":
        pytest.skip("another device was asked for")
    assert (runtime.device, runtime.precision, runtime.threads) == ("cpu", "auto", 1)
