"""Finding and loading language models: by a short name, a folder, or a Hub name.

SmolLM2's package holds a GGUF file that transformers needs half a minute to read; it is converted
to safetensors once and kept in the user's cache, where it loads in a third of a second. A copy
there that was damaged is made again.
"""

import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors import safe_open
from torch import nn
from transformers import (  # fmt: skip
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.distributed.configuration_utils import DistributedConfig

from taiji.errors import ConfigError, EngineError
from taiji.language.model_folders import MINILM as MINILM
from taiji.language.model_folders import SMOLLM2 as SMOLLM2
from taiji.language.model_folders import local_model
from taiji.store.digests import KnownDigests
from taiji.store.exhausted import ran_out
from taiji.store.user_folders import cache_folder
from taiji.store.vouched import is_whole, vouch

logger = logging.getLogger(__name__)

Dtype = Literal["auto", "float32", "bfloat16"]


def resolve_model(name: str) -> Path | str:
    """Return the folder that holds model `name`, or `name` itself if only the Hub can have it.

    Args:
        name: `smollm2-135m-instruct` or `all-minilm-l6-v2`, a local folder, or a Hub name.

    Raises:
        EngineError: A packaged model is not installed, or a path does not exist.
    """
    found = local_model(name)
    if found is None:
        return name
    return _as_safetensors(found) if found.suffix == ".gguf" else found


def load_tokenizer(name: str, *, offline: bool = False) -> PreTrainedTokenizerBase:
    """A model's tokenizer, which can pad. Code that comes with it never runs.

    Args:
        name: Short name, folder or Hub name.
        offline: Whether a Hub name is looked for in the cache alone.

    Raises:
        EngineError: It cannot be found or read; the message says what to do.
    """
    source = resolve_model(name)
    with _loading(name, source) as common:
        common["local_files_only"] |= offline
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(source), **common)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def check_causal_lm(name: str) -> None:
    """Refuse a language model that could not be loaded or prompted, without loading its weights.

    Raises:
        EngineError: It cannot be found or read; the message says what to do.
    """
    source, tokenizer = resolve_model(name), load_tokenizer(name)
    if not tokenizer.chat_template:
        raise EngineError(f"model {name!r}: its tokenizer has no chat template: take a chat model")
    with _loading(name, source) as common:
        AutoConfig.from_pretrained(str(source), **common)
        if not isinstance(source, Path):
            return
        weights = sorted(source.glob("*.safetensors"))
        if not weights:
            raise FileNotFoundError("holds no *.safetensors")
        for path in weights:
            with safe_open(path, framework="pt"):
                pass  # its header fits its length


def load_causal_lm(
    name: str, dtype: Dtype = "auto", *, shards: int = 1
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a causal language model, in evaluation mode, and its tokenizer.

    Attention is PyTorch's own, which takes the four-dimensional masks of `tree`. A folder is read
    without any look at the network. Code that comes with a model never runs.

    Args:
        name: Short name, folder or Hub name.
        dtype: Of the weights. `auto`: bfloat16 on a GPU that has it, otherwise float32 (on CPUs
            without AMX or AVX512-BF16 bfloat16 is a hundred times slower).
        shards: Processes that each load a share of the weights, by FSDP2; all must call. They are
            float32 then, and bfloat16 where they are computed with.

    Raises:
        EngineError: The model cannot be found or read; the message says what to do.
    """
    source, tokenizer = resolve_model(name), load_tokenizer(name)
    device, of_weights = _hardware()
    if dtype != "auto":
        of_weights = {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    sharded: dict[str, Any] = {}
    if shards > 1:
        mixed, of_weights = of_weights == torch.bfloat16, torch.float32
        config = DistributedConfig(fsdp_size=shards, fsdp_mixed_precision=mixed)
        sharded["distributed_config"] = config
    with _loading(name, source) as common:
        model = AutoModelForCausalLM.from_pretrained(
            str(source),
            dtype=of_weights,
            attn_implementation="sdpa",
            use_safetensors=True,
            **common,
            **sharded,
        )
    if sharded:
        return model, tokenizer
    logger.debug("loaded %s from %s: %s on %s", name, source, of_weights, device)
    nn.Module.to(model, device)  # in place; transformers' own wrapper hides the signature
    return model, tokenizer


def save_whole(model: PreTrainedModel, folder: Path) -> None:
    """Save a model in the Hugging Face layout; every process that trained it must call.

    The first one writes, and gathers the shares of the others.
    """
    first = os.environ.get("RANK", "0") == "0"
    if first or getattr(model, "is_distributed_loading_by_transformers", False):
        with quiet_loading():
            model.save_pretrained(folder, is_main_process=first)


def in_float32(model: nn.Module, *, mixed: bool) -> None:
    """Hold what is trained in float32, since bfloat16 would round small updates away.

    Args:
        model: With what is trained marked.
        mixed: Whether autocast brings the rest to one type; without it all weights must be of one.
    """
    for parameter in model.parameters():
        if (parameter.requires_grad or not mixed) and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def freeze_all_but_last(model: PreTrainedModel, num_layers: int | None) -> int:
    """Let only the last `num_layers` blocks and the final norm learn; all weights if None.

    Embeddings and the output head stay frozen with the rest: they are one matrix in small
    models, and the bulk of the parameters.

    Returns:
        The number of parameters that will be trained.

    Raises:
        ConfigError: The model has fewer blocks.
        EngineError: Its blocks are not found.
    """
    if num_layers is None:
        model.requires_grad_(True)
        return sum(p.numel() for p in model.parameters())
    blocks = blocks_of(model)
    if not 1 <= num_layers <= len(blocks):
        raise ConfigError(f"trainable_layers: {num_layers}: the model has {len(blocks)} blocks")
    model.requires_grad_(False)
    blocks[-num_layers:].requires_grad_(True)
    norm = getattr(model.get_decoder(), "norm", None)  # type: ignore[no-untyped-call]
    if isinstance(norm, nn.Module):
        norm.requires_grad_(True)
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def blocks_of(model: PreTrainedModel) -> nn.ModuleList:
    """The blocks of a decoder, first to last.

    Raises:
        EngineError: The model keeps them where they are not looked for.
    """
    blocks = getattr(model.get_decoder(), "layers", None)  # type: ignore[no-untyped-call]
    if not isinstance(blocks, nn.ModuleList):
        raise EngineError(
            f"{type(model).__name__}: its blocks are not in `layers`: all of its weights can be "
            "trained (trainable_layers: null), and none compiled (compile: false)"
        )
    return blocks


@contextmanager
def _loading(name: str, source: Path | str) -> Iterator[dict[str, Any]]:
    """What every loader is told, and one message for whatever goes wrong.

    A folder may hold anything, and loaders fail in as many ways.
    """
    local = isinstance(source, Path)
    try:
        with quiet_loading():
            yield {"local_files_only": local, "trust_remote_code": False}
    except Exception as error:
        if ran_out(error):
            raise
        mend = "check that the folder is complete" if local else "check the name and the network"
        raise EngineError(f"model {name!r}: cannot be loaded: {error}: {mend}") from error


def _hardware() -> tuple[torch.device, torch.dtype]:
    if torch.cuda.is_available():
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.device("cuda"), torch.bfloat16 if bf16 else torch.float32
    return torch.device("cpu"), torch.float32


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep transformers' own bars off the terminal, unless someone is debugging."""
    bars = transformers.utils.logging.is_progress_bar_enabled()
    if bars and not logger.isEnabledFor(logging.DEBUG):
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if bars:
            transformers.utils.logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _as_safetensors(gguf: Path) -> Path:
    """The folder that a GGUF file was converted to; made if it is not there or damaged."""
    cache = cache_folder() / "models"
    known = KnownDigests(cache / ".digests.json")
    digest = known.known(gguf).removeprefix("sha256:")
    folder = cache / f"{SMOLLM2}.{digest[:16]}"
    if not is_whole(folder, known.known):
        _convert_gguf(gguf, folder)
    known.save()
    return folder


def _convert_gguf(gguf: Path, folder: Path) -> None:
    """Write `gguf` as a safetensors folder; the folder appears whole or not at all."""
    logger.info("converting %s to safetensors, once (about half a minute): %s", gguf.name, folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write_as_safetensors(gguf, building)
        vouch(building, folder)
        try:
            building.rename(folder)
        except OSError:
            if not is_whole(folder):  # else another process was faster, and its copy is as good
                raise
    except (ImportError, ValueError) as error:
        raise EngineError(f"{gguf}: cannot be converted: {error}: pip install gguf") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _write_as_safetensors(gguf: Path, folder: Path) -> None:
    source: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    source["trust_remote_code"] = False
    # The bar of the GGUF reader has no switch and would end up in logs as garbage.
    with quiet_loading(), redirect_stderr(io.StringIO()):
        AutoTokenizer.from_pretrained(str(gguf.parent), **source).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            str(gguf.parent), dtype=torch.float32, **source
        )
        # The weights are plain floats by now; as long as these marks of the quantised file
        # remain, transformers refuses to save.
        vars(model).update(hf_quantizer=None, is_quantized=False)
        del model.config.quantization_config
        model.save_pretrained(folder)
