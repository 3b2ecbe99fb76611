"""A loss: the keys it reads, its result, and its errors for a wrong batch."""

from __future__ import annotations

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from lossreg import Loss
from lossreg.errors import ArgumentError, BatchError, DtypeError, LossregError, MissingKeyError, RangeError, ShapeError
from lossreg.losses.base import can_hold, zero_on_graph


class Offset(Loss):
    """Mean distance of two maps."""

    requires = ("pred.offset", "gt.offset")
    optional = ("gt.weights",)

    def compute(self, pred_batch, gt_batch):
        pred = self.read(pred_batch, gt_batch, "pred.offset")
        gt = self.read(pred_batch, gt_batch, "gt.offset")
        self.check_shape("pred.offset", pred, ("N", 2, "H", "W"))
        self.check_float("pred.offset", pred)
        weights = self.read_optional(pred_batch, gt_batch, "gt.weights")
        distance = (pred - gt).abs()
        self.extra_info["distance"] = distance
        return (distance if weights is None else distance * weights).mean()


class Whatever(Loss):
    """A loss whose compute is given."""

    def __init__(self, compute, name="whatever"):
        super().__init__(name)
        self.given = compute

    def compute(self, pred_batch, gt_batch):
        return self.given(self, pred_batch, gt_batch)


@pytest.fixture
def loss():
    return Offset("offset")


@pytest.fixture
def batch():
    return {"offset": torch.full((1, 2, 2, 2), 3.0, requires_grad=True)}, {"offset": torch.ones(1, 2, 2, 2)}


# --- the value --------------------------------------------------------------------------------------


def test_a_loss_returns_its_value_and_detached_extra_info(loss, batch):
    value, extra = loss(*batch)
    assert value == 2.0
    assert value.requires_grad
    assert extra["distance"].shape == (1, 2, 2, 2)
    assert not extra["distance"].requires_grad


def test_extra_info_is_detached_at_any_depth():
    def compute(self, pred, gt):
        self.extra_info |= {"a": {"b": [pred * 2, (pred * 3, "text", 5)]}, "n": None, "array": np.ones(1)}
        return pred.sum()

    pred = torch.ones(2, requires_grad=True)
    _, extra = Whatever(compute)(pred, None)
    twice, (thrice, text, number) = extra["a"]["b"]
    assert not twice.requires_grad
    assert not thrice.requires_grad
    assert (text, number, extra["n"]) == ("text", 5, None)


def test_extra_info_is_of_one_forward_alone(loss, batch):
    def compute(self, pred, gt):
        if gt is not None:
            self.extra_info["seen"] = gt
        return pred.sum()

    once = Whatever(compute)
    assert once(torch.ones(1), 1)[1] == {"seen": 1}
    assert once(torch.ones(1), None)[1] == {}
    _, first = loss(*batch)
    loss(*batch)
    assert list(first) == ["distance"]


def test_a_forward_that_fails_leaves_nothing_behind(batch):
    def compute(self, pred, gt):
        self.extra_info["graph"] = pred * 2
        raise RuntimeError("half-way")

    failing = Whatever(compute)
    with pytest.raises(RuntimeError, match="half-way"):
        failing(torch.ones(1, requires_grad=True), None)
    assert failing.extra_info == {}
    copy.deepcopy(failing)


def test_the_norm_divides_where_it_is_asked_to(loss, batch):
    loss.norm.fill_(4.0)
    assert loss(*batch)[0] == 0.5
    assert loss(*batch, normalize=False)[0] == 2.0
    (gradient,) = torch.autograd.grad(loss(*batch)[0], batch[0]["offset"])
    assert torch.equal(gradient, torch.full_like(gradient, 1 / 8 / 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_value_of_any_precision_can_be_divided(dtype):
    value, _ = Whatever(lambda self, pred, gt: pred.mean())(torch.full((3,), 2.0, dtype=dtype), None)
    assert value == 2.0
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32) or value.dtype == dtype


@pytest.mark.parametrize("given", [0, 1, 3, 2.5, "yes", None, torch.tensor(True)])
def test_an_epoch_in_the_place_of_normalize_is_refused(loss, batch, given):
    with pytest.raises(ArgumentError, match=r"offset: normalize: expected True or False, found .*pass epoch="):
        loss(*batch, given)


def test_a_bool_of_numpy_is_a_bool(loss, batch):
    loss.norm.fill_(4.0)
    assert loss(*batch, np.bool_(False))[0] == 2.0


@pytest.mark.parametrize(
    "move",
    [
        lambda loss, batch: loss.update_norm(*batch, 3),
        lambda loss, batch: loss.reset_norm(),
        lambda loss, batch: loss.norm.mul_(2.0),
        lambda loss, batch: loss.load_state_dict(Offset("other").state_dict()),
    ],
    ids=["update_norm", "reset_norm", "by_hand", "load_state_dict"],
)
def test_a_norm_that_moves_before_the_backward_does_not_spoil_it(loss, batch, move):
    loss.norm.fill_(4.0)
    value, _ = loss(*batch)
    move(loss, batch)
    value.backward()
    assert torch.equal(batch[0]["offset"].grad, torch.full((1, 2, 2, 2), 1 / 8 / 4))


class Waiting(Loss):
    """A loss in which two threads meet between writing and returning."""

    meeting = threading.Barrier(2)

    def compute(self, pred_batch, gt_batch):
        self.extra_info["mine"] = pred_batch
        self.meeting.wait(timeout=10)
        self.extra_info["still"] = self.extra_info["mine"]
        self.meeting.wait(timeout=10)
        return pred_batch.sum()


def test_two_threads_have_their_own_extra_info():
    loss = Waiting("waiting")
    with ThreadPoolExecutor(2) as pool:
        for thread, (value, extra) in enumerate(pool.map(lambda i: loss(torch.tensor([float(i)]), None), range(2))):
            assert (value, extra["mine"], extra["still"]) == (thread, thread, thread)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))], ids=["copy", "pickle"])
def test_a_loss_can_be_copied_while_it_runs(way):
    copies = []

    def compute(self, pred, gt):
        self.extra_info["graph"] = pred * 2
        del self.given
        copies.append(way(self))
        return pred.sum()

    loss = Whatever(compute)
    assert loss(torch.ones(1, requires_grad=True), None)[0] == 1
    assert copies[0].extra_info == {}


def test_forward_hooks_see_the_call(loss, batch):
    seen = []
    loss.register_forward_hook(lambda module, arguments, result: seen.append(result[0].item()))
    loss.register_forward_pre_hook(lambda module, arguments: seen.append("before"))
    loss(*batch)
    assert seen == ["before", 2.0]


def test_the_batch_is_left_alone(loss, batch):
    pred, gt = batch
    before = dict(pred), dict(gt)
    loss(pred, gt)
    loss.update_norm(pred, gt, 1)
    assert (pred, gt) == before
    assert pred["offset"].grad is None


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        (torch.ones(1), r"shape \(1,\)"),
        (torch.ones(2, 3), r"shape \(2, 3\)"),
        (1.0, "float"),
        (None, "NoneType"),
        ((torch.ones(()), {}), "tuple"),
    ],
)
def test_compute_must_return_a_scalar(returned, found):
    with pytest.raises(
        ShapeError, match=f"(?m)^loss 'whatever': compute: expected a scalar tensor or a Mean, found {found}$"
    ):
        Whatever(lambda self, pred, gt: returned)(torch.ones(1), None)


def test_compute_must_be_written():
    class Lazy(Loss):
        pass

    with pytest.raises(NotImplementedError, match=r"(?m)^define Lazy\.compute\(pred_batch, gt_batch\)$"):
        Lazy("lazy")(torch.ones(1), torch.ones(1))


@pytest.mark.parametrize("name", ["", "a/b", None, 5, b"a"])
def test_a_name_is_a_text_without_a_slash(name):
    message = f"(?m)^Offset: name: expected a name without '/', of at most 100 printable characters, found {name!r}$"
    with pytest.raises(ValueError, match=message):
        Offset(name)


def test_it_shows_its_name(loss):
    assert repr(loss) == "Offset(name='offset')"


def test_modules_inside_a_loss_are_its_own(batch):
    class Learned(Loss):
        def __init__(self):
            super().__init__("learned")
            self.net = nn.Linear(2, 1)

        def compute(self, pred_batch, gt_batch):
            return self.net(pred_batch).mean()

    loss = Learned()
    assert [name for name, _ in loss.named_parameters()] == ["net.weight", "net.bias"]
    loss.half()
    assert loss.net.weight.dtype == torch.float16
    assert loss.norm.dtype == torch.float32


# --- reading a batch --------------------------------------------------------------------------------


def test_a_missing_key_is_named_with_the_keys_that_are_there(loss):
    with pytest.raises(MissingKeyError) as raised:
        loss({"seg": torch.ones(1), "b": 1, 5: 2}, {})
    assert str(raised.value) == "loss 'offset' needs 'pred.offset'; pred_batch has keys ['5', 'b', 'seg']"
    with pytest.raises(MissingKeyError, match=r"(?m)^loss 'offset' needs 'gt.offset'; gt_batch has keys \[\]$"):
        loss({"offset": torch.ones(1, 2, 1, 1)}, {})
    assert isinstance(raised.value, KeyError)
    assert isinstance(raised.value, LossregError)


@pytest.mark.parametrize(("value", "found"), [(np.ones(1), "ndarray"), ([1.0], "list"), (1.0, "float"), ("a", "str")])
def test_a_value_that_is_no_tensor_is_named(loss, value, found):
    with pytest.raises(DtypeError, match=f"(?m)^loss 'offset': 'pred.offset': expected a tensor, found {found}$"):
        loss({"offset": value}, {})


@pytest.mark.parametrize(("value", "found"), [(None, "NoneType"), ([torch.ones(1)], "list"), (5, "int")])
def test_a_batch_that_is_none_is_named(loss, value, found):
    message = f"(?m)^loss 'offset': pred_batch: expected a mapping of tensors or a tensor, found {found}$"
    with pytest.raises(BatchError, match=message):
        loss(value, {})


def test_bare_tensors_stand_for_the_only_key_of_their_side(loss):
    assert loss(torch.full((1, 2, 2, 2), 3.0), {"offset": torch.ones(1, 2, 2, 2)})[0] == 2.0
    assert loss(torch.full((1, 2, 2, 2), 3.0), torch.ones(1, 2, 2, 2))[0] == 2.0


def test_a_bare_tensor_cannot_stand_for_two_keys():
    class Two(Loss):
        requires = ("pred.a", "pred.b")

        def compute(self, pred_batch, gt_batch):
            return self.read(pred_batch, gt_batch, "pred.a").mean()

    with pytest.raises(MissingKeyError, match=r"(?m)^loss 'two' needs 'pred\.a'; pred_batch has a bare tensor$"):
        Two("two")(torch.ones(1), torch.ones(1))


def test_an_optional_key_is_used_where_it_is_there(loss, batch):
    pred, gt = batch
    assert loss(pred, gt | {"weights": torch.zeros(())})[0] == 0.0
    assert loss(pred, gt)[0] == 2.0


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (1, 2, 2), (2,), (1, 2, 2, 2, 1)])
def test_a_wrong_shape_is_named_with_the_right_one(loss, shape):
    with pytest.raises(ShapeError) as raised:
        loss({"offset": torch.ones(shape)}, {"offset": torch.ones(shape)})
    assert str(raised.value) == f"loss 'offset': 'pred.offset' has shape {shape}, expected (N, 2, H, W)"
    assert isinstance(raised.value, ValueError)


def test_one_letter_is_one_size(loss):
    loss.check_shape("gt.x", torch.ones(3, 3, 0), ("H", "H", "W"))
    with pytest.raises(ShapeError, match=r"has shape \(3, 4\), expected \(H, H\)"):
        loss.check_shape("gt.x", torch.ones(3, 4), ("H", "H"))
    loss.check_shape("gt.x", torch.ones(()), ())


def test_a_wrong_dtype_is_named(loss):
    with pytest.raises(DtypeError) as raised:
        loss.check_float("gt.x", torch.ones(1, dtype=torch.int64))
    assert str(raised.value) == "loss 'offset': 'gt.x' has dtype int64, expected a floating-point dtype"
    assert isinstance(raised.value, TypeError)
    loss.check_float("gt.x", torch.ones(1, dtype=torch.bfloat16))


@pytest.mark.parametrize("values", [[-0.1, 1.0], [0.0, 1.5], [float("nan"), 0.5], [float("inf")]])
def test_values_out_of_range_are_named(loss, values):
    with pytest.raises(RangeError, match=r"^loss 'offset': 'pred.x' holds values from .*, expected 0 to 1; a hint$"):
        loss.check_range("pred.x", torch.tensor(values), 0, 1, "a hint")


def test_the_range_of_what_a_network_gave_is_said_without_a_warning(loss):
    values = torch.tensor([0.0, 1.5], requires_grad=True)
    with pytest.raises(RangeError, match=r"values from 0 to 1\.5"):
        loss.check_range("pred.x", values, 0, 1)


def test_the_range_that_came_is_said_exactly(loss):
    with pytest.raises(RangeError) as raised:
        loss.check_range("pred.x", torch.tensor([-2.0, 1.25]), 0, 1)
    assert str(raised.value) == "loss 'offset': 'pred.x' holds values from -2 to 1.25, expected 0 to 1"
    assert isinstance(raised.value, ValueError)


def test_values_in_range_pass_and_what_has_no_values_is_not_looked_at(loss):
    loss.check_range("pred.x", torch.tensor([0.0, 1.0], requires_grad=True), 0, 1)
    loss.check_range("pred.x", torch.ones(0), 0, 1)
    loss.check_range("pred.x", torch.full((2,), 5.0, device="meta"), 0, 1)
    torch.vmap(lambda x: (loss.check_range("pred.x", x, 0, 1), x)[1])(torch.full((2, 2), 5.0))


# --- a zero on the graph ----------------------------------------------------------------------------


@pytest.mark.parametrize("values", [[], [1.0], [float("nan"), float("inf")]])
def test_zero_on_graph_is_a_zero_with_zero_gradients(values):
    tensor = torch.tensor(values, requires_grad=True)
    zero = zero_on_graph(tensor)
    assert zero.shape == ()
    assert zero == 0
    zero.backward()
    assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_zero_on_graph_takes_a_tensor_that_is_not_contiguous():
    tensor = torch.ones(3, 4, requires_grad=True)
    zero_on_graph(tensor.t()[::2]).backward()
    assert torch.equal(tensor.grad, torch.zeros(3, 4))


@pytest.mark.parametrize(
    ("dtype", "held", "too_large"),
    [
        (torch.bool, (0, 1), (-1, 2, 255)),
        (torch.uint8, (0, 255), (-1, 256)),
        (torch.int8, (-128, 127), (-129, 128)),
        (torch.int64, (-(2**63), 2**63 - 1), (2**63,)),
        (torch.float16, (-(10**9), 10**9), ()),
    ],
)
def test_a_dtype_holds_the_whole_numbers_of_its_range(dtype, held, too_large):
    assert all(can_hold(dtype, number) for number in held)
    assert not any(can_hold(dtype, number) for number in too_large)
