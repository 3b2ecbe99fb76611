"""The plan of a criterion is data: what runs in which order, what it reads, and its weight."""

from __future__ import annotations

import json
from typing import Any

import torch

from lossreg import LossWrapper, MultiLoss, Preprocess
from lossreg.composition.schedules import Cosine


class Slope(Preprocess):
    requires, provides = ("pred.height",), ("pred.slope",)

    def compute(self, pred_batch: Any, gt_batch: Any) -> dict[str, torch.Tensor]:
        return {"pred.slope": pred_batch["height"].diff()}


def test_every_item_by_hand() -> None:
    def wrapped(name: str, key: str) -> LossWrapper:
        return LossWrapper(torch.nn.L1Loss(), name, pred_key=key, gt_key=key)

    group = MultiLoss([wrapped("b", "height")], [2], name="group")
    criterion = MultiLoss(
        [wrapped("a", "slope"), group], [1.0, Cosine(0, 1, end_epoch=9)], pre_processes=[Slope()], unnormalized=["a"]
    )
    plan = criterion.plan()
    assert plan == [
        {
            "kind": "preprocess",
            "name": "Slope",
            "requires": ["pred.height"],
            "optional": [],
            "provides": ["pred.slope"],
            "automatic": False,
        },
        {
            "kind": "term",
            "name": "a",
            "requires": ["pred.slope", "gt.slope"],
            "optional": [],
            "weight": 1.0,
            "loss": "LossWrapper",
            "normalize": False,
        },
        {
            "kind": "group",
            "name": "group",
            "requires": ["pred.height", "gt.height"],
            "optional": [],
            "weight": {"schedule": "core/Cosine", "start": 0.0, "end": 1.0, "end_epoch": 9.0},
            "plan": [
                {
                    "kind": "term",
                    "name": "b",
                    "requires": ["pred.height", "gt.height"],
                    "optional": [],
                    "weight": 2.0,
                    "loss": "LossWrapper",
                    "normalize": True,
                }
            ],
        },
    ]
    assert json.loads(json.dumps(plan)) == plan
