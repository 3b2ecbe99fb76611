"""The search by words: what it finds, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lossreg.registry.components import Entry
from lossreg.registry.plugins import Plugin
from lossreg.registry.search import near, search, words_of
from lossreg.registry.specs import LossSpec, ScheduleSpec


def entry(name: str, plugin: str = "lib", **facts: object) -> Entry[LossSpec]:
    return Entry(LossSpec(name, f"far.away:{name}", **facts), Plugin(plugin, f"{plugin}-dist", "1.0"))  # type: ignore[arg-type]


CATALOG = [
    entry("AlphaLoss", summary="the mean of squares, unlike dice"),
    entry("BCEWithLogitsLoss", summary="binary cross-entropy of logits", tasks=("multi-label classification",)),
    entry("CrossEntropyLoss", aliases=("ce",), summary="negative log-likelihood", tasks=("classification",)),
    entry("DiceLoss", tasks=("segmentation",), words=("overlap",)),
    entry("DiceFocalLoss", tasks=("segmentation",), words=("class imbalance",)),
    entry("FocalLoss", summary="down-weights easy elements", words=("imbalance",), tasks=("detection", "segmentation")),
    entry("MSELoss", summary="mean squared error", words=("L2", "dice roll")),
    entry("MS_SSIMLoss", summary="structural similarity at several scales"),
    entry("MultiLabelMarginLoss", source="A. Author 2001"),
    entry("TripletMarginLoss", prediction="embeddings (N, D)", ground_truth="none"),
    entry("TripletMarginWithDistanceLoss"),
    entry("generalized_box_iou_loss", summary="IoU of boxes"),
]


def found(query: str) -> list[str]:
    return [one.spec.name for one in search(CATALOG, query)]


@pytest.mark.parametrize(
    "query", ["MSE", "mse", "MSELoss", "lib/MSELoss", "LIB/mseloss", "far.away.MSELoss", "mse loss"]
)
def test_a_name_in_any_spelling_comes_first(query: str) -> None:
    assert found(query)[0] == "MSELoss"


@pytest.mark.parametrize("query", ["lib/MSELoss", "far.away.MSELoss"])
def test_a_full_name_finds_that_component_alone(query: str) -> None:
    assert found(query) == ["MSELoss"]


def test_an_alias_is_a_name() -> None:
    assert found("ce")[0] == "CrossEntropyLoss"


@pytest.mark.parametrize("query", ["cross entropy", "cross-entropy", "crossentropy", "CrossEntropy", "Cross-Entropies"])
def test_parts_of_camel_case_match(query: str) -> None:
    assert found(query)[:2] == ["CrossEntropyLoss", "BCEWithLogitsLoss"]


def test_the_name_comes_before_words_and_these_before_the_summary() -> None:
    assert found("dice") == ["DiceLoss", "DiceFocalLoss", "MSELoss", "AlphaLoss"]


def test_a_shorter_name_comes_before_a_longer_one() -> None:
    assert found("triplet") == ["TripletMarginLoss", "TripletMarginWithDistanceLoss"]


def test_more_words_come_before_fewer_and_rare_before_common() -> None:
    assert found("loss for imbalanced segmentation")[:2] == ["DiceFocalLoss", "FocalLoss"]
    assert found("overlap in segmentation")[0] == "DiceLoss"
    assert found("imbalance or overlap") == ["DiceLoss", "FocalLoss", "DiceFocalLoss"]


def test_the_usual_task_comes_before_others() -> None:
    assert found("segmentation")[-1] == "FocalLoss"


def test_what_has_less_than_half_as_many_words_as_the_best_is_left_out() -> None:
    assert found("squared mean error") == ["MSELoss", "AlphaLoss"]
    assert found("squared mean error l2") == ["MSELoss", "AlphaLoss"]
    assert found("squared mean error l2 roll") == ["MSELoss"]


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("multi-label", "MultiLabelMarginLoss"),
        ("multilabel", "MultiLabelMarginLoss"),
        ("SSIM", "MS_SSIMLoss"),
        ("IoU boxes", "generalized_box_iou_loss"),
        ("embedding", "TripletMarginLoss"),
        ("author 2001", "MultiLabelMarginLoss"),
        ("dice loss of lib", "DiceLoss"),
    ],
)
def test_hyphens_plurals_and_other_texts(query: str, name: str) -> None:
    assert found(query)[0] == name


def test_multi_label_finds_a_text_that_writes_it_as_one_word_and_the_reverse() -> None:
    together = [entry("One", summary="for multilabel data"), entry("Two", summary="for multi-label data")]
    assert {one.spec.name for one in search(together, "multi label")} == {"One", "Two"}
    assert {one.spec.name for one in search(together, "multilabel")} == {"One", "Two"}


def test_words_that_stand_together_as_asked_come_before_words_that_stand_apart() -> None:
    apart = entry("SmoothLoss", summary="for one label", words=("label",))
    together = entry("OtherLoss", words=("label smoothing",))
    assert search([apart, together], "label smoothing") == [together, apart]


def test_a_short_word_inside_a_long_one_of_a_name_is_no_match() -> None:
    assert search([entry("JukeboxLoss")], "box") == []
    assert len(search([entry("BoxGIoULoss"), entry("RMSELoss")], "iou mse")) == 2


def test_equal_matches_keep_their_order() -> None:
    same = [entry("SameLoss", plugin) for plugin in ("b", "a", "c")]
    assert search(same, "same") == same
    assert search(same[::-1], "same") == same[::-1]


@pytest.mark.parametrize("query", ["", "loss", "which loss should I use", "chamfer", "?", "/"])
def test_a_query_without_a_match_finds_nothing(query: str) -> None:
    assert found(query) == []


def test_other_kinds_are_found_too() -> None:
    spec = ScheduleSpec("Cosine", "far.away:Cosine", summary="half a cosine")
    assert search([Entry(spec, Plugin("lib"))], "cosine")[0].spec is spec


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("imbalanced", "imbalance"), ("classes", "class"), ("boxes", "box"), ("entropies", "entropy"),
        ("regularisation", "regularization"), ("segmented", "segmentation"), ("contrastive", "contrast"),
        ("matching", "matches"), ("robustness", "robust"), ("logits", "logit"), ("Embeddings", "embed"),
        ("normalised", "normalized"), ("smoothing", "smooth"), ("weighted", "weights"),
    ],
)  # fmt: skip
def test_relatives_are_one_word(one: str, other: str) -> None:
    assert words_of(one) == words_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("class", "classification"), ("focus", "focal"), ("mean", "means to"), ("ssim", "sim")]
)
def test_other_words_are_others(one: str, other: str) -> None:
    assert words_of(one) != words_of(other) or one == "mean"


def test_names_fall_into_their_words() -> None:
    assert words_of("BCEWithLogitsLoss") == ["bce", "logit"]
    assert words_of("SSIM3DLoss") == ["ssim", "3d"]
    assert words_of("BoxGIoULoss, L1Loss, mutual_information_loss_3d") == [
        "box",
        "giou",
        "l1",
        "mutual",
        "inform",
        "3d",
    ]


def test_a_word_that_is_spelt_almost_like_a_known_one_is_suggested() -> None:
    assert near(CATALOG, "tripplet") == ["triplet"]
    assert near(CATALOG, "a loss with overlaps or segmentatoin") == ["overlap", "segmentation"]
    assert near(CATALOG, "loss") == near(CATALOG, "qqqq") == []


@given(st.text(max_size=40))
def test_any_query_is_answered(query: str) -> None:
    names = found(query)
    assert len(names) == len(set(names)) <= len(CATALOG)
    assert len(near(CATALOG, query)) <= 3
