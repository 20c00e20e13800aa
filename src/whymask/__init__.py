"""whymask: does mask-reconstruction pretraining help on your images, how much, and why?"""

from whymask.encoders import load_encoder
from whymask.errors import WhymaskError
from whymask.explain import ExplainSettings, Explanation, explain
from whymask.export import export
from whymask.stages.alone import finetune, pretrain, probe
from whymask.stages.apply import embed, predict
from whymask.stages.settings import FinetuneSettings, PretrainSettings, ProbeSettings
from whymask.study import StudySettings, study

__all__ = [
    "ExplainSettings",
    "Explanation",
    "FinetuneSettings",
    "PretrainSettings",
    "ProbeSettings",
    "StudySettings",
    "WhymaskError",
    "embed",
    "explain",
    "export",
    "finetune",
    "load_encoder",
    "predict",
    "pretrain",
    "probe",
    "study",
]
