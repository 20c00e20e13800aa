"""What several test files share: a store of their own, and one tiny finished study."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from whymask import StudySettings, study
from whymask.data.prepare import DataConfig
from whymask.encoders import EncoderConfig
from whymask.stages.classify import Finetuning
from whymask.stages.pretrain import Pretraining

GLYPHS = "glyphs:unlabelled=128,train=100,test=60"


def tiny_settings(**changes: Any) -> StudySettings:
    """A study of seconds: a narrow CNN, an epoch of pretraining, two of fine-tuning."""
    settings = StudySettings(
        seeds=2,
        budgets=("2", "5"),
        worth_budgets=("4",),
        data=DataConfig(),
        encoder=EncoderConfig(width=4),
        pretrain=Pretraining(epochs=1, batch_size=32),
        finetune=Finetuning(epochs=2, batch_size=8),
    )
    return replace(settings, **changes)


@pytest.fixture(scope="session", autouse=True)
def own_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Decoded images go to a temporary folder, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHYMASK_STORE", str(tmp_path_factory.mktemp("store")))
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, own_store: Any) -> Path:
    """The folder of a finished tiny study. Tests read it; one that writes copies it."""
    out = tmp_path_factory.mktemp("study") / "tiny"
    study(GLYPHS, out=out, settings=tiny_settings())
    return out
