"""Broken metadata affects at most its own distribution, with a warning."""

from __future__ import annotations

import shutil
import sys
import warnings

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lossreg
from lossreg.errors import PluginWarning
from lossreg.registry import packages as metadata
from lossreg.registry.plugins import Switches, discover

HEAD = b"Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n"

USED = {  # metadata with which its losses can be used all the same
    "latin-1": HEAD + "Author: Jos\xe9\n".encode("latin-1"),
    "a description in latin-1": HEAD + b"\n" + "caf\xe9".encode("latin-1"),
    "UTF-16 marks": b"\xff\xfe" + HEAD,
    "empty": b"",
    "null bytes": b"\0" * 100,
    "no name": b"Metadata-Version: 2.1\nVersion: 1.0\n",
    "no version": b"Metadata-Version: 2.1\nName: odd\n",
    "a name in latin-1": b"Metadata-Version: 2.1\nName: \xf6dd\nVersion: 1.0\n",
    "a name with control characters": b"Metadata-Version: 2.1\nName: o\x1b[2Jdd\nVersion: 1.0\n",
    "a version that is none": b"Metadata-Version: 2.1\nName: odd\nVersion: not a version\n",
    "Requires-Python that is none": HEAD + b"Requires-Python: >=3.banana\n",
    "a marker of another requirement that does not compare": HEAD + b"Requires-Dist: numpy; os_name ~= 'posix'\n",
    "another requirement that does not parse": HEAD + b"Requires-Dist: lossregular @@ ???\n",
}

LEFT_OUT = {  # and with which they cannot
    "a marker that does not compare": "lossreg >= 0.1 ; os_name ~= 'posix'",
    "a marker of an unknown variable": "lossreg ; colour == 'red'",
    "a marker that does not parse": "lossreg ; os_name == 'posix' and",
    "a specifier that does not parse": "lossreg >== 1",
    "letters in latin-1": "lossreg ; os_name == 'p\xf6six",
}


@pytest.fixture
def sound(packages):
    packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    return packages


def write_odd(packages, info, way="losses"):
    if way == "losses":
        packages.add("odd", losses={"Odd": "torch.nn:L1Loss"}, info=info)
    else:
        packages.offering("odd", "odd", "Odd", info=info)


@pytest.mark.parametrize("way", ["losses", "hooks"])
@pytest.mark.parametrize("kind", USED)
def test_odd_metadata_is_read_as_far_as_it_can_be(sound, kind, way):
    write_odd(sound, USED[kind], way)
    lossreg.refresh()  # no warning
    assert lossreg.list_losses("odd/*") == ["odd/Odd"]
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


@pytest.mark.parametrize("way", ["losses", "hooks"])
@pytest.mark.parametrize("kind", LEFT_OUT)
def test_a_requirement_of_the_core_that_means_nothing_leaves_its_own_plugin_out(sound, kind, way):
    write_odd(sound, HEAD + b"Requires-Dist: " + LEFT_OUT[kind].encode("latin-1") + b"\n", way)
    with pytest.warns(
        PluginWarning, match=r"plugin 'odd' \(odd 1\.0\) is skipped: .*its requirement .* cannot be read"
    ):
        lossreg.refresh()
    assert lossreg.list_losses("odd/*") == []
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_without_metadata_the_folder_says_the_name(sound):
    sound.add("odd-losses", losses={"Odd": "torch.nn:L1Loss"})
    (sound.folder / "odd_losses-1.0.dist-info" / "METADATA").unlink()
    found = sound.plugin("odd_losses")
    assert (found.version, found.error) == ("1.0", None)


@pytest.mark.parametrize("broken", ["METADATA", "entry_points.txt"])
def test_a_file_that_cannot_be_opened_takes_nothing_else_down(sound, broken):
    sound.add("odd", losses={"Odd": "torch.nn:L1Loss"}, requires=["lossreg"])
    file = sound.folder / "odd-1.0.dist-info" / broken
    file.unlink()
    file.symlink_to(file)  # which is a loop
    sound.scan()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_entry_points_that_cannot_be_opened_are_told_of_a_package_that_needs_lossreg(sound):
    sound.add("odd", losses={"Odd": "torch.nn:L1Loss"}, requires=["lossreg>=0.1"])
    sound.add("foreign", losses={"Odd": "torch.nn:L1Loss"}, requires=["numpy"])
    for name in ("odd", "foreign"):
        file = sound.folder / f"{name}-1.0.dist-info" / "entry_points.txt"
        file.unlink()
        file.symlink_to(file)
    with pytest.warns(PluginWarning) as caught:
        lossreg.refresh()
    (warning,) = caught
    assert str(warning.message).startswith(
        "plugin 'odd' (odd 1.0) is skipped: PluginError: its entry_points.txt cannot"
    )


def test_a_package_that_needs_lossreg_and_has_no_entry_points_is_no_plugin(sound):
    sound.add("user", losses={"Odd": "torch.nn:L1Loss"}, requires=["lossreg>=0.1"])
    (sound.folder / "user-1.0.dist-info" / "entry_points.txt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lossreg.refresh()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]
    assert lossreg.list_losses("user/*") == []


def test_bytes_in_entry_points_that_are_no_utf8_spoil_their_own_line_alone(sound):
    text = "[console_scripts]\nna\xefve = a:b\n[lossreg.losses]\nOdd = torch.nn:L1Loss\n".encode("latin-1")
    sound.add("odd", text=text)
    lossreg.refresh()
    assert lossreg.list_losses("odd/*") == ["odd/Odd"]


@pytest.mark.parametrize("line", [b"\xd6dd = torch.nn:L1Loss", b"Odd = torch.nn:\xd6dd", b"\0\xff\xfe"])
def test_a_line_of_ours_that_is_no_utf8_leaves_its_plugin_out(sound, line):
    sound.add("odd", text=b"[lossreg.losses]\nFine = torch.nn:L1Loss\n" + line + b"\n")
    with pytest.warns(PluginWarning, match=r"plugin 'odd' \(odd 1\.0\) is skipped"):
        lossreg.refresh()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_a_section_that_stands_twice_is_read_as_one(sound):
    sound.add("odd", text="[lossreg.losses]\nA = torch.nn:L1Loss\n[lossreg.losses]\nB = torch.nn:MSELoss\n")
    lossreg.refresh()
    assert lossreg.list_losses("odd/*") == ["odd/A", "odd/B"]


@pytest.mark.parametrize("name", ["a/b", "a b", "\x1b[2J", "\u202eseg", "sch\u00f6n", "core", "local", "x" * 101])
def test_a_plugin_whose_name_no_config_can_say_is_left_out(sound, name):
    sound.hooked("odd", name, "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('Odd', 'torch.nn:L1Loss')]")
    with pytest.warns(PluginWarning, match=r"its name: expected .*, found|is reserved for lossreg"):
        lossreg.refresh()
    assert lossreg.list_losses("*/Odd") == []
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


def test_a_folder_that_vanishes_as_it_is_read_takes_nothing_else_down(sound, monkeypatch):
    write_odd(sound, HEAD)
    read = metadata.Package.read_text

    def vanish(self, filename):
        text = read(self, filename)
        if text and "Odd" in text:
            shutil.rmtree(sound.folder / "odd-1.0.dist-info", ignore_errors=True)
        return text

    monkeypatch.setattr(metadata.Package, "read_text", vanish)
    lossreg.refresh()
    assert not (sound.folder / "odd-1.0.dist-info").exists()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", None])
def test_a_broken_egg_info_takes_nothing_down(sound, content):
    egg = sound.folder / "odd.egg-info"
    if content is None:
        egg.mkdir()
        (egg / "entry_points.txt").write_text("[lossreg.losses]\nOdd = torch.nn:L1Loss\n")
        (egg / "requires.txt").write_bytes(b"[\xff broken\nlossreg")
    else:
        egg.write_bytes(content)
    lossreg.refresh()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]
    assert lossreg.list_losses("odd/*") == (["odd/Odd"] if content is None else [])


def test_of_two_versions_in_one_folder_the_newest_is_taken_and_both_are_told(sound):
    for version, name in (("9.0", "Old"), ("10.0", "New")):
        sound.add("odd", version=version, losses={name: "torch.nn:L1Loss"})
    with pytest.warns(PluginWarning, match=r"odd is installed in several versions in .*: 9\.0, 10\.0; 10\.0 is used"):
        lossreg.refresh()
    assert lossreg.list_losses("odd/*") == ["odd/New"]


def test_what_pip_left_behind_is_passed_over(sound):
    sound.add("odd", losses={"Odd": "torch.nn:L1Loss"})
    (sound.folder / "odd-1.0.dist-info").rename(sound.folder / "~dd-1.0.dist-info")
    lossreg.refresh()
    assert lossreg.list_losses("*/Odd") == []


def test_a_finder_of_somebody_else_that_raises_hides_nothing(sound, monkeypatch):
    class Broken:
        def find_spec(self, *_):
            return None

        def find_distributions(self, _):
            raise RuntimeError("no index")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    lossreg.refresh()
    assert lossreg.list_losses("sound/*") == ["sound/Sound"]


HEADERS = st.sampled_from(
    [
        b"Name: odd",
        b"Version: 1",
        b"Requires-Dist: lossreg",
        b"Requires-Dist: lossreg>=99",
        b"Metadata-Version: 2.1",
        b"",
    ]
)
SECTIONS = st.sampled_from(
    [b"[lossreg]", b"[lossreg.losses]", b"Odd = torch.nn:L1Loss", b"[", b"= a", b"a = b [c", b""]
)
NOISE = st.binary(max_size=20)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(headers=st.lists(HEADERS | NOISE, max_size=6), points=st.lists(SECTIONS | NOISE, max_size=6))
def test_whatever_stands_in_metadata_takes_nothing_else_down(packages, headers, points):
    folder = packages.folder / "odd-1.0.dist-info"
    if not folder.exists():
        packages.add("odd", losses={"Odd": "torch.nn:L1Loss"})
        packages.add("sound", losses={"Sound": "torch.nn:L1Loss"})
    (folder / "METADATA").write_bytes(b"\n".join(headers))
    (folder / "entry_points.txt").write_bytes(b"\n".join(points))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        _, plugins = discover(Switches())
    (sound,) = (plugin for plugin in plugins if plugin.distribution == "sound")
    assert (sound.error, [spec.name for spec in sound.specs]) == (None, ["Sound"])


# --- the library that a loss needs --------------------------------------------------------------------


@pytest.mark.parametrize("info", [b"", b"\xff\xfe", b"Name: library\n", b"Name: library\nVersion: 2.0\nAuthor: \xe9\n"])
def test_a_library_of_odd_metadata_has_the_version_of_its_folder(packages, info):
    packages.add("library", version="2.0", info=info)
    assert metadata.unmet("library>=1") == ""
    assert metadata.unmet("library>=3") == "library 2.0 is installed"


def test_a_library_whose_version_is_none_is_told(packages):
    packages.add("library", info="Name: library\nVersion: banana\n")
    packages.add("acme", losses={"Sound": "torch.nn:L1Loss"})
    assert metadata.unmet("library>=1") == "library is installed in an unknown version, 'banana'"
    assert metadata.unmet("library") == ""


def test_a_package_is_named_by_its_folder_where_its_metadata_cannot_be_read(packages):
    packages.add("odd", version="3.1", info=b"\xff")
    (found,) = (package for package in metadata.packages() if package.folder == str(packages.folder))
    assert (found.title, found.release, found.needs) == ("odd", "3.1", ())


def test_a_spec_with_a_package_of_no_version_is_listed_as_absent(packages):
    packages.add("library", info="Name: library\nVersion: banana\n")
    packages.hooked(
        "acme",
        "acme",
        "@hookimpl\ndef lossreg_losses():\n    return [LossSpec('A', 'torch.nn:L1Loss', package='library>=1')]",
    )
    assert packages.plugin("acme").error is None
    with pytest.raises(lossreg.errors.UnknownNameError, match="unknown version, 'banana'"):
        lossreg.find_loss("acme/A")
