"""The measures, taken one after the other of the networks of a cast, and the pictures of what they say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whymask.data.batches import in_order
from whymask.data.glyphs import Glyphs
from whymask.explain import conclusions, controls, features, interactions, lottery, retention
from whymask.explain.cast import Cast
from whymask.explain.choice import in_turn
from whymask.explain.evidence import Means, evidence, means_of
from whymask.explain.explanation import Explanation
from whymask.explain.fill import Filling, fillers
from whymask.explain.networks import BATCH, ROLES, Network, Role
from whymask.explain.numbers import Key, Number, Scores, differences, summarise
from whymask.explain.pictures import evidence_pictures
from whymask.explain.robustness import robustness_scores
from whymask.explain.settings import ExplainSettings
from whymask.explain.views import view_scores
from whymask.progress import say
from whymask.runs import RunFolder, command

MOST = 2000
"""Test images, where a measure takes more than the others: for CKA, which needs more than features."""


class Measuring:
    """Takes the measures of a cast, one after the other."""

    def __init__(self, cast: Cast, rows: np.ndarray, glyphs: Glyphs | None, settings: ExplainSettings) -> None:
        self.cast, self.glyphs, self.settings = cast, glyphs, settings
        self.notes = cast.notes
        self.numbers: list[Number] = []
        if glyphs is not None:
            self.notes.append(
                "Measures on whole images use the multi-view test images, which show all features; the lottery uses "
                "the single-view ones, which show what each network lacks."
            )
        self.rows = rows
        self.images, self.labels = self._load(rows)
        self.groups = self._groups_of(rows)
        self.cells = next(iter(cast.networks["pretrained"].values())).encoder.grid
        self.fillers: dict[Filling, Tensor] = fillers(self.images, self.cells)
        self.means: dict[str, Means] = {}
        for network in cast.members:
            if network.arm not in self.means:
                self.means[network.arm] = means_of(network, self.images, self.labels)

    def explanation(self, folder: RunFolder) -> Explanation:
        self._note_occlusion()
        for name in self.settings.measures:
            say(f"measuring {name}")
            getattr(self, f"_{name}")()
        cast = self.cast
        return Explanation(
            folder=folder.path,
            lead=conclusions.lead(self.numbers, cast.compared, self.glyphs.features if self.glyphs else None),
            setting=self._setting(),
            provenance=folder.provenance,
            arms=cast.about(self.means),
            numbers=self.numbers,
            conclusions=conclusions.draw(self.numbers, cast.compared),
            warnings=cast.warnings,
            notes=self.notes,
            pictures=evidence_pictures(cast, self.images, self.labels, self.cells, self.means),
        )

    # images ------------------------------------------------------------------------------------------------------

    def _load(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batches = list(in_order(self.cast.prepared.images, rows, BATCH))
        return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])

    def _groups_of(self, rows: np.ndarray) -> np.ndarray | None:
        groups = self.cast.prepared.groups
        return None if groups is None else groups[rows]

    # measures ----------------------------------------------------------------------------------------------------

    def _per_network(self, measure: str, scores_of: Callable[[Network], Scores], count: int | None = None) -> None:
        """Scores of every network on the first `count` images; rows of each arm, and of the pretrained one's lead."""
        scores = {
            role: {seed: scores_of(network) for seed, network in networks.items()}
            for role, networks in self.cast.networks.items()
        }
        self._summarise(measure, scores, None if self.groups is None else self.groups[:count])

    def _summarise(self, measure: str, scores: dict[Role, dict[int, Scores]], groups: np.ndarray | None) -> None:
        for role in ROLES:
            if role in scores:
                self.numbers += summarise(measure, self.cast.arm(role), scores[role], groups)
        for role in ("baseline", "erased"):
            if role in scores:
                pair = differences(scores["pretrained"], scores[role])
                name = f"{self.cast.pretrained} - {self.cast.arm(role)}"
                if pair:
                    self.numbers += summarise(measure, name, pair, groups, difference=True)

    def _features(self) -> None:
        if self.glyphs is None:
            self.notes.append("Which features there are is known of glyphs only: captured features are left out.")
            return
        alone = features.features_alone(self.glyphs, self.cast.view)
        shares = {
            role: {seed: features.recognised(network, alone) for seed, network in networks.items()}
            for role, networks in self.cast.networks.items()
        }
        classes, cast = self.cast.prepared.classes, self.cast
        for role in ROLES:
            if role in shares:
                self.numbers += features.feature_numbers(cast.arm(role), shares[role], classes)
        for role in ("baseline", "erased"):
            if role in shares:
                names = (cast.pretrained, cast.arm(role))
                self.numbers += features.difference_numbers(names, shares["pretrained"], shares[role])
        self._decodable(alone)
        self._single_view()

    def _decodable(self, alone: features.Alone) -> None:
        assert self.glyphs is not None
        training = features.features_alone(self.glyphs, self.cast.view, "alone, to learn from")
        for role in ROLES:
            if role in self.cast.networks:
                scores = {
                    seed: features.decodable_scores(
                        (network.pooled(training.images), training),
                        (network.pooled(alone.images), alone),
                        self.glyphs.classes,
                    )
                    for seed, network in self.cast.networks[role].items()
                }
                rows = summarise("features", self.cast.arm(role), scores)
                self.numbers += [replace(row, over="classes") if row.over == "images" else row for row in rows]

    def _single_view(self) -> None:
        rows = self._single_view_rows(MOST)
        if len(rows):
            images, labels = self._load(rows)
            key = Key("single-view accuracy")
            scores = {
                role: {s: {key: n.recognises(images, labels).double().numpy()} for s, n in networks.items()}
                for role, networks in self.cast.networks.items()
            }
            self._summarise("features", scores, None)

    def _single_view_rows(self, most: int) -> np.ndarray:
        """Of glyphs, the test images that show one feature of their class."""
        prepared = self.cast.prepared
        assert prepared.test_tags is not None
        return in_turn(prepared, prepared.test[prepared.test_tags == "single_view"])[:most]

    def _views(self) -> None:
        count = min(self.settings.view_images, len(self.images))
        some = {name: filler[:count] for name, filler in self.fillers.items()}

        def scores(network: Network) -> Scores:
            means = self.means[network.arm]
            return view_scores(network, self.images[:count], self.labels[:count], some, self.cells, means)

        self._per_network("views", scores, count)

    def _lottery(self) -> None:
        rows = self._lottery_rows()
        images, labels = self._load(rows)
        groups = self._groups_of(rows)

        def seen_by(networks: dict[int, Network]) -> lottery.Seen:
            return {
                seed: (network(images), evidence(network, images, labels, self.cells, self.means[network.arm]))
                for seed, network in networks.items()
            }

        roles: tuple[Role, ...] = ("pretrained", "baseline", "erased", "readout")
        several = {role: self.cast.networks[role] for role in roles if len(self.cast.networks.get(role, {})) > 1}
        seen = {role: seen_by(networks) for role, networks in several.items()}
        for role, own in seen.items():
            self.numbers += lottery.lottery_numbers(self.cast.arm(role), own, labels, groups)
        self.numbers += lottery.lottery_numbers(controls.RANDOM, seen_by(self._never_trained()), labels, groups)
        for role in ("baseline", "erased"):
            if {"pretrained", role} <= seen.keys():
                names = (self.cast.pretrained, self.cast.arm(role))
                self.numbers += lottery.lottery_difference(names, seen["pretrained"], seen[role], labels, groups)
        self._note_few_seeds()

    def _lottery_rows(self) -> np.ndarray:
        single = self.rows[:0] if self.glyphs is None else self._single_view_rows(self.settings.test_images)
        return single if len(single) else self.rows

    def _note_few_seeds(self) -> None:
        fewest = min(len(self.cast.networks[role]) for role in ("pretrained", "baseline"))
        if fewest == 1:
            self.notes.append("The lottery needs several seeds, and there is one: it is left out.")
        elif fewest < lottery.SEEDS:
            self.notes.append(
                f"The lottery is told from {fewest} networks an arm; at least {lottery.SEEDS} seeds are advised."
            )

    def _never_trained(self) -> dict[int, Network]:
        """Networks with random weights, one for each seed of the baseline."""
        cast = self.cast
        like, classes = next(iter(cast.networks["random"].values())).encoder, len(cast.prepared.classes)
        return {
            seed: controls.random_network(like, classes, seed, cast.view, cast.fabric.device)
            for seed in cast.networks["baseline"]
        }

    def _interactions(self) -> None:
        count = min(self.settings.interaction_images, len(self.images))
        images, labels = self.images[:count], self.labels[:count]
        where = interactions.regions(self.cast.view.size, self.settings.regions)
        scores: dict[Role, dict[int, dict[Key, np.ndarray]]] = {}
        for name, filler in self.fillers.items():
            found = {
                role: {
                    seed: interactions.interactions(
                        interactions.masked_values(network, images, labels, filler[:count], where, BATCH)
                    )
                    for seed, network in networks.items()
                }
                for role, networks in self.cast.networks.items()
            }
            for role, seeds in found.items():
                for seed, values in seeds.items():
                    own = scores.setdefault(role, {}).setdefault(seed, {})
                    own |= interactions.strength_scores(values, name)
                    own |= self._against_readout(role, seed, values, found, name)
        self._summarise("interactions", scores, None if self.groups is None else self.groups[:count])

    def _against_readout(
        self, role: Role, seed: int, values: np.ndarray, found: dict[Role, dict[int, np.ndarray]], name: str
    ) -> dict[Key, np.ndarray]:
        """What is the same as in the pretrained encoder of the seed, or of the first where it has none."""
        readouts = found.get("readout")
        if not readouts or role == "readout":
            return {}
        before = readouts.get(seed, readouts[min(readouts)])
        scores = dict(interactions.found_scores(before, values, name))
        if role == "pretrained":
            scores |= interactions.transfer_scores(before, values, name)
            scratch = list(found["baseline"].values())
            scores |= interactions.never_found_scores(before, values, scratch, name)
        return scores

    def _retention(self) -> None:
        cast = self.cast
        if "readout" not in cast.networks:
            return
        before, after = cast.networks["readout"], cast.networks["pretrained"]
        self._retention_of(cast.pretrained, {seed: (before[seed], after[seed]) for seed in before})
        for role in ("baseline", "shuffled"):
            if cast.baseline_is_scratch and role in cast.networks:
                pairs = {seed: (self._first_weights(after), after) for seed, after in cast.networks[role].items()}
                self._retention_of(cast.arm(role), pairs)

    def _first_weights(self, network: Network) -> Network:
        cast = self.cast
        classes, device = len(cast.prepared.classes), cast.fabric.device
        seed = network.run.seed if network.run else network.seed
        return controls.random_network(network.encoder, classes, seed, cast.view, device)

    def _retention_of(self, arm: str, pairs: dict[int, tuple[Network, Network]]) -> None:
        """Of networks before and after their training, by seed."""
        rows = in_turn(self.cast.prepared, self.cast.prepared.test)[:MOST]
        images, groups = self._load(rows)[0], self._groups_of(rows)
        layers = {seed: (before.layers(images), after.layers(images)) for seed, (before, after) in pairs.items()}
        wide = retention.too_wide(next(iter(layers.values()))[0])
        if wide:
            listed = ", ".join(map(str, wide))
            self.notes.append(f"CKA of layer {listed} of {arm} needs more test images than features: left out.")
        self.numbers += retention.cka_numbers(arm, layers, groups)
        read = {seed: right for seed, pair in pairs.items() if (right := self._read_out(arm, seed, pair, rows))}
        if read:
            scores = {seed: retention.readout_scores(*right) for seed, right in read.items()}
            gains = {seed: {Key("read-out after - before"): after - before} for seed, (before, after) in read.items()}
            self.numbers += summarise("retention", arm, scores, groups)
            self.numbers += summarise("retention", arm, gains, groups, difference=True)

    def _read_out(
        self, arm: str, seed: int, pair: tuple[Network, Network], rows: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Whether read-outs before and after are right on the images `rows`; None where the labels are not there."""
        prepared = self.cast.prepared
        run = self.cast.runs.get(arm, self.cast.runs[self.cast.baseline])[seed]
        if run.fingerprint != prepared.images.fingerprint:
            return None
        learn = self.cast.context.labelled_rows(run.budget, run.seed)
        labels = prepared.images.labels[learn], prepared.images.labels[rows]
        before, after = (
            retention.readout(
                (network.pooled_rows(prepared, learn), network.pooled_rows(prepared, rows)),
                labels,
                len(prepared.classes),
            )
            for network in pair
        )
        return before, after

    def _robustness(self) -> None:
        def scores(network: Network) -> Scores:
            return robustness_scores(network, self.images, self.labels, self.fillers, self.cells)

        self._per_network("robustness", scores)

    # what is told ------------------------------------------------------------------------------------------------

    def _note_occlusion(self) -> None:
        pointless = [arm for arm, means in self.means.items() if means == "occlusion"]
        if pointless:
            self.notes.append(
                f"Grad-CAM finds no map to point at in {', '.join(pointless)}; evidence is what hiding a cell changes "
                "(occlusion), and not the gradient."
            )

    def _setting(self) -> dict[str, Any]:
        prepared, cast = self.cast.prepared, self.cast
        return {
            "data": prepared.name,
            "classes": list(prepared.classes),
            "images": len(self.images),
            "view_images": min(self.settings.view_images, len(self.images)),
            "interaction_images": min(self.settings.interaction_images, len(self.images)),
            "size": list(self.cast.view.size),
            "cells": list(self.cells),
            "regions": self.settings.regions,
            "batch": BATCH,
            "measures": list(self.settings.measures),
            "seeds": sorted(cast.networks["pretrained"]),
            "pretrained": cast.pretrained,
            "baseline": cast.baseline,
            "features": None if self.glyphs is None else self.glyphs.features,
            "command": command(),
        }
