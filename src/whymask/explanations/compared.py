"""The two arms that are compared, and how they are called."""

from dataclasses import dataclass

from whymask.stages.alone import SCRATCH


@dataclass(frozen=True)
class Compared:
    """The two arms as numbers name them, and what they are: "scratch", or the method of their pretraining."""

    pretrained: str
    baseline: str
    kinds: tuple[str, str]

    @property
    def arms(self) -> tuple[str, str]:
        return self.pretrained, self.baseline

    @property
    def _plain(self) -> bool:
        return self.kinds[0] != SCRATCH and self.kinds[1] == SCRATCH

    @property
    def ours(self) -> str:
        return "pretrained networks" if self._plain else f"networks of {self.pretrained}"

    @property
    def theirs(self) -> str:
        return "networks from scratch" if self._plain else f"networks of {self.baseline}"
