"""The measures, taken one after the other of the networks of a cast, and the pictures of what they say."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whymask.data.batches import in_order
from whymask.data.glyphs import Glyphs
from whymask.data.prepare import Prepared
from whymask.errors import WhymaskError
from whymask.explain import conclusions, controls, features, interactions, lottery, retention
from whymask.explain.cast import Cast
from whymask.explain.evidence import Means, evidence, means_of, ranks
from whymask.explain.explanation import Explanation
from whymask.explain.fill import Filling, fillers, hide
from whymask.explain.networks import BATCH, ROLES, Network, Role
from whymask.explain.numbers import Key, Number, Scores, differences, summarise
from whymask.explain.robustness import robustness_scores
from whymask.explain.settings import ExplainSettings
from whymask.explain.views import view_scores
from whymask.progress import say
from whymask.randomness import numpy_generator
from whymask.runs import RunFolder, command
from whymask.stages.alone import SCRATCH

SHOWN = 8
"""Images whose evidence the page shows."""
MOST_FOR_CKA = 2000


def choose_images(prepared: Prepared, glyphs: Glyphs | None, settings: ExplainSettings) -> np.ndarray:
    """Test images, rows of `prepared`: of all classes alike, in random order; of glyphs those that show all features.

    Raises WhymaskError where there are fewer than the measures need.
    """
    rows = prepared.test
    if glyphs is not None and prepared.test_tags is not None:
        rows = rows[prepared.test_tags == "multi_view"]
    rows = numpy_generator(0, "explain", "images").permutation(rows)
    labels = prepared.images.labels[rows]
    turn = np.empty(len(rows), np.int64)
    for label in np.unique(labels):
        turn[labels == label] = np.arange((labels == label).sum())
    chosen = rows[np.argsort(turn, kind="stable")][: settings.test_images]
    needed = 2
    if "interactions" in settings.measures:
        interactions.regions(prepared.images.preprocessing.size, settings.regions)
        needed = settings.regions
    if len(chosen) < needed:
        raise WhymaskError(
            f"{len(chosen)} test images of {prepared.name}; at least {needed} are needed, one a region of the "
            "interactions; give more labelled images or fewer --regions"
        )
    return chosen


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
            arms=[self._about(role) for role in ROLES if role in cast.networks],
            numbers=self.numbers,
            conclusions=conclusions.draw(self.numbers, cast.pretrained, cast.baseline),
            notes=self.notes,
            pictures=self._pictures(),
        )

    # images ------------------------------------------------------------------------------------------------------

    def _load(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        batches = list(in_order(self.cast.prepared.images, rows, BATCH))
        return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])

    # measures ----------------------------------------------------------------------------------------------------

    def _per_network(self, measure: str, scores_of: Callable[[Network], Scores]) -> None:
        """Scores of every network; rows of each arm, and of what the pretrained one is compared with."""
        scores = {
            role: {seed: scores_of(network) for seed, network in networks.items()}
            for role, networks in self.cast.networks.items()
        }
        for role in ROLES:
            if role in scores:
                self.numbers += summarise(measure, self.cast.arm(role), scores[role], self.groups)
        self._compare(measure, scores)

    def _compare(self, measure: str, scores: dict[Role, dict[int, Scores]], groups: np.ndarray | None = None) -> None:
        for role in ("baseline", "erased"):
            if role in scores:
                pair = differences(scores["pretrained"], scores[role])
                name = f"{self.cast.pretrained} - {self.cast.arm(role)}"
                if pair:
                    self.numbers += summarise(measure, name, pair, self.groups if groups is None else groups)

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
        rows = prepared.test[prepared.test_tags == "single_view"][:MOST_FOR_CKA]
        if len(rows):
            images, labels = self._load(rows)
            key = Key("single-view accuracy")
            scores = {
                role: {s: {key: n.recognises(images, labels).double().numpy()} for s, n in networks.items()}
                for role, networks in self.cast.networks.items()
            }
            for role in scores:
                self.numbers += summarise("features", self.cast.arm(role), scores[role])
            self._compare("features", scores, np.arange(len(rows)))

    def _views(self) -> None:
        count = min(self.settings.view_images, len(self.images))
        some = {name: filler[:count] for name, filler in self.fillers.items()}

        def scores(network: Network) -> Scores:
            means = self.means[network.arm]
            found, maps = view_scores(network, self.images[:count], self.labels[:count], some, self.cells, means)
            if count == len(self.images):
                self.maps[network.arm, network.seed] = maps
            return found

        self._per_network("views", scores)

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

    def _interactions(self) -> None:
        count = min(self.settings.interaction_images, len(self.images))
        images, labels = self.images[:count], self.labels[:count]
        where = interactions.regions(self.cast.view.size, self.settings.regions)
        groups = None if self.groups is None else self.groups[:count]
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
        for role in ROLES:
            if role in scores:
                self.numbers += summarise("interactions", self.cast.arm(role), scores[role], groups)
        self._compare("interactions", scores, np.arange(count) if groups is None else groups)

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
        rows = cast.prepared.test[:MOST_FOR_CKA]
        images, _ = self._load(rows)
        pairs = {
            cast.pretrained: [
                (s, cast.networks["readout"][s], cast.networks["pretrained"][s]) for s in cast.networks["readout"]
            ]
        }
        if cast.baseline == SCRATCH:
            pairs[cast.baseline] = [
                (s, controls.random_network(n.encoder, len(cast.prepared.classes), s, cast.view), n)
                for s, n in cast.networks["baseline"].items()
            ]
        for arm, members in pairs.items():
            self._retention_of(arm, members, images, rows)

    def _retention_of(
        self, arm: str, members: list[tuple[int, Network, Network]], images: Tensor, rows: np.ndarray
    ) -> None:
        prepared, layers, scores = self.cast.prepared, {}, {}
        for seed, before, after in members:
            before.classifier.to(self.cast.fabric.device)
            layers[seed] = (
                retention.layer_features(before.encoder, before.see(images)),
                retention.layer_features(after.encoder, after.see(images)),
            )
            run = self.cast.runs[arm][seed]
            if run.fingerprint != prepared.images.fingerprint:
                continue
            training = controls.rows_of(run, prepared)
            learn, _ = self._load(training)
            held, left = ((n.pooled(learn), n.pooled(images)) for n in (before, after))
            labels = prepared.images.labels[training], prepared.images.labels[rows]
            scores[seed] = retention.readout_scores(held, left, labels, len(prepared.classes))
        wide = retention.too_wide(layers[members[0][0]][0])
        if wide:
            listed = ", ".join(map(str, wide))
            self.notes.append(f"CKA of layer {listed} of {arm} needs more test images than features: left out.")
        self.numbers += retention.cka_numbers(arm, layers)
        if scores:
            groups = self.cast.prepared.groups
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

    def _about(self, role: Role) -> dict[str, Any]:
        networks, cast = self.cast.networks[role], self.cast
        about = {
            "pretrained": f"fine-tuned after {cast.pretrained} pretraining",
            "baseline": "trained from scratch" if cast.baseline == SCRATCH else cast.baseline,
            "erased": "from scratch, with parts of its training images hidden as pretraining hides them",
            "readout": "the pretrained encoder before fine-tuning, with a linear read-out",
            "random": "weights as drawn, never trained",
            "shuffled": "from scratch on shuffled labels",
        }
        return {
            "name": cast.arm(role),
            "role": role,
            "about": about[role],
            "seeds": sorted(networks),
            "folders": [str(run.folder) for seed in sorted(networks) if (run := networks[seed].run)],
            "evidence": self.means[cast.arm(role)],
        }

    def _pictures(self) -> dict[str, np.ndarray]:
        """Some images, and for each arm's first network its evidence, and what it says without the strongest of it."""
        images, labels = self.images[:SHOWN], self.labels[:SHOWN]
        pictures = {"images": self._pixels(images), "labels": labels.numpy()}
        for role in ROLES:
            if role not in self.cast.networks:
                continue
            network = self.cast.networks[role][min(self.cast.networks[role])]
            means = self.means[network.arm]
            maps = evidence(network, images, labels, self.cells, means)
            first = (ranks(maps) < round(lottery.TOP * maps[0].numel())).view_as(maps)
            left = hide(images, first, torch.zeros_like(images))
            strongest = maps.clamp(min=0).amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
            pictures |= {
                f"evidence/{network.arm}": (maps.clamp(min=0) / strongest).numpy(),
                f"hidden/{network.arm}": self._pixels(left),
                f"whole/{network.arm}": network(images).argmax(dim=1).numpy(),
                f"left/{network.arm}": network(left).argmax(dim=1).numpy(),
            }
        return pictures

    def _pixels(self, images: Tensor) -> np.ndarray:
        """Normalised (n, C, h, w) as uint8 (n, h, w, C)."""
        view = self.cast.view
        std, mean = (torch.tensor(values).view(-1, 1, 1) for values in (view.std, view.mean))
        return ((images * std + mean).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
