"""What SFT and POPO share: checkpoints, trainer arguments, the model card."""
