"""A module in the place of vLLM, as far as Taiji uses it: same names, same shapes.

`SamplingParams` takes keywords; `LLM.generate` takes prompts as dictionaries with token ids and a
list of parameters of the same length, and gives one `RequestOutput` a prompt, in order, whose
`outputs` hold text, token ids and a finish reason. What it writes is a function of ids and seed.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace


@dataclass
class SamplingParams:
    n: int = 1
    temperature: float = 1.0
    max_tokens: int | None = 16
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    skip_special_tokens: bool = True


@dataclass
class LLM:
    model: str
    trust_remote_code: bool = False
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9
    max_model_len: int | None = None
    enable_prefix_caching: bool | None = None
    dtype: str = "auto"
    requests: list = field(default_factory=list)
    endings: dict = field(default_factory=dict)  # finish reason and text by prompt number

    def generate(self, prompts, sampling_params, *, use_tqdm=True):
        assert len(prompts) == len(sampling_params)
        assert not use_tqdm
        longest = max(len(prompt["prompt_token_ids"]) for prompt in prompts)
        if self.max_model_len is not None and longest > self.max_model_len:
            raise ValueError(f"prompt of {longest} tokens is longer than {self.max_model_len}")
        self.requests += zip(prompts, sampling_params, strict=True)
        return [self._output(number, params) for number, params in enumerate(sampling_params)]

    def _output(self, number, params):
        reason, text = self.endings.get(number, ("stop", f"seed {params.seed}"))
        one = SimpleNamespace(index=0, text=text, token_ids=[5, 6, 7], finish_reason=reason)
        return SimpleNamespace(outputs=[one], finished=True)
