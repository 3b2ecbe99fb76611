"""Losses created by name: a `Loss`, wrapped by a plugin, or wrapped by LossWrapper."""

from __future__ import annotations

import sys

import pytest
import torch

import lossreg
from lossreg.errors import ArgumentError, PluginError, PluginWarning, UnknownNameError
from lossreg.losses.create import adopt

A, B = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0])

LIBRARY = """
import torch

class Gap:
    '''A loss that is called in a way of its own.'''

    def __init__(self, scale=1.0):
        self.scale = scale

    def __call__(self, *, guess, truth):
        return self.scale * (guess - truth).mean()

class NotCallable:
    pass

class Faulty:
    def __init__(self):
        raise ValueError("no licence")

NUMBER = 5
"""

WRAP = """
@hookimpl
def lossreg_losses():
    return [
        LossSpec("Gap", "library:Gap", wrap={"style": "keywords", "sign": 1}),
        LossSpec("Other", "torch.nn:L1Loss"),
    ]

@hookimpl
def lossreg_wrap(loss, name, options):
    if options.get("style") != "keywords":
        return None
    if "input" in options:
        raise ValueError("Gap takes values as they are")
    from lossreg import LossWrapper
    return LossWrapper(lambda p, t: options["sign"] * loss(guess=p, truth=t), name)
"""


@pytest.fixture
def library(packages):
    packages.add("library", modules={"library.py": LIBRARY})
    return packages


@pytest.fixture
def adapted(library):
    library.hooked("gap-losses", "gap", WRAP)
    library.scan()
    return library


def entry(name):
    return lossreg.registry.catalog().losses.find(name)


# --- by name ----------------------------------------------------------------------------------------


def test_a_foreign_loss_is_wrapped_under_the_name_it_was_asked_by(packages):
    packages.offering("acme", "acme", "Huge", target="torch.nn:HuberLoss", aliases=("huge",))
    packages.scan()
    made = lossreg.create_loss("acme/huge", delta=2.0)
    assert isinstance(made, lossreg.LossWrapper)
    assert (made.name, made.loss_func.delta) == ("huge", 2.0)
    assert lossreg.create_loss("Huge", name="term").name == "term"
    assert lossreg.create_loss("Huge").norm == 1.0


def test_a_function_is_bound_to_its_arguments(packages):
    packages.offering("acme", "acme", "huge", target="torch.nn.functional:huber_loss")
    packages.scan()
    made = lossreg.create_loss("huge", delta=0.5, reduction="sum")
    expected = torch.nn.functional.huber_loss(A, B, delta=0.5, reduction="sum")
    assert torch.equal(made(A, B)[0], expected)


def test_options_of_the_spec_go_to_the_wrapper(packages):
    source = """
    @hookimpl
    def lossreg_losses():
        wrap = {"reduction": "sum", "target_dtype": "float"}
        return [LossSpec("Gap", "torch.nn:L1Loss", wrap=wrap, tensors=("weight",))]
    """
    packages.hooked("acme", "acme", source)
    packages.scan()
    made = adopt(entry("Gap"), "Gap", {"reduction": "none"})
    assert made(A, B.long())[0] == 4.0
    assert adopt(entry("Gap"), "x", {"reduction": "none"}, {"reduction": "mean"})(A, B)[0] == 2.0


@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        ({"inpts": ["pred.x", "gt.x"]}, "no such option 'inpts'; did you mean 'inputs'"),
        ({"q": 1}, "no such option 'q'; expected dtype, "),
        ({"target_dtype": "int"}, "LossWrapper: target_dtype: expected"),
        ({"inputs": {"input": "pred.x", "targt": "gt.x"}}, "targt.*did you mean 'target'"),
    ],
)
def test_a_mistake_in_the_wrap_of_a_spec_is_told_as_one_of_the_plugin(packages, wrap, message):
    source = f"@hookimpl\ndef lossreg_losses():\n    return [LossSpec('Gap', 'torch.nn:L1Loss', wrap={wrap!r})]\n"
    packages.hooked("acme", "acme", source)
    packages.scan()
    with pytest.raises(PluginError, match=rf"(?s)^loss 'acme/Gap' of plugin 'acme' .*: the spec's `wrap`: .*{message}"):
        lossreg.create_loss("Gap")


def test_a_mistake_in_the_wrap_of_a_term_is_one_of_the_term(packages):
    packages.offering("acme", "acme", "Gap", target="torch.nn:L1Loss")
    packages.scan()
    with pytest.raises(ArgumentError, match=r"^LossWrapper: target_dtype: expected"):
        adopt(entry("Gap"), "x", {}, {"target_dtype": "int"})


def test_named_inputs_of_a_term_replace_those_of_the_spec_key_by_key(packages):
    source = """
    @hookimpl
    def lossreg_losses():
        inputs = {"input": "pred.a", "target": "gt.b", "pos_weight": "gt.w"}
        wrap = {"inputs": inputs, "optional_inputs": ["pos_weight"]}
        return [LossSpec("Bce", "torch.nn.functional:binary_cross_entropy_with_logits", wrap=wrap)]
    """
    packages.hooked("acme", "acme", source)
    packages.scan()
    made = adopt(entry("Bce"), "x", {}, {"inputs": {"target": "gt.c", "pos_weight": "gt.v"}})
    assert (made.requires, made.optional) == (("pred.a", "gt.c"), ("gt.v",))
    listed = adopt(entry("Bce"), "x", {}, {"inputs": ["pred.a", "gt.c"]})
    assert (listed.requires, listed.optional) == (("pred.a", "gt.c"), ())
    assert entry("Bce").spec.wrap["inputs"]["target"] == "gt.b"


@pytest.mark.parametrize("option", ["pred_key", "gt_key"])
def test_a_key_of_a_side_beside_inputs_of_the_term_is_refused(adapted, option):
    options = {"inputs": ["pred.a", "gt.b"], option: "x"}
    for name in ("Gap", "Other"):
        with pytest.raises(ArgumentError, match=f"{option}: has no effect beside inputs"):
            adopt(entry(name), name, {}, options)


def test_two_reductions_of_a_loss_are_refused_where_they_contradict(packages):
    packages.offering("acme", "acme", "Gap", target="torch.nn:L1Loss")
    packages.scan()
    for own, asked in (("mean", "sum"), ("sum", "mean")):
        message = f"reduction: is given twice: '{asked}' here, and '{own}' as an argument of the loss"
        with pytest.raises(ArgumentError, match=message):
            adopt(entry("Gap"), "x", {"reduction": own}, {"reduction": asked})
    for own, asked, value in (("sum", "sum", 4.0), ("mean", "mean", 2.0), ("none", "sum", 4.0)):
        assert adopt(entry("Gap"), "x", {"reduction": own}, {"reduction": asked})(A, B)[0] == value
    assert adopt(entry("Gap"), "x", {"reduction": "sum"}, {"reduction": None})(A, B)[0] == 4.0


def test_lists_given_for_tensors_become_tensors(packages):
    source = """
    @hookimpl
    def lossreg_losses():
        return [LossSpec("CE", "torch.nn:CrossEntropyLoss", tensors=("weight",))]
    """
    packages.hooked("acme", "acme", source)
    packages.scan()
    assert torch.equal(lossreg.create_loss("CE", weight=[1, 2]).loss_func.weight, torch.tensor([1.0, 2.0]))
    assert lossreg.create_loss("CE", weight=None).loss_func.weight is None
    given = torch.ones(2, dtype=torch.float64)
    assert lossreg.create_loss("CE", weight=given).loss_func.weight is given


def test_a_loss_of_ours_is_returned_as_it_is(packages):
    @lossreg.register("Own")
    class Own(lossreg.Loss):
        def __init__(self, name, power=1):
            super().__init__(name)
            self.power = power

        def compute(self, pred_batch, gt_batch):
            return (pred_batch - gt_batch).pow(self.power).mean()

    made = lossreg.create_loss("Own", power=2)
    assert type(made) is Own
    assert (made.name, made.power) == ("Own", 2)
    wrapped = adopt(entry("Own"), "x", {}, {"pred_channels": 0})
    assert isinstance(wrapped, lossreg.LossWrapper)
    assert wrapped.name == "x"


@pytest.mark.parametrize("takes", ["self, beta=1.0", "self, name, /, beta=1.0"])
def test_a_loss_of_ours_that_takes_no_name_is_told_to(packages, takes):
    source = f"""
    import lossreg
    class Own(lossreg.Loss):
        def __init__({takes}):
            super().__init__("own")
        def compute(self, pred_batch, gt_batch):
            return pred_batch.mean()
    """
    packages.add("acme", losses={"Own": "acme_own:Own"}, modules={"acme_own.py": source})
    packages.scan()
    message = r"loss 'acme/Own' of plugin 'acme' .*: Own.__init__ must take `name` and pass it to super"
    with pytest.raises(PluginError, match=message):
        lossreg.create_loss("Own")
    with pytest.raises(lossreg.ConfigError, match=message):
        lossreg.build_compound_loss_from_config({"losses": [{"loss": "acme/Own"}]})


def test_a_loss_of_ours_may_take_its_name_among_others(packages):
    @lossreg.register("Own")
    class Own(lossreg.Loss):
        def __init__(self, **options):
            super().__init__(**options)

        def compute(self, pred_batch, gt_batch):
            return pred_batch.mean()

    assert lossreg.create_loss("Own", name="term").name == "term"


# --- what is no loss --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("library:NUMBER", r"target 'library:NUMBER': expected a loss, found int, which cannot be called"),
        (
            "library:NotCallable",
            r"target 'library:NotCallable': expected a loss, found NotCallable, which cannot be called",
        ),
        (
            "library:Missing",
            r"its target 'library:Missing' cannot be imported: AttributeError: module 'library' has no",
        ),
        (
            "nowhere:Loss",
            r"its target 'nowhere:Loss' cannot be imported: ModuleNotFoundError: No module named 'nowhere'",
        ),
        ("exits:Loss", r"its target 'exits:Loss' cannot be imported: it called sys\.exit\(2\)"),
    ],
)
@pytest.mark.parametrize("way", ["line", "hook"])
def test_a_target_that_is_no_loss_is_named_with_its_plugin(library, way, target, message):
    library.add("exiting", modules={"exits.py": "import sys; sys.exit(2)"})
    if way == "line":
        library.add("acme", losses={"Broken": target, "Fine": "torch.nn:L1Loss"})
    else:
        library.offering("acme", "acme", "Broken", target=target)
        library.add("fine", losses={"Fine": "torch.nn:L1Loss"})
    library.scan()
    with pytest.raises(PluginError, match=rf"^loss 'acme/Broken' of plugin 'acme' \(acme 1\.0\): {message}"):
        lossreg.create_loss("Broken")
    assert lossreg.create_loss("Fine")(A, B)[0] == 2.0


def test_arguments_for_what_cannot_be_called_change_nothing_of_that(library):
    library.add("acme", losses={"Broken": "library:NUMBER"})
    library.scan()
    with pytest.raises(PluginError, match="expected a loss, found int, which cannot be called"):
        lossreg.create_loss("Broken", alpha=1)


def test_what_a_constructor_raises_surfaces(library):
    library.add("acme", losses={"Faulty": "library:Faulty", "Huge": "torch.nn:HuberLoss"})
    library.scan()
    with pytest.raises(ValueError, match=r"^no licence$"):
        lossreg.create_loss("Faulty")
    with pytest.raises(TypeError, match="unexpected keyword argument 'beta'"):
        lossreg.create_loss("Huge", beta=1)


def test_an_unknown_name_is_refused(packages):
    with pytest.raises(UnknownNameError, match="no loss is named 'NotThereAtAll'"):
        lossreg.create_loss("NotThereAtAll")


def test_input_has_no_meaning_where_nobody_converts_it(packages):
    packages.offering("acme", "acme", "Huge", target="torch.nn:HuberLoss")
    packages.scan()
    with pytest.raises(ValueError, match=r"^acme/Huge does not declare whether it takes logits or probabilities"):
        adopt(entry("Huge"), "x", {}, {"input": "logits"})


def test_input_has_no_meaning_for_a_loss_that_is_one_already(packages):
    class Own(lossreg.Loss):
        def __init__(self, name="own"):
            super().__init__(name)

        def compute(self, pred_batch, gt_batch):
            return pred_batch.mean()

    lossreg.register("Own")(Own)
    with pytest.raises(ValueError, match=r"^local/Own does not declare whether it takes logits or probabilities"):
        adopt(entry("Own"), "x", {}, {"input": "logits"})
    assert type(adopt(entry("Own"), "x", {}, None)) is Own


# --- wrapped by a plugin ----------------------------------------------------------------------------


def test_a_plugin_wraps_its_foreign_losses(adapted):
    made = lossreg.create_loss("Gap", scale=2.0)
    assert (made.name, float(made(A, B)[0])) == ("Gap", 4.0)


def test_options_of_a_term_overlay_those_of_the_spec(adapted):
    assert adopt(entry("Gap"), "x", {}, {"sign": -1})(A, B)[0] == -2.0


def test_what_a_plugin_leaves_goes_to_the_wrapper(adapted):
    assert type(lossreg.create_loss("Other")) is lossreg.LossWrapper


def test_what_the_plugin_of_a_loss_raises_surfaces(adapted):
    with pytest.raises(ValueError, match=r"^Gap takes values as they are$"):
        adopt(entry("Gap"), "x", {}, {"input": "logits"})


def test_a_hook_that_returns_no_loss_is_named(library):
    library.hooked("acme", "acme", WRAP.replace("return LossWrapper", "return 5 or LossWrapper"))
    library.scan()
    message = r"^lossreg_wrap of acme:acme for 'acme/Gap': expected a Loss, found int$"
    with pytest.raises(PluginError, match=message):
        lossreg.create_loss("Gap")


@pytest.mark.parametrize("distribution", ["a-broken", "z-broken"])
@pytest.mark.parametrize("body", ["raise RuntimeError('no licence')", "return 5", "raise SystemExit"])
def test_a_hook_of_another_plugin_that_is_broken_changes_nothing_but_a_warning(adapted, distribution, body):
    adapted.hooked(distribution, "broken", f"@hookimpl\ndef lossreg_wrap(loss, name, options):\n    {body}")
    adapted.scan()
    with pytest.warns(PluginWarning, match=f"lossreg_wrap of {distribution}:broken"):
        assert lossreg.create_loss("Other")(A, B)[0] == 2.0


@pytest.mark.parametrize("distribution", ["a-greedy", "z-greedy"])
def test_a_hook_that_changes_its_options_changes_no_others(adapted, distribution):
    body = "options['sign'] = 5\n    options.pop('style')\n    options['inputs'].clear()"
    adapted.hooked(distribution, "greedy", f"@hookimpl\ndef lossreg_wrap(loss, name, options):\n    {body}")
    adapted.scan()
    inputs = {"inputs": {"guess": "pred.a"}}
    for _ in range(2):
        assert adopt(entry("Gap"), "x", {}, inputs)(A, B)[0] == 2.0
    assert inputs == {"inputs": {"guess": "pred.a"}}
    assert entry("Gap").spec.wrap == {"style": "keywords", "sign": 1}


def test_a_broken_plugin_wraps_nothing(library):
    library.hooked("broken", "broken", WRAP + "\n@hookimpl\ndef lossreg_schedules():\n    raise RuntimeError\n")
    library.add("acme", losses={"Huge": "torch.nn:HuberLoss"})
    library.scan()
    assert type(adopt(entry("Huge"), "x", {}, {})) is lossreg.LossWrapper
    with pytest.raises(TypeError, match="style"):
        adopt(entry("Huge"), "x", {}, {"style": "keywords"})


# --- constructors that do not end as a constructor does -------------------------------------------------

ENDINGS = {
    "exits": ("import sys; sys.exit(0)", r"it called sys\.exit\(0\)"),
    "panics": ("raise Panic('out of cheese')", "Panic: out of cheese"),
    "closes": ("raise GeneratorExit", "GeneratorExit"),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_constructor_that_ends_the_process_is_an_error_of_its_loss(packages, ending):
    source, message = ENDINGS[ending]
    module = f"class Panic(BaseException): pass\n\nclass Loss:\n    def __init__(self):\n        {source}\n"
    packages.add("acme", losses={"Ends": "acme_ends:Loss"}, modules={"acme_ends.py": module})
    packages.scan()
    with pytest.raises(PluginError, match=rf"building loss 'acme/Ends' of plugin 'acme' \(acme 1\.0\): {message}"):
        lossreg.create_loss("acme/Ends")
    with pytest.raises(lossreg.ConfigError, match=message) as raised:
        lossreg.build_compound_loss_from_config({"losses": [{"loss": "acme/Ends"}]})
    assert raised.value.problems[0].path == "loss_params.compound_loss.losses[0]"
    with pytest.raises(lossreg.ConfigError, match=message):
        lossreg.get_loss_function({"loss": {"_target_": "acme_ends.Loss"}})


def test_an_interrupt_in_a_constructor_passes_with_a_note(packages):
    module = "class Loss:\n    def __init__(self):\n        raise KeyboardInterrupt\n"
    packages.add("acme", losses={"Ends": "acme_ends:Loss"}, modules={"acme_ends.py": module})
    packages.scan()
    with pytest.raises(KeyboardInterrupt) as raised:
        lossreg.create_loss("acme/Ends")
    assert raised.value.__notes__ == ["stopped while building loss 'acme/Ends' of plugin 'acme' (acme 1.0)"]


@pytest.mark.parametrize("error", ["BaseException('no')", "SystemExit(0)", "RuntimeError('no')", "GeneratorExit"])
def test_a_module_whose_getattr_raises_is_an_error_of_its_loss(packages, error):
    module = f"def __getattr__(name):\n    if name == 'Loss': raise {error}\n    raise AttributeError\n"
    packages.add("acme", losses={"Lazy": "acme_lazy:Loss"}, modules={"acme_lazy.py": module})
    packages.scan()
    with pytest.raises(PluginError, match=r"loss 'acme/Lazy' of plugin 'acme' .*: its target .* cannot be imported"):
        lossreg.create_loss("acme/Lazy")


@pytest.mark.parametrize("error", ["BaseException('no')", "SystemExit(0)", "RuntimeError('no')"])
def test_a_target_that_raises_as_it_is_looked_at_is_an_error_in_its_config(packages, error):
    methods = f"    def __getattr__(self, name): raise {error}\n    def __call__(self, a, b): return 0\n"
    packages.add("acme", losses={"Odd": "acme_odd:odd"}, modules={"acme_odd.py": f"class Odd:\n{methods}odd = Odd()\n"})
    packages.scan()
    with pytest.raises(lossreg.ConfigError, match="cannot be read") as raised:
        lossreg.build_compound_loss_from_config({"losses": [{"loss": "acme/Odd"}]})
    assert raised.value.problems[0].path.startswith("loss_params.compound_loss.losses[0]")


@pytest.mark.parametrize("source", ["raise KeyError('k')", "raise SystemExit(0)", "raise BaseException('no')"])
def test_a_schedule_that_fails_as_it_is_made_is_an_error_in_its_config(packages, source):
    hook = "@hookimpl\ndef lossreg_schedules():\n    return [ScheduleSpec('Bad', 'acme_plugin:bad')]\n\n"
    packages.hooked("acme", "acme", f"{hook}def bad():\n    {source}\n")
    packages.add("lines", losses={"Fine": "torch.nn:L1Loss"})
    packages.scan()
    with pytest.raises(lossreg.ConfigError) as raised:
        lossreg.build_compound_loss_from_config({"losses": [{"loss": "lines/Fine", "weight": {"schedule": "Bad"}}]})
    assert [problem.path for problem in raised.value.problems] == ["loss_params.compound_loss.losses[0].weight"]


def test_a_hook_that_exits_as_it_wraps_is_passed_over_for_others(packages):
    packages.add("lines", losses={"Fine": "torch.nn:L1Loss"})
    packages.hooked("acme", "acme", "@hookimpl\ndef lossreg_wrap(loss, name, options):\n    raise BaseException('no')")
    packages.scan()
    with pytest.warns(PluginWarning, match=r"lossreg_wrap of acme:acme is skipped .* BaseException: no"):
        made = lossreg.create_loss("lines/Fine")
    assert made(torch.ones(2), torch.zeros(2))[0] == 1


@pytest.mark.needs_plugins
def test_a_dotted_path_typed_as_a_name_is_understood():
    loss = lossreg.create_loss("torch.nn.modules.loss.L1Loss")
    assert (loss.name, loss.registered_name) == ("L1Loss", "torch/L1Loss")
    built = lossreg.build_compound_loss_from_config({"losses": ["torch.nn.L1Loss", {"loss": "monai.losses.DiceLoss"}]})
    assert built.names == ("L1Loss", "DiceLoss")


def test_a_dotted_path_typed_as_a_name_is_never_imported():
    with pytest.raises(UnknownNameError, match=r"no loss is named 'antigravity\.fly'"):
        lossreg.create_loss("antigravity.fly")
    assert "antigravity" not in sys.modules
