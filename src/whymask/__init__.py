"""whymask: does mask-reconstruction pretraining help on your images, how much, and why?"""

from typing import TYPE_CHECKING

from whymask.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "atlas.run": ["map_images"],
        "atlas.settings": ["MapSettings"],
        "choosing.run": ["choose"],
        "data.settings": ["DataSettings"],
        "encoders.files": ["load_encoder"],
        "encoders.settings": ["EncoderSettings"],
        "errors": ["WhymaskError"],
        "explanations.explanation": ["Explanation"],
        "explanations.run": ["explain"],
        "explanations.settings": ["ExplainSettings"],
        "exports.run": ["export"],
        "methods.settings": [
            "CrossMAESettings",
            "Data2Vec2Settings",
            "Data2VecSettings",
            "FCMAESettings",
            "IJEPASettings",
            "MAESettings",
            "MaskFeatSettings",
            "SimMIMSettings",
            "SparKSettings",
            "TwoLayerSettings",
        ],
        "overviews.run": ["overview"],
        "stages.alone": ["finetune", "pretrain", "probe"],
        "stages.apply": ["predict"],
        "stages.network": ["load_network"],
        "stages.embed": ["embed"],
        "stages.settings": [
            "FinetuneSettings",
            "FinetuneTrainingSettings",
            "PretrainSettings",
            "PretrainTrainingSettings",
            "ProbeSettings",
        ],
        "studies.result": ["StudyResult"],
        "studies.run": ["study"],
        "studies.settings": ["ClusterSettings", "StudySettings"],
        "theory.settings": ["TheorySettings"],
        "training.settings": ["RuntimeSettings"],
        "version": ["__version__"],
    },
)

if TYPE_CHECKING:
    from whymask.atlas.run import map_images as map_images
    from whymask.atlas.settings import MapSettings as MapSettings
    from whymask.choosing.run import choose as choose
    from whymask.data.settings import DataSettings as DataSettings
    from whymask.encoders.files import load_encoder as load_encoder
    from whymask.encoders.settings import EncoderSettings as EncoderSettings
    from whymask.errors import WhymaskError as WhymaskError
    from whymask.explanations.explanation import Explanation as Explanation
    from whymask.explanations.run import explain as explain
    from whymask.explanations.settings import ExplainSettings as ExplainSettings
    from whymask.exports.run import export as export
    from whymask.methods.settings import CrossMAESettings as CrossMAESettings
    from whymask.methods.settings import Data2Vec2Settings as Data2Vec2Settings
    from whymask.methods.settings import Data2VecSettings as Data2VecSettings
    from whymask.methods.settings import FCMAESettings as FCMAESettings
    from whymask.methods.settings import IJEPASettings as IJEPASettings
    from whymask.methods.settings import MAESettings as MAESettings
    from whymask.methods.settings import MaskFeatSettings as MaskFeatSettings
    from whymask.methods.settings import SimMIMSettings as SimMIMSettings
    from whymask.methods.settings import SparKSettings as SparKSettings
    from whymask.methods.settings import TwoLayerSettings as TwoLayerSettings
    from whymask.overviews.run import overview as overview
    from whymask.stages.alone import finetune as finetune
    from whymask.stages.alone import pretrain as pretrain
    from whymask.stages.alone import probe as probe
    from whymask.stages.apply import predict as predict
    from whymask.stages.embed import embed as embed
    from whymask.stages.network import load_network as load_network
    from whymask.stages.settings import FinetuneSettings as FinetuneSettings
    from whymask.stages.settings import FinetuneTrainingSettings as FinetuneTrainingSettings
    from whymask.stages.settings import PretrainSettings as PretrainSettings
    from whymask.stages.settings import PretrainTrainingSettings as PretrainTrainingSettings
    from whymask.stages.settings import ProbeSettings as ProbeSettings
    from whymask.studies.result import StudyResult as StudyResult
    from whymask.studies.run import study as study
    from whymask.studies.settings import ClusterSettings as ClusterSettings
    from whymask.studies.settings import StudySettings as StudySettings
    from whymask.theory.settings import TheorySettings as TheorySettings
    from whymask.training.settings import RuntimeSettings as RuntimeSettings
    from whymask.version import __version__ as __version__
