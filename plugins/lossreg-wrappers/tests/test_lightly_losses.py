"""Plugin `lightly`: every public loss of `lightly.loss`, with its values."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

import lossreg
from lossreg.errors import MissingKeyError
from lossreg.registry import catalog

PLUGIN = "lightly"

NO_LOSSES = {"VISRegLossComponents", "Whitening2d"}  # what a loss returns beside its value, and a layer


def _library():
    import lightly.loss

    return lightly.loss


def test_every_public_loss_is_offered():
    public = {name for name, member in vars(_library()).items() if inspect.isclass(member)}
    assert {entry.spec.name for entry in catalog().losses if entry.plugin.name == "lightly"} == public - NO_LOSSES


def test_value_and_gradient_are_the_librarys(entry, compare):
    compare(entry, getattr(_library(), entry.spec.name))


def test_dino_takes_lists_of_crops_and_the_epoch(term, example):
    pred, gt = example(catalog().losses.find("lightly/DINOLoss"))
    options = {"output_dim": 6, "warmup_teacher_temp": 0.02, "warmup_teacher_temp_epochs": 4}
    for epoch in (0, 2, 2.5, 9, None):
        criterion, own = term({"loss": "lightly/DINOLoss", **options}), _library().DINOLoss(**options)
        value = criterion(pred, gt, epoch=epoch)[0]
        expected = own(pred["teacher"], pred["student"], epoch=None if epoch is None else int(epoch))
        torch.testing.assert_close(value, expected)
    with pytest.raises(lossreg.ConfigError, match="takes the epoch, and each epoch would compile it again"):
        lossreg.build_compound_loss_from_config({"loss_list": ["lightly/DINOLoss"], "compile": True})


def test_its_centre_is_state_of_the_criterion(term, example):
    pred, gt = example(catalog().losses.find("lightly/DINOLoss"))
    criterion = term({"loss": "lightly/DINOLoss", "output_dim": 6})
    criterion(pred, gt)
    other = term({"loss": "lightly/DINOLoss", "output_dim": 6})
    other.load_state_dict(criterion.state_dict())
    assert torch.equal(other(pred, gt)[0], criterion(pred, gt)[0])


def test_an_input_that_a_batch_may_lack_is_passed_where_it_is_there(term, example):
    pred, gt = example(catalog().losses.find("lightly/SwaVLoss"))
    queue = [torch.randn(4, 6).tanh() for _ in range(2)]
    criterion, own = term({"loss": "lightly/SwaVLoss"}), _library().SwaVLoss()
    crops = pred["high_resolution"], pred["low_resolution"]
    torch.testing.assert_close(criterion(pred, gt)[0], own(*crops).squeeze())
    torch.testing.assert_close(criterion({**pred, "queue": queue}, gt)[0], own(*crops, queue).squeeze())
    with pytest.raises(MissingKeyError, match=r"needs 'pred.low_resolution'"):
        criterion({"high_resolution": crops[0]}, gt)


def test_keys_of_views_are_renamed_one_by_one(term):
    first, second = torch.randn(2, 8, 6).unbind()
    wrap = {"inputs": ["pred.a", "pred.b"]}
    value = term({"loss": "lightly/NTXentLoss", "wrap": wrap})({"a": first, "b": second}, {})[0]
    torch.testing.assert_close(value, _library().NTXentLoss()(first, second))
    wrap = {"inputs": {"local_proj": "pred.small"}}
    crops = {"small": torch.randn(2, 8, 6), "global": torch.randn(2, 8, 6)}
    value = term({"loss": "lightly/LeJEPALoss", "lambda_param": 0.0, "wrap": wrap})(crops, {})[0]
    own = _library().LeJEPALoss(lambda_param=0.0)
    torch.testing.assert_close(value, own(local_proj=crops["small"], global_proj=crops["global"]))


def test_a_step_of_training_with_lists_of_crops(term):
    torch.manual_seed(0)
    model = nn.Linear(5, 6)
    criterion = term(
        {"loss": "lightly/DINOLoss", "output_dim": 6, "weight": 1.0, "normalize": False},
        {"loss": "lightly/KoLeoLoss", "weight": [0.0, 0.1], "epoch_thresholds": [0, 2]},
    )
    images = [torch.randn(8, 5) for _ in range(3)]
    student = [model(image) for image in images]
    batch = {"teacher": [out.detach() for out in student[:2]], "student": student, "embeddings": student[0]}
    criterion.update_norm(batch, {}, nums=8)
    total, terms, _ = criterion(batch, {}, epoch=1)
    total.backward()
    assert set(terms) == {"DINOLoss", "KoLeoLoss"}
    assert model.weight.grad.abs().sum() > 0
