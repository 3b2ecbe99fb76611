"""The record of a loss card: what is rebuilt equals what was described, and what was changed is told."""

from __future__ import annotations

import base64
import io
import json
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lossreg
from lossreg import MultiLoss
from lossreg.config.card import MAX_CARD, Record, read_card, read_checkpoint, rebuild, state_of, versions_of
from lossreg.config.parsing import Permissions, parse_source
from lossreg.config.reading import Source
from lossreg.errors import CardError, CardWarning, CheckpointError, ConfigError
from lossreg.testing import loss_configs

PRED, GT = {"x": torch.tensor([[1.0, -2.0, 4.0]]), "y": torch.ones(1, 3)}, {"y": torch.zeros(1, 3)}
CONFIG = """\
epoch_thresholds: [0, 10]
losses:
  a: {loss: offset, offset: 1.5, weight: [0.1, 0.7]}
  b: {loss: Foreign, pred_key: x, gt_key: y, args: {weight: [1.0, 2.0, 0.1]}}
  g: {weight: 0.5, losses: [{loss: offset, name: c, weight: {schedule: cosine, start: 1, end: 0, end_epoch: 7}}]}
weighting: {strategy: dwa, temperature: 1.5}
track_norms: running
"""


def parsed(text: str) -> Any:
    return parse_source(Source("loss.yaml", text.encode()), None, Permissions())


def trained(text: str = CONFIG) -> MultiLoss:
    """Build a criterion and move its norms and its weighting."""
    criterion = build(text)
    for epoch in range(3):
        criterion({"x": PRED["x"] * (epoch + 1) / 3}, GT, epoch=epoch)
    return criterion


def build(text: str) -> MultiLoss:
    made = lossreg.config.build.build(parsed(text))
    assert isinstance(made, MultiLoss)
    return made


def card(folder: Path, text: str = CONFIG, criterion: MultiLoss | None = None, **changes: Any) -> Path:
    """Write a card; `changes` replace fields of the record, whose digest is then right all the same."""
    state = None if criterion is None else state_of(build(text), criterion.state_dict())
    record = Record.of(parsed(text), state)
    file = folder / "card.md"
    changed = Record(**{**vars(record), **changes})
    file.write_text(changed.written("# A card\n\nof a loss\n\n"), encoding="utf-8")
    return file


def same_state(one: MultiLoss, other: MultiLoss) -> bool:
    here, there = one.state_dict(), other.state_dict()
    return here.keys() == there.keys() and all(
        torch.equal(here[key], there[key]) and here[key].dtype == there[key].dtype for key in here
    )


# --- what is rebuilt ------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [("<!-- ", "", " -->"), ("% ", "% ", "")])
def test_a_criterion_and_its_state_come_back_bit_for_bit(tmp_path: Path, form: tuple[str, str, str]) -> None:
    criterion = trained()
    record = Record.of(parsed(CONFIG), state_of(build(CONFIG), criterion.state_dict()))
    (tmp_path / "card").write_text(record.written("text\n", *form))
    again = rebuild(tmp_path / "card", strict=True)
    assert same_state(criterion, again)
    criterion.eval(), again.eval()
    for epoch in (0.0, 3.3, 99.0):
        (total, values, _), (other, others, _) = (c(PRED, GT, epoch=epoch) for c in (criterion, again))
        assert torch.equal(total, other)
        assert values == others


def test_members_of_a_model_come_back(tmp_path: Path) -> None:
    text = "losses: [{loss: from_dict, key: losses, rest: 0.5}, {loss: offset}]"
    criterion = build(text)
    criterion({**PRED, "losses": {"box": torch.tensor(2.0), "class": torch.tensor(3.0)}}, GT)
    again = rebuild(card(tmp_path, text, criterion))
    assert [path for path, _ in again.leaves()] == ["from_dict/box", "from_dict/class", "offset"]
    assert same_state(criterion, again)


@pytest.mark.needs_plugins
def test_a_legacy_block_has_a_card(tmp_path: Path) -> None:
    text = """
loss_params:
  multi_loss:
    coefs: {epoch_thresholds: [0, 5], seg: 10, seg_edge_interior: [0, 1]}
    normalization_params: {min_samples: 10, max_samples: 1000}
  seg_loss_params: {w0: 50, sigma: 10}
compute_seg: true
compute_crossfield: false
seg_params: {compute_interior: true, compute_edge: true, compute_vertex: false}
pl_trainer: {precision: 32}
"""
    criterion = build(text)
    again = rebuild(card(tmp_path, text, criterion), strict=True)
    assert again.plan() == criterion.plan()
    assert same_state(criterion, again)


@given(config=loss_configs("local"), epoch=st.floats(0, 100))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_random_config_is_rebuilt_equal(tmp_path: Path, config: dict[str, Any], epoch: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        text = json.dumps(config)
        torch.manual_seed(0)
        criterion = build(text)
        card(tmp_path, text, criterion)
        again = rebuild(tmp_path / "card.md", strict=True)
    assert same_state(criterion, again)
    assert again.effective_weights(epoch, epoch) == criterion.effective_weights(epoch, epoch)
    assert [dict(item) for item in again.plan()] == [dict(item) for item in criterion.plan()]


IN_A_FILE = "loss_params: {compound_loss: {losses: %s}}\nv: 2.5\nt: &t {loss: offset}\nother: {password: secret}"


@pytest.mark.parametrize(
    "losses",
    [
        "[{loss: offset, name: '1e3'}, {loss: offset, mode: abs, offset: 1.0e-7}, {loss: offset, name: b, offset: 3}]",
        "{'null': {loss: offset}, 'true': {loss: offset}, '0x10': {loss: offset}, 'é ☃': {loss: offset}}",
        "[{loss: offset, offset: '${v}'}]",
        "[{loss: Foreign, pred_key: 'a\\${b}c', gt_key: '\\\\${v}d'}]",
        "{one: *t, two: *t}",
        "[{loss: from_dict, terms: {a: 1.0, 'b_*': 0.5, 3: 2}, rest: 0}]",
        "[{loss: Foreign, pred_key: \"\\e[2J\\u202e\\n\\n'\\\" % {} \\\\ ```\", gt_key: ' '}]",
    ],
)
def test_the_config_is_kept_value_by_value_and_nothing_else_of_its_file(losses: str) -> None:
    # an alias must stand after its anchor
    head, _, rest = (IN_A_FILE % losses).partition("\n")
    config = parsed(f"{rest}\n{head}")
    record = Record.of(config)
    assert repr(parsed(record.config).data) == repr(config.data)
    assert record.config.isascii()
    assert "secret" not in record.config


def test_the_digest_is_of_what_a_file_says_and_not_of_how(tmp_path: Path) -> None:
    one = Record.of(parsed("losses: [{loss: offset, weight: 2.0}] # twice"))
    other = Record.of(parsed("loss_params: {compound_loss: {losses: [{loss: offset, weight: 2.0}]}}"))
    assert one.digest == other.digest
    assert one.digest != Record.of(parsed("losses: [{loss: offset, weight: 2.1}]")).digest
    assert one.digest == Record(one.config, one.components, {"torch": "1.0"}).digest, "of no version"


def test_a_lone_loss_has_no_card_record() -> None:
    with pytest.raises(CardError, match="expected a compound loss"):
        Record("loss: offset", {}, {}).parsed("card.md")


def test_large_tensors_of_a_new_criterion_are_not_stored() -> None:
    text = f"losses: [{{loss: Foreign, args: {{weight: {[0.5] * 2000}}}}}]"
    criterion = build(text)
    kept = state_of(build(text), criterion.state_dict())
    assert "loss_funcs.0.loss_func.weight" not in kept
    assert "loss_funcs.0.norm" in kept
    criterion.loss_funcs[0].loss_func.weight[3] = 7.0
    assert "loss_funcs.0.loss_func.weight" in state_of(build(text), criterion.state_dict())


def test_a_large_state_is_refused() -> None:
    with pytest.raises(CardError, match="at most 1,048,576 bytes, found 1,200,000"):
        Record.of(parsed(CONFIG), {"a": torch.zeros(300_000)})


def test_a_card_that_could_not_be_read_again_is_not_written() -> None:
    with pytest.raises(CardError, match="at most 8,388,608 bytes, found 8,"):
        Record.of(parsed(CONFIG)).written("x" * MAX_CARD + "\n")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor([float("nan"), -0.0, float("-inf"), 1e-45]),
        torch.tensor(3, dtype=torch.int64),
        torch.tensor([True, False]),
        torch.zeros(0, 3),
        torch.tensor([[1.5, 2.5]], dtype=torch.bfloat16),
        torch.tensor([1 + 2j]),
        torch.arange(6).reshape(2, 3).T,
    ],
)
def test_a_tensor_of_any_kind_comes_back(tensor: torch.Tensor) -> None:
    from lossreg.config.card import _decoded

    state = Record.of(parsed(CONFIG), {"a": tensor}).state
    (again,) = _decoded(json.loads(json.dumps(state)), "card").values()
    assert again.dtype == tensor.dtype
    assert again.shape == tensor.shape
    flat = [t.contiguous().view(-1).view(torch.uint8) if t.numel() else t for t in (tensor, again)]
    assert torch.equal(*flat)


# --- what is told ---------------------------------------------------------------------------------


def test_a_changed_record_is_an_error(tmp_path: Path) -> None:
    file = card(tmp_path)
    lines = file.read_text().splitlines()
    begin = lines.index("<!-- lossreg-card:begin")
    data = json.loads(base64.b64decode("".join(lines[begin + 1 : -1])))
    data["config"] = data["config"].replace("0.7", "0.8")
    lines[begin + 1 : -1] = [base64.b64encode(json.dumps(data).encode()).decode()]
    file.write_text("\n".join(lines))
    with pytest.raises(CardError, match="the record of the card was changed: expected the digest sha256:"):
        rebuild(file)


def test_a_changed_text_is_warned_of_and_strictly_an_error(tmp_path: Path) -> None:
    file = card(tmp_path)
    file.write_text(file.read_text().replace("of a loss", "of two losses"))
    with pytest.warns(CardWarning, match=r"card\.md: the text around the record was changed"):
        rebuild(file)
    with pytest.raises(CardError, match="the text around the record was changed"):
        rebuild(file, strict=True)


def test_white_space_may_change(tmp_path: Path) -> None:
    file = card(tmp_path)
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n").replace(b"A card", b"A   card  "))
    rebuild(file, strict=True)


def test_the_record_names_every_component_at_its_place() -> None:
    text = CONFIG + "pre_processes: [min_snr]\n"
    assert list(Record.of(parsed(text)).components) == [
        "preprocess 0", "weighting", "schedule a", "loss a", "loss b", "schedule g/c", "loss g/c",
    ]  # fmt: skip


def test_the_versions_are_those_of_the_libraries_too() -> None:
    lossreg.register("OfNumpy", package="numpy>=1")(lambda prediction, target: prediction)
    found = versions_of([lossreg.registry.catalog().losses.find("OfNumpy")])
    assert list(found) == ["Python", "lossreg", "torch", "numpy"]
    assert found["numpy"] == metadata.version("numpy")


def test_another_version_is_warned_of_and_strictly_an_error(tmp_path: Path) -> None:
    versions = Record.of(parsed(CONFIG)).versions
    file = card(tmp_path, versions={**versions, "torch": "1.0", "gone\x1b[2J": "3"})
    match = rf"torch is 1\.0 in the card and {versions['torch'].replace('+', '[+]')} here; gone\\x1b\[2J is 3 in"
    with pytest.warns(CardWarning, match=match):
        rebuild(file)
    with pytest.raises(CardError, match="torch is 1"):
        rebuild(file, strict=True)


def test_a_name_that_means_another_loss_here_is_an_error(tmp_path: Path) -> None:
    components = Record.of(parsed(CONFIG)).components
    assert components["loss g/c"] == "local/OffsetLoss"
    assert components["weighting"] == "core/DWA"
    assert components["schedule g/c"] == "core/Cosine"
    file = card(tmp_path, components={**components, "loss a": "other/OffsetLoss"})
    with pytest.raises(CardError, match="loss a is other/OffsetLoss in the card and local/OffsetLoss here"):
        rebuild(file)


def test_a_loss_that_is_not_installed_is_an_error_of_the_config(tmp_path: Path) -> None:
    file = card(tmp_path, config="losses: [{loss: absent}]")
    with pytest.raises(ConfigError, match="no loss is named 'absent'"):
        rebuild(file)


def test_a_state_of_other_terms_is_refused_and_not_loaded(tmp_path: Path) -> None:
    state = state_of(build(CONFIG), trained().state_dict())
    record = Record.of(parsed("losses: [{loss: offset}]"), state)
    with pytest.raises(CheckpointError, match="expected the terms"):
        record.build(record.parsed("card"), "card")


# --- cards of strangers ---------------------------------------------------------------------------


def written(data: Any) -> bytes:
    packed = base64.b64encode(json.dumps(data).encode()).decode()
    return f"<!-- lossreg-card:begin\n{packed}\nlossreg-card:end -->\n".encode()


GOOD = {"lossreg_card": 1, "config": "losses: [{loss: offset}]", "components": {}, "versions": {}, "state": {},
        "digest": "", "text": ""}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected one loss card as `lossreg card` writes it, found none"),
        (b"\xff\xfe\x00" * 10, "found none"),
        (written(GOOD) * 2, "found 2"),
        (b"<!-- lossreg-card:begin\n" * 10_000, "found 10000"),
        (b"x" * (MAX_CARD + 1), "at most 8,388,608 bytes"),
        (b"<!-- lossreg-card:begin\n", "expected JSON in base64"),
        (b"<!-- lossreg-card:begin\n####\nlossreg-card:end -->", "expected JSON in base64"),
        (written([[[]]]), "expected a card of format 1, found None"),
        (written({**GOOD, "lossreg_card": 2}), "expected a card of format 1, found 2"),
        (written({**GOOD, "versions": {"torch": 2}}), "a part of it is missing"),
        (written({**GOOD, "config": None}), "a part of it is missing"),
        (written({**GOOD, "state": {"a": ["object", [1], ""]}}), "a part of it is missing"),
        (written({**GOOD, "state": {"a": ["int8", [-1], ""]}}), "a part of it is missing"),
        (written({**GOOD, "state": {"a": ["int8", ["1"], ""]}}), "a part of it is missing"),
        (written({**GOOD, "digest": "sha256:\x1b[2J" + "0" * 1000}), r"expected the digest sha256:\\x1b"),
    ],
)
def test_what_is_no_card_is_an_error_in_words(content: bytes, message: str) -> None:
    with pytest.raises(CardError, match=message) as caught:
        Record.read(content, "card.md")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2_000


def test_deep_json_is_an_error() -> None:
    packed = base64.b64encode(b"[" * 200_000).decode()
    with pytest.raises(CardError, match="expected JSON in base64"):
        Record.read(f"<!-- lossreg-card:begin\n{packed}\nlossreg-card:end -->".encode(), "card.md")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (("float32", [3], "####"), "it is no base64"),
        (("float32", [3], "AAAA"), r"3 bytes do not have the shape \[3\]"),
        (("float32", [8_000_000] * 60, ""), "do not have the shape"),
        (("float32", [0, *[8_000_000] * 60], ""), "is damaged"),
    ],
)
def test_a_state_that_is_no_tensor_is_an_error(tmp_path: Path, value: Any, message: str) -> None:
    file = card(tmp_path, state={"loss_funcs.0.norm": value})
    with pytest.raises(CardError, match=message):
        rebuild(file)


@pytest.mark.parametrize(
    "config",
    [
        "a: &a [1,1,1,1,1,1,1,1,1]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nlosses: [*c,*c,*c]",
        "losses: [{_target_: os.system, command: 'touch pwned'}]",
        "losses: !!python/object/apply:os.system ['touch pwned']",
        "losses: ['${oc.env:HOME}']",
        "losses: [{loss: offset, name: '\ud800'}]",
    ],
)
def test_a_card_does_no_more_than_a_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: str) -> None:
    monkeypatch.chdir(tmp_path)
    file = card(tmp_path, config=config)
    with pytest.raises((ConfigError, CardError)):
        rebuild(file)
    assert [path.name for path in tmp_path.iterdir()] == ["card.md"]


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="cannot be read: No such file"):
        rebuild(tmp_path / "none.md")
    with pytest.raises(CardError, match="cannot be read"):
        rebuild("a\0b")


def test_reading_a_card_builds_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lossreg.config.build.build_parsed", None)
    record, config = read_card(card(tmp_path).read_bytes(), "card.md")
    assert record.config.startswith("epoch_thresholds")
    assert [leaf.name for leaf in config.leaves()] == ["a", "b", "g/c"]


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["", "criterion", "state_dict.criterion", "trainer.criterion"])
def test_the_criterion_is_found_in_a_checkpoint(tmp_path: Path, place: str) -> None:
    state: Any = trained().state_dict()
    data: Any = {f"loss.{key}": value for key, value in state.items()} if "state_dict" in place else state
    data = {**data, "net.weight": torch.ones(2)} if "state_dict" in place else data
    for key in reversed(place.split(".") if place else []):
        data = {key: data, "epoch": 3}
    torch.save(data, tmp_path / "some.pt")
    found = read_checkpoint(tmp_path / "some.pt")
    assert found.keys() == state.keys()


def test_safetensors_are_read(tmp_path: Path) -> None:
    files = pytest.importorskip("safetensors.torch")
    files.save_file(dict(trained().state_dict()), tmp_path / "some.safetensors")
    assert "loss_funcs.0.norm" in read_checkpoint(tmp_path / "some.safetensors")


def test_several_criteria_or_none_are_an_error(tmp_path: Path) -> None:
    state = trained().state_dict()
    torch.save({"criterion": state, "ema": state}, tmp_path / "two.pt")
    with pytest.raises(CardError, match=r"expected the state of one MultiLoss, found criterion\., ema\."):
        read_checkpoint(tmp_path / "two.pt")
    torch.save({"model": {"weight": torch.ones(1)}}, tmp_path / "none.pt")
    with pytest.raises(CardError, match="found none; save criterion"):
        read_checkpoint(tmp_path / "none.pt")


@pytest.mark.parametrize(("depth", "found"), [(0, True), (3, True), (4, False)])
def test_a_criterion_is_looked_for_three_mappings_deep(tmp_path: Path, depth: int, *, found: bool) -> None:
    data = dict(trained().state_dict())
    for _ in range(depth):
        data = {"inner": data}
    torch.save(data, tmp_path / "deep.pt")
    if found:
        assert "loss_funcs.0.norm" in read_checkpoint(tmp_path / "deep.pt")
    else:
        with pytest.raises(CardError, match="found none"):
            read_checkpoint(tmp_path / "deep.pt")


def test_a_checkpoint_executes_nothing(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "pwned",))

    file = io.BytesIO()
    torch.save({"criterion": Evil()}, file)
    (tmp_path / "evil.pt").write_bytes(file.getvalue())
    with pytest.raises(CardError, match=r"cannot be read as a checkpoint of tensors: Weights only load failed[^\n]+$"):
        read_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_state_that_is_no_tensor_has_no_card() -> None:
    criterion = build(CONFIG)
    criterion.loss_funcs[0].register_buffer("odd", torch.zeros(2, 2).to_sparse())
    with pytest.raises(CardError, match="expected a dense tensor of numbers"):
        state_of(criterion, criterion.state_dict())
