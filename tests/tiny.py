"""Sizes for tests: a study of seconds, an explanation of few images, real pictures that a dependency ships."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor

from whymask import ExplainSettings, StudySettings
from whymask.data.settings import DataSettings
from whymask.encoders import Encoder, EncoderSettings, build_encoder, resolve
from whymask.stages.settings import FinetuneTrainingSettings, PretrainTrainingSettings
from whymask.training.settings import RuntimeSettings

GLYPHS = "glyphs:unlabelled=128,train=100,test=60"
CLASSES = ("okapi", "zebra")


def tiny_settings(**changes: Any) -> StudySettings:
    """A study of seconds: a narrow CNN, an epoch of pretraining, two of fine-tuning."""
    settings = StudySettings(
        seeds=2,
        budgets=("2", "5"),
        worth_budgets=("4",),
        data=DataSettings(),
        encoder=EncoderSettings(width=4),
        pretrain=PretrainTrainingSettings(epochs=1, batch_size=32),
        finetune=FinetuneTrainingSettings(epochs=2, batch_size=8),
        runtime=RuntimeSettings(device="cpu", threads=1),
    )
    return replace(settings, **changes)


def new_encoder(asked: EncoderSettings, size: tuple[int, int] = (32, 32), channels: int = 1, seed: int = 0) -> Encoder:
    """What is asked for, with new weights."""
    return build_encoder(resolve(asked, size, channels), size, channels, seed)


def small_explanation() -> ExplainSettings:
    """Every measure, on few images."""
    runtime = RuntimeSettings(device="cpu", threads=1)
    return ExplainSettings(test_images=20, interaction_images=8, regions=4, runtime=runtime)


@cache
def digits(count: int, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Real images (count, 1, *size), standardised: scikit-learn's handwritten digits, enlarged."""
    small = torch.from_numpy(load_digits().images[:count]).float()[:, None]
    large = F.interpolate(small, size=size, mode="bilinear")
    return (large - large.mean()) / large.std()
