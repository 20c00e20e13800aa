"""What a measure is; each of `whymask.explanations.measures` is one, a file to be read from top to bottom."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

import numpy as np
from matplotlib.figure import Figure

from whymask.explanations.cast import Cast
from whymask.explanations.compared import Compared
from whymask.explanations.drawing import Told
from whymask.explanations.networks import ROLES, Member, Role
from whymask.explanations.numbers import Number, Scores, differences, summarise
from whymask.explanations.shown import Shown
from whymask.intervals import Range
from whymask.progress import SECONDS_BETWEEN_NETWORKS, Steps
from whymask.report.privacy import HIDDEN

AGAINST: tuple[Role, ...] = ("baseline", "erased")
"""The networks that the pretrained ones are held against, seed by seed."""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Expectation:
    """What the paper lets one expect: in which quantities the pretrained networks lie above those from scratch.

    Attributes:
        quantities, fillings: under which the numbers are. All of them must say the same.
        supported, against, open: the sentence for each outcome; {ours} and {theirs} are the networks.
        hides: parts of images are hidden, or disturbed, so that having seen such images must not explain it away.
        of_one: it is about the pretrained networks alone: the quantities are differences already.
        further: what is added to the sentence.
    """

    quantities: tuple[str, ...]
    supported: str
    against: str
    open: str
    fillings: tuple[str | None, ...] = (None,)
    hides: bool = False
    of_one: bool = False
    further: Callable[[Sequence[Number], Compared], str | None] = lambda numbers, compared: None


class Drawing(NamedTuple):
    """What the page draws: its caption, and what draws it, given its name.

    It gives a figure for each panel, by what the panel is of; the only one is of "". None where there are no numbers.
    """

    caption: str
    draw: Callable[[Told, str], Mapping[str, Figure]]


@dataclass(frozen=True)
class Measure:
    """Something that networks are asked, and what may be made of their answers.

    Attributes:
        name: as in explain.json, in flags, and of the section of the page.
        title, about: of that section; `about` says how its numbers are read.
        take: the networks, and what they are shown -> numbers. What had to be left out it tells `cast.notes`.
        expectations: what may be concluded.
        lead: the sentence that the page may begin with, from the numbers; None where they do not give it. The last
            argument is how many features a class has, where that is known.
        figures: by name.
        unnamed: an item of its numbers as shown where names are hidden, given what each class is called then. By
            default it is hidden as a whole.
    """

    name: str
    title: str
    about: str
    take: Callable[[Cast, Shown], list[Number]]
    expectations: tuple[Expectation, ...] = ()
    lead: Callable[[Sequence[Number], Compared, int | None], str | None] = lambda numbers, compared, features: None
    figures: Mapping[str, Drawing] = field(default_factory=dict)
    unnamed: Callable[[str, Mapping[str, str]], str] = lambda item, classes: HIDDEN


def of_each(measure: str, cast: Cast, ask: Callable[[Member], Result]) -> dict[Role, dict[int, Result]]:
    """What `ask` gives of every network, by role and seed. Told is how many were asked."""
    given: dict[Role, dict[int, Result]] = {role: {} for role in ROLES if role in cast.networks}
    everyone = [(role, seed) for role in given for seed in cast.networks[role]]
    with Steps(f"measuring {measure}", len(everyone), unit="network", between=SECONDS_BETWEEN_NETWORKS) as bar:
        for count, (role, seed) in enumerate(everyone, start=1):
            given[role][seed] = ask(cast.networks[role][seed])
            bar.update(count)
    return given


def numbers_of(
    measure: str,
    cast: Cast,
    scores: Mapping[Role, Mapping[int, Scores]],
    groups: np.ndarray | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> list[Number]:
    """Numbers of each arm, and of the pretrained one's lead over those that it is held against; see `summarise`."""
    rows = []
    for role in ROLES:
        if role in scores:
            rows += summarise(measure, cast.arm(role), scores[role], groups, ranges=ranges)
    for role in AGAINST:
        if role in scores and (pair := differences(scores["pretrained"], scores[role])):
            name = f"{cast.pretrained} - {cast.arm(role)}"
            rows += summarise(measure, name, pair, groups, difference=True)
    return rows
