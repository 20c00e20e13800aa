"""What `whymask list` shows: methods and the encoders that each fits, networks, and what given weights are of."""

from collections.abc import Sequence
from pathlib import Path

import timm
from rich.table import Table

from whymask.encoders import kinds
from whymask.encoders.build import ENCODERS
from whymask.encoders.catalogue import Support, support_of
from whymask.encoders.checkpoints import is_run
from whymask.encoders.described import described
from whymask.encoders.files import network_in
from whymask.encoders.timm_names import PROVEN
from whymask.errors import WhymaskError
from whymask.methods import METHODS
from whymask.stages.taken import weights_of

OF_WEIGHTS = ("init", "frozen", "continue")
"""Starts from weights that are there."""


def methods_table() -> Table:
    table = Table("method", *kinds(), "arXiv", "what it does")
    for name, method in METHODS.items():
        fits = ["yes" if kind in method.encoders else "" for kind in kinds()]
        table.add_row(name, *fits, method.source, (method.__doc__ or "").partition("\n")[0])
    return table


def encoders_table(patterns: tuple[str, ...]) -> Table:
    """A row for each network of these names or patterns, and for weights: a run, a study, a folder or a file of them,
    or hf-hub:ORG/MODEL; a folder that is called as a network is given as ./NAME. Raises WhymaskError for what is none
    of these."""
    table = Table("encoder", "kind", "pretraining", "why not", "starts", "pretrained by")
    for pattern in patterns:
        names = [pattern] if pattern in ENCODERS else timm.list_models(pattern)
        if not names and ("/" in pattern or Path(pattern).exists()):
            found = support_of(_network_of(pattern))
            _add(table, f"{pattern}: {found.name}", found, [start for start in found.starts if start in OF_WEIGHTS])
            continue
        for found in map(support_of, names or [pattern]):
            _add(table, found.name, found, found.starts)
    return table


def _add(table: Table, name: str, found: Support, starts: Sequence[str]) -> None:
    by = [method for method, cls in METHODS.items() if found.kind in cls.encoders and "continue" in starts]
    table.add_row(name, found.kind, found.status, found.reason, ", ".join(starts), ", ".join(by))


def _network_of(given: str) -> str:
    """Of which network the weights are. Raises WhymaskError where none are there, or nothing says of which."""
    path = Path(str(weights_of(given, None)))
    if is_run(path):
        return network_in(path)
    about = described(path)
    if about.encoder.name == "auto":
        raise WhymaskError(
            f"{given}: {about.unknown or 'nothing beside the weights says of which network they are'}; give the name "
            "of the network, such as resnet18"
        )
    return about.encoder.name


def proven() -> str:
    """timm's modules whose networks are proven, as a list to read."""
    return ", ".join(PROVEN)
