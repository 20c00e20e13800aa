"""The networks of one explanation: both arms, and the controls beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from whymask.data.preprocessing import Preprocessing
from whymask.explanations import controls
from whymask.explanations.choice import check_unseen
from whymask.explanations.compared import Compared
from whymask.explanations.evidence import Means
from whymask.explanations.networks import (
    ROLES,
    Member,
    Role,
    Run,
    check_comparable,
    load_network,
    load_pretrained,
    mixed,
)
from whymask.stages.context import Context
from whymask.stages.record import GIVEN
from whymask.stages.settings import SCRATCH


class Cast:
    """The networks, by role and seed, and what had to be left out."""

    def __init__(self, context: Context, runs: dict[str, dict[int, Run]], label: str | None = None) -> None:
        """`prepared` holds the labels that are asked about, `context` those that networks are trained on."""
        self.context, self.fabric, self.runs = context, context.fabric, runs
        images = context.prepared.images
        self.question = images.task.question(images.labels, context.prepared.test, label)
        asked = replace(images, labels=self.question.labels, task=self.question.task)
        self.prepared = replace(context.prepared, images=asked)
        self.pretrained, self.baseline = runs
        self.networks: dict[Role, dict[int, Member]] = {}
        self.kinds = {arm: next(iter(own.values())).kind for arm, own in runs.items()}
        self.warnings: list[str] = []
        self.notes: list[str] = []
        self.folder: Path | None = None  # of the networks that are trained to stand beside the arms
        self.mask_ratio: float | None = None  # of those with random erasing

    @classmethod
    def of(cls, context: Context, arms: tuple[dict[int, Run], dict[int, Run]], label: str | None = None) -> "Cast":
        """Both arms' networks; `label` as in `Task.question`.

        Raises WhymaskError where they cannot be compared on these images, or asked about them."""
        runs = {next(iter(arm.values())).arm: arm for arm in arms}
        prepared = context.prepared
        cast = cls(context, runs, label)
        loaded: dict[Role, dict[int, Member]] = {
            role: {seed: load_network(role, run, prepared, context.fabric.device) for seed, run in arm.items()}
            for role, arm in zip(ROLES, arms, strict=False)
        }
        every = [run for arm in arms for run in arm.values()]
        encoders = [member.encoder for members in loaded.values() for member in members.values()]
        check_comparable(every, encoders, prepared.task, prepared.name)
        for role, members in loaded.items():
            cast.networks[role] = {seed: replace(cast.asked(own), seed=seed) for seed, own in members.items()}
        cast.warnings = check_unseen(every, prepared)
        if cast.question.note:
            cast.notes.append(cast.question.note)
        budgets = {run.budget.name for run in every}
        if len(budgets) > 1:
            cast.notes.append(
                f"The runs were trained with different numbers of {prepared.task.budget_counts}: "
                f"{', '.join(sorted(budgets))}."
            )
        if given := [arm for arm, kind in cast.kinds.items() if kind == GIVEN]:
            cast.notes.append(given_text(given))
        seeds = [{run.seed for run in arm.values()} for arm in arms]
        if not seeds[0] & seeds[1]:
            cast.notes.append(
                "The two runs have different seeds, and so different labels; they are compared all the same."
            )
        return cast

    @property
    def preprocessing(self) -> Preprocessing:
        return self.prepared.images.preprocessing

    @property
    def members(self) -> list[Member]:
        return [self.networks[role][seed] for role in ROLES for seed in sorted(self.networks.get(role, {}))]

    @property
    def compared(self) -> Compared:
        return Compared(self.pretrained, self.baseline, (self.kinds[self.pretrained], self.kinds[self.baseline]))

    @property
    def baseline_is_scratch(self) -> bool:
        return self.kinds[self.baseline] == SCRATCH

    def arm(self, role: Role) -> str:
        return next(iter(self.networks[role].values())).arm

    def add_controls(self, out: Path, train: bool) -> None:
        """Random weights, the read-out of the pretrained encoders, and, with `train`, those that must be trained."""
        self.folder = out
        like = next(iter(self.networks["baseline"].values())).encoder
        first = min(self.networks["baseline"])
        classes, device = len(self.prepared.classes), self.fabric.device
        self.networks["random"] = {first: controls.random_network(like, classes, first, self.preprocessing, device)}
        self._add_readouts()
        baseline = self.runs[self.baseline]
        obstacle = self._obstacle(baseline, train)
        if obstacle:
            self.notes.append(f"No network was trained with random erasing or on shuffled labels: {obstacle}.")
            return
        self.mask_ratio = ratio = self._mask_ratio()
        self.networks["erased"] = {
            seed: self.asked(controls.train_erased(self.context, run, like, ratio, out / f"erased-{seed}"))
            for seed, run in baseline.items()
        }
        self.networks["shuffled"] = {
            first: self.asked(controls.train_shuffled(self.context, baseline[first], like, out / f"shuffled-{first}"))
        }

    def asked(self, network: Member) -> Member:
        """A trained network as one that gives the logits of the question's classes."""
        mixing = self.question.mixing
        return network if mixing is None else replace(network, classifier=mixed(network.classifier, mixing))

    def _obstacle(self, baseline: dict[int, Run], train: bool) -> str | None:
        if not train:
            return "that was not asked for"
        if self.kinds[self.baseline] == GIVEN:
            return f"{self.baseline} was not trained here, and how is not known"
        if not self.baseline_is_scratch:
            return f"{self.baseline} was not trained from scratch, whose recipe they would follow"
        if self.kinds[self.pretrained] == SCRATCH:
            return "neither arm was pretrained"
        found = (controls.can_be_trained(run, self.prepared) for run in baseline.values())
        return next((reason for reason in found if reason), None)

    def _mask_ratio(self) -> float:
        ratios = [run.mask_ratio for run in self.runs[self.pretrained].values()]
        known = next((ratio for ratio in ratios if ratio is not None), None)
        if known is None:
            self.notes.append(f"What share pretraining hid is not recorded; random erasing hid {controls.MASK_RATIO}.")
        return known or controls.MASK_RATIO

    def _add_readouts(self) -> None:
        arm = f"{self.pretrained} encoder"
        found: dict[int, Member] = {}
        for seed, run in self.runs[self.pretrained].items():
            encoder = load_pretrained(run)
            if encoder is not None and run.fingerprint == self.prepared.identity:
                encoder = encoder.to(self.fabric.device)
                rows = self.context.labelled_rows(run.budget, run.seed)
                found[seed] = controls.readout_network(arm, encoder, self.prepared, rows, run.seed)
        if found:
            self.networks["readout"] = found
        else:
            self.notes.append(
                f"The encoders that {self.pretrained} started from, or the labels that it was trained on, are not "
                "there: what they held before fine-tuning, and whether it was kept, is left out."
            )

    def _training_of(self, arm: str) -> str:
        kind = self.kinds[arm]
        if kind == GIVEN:
            return "as it was given, with the head that came with it"
        if kind == SCRATCH:
            return "trained from scratch"
        return "fine-tuned after pretraining" if kind == "pretrained" else f"fine-tuned after {kind} pretraining"

    def about(self, means: Mapping[str, Means]) -> list[dict[str, Any]]:
        """What explain.json says of each arm; `means` is how its evidence was found."""
        texts = {
            "pretrained": self._training_of(self.pretrained),
            "baseline": self._training_of(self.baseline),
            "erased": "from scratch, with parts of its training images hidden as pretraining hides them",
            "readout": "the pretrained encoder before fine-tuning, with a linear read-out",
            "random": "weights as drawn, never trained",
            "shuffled": "from scratch on shuffled labels",
        }
        return [
            {
                "name": self.arm(role),
                "role": role,
                "kind": self.kinds.get(self.arm(role)),
                "about": texts[role],
                "seeds": sorted(self.networks[role]),
                "folders": [str(run.folder) for network in self.networks[role].values() if (run := network.run)],
                "evidence": means[self.arm(role)],
            }
            for role in ROLES
            if role in self.networks
        ]


def given_text(arms: Sequence[str]) -> str:
    """What cannot be concluded of classifiers that were not trained here."""
    one = len(arms) == 1
    return (
        f"{' and '.join(arms)} {'was' if one else 'were'} not trained here, and {'is' if one else 'are'} one network"
        f"{'' if one else ' each'}: whether pretraining made a difference, or the architecture, the recipe, the images "
        "or chance, cannot be concluded. Intervals over images are of these networks, not of others trained alike."
    )
