"""One way to ask a language model, whoever asks and wherever it is.

The teacher, `infer` and what `evaluate` asks open their models here. The replies are the same
at temperature 0 up to the rounding of the engine, as long as prompts go in as token ids; a server
that is sent messages tokenises them in its own way.
"""

from pathlib import Path

from taiji.config.engines import Engine, OpenAIEngine, TransformersEngine, VllmEngine
from taiji.language.endpoint.call_store import CallStore
from taiji.language.endpoint.generator import Asking, EndpointGenerator
from taiji.language.generate import TextGenerator, TransformersGenerator
from taiji.language.models import load_causal_lm, load_tokenizer
from taiji.language.prompt import ChatScaffold
from taiji.language.vllm_engine import VllmGenerator


def open_generator(
    engine: Engine, source: str, *, name: str, calls: Path | None = None, weights: str = ""
) -> TextGenerator:
    """Load a model into this process, or find the server that holds it.

    Args:
        engine: How it is asked.
        source: Its folder or Hub name; at a server, where its tokenizer comes from.
        name: As tables call it; a server's model too, unless the engine says otherwise.
        calls: The folder of what a server was paid for; None: nothing is kept.
        weights: Which weights these are, where a server may hold other ones under this name later.

    Raises:
        ConfigError: The address of a server cannot be used.
        EngineError: The model cannot be loaded, or the server not be used.
    """
    match engine:
        case TransformersEngine():
            model, tokenizer = load_causal_lm(source, engine.dtype)
            return TransformersGenerator(model, tokenizer, name, engine.batch_size)
        case VllmEngine():
            return VllmGenerator(engine, source, name)
        case OpenAIEngine():
            scaffold = ChatScaffold(load_tokenizer(source)) if engine.prompts == "ids" else None
            store = CallStore(calls) if calls else None
            return EndpointGenerator(engine, store, Asking(engine.model or name, scaffold, weights))
