import sys

import pytest
from pydantic import ValidationError

from taiji.alignment.rewards.custom import import_rewards
from taiji.config import CustomRewardSection, RewardsSection
from taiji.errors import ConfigError

SOURCE = """
FACTOR = 3

def brevity(completions, **kwargs):
    return [1.0 for _ in completions]

async def slow(completions, **kwargs):
    return []
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_shop_rewards.py").write_text(SOURCE)
    (tmp_path / "my_broken_rewards.py").write_text("raise RuntimeError('no licence')")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "my_shop_rewards"
    sys.modules.pop("my_shop_rewards", None)


def section(path, name="mine"):
    return CustomRewardSection(name=name, path=path)


def test_a_function_is_found_by_its_path(module):
    rewards = import_rewards([section(f"{module}:brevity")])
    assert rewards["mine"](completions=["a", "b"]) == [1.0, 1.0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module:f", "no_such_module cannot be imported.*PYTHONPATH"),
        ("my_broken_rewards:f", "RuntimeError: no licence"),
        ("my_shop_rewards:brevety", "has no such name"),
        ("my_shop_rewards:FACTOR", "holds a int"),
        ("my_shop_rewards:slow", "is async"),
    ],
)
def test_what_cannot_be_imported_names_the_key_of_the_recipe(module, path, message):
    good = section(f"{module}:brevity", "good")
    with pytest.raises(ConfigError, match=rf"align\.rewards\.custom\[1\]\.path.*{message}"):
        import_rewards([good, section(path)])


@pytest.mark.parametrize("path", ["rewards.py", "a:b:c", "a/b:c", "a:", ":b", "a b:c"])
def test_a_path_of_another_form_is_refused_before_anything_runs(path):
    with pytest.raises(ValidationError):
        section(path)


def test_rewards_are_named_in_their_order():
    assert RewardsSection().names == ("semantic", "preference")
    own = (section("a:b", "x"), section("a:c", "a"))
    rewards = RewardsSection(preference=False, format="binary", custom=own)
    assert rewards.names == ("semantic", "format", "x", "a")
    more = RewardsSection(custom=own, more=({"kind": "clean"},))
    assert more.names == ("semantic", "preference", "x", "a", "clean")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"semantic": False, "preference": False}, "at least one"),
        ({"custom": (section("a:b", "semantic"),)}, "names of their own"),
        ({"custom": (section("a:b"), section("a:c"))}, "names of their own"),
        (
            {"custom": (section("a:b", "clean"),), "more": ({"kind": "clean"},)},
            "names of their own",
        ),
        ({"more": ({"kind": "clean"}, {"kind": "clean"})}, "names of their own"),
        ({"soft_items": 5}, "set gate too"),
        ({"gate": (0.8, 0.5)}, "lower cosine"),
    ],
)
def test_rewards_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        RewardsSection(**settings)
