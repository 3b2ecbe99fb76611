"""`input: logits | probabilities` on a term reaches whoever wraps the loss, and is refused where nobody does."""

from __future__ import annotations

import pytest
import torch

import lossreg
import lossreg.registry


@pytest.fixture(autouse=True)
def local_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lossreg.registry, "_local", {})
    lossreg.register("Plain")(torch.nn.MSELoss)

    @lossreg.register("Own")
    class Own(lossreg.Loss):
        def compute(self, pred_batch, gt_batch):
            return self.read(pred_batch, gt_batch, "pred.seg").mean()


@pytest.mark.parametrize("name", ["Plain", "Own"])
def test_a_loss_that_does_not_say_what_it_takes_refuses_it(name):
    with pytest.raises(lossreg.ConfigError, match="whether it takes logits or probabilities"):
        lossreg.build_compound_loss_from_config({"loss_list": [{"loss": f"local/{name}", "input": "logits"}]})


def test_another_value_is_an_error_at_its_path():
    with pytest.raises(lossreg.ConfigError) as caught:
        lossreg.build_compound_loss_from_config({"loss_list": [{"loss": "local/Plain", "input": "softmax"}]})
    assert caught.value.problems[0].path == "loss_params.compound_loss.loss_list[0].input"


def test_a_hook_is_given_it(monkeypatch: pytest.MonkeyPatch):
    class Wrapping:
        @lossreg.hookimpl
        def lossreg_wrap(self, loss, name, options):
            return (
                lossreg.LossWrapper(lambda pred, gt: loss(pred.sigmoid(), gt), name) if options.get("input") else None
            )

    manager = lossreg.registry.catalog().manager
    plugin = Wrapping()
    manager.register(plugin, name="wrapping")
    try:
        built = lossreg.build_compound_loss_from_config({"loss_list": [{"loss": "local/Plain", "input": "logits"}]})
    finally:
        manager.unregister(plugin)
    assert float(built(torch.zeros(1), torch.zeros(1))[0]) == 0.25
