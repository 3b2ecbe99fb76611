"""Windows over micro-batches: what they refuse, what they move, and what is told of their forwards."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from lossreg import FromDict, Loss, LossWrapper, MultiLoss, Preprocess
from lossreg import build_compound_loss_from_config as build
from lossreg.composition.weighting.cov import CoV
from lossreg.composition.weighting.dwa import DWA
from lossreg.composition.weighting.gradnorm import GradNorm
from lossreg.composition.weighting.relobralo import ReLoBRaLo
from lossreg.composition.weighting.softadapt import SoftAdapt
from lossreg.composition.weighting.uncertainty import Uncertainty
from lossreg.composition.window import samples_in
from lossreg.errors import CountError, DistributedError, WeightingError, WindowError

SIZES = [3, 1, 0, 4]


def heights(name="height", **options):
    loss = LossWrapper(nn.L1Loss(), name, pred_key=name, gt_key=name, **options)
    loss.take_mask("gt.valid")
    return loss


def make(**options):
    """Return a criterion of a term, and a group with another."""
    inner = MultiLoss([heights("width")], [3.0], name="group", weighting=options.pop("inner", None))
    return MultiLoss([heights(), inner], [2.0, 0.5], **options).train()


def batches(sizes=SIZES, seed=0, **changes):
    """Return (predictions, targets) of micro-batches, and the joined batch; the predictions are one leaf."""
    generator = torch.Generator().manual_seed(seed)
    n = sum(sizes)
    leaf = torch.rand(n, 2, 5, generator=generator, dtype=torch.float64).requires_grad_()
    targets = {key: torch.rand(n, 5, generator=generator, dtype=torch.float64) for key in ("height", "width")}
    targets["valid"] = torch.rand(n, 5, generator=generator) < 0.6
    targets |= {key: change(targets) for key, change in changes.items()}
    whole = {"height": leaf[:, 0], "width": leaf[:, 1]}
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    cut = [
        ({k: v[end - size : end] for k, v in whole.items()}, {k: v[end - size : end] for k, v in targets.items()})
        for size, end in zip(sizes, ends, strict=True)
    ]
    return leaf, cut, (whole, targets)


def gradient(total: Tensor, leaf: Tensor) -> Tensor:
    return torch.autograd.grad(total, leaf, retain_graph=True)[0]


def in_window(criterion, cut, leaf, **options):
    """Return the sum of the micro-batches' gradients."""
    found = torch.zeros_like(leaf)
    with criterion.window([targets for _, targets in cut]):
        for pred, targets in cut:
            found += gradient(criterion(pred, targets, **options)[0], leaf)
    return found


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # of the compiler, which looks at predictions
@pytest.mark.parametrize("compiled", [False, True])
def test_the_parts_add_up_to_the_whole(compiled):
    leaf, cut, whole = batches()
    criterion = make()
    if compiled:
        criterion.compile(fullgraph=True, backend="eager", dynamic=True)
    assert torch.allclose(in_window(criterion, cut, leaf), gradient(make()(*whole)[0], leaf), rtol=1e-12, atol=0)


@pytest.mark.parametrize("place", ["outer", "inner"])
@pytest.mark.parametrize("weighting", [CoV, DWA, ReLoBRaLo, SoftAdapt])
def test_weightings_move_once_by_the_means_of_the_window(weighting, place):
    key = "weighting" if place == "outer" else "inner"
    joined, cut_up = make(**{key: weighting()}), make(**{key: weighting()})
    for seed in range(3):
        leaf, cut, whole = batches(seed=seed)
        joined(*whole, epoch=seed)
        before = {path: float(c) for path, c in cut_up.coefficients().items()}
        in_window(cut_up, cut, leaf, epoch=seed)
        held = {path: float(record.coefficient) for path, record in cut_up.last_record.items()}
        assert all(held[path] == pytest.approx(before[path]) for path in held)
        states = [{k: v for k, v in c.state_dict().items() if "weighting" in k} for c in (joined, cut_up)]
        assert states[0]
        for name, state in states[0].items():
            torch.testing.assert_close(states[1][name], state, rtol=1e-5, atol=1e-6)


def test_the_parameters_of_uncertainty_have_the_gradient_of_the_joined_batch():
    joined, cut_up = make(weighting=Uncertainty()), make(weighting=Uncertainty())
    _, cut, whole = batches()
    joined(*whole)[0].backward()
    with cut_up.window([targets for _, targets in cut]):
        for pred, targets in cut:
            cut_up(pred, targets)[0].backward()
    torch.testing.assert_close(cut_up.weighting.s.grad, joined.weighting.s.grad)


def test_a_term_over_nothing_is_absent_from_a_weighting():
    criterion = make(weighting=Uncertainty())
    leaf, cut, _ = batches(valid=lambda targets: torch.zeros_like(targets["height"], dtype=torch.bool))
    found = in_window(criterion, cut, leaf)
    assert torch.equal(found, torch.zeros_like(leaf))
    assert not criterion.weighting.s.grad_fn
    assert float(criterion.last_record.total) == 0.0


def test_what_is_told_of_a_forward_is_its_own():
    criterion, (_, cut, _) = make(), batches()
    with criterion.window([targets for _, targets in cut]):
        for pred, targets in cut:
            total, values, _ = criterion(pred, targets)
            record = criterion.last_record
            valid = targets["valid"]
            own = (pred["height"] - targets["height"]).detach().abs()[valid]
            assert float(values["height"]) == pytest.approx(float(own.mean()) if len(own) else 0.0, rel=1e-6)
            assert float(record["height"].count) == int(valid.sum())
            assert float(record.total) == pytest.approx(float(total.detach()))
            parts = [float(entry.contribution) for entry in record.values()]
            assert sum(parts) == pytest.approx(float(total.detach()))


def test_running_norms_move_by_the_mean_of_the_window():
    joined, cut_up = make(track_norms="running"), make(track_norms="running")
    leaf, cut, whole = batches()
    joined(*whole)
    in_window(cut_up, cut, leaf)
    assert float(cut_up.loss_funcs[0].norm) == pytest.approx(float(joined.loss_funcs[0].norm), rel=1e-6) != 1.0


def test_in_eval_nothing_moves():
    criterion = make(track_norms="running", weighting=DWA()).eval()
    before = copy.deepcopy(criterion.state_dict())
    leaf, cut, _ = batches()
    in_window(criterion, cut, leaf, epoch=0)
    assert all(torch.equal(state, before[name]) for name, state in criterion.state_dict().items())


def test_after_an_exception_nothing_has_moved_and_the_window_is_closed():
    criterion = make(track_norms="running", weighting=DWA())
    before = copy.deepcopy(criterion.state_dict())
    leaf, cut, whole = batches()

    def interrupted():
        with criterion.window([targets for _, targets in cut]):
            criterion(*cut[0], epoch=0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert all(torch.equal(state, before[name]) for name, state in criterion.state_dict().items())
    expected = gradient(make(weighting=DWA())(*whole, epoch=0)[0], leaf)
    assert torch.equal(gradient(criterion(*whole, epoch=0)[0], leaf), expected)


@pytest.mark.parametrize(
    "use",
    [
        pytest.param(lambda cut: cut[:-1], id="one left out"),
        pytest.param(lambda cut: [*cut, cut[0]], id="one twice"),
        pytest.param(lambda cut: [], id="none"),
    ],
)
def test_other_forwards_than_the_window_was_given_are_refused(use):
    criterion, (_, cut, _) = make(), batches()

    def run():
        with criterion.window([targets for _, targets in cut]):
            for pred, targets in use(cut):
                criterion(pred, targets)

    with pytest.raises(WindowError, match=r"term 'height': expected forwards over \d+ elements.*found \d+; call"):
        run()


@pytest.mark.parametrize(
    ("given", "found"), [({"height": torch.ones(2, 2)}, "a single batch"), (iter([{}]), "an iterator, read only once")]
)
def test_a_window_is_over_a_list_of_batches(given, found):
    with pytest.raises(WindowError, match=f"window: expected a list of micro-batches, found {found}"):
        make().window(given).__enter__()


def test_a_window_inside_of_a_window_is_refused():
    criterion = make()
    with criterion.window([]), pytest.raises(WindowError, match="one is open"), criterion.window([]):
        pass


def test_a_function_that_may_change_targets_is_refused():
    _, cut, _ = batches()
    criterion = make(pre_processes=[lambda pred, gt: (pred, gt)])
    with pytest.raises(WindowError, match="preprocess '<lambda>' may change the targets"):
        criterion.window([targets for _, targets in cut]).__enter__()


class Halves(Preprocess):
    """A target made of another."""

    requires = ("gt.raw",)
    provides = ("gt.height",)

    def compute(self, pred_batch, gt_batch):
        return {"gt.height": gt_batch["raw"] / 2}


def test_preprocesses_of_targets_run_before_they_are_counted():
    leaf, cut, whole = batches(raw=lambda targets: targets["height"].clone())
    for _, targets in [*cut, whole]:
        del targets["height"]
    found = in_window(make(pre_processes=[Halves()]), cut, leaf)
    expected = gradient(make(pre_processes=[Halves()])(*whole)[0], leaf)
    assert torch.allclose(found, expected, rtol=1e-12, atol=0)


class Plain(Loss):
    """A scalar of the whole batch."""

    requires = ("pred.height", "gt.height")

    def compute(self, pred_batch, gt_batch):
        return (pred_batch["height"] - gt_batch["height"]).square().mean()


def test_a_scalar_needs_to_be_approximate():
    leaf, cut, _ = batches([2, 1])
    criterion = MultiLoss([Plain("plain")], [1.0])
    with pytest.raises(CountError, match=r"loss 'plain': its targets do not tell.*`approximate: true`"):
        in_window(criterion, cut, leaf)
    criterion.loss_funcs[0].approximate = True
    values = [criterion(pred, targets)[0].detach() for pred, targets in cut]
    totals = []
    with criterion.window([targets for _, targets in cut]):
        totals = [float(criterion(pred, targets)[0].detach()) for pred, targets in cut]
    assert totals == pytest.approx([float(values[0]) * 2 / 3, float(values[1]) / 3])


def test_the_samples_of_a_list_of_targets_are_those_of_its_first_tensor():
    def gap(levels, target):
        return sum((level - some).abs().mean() for level, some in zip(levels, target, strict=True))

    criterion = MultiLoss([LossWrapper(gap, inputs=["pred.levels", "gt.levels"])], [1.0])
    criterion.loss_funcs[0].approximate = True
    cut = [({"levels": [torch.ones(n, 2)]}, {"other": torch.ones(7), "levels": (torch.zeros(n, 2),)}) for n in (3, 1)]
    with criterion.window([targets for _, targets in cut]):
        totals = [float(criterion(*parts)[0]) for parts in cut]
    assert totals == pytest.approx([3 / 4, 1 / 4])


def test_an_optional_term_counts_where_its_targets_are():
    leaf, cut, _ = batches([2, 3, 1])
    del cut[1][1]["width"]
    criterion = MultiLoss([heights(), heights("width")], [1.0, 1.0], optional_terms=["width"])
    found = in_window(criterion, cut, leaf)
    there = [i for i, (_, targets) in enumerate(cut) if "width" in targets]
    kept = [(cut[i][0]["width"] - cut[i][1]["width"]).abs()[cut[i][1]["valid"]] for i in there]
    expected = gradient(torch.cat(kept).mean(), leaf)
    assert torch.allclose(found[:, 1], expected[:, 1], rtol=1e-6)


def test_a_term_that_is_not_finite_is_left_out_of_its_micro_batch():
    leaf, cut, _ = batches()
    cut[0][1]["height"] = torch.full_like(cut[0][1]["height"], torch.inf)
    criterion = make(on_nonfinite="skip_term")
    found = in_window(criterion, cut, leaf)
    assert criterion.skipped.tolist() == [1, 0]
    assert torch.equal(found[:3, 0], torch.zeros(3, 5, dtype=torch.float64))
    others = torch.cat([(pred["height"] - gt["height"]).abs()[gt["valid"]] for pred, gt in cut[1:]])
    counted = sum(int(gt["valid"].sum()) for _, gt in cut)
    assert torch.allclose(found[3:, 0], gradient(2 * others.sum() / counted, leaf)[3:, 0])


def test_gradients_may_be_scaled():
    leaf, cut, whole = batches()
    criterion, scaler = make(), torch.amp.GradScaler("cpu", init_scale=1024.0)
    with criterion.window([targets for _, targets in cut]):
        for pred, targets in cut:
            scaler.scale(criterion(pred, targets)[0]).backward(retain_graph=True)
    assert torch.allclose(leaf.grad / 1024.0, gradient(make()(*whole)[0], leaf), rtol=1e-12, atol=0)


def test_a_forward_without_gradients_is_no_part_of_it():
    leaf, cut, whole = batches()
    criterion, found = make(), torch.zeros_like(leaf)
    with criterion.window([targets for _, targets in cut]):
        for pred, targets in cut:
            found += gradient(criterion(pred, targets)[0], leaf)
            with torch.no_grad():
                evaluated = criterion(*whole)[0]
    assert torch.allclose(found, gradient(make()(*whole)[0], leaf), rtol=1e-12, atol=0)
    assert torch.equal(evaluated, make()(*whole)[0])


def test_gradnorm_works_in_no_window():
    with pytest.raises(WeightingError, match="GradNorm does not work in a window over micro-batches"):
        make(weighting=GradNorm()).window([]).__enter__()


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
def test_in_a_larger_compiled_function_it_runs_as_it_is():
    leaf, cut, whole = batches()
    criterion = make(weighting=DWA())
    step = torch.compile(lambda pred, gt: criterion(pred, gt, epoch=0)[0], backend="eager")
    found = torch.zeros_like(leaf)
    with criterion.window([targets for _, targets in cut]):
        for part in cut:
            found += gradient(step(*part), leaf)
    assert torch.allclose(found, gradient(make()(*whole)[0], leaf), rtol=1e-12, atol=0)


def test_copies_have_no_window():
    criterion = make()
    with criterion.window([]):
        for copied in (copy.deepcopy(criterion), pickle.loads(pickle.dumps(criterion))):
            with copied.window([]):
                pass
            assert copied._open_windows == 0
            assert criterion._open_windows == 1


@pytest.mark.needs_plugins
def test_from_a_file():
    leaf, cut, whole = batches(valid=lambda targets: (targets["height"] > 0.5).double())
    term = {"loss": "torch/L1Loss", "pred_key": "height", "gt_key": "height", "mask": "gt.valid"}
    config = {"loss_list": [{**term, "reduction": "per_sample"}], "reduce_over": "ranks"}
    criterion = build(config).train()
    error = (whole[0]["height"] - whole[1]["height"]).abs() * whole[1]["valid"]
    counts = whole[1]["valid"].sum(1)
    expected = (error[counts > 0].sum(1) / counts[counts > 0]).mean()
    assert float(criterion(*whole)[0].detach()) == pytest.approx(float(expected.detach()), rel=1e-6)
    assert torch.allclose(in_window(criterion, cut, leaf), gradient(expected, leaf), rtol=1e-12)


# --- over ranks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [((0, 1), (2, 3)), ((0, 1, 2), (3,)), ((), (0, 1, 2, 3))], ids=str)
def test_the_mean_of_the_ranks_gradients_is_that_of_the_joined_batch(on_ranks, shares):
    leaf, cut, whole = batches()
    found = on_ranks(*(lambda own=own: in_window(make(), [cut[i] for i in own], leaf) for own in shares))
    torch.testing.assert_close(sum(found) / len(found), gradient(make()(*whole)[0], leaf), rtol=1e-12, atol=0)


def forwards(criterion, parts, leaf):
    """Return the sum of the gradients of forwards, each a window of its own over the ranks."""
    return sum(gradient(criterion(*part, epoch=epoch)[0], leaf) for epoch, part in enumerate(parts))


@pytest.mark.parametrize("grouped", [False, True])
def test_with_reduce_over_each_forward_is_a_window_over_the_ranks(on_ranks, grouped):
    leaf, cut, _ = batches([3, 1, 2, 4])
    criteria = [make(reduce_over="ranks") for _ in range(2)]
    if grouped:
        criteria = [MultiLoss([criterion], [1.0], reduce_over="ranks") for criterion in criteria]
    shares = [[cut[0], cut[2]], [cut[1], cut[3]]]
    found = on_ranks(*(lambda c=c, own=own: forwards(c, own, leaf) for c, own in zip(criteria, shares, strict=True)))
    joined = [
        tuple({key: torch.cat([part[side][key] for part in parts]) for key in parts[0][side]} for side in range(2))
        for parts in zip(*shares, strict=True)
    ]
    torch.testing.assert_close(sum(found) / 2, forwards(make(), joined, leaf), rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{"weighting": CoV}, {"inner": DWA}, {"track_norms": "running"}], ids=str)
@pytest.mark.parametrize("reduce_over", [None, "ranks"])
def test_states_move_on_all_ranks_as_by_the_joined_batch(on_ranks, options, reduce_over):
    def fresh(**more):
        return make(**{key: value() if callable(value) else value for key, value in options.items()}, **more)

    joined, criteria = fresh(), [fresh(reduce_over=reduce_over) for _ in range(2)]

    def train(rank):
        for epoch in range(3):
            leaf, cut, _ = batches([3, 4], seed=epoch)
            if reduce_over is None:
                in_window(criteria[rank], [cut[rank]], leaf, epoch=epoch)
            else:
                criteria[rank](*cut[rank], epoch=epoch)

    assert on_ranks(lambda: train(0), lambda: train(1)) == [None, None]
    for epoch in range(3):
        _, _, whole = batches([3, 4], seed=epoch)
        joined(*whole, epoch=epoch)
    for criterion in criteria:
        for name, value in joined.state_dict().items():
            torch.testing.assert_close(criterion.state_dict()[name], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("place", ["weighting", "inner"])
def test_uncertainty_learns_as_from_the_joined_batch(on_ranks, place):
    criteria = [make(**{place: Uncertainty()}) for _ in range(3)]
    parameters = [next(criterion.weighting_parameters()) for criterion in criteria]
    _, cut, whole = batches()

    def train(criterion, own):
        torch.nn.init.constant_(next(criterion.weighting_parameters()), 0.5)
        totals = []
        with criterion.window([targets for _, targets in own]):
            for pred, targets in own:
                total, _, _ = criterion({key: value.detach() for key, value in pred.items()}, targets)
                total.backward()
                totals.append(float(total.detach()))
        return sum(totals)

    first, second = on_ranks(lambda: train(criteria[0], cut[:2]), lambda: train(criteria[1], cut[2:]))
    assert (first + second) / 2 == pytest.approx(train(criteria[2], [whole]))
    for s in parameters:
        torch.testing.assert_close(s.grad, parameters[2].grad)


def test_the_addend_of_a_group_is_added_once_whatever_members_a_micro_batch_has():
    """All values are 0, so that the total is the addend alone: s / 2 times the weight of the group."""
    members = FromDict({"b": 1.0, "c": {"weight": 1.0, "optional": True}}, key="own", name="group", approximate=True)
    criterion = MultiLoss([members], [3.0], weighting=Uncertainty()).train()
    torch.nn.init.constant_(criterion.weighting.s, 0.7)
    parts = [({"own": {"b": torch.zeros(()), "c": torch.zeros(())}}, {"z": torch.zeros(2)})]
    parts += [({"own": {"b": torch.zeros(())}}, {"z": torch.zeros(3)})]
    with criterion.window([targets for _, targets in parts]):
        total = sum(float(criterion(*part)[0].detach()) for part in parts)
    assert total == pytest.approx(3.0 * 0.7 / 2)


def test_targets_that_one_rank_cannot_count_are_an_error_on_all(on_ranks):
    criteria = [MultiLoss([Plain("plain")], [1.0]) for _ in range(2)]
    told, raised = on_ranks(
        lambda: criteria[0].window([]).__enter__(), lambda: criteria[1].window([{"height": torch.ones(2)}]).__enter__()
    )
    assert isinstance(raised, CountError)
    assert str(told) == f"rank 1 failed with CountError: {raised}"


def test_a_window_is_closed_where_the_ranks_differ(on_ranks):
    criteria = [make(), MultiLoss([heights()], [1.0])]
    for error in on_ranks(*(criterion.window([]).__enter__ for criterion in criteria)):
        assert isinstance(error, DistributedError)
    for criterion in criteria:
        with criterion.window([]):
            pass


# --- samples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requires", "targets", "samples"),
    [
        (("gt.b",), {"a": torch.ones(2), "b": torch.ones(3)}, 3),
        (("pred.x", "gt.b", "gt.a"), {"a": torch.ones(2), "b": torch.ones(3)}, 3),
        (("gt.missing",), {"a": torch.ones(2), "b": torch.ones(3)}, 2),
        ((), {"name": "x", "a": torch.ones(2)}, 2),
        (("gt.name",), {"name": "x"}, 1),
        ((), torch.ones(4, 1), 4),
        ((), torch.tensor(1.0), 1),
        ((), None, 1),
    ],
)
def test_the_samples_of_a_micro_batch_are_those_of_its_first_target_that_is_read(requires, targets, samples):
    loss = Plain("plain")
    loss.requires = requires
    assert samples_in(loss, targets) == samples
