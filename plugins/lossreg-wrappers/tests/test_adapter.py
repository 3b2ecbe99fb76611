"""Conversions of the model's output to the form that a loss takes, and the errors if there is none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lossreg_wrappers.adapter import LibraryLoss
from lossreg_wrappers.forms import Form, choose
from torch import nn

import lossreg
from lossreg.errors import RangeError, ShapeError

LOGITS = torch.linspace(-4, 4, 2 * 3 * 4 * 4).reshape(2, 3, 4, 4)
MASK = (torch.arange(2 * 3 * 4 * 4) % 2).float().reshape(2, 3, 4, 4)
CLASSES = torch.arange(2 * 4 * 4).reshape(2, 4, 4) % 3

BINARY = nn.functional.binary_cross_entropy_with_logits(LOGITS, MASK)
MULTI = nn.functional.cross_entropy(LOGITS, CLASSES)


@pytest.mark.parametrize(
    ("loss", "given_as", "pred", "gt", "expected"),
    [
        ("BCELoss", "logits", LOGITS, MASK, BINARY),
        ("BCELoss", "probabilities", LOGITS.sigmoid(), MASK, BINARY),
        ("BCEWithLogitsLoss", "logits", LOGITS, MASK, BINARY),
        ("BCEWithLogitsLoss", "probabilities", LOGITS.sigmoid(), MASK, BINARY),
        ("CrossEntropyLoss", "logits", LOGITS, CLASSES, MULTI),
        ("CrossEntropyLoss", "probabilities", LOGITS.softmax(1), CLASSES, MULTI),
        ("NLLLoss", "logits", LOGITS, CLASSES, MULTI),
        ("NLLLoss", "probabilities", LOGITS.softmax(1), CLASSES, MULTI),
    ],
)
def test_one_output_feeds_losses_of_both_kinds(term, loss, given_as, pred, gt, expected):
    total, _, _ = term({"loss": f"torch/{loss}", "input": given_as})(pred, gt)
    torch.testing.assert_close(total, expected)


def test_conversion_follows_the_class_axis(term):
    logits = torch.randn(12, 2, 5)
    gt = {
        "targets": torch.randint(1, 5, (2, 4)),
        "input_lengths": torch.tensor([12, 12]),
        "target_lengths": torch.tensor([4, 4]),
    }
    total, _, _ = term({"loss": "torch/CTCLoss", "input": "logits"})({"log_probs": logits}, gt)
    torch.testing.assert_close(total, nn.CTCLoss()(logits.log_softmax(-1), *gt.values()))


@given(st.floats(0, 1, width=32))
def test_converted_probabilities_give_finite_gradients(probability):
    p = torch.full((1, 1, 1, 1), probability, requires_grad=True)
    made = LibraryLoss(nn.BCEWithLogitsLoss(), takes="sigmoid logits", target="mask", input="probabilities")
    value, _ = made(p, torch.ones(1, 1, 1, 1))
    value.backward()
    assert value.isfinite()
    assert p.grad.isfinite().all()


def test_the_conversion_compiles_without_a_break(term):
    made = term({"loss": "torch/BCELoss", "input": "logits"}).loss_funcs[0]
    compiled = torch.compile(made, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(LOGITS, MASK)[0], BINARY)


def test_logits_where_probabilities_are_taken_are_seen_at_the_first_batch():
    with pytest.raises(RangeError, match=r"(?m)expected 0 to 1; if the model returns logits, set `input: logits`$"):
        lossreg.create_loss("torch/BCELoss")(LOGITS, MASK)


def test_logits_under_a_term_that_says_probabilities_are_seen_at_the_first_batch(term):
    built = term({"loss": "torch/BCEWithLogitsLoss", "input": "probabilities"})
    with pytest.raises(RangeError, match="set `input: logits` or leave `input` out"):
        built(LOGITS, MASK)


def test_what_is_said_to_be_what_the_loss_takes_and_is_not_is_seen_at_the_first_batch(term):
    with pytest.raises(RangeError, match=r"(?m)expected 0 to 1; if the model returns logits, set `input: logits`$"):
        term({"loss": "torch/BCELoss", "input": "probabilities"})(LOGITS, MASK)


def test_logits_where_log_probabilities_are_taken_are_seen_at_the_first_batch():
    with pytest.raises(RangeError, match="set `input: logits` or `input: probabilities`"):
        lossreg.create_loss("torch/NLLLoss")(LOGITS, CLASSES)


def test_input_without_meaning_is_an_error_at_build(term):
    with pytest.raises(lossreg.ConfigError, match="`input: logits` has no effect"):
        term({"loss": "torch/MSELoss", "input": "logits"})


def test_an_unknown_input_is_an_error_at_build(term):
    with pytest.raises(lossreg.ConfigError, match="input: expected 'logits' or 'probabilities'"):
        term({"loss": "torch/BCELoss", "input": "sigmoid"})


def test_conversion_needs_an_activation():
    with pytest.raises(ValueError, match=r"with these arguments its activation is not known; set it"):
        LibraryLoss(nn.BCELoss(), "bce", takes="probabilities", input="logits", advice="set it")


def test_a_target_of_another_shape_is_an_error_that_says_what_to_write():
    made = LibraryLoss(nn.MSELoss(), "dice", takes="values", target="one-hot", advice="set `to_onehot_y: true`")
    with pytest.raises(ShapeError, match=r"has shape \(2, 4, 4\).*\(2, 3, 4, 4\).*set `to_onehot_y: true`"):
        made(LOGITS, CLASSES)


def test_keys_of_many_arguments_can_be_renamed(term):
    pred = {"a": torch.randn(4, 6), "b": torch.randn(4, 6)}
    gt = {"alike": torch.ones(4), "other": torch.zeros(4)}
    built = term({"loss": "torch/CosineEmbeddingLoss", "wrap": {"inputs": ["pred.a", "pred.b", "gt.alike"]}})
    torch.testing.assert_close(built(pred, gt)[0], nn.CosineEmbeddingLoss()(pred["a"], pred["b"], gt["alike"]))


def test_the_only_key_of_a_side_can_be_renamed_alone(term):
    pred = {"input1": torch.randn(4, 6), "input2": torch.randn(4, 6)}
    gt = {"alike": torch.ones(4), "other": torch.zeros(4)}
    built = term({"loss": "torch/CosineEmbeddingLoss", "gt_key": "alike"})
    torch.testing.assert_close(built(pred, gt)[0], nn.CosineEmbeddingLoss()(*pred.values(), gt["alike"]))


def test_one_key_for_two_predictions_is_an_error(term):
    with pytest.raises(
        lossreg.ConfigError, match="expected a loss with one key of this side, found 2; list all keys in `inputs`"
    ):
        term({"loss": "torch/CosineEmbeddingLoss", "pred_key": "a"})


@pytest.mark.parametrize(("option", "key"), [("pred_key", "x"), ("gt_key", "y")])
def test_a_key_beside_inputs_of_the_term_is_an_error_at_its_place(term, option, key):
    block = {"loss": "torch/L1Loss", option: key, "wrap": {"inputs": ["pred.a", "gt.b"]}}
    with pytest.raises(lossreg.ConfigError, match=rf"loss_list\[0\]\.{option}: has no effect beside inputs"):
        term(block)


def test_plain_tensors_of_a_loss_become_buffers():
    class Weighted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.ones(3, dtype=torch.float64)

        def forward(self, pred, target):
            return (self.weight * (pred - target)).mean()

    made = LibraryLoss(Weighted(), takes="values")
    assert made.to(torch.float32).loss_func.weight.dtype == torch.float32
    assert set(made.state_dict()) == set(lossreg.LossWrapper(nn.MSELoss()).state_dict())


class Weighted(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.reduction, self.weight = "mean", weight

    def forward(self, pred, target):
        values = self.weight * (pred - target).abs()
        return values if self.reduction == "none" else values.mean()


def from_plain_tensor():
    return LibraryLoss(Weighted(torch.tensor(3.0)), takes="values", unit="values", reduction="sum")


def from_library():
    pytest.importorskip("kornia")
    return lossreg.create_loss("kornia/FocalLoss", alpha=0.5, weight=[1.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("make", "target"),
    [(from_library, CLASSES), (from_plain_tensor, MASK)],
)
def test_constants_of_a_loss_are_right_after_meta_and_a_checkpoint(make, target):
    original, other = make(), make().to("meta").to_empty(device="cpu")
    for buffer in other.buffers():
        buffer.fill_(77)
    other.load_state_dict(original.state_dict())
    assert torch.equal(other.loss_func.weight, original.loss_func.weight)
    torch.testing.assert_close(other(LOGITS, target)[0], original(LOGITS, target)[0])


def test_values_of_elements_follow_a_plain_tensor_of_the_loss():
    made = from_plain_tensor().double()
    (values,) = made._unreduced
    assert values.weight is made.loss_func.weight
    torch.testing.assert_close(made(LOGITS.double(), MASK)[0], 3.0 * (LOGITS.double() - MASK).abs().sum())


def test_a_constant_that_a_loss_makes_on_meta_is_named_where_a_checkpoint_is_loaded():
    with torch.device("meta"):
        made = LibraryLoss(Weighted(torch.tensor(3.0)), takes="values")
    with pytest.raises(lossreg.LossregError, match="Weighted: its constant 'weight' was made on meta"):
        made.load_state_dict(LibraryLoss(Weighted(torch.tensor(3.0)), takes="values").state_dict(), assign=True)


@pytest.mark.parametrize("text", ["logit", "tanh logits", "softmax", ""])
def test_a_malformed_form_is_refused(text):
    with pytest.raises(ValueError, match="takes: expected"):
        Form.parse(text)


def test_the_first_rule_that_holds_is_chosen():
    class Inner(nn.Module):
        sigmoid = True

    class Outer(nn.Module):
        dice = Inner()
        softmax = False

    rules = (
        ({"softmax": True}, "softmax logits"),
        ({"dice.sigmoid": True}, "sigmoid logits"),
        ({}, "values"),
    )
    assert choose(rules, Outer()) == "sigmoid logits"
