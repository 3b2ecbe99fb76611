"""LossWrapper makes a loss over batches of any module or function over tensors."""

from __future__ import annotations

import copy
import functools
import re

import pytest
import torch
import torch._dynamo.testing
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from lossreg import Loss, LossWrapper, MultiLoss
from lossreg.errors import ArgumentError, DtypeError, MissingKeyError, RangeError, ShapeError
from lossreg.losses.deep_supervision import DeepSupervision

PRED = torch.tensor([[[[0.2, 0.8]], [[0.6, 0.4]]]])  # (1, 2, 1, 2)
GT = torch.tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]])


class Gap(Loss):
    """An existing loss."""

    requires = ("pred.seg", "gt.mask")
    optional = ("gt.weights",)

    def compute(self, pred_batch, gt_batch):
        self.extra_info["seen"] = True
        return (self.read(pred_batch, gt_batch, "pred.seg") - self.read(pred_batch, gt_batch, "gt.mask")).abs().mean()


class Smoothness(nn.Module):
    """A loss of one argument."""

    def forward(self, pred):
        return (pred[..., 1:] - pred[..., :-1]).abs().mean()


def l1(pred, target):
    return (pred - target).abs()


def value(wrapper, pred=PRED, gt=GT):
    return wrapper(pred, gt)[0]


# --- what can be wrapped ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrapper",
    [
        LossWrapper(name="ce", loss_func=nn.L1Loss()),
        LossWrapper(nn.L1Loss(), "ce"),
        LossWrapper(loss_func=nn.L1Loss(), name="ce"),
        LossWrapper(nn.L1Loss(), name="ce"),
    ],
)
def test_both_orders_of_the_arguments_work(wrapper):
    assert wrapper.name == "ce"
    torch.testing.assert_close(value(wrapper), torch.tensor(0.3))


class Callable:
    """A loss that is no module."""

    def __call__(self, pred, target):
        return l1(pred, target).mean()


FORMS = {
    "module": nn.L1Loss(),
    "function": l1,
    "function of torch": F.l1_loss,
    "lambda": lambda p, t: (p - t).abs().mean(),
    "partial": functools.partial(F.l1_loss, reduction="none"),
    "object": Callable(),
    "method": Callable().__call__,
    "many arguments": lambda *tensors: l1(*tensors),
    "per element": nn.L1Loss(reduction="none"),
    "with options": lambda pred, target, power=1, *, reduction="none": l1(pred, target),
    "target by default None": lambda pred, target=None, power=1: l1(pred, target),
    "(value, extra)": lambda p, t: (l1(p, t), {"a": 1}),
    "[value, extra]": lambda p, t: [l1(p, t), "extra"],
    "a wrapper": LossWrapper(nn.L1Loss()),
    "compiled": torch.compile(nn.L1Loss(), backend="eager"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_value_and_gradient(form):
    pred = PRED.clone().requires_grad_()
    found = value(LossWrapper(FORMS[form], "x"), pred)
    torch.testing.assert_close(found, torch.tensor(0.3))
    (gradient,) = torch.autograd.grad(found, pred)
    torch.testing.assert_close(gradient, (PRED - GT).sign() / 4)


ONE = {
    "module": Smoothness(),
    "function": lambda pred: pred.mean(),
    "with options": lambda pred, power=2, reduction="mean": pred.pow(power).mean(),
    "with keyword options": lambda pred, *, power=2: pred.pow(power).mean(),
    "compiled": torch.compile(Smoothness(), backend="eager"),
    "bound target": functools.partial(l1, target=torch.zeros(())),
}


@pytest.mark.parametrize("form", ONE)
def test_a_loss_of_one_argument_is_known_by_its_signature(form):
    wrapper = LossWrapper(ONE[form], "x")
    expected = ONE[form](PRED).mean()
    assert torch.equal(wrapper(PRED, None)[0], expected)
    assert torch.equal(wrapper({"seg": PRED}, {})[0], expected)
    assert torch.equal(wrapper({"seg": PRED}, {"a": GT, "b": GT})[0], expected)


@pytest.mark.parametrize(("mask", "expected"), [((), 2.5), (("gt.m",), 8 / 3)])
def test_the_elements_of_a_loss_of_one_argument_are_those_of_the_prediction(mask, expected):
    class Penalty(nn.Module):
        reduction = "none"

        def forward(self, pred):
            return pred.abs()

    wrapper = LossWrapper(Penalty(), "x", unit="values")
    wrapper.mask = mask
    masked = {"m": torch.tensor([[True, False], [True, True]])}
    assert value(wrapper, {"x": torch.tensor([[1.0, 2.0], [3.0, -4.0]])}, masked) == pytest.approx(expected)


class WithFunc(nn.Module):
    """A module with an attribute that partial has, too."""

    func = staticmethod(l1)

    def forward(self, pred, target):
        return l1(pred, target)


@pytest.mark.parametrize(
    ("loss_func", "name"),
    [
        (nn.L1Loss(), "L1Loss"),
        (l1, "l1"),
        (functools.partial(F.l1_loss, reduction="sum"), "l1_loss"),
        (functools.partial(functools.partial(l1)), "l1"),
        (Callable(), "Callable"),
        (WithFunc(), "WithFunc"),
    ],
)
def test_by_default_it_bears_the_name_of_what_it_wraps(loss_func, name):
    assert LossWrapper(loss_func).name == name


# --- errors surface ---------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [TypeError, RuntimeError, KeyError])
def test_an_error_inside_a_wrapped_loss_surfaces(error):
    calls = []

    def broken(pred, target):
        calls.append(1)
        raise error("inside")

    with pytest.raises(error, match="inside"):
        value(LossWrapper(broken, "x"))
    assert calls == [1]


def test_a_type_error_of_a_module_surfaces():
    class Broken(nn.Module):
        def forward(self, pred, target):
            return pred + "a"

    with pytest.raises(TypeError, match=r"unsupported operand|must be Tensor"):
        value(LossWrapper(Broken(), "x"))


@pytest.mark.parametrize("returned", [1.0, None, (1.0, {}), (PRED, {}, {}), {"loss": PRED}])
def test_what_is_no_tensor_is_named(returned):
    def strange(pred, target):
        return returned

    found = type(returned).__name__
    message = f"loss 'x': strange: expected a tensor or (tensor, extra), found {found}"
    with pytest.raises(ShapeError, match=f"(?m)^{re.escape(message)}$"):
        value(LossWrapper(strange, "x"))


# --- what it returns --------------------------------------------------------------------------------


def test_extra_is_passed_on_detached():
    pred = PRED.clone().requires_grad_()
    _, extra = LossWrapper(lambda p, t: (p.mean(), {"a": p * 2, "b": 1}), "x")(pred, GT)
    assert not extra["a"].requires_grad
    assert extra["b"] == 1
    _, extra = LossWrapper(lambda p, t: (p.mean(), p * 2), "x")(pred, GT)
    assert torch.equal(extra["extra"], PRED * 2)
    assert not extra["extra"].requires_grad
    assert LossWrapper(l1, "x")(pred, GT)[1] == {}


@given(
    shape=st.lists(st.integers(0, 3), max_size=4),
    reduction=st.sampled_from(["mean", "sum"]),
)
def test_per_element_values_are_reduced(shape, reduction):
    pred = torch.rand(shape, requires_grad=True)
    found = value(LossWrapper(lambda p, t: p * 2, "x", reduction=reduction), pred, torch.zeros(shape))
    expected = (pred * 2).sum() if reduction == "sum" or pred.numel() == 0 else (pred * 2).mean()
    torch.testing.assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, pred)  # a loss over nothing stays on the graph
    assert gradient.isfinite().all()


def test_the_norm_divides_a_wrapped_loss_like_any_other():
    wrapper = LossWrapper(nn.L1Loss(), "x")
    wrapper.update_norm(PRED, GT, 4)
    torch.testing.assert_close(wrapper.norm, torch.tensor([0.3]))
    torch.testing.assert_close(value(wrapper), torch.tensor(1.0))
    torch.testing.assert_close(wrapper(PRED, GT, normalize=False)[0], torch.tensor(0.3))


# --- an existing Loss -------------------------------------------------------------------------------


def test_an_existing_loss_is_called_with_the_batches_and_normalised_once():
    inner = Gap("gap")
    inner.norm.fill_(100.0)
    wrapper = LossWrapper(inner, "outer")
    pred, gt = {"seg": PRED, "b": PRED}, {"mask": GT, "c": GT}
    torch.testing.assert_close(wrapper(pred, gt)[0], torch.tensor(0.3))
    assert wrapper(pred, gt)[1] == {"seen": True}
    wrapper.update_norm(pred, gt, 1)
    torch.testing.assert_close(wrapper.norm, torch.tensor([0.3]))
    torch.testing.assert_close(wrapper(pred, gt)[0], torch.tensor(1.0))
    assert inner.norm == 100.0
    assert (wrapper.requires, wrapper.optional) == (inner.requires, inner.optional)


def test_an_existing_loss_can_read_other_keys():
    wrapper = LossWrapper(Gap("gap"), "outer", pred_key="logits", gt_key="truth")
    torch.testing.assert_close(wrapper({"logits": PRED, "seg": GT}, {"truth": GT})[0], torch.tensor(0.3))
    assert wrapper.requires == ("pred.logits", "gt.truth")


@pytest.mark.parametrize(
    "options", [{"pred_channels": 0, "gt_channels": 0}, {"pred_channels": 0, "gt_channels": [True, False]}]
)
def test_channels_of_an_existing_loss_are_selected_too(options):
    wrapper = LossWrapper(Gap("gap"), "outer", **options)
    torch.testing.assert_close(wrapper({"seg": PRED}, {"mask": GT})[0], (PRED[:, 0] - GT[:, 0]).abs().mean())


def test_what_else_an_existing_loss_reads_stays_there():
    class Weighted(Gap):
        def compute(self, pred_batch, gt_batch):
            weights = self.read_optional(pred_batch, gt_batch, "gt.weights")
            return super().compute(pred_batch, gt_batch) * (1 if weights is None else weights)

    wrapper = LossWrapper(Weighted("w"), "outer", gt_key="truth")
    found, _ = wrapper({"seg": PRED, "b": GT}, {"truth": GT, "weights": torch.tensor(2.0)})
    torch.testing.assert_close(found, torch.tensor(0.6))
    assert (wrapper.requires, wrapper.optional) == (("pred.seg", "gt.truth"), ("gt.weights",))


def test_of_a_loss_that_reads_two_keys_none_can_be_chosen_for_one():
    class Two(Gap):
        requires = ("pred.seg", "gt.mask", "gt.other")

    message = (
        "loss 'outer': Two reads ['mask', 'other'] of gt_batch; "
        "a key, channels or a dtype can be chosen only where it reads one"
    )
    with pytest.raises(ValueError, match=f"(?m)^{re.escape(message)}$"):
        LossWrapper(Two("two"), "outer", gt_key="truth")
    assert LossWrapper(Two("two"), "outer", pred_key="logits").requires == ("pred.logits", "gt.mask", "gt.other")


def test_the_target_of_an_existing_loss_is_cast_too():
    class Classes(Gap):
        def compute(self, pred_batch, gt_batch):
            return F.cross_entropy(pred_batch["seg"], gt_batch["mask"])

    wrapper = LossWrapper(Classes("c"), "outer", target_dtype="long")
    wrapper({"seg": PRED}, {"mask": torch.zeros(1, 1, 1, 2)})


# --- keys -------------------------------------------------------------------------------------------


def test_bare_tensors_and_only_tensors_need_no_key():
    wrapper = LossWrapper(nn.L1Loss(), "x")
    for pred in (PRED, {"anything": PRED}, {"anything": PRED, "id": "name", "n": 5}):
        for gt in (GT, {"whatever": GT}):
            torch.testing.assert_close(value(wrapper, pred, gt), torch.tensor(0.3))
    assert wrapper.requires == ()


def test_of_several_the_default_keys_are_taken():
    pred, gt = {"seg": PRED, "other": GT}, {"gt_polygons_image": GT, "distances": PRED}
    torch.testing.assert_close(value(LossWrapper(nn.L1Loss(), "x"), pred, gt), torch.tensor(0.3))


def test_without_a_default_among_them_the_keys_are_listed():
    message = "loss 'x': pred_batch: expected a single tensor or the key 'seg', found ['a', 'b']; set pred_key"
    with pytest.raises(MissingKeyError, match=f"(?m)^{re.escape(message)}$"):
        value(LossWrapper(nn.L1Loss(), "x"), {"a": PRED, "b": PRED})
    message = "loss 'x': gt_batch: expected a single tensor or the key 'gt_polygons_image', found []; set gt_key"
    with pytest.raises(MissingKeyError, match=f"(?m)^{re.escape(message)}$"):
        value(LossWrapper(nn.L1Loss(), "x"), {"a": PRED}, {})


def test_keys_select():
    wrapper = LossWrapper(nn.L1Loss(), "x", pred_key="b", gt_key="d")
    torch.testing.assert_close(value(wrapper, {"a": GT, "b": PRED}, {"c": PRED, "d": GT}), torch.tensor(0.3))
    torch.testing.assert_close(value(wrapper, PRED, GT), torch.tensor(0.3))  # a bare tensor is that key
    assert wrapper.requires == ("pred.b", "gt.d")
    with pytest.raises(MissingKeyError, match=r"(?m)^loss 'x' needs 'pred\.b'; pred_batch has keys \['a'\]$"):
        value(wrapper, {"a": PRED})
    with pytest.raises(DtypeError, match=r"(?m)^loss 'x': 'gt\.d': expected a tensor, found str$"):
        value(wrapper, {"b": PRED}, {"d": "text"})


@pytest.mark.parametrize(("batch", "found"), [(None, "NoneType"), ([PRED], "list")])
def test_what_is_no_batch_is_named(batch, found):
    message = f"(?m)^loss 'x': pred_batch: expected a mapping of tensors or a tensor, found {found}$"
    with pytest.raises(MissingKeyError, match=message):
        value(LossWrapper(nn.L1Loss(), "x"), batch)


def test_losses_of_three_arguments_name_their_inputs():
    wrapper = LossWrapper(nn.TripletMarginLoss(), "t", inputs=("pred.anchor", "pred.positive", "gt.negative"))
    a, p, n = torch.rand(3, 2, 4)
    found = wrapper({"anchor": a, "positive": p}, {"negative": n})[0]
    assert torch.equal(found, F.triplet_margin_loss(a, p, n))
    assert wrapper.requires == ("pred.anchor", "pred.positive", "gt.negative")
    with pytest.raises(MissingKeyError, match=r"needs 'gt.negative'"):
        wrapper({"anchor": a, "positive": p}, {})


# --- channels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "channels"),
    [
        (0, [0]),
        (-1, [2]),
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        ([0, 2], [0, 2]),
        ([2, 0, 0], [2, 0, 0]),
        ([True, False, True], [0, 2]),
        ({"start": 1}, [1, 2]),
        ({"start": 0, "stop": None, "step": 2}, [0, 2]),
    ],
)
def test_channels_are_selected_with_their_axis(selector, channels):
    seen = {}

    def spy(pred, target):
        seen.update(pred=pred, target=target)
        return pred.sum()

    tensor = torch.rand(2, 3, 4, 5)
    LossWrapper(spy, "x", pred_channels=selector, gt_channels=selector)({"seg": tensor}, tensor + 1)
    assert torch.equal(seen["pred"], tensor[:, channels])
    assert torch.equal(seen["target"], tensor[:, channels] + 1)


@pytest.mark.parametrize("selector", [3, -4, [0, 3], slice(3, None), {"start": 5}])
def test_channels_that_are_not_there_are_named(selector):
    with pytest.raises(
        ShapeError, match=r"(?m)^loss 'x': 'pred\.seg' has shape \(2, 3, 4\): expected .* 3 channels, found .*$"
    ):
        LossWrapper(l1, "x", pred_channels=selector)({"seg": torch.rand(2, 3, 4)}, torch.rand(2, 3, 4))


def test_a_tensor_without_a_channel_axis_is_named():
    with pytest.raises(ShapeError, match=r"(?m)^loss 'x': 'gt\.mask' has shape \(3,\), expected a channel axis 1$"):
        LossWrapper(l1, "x", gt_channels=0, gt_key="mask")(torch.rand(3), {"mask": torch.rand(3)})


@pytest.mark.parametrize("selector", ["0", 1.5, [], [0.5], [True, 1], True, None, {"begin": 1}, [False, False]])
def test_what_is_no_selector_is_refused_at_once(selector):
    if selector is None:
        return
    with pytest.raises((TypeError, ValueError), match="pred_channels"):
        LossWrapper(l1, "x", pred_channels=selector)


# --- dtypes -----------------------------------------------------------------------------------------


LOGITS = torch.linspace(0, 5, 96).sin().reshape(2, 3, 4, 4)
CLASSES = torch.arange(32).reshape(2, 4, 4) % 3


@pytest.mark.parametrize(
    "target",
    [CLASSES, CLASSES.float(), CLASSES.byte(), CLASSES[:, None], CLASSES[:, None].float(), CLASSES.double()],
    ids=lambda target: f"{target.dtype}, {target.dim()} axes",  # no values: workers must collect alike
)
def test_class_indices_come_in_any_dtype_with_or_without_a_channel(target):
    found = value(LossWrapper(nn.CrossEntropyLoss(), "ce", target_dtype="long"), LOGITS, target)
    assert torch.equal(found, F.cross_entropy(LOGITS, CLASSES))


def test_class_probabilities_stay_as_they_are():
    target = torch.rand(2, 3, 4, 4).softmax(1)
    found = value(LossWrapper(nn.CrossEntropyLoss(), "ce", target_dtype="long"), LOGITS, target)
    assert torch.equal(found, F.cross_entropy(LOGITS, target))


def test_a_vector_of_class_indices_is_cast():
    logits, classes = torch.rand(4, 3), torch.tensor([0.0, 2.0, 1.0, 1.0])
    found = value(LossWrapper(nn.CrossEntropyLoss(), "ce", target_dtype="long"), logits, classes)
    assert torch.equal(found, F.cross_entropy(logits, classes.long()))


def test_a_float_target_is_cast():
    found = value(LossWrapper(nn.BCELoss(), "x", target_dtype="float"), torch.rand(2, 3), torch.ones(2, 3).long())
    assert found.isfinite()
    with pytest.raises(RuntimeError):
        value(LossWrapper(nn.BCELoss(), "x"), torch.rand(2, 3), torch.ones(2, 3).long())


# --- a module among modules -------------------------------------------------------------------------


def test_hooks_of_the_wrapper_and_of_the_wrapped_are_called():
    inner, called = nn.L1Loss(), []
    wrapper = LossWrapper(inner, "x")
    inner.register_forward_hook(lambda *a: called.append("inner"))
    wrapper.register_forward_hook(lambda *a: called.append("outer"))
    wrapper.register_forward_pre_hook(lambda *a: called.append("pre"))
    value(wrapper)
    assert called == ["pre", "inner", "outer"]


def test_parameters_buffers_and_modes_of_the_wrapped_are_seen():
    class Learned(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, pred, target):
            return (pred - target).mul(self.scale).mean()

    wrapper = LossWrapper(Learned(), "x").eval()
    assert [name for name, _ in wrapper.named_parameters()] == ["loss_func.scale"]
    assert not wrapper.loss_func.training
    assert list(copy.deepcopy(wrapper).state_dict()) == ["norm", "norm_sum", "norm_count", "loss_func.scale"]


def test_a_checkpoint_of_the_original_loads_strictly():
    wrapper = LossWrapper(nn.CrossEntropyLoss(weight=torch.ones(2)), "ce")
    wrapper.load_state_dict({"norm": torch.tensor([3.0]), "loss_func.weight": torch.zeros(2)}, strict=True)
    assert wrapper.norm == 3.0
    assert torch.equal(wrapper.loss_func.weight, torch.zeros(2))


def test_it_shows_what_it_wraps_and_what_was_set():
    assert repr(LossWrapper(l1, "x")) == "LossWrapper(name='x', loss_func=l1)"
    shown = repr(LossWrapper(nn.L1Loss(), "x", pred_key="a", reduction="sum", target_dtype="float"))
    assert "name='x', pred_key='a', target_dtype='float', reduction='sum'" in shown
    assert "(loss_func): L1Loss()" in shown


def test_a_group_is_no_loss_to_wrap():
    with pytest.raises(ShapeError, match=r"MultiLoss: expected a tensor .*, found tuple"):
        value(LossWrapper(MultiLoss([nn.L1Loss()], [1.0]), "x"))


# --- losses of other packages that read batches -----------------------------------------------------

BATCHES = ({"seg": torch.full((2, 1), 3.0), "more": torch.ones(1)}, {"mask": torch.ones(2, 1)})


class OriginalLoss(nn.Module):
    """A loss as other packages derive it from a `Loss` of their own, norm included."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.norm = nn.Parameter(torch.full((1,), 4.0), requires_grad=False)

    def forward(self, pred_batch, gt_batch, normalize=True):
        loss = (pred_batch["seg"] - gt_batch["mask"]).abs().mean()
        return (loss / self.norm[0] if normalize else loss), {"seen": pred_batch["seg"]}


def test_a_loss_of_another_package_gets_the_batches_and_is_normalised_once():
    wrapped = LossWrapper(OriginalLoss("height"))
    value, extra = wrapped(*BATCHES)
    assert (wrapped.name, float(value), list(extra)) == ("height", 2.0, ["seen"])


def test_a_loss_of_another_package_is_a_term_of_its_own_name():
    total, values, _ = MultiLoss([OriginalLoss("height")], [3.0])(*BATCHES)
    assert (float(total), list(values)) == (6.0, ["height"])


def test_a_function_of_batches_without_normalize_gets_them_too():
    def gap(pred_batch, gt_batch):
        return (pred_batch["seg"] - gt_batch["mask"]).mean()

    assert float(LossWrapper(gap)(*BATCHES)[0]) == 2.0


def test_a_compiled_loss_gets_the_batches_too():
    assert float(LossWrapper(torch.compile(Gap("gap"), backend="eager"))(*BATCHES)[0]) == 2.0


@pytest.mark.parametrize("options", [{"pred_key": "seg"}, {"gt_channels": 0}, {"target_dtype": "long"}])
def test_what_cannot_be_chosen_for_a_loss_of_batches_is_refused(options):
    with pytest.raises(ValueError, match="OriginalLoss reads the batches itself"):
        LossWrapper(OriginalLoss("height"), **options)


@pytest.mark.parametrize("reduction", ["mean", "per_sample", "sum", "none"])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_reduction_is_refused_for_a_loss_of_ours(reduction, compiled):
    loss = torch.compile(Gap("gap"), backend="eager") if compiled else Gap("gap")
    with pytest.raises(ArgumentError, match="reduction: has no effect, since Gap reads the batches itself") as caught:
        LossWrapper(loss, reduction=reduction)
    assert [problem.kind for problem in caught.value.problems] == ["conflict"]


def test_values_that_a_loss_leaves_may_be_left_by_its_wrapper_too():
    inner = LossWrapper(nn.L1Loss(), "inner", pred_key="p", gt_key="t", reduction="none")
    found, _ = LossWrapper(inner, "outer", gt_key="u", reduction="none")({"p": PRED}, {"u": GT})
    assert torch.equal(found, (PRED - GT).abs())


@pytest.mark.parametrize("loss", [OriginalLoss("height"), Gap("gap")])
def test_inputs_are_refused_for_a_loss_of_batches(loss):
    with pytest.raises(
        ArgumentError, match=r"inputs: has no effect, since \w+ reads the batches itself \(leave it out\)"
    ):
        LossWrapper(loss, inputs=["pred.seg", "gt.mask", "gt.more"])


@pytest.mark.parametrize(
    ("loss", "keys", "expected"),
    [
        (nn.L1Loss(), 3, r"expected 2 keys, found 3: L1Loss is called with \(input, target\)"),
        (nn.L1Loss(), 1, "expected 2 keys, found 1: L1Loss"),
        (nn.TripletMarginLoss(), 2, r"expected 3 keys, found 2: \w+ is called with \(anchor, positive, negative\)"),
        (lambda a, b=1: a, 3, "expected 1 to 2 keys, found 3"),
        (lambda a, b, *c: a, 1, "expected 2 or more keys, found 1"),
    ],
)
def test_inputs_that_are_not_as_many_as_the_arguments_are_refused(loss, keys, expected):
    with pytest.raises(ArgumentError, match=f"inputs: {expected}"):
        LossWrapper(loss, "x", inputs=[f"pred.{i}" for i in range(keys)])


@pytest.mark.parametrize("loss", [lambda *a: a[0], lambda a, b, c=1: a, torch.dist, functools.partial(F.l1_loss)])
def test_inputs_that_may_be_the_arguments_are_taken(loss):
    assert LossWrapper(loss, "x", inputs=["pred.a", "gt.b"]).requires == ("pred.a", "gt.b")


@pytest.mark.parametrize(("name", "expected"), [("height", "height"), ("a/b", "Named"), ("", "Named"), (3, "Named")])
def test_a_loss_that_has_a_name_keeps_it(name, expected):
    class Named(nn.L1Loss):
        pass

    loss = Named()
    loss.name = name
    assert LossWrapper(loss).name == expected


# --- half precision ---------------------------------------------------------------------------------


def dice(pred, target):
    """Return a Dice loss as a stranger writes it: its sums are beyond 65504 on 512 x 512 pixels."""
    return 1 - 2 * (pred * target).sum() / (pred.sum() + target.sum())


def product(pred, target):
    """Return the mean of a matrix product, which autocast takes in half precision."""
    return (pred @ target).mean()


class Seen(nn.Module):
    """Remember the dtypes that came."""

    def forward(self, *tensors):
        self.dtypes = [tensor.dtype for tensor in tensors]
        return tensors[0].float().mean()


HALVES = (torch.float16, torch.bfloat16)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("mask", [torch.float32, torch.float16, torch.uint8])
def test_sums_of_a_function_do_not_overflow_in_half_precision(dtype, mask):
    pred = torch.ones(1, 1, 512, 512, dtype=dtype, requires_grad=True)
    found = value(LossWrapper(dice, "dice"), pred, torch.ones(1, 1, 512, 512, dtype=mask))
    found.backward()
    assert found.dtype == torch.float32
    assert found.item() == 0
    assert pred.grad.dtype == dtype


def test_only_what_is_narrower_than_float32_is_widened():
    for came, expected in {
        torch.float16: torch.float32,
        torch.bfloat16: torch.float32,
        torch.float32: torch.float32,
        torch.float64: torch.float64,
        torch.uint8: torch.uint8,
        torch.bool: torch.bool,
    }.items():
        wrapper = LossWrapper(Seen(), "x")
        value(wrapper, torch.ones(2, dtype=came), torch.ones(2, dtype=came))
        assert wrapper.loss_func.dtypes == [expected, expected], came


def test_the_arguments_at_inputs_are_widened():
    wrapper = LossWrapper(Seen(), "x", inputs=["pred.a", "pred.b", "gt.c"])
    a, b, c = torch.ones(2).half(), torch.ones(2).bfloat16(), torch.ones(2).half()
    wrapper({"a": a, "b": b}, {"c": c})
    assert wrapper.loss_func.dtypes == [torch.float32] * 3


def test_autocast_is_off_in_the_wrapped_loss():
    pred, target = torch.full((4, 4), 1.001), torch.full((4, 4), 1.001)
    with torch.autocast("cpu", torch.bfloat16):
        found = value(LossWrapper(product, "x"), pred, target)
        left = value(LossWrapper(product, "x", dtype="input"), pred, target)
    assert found.item() == pytest.approx(4 * 1.001**2, rel=1e-6)
    assert left.item() == 4.0  # bfloat16 has no 1.001


def test_dtype_input_leaves_the_batch_as_it_is():
    wrapper = LossWrapper(Seen(), "x", dtype="input")
    value(wrapper, torch.ones(2).half(), torch.ones(2).bfloat16())
    assert wrapper.loss_func.dtypes == [torch.float16, torch.bfloat16]
    assert "dtype='input'" in repr(wrapper)
    assert "dtype" not in repr(LossWrapper(Seen(), "x"))


@pytest.mark.parametrize("dtype", HALVES)
def test_weights_of_a_loss_that_was_cast_are_widened_too(dtype):
    weight = torch.tensor([0.25, 2.0])
    wrapper = LossWrapper(nn.CrossEntropyLoss(weight), "ce").to(dtype)
    logits, classes = torch.tensor([[1.0, -1.0], [0.5, 2.0]]), torch.tensor([0, 1])
    expected = F.cross_entropy(logits.double(), classes, weight.double())
    assert value(wrapper, logits.to(dtype), classes).item() == pytest.approx(expected.item(), rel=1e-6)
    assert wrapper.loss_func.weight.dtype == dtype


def test_parameters_that_were_cast_are_learned():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(3.0))

        def forward(self, pred, target):
            return self.scale * (pred - target).sum()

    wrapper = LossWrapper(Scaled(), "x").half()
    value(wrapper, torch.full((2, 2), 3.0).half(), torch.ones(2, 2)).backward()
    assert wrapper.loss_func.scale.grad == 8.0


def test_a_loss_chooses_its_own_dtype_unless_the_wrapper_is_told():
    class Total(Loss):
        requires = ("pred.seg", "gt.mask")

        def compute(self, pred_batch, gt_batch):
            return (self.read(pred_batch, gt_batch, "pred.seg") * self.read(pred_batch, gt_batch, "gt.mask")).sum()

    pred, gt = {"seg": torch.ones(300, 300).half()}, {"mask": torch.ones(300, 300).half()}
    assert LossWrapper(Total("t"), "x")(pred, gt)[0] == torch.inf
    assert LossWrapper(Total("t"), "x", dtype="float32")(pred, gt)[0] == 90_000


def test_a_batch_is_widened_for_a_loss_of_another_package():
    def total(pred_batch, gt_batch):
        return (pred_batch["seg"] - gt_batch["mask"]).sum()

    found, _ = LossWrapper(total)({"seg": torch.ones(300, 300).half()}, {"mask": torch.zeros(300, 300).half()})
    assert found == 90_000


def test_a_batch_on_a_device_without_autocast():
    assert value(LossWrapper(nn.L1Loss(), "x"), torch.ones(2, device="meta"), torch.ones(2, device="meta")).is_meta


@pytest.mark.parametrize("options", [{}, {"dtype": "input"}])
def test_it_is_one_graph_under_autocast_that_is_compiled_once(options):
    torch.compiler.reset()  # what other tests compiled of the same code counts towards the limit
    counter = torch._dynamo.testing.CompileCounter()
    compiled = torch.compile(LossWrapper(product, "x", **options), fullgraph=True, backend=counter)
    with torch.autocast("cpu", torch.bfloat16):
        for number in (1.001, 1.003, 1.005):
            pred = torch.full((4, 4), number).half()
            found = value(compiled, pred, pred)
            assert found.item() == pytest.approx(4 * pred[0, 0].item() ** 2, rel=1e-2 if options else 1e-6)
    assert counter.frame_count == 1


# --- shapes that would broadcast --------------------------------------------------------------------


COLUMN, ROW = torch.tensor([[0.0], [1.0]]), torch.tensor([0.0, 1.0])


@pytest.mark.parametrize("loss_func", [nn.MSELoss(), nn.SoftMarginLoss(), F.l1_loss, l1, nn.PoissonNLLLoss()])
@pytest.mark.parametrize(("pred", "gt"), [(COLUMN, ROW), (ROW, COLUMN), (torch.ones(2, 1, 3), torch.ones(2, 3))])
def test_shapes_that_broadcast_to_more_than_both_are_refused_with_the_fix(loss_func, pred, gt):
    with pytest.raises(ShapeError, match=r"'gt\.t' has shape .*, the shape of 'pred\.p'; .*`target\.unsqueeze\(1\)`"):
        LossWrapper(loss_func, "x")({"p": pred}, {"t": gt})


def test_a_loss_that_takes_such_shapes_says_so():
    def squeezed(pred, target):
        return (pred.squeeze(1) - target).abs().mean()

    assert value(LossWrapper(squeezed, "x", target_shape="any"), COLUMN, ROW) == 0


def test_shapes_of_which_one_holds_the_other_are_left_to_a_function_that_says_nothing():
    logits, classes = torch.zeros(3, 3), torch.arange(3)
    torch.testing.assert_close(
        value(LossWrapper(nn.CrossEntropyLoss(), "ce"), logits, classes), torch.tensor(3.0).log()
    )
    assert value(LossWrapper(l1, "x"), torch.ones(2, 3, 4), torch.zeros(2, 1, 4)) == 1


@pytest.mark.parametrize(
    ("rule", "shape", "taken"),
    [
        ("same", (2, 1), False),
        ("same", (3,), False),
        ("same", (2, 3), True),
        ("broadcast", (2, 1), True),
        ("broadcast", (1, 3), False),
        ("broadcast", (3,), False),
        ("any", (3,), True),
    ],
)
def test_what_a_loss_says_of_its_targets_shape_holds(rule, shape, taken):
    wrapper = LossWrapper(l1, "x", target_shape=rule)
    if taken:
        assert value(wrapper, torch.ones(2, 3), torch.zeros(shape)) == 1
    else:
        with pytest.raises(ShapeError, match=r"expected \(2, 3\), the shape of 'pred'"):
            value(wrapper, torch.ones(2, 3), torch.zeros(shape))


def test_all_of_several_inputs_are_compared_where_the_loss_says_so():
    wrapper = LossWrapper(nn.TripletMarginLoss(), "t", inputs=["pred.a", "pred.b", "gt.c"], target_shape="same")
    with pytest.raises(ShapeError, match=r"'gt\.c' has shape \(1, 4\), expected \(3, 4\), the shape of 'pred\.a'"):
        wrapper({"a": torch.ones(3, 4), "b": torch.ones(3, 4)}, {"c": torch.ones(1, 4)})


def test_a_broadcast_is_refused_in_a_compiled_criterion_too():
    criterion = MultiLoss([LossWrapper(nn.MSELoss(), "x")], [1.0])
    criterion.compile(backend="eager")
    with pytest.raises(ShapeError, match=r"has shape \(2,\), expected \(2, 1\)"):
        criterion(COLUMN, ROW)
    torch.compiler.reset()  # it leaves functions alone, in all criteria, of which one raised


# --- derivatives ------------------------------------------------------------------------------------


def slope(pred, x):
    return torch.autograd.grad(pred.sum(), x, create_graph=True)[0].square().mean()


def test_a_loss_that_needs_gradients_has_them_where_they_are_off():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    wrapper = LossWrapper(slope, "slope", inputs=["pred.u", "pred.x"], needs_grad=True)
    batch = {"u": x**2, "x": x}  # u' = 2 x: (4 + 16) / 2
    wrapper.update_norm(batch, {}, 2)
    assert wrapper.norm == 10.0
    with torch.no_grad():
        found, _ = wrapper(batch, {}, normalize=False)
    assert found == 10.0
    assert not found.requires_grad
    assert wrapper(batch, {}, normalize=False)[0].requires_grad


def test_a_term_that_needs_gradients_has_them_at_weight_0():
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    wrapper = LossWrapper(slope, "slope", inputs=["pred.u", "pred.x"], needs_grad=True)
    _, values, _ = MultiLoss([wrapper], [0.0], zero_weight="skip")({"u": x**2, "x": x}, {})
    assert values["slope"] == 10.0


def test_a_wrapper_needs_gradients_where_the_loss_inside_does():
    class Residual(Gap):
        needs_grad = True

    assert LossWrapper(Residual("r"), "outer").needs_grad
    assert not LossWrapper(Gap("g"), "outer").needs_grad


@pytest.mark.parametrize("loss", [Gap("gap"), OriginalLoss("height")])
def test_a_shape_is_refused_for_a_loss_of_batches(loss):
    with pytest.raises(ArgumentError, match=r"target_shape: has no effect, since \w+ reads the batches itself"):
        LossWrapper(loss, target_shape="same")


@pytest.mark.parametrize(
    "loss_func",
    [
        nn.BCELoss(),
        nn.BCEWithLogitsLoss(),
        nn.MultiLabelSoftMarginLoss(),
        F.binary_cross_entropy,
        F.binary_cross_entropy_with_logits,
        F.multilabel_soft_margin_loss,
        functools.partial(F.binary_cross_entropy_with_logits, reduction="sum"),
    ],
)
def test_a_mask_of_0_and_255_is_refused_for_losses_of_torch_itself(loss_func):
    mask = torch.tensor([[0.0, 255.0]])
    with pytest.raises(RangeError, match=r"'gt\.mask' holds values from 0 to 255, expected 0 to 1; divide a mask"):
        MultiLoss([LossWrapper(loss_func, "x", gt_key="mask")], [1.0])({"p": torch.full((1, 2), 0.5)}, {"mask": mask})


def test_a_sum_of_what_is_reduced_already_is_refused():
    per_element = LossWrapper(nn.L1Loss(reduction="none"), "l1", reduction="sum")
    assert per_element(torch.full((2, 3), 2.0), torch.zeros(2, 3))[0] == 12.0
    assert LossWrapper(nn.L1Loss(), "l1", reduction="sum")(torch.ones(2, 3), torch.zeros(2, 3))[0] == 6.0

    def mean_error(pred, gt):
        return (pred - gt).abs().mean()

    with pytest.raises(ShapeError, match="reduction 'sum' has no effect, since mean_error reduces its values itself"):
        LossWrapper(mean_error, "l1", reduction="sum")(torch.ones(2, 3), torch.zeros(2, 3))


class Scaled(nn.Module):
    """A loss with values of elements, and a reduction that it does not check when it is made."""

    def __init__(self, reduction="mean"):
        super().__init__()
        self.reduction = reduction

    def forward(self, pred, target):
        return 2 * F.l1_loss(pred, target, reduction=self.reduction)


@pytest.mark.parametrize("found", ["Sum", "avg", "MEAN", "batchmean"])
@pytest.mark.parametrize("make", [nn.L1Loss, lambda **own: functools.partial(F.l1_loss, **own)])
def test_an_own_reduction_that_torch_does_not_know_is_refused(make, found):
    message = f"^(L1Loss|l1_loss): reduction: expected 'mean', 'sum' or 'none', found '{found}'"
    with pytest.raises(ArgumentError, match=message):
        LossWrapper(make(reduction=found))


def test_an_own_reduction_is_refused_where_the_values_of_elements_are_given():
    values = functools.partial(F.l1_loss, reduction="none")
    with pytest.raises(ArgumentError, match=r"Scaled: reduction: expected .* found 'Sum' \(did you mean 'sum'\?\)"):
        LossWrapper(Scaled("Sum"), unit="values", values_of=lambda p, t: 2 * values(p, t))
    assert LossWrapper(Scaled("avg"), "a").unit is None  # its own affair: its values are not taken


@pytest.mark.parametrize(
    "loss",
    [
        nn.KLDivLoss(reduction="batchmean"),
        functools.partial(F.kl_div, reduction="batchmean"),
        functools.partial(F.l1_loss, reduction=None),
        nn.L1Loss(reduction=7),
    ],
)
def test_other_reductions_of_torch_and_such_that_are_no_text_are_left_to_the_loss(loss):
    assert isinstance(LossWrapper(loss, "a"), LossWrapper)


class Launches(TorchDispatchMode):
    """Counts the operations that compute something."""

    def __init__(self):
        super().__init__()
        self.made = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not func.is_view:
            self.made.append(str(func))
        return func(*args, **kwargs or {})


def launches(function, *arguments):
    with Launches() as seen:
        function(*arguments)
    return seen.made


@pytest.mark.parametrize(
    ("loss", "most"),
    [
        (nn.CrossEntropyLoss(), 2),
        (nn.CrossEntropyLoss(reduction="sum"), 0),
        (nn.CrossEntropyLoss(torch.ones(4, device="meta")), 3),
        (nn.NLLLoss(), 2),
        (nn.L1Loss(), 0),
    ],
    ids=repr,
)
def test_a_count_costs_a_device_two_launches_at_most_or_three_with_class_weights(loss, most):
    """A meta tensor takes the way of a device: nothing looks at values."""
    pred = torch.rand(2, 4, 6, 6, device="meta")
    target = (
        torch.rand_like(pred) if isinstance(loss, nn.L1Loss) else torch.zeros(2, 6, 6, dtype=torch.long, device="meta")
    )
    wrapped, means = LossWrapper(loss, "a"), []
    ours = launches(lambda: wrapped(pred, target, normalize=False, means=means))
    assert len(ours) <= len(launches(loss, pred, target)) + most
    assert len(means) == 1


@pytest.mark.parametrize("weight", [None, torch.tensor([0.0, 0.3])])
def test_a_cross_entropy_over_nothing_is_zero_on_a_device_too(monkeypatch, weight):
    monkeypatch.setattr("lossreg.losses.wrapper.can_look", lambda tensor: False)
    loss = LossWrapper(nn.CrossEntropyLoss(weight), "a")
    target = torch.full((3, 2), -100 if weight is None else 0)
    pred, means = torch.randn(3, 2, 2).requires_grad_(), []
    value, _ = loss(pred, target, normalize=False, means=means)
    (1e30 * value).backward()
    assert (value.item(), float(means[0].count)) == (0.0, 0.0)
    assert not pred.grad.any()


def test_predictions_that_share_a_number_of_the_target_are_one_element():
    torch.manual_seed(0)
    pred, var, target = (torch.rand(3, 4, 5) + 0.1 for _ in range(3))
    target = target[:, :1]
    weight, mask = torch.rand(3, 1, 5), torch.rand(3, 1, 5) < 0.5
    loss = LossWrapper(nn.GaussianNLLLoss(), "a", inputs=["pred.x", "gt.y", "pred.var"], target_shape="broadcast")
    assert loss.counts({"y": target}) == [15.0]
    means = []
    value, _ = loss({"x": pred, "var": var}, {"y": target}, normalize=False, means=means)
    each = nn.GaussianNLLLoss(reduction="none")(pred, target, var)
    torch.testing.assert_close(value, each.mean())
    assert means[0].count == 15.0
    for reduction, values in (("mean", each.mean(1, keepdim=True)), ("sum", each.sum(1, keepdim=True))):
        some = LossWrapper(nn.GaussianNLLLoss(), "a", inputs=loss.inputs, target_shape="broadcast", reduction=reduction)
        some.take_mask("gt.m", "gt.w")
        gt = {"y": torch.where(mask, target, torch.nan), "m": mask, "w": weight}
        value, _ = some({"x": pred, "var": var}, gt, normalize=False)
        total = (values * weight)[mask].sum()
        torch.testing.assert_close(value, total / weight[mask].sum() if reduction == "mean" else total)
        torch.testing.assert_close(float(some.counts(gt)[0]), float(weight[mask].sum()))


def test_a_target_of_one_sample_is_shared_by_no_others():
    loss = LossWrapper(nn.GaussianNLLLoss(), "a", inputs=["pred.x", "gt.y", "pred.var"], target_shape="broadcast")
    batch = {"x": torch.ones(3, 4), "var": torch.ones(3, 4)}
    loss.compared = 2
    with pytest.raises(ShapeError, match=r"'gt.y' has shape \(1, 4\), expected \(3, 4\).* after the first"):
        loss(batch, {"y": torch.ones(1, 4)})


@pytest.mark.parametrize("spoiled", [False, True])
def test_class_indices_that_would_count_as_probabilities_are_refused(spoiled):
    loss = LossWrapper(nn.CrossEntropyLoss(), "a", target_dtype="long", gt_key="y", pred_key="x")
    indices = torch.randint(0, 5, (2, 6, 7)).float()
    fix = "taken for probabilities of classes on axis 1; give class indices an integer dtype, with .long()"
    with pytest.raises(RangeError, match=rf"loss 'a': 'gt.y' holds values from 0 to 4, expected 0 to 1; it is {fix}"):
        loss.counts({"y": indices})
    with pytest.raises(
        RangeError, match=rf"'gt.y' has dtype float32 and shape \(2, 6, 7\) and holds 0 and 1 .* it is {fix}"
    ):
        loss.counts({"y": indices.clamp(max=1)})
    loss.take_mask("gt.m")
    probabilities = torch.rand(2, 6, 7).softmax(1)
    mask = torch.rand(2, 7) < 0.5
    probabilities = torch.where(mask[:, None], probabilities, torch.nan) if spoiled else probabilities
    one_hot = F.one_hot(torch.randint(0, 6, (2, 7)), 6).movedim(-1, 1).float()
    for target in (probabilities, one_hot):
        assert [float(count) for count in loss.counts({"y": target, "m": mask})] == [float(mask.sum())]


# --- means and counts -------------------------------------------------------------------------------


def test_a_sum_over_values_of_a_function_is_a_sum_with_its_count():
    found = LossWrapper(l1, reduction="sum").compute(PRED, GT)
    assert (float(found.value), found.count, found.is_sum) == (pytest.approx(1.2), 4.0, True)


def test_an_empty_batch_counts_for_nothing():
    found = LossWrapper(nn.L1Loss()).compute(torch.zeros(0, 3), torch.zeros(0, 3))
    assert (float(found.value), float(found.count)) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("loss", "neutral"),
    [
        (nn.L1Loss(), [0.0, 0.0, 1.0]),
        (nn.HingeEmbeddingLoss(), [0.0, 1.0, 1.0]),
        (nn.SmoothL1Loss(), [0.0, 0.0, 1.0]),
    ],
)
def test_what_does_not_count_is_valid_for_the_loss(loss, neutral):
    assert [LossWrapper(loss, target_shape="any").neutral(place) for place in range(3)] == neutral


def test_only_floats_over_several_channels_are_soft_targets():
    loss = LossWrapper(nn.CrossEntropyLoss(), target_dtype="long")
    targets = [torch.zeros(2, 3), torch.zeros(2, 1), torch.zeros(2), torch.zeros(2, 3, dtype=torch.long)]
    assert [loss._is_soft(target) for target in targets] == [True, False, False, False]
    assert not LossWrapper(nn.L1Loss())._is_soft(torch.zeros(2, 3))


def test_the_count_of_class_indices_comes_from_the_targets_alone():
    loss = LossWrapper(nn.CrossEntropyLoss(), target_dtype="long")
    assert [float(count) for count in loss.counts(torch.zeros(2, 1, 4, 4, dtype=torch.long))] == [32.0]
    assert [float(count) for count in loss.counts(torch.zeros(2, 3, 4, dtype=torch.long))] == [24.0]


def test_a_float_vector_is_cast_to_class_indices():
    loss = LossWrapper(nn.L1Loss(), target_dtype="long")
    assert loss.cast_target(torch.zeros(2), torch.ones(2)).dtype == torch.long


def test_shapes_that_cannot_broadcast_are_left_to_a_function():
    assert value(LossWrapper(lambda pred, target: pred.sum() - target.sum()), torch.ones(3, 1), torch.ones(2, 4)) == -5


def test_keys_of_a_mask_are_no_requirement_of_a_loss_that_declares_none():
    loss = LossWrapper(nn.L1Loss(), pred_key="a", gt_key="b")
    loss.take_mask("gt.valid", None)
    assert loss.requires == ("pred.a", "gt.b", "gt.valid")
    free = LossWrapper(nn.L1Loss())
    free.take_mask("gt.valid", None)
    assert free.requires == ()


def test_values_of_elements_come_from_a_function():
    with pytest.raises(ArgumentError) as caught:
        LossWrapper(nn.L1Loss(), values_of=torch.ones(2))
    assert [(problem.path, problem.expected) for problem in caught.value.problems] == [("values_of", "a function")]


# --- inputs by name, lists of tensors, the epoch ----------------------------------------------------


class Levels(nn.Module):
    """A loss of a list of predictions, with a temperature that falls with the epoch."""

    def forward(self, levels, target, *, mask=None, epoch=0, scale=1.0):
        assert isinstance(epoch, int)
        values = torch.stack([(level - target) ** 2 for level in levels])
        values = values if mask is None else values * mask
        return scale * values.mean() / (1 + epoch)


LEVELS = [torch.tensor([1.0, 2.0]), torch.tensor([3.0, 5.0])]
TARGET, MASK = torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0])
NAMED = {"epoch": "epoch", "mask": "gt.valid", "target": "gt.y", "levels": "pred.levels"}
OPTIONAL = ["epoch", "mask"]


def test_inputs_are_passed_by_name_in_the_order_of_the_signature():
    loss = LossWrapper(Levels(), inputs=NAMED)
    assert (loss.input_names, loss.inputs) == (("levels", "target", "mask", "epoch"), tuple(loss_keys(loss)))
    assert (loss.requires, loss.optional, loss.takes_epoch) == (("pred.levels", "gt.y", "gt.valid"), (), True)
    batch = {"levels": LEVELS}, {"y": TARGET, "valid": MASK}
    assert loss(*batch, epoch=1)[0] == (1 + 9) / 4 / 2
    assert loss(*batch, epoch=1.9)[0] == (1 + 9) / 4 / 2


def loss_keys(loss):
    return [NAMED[name] for name in loss.input_names]


def test_an_optional_input_is_passed_only_where_it_is_there():
    loss = LossWrapper(Levels(), inputs=NAMED, optional_inputs=OPTIONAL)
    assert (loss.requires, loss.optional) == (("pred.levels", "gt.y"), ("gt.valid",))
    pred, gt = {"levels": LEVELS}, {"y": TARGET}
    assert loss(pred, gt)[0] == (1 + 1 + 9 + 16) / 4
    assert loss(pred, {**gt, "valid": MASK})[0] == (1 + 9) / 4
    assert loss(pred, gt, epoch=2)[0] == (1 + 1 + 9 + 16) / 4 / 3


def test_a_loss_of_torch_is_the_same_by_name():
    named = LossWrapper(nn.BCELoss(), "a", inputs={"target": "gt.y", "input": "pred.x"})
    pred, gt = {"x": torch.tensor([0.2, 0.7])}, {"y": torch.tensor([0.0, 1.0])}
    means = []
    found, _ = named(pred, gt, means=means)
    torch.testing.assert_close(found, F.binary_cross_entropy(pred["x"], gt["y"]))
    assert ([mean.count for mean in means], named.counts(gt)) == ([2.0], [2.0])
    with pytest.raises(RangeError, match=r"'gt.y' holds values from 0 to 255"):
        named(pred, {"y": gt["y"] * 255})
    named.take_mask("gt.m")
    found, _ = named({"x": torch.tensor([0.2, torch.nan])}, {**gt, "m": MASK})
    torch.testing.assert_close(found, -torch.log(torch.tensor(0.8)))


def test_a_loss_in_half_precision_gets_its_lists_in_float32():
    seen = []

    def loss(levels, views):
        seen.extend(t.dtype for t in (*levels, *views[1]))
        return levels[0].sum()

    halves = [level.half() for level in LEVELS]
    LossWrapper(loss, inputs=["pred.levels", "pred.views"])({"levels": halves, "views": (halves[0], tuple(halves))}, {})
    assert seen == [torch.float32] * 4
    assert halves[0].dtype == torch.float16


def test_samples_of_lists_count_and_are_masked():
    class Triplet(nn.TripletMarginLoss):
        def forward(self, anchors, others):
            return super().forward(anchors[0], *others)

    torch.manual_seed(0)
    anchor, positive, negative = torch.randn(3, 4, 5).unbind()
    loss = LossWrapper(Triplet(), "a", inputs=["pred.anchors", "gt.others"], unit="samples")
    loss.take_mask("gt.m")
    mask = torch.tensor([1.0, 0.0, 1.0, 1.0])
    spoiled = torch.where(mask[:, None] > 0, anchor, torch.nan).requires_grad_()
    gt, means = {"others": (positive, negative), "m": mask}, []
    value, _ = loss({"anchors": [spoiled]}, gt, means=means)
    kept = mask > 0
    torch.testing.assert_close(value, F.triplet_margin_loss(anchor[kept], positive[kept], negative[kept]))
    assert (float(means[0].count), float(loss.counts(gt)[0])) == (3.0, 3.0)
    value.backward()
    assert spoiled.grad.isfinite().all()


def test_the_epoch_goes_from_a_criterion_to_losses_inside_of_others():
    seen = []

    class Warm(Loss):
        requires = ("pred.x",)
        takes_epoch = True

        def compute(self, pred_batch, gt_batch):
            seen.append(self.current_epoch)
            return pred_batch["x"].sum()

    deep = DeepSupervision(Warm("deep"), "aux.*")
    group = MultiLoss([Warm("b"), LossWrapper(Warm("c"), "c")], [1.0, 1.0])
    group.name = "group"
    criterion = MultiLoss([Warm("a"), group, deep, nn.L1Loss()], [1.0] * 4)
    batch = {"x": torch.ones(2), "aux.0": torch.ones(2)}, {"gt_polygons_image": torch.zeros(2)}
    criterion.loss_funcs[3].pred_key = "x"
    criterion(*batch, epoch=2.5)
    assert seen == [2.5] * 4
    seen.clear()
    criterion(*batch)
    assert seen == [None] * 4
    seen.clear()
    criterion.update_norm(*batch, nums=2)
    LossWrapper(Warm("c"), "c").update_norm(*batch, nums=2)
    assert seen == [0] * 5


def test_a_criterion_that_takes_the_epoch_is_not_compiled_but_may_be_inside_of_what_is():
    criterion = MultiLoss([LossWrapper(Levels(), inputs=NAMED, optional_inputs=OPTIONAL)], [1.0])
    with pytest.raises(ValueError, match=r"term 'Levels' takes the epoch, and each epoch would compile it again"):
        criterion.compile()
    compiled = torch.compile(criterion, backend="eager", fullgraph=True)
    batch = {"levels": LEVELS}, {"y": TARGET}
    totals = [float(compiled(*batch, epoch=epoch)[0]) for epoch in range(3)]
    assert totals == pytest.approx([(1 + 1 + 9 + 16) / 4 / (1 + epoch) for epoch in range(3)])


def test_what_named_inputs_lack_is_told():
    with pytest.raises(MissingKeyError, match=r"needs the epoch; pass it to the criterion: forward\(..., epoch=...\)"):
        LossWrapper(Levels(), inputs=NAMED)({"levels": LEVELS}, {"y": TARGET, "valid": MASK})
    loss = LossWrapper(Levels(), inputs=NAMED, optional_inputs=OPTIONAL)
    with pytest.raises(MissingKeyError, match=r"loss 'Levels' needs 'gt.y'; gt_batch has keys \['z'\]"):
        loss({"levels": LEVELS}, {"z": TARGET})
    for levels, found in (([], "an empty list"), ([TARGET, 1.0], "list"), (3, "int"), ({"a": TARGET}, "dict")):
        with pytest.raises(DtypeError, match=rf"'pred.levels': expected a tensor or a list of tensors, found {found}"):
            loss({"levels": levels}, {"y": TARGET})


@pytest.mark.parametrize(
    ("options", "path", "kind", "hint"),
    [
        ({"inputs": {"levels": "pred.a"}}, "inputs.target", "missing", "target: pred.target"),
        ({"inputs": {**NAMED, "tagret": "gt.y"}}, "inputs.tagret", "unknown", "did you mean 'target'?"),
        ({"inputs": {}}, "inputs", "range", ""),
        ({"inputs": {"levels": "levels"}}, "inputs.levels", "range", "write 'pred.levels' or 'gt.levels'"),
        (
            {"inputs": ["pred.a", "gt.b"], "optional_inputs": ["mask"]},
            "optional_inputs",
            "conflict",
            "write `inputs` as",
        ),
        ({"optional_inputs": ["mask"]}, "optional_inputs", "conflict", "write `inputs` as"),
        ({"inputs": NAMED, "optional_inputs": ["msak"]}, "optional_inputs[0]", "unknown", "did you mean 'mask'?"),
        ({"inputs": NAMED, "optional_inputs": ["target"]}, "optional_inputs[0]", "conflict", "leave it out"),
    ],
)
def test_wrong_names_of_inputs_are_refused(options, path, kind, hint):
    with pytest.raises(ArgumentError) as caught:
        LossWrapper(Levels(), **options)
    (problem,) = caught.value.problems
    assert (problem.path, problem.kind) == (path, kind)
    assert hint in problem.hint


def test_named_inputs_are_shown():
    shown = repr(LossWrapper(Levels(), inputs={"levels": "pred.a", "target": "gt.b"}))
    assert "inputs={'levels': 'pred.a', 'target': 'gt.b'}" in shown
    assert "optional_inputs=['mask']" in repr(LossWrapper(Levels(), inputs=NAMED, optional_inputs=["mask"]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_mask_leaves_ignored_labels_and_weights_of_classes_their_meaning(reduction, weighted):
    logits = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    classes = torch.arange(40).reshape(2, 4, 5) % 3
    classes[0, 1] = -100
    mask = torch.arange(40).reshape(2, 4, 5) % 7 > 2
    weight = torch.tensor([1.0, 5.0, 0.5]) if weighted else None
    loss = LossWrapper(nn.CrossEntropyLoss(weight, reduction=reduction), "a", pred_key="x", gt_key="y")
    loss.take_mask("gt.valid")
    found = loss({"x": logits}, {"y": classes, "valid": mask}, normalize=False)[0]
    left_out = torch.where(mask, classes, -100)
    torch.testing.assert_close(found, F.cross_entropy(logits, left_out, weight, reduction=reduction))
    (count,) = loss.counts({"y": classes, "valid": mask})
    kept = left_out[left_out >= 0]
    assert float(count) == pytest.approx(float(len(kept) if weight is None else weight[kept].sum()))


@pytest.mark.parametrize("function", [F.cross_entropy, F.nll_loss])
def test_a_function_of_torch_counts_what_it_does_not_ignore(function):
    loss = LossWrapper(functools.partial(function, ignore_index=1), "a")
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).log_softmax(1)
    for classes, count in ((torch.tensor([0, 1, 2, 2, 1, 0]), 4), (torch.tensor([0, 2, 2, 0, 2, 2]), 6)):
        means = []
        value, _ = loss(logits, classes, normalize=False, means=means)
        torch.testing.assert_close(value, function(logits, classes, ignore_index=1))
        assert [float(mean.count) for mean in means] == [count]
        assert [float(found) for found in loss.counts(classes)] == [count]
    means = []
    value, _ = loss(logits, torch.ones(6, dtype=torch.long), normalize=False, means=means)
    assert (value.item(), float(means[0].count)) == (0.0, 0.0)


def test_class_indices_with_a_channel_are_counted_as_those_without():
    loss, mask = LossWrapper(nn.CrossEntropyLoss(), "a", gt_key="y"), torch.arange(32).reshape(2, 4, 4) % 3 > 0
    loss.take_mask("gt.valid")
    for target in (torch.zeros(2, 4, 4, dtype=torch.long), torch.zeros(2, 1, 4, 4, dtype=torch.long)):
        assert [float(count) for count in loss.counts({"y": target, "valid": mask})] == [float(mask.sum())]


def test_of_one_class_a_target_keeps_its_channel():
    loss = LossWrapper(nn.L1Loss(), "a", target_dtype="long")
    assert loss.cast_target(torch.zeros(2, 1, 3), torch.zeros(2, 1, 3, dtype=torch.uint8)).shape == (2, 1, 3)
    assert loss.cast_target(torch.zeros(2, 2, 3), torch.zeros(2, 1, 3, dtype=torch.uint8)).shape == (2, 3)
