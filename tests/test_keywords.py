"""Settings by keyword, and what the functions that take them return."""

import pydoc
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import whymask
from whymask import (
    EncoderSettings,
    FinetuneSettings,
    MAESettings,
    PretrainSettings,
    PretrainTrainingSettings,
    StudySettings,
    WhymaskError,
)
from whymask.keywords import with_keywords
from whymask.methods.settings import with_method


def test_a_setting_is_found_by_its_name_at_any_depth() -> None:
    made = with_method(PretrainSettings(), {"epochs": 3, "size": 64, "seed": 2, "mask_ratio": 0.5, "device": "cpu"})
    usual = PretrainSettings()
    assert made == replace(
        usual,
        seed=2,
        training=replace(usual.training, epochs=3),
        data=replace(usual.data, size=64),
        mae=MAESettings(mask_ratio=0.5),
        runtime=replace(usual.runtime, device="cpu"),
    )


def test_a_method_settings_are_those_of_the_method_that_is_meant() -> None:
    made = with_method(PretrainSettings(), {"mask_ratio": 0.5, "method": "data2vec"})
    assert made.data2vec.mask_ratio == 0.5 and made.mae.mask_ratio is None
    assert with_method(made, {"mask_ratio": 0.7}).data2vec.mask_ratio == 0.7


def test_a_group_is_given_as_a_dict_its_class_or_its_name() -> None:
    for encoder in ({"name": "vit"}, EncoderSettings("vit"), "vit"):
        assert with_keywords(FinetuneSettings(), {"encoder": encoder}).encoder == EncoderSettings("vit")
    made = with_keywords(StudySettings(), {"pretrain": {"epochs": 3}})
    assert made.pretrain == PretrainTrainingSettings(epochs=3)


def test_a_group_and_its_parts_are_given_together_in_any_order() -> None:
    expected = replace(EncoderSettings("vit"), width=96, depth=2)
    part = {"depth": 2}
    for keywords in (
        {"encoder": "vit", "width": 96, "depth": 2},
        {"width": 96, "encoder": "vit", "depth": 2},
        {"encoder": {"name": "vit", **part}, "width": 96},
        {"width": 96, "encoder": {"name": "vit", **part}},
    ):
        assert with_keywords(FinetuneSettings(), keywords).encoder == expected
    with_keywords(FinetuneSettings(), {"encoder": part, "width": 96})
    assert part == {"depth": 2}  # the caller's own
    for keywords in (
        {"encoder": EncoderSettings("vit"), "width": 96},
        {"width": 96, "encoder": EncoderSettings("vit")},
    ):
        with pytest.raises(WhymaskError, match="give width in encoder"):
            with_keywords(FinetuneSettings(), keywords)


def test_values_are_taken_as_people_give_them(tmp_path: Path) -> None:
    made = with_keywords(StudySettings(), {"budgets": [2, "1%"], "worth_budgets": 4, "init": str(tmp_path)})
    assert (made.budgets, made.worth_budgets, made.init) == (("2", "1%"), ("4",), tmp_path)
    made = with_keywords(FinetuneSettings(), {"budget": 10, "origin": tmp_path})
    assert (made.budget, made.origin) == ("10", str(tmp_path))


def test_of_equal_names_the_outermost_is_meant_and_of_two_groups_none() -> None:
    assert with_keywords(StudySettings(), {"layer_decay": 0.8}).layer_decay == 0.8
    with pytest.raises(WhymaskError, match=r"epochs=3.* give pretrain=\{'epochs': 3\} or finetune=\{'epochs': 3\}"):
        with_keywords(StudySettings(), {"epochs": 3})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"epoch": 3}, r"epoch: PretrainSettings has no such setting; did you mean epochs"),
        ({"training": {"epoch": 3}}, r"epoch: PretrainTrainingSettings has no such setting; did you mean epochs"),
        ({"zzz": 3}, r"zzz: PretrainSettings has no such setting; help\(whymask.PretrainSettings\) lists them"),
        ({"epochs": "3"}, r"epochs='3' was given; int \| None was expected"),
        ({"augment": "flip"}, r"--augment flip: expected auto, none, crop, crop-flip, or MODULE:FUNCTION"),
        ({"epochs": 0}, r"epochs 0 was given; at least 1 was expected"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(WhymaskError, match=message):
        with_method(PretrainSettings(), keywords)


@given(st.sampled_from(sorted(StudySettings.__dataclass_fields__)))
def test_every_setting_may_be_given_as_it_is(name: str) -> None:
    usual = StudySettings()
    assert with_method(usual, {name: getattr(usual, name)}) == usual


@pytest.mark.parametrize("name", ["study", "pretrain", "finetune", "probe", "explain"])
def test_a_mistyped_keyword_is_never_a_bare_type_error(name: str) -> None:
    with pytest.raises(WhymaskError, match="has no such setting"):
        getattr(whymask, name)("photos", **{"data": "photos"} if name == "explain" else {}, origin="x", sizes=3)


def test_a_probe_needs_an_encoder() -> None:
    with pytest.raises(WhymaskError, match="probe was given no encoder; give origin="):
        whymask.probe("photos")


def test_every_settings_class_can_be_imported_from_whymask() -> None:
    def below(kind: type) -> set[type]:
        groups = {type(getattr(kind(), f.name)) for f in fields(kind)}  # type: ignore[arg-type]
        inner = {group for group in groups if is_dataclass(group)}
        return inner.union(*(below(group) for group in inner))

    for kind in (PretrainSettings, FinetuneSettings, StudySettings, whymask.ExplainSettings):
        missing = {group.__name__ for group in below(kind)} - set(whymask.__all__)
        assert not missing


def test_help_shows_settings_as_python_has_them() -> None:
    for name in (name for name in whymask.__all__ if name.endswith("Settings")):
        shown = pydoc.plain(pydoc.render_doc(getattr(whymask, name))).partition("Data and other attributes")[0]
        assert f"{name}(" in shown and "_ArgConfig" not in shown and "Annotated" not in shown
    assert "first_seed: int = 0" in pydoc.plain(pydoc.render_doc(StudySettings))


def test_the_version_is_the_packages() -> None:
    assert whymask.__version__ == "0.1.0"
