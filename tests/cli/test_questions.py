"""For questions that people ask, `lossreg list` names what an expert would name, among the first five."""

from __future__ import annotations

import json
from collections.abc import Callable
from fnmatch import fnmatchcase

import pytest
from click.testing import Result

pytestmark = pytest.mark.needs_plugins

FIRST = 5
QUESTIONS = {
    "loss for imbalanced segmentation": ("*/TverskyLoss", "*/FocalLoss", "monai/GeneralizedDiceLoss", "*/DiceLoss"),
    "class imbalance": ("*/FocalLoss", "monai/DiceFocalLoss", "torchvision/sigmoid_focal_loss"),
    "perceptual": ("monai/PerceptualLoss", "lpips/*", "piq/LPIPS"),
    "triplet": ("torch/TripletMarginLoss", "*/TripletMarginLoss"),
    "spectrogram": ("auraloss/*STFT*", "auraloss/*Mel*"),
    "ordinal": ("coral/*",),
    "tversky": ("monai/TverskyLoss", "smp/TverskyLoss", "kornia/TverskyLoss"),
    "huber": ("torch/HuberLoss",),
    "dice": ("monai/DiceLoss", "smp/DiceLoss", "kornia/DiceLoss"),
    "MSE": ("torch/MSELoss",),
    "mean absolute error": ("torch/L1Loss",),
    "cross entropy": ("torch/CrossEntropyLoss",),
    "label smoothing": ("torch/CrossEntropyLoss", "smp/SoftCrossEntropyLoss", "timm/LabelSmoothingCrossEntropy"),
    "boundary": ("monai/BoundaryLoss", "monai/HausdorffDTLoss"),
    "contrastive": ("monai/ContrastiveLoss", "*/ContrastiveLoss", "*/SupConLoss", "*/NTXentLoss"),
    "self-supervised learning without negatives": (
        "lightly/NegativeCosineSimilarity",
        "*/BarlowTwinsLoss",
        "*/VICRegLoss",
    ),
    "knowledge distillation": ("torch/KLDivLoss",),
    "total variation": ("kornia/TotalVariation", "piq/*TV*", "piq/TVLoss"),
    "IoU boxes": ("monai/BoxGIoULoss", "torchvision/*_box_iou_loss"),
    "bounding box regression": ("monai/BoxGIoULoss", "torchvision/*_box_iou_loss"),
    "multi-label": ("torch/BCEWithLogitsLoss", "torch/MultiLabelSoftMarginLoss", "torch/MultiLabelMarginLoss"),
    "SSIM": ("monai/SSIMLoss", "kornia/SSIMLoss", "piq/SSIMLoss"),
    "robust regression": ("torch/HuberLoss", "torch/SmoothL1Loss", "kornia/*Loss"),
    "poisson counts": ("torch/PoissonNLLLoss",),
    "embedding similarity": ("torch/CosineEmbeddingLoss",),
    "CTC speech": ("torch/CTCLoss",),
    "predict mean and variance": ("torch/GaussianNLLLoss",),
    "learning to rank": ("torch/MarginRankingLoss",),
    "image registration": ("monai/LocalNormalizedCrossCorrelationLoss", "monai/GlobalMutualInformationLoss"),
    "thin vessels centre line": ("monai/SoftclDiceLoss", "monai/SoftDiceclDiceLoss"),
    "depth smoothness": ("kornia/InverseDepthSmoothnessLoss",),
    "GAN adversarial": ("monai/PatchAdversarialLoss",),
    "edges of polygons": ("crossfield/CrossfieldAlignLoss", "crossfield/SegEdgeInteriorLoss"),
    "frame field": ("crossfield/CrossfieldAlignLoss",),
    "optimal transport": ("geomloss/*", "*Sinkhorn*", "*SamplesLoss*"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_answer_of_an_expert_is_among_the_first(run: Callable[..., Result], question: str) -> None:
    listed = [entry["name"] for entry in json.loads(run("list", "--json", *question.split()).stdout or "[]")]
    first = listed[:FIRST]
    assert any(fnmatchcase(name, expert) for name in first for expert in QUESTIONS[question]), first
