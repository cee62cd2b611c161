"""Stage 3: two rewards, adaptive weights (POPO), and GRPO."""
