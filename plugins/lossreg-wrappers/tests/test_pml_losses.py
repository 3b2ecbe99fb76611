"""Plugin `pml`: every public loss of pytorch-metric-learning, with its values, its miners and other parts by name."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path

import pytest
import torch
import yaml

import lossreg
from lossreg.errors import RangeError
from lossreg.registry import catalog

PLUGIN = "pml"

NO_LOSSES = {
    "BaseLossWrapper": "a base class",
    "BaseMetricLossFunction": "a base class",
    "EmbeddingRegularizerMixin": "a base class",
    "GenericPairLoss": "a base class",
    "MultipleLosses": "a sum of losses; use several terms",
    "WeightRegularizerMixin": "a base class",
}


def _library():
    from pytorch_metric_learning import losses

    return losses


def _batch():
    torch.manual_seed(0)
    return {"embeddings": torch.randn(8, 6)}, {"labels": torch.arange(4).repeat_interleave(2)}


def test_every_public_loss_is_offered():
    public = {name for name, member in vars(_library()).items() if inspect.isclass(member)}
    offered = {entry.spec.name for entry in catalog().losses if entry.plugin.name == "pml"}
    assert offered == public - NO_LOSSES.keys()
    assert public >= NO_LOSSES.keys()


def test_value_and_gradient_are_the_librarys(entry, compare):
    own = _library()
    parts = {"CrossBatchMemory": {"loss": own.ContrastiveLoss()}, "SelfSupervisedLoss": {"loss": own.NTXentLoss()}}
    public = getattr(own, entry.spec.name)
    compare(entry, public, **parts.get(entry.spec.name, {}))


def test_a_miner_is_named_with_its_arguments(term):
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.miners import TripletMarginMiner

    (pred, gt), own = _batch(), _library().TripletMarginLoss(margin=0.1, distance=CosineSimilarity())
    miner = TripletMarginMiner(margin=0.1, type_of_triplets="hard", distance=CosineSimilarity())
    pairs = miner(pred["embeddings"], gt["labels"])
    expected = own(pred["embeddings"], gt["labels"], pairs)
    assert expected != own(pred["embeddings"], gt["labels"])
    options = {"margin": 0.1, "type_of_triplets": "hard", "distance": "CosineSimilarity"}
    for name in ("TripletMarginMiner", "pml/TripletMarginMiner"):
        mined = {"loss": "pml/TripletMarginLoss", "margin": 0.1, "distance": "CosineSimilarity"}
        criterion = term({**mined, "miner": {"name": name, **options}})
        torch.testing.assert_close(criterion(pred, gt)[0], expected)
    given = {**gt, "indices_tuple": pairs}
    torch.testing.assert_close(term(mined)(pred, given)[0], expected)


def test_a_distance_a_reducer_and_regularizers_are_named(term):
    from pytorch_metric_learning import distances, reducers, regularizers

    pred, gt = _batch()
    own = _library().ContrastiveLoss(
        distance=distances.LpDistance(p=1, normalize_embeddings=False),
        reducer=reducers.ThresholdReducer(low=0.1),
        embedding_regularizer=regularizers.LpRegularizer(),
    )
    criterion = term(
        {
            "loss": "pml/ContrastiveLoss",
            "distance": {"name": "LpDistance", "p": 1, "normalize_embeddings": False},
            "reducer": {"name": "ThresholdReducer", "low": 0.1},
            "embedding_regularizer": "LpRegularizer",
        }
    )
    torch.testing.assert_close(criterion(pred, gt)[0], own(pred["embeddings"], gt["labels"]))
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])
    own = _library().NTXentLoss(reducer=reducers.ClassWeightedReducer(weights))
    criterion = term(
        {"loss": "pml/NTXentLoss", "reducer": {"name": "ClassWeightedReducer", "weights": weights.tolist()}}
    )
    torch.testing.assert_close(criterion(pred, gt)[0], own(pred["embeddings"], gt["labels"]))


def test_a_loss_inside_of_another_is_named(term):
    torch.manual_seed(0)
    views = {"embeddings": torch.randn(8, 6), "ref_emb": torch.randn(8, 6)}
    own = _library().SelfSupervisedLoss(_library().SupConLoss(temperature=0.2))
    inner = {"name": "SupConLoss", "temperature": 0.2}
    value = term({"loss": "pml/SelfSupervisedLoss", "args": {"loss": inner}})(views, {})[0]
    torch.testing.assert_close(value, own(**views))


def test_the_example_of_the_readme_is_built_and_trained():
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    found = next(block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "miner" in block)
    criterion = lossreg.build_compound_loss_from_config(yaml.safe_load(found))
    pred = {"embeddings": torch.randn(8, 64, requires_grad=True)}
    total, terms, _ = criterion(pred, {"labels": torch.arange(4).repeat_interleave(2)})
    total.backward()
    assert list(terms) == ["TripletMarginLoss", "ArcFaceLoss", "CrossBatchMemory"]
    assert pred["embeddings"].grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"miner": "TripletMarginMine"}, r"miner: expected the name of one.*did you mean 'TripletMarginMiner'\?"),
        ({"distance": {"p": 2}}, r"distance: expected the name of one, as `\{name: .*\}`, found None"),
        ({"reducer": "os.system"}, r"reducer: expected the name of one.*the library has .*MeanReducer"),
    ],
)
def test_a_part_that_the_library_lacks_is_refused(term, options, message):
    with pytest.raises(lossreg.ConfigError, match=message):
        term({"loss": "pml/TripletMarginLoss", **options})


def test_parameters_of_classes_are_trained_with_the_criterion(term):
    pred, gt = _batch()
    criterion = term({"loss": "pml/ArcFaceLoss", "num_classes": 4, "embedding_size": 6})
    (weight,) = criterion.parameters()
    assert weight.shape == (6, 4)
    criterion(pred, gt)[0].backward()
    assert weight.grad.abs().sum() > 0


def test_a_mask_leaves_samples_out_of_a_loss_of_classes(entry):
    made = lossreg.create_loss(entry.name, **entry.spec.example_args)
    if not made.masks:
        pytest.skip(entry.spec.unmasked)
    (pred, gt), kept = _batch(), torch.tensor([True, False, True, True, True, False, True, True])
    whole = copy.deepcopy(made)
    expected, _ = whole({"embeddings": pred["embeddings"][kept]}, {"labels": gt["labels"][kept]})
    made.take_mask("gt.valid")
    assert float(made.counts({**gt, "valid": kept})[0]) == 6
    spoiled = torch.where(kept[:, None], pred["embeddings"], torch.nan).requires_grad_()
    value, _ = made({"embeddings": spoiled}, {**gt, "valid": kept})
    torch.testing.assert_close(value, expected)
    value.backward()
    assert spoiled.grad.isfinite().all()


def test_a_loss_of_classes_with_another_reducer_takes_no_mask(term):
    arc = {"loss": "pml/ArcFaceLoss", "num_classes": 4, "embedding_size": 6, "reducer": "SumReducer"}
    with pytest.raises(lossreg.ConfigError, match="it is no mean over samples; leave that out"):
        term({**arc, "mask": "gt.valid"})


def test_a_label_that_is_no_class_is_an_error(entry):
    if "num_classes" not in entry.spec.example_args:
        pytest.skip("it has no classes")
    pred, gt = _batch()
    with pytest.raises(RangeError, match=r"'gt.labels' holds values from 1 to 4, expected 0 to 3"):
        lossreg.create_loss(entry.name, **entry.spec.example_args)(pred, {"labels": gt["labels"] + 1})


def test_a_loss_that_remembers_batches_keeps_no_graph_of_them(term):
    pred, gt = _batch()
    criterion = term({"loss": "pml/DynamicSoftMarginLoss"})
    for _ in range(3):
        embeddings = pred["embeddings"].clone().requires_grad_()
        criterion({"embeddings": embeddings * 2}, gt)[0].backward()
        assert embeddings.grad.abs().sum() > 0


def test_a_loss_with_a_miner_is_pickled(term):
    pred, gt = _batch()
    criterion = term({"loss": "pml/TripletMarginLoss", "miner": "BatchHardMiner"})
    again = pickle.loads(pickle.dumps(criterion))
    assert torch.equal(again(pred, gt)[0], criterion(pred, gt)[0])
