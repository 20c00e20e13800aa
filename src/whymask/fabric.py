"""Lightning Fabric, imported without what it imports only to ask for its version.

Fabric compares versions by importing packages; where torchmetrics is installed, transformers and scipy.signal come with
it, for a second and a half in every process. What a package's metadata say of its version is the same.
"""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lightning_utilities.core import imports
from packaging.version import Version

_imports: Any = imports
_by_import = getattr(imports, "compare_version", None)


def compare_by_metadata(package: str, op: Any, wanted: str, use_base_version: bool = False) -> bool:
    """lightning_utilities' `compare_version`, but that a package which has metadata is not imported."""
    assert _by_import is not None
    try:
        found = Version(version(package))
    except (PackageNotFoundError, ValueError):
        return _by_import(package, op, wanted, use_base_version)
    return op(Version(found.base_version) if use_base_version else found, Version(wanted))


_imports.compare_version = compare_by_metadata  # for as long as Fabric is imported
try:
    from lightning_fabric import Fabric as Fabric
    from lightning_fabric.loggers import Logger as Logger
    from lightning_fabric.loggers import TensorBoardLogger as TensorBoardLogger
    from lightning_fabric.plugins.environments import ClusterEnvironment as ClusterEnvironment
    from lightning_fabric.plugins.environments import LightningEnvironment as LightningEnvironment
    from lightning_fabric.plugins.environments import SLURMEnvironment as SLURMEnvironment
    from lightning_fabric.plugins.environments import TorchElasticEnvironment as TorchElasticEnvironment
    from lightning_fabric.strategies import ModelParallelStrategy as ModelParallelStrategy
finally:
    _imports.compare_version = _by_import
