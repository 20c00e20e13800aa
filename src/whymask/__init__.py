"""whymask: does mask-reconstruction pretraining help on your images, how much, and why?"""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "encoders.files": ["load_encoder"],
        "errors": ["WhymaskError"],
        "explanations.explanation": ["Explanation"],
        "explanations.run": ["explain"],
        "explanations.settings": ["ExplainSettings"],
        "exports.run": ["export"],
        "stages.alone": ["finetune", "pretrain", "probe"],
        "stages.apply": ["embed", "predict"],
        "stages.settings": ["FinetuneSettings", "PretrainSettings", "ProbeSettings"],
        "studies.run": ["study"],
        "studies.settings": ["StudySettings"],
    },
)

if TYPE_CHECKING:
    from whymask.encoders.files import load_encoder as load_encoder
    from whymask.errors import WhymaskError as WhymaskError
    from whymask.explanations.explanation import Explanation as Explanation
    from whymask.explanations.run import explain as explain
    from whymask.explanations.settings import ExplainSettings as ExplainSettings
    from whymask.exports.run import export as export
    from whymask.stages.alone import finetune as finetune
    from whymask.stages.alone import pretrain as pretrain
    from whymask.stages.alone import probe as probe
    from whymask.stages.apply import embed as embed
    from whymask.stages.apply import predict as predict
    from whymask.stages.settings import FinetuneSettings as FinetuneSettings
    from whymask.stages.settings import PretrainSettings as PretrainSettings
    from whymask.stages.settings import ProbeSettings as ProbeSettings
    from whymask.studies.run import study as study
    from whymask.studies.settings import StudySettings as StudySettings
