"""Text from a local model in vLLM, in this process: for GPUs that no server stands before.

Prompts go in as token ids, so a title cannot become structure, and every reply has a seed of its
own, so it does not hang on its batch. vLLM promises the same text for the same seed only on the
same hardware and version, and not where batching changes its kernels.
"""

from collections.abc import Callable, Sequence
from typing import Any

from taiji.config.engines import VllmEngine
from taiji.errors import EngineError
from taiji.language.completions import Status
from taiji.language.generate import Reply, Sampling, reply_seed
from taiji.language.models import load_tokenizer, resolve_model
from taiji.language.prompt import ChatScaffold, Prompt

_STATUS: dict[str | None, Status] = {"stop": "ok", "length": "truncated", "abort": "truncated"}


class VllmGenerator:
    """A model in vLLM as a `TextGenerator`.

    Args:
        section: How the model lies on the GPUs.
        model: Folder or Hub name.
        name: As tables call it; the folder's if none is given.

    Attributes:
        name: As tables call it.

    Raises:
        EngineError: vLLM is missing, or it cannot load the model.
    """

    def __init__(self, section: VllmEngine, model: str, name: str | None = None) -> None:
        try:
            import vllm
        except ImportError as error:
            raise EngineError(
                "vllm: is not installed: pip install 'taiji-rec[vllm]', in an environment of its"
                " own if its versions clash"
            ) from error
        self.name = name or model
        source = str(resolve_model(model))
        self._scaffold = ChatScaffold(load_tokenizer(model))
        self._params: type[Any] = vllm.SamplingParams
        try:
            self._llm: Any = vllm.LLM(
                model=source,
                trust_remote_code=False,
                tensor_parallel_size=section.tensor_parallel_size,
                gpu_memory_utilization=section.gpu_memory_share,
                max_model_len=section.max_model_tokens,
                dtype=section.dtype,
                enable_prefix_caching=True,  # the n replies to a prompt compute it once
            )
        except (ValueError, RuntimeError, OSError) as error:
            raise EngineError(f"vllm: {model}: cannot be loaded: {error}") from error

    def generate(
        self,
        prompts: Sequence[Prompt],
        n: int,
        sampling: Sampling,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> list[list[Reply]]:
        """See `TextGenerator.generate`; vLLM sees all prompts at once and batches by itself.

        Raises:
            EngineError: A prompt with its reply is longer than the model's window.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, not {n}")
        ids = [self._scaffold.prompt_ids(prompt) for prompt in prompts]
        if not ids:
            return []
        requests = [{"prompt_token_ids": row} for row in ids for _ in range(n)]
        params = [self._sampling(row, index, sampling) for row in ids for index in range(n)]
        try:
            outputs = self._llm.generate(requests, params, use_tqdm=False)
        except ValueError as error:  # how vLLM refuses what does not fit its window
            raise EngineError(f"vllm: {self.name}: {error}") from error
        replies = [
            [_reply(output, prompt.prefill) for output in outputs[p * n : (p + 1) * n]]
            for p, prompt in enumerate(prompts)
        ]
        if on_progress:
            on_progress(len(prompts), len(prompts))
        return replies

    def _sampling(self, ids: Sequence[int], index: int, sampling: Sampling) -> Any:
        """Plain sampling by temperature; whatever defaults the model's folder brings stay out."""
        return self._params(
            n=1,
            temperature=sampling.temperature,
            max_tokens=sampling.max_new_tokens,
            seed=reply_seed(ids, index, sampling.seed, num_bytes=4),
            stop_token_ids=[self._scaffold.end_id],
            skip_special_tokens=True,
        )


def _reply(output: Any, prefill: str) -> Reply:
    (written,) = output.outputs
    status = _STATUS.get(written.finish_reason, "malformed")
    if status != "malformed" and not written.text.strip():
        status = "empty"
    return Reply(prefill + written.text, status, len(written.token_ids))
