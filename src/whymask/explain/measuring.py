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
from whymask.stages.alone import SCRATCH

MOST = 2000
"""Test images, where a measure takes more than the others: for CKA, which needs more than features."""


class Measuring:
    """Takes the measures of a cast, one after the other."""

    def __init__(self, cast: Cast, rows: np.ndarray, glyphs: Glyphs | None, settings: ExplainSettings) -> None:
        self.cast, self.glyphs, self.settings = cast, glyphs, settings
        self.notes = cast.notes
        self.numbers: list[Number] = []
        if glyphs is not None:
            self.notes.append("Measures on whole images use the multi-view test images, which show all features.")
        self.images, self.labels = self._load(rows)
        groups = cast.prepared.groups
        self.groups = None if groups is None else groups[rows]
        self.cells = next(iter(cast.networks["pretrained"].values())).encoder.grid
        self.fillers: dict[Filling, Tensor] = fillers(self.images, self.cells)
        self.means: dict[str, Means] = {}
        for network in cast.members:
            if network.arm not in self.means:
                self.means[network.arm] = means_of(network, self.images, self.labels)
        self.maps: dict[tuple[str, int], Tensor] = {}

    def explanation(self, folder: RunFolder) -> Explanation:
        self._note_occlusion()
        for name in self.settings.measures:
            say(f"measuring {name}")
            getattr(self, f"_{name}")()
        cast = self.cast
        return Explanation(
            folder=folder.path,
            lead=conclusions.lead(self.numbers, cast.pretrained, cast.baseline, self.glyphs),
            setting=self._setting(),
            provenance=folder.provenance,
            arms=cast.about(self.means),
            numbers=self.numbers,
            conclusions=conclusions.draw(self.numbers, cast.pretrained, cast.baseline),
            notes=self.notes,
            pictures=evidence_pictures(cast, self.images, self.labels, self.cells, self.means),
        )

    # images ------------------------------------------------------------------------------------------------------

    def _load(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batches = list(in_order(self.cast.prepared.images, rows, BATCH))
        return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])

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
                    self.numbers += summarise(measure, name, pair, groups)

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
        prepared = self.cast.prepared
        assert prepared.test_tags is not None
        rows = in_turn(prepared, prepared.test[prepared.test_tags == "single_view"])[:MOST]
        if len(rows):
            images, labels = self._load(rows)
            key = Key("single-view accuracy")
            scores = {
                role: {s: {key: n.recognises(images, labels).double().numpy()} for s, n in networks.items()}
                for role, networks in self.cast.networks.items()
            }
            self._summarise("features", scores, None)

    def _views(self) -> None:
        count = min(self.settings.view_images, len(self.images))
        some = {name: filler[:count] for name, filler in self.fillers.items()}

        def scores(network: Network) -> Scores:
            means = self.means[network.arm]
            found, maps = view_scores(network, self.images[:count], self.labels[:count], some, self.cells, means)
            if count == len(self.images):
                self.maps[network.arm, network.seed] = maps
            return found

        self._per_network("views", scores, count)

    def _evidence(self, network: Network) -> Tensor:
        key = (network.arm, network.seed)
        if key not in self.maps:
            means = self.means[network.arm]
            self.maps[key] = evidence(network, self.images, self.labels, self.cells, means)
        return self.maps[key]

    def _lottery(self) -> None:
        arms = {}
        for role in ("pretrained", "baseline", "erased", "readout"):
            networks = self.cast.networks.get(role, {})
            if len(networks) > 1:
                logits = {seed: network(self.images) for seed, network in networks.items()}
                arms[role] = (logits, {seed: self._evidence(network) for seed, network in networks.items()})
                name = self.cast.arm(role)
                self.numbers += lottery.lottery_numbers(name, *arms[role], self.labels, self.groups)
        self._lottery_of_random()
        fewest = min(len(self.cast.networks[role]) for role in ("pretrained", "baseline"))
        if fewest < lottery.SEEDS:
            self.notes.append(
                f"The lottery is told from {fewest} network{'s' * (fewest > 1)} an arm; at least {lottery.SEEDS} seeds "
                "are advised."
                if fewest > 1
                else "The lottery needs several seeds, and there is one: it is left out."
            )
        if {"pretrained", "baseline"} <= arms.keys():
            names = (self.cast.pretrained, self.cast.baseline)
            self.numbers += lottery.lottery_difference(
                names, arms["pretrained"], arms["baseline"], self.labels, self.groups
            )

    def _lottery_of_random(self) -> None:
        """Networks that were never trained, one for each seed of the baseline."""
        cast = self.cast
        like, classes = next(iter(cast.networks["random"].values())).encoder, len(cast.prepared.classes)
        device = cast.fabric.device
        networks = [controls.random_network(like, classes, s, cast.view, device) for s in cast.networks["baseline"]]
        means = self.means[controls.RANDOM]
        logits = {network.seed: network(self.images) for network in networks}
        maps = {n.seed: evidence(n, self.images, self.labels, self.cells, means) for n in networks}
        self.numbers += lottery.lottery_numbers(controls.RANDOM, logits, maps, self.labels, self.groups)

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
        rows = in_turn(cast.prepared, cast.prepared.test)[:MOST]
        images, _ = self._load(rows)
        before, after = cast.networks["readout"], cast.networks["pretrained"]
        self._retention_of(cast.pretrained, {seed: (before[seed], after[seed]) for seed in before}, images, rows)
        for role in ("baseline", "shuffled"):
            if cast.baseline == SCRATCH and role in cast.networks:
                pairs = {seed: (self._first_weights(after), after) for seed, after in cast.networks[role].items()}
                self._retention_of(cast.arm(role), pairs, images, rows)

    def _first_weights(self, network: Network) -> Network:
        cast = self.cast
        classes, device = len(cast.prepared.classes), cast.fabric.device
        seed = network.run.seed if network.run else network.seed
        return controls.random_network(network.encoder, classes, seed, cast.view, device)

    def _retention_of(
        self, arm: str, pairs: dict[int, tuple[Network, Network]], images: Tensor, rows: np.ndarray
    ) -> None:
        """Of networks before and after their training, by seed; images are those of `rows`."""
        prepared, layers, scores = self.cast.prepared, {}, {}
        for seed, (before, after) in pairs.items():
            layers[seed] = (before.layers(images), after.layers(images))
            run = self.cast.runs.get(arm, self.cast.runs[self.cast.baseline])[seed]
            if run.fingerprint == prepared.images.fingerprint:
                training = controls.rows_of(run, prepared)
                learn, labels = self._load(training)
                held, left = ((n.pooled(learn), n.pooled(images)) for n in (before, after))
                truth = labels.numpy(), prepared.images.labels[rows]
                scores[seed] = retention.readout_scores(held, left, truth, len(prepared.classes))
        wide = retention.too_wide(next(iter(layers.values()))[0])
        if wide:
            listed = ", ".join(map(str, wide))
            self.notes.append(f"CKA of layer {listed} of {arm} needs more test images than features: left out.")
        self.numbers += retention.cka_numbers(arm, layers)
        if scores:
            groups = prepared.groups
            self.numbers += summarise("retention", arm, scores, None if groups is None else groups[rows])

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
