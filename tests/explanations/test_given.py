"""Classifiers that were not trained here: what they say is what timm and transformers say, of the images' classes."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import transformers
from timm.models import save_for_hf

import small_timm  # noqa: F401
from tiny import CLASSES, small_explanation
from whymask import WhymaskError, explain
from whymask.data.prepare import Prepared, prepare
from whymask.data.settings import DataSettings
from whymask.encoders.described import NETWORKS
from whymask.encoders.heads import outputs_for, outputs_of
from whymask.explanations.given import given_run, is_given
from whymask.explanations.networks import two_arms

NAMES = ["ant", "Zebra", "bee", "wood okapi, okapi", "cow"]
CHOSEN = [3, 1]
"""Of these, CLASSES."""
SIDE = 32


def saved(name: str, folder: Path, **settings: Any) -> Any:
    """A network of timm with a head of five classes, as its authors would upload it."""
    torch.manual_seed(0)
    net = timm.create_model(name, num_classes=5, **settings)
    with torch.no_grad():
        for head in net.get_classifier().parameters():
            head.normal_()
    save_for_hf(net, folder, model_config={"label_names": NAMES}, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architecture": name}))
    return net.eval()


@pytest.fixture(scope="module")
def prepared(pictures: Path) -> Prepared:
    return prepare(str(pictures / "labelled"), DataSettings(size=SIDE))


@pytest.fixture
def same(prepared: Prepared) -> Callable[[str, Callable[[torch.Tensor], torch.Tensor]], None]:
    """Asserts that what is called so says what the reference says."""

    def check(name: str, reference: Callable[[torch.Tensor], torch.Tensor]) -> None:
        assert is_given(name) and prepared.classes == CLASSES
        images = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = reference(images)[:, CHOSEN]
            found = given_run(name).classifier(prepared).eval()(images)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-4)

    return check


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("small_resnet", {}),
        ("small_convnext", {}),
        ("test_efficientnet", {}),
        ("test_mambaout", {}),
        ("small_swin", {"img_size": SIDE}),
        ("test_vit", {"img_size": SIDE}),
        ("test_vit", {"img_size": SIDE, "global_pool": "avg", "fc_norm": True}),
        ("small_gap", {"img_size": SIDE, "patch_size": 8}),
        ("small_siglip", {"img_size": SIDE, "patch_size": 8}),
        ("small_beit8", {"img_size": SIDE}),
    ],
)
def test_a_folder_of_timm_says_what_timm_says(name: str, settings: dict[str, Any], tmp_path: Path, same: Any) -> None:
    same(str(tmp_path), saved(name, tmp_path, **settings))


@pytest.mark.parametrize("kind", ["ViT", "ConvNext", "ResNet"])
def test_a_folder_of_transformers_says_what_transformers_says(
    kind: str, tmp_path: Path, same: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for model, small in {"convnext": "small_convnext", "resnet": "small_resnet_basic"}.items():
        monkeypatch.setitem(NETWORKS, model, (small,))
    sizes: dict[str, dict[str, Any]] = {
        "ViT": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 96}
        | {"image_size": SIDE, "patch_size": 8, "layer_norm_eps": 1e-6},
        "ConvNext": {"layer_norm_eps": 1e-6, "depths": [1, 1, 2, 1], "hidden_sizes": [8, 16, 24, 32]},
        "ResNet": {"depths": [1, 2, 1, 1], "hidden_sizes": [64, 8, 12, 16], "layer_type": "basic"}
        | {"embedding_size": 64},
    }
    config = getattr(transformers, f"{kind}Config")(**sizes[kind], id2label=dict(enumerate(NAMES)))
    torch.manual_seed(0)
    net = getattr(transformers, f"{kind}ForImageClassification")(config).eval()
    with torch.no_grad():
        net.get_parameter("classifier.1.weight" if kind == "ResNet" else "classifier.weight").normal_()
    net.save_pretrained(tmp_path)
    same(str(tmp_path), lambda images: net(images).logits)


def test_a_file_says_it_of_a_network_that_is_named(tmp_path: Path, same: Any) -> None:
    """As MAE's authors give theirs: a norm of the mean over patches, and settings beside the weights."""
    net = saved("test_vit", tmp_path / "saved", img_size=SIDE, global_pool="avg", fc_norm=True)
    torch.save({"model": net.state_dict(), "epoch": 99}, tmp_path / "mae.pth")
    described = json.loads((tmp_path / "saved" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"label_names": described["label_names"]}))
    same(f"test_vit={tmp_path / 'mae.pth'}", net)
    with pytest.raises(WhymaskError, match=r"mae.pth: nothing beside the weights says .* NETWORK=.*resnet50="):
        given_run(str(tmp_path / "mae.pth"))
    with pytest.raises(WhymaskError, match="timm has no network test_wit"):
        given_run(f"test_wit={tmp_path / 'mae.pth'}")


def test_imagenets_classes_are_known_by_synset_and_by_word() -> None:
    called = outputs_of(Path("nowhere.pth"), 1000)
    classes = ["n01440764", "Goldfish", "great-white_shark", "tiger shark"]
    assert outputs_for(classes, called, "it") == [0, 1, 2, 3]
    with pytest.raises(WhymaskError, match="nothing says what the 7 outputs"):
        outputs_of(Path("nowhere.pth"), 7)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["gold fisch", "tench"], r"1,?000 outputs, none called gold fisch; .* such as goldfish"),
        (
            ["crane", "tench"],
            "2 outputs crane: numbers 134, 517; .* one of them alone is called, such as n02012849",
        ),
        (["tench", "n01440764"], "tench and n01440764 are the same output"),
    ],
)
def test_classes_that_are_no_outputs_are_told(classes: list[str], said: str) -> None:
    with pytest.raises(WhymaskError, match=said):
        outputs_for(classes, outputs_of(Path("nowhere.pth"), 1000), "it")


def test_what_has_no_head_or_two_is_told(tmp_path: Path) -> None:
    net = timm.create_model("test_vit", num_classes=0)
    save_for_hf(net, tmp_path / "none", safe_serialization=True)
    with pytest.raises(WhymaskError, match="holds no classifier's head; give a network that was fine-tuned"):
        given_run(str(tmp_path / "none"))
    state = {"head.weight": torch.zeros(2, 64), "head_dist.weight": torch.zeros(2, 64)}
    torch.save(state, tmp_path / "two.pth")
    with pytest.raises(WhymaskError, match="two heads on two tokens"):
        given_run(f"test_vit={tmp_path / 'two.pth'}")


def test_two_classifiers_are_explained_side_by_side(pictures: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("first", "second")]
    saved("test_vit", Path(names[0]), img_size=SIDE)
    saved("small_convnext", Path(names[1]))
    data = str(pictures / "labelled")
    settings = replace(small_explanation(), measures=("views", "lottery"), data=DataSettings(size=SIDE))
    why = explain(names, data, out=tmp_path / "why", settings=settings)
    assert [(arm["name"], arm["role"], arm["seeds"]) for arm in why.arms][:2] == [
        ("first", "pretrained", [0]), ("second", "baseline", [0]),
    ]  # fmt: skip
    assert {conclusion.verdict for conclusion in why.conclusions} == {"open"}
    assert any("cannot be concluded" in note for note in why.notes) and "trained on other data" in why.warnings[0]
    assert why.setting["images"] == 20
    page = (tmp_path / "why" / "report.html").read_text()
    beside = page[page.index("side by side") :].partition("</table>")[0]
    heads = [re.sub("<[^>]*>", "", head) for head in re.findall(r"<th[^>]*>(.*?)</th>", beside)]
    assert heads == ["quantity", "first", "second", "first - second"]
    accuracy = next(row for row in why.select(quantity="accuracy", arm="first", seed=None) if row.over == "images")
    assert f"<td>{accuracy.value:.3f}<small>{accuracy.low:.3f} to {accuracy.high:.3f}, 20 images</small>" in beside
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(WhymaskError, match="first has 5 outputs, none called c0"),
    ):
        patch.setattr("whymask.data.prepare.open_images", lambda *_, **__: pytest.fail("an image was decoded"))
        images = np.zeros((8, 40, 40, 3), np.uint8)
        named = {"x": images, "y": np.array(["c0", "okapi"] * 4)}
        explain(names, named, out=tmp_path / "no", settings=settings)
    with pytest.raises(WhymaskError, match="two were expected"):
        two_arms([given_run(names[0])])
    with pytest.raises(WhymaskError, match="first was given twice; two networks were expected"):
        two_arms([given_run(names[0])] * 2)
