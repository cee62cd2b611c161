"""Where language models work: in the process of the command, or in Ray actors on many machines.

And in how many processes one is trained. Of all this a result depends on the precision alone.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from taiji.config.section import Count, Section

_OURS = (
    "nproc-per-node",
    "nnodes",
    "node-rank",
    "master-addr",
    "master-port",
    "module",
    "no-python",
)


class TrainingCompute(Section):
    """Processes that train one model together, started by torch's own launcher."""

    processes: Count = Field(1, description="on each machine; one a GPU")
    machines: Count = Field(1, description="the others run `taiji join`")
    address: str | None = Field(
        None,
        pattern=r"^[^\s/:]+$",
        description="of the machine that runs the recipe, for the others",
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="where processes meet; null = a free one (one machine)"
    )
    strategy: Literal["ddp", "fsdp2"] = Field(
        "ddp", description="a copy of the model in each process, or a share of it (FSDP2)"
    )
    mixed_precision: Literal["auto", "no", "bf16"] = Field(
        "auto",
        description="auto: bfloat16 on a GPU that has it. A CPU with AMX or AVX512-BF16 learns "
        "nearly twice as fast in bf16, others up to a hundred times slower",
    )
    sequences_at_a_time: Count | None = Field(
        None, description="of SFT in each process; more of a step are accumulated; null = all"
    )
    launcher: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="further options of torchrun, such as rdzv-conf"
    )

    @property
    def total(self) -> int:
        """Processes on all machines."""
        return self.processes * self.machines

    def share(self, setting: str, value: int) -> int:
        """What each process does of a global number.

        Raises:
            ValueError: It cannot be shared out; says the arithmetic.
        """
        each, rest = divmod(value, self.total)
        if rest:
            machines = (
                f" ({self.machines} machines x {self.processes})" if self.machines > 1 else ""
            )
            raise ValueError(
                f"{setting}: {value} on {self.total} processes{machines} is "
                f"{value / self.total:.4g} each: choose a multiple of {self.total}, such as "
                f"{max(1, round(value / self.total)) * self.total}"
            )
        return each

    def micro_batches(self, each: int) -> int:
        """How many times a process computes for its part of a step of SFT: the fewest that fit."""
        most = self.sequences_at_a_time or each
        return next(n for n in range(1, each + 1) if each % n == 0 and each // n <= most)

    @field_validator("launcher")
    @classmethod
    def _leaves_ours_alone(
        cls, options: dict[str, str | int | float | bool]
    ) -> dict[str, str | int | float | bool]:
        if taken := sorted(set(options) & set(_OURS)):
            raise ValueError(f"{', '.join(taken)}: set by the settings around it")
        return options

    @model_validator(mode="after")
    def _machines_find_each_other(self) -> "TrainingCompute":
        if self.machines > 1 and (self.address is None or self.port is None):
            raise ValueError("machines: several meet at an address and a port: set both")
        return self


ONE_PROCESS = TrainingCompute()


class LocalCompute(Section):
    """In the process of the command."""

    kind: Literal["local"] = "local"
    training: TrainingCompute = ONE_PROCESS


class RayCompute(Section):
    """In Ray actors, fed by Ray Data (extra `ray`). Each holds a model of its own."""

    kind: Literal["ray"]
    workers: Count = Field(2, description="actors")
    cpus: Count = Field(1, description="cores of each actor, and threads of its model")
    gpus: float = Field(0.0, ge=0, description="GPUs of each actor; without one it uses its cores")
    address: str | None = Field(
        None,
        pattern=r"^(auto|[^\s/:]+:\d+)$",
        description="host:port of a cluster's head, or auto for the one that this machine is part "
        "of; null = a cluster of this machine, for the stage alone",
    )
    max_retries: int = Field(3, ge=0, description="further attempts at work whose actor died")
    training: TrainingCompute = ONE_PROCESS


Compute = Annotated[LocalCompute | RayCompute, Field(discriminator="kind")]
