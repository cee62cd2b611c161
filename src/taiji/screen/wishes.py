"""Accelerators and what a recipe wishes for: which of it this machine can meet."""

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass

from taiji.config import OpenAIEngine, OpenAITeacher, RayCompute, Recipe, VllmEngine
from taiji.screen.finding import Finding
from taiji.screen.needs import GIB, needs


@dataclass(frozen=True)
class Accelerators:
    """The GPUs of this machine, and what talks between them.

    Attributes:
        names: One each.
        memory_bytes: Of the smallest.
        bfloat16: Whether all compute in it.
        nccl: Its version; empty where PyTorch has none.
    """

    names: tuple[str, ...] = ()
    memory_bytes: int = 0
    bfloat16: bool = False
    nccl: str = ""


def find_accelerators() -> Accelerators:
    """Ask PyTorch, which is imported for it; nothing is found where it is not installed."""
    try:
        import torch
    except ImportError:
        return Accelerators()
    nccl = ""
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        nccl = ".".join(map(str, torch.cuda.nccl.version()))  # type: ignore[no-untyped-call]
    if not torch.cuda.is_available():
        return Accelerators(nccl=nccl)
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return Accelerators(
        names=tuple(each.name for each in found),
        memory_bytes=min(each.total_memory for each in found),
        bfloat16=bool(torch.cuda.is_bf16_supported(including_emulation=False)),
        nccl=nccl,
    )


def hardware(found: Accelerators) -> Iterator[Finding]:
    """GPUs, bfloat16, NCCL, and the two engines that are extras."""
    if found.names:
        size = f"{found.memory_bytes / GIB:.0f} GiB"
        names = ", ".join(dict.fromkeys(found.names))
        yield Finding("GPUs", "ok", f"{len(found.names)} x {names}, {size} each")
        has = "all compute in it" if found.bfloat16 else "not on all: training is in float32"
        yield Finding("bfloat16", "ok" if found.bfloat16 else "warn", has)
    else:
        yield Finding("GPUs", "ok", "none: everything runs on the CPU, in float32")
    yield Finding("NCCL", "ok", found.nccl or "none in this PyTorch: processes meet by gloo")
    for name, extra in (("vllm", "vllm"), ("ray", "ray")):
        version = _version(name)
        there = version or f"not installed: pip install 'taiji-rec[{extra}]' where it is wanted"
        yield Finding(name, "ok", there)


def wishes(recipe: Recipe, found: Accelerators) -> Iterator[Finding]:
    """Each thing that the recipe asks of a machine, and whether this one has it."""
    yield from _training(recipe, found)
    compute = recipe.compute
    if isinstance(compute, RayCompute):
        asked = f"{compute.workers} workers with {compute.gpus:g} GPUs each"
        if not _version("ray"):
            yield Finding("compute: ray", "fail", "pip install 'taiji-rec[ray]'")
        elif compute.address is None and compute.workers * compute.gpus > len(found.names):
            there = f"{asked}, and {len(found.names)} here: lower them, or name a cluster"
            yield Finding("compute: ray", "fail", there)
        else:
            yield Finding("compute: ray", "ok", asked)
    for what, engine in _engines(recipe):
        if isinstance(engine, VllmEngine):
            yield _vllm(what, engine, found)


def _training(recipe: Recipe, found: Accelerators) -> Iterator[Finding]:
    training, there = recipe.compute.training, len(found.names)
    asked = f"{training.processes} processes here by {training.strategy}"
    if training.machines > 1:
        asked += f", {training.total} on {training.machines} machines"
    if not there:
        yield Finding("training", "ok" if training.total == 1 else "warn", f"{asked}, on CPUs")
    elif training.processes > there:
        more = f"{asked}, and {there} GPUs: lower compute.training.processes"
        yield Finding("training", "fail", more)
    else:
        yield Finding("training", "ok", asked)
    if training.mixed_precision == "bf16" and not found.bfloat16:
        yield _no_bfloat16(found)
    for need in needs(recipe):
        if need.memory is None or need.device_bytes is None or not there:
            continue
        fits = need.device_bytes <= found.memory_bytes
        words = (
            f"{need.device_bytes / GIB:.0f} GiB a GPU at most, of {found.memory_bytes / GIB:.0f}"
        )
        mend = "" if fits else ": more processes with fsdp2, or shorter prompts"
        yield Finding(f"memory of {need.stage}", "ok" if fits else "warn", words + mend)


def _no_bfloat16(found: Accelerators) -> Finding:
    if found.names:
        return Finding("mixed precision", "fail", "bf16 is asked for, and these GPUs lack it")
    slow = (
        "bf16 on a CPU: faster where it has AVX512-BF16 or AMX, up to a hundred times slower else"
    )
    return Finding("mixed precision", "warn", slow)


def _engines(recipe: Recipe) -> Iterator[tuple[str, object]]:
    yield "distill.teacher", recipe.distill.teacher
    yield "infer.engine", recipe.infer.engine
    for name, engine in recipe.infer.engines.items():
        yield f"infer.engines.{name}", engine


def servers(recipe: Recipe) -> Iterator[tuple[str, OpenAITeacher | OpenAIEngine]]:
    """Every server that the recipe asks, by the setting that names it."""
    for what, engine in _engines(recipe):
        if isinstance(engine, OpenAITeacher | OpenAIEngine):
            yield what, engine


def _vllm(what: str, engine: VllmEngine, found: Accelerators) -> Finding:
    if not _version("vllm"):
        return Finding(what, "fail", "vllm: pip install 'taiji-rec[vllm]'")
    if found.names and engine.tensor_parallel_size > len(found.names):
        wanted = f"vllm on {engine.tensor_parallel_size} GPUs, and {len(found.names)} here"
        return Finding(what, "fail", wanted)
    if not found.names:
        return Finding(what, "warn", "vllm without a GPU: only its build for CPUs runs")
    return Finding(what, "ok", f"vllm on {engine.tensor_parallel_size} GPUs")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""
