"""`show` tells what a key of a config is, and `list` names the keys that the words are about."""

from __future__ import annotations

import json

import pytest
import yaml

import lossreg
from lossreg.cli.config_keys import BLOCKS, names, search
from lossreg.values import keys_of

NAMES = names()


@pytest.mark.parametrize("name", NAMES)
def test_show_tells_of_each_key_where_it_stands_and_what_it_means(run, name):
    shown = run("show", name)
    assert shown.exit_code == 0
    words = " ".join(shown.stdout.split())
    facts = json.loads(run("show", name, "--json").stdout)
    places = ", ".join(key["of"] for key in facts["keys"]).split(", ")
    assert places == sorted(places, key=list(BLOCKS).index)
    assert set(places) == {place for place, block in BLOCKS.items() if name in keys_of(block)}
    for key in facts["keys"]:
        assert all(key[fact] in words for fact in ("of", "doc"))
        assert ("required" in words) >= key["required"]


@pytest.mark.parametrize("name", ["schedule", "strategy", "preprocess", "compute_seg", "coefs"])
def test_the_keys_that_choose_a_part_and_those_of_a_legacy_block_are_known(name):
    assert name in NAMES


def test_what_show_says_of_mask_can_be_copied_into_a_term(run):
    assert yaml.safe_load(run("show", "mask").stdout.partition("In YAML:\n")[2]) == {"mask": "gt.has_depth"}


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ("missing labels", ["mask"]),
        ("ignored pixels", ["mask"]),
        ("masked height", ["mask"]),
        ("running norms", ["track_norms", "norm_momentum"]),
        ("deep supervision", ["deep_supervision"]),
        ("imbalanced segmentation", []),
        ("loss", []),
        ("", []),
    ],
)
def test_words_find_the_keys_that_they_are_about(query, keys):
    assert search(query) == keys


def test_list_names_a_key_below_the_losses_and_where_there_is_none(run):
    shown = run("list", "mask", "height").stdout
    assert shown.index("local/HeightLoss") < shown.index("mask, a key of a term: A key") < shown.index("show mask`")
    alone = run("list", "whatever")
    assert (alone.exit_code, alone.stderr) == (0, "")
    assert alone.stdout.strip().startswith("mask, a key of a term: A key, or a list")


def test_a_misspelt_key_is_told_the_nearest(run):
    shown = run("show", "maks")
    assert shown.exit_code == 1
    assert "nothing is named 'maks'; did you mean 'mask'?" in shown.stderr
    assert "mask" not in run("show", "maks", "--kind", "schedule").stderr.replace("maks", "")


def test_a_component_comes_before_a_key_of_its_name(run):
    lossreg.register("mask", summary="a loss that is called so")(lambda prediction, target: prediction)
    assert "a loss that is called so" in run("show", "mask").stdout
    assert run("show", "optional", "--kind", "loss").exit_code == 1
