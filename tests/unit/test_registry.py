import sys

import pytest

from convscope.errors import UnknownNameError
from convscope.registry import Registry


@pytest.fixture
def package(tmp_path, monkeypatch):
    folder = tmp_path / "plugins_of_a_test"
    (folder / "deeper").mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from convscope.registry import Registry\nTHINGS = Registry('thing', 'plugins_of_a_test')\n"
    )
    (folder / "deeper" / "__init__.py").write_text("")
    (folder / "one.py").write_text(
        "from plugins_of_a_test import THINGS\n"
        "@THINGS.register('one', size=1)\n"
        "def one():\n    '''The first thing.\n\n    More of it.\n    '''\n"
    )
    (folder / "deeper" / "two.py").write_text(
        "from plugins_of_a_test import THINGS\n"
        "@THINGS.register('two')\n"
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
        "@THINGS.register('one')\n"
        "def other():\n    '''X.'''\n"
    )
    with pytest.raises(ValueError, match="'one' is registered twice"):
        things().names()
