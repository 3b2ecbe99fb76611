"""A term that is off adds nothing: not to the total, not to a gradient, whatever its value."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossreg import Loss, LossWrapper, MultiLoss, Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty


class Square(Loss):
    requires = ("pred.x",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        return self.read(pred_batch, gt_batch, "pred.x").square().mean()


class Bad(Loss):
    """A value that is finite with a derivative that is not (`root`), or neither (`log`, `nan`)."""

    requires = ("pred.x",)

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name)
        self.kind = kind
        self.scale = nn.Parameter(torch.ones(()))

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        x = self.scale * self.read(pred_batch, gt_batch, "pred.x")
        self.extra_info["x"] = x
        return {"root": (x - x).sqrt(), "log": (x - x).log(), "nan": (x - x).sqrt() / (x - x)}[self.kind].sum()


KINDS = ("root", "log", "nan")


def batch() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return {"x": torch.tensor([1.0, 2.0, 3.0], requires_grad=True)}, {}


def check(criterion: MultiLoss, coefficient: float = 1.0, **time: Any) -> None:
    """The total is `coefficient * mean(x^2)`, 14 / 3, and its gradient `coefficient * 2 x / 3`."""
    pred, gt = batch()
    total, _, _ = criterion(pred, gt, **time)
    total.backward()
    torch.testing.assert_close(total.detach(), torch.tensor(coefficient * 14 / 3))
    torch.testing.assert_close(pred["x"].grad, coefficient * torch.tensor([2.0, 4.0, 6.0]) / 3)
    assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in criterion.parameters())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zero_weight", ["keep", "skip"])
@pytest.mark.parametrize("weights", [[1.0, 0.0], [1.0, [0.0, 1.0]], [1.0, lambda epoch: epoch]])
def test_a_weight_of_zero(kind: str, zero_weight: Any, weights: Any) -> None:
    criterion = MultiLoss([Square("a"), Bad("b", kind)], weights, [0, 1], zero_weight=zero_weight)
    check(criterion, epoch=0)


def test_its_value_is_still_told() -> None:
    _, values, extra = MultiLoss([Square("a"), Bad("b", "nan")], [1.0, 0.0])(*batch())
    assert list(values) == list(extra) == ["a", "b"]
    assert values["b"].isnan()


def test_the_terms_around_keep_their_places() -> None:
    criterion = MultiLoss([Bad("a", "nan"), Square("b"), Bad("c", "log"), Square("d")], [0.0, 0.25, 0.0, 0.75])
    check(criterion)
    assert list(criterion(*batch())[1]) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", KINDS)
def test_norms_do_not_bring_it_back(kind: str) -> None:
    criterion = MultiLoss([Square("a"), Bad("b", kind)], [1.0, 0.0])
    criterion.loss_funcs[1].norm.fill_(math.nan)
    check(criterion)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("outer", "inner"), [(0.0, 1.0), (1.0, 0.0), ([0.0, 1.0], 1.0), (1.0, [0.0, 1.0])])
def test_a_group_and_a_member_of_a_group(kind: str, outer: Any, inner: Any) -> None:
    group = MultiLoss([Bad("b", kind)], [inner], [0, 1], name="g")
    check(MultiLoss([Square("a"), group], [1.0, outer], [0, 1]), epoch=0)


COEFFICIENTS = [(Uncertainty, 0.5), (CoV, 0.5), (DWA, 1.0), (SoftAdapt, 0.5), (ReLoBRaLo, 1.0), (GradNorm, 1.0)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("weighting", "coefficient"), COEFFICIENTS)
def test_under_an_adaptive_weighting_at_its_start(kind: str, weighting: Any, coefficient: float) -> None:
    criterion = MultiLoss([Square("a"), Bad("b", kind)], [1.0, [0.0, 1.0]], [0, 1], weighting=weighting())
    if weighting is GradNorm:
        criterion.weighting.set_shared_parameters([nn.Parameter(torch.ones(1))])
    check(criterion, coefficient, epoch=0)


@pytest.mark.parametrize("weighting", [weighting for weighting, _ in COEFFICIENTS])
def test_its_value_moves_no_weighting(weighting: Any) -> None:
    states = []
    for power in (1.0, 5.0):
        criterion = MultiLoss([Square("a"), Scaled("b", power)], [1.0, 0.0], weighting=weighting())
        if weighting is GradNorm:
            criterion.weighting.set_shared_parameters([nn.Parameter(torch.ones(1))])
        for epoch in range(4):
            criterion(*batch(), epoch=epoch)
        states.append(criterion.weighting.state_dict())
    torch.testing.assert_close(*states)


class Scaled(Loss):
    def __init__(self, name: str, power: float) -> None:
        super().__init__(name)
        self.power, self.seen = power, 0

    def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
        self.seen += 1
        return pred_batch["x"].mean() * self.power**self.seen


def test_in_the_vector_of_terms_it_is_a_zero() -> None:
    pred, gt = batch()
    terms = MultiLoss([Bad("b", "nan"), Square("a")], [0.0, 3.0]).weighted_terms(pred, gt)
    torch.testing.assert_close(terms.detach(), torch.tensor([0.0, 14.0]))
    (slope,) = torch.autograd.grad(terms, pred["x"], torch.ones(2))
    torch.testing.assert_close(slope, torch.tensor([2.0, 4.0, 6.0]))


def test_what_is_on_and_not_finite_shows() -> None:
    criterion = MultiLoss([Square("a"), Bad("b", "nan")], [1.0, [0.0, 1.0]], [0, 1])
    assert criterion(*batch(), epoch=1)[0].isnan()


# --- a network that overflows ---------------------------------------------------------------------


def mse(pred_key: str, gt_key: str) -> Loss:
    return LossWrapper(nn.MSELoss(), pred_key, pred_key=pred_key, gt_key=gt_key)


@pytest.mark.parametrize("how", ["weight 0", "weight 0, skip", "skip_term", "skip_term, skip", "absent", "all absent"])
def test_a_head_that_overflows_harms_no_gradient_where_its_term_adds_nothing(how: str) -> None:
    """Its derivative is infinite, so that a gradient of zero at its prediction would be NaN at its parameters."""
    torch.manual_seed(0)
    body, heads, x = nn.Linear(3, 3), {"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)}, torch.randn(4, 3)
    features = body(x)
    pred = {"a": heads["a"](features), "b": (1000 * heads["b"](features)).exp()}
    assert pred["b"].isinf().any()
    terms = [mse("a", "y"), mse("b", "z")]
    criterion = MultiLoss(
        terms,
        [1.0, 0.0 if how.startswith("weight 0") else 1.0],
        normalize=False,
        optional_terms=["a", "b"],
        zero_weight="skip" if how.endswith("skip") else "keep",
        on_nonfinite="skip_term" if how.startswith("skip_term") else "ignore",
    )
    gt = {"all absent": {}, "absent": {"y": x}}.get(how, {"y": x, "z": x})
    total, _, _ = criterion(pred, gt)
    total.backward()
    expected = [torch.zeros(3, 3), torch.zeros(3, 3)]
    if how != "all absent":
        value = nn.functional.mse_loss(pred["a"], x)
        torch.testing.assert_close(total, value)
        expected = list(
            torch.autograd.grad(nn.functional.mse_loss(heads["a"](body(x)), x), [body.weight, heads["a"].weight])
        )
    torch.testing.assert_close([body.weight.grad, heads["a"].weight.grad], expected)
    if how == "weight 0, skip":  # it is not computed
        assert heads["b"].weight.grad is None
    else:  # DistributedDataParallel waits for it
        assert torch.equal(heads["b"].weight.grad, torch.zeros(3, 3))


def test_nothing_is_computed_behind_a_prediction_that_no_term_reads() -> None:
    class Counted(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.set_materialize_grads(False)
            return x.clone()

        @staticmethod
        def backward(ctx: Any, slope: Tensor | None) -> Any:
            slopes.append(slope)
            return slope

    slopes: list[Tensor | None] = []
    x = torch.ones(3, requires_grad=True)
    MultiLoss([Square("a")], [1.0], optional_terms=["a"])({"other": Counted.apply(x)}, {})[0].backward()
    assert slopes == [None]  # its hooks run, as FSDP needs it
    assert torch.equal(x.grad, torch.zeros(3))


def test_a_leaf_that_a_term_reaches_gets_its_gradient_alone() -> None:
    pred, _ = batch()
    total, _, _ = MultiLoss([Square("a"), Square("b")], [1.0, 0.0])({**pred, "unread": pred["x"].exp()}, {})
    total.backward()
    torch.testing.assert_close(pred["x"].grad, torch.tensor([2.0, 4.0, 6.0]) / 3)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # by jvp itself
@pytest.mark.parametrize("transform", ["grad", "vmap", "jvp"])
def test_it_goes_through_transforms_of_functions(transform: str) -> None:
    terms = [mse("a", "y"), mse("b", "z")]
    criterion = MultiLoss(terms, [1.0, 1.0], normalize=False, optional_terms=["b"])
    a, b, y = torch.randn(3, 4, 2).unbind()

    def total(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        found: Tensor = criterion({"a": a.sin(), "b": b.exp()}, {"y": y})[0]
        return found

    def plain(a: Tensor, b: Tensor, y: Tensor) -> Tensor:
        return nn.functional.mse_loss(a.sin(), y)

    of = {
        "grad": lambda f: torch.func.grad(f, (0, 1))(a, b, y),
        "vmap": lambda f: torch.func.vmap(torch.func.grad(f, (0, 1)))(a, b, y),
        "jvp": lambda f: torch.func.jvp(f, (a, b, y), (b, a, a)),
    }[transform]
    torch.testing.assert_close(of(total), of(plain))


# --- where values are looked at -------------------------------------------------------------------


def test_nothing_is_raised_for_it() -> None:
    check(MultiLoss([Square("a"), Bad("b", "nan")], [1.0, 0.0], on_nonfinite="raise"))


def test_it_is_not_counted_as_skipped() -> None:
    criterion = MultiLoss([Square("a"), Bad("b", "nan")], [1.0, 0.0], on_nonfinite="skip_term")
    check(criterion)
    assert criterion.skipped.tolist() == [0, 0]


def test_a_skipped_term_of_outputs_in_a_list_leaves_a_zero_on_the_graph() -> None:
    def loss(pred: Any, gt: Any) -> Tensor:
        return (pred["x"][0] - pred["x"][0]).log().sum()

    class Listed(Loss):
        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return loss(pred_batch, gt_batch)

    x = torch.ones(3, requires_grad=True)
    total, _, _ = MultiLoss([Listed("b")], [1.0], on_nonfinite="skip_term")({"x": [x, (x, x)]}, {})
    total.backward()
    assert torch.equal(x.grad, torch.zeros(3))


def test_a_skipped_group_leaves_nothing_behind() -> None:
    group = MultiLoss([Bad("b", "nan")], [1.0], name="g")
    _, values, extra = MultiLoss([Square("a"), group], [1.0, 1.0], on_nonfinite="skip_term")(*batch())
    assert list(values) == list(extra) == ["a"]


# --- in the graph ---------------------------------------------------------------------------------


def test_keep_gives_every_parameter_a_gradient_of_zero_wherever_it_is() -> None:
    head, closed, trunk = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)
    own = Bad("own", "nan")

    class Closed(Loss):
        def compute(self, pred_batch: Any, gt_batch: Any) -> Tensor:
            return (closed(pred_batch["y"]) * math.inf).sum()

    features = trunk(torch.rand(2, 3))
    pred = {"x": features, "y": head(features)}
    losses = [Square("a"), own, MultiLoss([Closed("c")], [1.0], name="g", weighting=Uncertainty())]
    total, _, _ = (criterion := MultiLoss(losses, [1.0, 0.0, 0.0]))(pred, {})
    total.backward()
    off = [*head.parameters(), *closed.parameters(), *criterion.parameters()]
    assert len(off) == 6
    assert all(torch.equal(p.grad, torch.zeros_like(p)) for p in off)
    assert trunk.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("zero_weight", ["keep", "skip"])
def test_where_every_term_is_off_the_total_is_a_zero_on_the_graph(zero_weight: Any) -> None:
    pred, gt = batch()
    total, _, _ = MultiLoss([Bad("a", "nan"), Bad("b", "log")], [0.0, 0.0], zero_weight=zero_weight)(pred, gt)
    total.backward()
    assert total == 0
    assert torch.equal(pred["x"].grad, torch.zeros(3))


# --- compiled -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "weighting", "coefficient"),
    [
        ([1.0, 0.0], None, 1.0),
        ([1.0, [0.0, 1.0]], None, 1.0),
        ([1.0, [0.0, 1.0]], Uncertainty, 0.5),
        ([1.0, [0.0, 1.0]], SoftAdapt, 0.5),
    ],
)
@pytest.mark.parametrize("kind", ["root", "nan"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.torch.jit.script:FutureWarning")
def test_compiled(kind: str, weights: Any, weighting: type[Weighting] | None, coefficient: float) -> None:
    torch._dynamo.reset()
    made = None if weighting is None else weighting()
    criterion = MultiLoss([Square("a"), NoParameter("b", kind)], weights, [0, 1], weighting=made)
    criterion.compile(fullgraph=True, backend="aot_eager_decomp_partition")
    with torch._dynamo.config.patch(error_on_recompile=True):
        check(criterion, coefficient, epoch=0)
        check(criterion, coefficient, epoch=-1)
        total, _, _ = criterion(*batch(), epoch=1)
    assert total.isfinite() == (kind == "root" or weights[1] == 0.0)


class NoParameter(Bad):
    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name, kind)
        self.scale.requires_grad_(False)


@pytest.mark.parametrize("zero_weight", ["keep", "skip"])
def test_a_negative_weight_is_not_off(zero_weight: Any) -> None:
    criterion = MultiLoss([Square("a"), Square("b"), Square("off")], [1.0, -3.0, 0.0], zero_weight=zero_weight)
    check(criterion, -2.0)
    assert float(criterion.last_record["b"].contribution) == pytest.approx(-14.0)
