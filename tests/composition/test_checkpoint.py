"""Checkpoints find their terms by name: a number is that of its term, or nothing is loaded."""

from __future__ import annotations

import inspect
import io
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import lossreg
from lossreg import Loss, LossWrapper, MultiLoss, Preprocess, create_loss
from lossreg.composition.checkpoint import StoredTerm
from lossreg.composition.weighting.balancer import Balancer
from lossreg.composition.weighting.base import Weighting
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.lrannealing import LRAnnealing
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.errors import CheckpointError, CheckpointWarning
from lossreg.losses.deep_supervision import DeepSupervision

pytestmark = pytest.mark.needs_plugins

WEIGHTINGS = {"none": lambda: None} | {
    kind.__name__: kind for kind in (Balancer, CoV, DWA, GradNorm, LRAnnealing, ReLoBRaLo, SoftAdapt, Uncertainty)
}


class Scaled(Loss):
    """A loss that learns."""

    def __init__(self, name):
        super().__init__(name)
        self.scale = nn.Parameter(torch.ones(3))

    def compute(self, pred_batch, gt_batch):
        return (pred_batch - gt_batch).abs().mean() * self.scale.mean()


LOSSES = {
    "registered": lambda name: create_loss("torch/L1Loss", name=name),
    "other registered": lambda name: create_loss("torch/MSELoss", name=name),
    "wrapped": lambda name: LossWrapper(nn.HuberLoss(), name),
    "weighted": lambda name: LossWrapper(nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), name),
    "learned": Scaled,
    "wrapped learned": lambda name: LossWrapper(Scaled("inner"), name),
    "deep": lambda name: DeepSupervision(LossWrapper(nn.HuberLoss(), name), "outputs"),
}


@dataclass(frozen=True)
class Spec:
    """A term: a loss by its kind, or a group where it has members."""

    name: str
    loss: str = "wrapped"
    normalized: bool = True
    weighting: str = "none"
    members: tuple[Spec, ...] = ()

    def build(self):
        if not self.members:
            return LOSSES[self.loss](self.name)
        return MultiLoss(
            [member.build() for member in self.members],
            [1.0] * len(self.members),
            name=self.name,
            unnormalized=[m.name for m in self.members if not m.normalized and not m.members],
            weighting=WEIGHTINGS[self.weighting](),
        )


def flat(*losses, **options):
    """Build a criterion of `(name, kind)` pairs."""
    return MultiLoss([LOSSES[kind](name) for name, kind in losses], [1.0] * len(losses), **options)


def numbers(criterion, path=""):
    """Return every number of a criterion by the name of what it belongs to."""
    found = {f"{path}calibrated": criterion.calibrated.clone()}
    for i, term in enumerate(criterion.terms):
        found[f"{path}{term.name}:skipped"] = criterion.skipped[i].clone()
        if isinstance(term.loss, MultiLoss):
            found |= numbers(term.loss, f"{path}{term.name}/")
        else:
            found |= {f"{path}{term.name}:{key}": value.clone() for key, value in term.loss.state_dict().items()}
        for key, value in {} if criterion.weighting is None else criterion.weighting.state_dict().items():
            name = f"{path}{term.name}:weighting.{key}" if value.dim() else f"{path}weighting.{key}"
            found[name] = (value[..., i] if value.dim() else value).clone()
    return found


def same(found, expected):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


@torch.no_grad()
def fill(criterion):
    """Give every element of the state a number of its own; all of them could be norms or counts."""
    number = 2
    for key, value in criterion.state_dict().items():
        if key.endswith(("_extra_state", "changed_weights")):
            continue
        if value.dtype == torch.bool:
            value.fill_(True)
            continue
        value.copy_(torch.arange(number, number + value.numel()).reshape(value.shape))
        number += value.numel()
    return criterion


def through_a_file(criterion):
    file = io.BytesIO()
    torch.save(criterion.state_dict(), file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


# --- any two criteria -------------------------------------------------------------------------------

NAMES = ("a", "b", "c", "d.e", "é", "weighting", "0")
LEAVES = st.builds(Spec, st.just(""), st.sampled_from(sorted(LOSSES)), st.booleans())
WEIGHTED = st.sampled_from(sorted(WEIGHTINGS))


@st.composite
def groups(draw, depth=2):
    """Draw a group, its terms of different names, some of them groups."""
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    member = st.one_of(LEAVES, groups(depth - 1)) if depth else LEAVES
    members = tuple(replace(draw(member), name=name) for name in names)
    return Spec("multi", weighting=draw(WEIGHTED), members=members)


def shuffled(data, spec, normalize=True):
    """Put the terms of all groups into another order, and normalise others of them."""
    members = data.draw(st.permutations([shuffled(data, member, normalize) for member in spec.members]))
    normalized = data.draw(st.booleans()) if normalize else spec.normalized
    return replace(spec, members=tuple(members), normalized=normalized)


def changed(data, spec):
    """Make one change, somewhere, after which it is another criterion."""
    inside = [i for i, member in enumerate(spec.members) if member.members]
    if inside and data.draw(st.booleans()):
        i = data.draw(st.sampled_from(inside))
        return replace(spec, members=(*spec.members[:i], changed(data, spec.members[i]), *spec.members[i + 1 :]))
    i = data.draw(st.integers(0, len(spec.members) - 1))
    term = spec.members[i]
    others = [name for name in NAMES if name not in {member.name for member in spec.members}]
    how = data.draw(st.sampled_from(["rename", "another loss", "drop", "add", "another weighting", "group"]))
    if how == "another weighting":
        return replace(spec, weighting=data.draw(WEIGHTED.filter(lambda kind: kind != spec.weighting)))
    if how == "drop" and len(spec.members) > 1:
        return replace(spec, members=spec.members[:i] + spec.members[i + 1 :])
    if how == "add":
        return replace(spec, members=(*spec.members, Spec(others[0])))
    if how == "another loss" and not term.members:
        kind = data.draw(st.sampled_from(sorted(LOSSES)).filter(lambda kind: not alike(kind, term.loss)))
        term = replace(term, loss=kind)
    elif how == "group":
        term = Spec(term.name, members=(replace(term, name="inner"),))
    else:
        term = replace(term, name=data.draw(st.sampled_from(others)))
    return replace(spec, members=(*spec.members[:i], term, *spec.members[i + 1 :]))


def alike(kind, other):
    """A wrapped loss is what it wraps."""
    return kind == other or {kind, other} == {"learned", "wrapped learned"}


@pytest.mark.filterwarnings("ignore::lossreg.errors.CheckpointWarning")
@settings(max_examples=40)
@given(groups(), st.data())
def test_a_number_goes_to_the_term_of_its_name_whatever_the_order(spec, data):
    source = fill(spec.build())
    target = shuffled(data, spec).build()
    target.load_state_dict(through_a_file(source), strict=data.draw(st.booleans()))
    assert same(numbers(target), numbers(source))


@settings(max_examples=40)
@given(groups(), st.data())
def test_a_checkpoint_of_another_criterion_is_refused_and_nothing_is_loaded(spec, data):
    source = fill(spec.build())
    target = shuffled(data, changed(data, spec)).build()
    before = numbers(target)
    with pytest.raises(CheckpointError, match=r"expected .*, found "):
        target.load_state_dict(through_a_file(source), strict=data.draw(st.booleans()))
    assert same(numbers(target), before)


# --- which terms ------------------------------------------------------------------------------------

L1_MSE = (("a", "registered"), ("b", "other registered"))


def test_two_terms_that_changed_places_keep_their_norms():
    criterion = flat(*L1_MSE)
    criterion.loss_funcs[0].norm.fill_(0.5)
    criterion.loss_funcs[1].norm.fill_(50.0)
    swapped = flat(*reversed(L1_MSE))
    swapped.load_state_dict(criterion.state_dict())
    total, values, _ = swapped(torch.tensor([[5.5]]), torch.tensor([[5.0]]))
    assert {name: float(value) for name, value in values.items()} == pytest.approx({"b": 0.25 / 50, "a": 0.5 / 0.5})
    assert float(total) == pytest.approx(1.005)


def test_other_names_are_refused_with_both_lists():
    with pytest.raises(CheckpointError, match=r"expected the terms \['a', 'b'\], found \['a', 'c'\] .*strict=False"):
        flat(*L1_MSE).load_state_dict(flat(L1_MSE[0], ("c", "wrapped")).state_dict())


def test_another_loss_under_a_name_is_refused_with_both():
    with pytest.raises(CheckpointError, match=r"a: expected 'torch/L1Loss', found 'torch/MSELoss'"):
        flat(("a", "registered")).load_state_dict(flat(("a", "other registered")).state_dict())


def test_another_weighting_is_refused_with_both():
    with pytest.raises(CheckpointError, match=r"weighting: expected '.*\.GradNorm', found '.*\.ReLoBRaLo'"):
        flat(*L1_MSE, weighting=GradNorm()).load_state_dict(flat(*L1_MSE, weighting=ReLoBRaLo()).state_dict())


def test_a_loss_by_name_and_its_class_by_hand_are_one():
    by_hand = MultiLoss([LossWrapper(nn.L1Loss(), "a")], [1.0])
    by_hand.loss_funcs[0].norm.fill_(3.0)
    by_name = flat(("a", "registered"))
    by_name.load_state_dict(by_hand.state_dict())
    assert by_name.loss_funcs[0].norm == 3.0


def test_a_class_of_a_script_is_the_same_when_it_is_imported(monkeypatch):
    imported = flat(("a", "learned")).state_dict()
    monkeypatch.setattr(Scaled, "__module__", "__main__")
    flat(("a", "learned")).load_state_dict(imported)
    of_script = flat(("a", "learned")).state_dict()
    monkeypatch.undo()
    flat(("a", "learned")).load_state_dict(of_script)


def test_a_class_of_a_script_is_not_one_of_another_name(monkeypatch):
    imported = flat(("a", "weighted")).state_dict()
    monkeypatch.setattr(Scaled, "__module__", "__main__")
    criterion = flat(("a", "learned"))
    with pytest.raises(CheckpointError, match=r"a: expected '__main__\.Scaled', found '.*\.BCEWithLogitsLoss'"):
        criterion.load_state_dict(imported, strict=False)
    of_script = criterion.state_dict()
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match=r"a: expected '.*\.BCEWithLogitsLoss', found '__main__\.Scaled'"):
        flat(("a", "weighted")).load_state_dict(of_script, strict=False)


@pytest.mark.parametrize("stored", [("local/Before", "before.Before"), ("old.place.Before", "old.place.Before")])
@pytest.mark.parametrize("form", ["{}", "DeepSupervision({})"])
def test_a_loss_that_has_been_renamed_is_known_by_its_alias_and_its_old_path(stored, form):
    lossreg.register("After", aliases=("Before",), targets=("old.place.Before",))(Scaled)
    loss, source = (form.format(text) for text in stored)
    there = StoredTerm("a", loss, source, normalized=True)
    here = StoredTerm("a", form.format("local/After"), form.format(f"{__name__}.Scaled"), normalized=True)
    assert here.is_same_loss(there)
    assert not replace(here, loss=form.format("torch/L1Loss")).is_same_loss(there)


def test_every_loss_that_is_another_one_is_named():
    criterion, other = flat(*L1_MSE), flat(("a", "wrapped"), ("b", "wrapped"))
    with pytest.raises(CheckpointError, match="2 mistakes") as raised:
        criterion.load_state_dict(other.state_dict())
    assert [problem.path for problem in raised.value.problems] == ["a", "b"]


def test_a_text_that_names_no_terms_is_refused():
    state = flat(*L1_MSE).state_dict()
    for text in (torch.zeros(3, dtype=torch.uint8), torch.ones(2), "terms"):
        with pytest.raises(CheckpointError, match="_extra_state: expected the names of the terms"):
            flat(*L1_MSE).load_state_dict({**state, "_extra_state": text})


def test_the_state_of_a_network_is_no_state_of_a_criterion():
    with pytest.raises(
        CheckpointError, match=r"expected the norms of the terms \['a', 'b'\], found \['bias', 'weight'\]"
    ):
        flat(*L1_MSE).load_state_dict(nn.Linear(1, 1).state_dict(), strict=False)


def test_of_the_state_of_a_large_network_the_first_three_keys_are_shown():
    network = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    with pytest.raises(CheckpointError, match=r"found \['0\.bias', '0\.weight', '1\.bias'\]"):
        flat(*L1_MSE).load_state_dict(network.state_dict(), strict=False)


def test_parameters_that_change_places_are_warned_of_since_an_optimizer_goes_by_position():
    criterion = fill(flat(("a", "learned"), ("b", "learned")))
    with pytest.warns(CheckpointWarning, match="an optimizer's state goes by position"):
        flat(("b", "learned"), ("a", "learned")).load_state_dict(criterion.state_dict())


def test_a_term_that_was_not_normalised_has_no_norm_and_that_is_said():
    raw = flat(*L1_MSE, unnormalized=["b"])
    raw.calibrated.fill_(True)
    with pytest.warns(CheckpointWarning, match="no norm for 'b', not normalised there"):
        flat(*L1_MSE).load_state_dict(raw.state_dict())


# --- which numbers ----------------------------------------------------------------------------------

WRONG = {
    "negative norm": ("loss_funcs.1.norm", torch.tensor([-2.0]), "b norm: expected a finite number above 0, found -2"),
    "zero norm": ("loss_funcs.1.norm", torch.tensor([0.0]), "b norm: expected a finite number above 0, found 0"),
    "NaN norm": ("loss_funcs.1.norm", torch.tensor([torch.nan]), "b norm: expected .*, found nan"),
    "infinite norm": ("loss_funcs.1.norm", torch.tensor([torch.inf]), "b norm: expected .*, found inf"),
    "half norm": (
        "loss_funcs.1.norm",
        torch.tensor([2.0]).half(),
        r"b norm: expected float32 of shape \(1,\), found float16 of shape \(1,\)",
    ),
    "integer norm": ("loss_funcs.1.norm", torch.tensor([2]), "expected float32 .*, found int64"),
    "long norm": ("loss_funcs.1.norm", torch.ones(2), r"expected .* of shape \(1,\), found .* of shape \(2,\)"),
    "scalar norm": ("loss_funcs.1.norm", torch.tensor(2.0), r"expected .* of shape \(1,\), found .* of shape \(\)"),
    "no tensor": ("loss_funcs.1.norm", 2.0, "b norm: expected a tensor, found 2.0"),
    "NaN sum": ("loss_funcs.1.norm_sum", torch.tensor(torch.nan).double(), "b norm_sum: expected a finite number"),
    "negative count": (
        "loss_funcs.1.norm_count",
        torch.tensor(-1),
        "b norm_count: expected a count of 0 or more, found -1",
    ),
    "half a count": ("loss_funcs.1.norm_count", torch.tensor(1.0).half(), "b norm_count: expected float64"),
    "long count": ("loss_funcs.1.norm_count", torch.tensor([1]), "b norm_count: expected float64 of shape"),
    "negative skips": ("skipped", torch.tensor([0, -1, 0]), "skipped: expected a count of 0 or more, found -1"),
    "too few skips": ("skipped", torch.tensor([0]), "skipped: expected int64 of shape"),
    "calibrated number": ("calibrated", torch.tensor(1), "calibrated: expected bool"),
    "short weighting": ("weighting.mean_loss", torch.ones(1), "weighting.mean_loss: expected float32 of shape"),
    "negative weighting": (
        "weighting.counts",
        torch.tensor([1.0, -1.0, 0.0]),
        "weighting.counts: expected a count of 0 or more",
    ),
    "norm inside": (
        "loss_funcs.2.loss_func.norm",
        torch.tensor([-1.0]),
        "c loss_func.norm: expected a finite number above 0",
    ),
    "parameter": (
        "loss_funcs.2.loss_func.scale",
        torch.ones(4),
        r"c loss_func.scale: expected the shape \(3,\), found \(4,\)",
    ),
}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("whole", [True, False], ids=["alone", "in a module"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_number_that_cannot_be_is_refused_and_nothing_is_loaded(wrong, whole, strict):
    criterion = flat(*L1_MSE, ("c", "wrapped learned"), weighting=CoV())
    state = fill(flat(*L1_MSE, ("c", "wrapped learned"), weighting=CoV())).state_dict()
    key, value, message = WRONG[wrong]
    assert key in state
    target, prefix = (criterion, "") if whole else (nn.ModuleDict({"criterion": criterion}), "criterion.")
    before = numbers(criterion)
    with pytest.raises(CheckpointError, match=message) as raised:
        target.load_state_dict({prefix + name: v for name, v in {**state, key: value}.items()}, strict)
    assert len(raised.value.problems) == 1
    assert same(numbers(criterion), before)


@pytest.mark.parametrize(
    "key", ["loss_funcs.0.norm", "loss_funcs.0.norm_sum", "calibrated", "skipped", "weighting.counts"]
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_number_that_is_missing_is_refused(key, strict):
    state = dict(flat(*L1_MSE, weighting=CoV()).state_dict())
    del state[key]
    with pytest.raises(CheckpointError, match=r"missing|expected the state"):
        flat(*L1_MSE, weighting=CoV()).load_state_dict(state, strict)


def test_a_parameter_that_is_missing_or_unknown_is_refused_before_anything_is_loaded():
    state = dict(fill(flat(("a", "learned"))).state_dict())
    state["loss_funcs.0.other"] = state.pop("loss_funcs.0.scale")
    criterion = flat(("a", "learned"))
    before = numbers(criterion)
    with pytest.raises(CheckpointError, match=r"(?s)scale: is missing .*other: is not part"):
        criterion.load_state_dict(state)
    assert same(numbers(criterion), before)


def test_a_parameter_that_is_missing_may_be_where_the_load_is_not_strict():
    state = dict(fill(flat(("a", "learned"))).state_dict())
    del state["loss_funcs.0.scale"]
    criterion = flat(("a", "learned"))
    assert criterion.load_state_dict(state, strict=False).missing_keys == ["loss_funcs.0.scale"]
    assert torch.equal(criterion.loss_funcs[0].norm, state["loss_funcs.0.norm"])


def test_a_checkpoint_without_the_criterion_leaves_it_as_it_is():
    learner = nn.ModuleDict({"network": nn.Linear(1, 1), "criterion": fill(flat(*L1_MSE))})
    before = numbers(learner["criterion"])
    network = {key: value for key, value in learner.state_dict().items() if key.startswith("network")}
    learner.load_state_dict(network, strict=False)
    assert same(numbers(learner["criterion"]), before)
    with pytest.raises(RuntimeError, match=r"Missing key.*criterion\.calibrated"):
        learner.load_state_dict(network)
    assert same(numbers(learner["criterion"]), before)


def test_a_sum_that_was_float32_where_there_is_no_float64_is_taken():
    state = fill(flat(("a", "registered"))).state_dict()
    state["loss_funcs.0.norm_sum"] = torch.tensor(7.5)
    criterion = flat(("a", "registered"))
    criterion.load_state_dict(state, assign=True)
    assert (criterion.loss_funcs[0].norm_sum.item(), criterion.loss_funcs[0].norm_sum.dtype) == (7.5, torch.float64)


# --- older checkpoints ------------------------------------------------------------------------------


def older(criterion, *without):
    """Return the state as older programs wrote it: by position, without some keys."""
    dropped = ("_extra_state", "changed_weights", *without)
    return {key: value for key, value in criterion.state_dict().items() if not key.endswith(dropped)}


@pytest.mark.parametrize(
    "without", [(), ("skipped",), ("skipped", "calibrated"), ("skipped", "calibrated", "norm_sum", "norm_count")]
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_without_names_goes_by_position(without, strict):
    inner = MultiLoss([Scaled("c"), create_loss("L1Loss", name="d")], [1.0, 1.0], name="group")
    terms = [create_loss("L1Loss", name="a"), inner]
    source = fill(MultiLoss(terms, [1.0, 1.0]))
    target = MultiLoss(
        [
            create_loss("L1Loss", name="a"),
            MultiLoss([Scaled("c"), create_loss("L1Loss", name="d")], [1.0, 1.0], name="group"),
        ],
        [1.0, 1.0],
    )
    target.load_state_dict(older(source, *without), strict)
    kept = {key for key in numbers(source) if not key.endswith((":skipped", "norm_sum", "norm_count"))}
    found, expected = numbers(target), numbers(source)
    assert same({key: found[key] for key in kept}, {key: expected[key] for key in kept})


def test_a_checkpoint_without_names_and_with_a_weighting_goes_by_position():
    source = fill(flat(*L1_MSE, weighting=DWA()))
    target = flat(*L1_MSE, weighting=DWA())
    target.load_state_dict(older(source))
    assert same(numbers(target), numbers(source))


@pytest.mark.parametrize("strict", [True, False])
def test_a_checkpoint_without_names_of_more_or_fewer_terms_is_refused(strict):
    criterion = flat(*L1_MSE)
    three = older(fill(flat(*L1_MSE, ("c", "learned"))))
    one = older(fill(flat(L1_MSE[0])))
    for state in (one, three, {key: value for key, value in three.items() if "funcs.0" not in key}):
        with pytest.raises(CheckpointError, match=r"expected the norms of the terms \['a', 'b'\], found \['loss_funcs"):
            criterion.load_state_dict(state, strict)
    assert same(numbers(criterion), numbers(flat(*L1_MSE)))


def test_the_norm_of_a_loss_in_an_older_wrapper_becomes_the_wrappers():
    state = {"loss_funcs.0.norm": torch.tensor([2.0]), "loss_funcs.1.loss_func.norm": torch.tensor([4.0])}
    state["loss_funcs.1.loss_func.scale"] = torch.ones(3)
    criterion = flat(("a", "registered"), ("b", "wrapped learned"))
    criterion.load_state_dict(state, strict=True)
    _, values, _ = criterion(torch.tensor([8.0]), torch.tensor([0.0]))
    assert {name: float(value) for name, value in values.items()} == {"a": 8 / 2, "b": 8 / 4}
    assert bool(criterion.calibrated)


class Foreign(nn.Module):
    """A loss as the original's, which its package does not derive from ours: its norm is a parameter."""

    def __init__(self):
        super().__init__()
        self.norm = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, pred_batch, gt_batch, normalize=True):
        value = (pred_batch - gt_batch).abs().mean()
        return (value / self.norm if normalize else value), {}


@pytest.mark.parametrize("build", [Foreign, lambda: Scaled("inner")])
@pytest.mark.parametrize("key", ["norm", "loss_func.norm"])
def test_an_older_norm_of_a_loss_or_of_its_wrapper_serves_both(key, build):
    criterion = MultiLoss([LossWrapper(build(), "a")], [1.0])
    state = {f"loss_funcs.0.{key}": torch.tensor([4.0])}
    state |= {k: v for k, v in criterion.state_dict().items() if k.endswith("scale")}
    criterion.load_state_dict(state, strict=True)
    assert criterion(torch.tensor([8.0]), torch.tensor([0.0]))[0].detach() == 8 / 4


def test_a_wrapped_loss_that_an_older_program_did_not_normalise_stays_raw_and_that_is_said():
    criterion = flat(("a", "registered"), ("b", "wrapped"))
    with pytest.warns(CheckpointWarning, match="no norm for 'b'"):
        criterion.load_state_dict({"loss_funcs.0.norm": torch.tensor([2.0])}, strict=True)
    assert [loss.norm.item() for loss in criterion.loss_funcs] == [2.0, 1.0]


def test_an_older_norm_that_divides_nothing_is_refused():
    with pytest.raises(CheckpointError, match="a norm: expected a finite number above 0, found 0"):
        flat(("a", "registered")).load_state_dict({"loss_funcs.0.norm": torch.tensor([0.0])})


def test_a_checkpoint_of_a_norm_alone_goes_on_from_it_under_running_norms():
    criterion = flat(("a", "registered"), track_norms="running", norm_momentum=0.01)
    criterion.load_state_dict({"loss_funcs.0.norm": torch.tensor([3.0])})
    criterion(torch.tensor([100.0]), torch.tensor([0.0]))
    assert float(criterion.loss_funcs[0].norm) == pytest.approx(3 + 0.01 * (100 - 3))  # 3.97


def test_a_norm_set_by_hand_goes_on_from_it_under_running_norms():
    criterion = flat(("a", "registered"), track_norms="running", norm_momentum=0.01)
    criterion.loss_funcs[0].norm.fill_(3.0)
    criterion(torch.tensor([100.0]), torch.tensor([0.0]))
    assert float(criterion.loss_funcs[0].norm) == pytest.approx(3.97)


# --- what else goes by position ---------------------------------------------------------------------


class Offset(Preprocess):
    """A preprocess that learns."""

    def __init__(self, key):
        super().__init__()
        self.provides = (f"pred.{key}",)
        self.offset = nn.Parameter(torch.zeros(1))

    def compute(self, pred_batch, gt_batch):
        return {self.provides[0]: pred_batch["x"] + self.offset}


def with_offsets(*keys):
    return MultiLoss([LossWrapper(nn.L1Loss(), "a", pred_key="x", gt_key="y")], [1.0], pre_processes=map(Offset, keys))


@pytest.mark.filterwarnings("ignore::lossreg.errors.CheckpointWarning")
def test_preprocesses_that_changed_places_keep_their_numbers():
    source, target = with_offsets("u", "v"), with_offsets("v", "u")
    with torch.no_grad():
        for number, node in enumerate(source.pre_processes, 5):
            node.offset.fill_(number)
    target.load_state_dict(source.state_dict())
    offsets = [{node.provides[0]: node.offset.item() for node in c.pre_processes} for c in (source, target)]
    assert offsets[0] == offsets[1]


def test_another_preprocess_with_a_state_is_refused():
    with pytest.raises(CheckpointError, match=r"pre_processes: expected \['.*Offset\(pred.u\)'\], found \['.*v\)'\]"):
        with_offsets("u").load_state_dict(with_offsets("v").state_dict())


class Pairs(Weighting):
    """A weighting of a user's own, with a state that its last axis does not count the terms of."""

    def bind(self, names):
        super().bind(names)
        self.register_buffer("pairs", torch.zeros(3))

    def forward(self, values, active=None, epoch=None):
        return values


def test_a_weighting_whose_state_cannot_be_reordered_says_so_before_anything_is_loaded():
    source = fill(flat(*L1_MSE, weighting=Pairs()))
    flat(*L1_MSE, weighting=Pairs()).load_state_dict(source.state_dict())
    criterion = flat(*reversed(L1_MSE), weighting=Pairs())
    before = numbers_of_losses(criterion)
    with pytest.raises(NotImplementedError, match=r"Pairs: .*'pairs', of shape \(3,\), does not count the 2 terms"):
        criterion.load_state_dict(source.state_dict())
    assert same(numbers_of_losses(criterion), before)


def numbers_of_losses(criterion):
    return {key: value.clone() for key, value in criterion.loss_funcs.state_dict().items()}


# --- every road -------------------------------------------------------------------------------------


def swapped_pair(**options):
    terms = (("a", "registered"), ("b", "other registered"), ("c", "wrapped"))
    return fill(flat(*terms, **options)), flat(*reversed(terms), **options)


def test_a_module_around_it_loads_by_name():
    source, target = swapped_pair(weighting=SoftAdapt(order=2))
    nn.ModuleDict({"criterion": target}).load_state_dict({f"criterion.{k}": v for k, v in source.state_dict().items()})
    assert same(numbers(target), numbers(source))


def test_a_compiled_criterion_loads_by_name():
    source, target = swapped_pair()
    compiled = torch.compile(target, backend="eager")
    compiled.load_state_dict(torch.compile(source, backend="eager").state_dict())
    assert same(numbers(target), numbers(source))


def test_assigning_onto_meta_loads_by_name():
    source, _ = swapped_pair(weighting=DWA())
    with torch.device("meta"):
        _, target = swapped_pair(weighting=DWA())
    target.load_state_dict(source.state_dict(), assign=True)
    assert same(numbers(target), numbers(source))


@pytest.mark.parametrize("without", [(), ("skipped", "calibrated", "norm_sum", "norm_count")])
def test_assigning_an_older_checkpoint_onto_meta_leaves_nothing_on_meta(without):
    source = fill(flat(*L1_MSE))
    with torch.device("meta"):
        target = flat(*L1_MSE)
    target.load_state_dict(older(source, *without), assign=True)
    assert {value.device.type for value in target.state_dict().values()} == {"cpu"}
    assert [loss.norm.item() for loss in target.loss_funcs] == [loss.norm.item() for loss in source.loss_funcs]


def test_a_state_dict_that_aliases_the_criterion_is_copied_before_it_moves():
    source, target = swapped_pair(weighting=DWA())
    expected = numbers(source)
    state = target.state_dict()  # as torch.distributed.checkpoint fills it in place
    for key, value in source.state_dict().items():
        state[key].copy_(value)
    target.load_state_dict(state)
    assert same(numbers(target), expected)


@pytest.mark.filterwarnings("ignore:torch.distributed is ", "ignore:TypedStorage is deprecated")  # the latter: 2.6
def test_distributed_checkpoints_load_by_name(tmp_path):
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    source, target = swapped_pair(weighting=DWA())
    learner = nn.ModuleDict({"network": nn.Linear(1, 1), "criterion": source})
    other = nn.ModuleDict({"network": nn.Linear(1, 1), "criterion": target})
    alone = (
        {"no_dist": True} if "no_dist" in inspect.signature(dcp.save).parameters else {}
    )  # torch 2.6 finds out itself
    dcp.save(get_model_state_dict(learner), checkpoint_id=tmp_path, **alone)
    state = get_model_state_dict(other)
    dcp.load(state, checkpoint_id=tmp_path, **alone)
    set_model_state_dict(other, state)
    assert same(numbers(target), numbers(source))


def test_the_callers_state_dict_stays_as_it_is():
    source, target = swapped_pair(weighting=CoV())
    state = source.state_dict()
    before = {key: value.clone() for key, value in state.items()}
    target.load_state_dict(state)
    assert state.keys() == before.keys()
    assert all(torch.equal(state[key], value) for key, value in before.items())
