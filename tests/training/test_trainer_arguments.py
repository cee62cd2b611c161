import pytest
from trl import GRPOConfig, SFTConfig

from taiji.errors import ConfigError
from taiji.training.trainer_arguments import check_trainer_arguments


@pytest.mark.parametrize("cls", [SFTConfig, GRPOConfig])
def test_fields_of_trl_pass(cls):
    check_trainer_arguments(cls, {"weight_decay": 0.1, "max_grad_norm": 0.5}, "sft.trainer")


def test_a_misspelt_field_is_refused_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"sft.trainer.weight_decy: SFTConfig .* 'weight_decay'"):
        check_trainer_arguments(SFTConfig, {"weight_decy": 0.1}, "sft.trainer")


def test_a_field_like_no_other_is_refused_too():
    with pytest.raises(ConfigError, match="see the fields of TRL's class"):
        check_trainer_arguments(SFTConfig, {"qqqqqq": 1}, "sft.trainer")


def test_what_the_recipe_says_elsewhere_is_refused():
    with pytest.raises(ConfigError, match=r"set `align.learning_rate`"):
        check_trainer_arguments(GRPOConfig, {"learning_rate": 1.0}, "align.trainer")


def test_what_would_do_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"packing.*do nothing"):
        check_trainer_arguments(SFTConfig, {"packing": True}, "sft.trainer")
