"""A server of the OpenAI protocol around local models, decoding with Transformers' own `generate`.

It takes prompts as token ids at /completions, as vLLM and SGLang do, and greedily writes on.
"""

import threading
from collections import Counter

import torch
from chat_server import Answer


class Writers:
    """A script of `ChatServer`: each model by its name. Counts how often each call came."""

    def __init__(self, models, tokenizer, *, seconds=0.0):
        self.models, self.tokenizer, self.seconds = models, tokenizer, seconds
        self.calls = Counter()
        self.reached = threading.Event()
        self.stop_after = None
        self._lock = threading.Lock()

    @torch.inference_mode()
    def __call__(self, request, number):
        body = request.body
        assert request.path == "/v1/completions"
        assert body["temperature"] == 0
        ids, ends = body["prompt"], [self.tokenizer.eos_token_id, *body["stop_token_ids"]]
        with self._lock:
            self.calls[body["model"], tuple(ids)] += 1
            if self.stop_after is not None and self.calls.total() >= self.stop_after:
                self.reached.set()
            (row,) = self.models[body["model"]].generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                max_new_tokens=body["max_tokens"],
                do_sample=False,
                eos_token_id=ends,
                pad_token_id=ends[0],
            )
        written = row[len(ids) :].tolist()
        choice = {
            "index": 0,
            "text": self.tokenizer.decode(written, skip_special_tokens=True),
            "finish_reason": "stop" if written[-1] in ends else "length",
        }
        usage = {"prompt_tokens": len(ids), "completion_tokens": len(written)}
        return Answer(body={"choices": [choice], "usage": usage}, seconds=self.seconds)
