"""A missing part skips a test by name, and fails it where NERF_APP_REQUIRE says that it must be there."""

import pytest

from tests import requires as door

pytest_plugins = ["pytester"]


@pytest.fixture
def nothing_here(monkeypatch):
    monkeypatch.setitem(door.NEEDS, "compiler", lambda: "no g++ on the PATH")
    monkeypatch.setitem(door.NEEDS, "node", lambda: None)
    monkeypatch.delenv("NERF_APP_REQUIRE", raising=False)


def test_a_missing_part_skips_and_says_which_and_why(nothing_here):
    with pytest.raises(pytest.skip.Exception, match=r"^needs compiler: no g\+\+ on the PATH$"):
        door.skip_or_fail(("node", "compiler"))


def test_a_missing_part_fails_where_it_is_demanded(nothing_here, monkeypatch):
    monkeypatch.setenv("NERF_APP_REQUIRE", "pycolmap, compiler")
    with pytest.raises(pytest.fail.Exception, match="compiler is required here"):
        door.skip_or_fail(("compiler",))


def test_a_part_that_is_here_lets_the_test_run(nothing_here, monkeypatch):
    monkeypatch.setenv("NERF_APP_REQUIRE", "node")
    door.skip_or_fail(("node",))


def test_an_unknown_name_is_a_mistake():
    with pytest.raises(ValueError, match="not gremlin"):
        door.requires("compiler", "gremlin")


def test_a_module_that_cannot_be_imported_is_missing_with_its_reason():
    assert door._module("json") is None
    assert "no_such_module" in door._module("no_such_module")


@pytest.mark.parametrize("demand, outcome", [("", {"skipped": 1}), ("gone", {"errors": 1})])
def test_in_a_real_run_the_mark_skips_or_stops_the_test(pytester, monkeypatch, pytestconfig, demand, outcome):
    pytester.makeconftest("""
        from tests import requires as door
        door.NEEDS["gone"] = lambda: "it is gone"
        from tests.conftest import pytest_configure, pytest_runtest_setup  # NERF_APP_REQUIRE may now name it
    """)
    pytester.makepyfile("""
        from tests.requires import requires

        @requires("gone")
        def test_that_needs_what_is_gone():
            pass
    """)
    monkeypatch.setenv("NERF_APP_REQUIRE", demand)
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    pytester.runpytest_subprocess().assert_outcomes(**outcome)


def test_a_demand_for_something_unknown_stops_the_run(pytester, monkeypatch, pytestconfig):
    pytester.makeconftest("from tests.conftest import pytest_configure")
    monkeypatch.setenv("NERF_APP_REQUIRE", "gremlin")
    monkeypatch.setenv("PYTHONPATH", str(pytestconfig.rootpath))
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines("*not gremlin*")
