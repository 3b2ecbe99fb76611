"""A criterion as an argument of jsonargparse's parsers, and of LightningCLI."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
import yaml
from torch.utils.data import DataLoader, TensorDataset

from lossreg import MultiLoss
from lossreg.config import jsonargparse as ours

jsonargparse = pytest.importorskip("jsonargparse", reason="needs jsonargparse, of tox's `trainers`")

pytestmark = [
    pytest.mark.needs_plugins,
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*`tensorboardX` has been removed"),
    pytest.mark.filterwarnings("ignore:(?s).*JsonargparseDeprecationWarning"),  # of what Lightning calls
    pytest.mark.filterwarnings("ignore:(?s).*was deprecated in v4.49"),
]

LOSS = """
epoch_thresholds: [0, 2]
loss_list:
  - {loss: torch/MSELoss, name: near, weight: 1.0}
  - {loss: torch/L1Loss, name: far, weight: [0.0, 0.5]}
"""
MISTAKES = "losses: {near: torch/MSELos, far: {loss: torch/L1Loss, wieght: 2}}"
TOLD = ["losses.near.loss: no loss is named 'torch/MSELos'", "losses.far.wieght: is not a parameter of torch/L1Loss"]


class Owner:
    def __init__(self, criterion: MultiLoss | None = None, width: int = 4):
        self.criterion, self.width = criterion, width


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["fit.py"])
    (tmp_path / "folder").mkdir()
    Path("loss.yaml").write_text(LOSS)
    Path("folder/inner.yaml").write_text(LOSS)
    Path("mistakes.yaml").write_text(MISTAKES)
    Path("training.yaml").write_text(yaml.safe_dump({"lr": 1, "mine": {"block": yaml.safe_load(LOSS)}}))
    Path("lone.yaml").write_text("loss: {_target_: torch.nn.MSELoss}")
    ours.register_criterion()


def parser(**options):
    made = jsonargparse.ArgumentParser(**options)
    made.add_argument("--config", action="config")
    made.add_class_arguments(Owner, "owner")
    return made


def built(*arguments):
    """Return the criterion that arguments make, and what a saved config holds of it."""
    made = parser()
    config = made.parse_args(list(arguments))
    return made.instantiate(config).owner.criterion, yaml.safe_load(made.dump(config))["owner"].get("criterion")


def from_config(criterion, at="config.yaml"):
    Path(at).write_text(yaml.safe_dump({"owner": {"criterion": criterion}}, sort_keys=False))
    return built("--config", at)


@pytest.mark.parametrize(
    "value",
    [
        "loss.yaml",
        {"class_path": "lossreg.load_loss", "init_args": {"path": "loss.yaml"}},
        {"class_path": "lossreg.load_loss", "init_args": {"path": "training.yaml", "key": "mine.block"}},
        yaml.safe_load(LOSS),
    ],
    ids=["path", "class_path", "key", "block"],
)
def test_each_form_gives_the_criterion_and_what_is_saved_can_be_read_from_anywhere(monkeypatch, value):
    criterion, saved = from_config(value)
    assert isinstance(criterion, MultiLoss)
    assert criterion.effective_weights(epoch=1) == {"near": 1.0, "far": 0.25}
    monkeypatch.chdir("folder")
    again, saved_again = from_config(saved)
    assert again.effective_weights(epoch=1) == {"near": 1.0, "far": 0.25}
    assert saved_again == saved


def test_what_is_saved_of_a_file_is_what_it_held():
    assert from_config("loss.yaml")[1] == yaml.safe_load(LOSS)


def test_terms_keep_their_order():
    Path("loss.yaml").write_text("losses: {near: torch/MSELoss, far: torch/L1Loss}")
    criterion, saved = from_config("loss.yaml")
    assert criterion.names == ("near", "far")
    assert from_config(saved)[0].names == ("near", "far")


def test_a_relative_path_begins_at_the_folder_of_the_config():
    criterion, _ = from_config("inner.yaml", at="folder/config.yaml")
    assert criterion.names == ("near", "far")


def test_on_the_command_line_and_without_one():
    assert built("--owner.criterion=loss.yaml")[0].names == ("near", "far")
    assert built("--owner.width=3") == (None, None)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("mistakes.yaml", ["mistakes.yaml: 2 errors", *TOLD]),
        (yaml.safe_load(MISTAKES), ["criterion: 2 errors", *TOLD]),
        ("none.yaml", ["none.yaml: cannot be read: No such file or directory"]),
        ("lone.yaml", ["lone.yaml: expected a compound loss, found one of MSELoss alone"]),
        ({"class_path": "os.system", "init_args": {"command": "touch x"}}, ["expected class_path: lossreg.load_loss"]),
        ({"class_path": "lossreg.load_loss"}, ["with the init_args path"]),
        ({"class_path": "lossreg.load_loss", "init_args": {"path": "loss.yaml", "allow_import": ["os"]}}, ["found {"]),
    ],
    ids=["file", "block", "missing", "lone", "other class", "no path", "permissions"],
)
def test_a_mistake_is_told_in_lossregs_words_alone(capsys, value, told):
    with pytest.raises(SystemExit) as stopped:
        from_config(value)
    assert stopped.value.code == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert "usage" not in errors
    for line in told:
        assert line in errors


def test_without_a_word_of_it_a_mistake_ends_the_process(capsys):
    ours.register_criterion(exit_on_error=False)
    ours.register_criterion()
    with pytest.raises(SystemExit):
        parser(exit_on_error=False).parse_args(["--owner.criterion=mistakes.yaml"])


def test_a_parser_that_does_not_exit_raises_its_own_error():
    ours.register_criterion(exit_on_error=False)
    with pytest.raises(jsonargparse.ArgumentError, match="no loss is named 'torch/MSELos'"):
        parser(exit_on_error=False).parse_args(["--owner.criterion=mistakes.yaml"])


def test_a_criterion_that_python_made_is_kept_and_a_run_does_not_read_it_again(capsys):
    from lossreg import load_loss

    made = parser()
    config = made.parse_object({"owner": {"criterion": load_loss("loss.yaml")}})
    saved = yaml.safe_load(made.dump(config))["owner"].get("criterion")
    assert saved == "a MultiLoss that Python made, of near, far"
    with pytest.raises(SystemExit):
        from_config(saved)
    assert "cannot be read" in capsys.readouterr().err


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jsonargparse.typing", None)
    with pytest.raises(ImportError, match=r'pip install "jsonargparse\[signatures\]"'):
        ours.register_criterion()


# --- LightningCLI ---------------------------------------------------------------------------------


def command(*arguments):
    package, cli = import_module("lightning.pytorch"), import_module("lightning.pytorch.cli")

    class Model(package.LightningModule):
        def __init__(self, criterion: MultiLoss, width: int = 4):
            super().__init__()
            self.net, self.criterion = torch.nn.Linear(width, 2), criterion

        def training_step(self, batch, batch_idx):
            return self.criterion(self.net(batch[0]), batch[1], epoch=self.current_epoch)[0]

        def train_dataloader(self):
            return DataLoader(TensorDataset(torch.ones(8, 4), torch.ones(8, 2)), batch_size=4)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    # annotations are texts here, which jsonargparse looks up among the names of this module
    return cli.LightningCLI(Model, args=["fit", *arguments], seed_everything_default=0)


TRAINER = {"max_epochs": 1, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}


def test_lightning_cli_fits_and_its_saved_config_fits_again():
    Path("fit.yaml").write_text(yaml.safe_dump({"trainer": TRAINER, "model": {"criterion": "loss.yaml"}}))
    first = command("--config", "fit.yaml")
    saved = Path(first.trainer.log_dir, "config.yaml")
    Path("loss.yaml").unlink()
    second = command("--config", str(saved))
    assert yaml.safe_load(Path(second.trainer.log_dir, "config.yaml").read_text()) == yaml.safe_load(saved.read_text())
    assert torch.equal(first.model.net.weight, second.model.net.weight)
    assert second.model.criterion.names == ("near", "far")


def test_lightning_cli_tells_a_mistake_without_its_usage(capsys):
    with pytest.raises(SystemExit):
        command("--model.criterion=mistakes.yaml")
    errors = capsys.readouterr().err
    assert all(line in errors for line in TOLD)
    assert len(errors.splitlines()) == 3
