import sys
from pathlib import Path

import pytest

from convscope import registry
from convscope.errors import DuplicateNameError, UnknownNameError
from convscope.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "plugins_of_a_test"
    (folder / "deeper").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from convscope.registry import Registry\n"
        "THINGS = Registry('thing', 'plugins_of_a_test', group='a_test.things',\n"
        "                  needs={'size': (1, 2)})\n"
    )
    (folder / "deeper" / "__init__.py").write_text("")
    (folder / "one.py").write_text(
        "from plugins_of_a_test import THINGS\n"
        "@THINGS.register('one', size=1)\n"
        "def one():\n    '''The first thing.\n\n    More of it.\n    '''\n"
    )
    (folder / "deeper" / "two.py").write_text(
        "from plugins_of_a_test import THINGS\n"
        "@THINGS.register('two', size=2)\n"
        "def two():\n    '''Second.'''\n"
    )
    (folder / "_private.py").write_text("raise RuntimeError('must not be imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    for name in [name for name in sys.modules if name.startswith("plugins_of_a_test")]:
        del sys.modules[name]


def things() -> Registry:
    import plugins_of_a_test

    return plugins_of_a_test.THINGS


def test_one_new_file_is_enough(package):
    assert things().names() == ["one", "two"]
    assert things().entry("one").summary == "The first thing"
    assert things().entry("one").info == {"size": 1}


def test_unknown_name_suggests_the_nearest(package):
    with pytest.raises(UnknownNameError, match="unknown thing 'onne'; did you mean 'one'"):
        things().get("onne")
    with pytest.raises(UnknownNameError, match="choose one of: one, two"):
        things().get("zzzzzz")


def test_duplicate_name_raises(package):
    (package / "again.py").write_text(
        "from plugins_of_a_test import THINGS\n"
        "@THINGS.register('one', size=1)\n"
        "def other():\n    '''X.'''\n"
    )
    with pytest.raises(DuplicateNameError, match="the thing 'one' is registered twice") as raised:
        things().names()
    assert "in plugins_of_a_test.again and in plugins_of_a_test.one" in str(raised.value)


def test_what_a_registration_has_to_say_is_asked_for(package):
    (package / "bare.py").write_text(
        "from plugins_of_a_test import THINGS\n@THINGS.register('bare')\ndef bare(): pass\n"
    )
    with pytest.raises(ValueError, match='the thing .bare. must be registered with size="1" or'):
        things().names()


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package of one module, which may register things."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setattr(registry, "_broken", set())
    modules = []

    def installed(name, code):
        module = name.replace("-", "_")
        modules.append(module)
        (site / f"{module}.py").write_text(f"from plugins_of_a_test import THINGS\n{code}\n")
        facts = site / f"{module}-1.2.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
        (facts / "entry_points.txt").write_text(f"[a_test.things]\nany-name = {module}\n")

    yield installed
    for module in modules:
        sys.modules.pop(module, None)


def register(name):
    return f"@THINGS.register('{name}', size=2)\ndef {name}():\n    '''From elsewhere.'''"


def test_an_installed_package_adds_its_own(package, install):
    install("acme-things", register("three"))
    assert things().names() == ["one", "three", "two"]
    assert things().entry("three").package == "acme-things 1.2"
    assert things().entry("three").description == "From elsewhere (from acme-things 1.2)"
    assert things().entry("one").package is None
    assert things().entry("one").description == "The first thing"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def (", "SyntaxError: "),
        ("raise RuntimeError('first line\\nsecond')", "RuntimeError: first line)"),
        ("THINGS.register('bare')", "ValueError: the thing 'bare' must be registered with"),
    ],
)
def test_a_broken_package_is_left_out_with_one_line(package, install, capsys, fault, reason):
    install("broken-things", f"{register('half')}\n{fault}")
    install("whole-things", register("three"))
    assert things().names() == ["one", "three", "two"]
    assert things().names() == ["one", "three", "two"]
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("broken-things 1.2 is skipped: its broken_things cannot be imported (")
    assert reason in told
    assert told.endswith("; fix it, or: pip uninstall broken-things\n")


def test_a_broken_package_leaves_nothing_in_any_registry(package, install):
    # Which of the registries that share a group is asked first must not matter.
    others = registry.Registry("other", "plugins_of_a_test", group="a_test.things")
    install("broken-things", f"{register('half')}\nraise RuntimeError")
    assert others.names() == []
    assert things().names() == ["one", "two"]


def test_a_package_that_takes_a_name_is_named(package, install):
    install("acme-things", register("one"))
    for _ in range(2):  # it stays an error
        with pytest.raises(DuplicateNameError, match="the thing 'one' is registered twice") as e:
            things().names()
        assert "in plugins_of_a_test.one and in acme_things of acme-things 1.2" in str(e.value)
        assert str(e.value).endswith("or: pip uninstall acme-things")


def test_the_documentation_lists_each_group():
    from convscope.datasets import DATASETS
    from convscope.diagnosis import TRAPS
    from convscope.engines import ENGINES
    from convscope.export import FORMATS
    from convscope.models import MODELS
    from convscope.models.backbones import BACKBONES
    from convscope.recipes import RECIPES

    page = (Path(__file__).parents[2] / "docs" / "plugins.md").read_text(encoding="utf-8")
    groups = [each._group for each in (DATASETS, TRAPS, ENGINES, FORMATS, MODELS, RECIPES)]
    assert MODELS._group == BACKBONES._group
    assert [group for group in groups if f"| `{group}` |" not in page] == []
