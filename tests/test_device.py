"""``pytest --device cuda``: the tests that train do so on a GPU."""

import subprocess
import sys
from pathlib import Path

import pytest

import tiny


def test_runs_are_asked_for_the_device_of_the_option(request: pytest.FixtureRequest) -> None:
    asked = request.config.getoption("--device")
    for settings in (tiny.tiny_settings(), tiny.small_explanation()):
        assert settings.runtime.device == asked
    assert tiny.runtime().device == tiny.DEVICE == asked


def test_the_option_is_passed_through() -> None:
    """In a process of its own: nothing is trained, so that no GPU is needed."""
    test = f"{__file__}::{test_runs_are_asked_for_the_device_of_the_option.__name__}"
    command = [sys.executable, "-m", "pytest", "--device", "cuda", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_option_tests_train_on_the_cpu() -> None:
    runtime = tiny.runtime()
    if tiny.DEVICE != "cpu":
        pytest.skip("another device was asked for")
    assert (runtime.device, runtime.precision, runtime.threads) == ("cpu", "auto", 1)
