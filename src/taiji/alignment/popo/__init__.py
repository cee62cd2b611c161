"""Reward weights by POPO around TRL's GRPO (Eq. 5, 7, 8, 9); knows no recommender."""
