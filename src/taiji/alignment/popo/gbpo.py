"""GBPO of OneRec-V2 (arXiv 2508.20900): a policy loss whose gradients are bounded without clipping.

    J = -E[1/G sum_i pi / pi'_old A_i],   pi'_old = max(pi_old, sg(pi))      where A >= 0
                                          pi'_old = max(pi_old, 1 - sg(pi))  where A < 0

so that A grad log pi of a token is multiplied by min(pi / pi_old, 1) or pi / max(pi_old, 1 - pi).
The second may exceed 1, but times 1 - pi, which is what log pi gains with its own logit, it does
not: a token that has become rare is hardly pushed further down, as in binary cross-entropy. Even
on-policy it is not GRPO: tokens of negative advantage count min(1, pi / (1 - pi)).

The half for A >= 0 is TRL's `cispo` with a cap of 1.
"""

import torch

_RAREST = 1e-30  # keeps 0 / 0 and log 0 away


def gbpo_factor(
    logp_BC: torch.Tensor, old_logp_BC: torch.Tensor, advantage_B1: torch.Tensor
) -> torch.Tensor:
    """What multiplies A * grad log pi of each token; above 0.

    Args:
        logp_BC: log pi of each token now.
        old_logp_BC: The same when the rollouts were drawn.
        advantage_B1: Of each rollout.
    """
    now, old = logp_BC.double().exp(), old_logp_BC.double().exp()
    least = torch.where(advantage_B1 >= 0, now, 1 - now)
    factor = now / torch.maximum(old, least).clamp_min(_RAREST)
    return factor.clamp_min(_RAREST).to(logp_BC.dtype)
