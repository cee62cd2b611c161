"""Where language models work: in the process of the command, or in Ray actors on many machines."""

from typing import Annotated, Literal

from pydantic import Field

from taiji.config.section import Count, Section


class LocalCompute(Section):
    """In the process of the command."""

    kind: Literal["local"] = "local"


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


Compute = Annotated[LocalCompute | RayCompute, Field(discriminator="kind")]
