"""An option of some words names the nearest one where another word is given."""

import click
import pytest

from lossreg.cli.choice import Choice

KINDS = Choice(("loss", "preprocess", "schedule"))


def test_one_of_the_words_is_taken():
    assert KINDS.convert("schedule", None, None) == "schedule"


@pytest.mark.parametrize(
    ("word", "hint"),
    [("losss", "; did you mean 'loss'?"), ("shedule", "; did you mean 'schedule'?"), ("optimizer", "")],
)
def test_another_word_is_an_error_with_the_nearest_one(word, hint):
    with pytest.raises(click.BadParameter) as raised:
        KINDS.convert(word, None, None)
    assert raised.value.message == f"expected loss, preprocess or schedule, found {word!r}{hint}"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("list", "--kind", "losss"), "did you mean 'loss'?"),
        (("show", "seg", "--kind", "wieghting"), "did you mean 'weighting'?"),
        (("graph", "-", "--format", "mermiad"), "did you mean 'mermaid'?"),
    ],
)
def test_options_of_commands_tell_it(run, arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
