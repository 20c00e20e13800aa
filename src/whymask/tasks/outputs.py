"""What a trained network gives, in words: for model cards and other programs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Outputs:
    """Attributes:
    network: what a trained network is called, such as "classifier".
    name: of its outputs (B, k), such as "logits".
    reading: a sentence that says how they are read.
    problem_type: as transformers calls the task.
    """

    network: str
    name: str
    reading: str
    problem_type: str
