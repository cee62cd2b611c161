"""How the tests of endpoints set them up."""

import torch
from chat_server import Answer

from taiji.config import OpenAITeacher

KEY = "sk-canary-0123456789"
RETRY = ("max_retries", "first_pause_seconds", "deadline_seconds", "stop_after_failures")


def teacher(base_url, **options):
    """The section of a teacher that is asked without long pauses."""
    retry = {"max_retries": 2, "first_pause_seconds": 0.02, "stop_after_failures": 1}
    retry |= {name: options.pop(name) for name in RETRY if name in options}
    fields = {"model": "m-1", "concurrency": 1, "timeout_seconds": 5.0, "api_key_env": "TEST_KEY"}
    return OpenAITeacher(kind="openai", base_url=base_url, retry=retry, **(fields | options))


class Echo:
    """Scores prompts of token ids by a local model, as vLLM does."""

    def __init__(self, model, *, alter=lambda values: values):
        self.model, self.alter = model, alter

    @torch.inference_mode()
    def __call__(self, request, number):
        body = request.body
        assert request.path == "/v1/completions"
        assert (body["echo"], body["max_tokens"], body["logprobs"]) == (True, 1, 1)
        ids = torch.tensor([body["prompt"]])
        logprobs = self.model(input_ids=ids).logits[0].double().log_softmax(-1)
        told = logprobs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        written = float(logprobs[-1].max())
        return Answer(
            body={"choices": [{"logprobs": {"token_logprobs": self.alter([None, *told, written])}}]}
        )
