"""The strategies draw what they promise, of every kind, and shrink to small examples."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import yaml
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st
from torch import nn

import lossreg
from lossreg import LossSpec, MultiLoss
from lossreg.composition.schedules import Akima, Schedule, as_schedule
from lossreg.errors import PluginError, ShapeError
from lossreg.registry import catalog
from lossreg.testing import Values, batches, loss_configs, thresholds, weights
from lossreg.testing.subject import subject_of

found = settings(max_examples=2_000, database=None, phases=[Phase.generate])  # the first will do
TWO_SAMPLES = ("monai/BarlowTwinsLoss", "torchmetrics/r2_score")
"""Losses that need two samples at least."""
NOT_DRAWN = ("monai/PerceptualLoss", "pml/SmoothAPLoss", "torchmetrics/pearson_corrcoef")
"""Losses that need further packages, classes of one size, or numbers that differ."""
few = settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))


def levels() -> tuple[dict[str, object], dict[str, object]]:
    """Return an example with tensors in lists."""
    return {"levels": [torch.rand(2, 2), torch.rand(2, 4)]}, {"pairs": (torch.ones(2),)}


class TestThresholds:
    @given(st.data(), st.integers(-20, 20), st.integers(1, 4))
    def test_they_ascend_within_the_bounds(self, data: st.DataObject, first: int, number: int) -> None:
        drawn = data.draw(thresholds(min_size=number, max_size=number + 1, min_value=first, max_value=first + 9))
        assert number <= len(drawn) <= number + 1
        assert first <= drawn[0] <= drawn[-1] <= first + 9
        assert all(b - a >= 1 / 8 for a, b in pairwise(drawn))

    def test_fractions_occur(self) -> None:
        assert find(thresholds(), lambda drawn: any(e % 1 for e in drawn), settings=found)

    def test_they_shrink_to_the_first_whole_epochs(self) -> None:
        assert find(thresholds(), lambda drawn: True) == [0]
        assert find(thresholds(), lambda drawn: len(drawn) > 2) == [0, 1, 2]


class TestWeights:
    @given(st.data(), st.floats(-5, 120))
    def test_multi_loss_takes_them_and_they_are_within_the_bounds(self, data: st.DataObject, epoch: float) -> None:
        epochs = data.draw(st.none() | thresholds())
        weight = data.draw(weights(epochs, min_value=-2, max_value=3))
        multi_loss = MultiLoss([nn.MSELoss()], [weight], epoch_thresholds=epochs)
        value = multi_loss.effective_weights(epoch)["MSELoss"]
        assert "Akima" in repr(weight) or -2 <= value <= 3

    @pytest.mark.parametrize("kind", sorted(e.spec.name for e in catalog().schedules if e.plugin.name == "core"))
    def test_every_schedule_occurs(self, kind: str) -> None:
        assert find(weights(), lambda weight: type(weight).__name__ == kind, settings=found)

    def test_lists_occur_where_there_are_thresholds_as_many_as_these(self) -> None:
        assert find(weights([0, 5, 9]), lambda weight: isinstance(weight, list)) == [0, 0, 0]

    @given(weights())
    def test_without_thresholds_there_are_no_lists(self, weight: float | Schedule) -> None:
        assert isinstance(weight, float | Schedule)

    def test_they_shrink_to_a_number(self) -> None:
        assert find(weights([0, 1]), lambda weight: True) == 0
        assert find(weights(), lambda weight: as_schedule(weight, name="a")(3) >= 1) == 1


HEIGHTS = {
    "pred.height": Values(("N", 1, "H", "W"), low=-2, high=5),
    "gt.height": Values(("N", 1, "H", "W"), torch.float64, low=0, high=0.1),
    "gt.label": Values(("N", "H", "W"), torch.int64, low=0, high=3),
    "gt.valid": Values(("N", "H", "W"), torch.bool),
    "gt.share": Values((4,), torch.bfloat16),
}


class TestBatchesOfKeys:
    @given(batches(HEIGHTS, sizes={"N": (2, 3), "H": (1, 4)}))
    def test_they_hold_what_is_asked_for(self, batch: object) -> None:
        pred, gt = batch
        assert [*pred, *gt] == ["height", "height", "label", "valid", "share"]
        n, _, h, w = pred["height"].shape
        assert (2 <= n <= 3, 1 <= h <= 4, 1 <= w <= 8) == (True, True, True)
        assert pred["height"].requires_grad
        assert not any(t.requires_grad for t in gt.values())
        assert (gt["height"].shape, gt["label"].shape, gt["share"].shape) == ((n, 1, h, w), (n, h, w), (4,))
        for key, values in HEIGHTS.items():
            side, _, name = key.partition(".")
            tensor = {"pred": pred, "gt": gt}[side][name]
            assert tensor.dtype == values.dtype
            assert bool(((tensor >= values.low) & (tensor <= values.high)).all())

    @pytest.mark.parametrize("key", HEIGHTS)
    def test_both_ends_occur(self, key: str) -> None:
        values = HEIGHTS[key]
        one = batches({f"gt.{key[-3:]}": values})
        for end in (values.low, values.high):
            find(one, lambda batch, end=end: any(bool((t == end).any()) for t in batch[1].values()), settings=found)

    def test_they_shrink_to_a_sample_of_zeros(self) -> None:
        pred, gt = find(batches(HEIGHTS), lambda batch: True)
        assert pred["height"].shape == (1, 1, 1, 1)
        assert all(not t.any() for t in (*pred.values(), *gt.values()))

    def test_lists_of_an_example_are_drawn_tensor_by_tensor(self) -> None:
        spec = LossSpec("Levels", "torch:stack", wrap={"inputs": ["pred.levels"]}, example=f"{__name__}:levels")
        pred, gt = find(batches(spec, sizes={"N": (3, 3)}), lambda _: True)
        assert [tuple(level.shape) for level in pred["levels"]] == [(3, 2), (3, 4)]
        assert all(level.requires_grad for level in pred["levels"])
        assert isinstance(gt["pairs"], tuple)

    def test_a_key_of_neither_side_is_an_error(self) -> None:
        with pytest.raises(ValueError, match=r"expected keys such as 'pred.seg' or 'gt.mask', found 'height'"):
            find(batches({"height": Values()}), lambda batch: True)


def one_hot() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Probabilities of three classes and one-hot targets, (2, 3, 4, 4), with a weight for each sample."""
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 3, 4, 4, generator=generator).softmax(1)
    classes = torch.randint(3, (2, 4, 4), generator=generator)
    gt = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float()
    return {"seg": pred}, {"mask": gt, "label": classes, "share": torch.rand(2, generator=generator), "tile": "a"}


class TestBatchesLikeAnExample:
    @given(batches(LossSpec("L1Loss", "torch.nn:L1Loss", example=f"{__name__}:one_hot")))
    def test_they_are_like_it(self, batch: object) -> None:
        (pred, gt), (_, example) = batch, one_hot()
        n = len(gt["mask"])
        assert 1 <= n <= 3
        assert pred["seg"].shape == gt["mask"].shape == (n, 3, 4, 4)
        assert gt["label"].shape == (n, 4, 4)
        torch.testing.assert_close(pred["seg"].sum(1), torch.ones(n, 4, 4))
        assert bool((gt["mask"].sort(1).values == torch.tensor([0.0, 0, 1]).view(1, 3, 1, 1)).all())
        assert set(gt["label"].unique().tolist()) <= {0, 1, 2}
        assert gt["label"].dtype == torch.int64
        assert set(gt["share"].tolist()) <= set(example["share"].tolist())
        assert gt["tile"] == "a"
        assert pred["seg"].requires_grad

    def test_predictions_take_values_that_the_example_has_not(self) -> None:
        example = set(one_hot()[0]["seg"].flatten().tolist())
        strategy = batches(LossSpec("L1Loss", "torch.nn:L1Loss", example=f"{__name__}:one_hot"))
        find(strategy, lambda batch: set(batch[0]["seg"].flatten().tolist()) - example, settings=found)

    @pytest.mark.slow
    def test_they_shrink_to_a_sample_of_one_value(self) -> None:
        pred, gt = find(batches(nn.MSELoss), lambda batch: True)
        assert pred["seg"].shape == gt["gt_polygons_image"].shape == (1, 3, 8, 8)
        for tensor in (pred["seg"], gt["gt_polygons_image"]):
            assert bool((tensor == tensor[:, :, :1, :1]).all())

    @pytest.mark.slow
    def test_where_samples_are_not_one_number_the_sizes_are_the_examples(self) -> None:
        lossreg.register("Pairs", example=f"{__name__}:unequal")(nn.MSELoss)
        for pred, gt in (find(batches("Pairs"), lambda batch: True), find(batches("Pairs"), lambda b: b[1]["a"].any())):
            assert (pred["x"].shape, gt["a"].shape, gt["b"].shape) == ((5, 2), (3,), ())

    def test_a_failing_example_shows_its_tensors(self) -> None:
        @settings(few, database=None)
        @given(batches(nn.MSELoss))
        def fails(batch: object) -> None:
            raise AssertionError

        with pytest.raises(AssertionError) as caught:
            fails()
        (note,) = (note for note in caught.value.__notes__ if "batch=" in note)
        assert "batch=({'seg': tensor([[[[0.4963, 0.4963," in note
        assert "_fresh" not in note

    def test_an_unknown_loss_is_an_error(self) -> None:
        with pytest.raises(lossreg.LossregError, match="no loss is named 'no-such/Loss'"):
            find(batches("no-such/Loss"), lambda batch: True)

    @pytest.mark.needs_plugins
    @pytest.mark.filterwarnings("ignore")  # the libraries' own
    def test_installed_losses_take_them(self) -> None:
        for entry in catalog().losses:
            if entry.name in NOT_DRAWN:
                continue
            least = 2 if entry.name in TWO_SAMPLES else 1
            for batch in drawn(batches(entry.name, sizes={"N": (least, 3)}), 2):
                value = subject_of(entry.name).value(batch=batch)
                assert value.shape == ()
                assert value.requires_grad


def drawn(strategy: st.SearchStrategy[object], number: int) -> list[object]:
    """Return some of what a strategy draws."""
    examples: list[object] = []
    settings(few, max_examples=number, phases=[Phase.generate])(given(strategy)(lambda x: examples.append(x)))()
    return examples


def unequal() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Tensors of several lengths."""
    return {"x": torch.rand(5, 2)}, {"a": torch.arange(3), "b": torch.tensor(2.0)}


class Refuses(nn.Module):
    """A loss that cannot be built."""

    def __init__(self) -> None:
        raise ShapeError("never")


def register() -> None:
    lossreg.register("Square")(nn.MSELoss)
    lossreg.register("Huber", example_args={"delta": 2.0})(nn.HuberLoss)
    lossreg.register("Refuses")(Refuses)


def members(config: dict[str, object]) -> list[dict[str, object]]:
    """The terms and groups of a block."""
    terms = config["losses"]
    return terms if isinstance(terms, list) else list(terms.values())


class TestLossConfigs:
    @pytest.fixture(autouse=True)
    def local_losses(self) -> None:
        register()

    @few
    @given(loss_configs("local"))
    def test_they_build_and_are_data(self, config: object) -> None:
        assert isinstance(lossreg.build_compound_loss_from_config(config), MultiLoss)
        assert yaml.safe_load(yaml.safe_dump(config)) == config

    @few
    @given(loss_configs("local"), batches(nn.MSELoss))
    def test_what_they_build_gives_a_value(self, config: object, batch: object) -> None:
        total, _, _ = lossreg.build_compound_loss_from_config(config)(*batch, epoch=2)
        assert total.isfinite()

    @few
    @given(loss_configs("local"))
    def test_they_name_the_losses_of_the_plugin_that_build(self, config: object) -> None:
        terms = [term for member in members(config) for term in (members(member) if "losses" in member else [member])]
        assert {term["loss"] for term in terms} <= {"local/Square", "local/Huber"}
        assert all(term["args"] == {"delta": 2.0} for term in terms if term["loss"] == "local/Huber")

    @few
    @given(loss_configs(max_terms=2))
    def test_those_of_all_installed_losses_build(self, config: object) -> None:
        lossreg.build_compound_loss_from_config(config)

    @pytest.mark.slow
    def test_arguments_are_drawn_where_the_author_says_how(self) -> None:
        strategy = loss_configs("local", arguments={"local/Huber": st.fixed_dictionaries({"delta": st.floats(1, 9)})})
        config = find(strategy, lambda config: members(config)[0].get("args", {}).get("delta", 0) > 4)
        assert members(config) == [{"loss": "local/Huber", "args": {"delta": 5.0}, "name": "term0"}]

    @pytest.mark.parametrize(
        "occurs",
        [
            lambda config: "losses" in members(config)[0],
            lambda config: isinstance(config["losses"], dict),
            lambda config: isinstance(members(config)[0].get("weight"), list),
            lambda config: isinstance(members(config)[0].get("weight"), dict),
            lambda config: config.get("weighting") == "core/Uncertainty",
            lambda config: config.get("on_nonfinite") == "skip_term" and config.get("zero_weight") == "skip",
            lambda config: config.get("track_norms") and "norm_momentum" in config and "normalization_params" in config,
            lambda config: any(member.get("optional") and not member.get("normalize", 1) for member in members(config)),
        ],
    )
    def test_every_part_of_the_grammar_occurs(self, occurs: object) -> None:
        find(loss_configs("local"), occurs, settings=found)

    @pytest.mark.slow
    def test_they_shrink_to_one_loss(self) -> None:
        config = find(loss_configs("local"), lambda config: True)
        assert config == {"losses": [{"loss": "local/Huber", "args": {"delta": 2.0}, "name": "term0"}]}

    def test_a_plugin_that_is_not_installed_is_an_error(self) -> None:
        with pytest.raises(PluginError, match="no plugin 'nobody' is installed"):
            find(loss_configs("nobody"), lambda config: True)


def test_akima_alone_may_leave_the_bounds() -> None:
    assert find(
        weights(), lambda weight: isinstance(weight, Akima) and min(map(weight, range(101))) < 0, settings=found
    )
