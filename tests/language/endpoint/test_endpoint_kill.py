"""A process that is killed while it asks an endpoint, and its successor."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
from chat_server import Answer, ChatServer, completion
from endpoint_parts import teacher

from taiji.language.endpoint.call_store import CallStore
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.generate import Sampling
from taiji.language.prompt import Prompt, Segment

NUM_PROMPTS, PER_PROMPT, CONCURRENCY = 30, 2, 4
NUM_CALLS = NUM_PROMPTS * PER_PROMPT
SAMPLING = Sampling(max_new_tokens=32, temperature=0.5, seed=7)


def ask(url, folder):
    section = teacher(url, concurrency=CONCURRENCY, api_key_env="NO_KEY")
    generator = EndpointGenerator(section, CallStore(folder))
    prompts = [Prompt("Be brief.", (Segment(f"item {i}"),)) for i in range(NUM_PROMPTS)]
    return generator.generate(prompts, PER_PROMPT, SAMPLING)


class Counting:
    """Counts the attempts of each call and says when half of all have been answered."""

    def __init__(self):
        self.half = threading.Event()
        self.attempts = Counter()
        self._lock = threading.Lock()

    def __call__(self, request, number):
        with self._lock:
            self.attempts[request.body["messages"][-1]["content"], request.body["seed"]] += 1
        if number > NUM_CALLS // 2 + CONCURRENCY:
            self.half.set()
        return Answer(body=completion(f"reply {request.body['seed']}").body, seconds=0.02)


@pytest.fixture
def counted(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    script = Counting()
    server = ChatServer(script)
    yield script, server
    server.close()


@pytest.mark.slow
def test_a_killed_process_has_at_most_the_calls_under_way_repeated(counted, tmp_path):
    script, server = counted
    tests = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": tests}
    command = [sys.executable, __file__, server.url, str(tmp_path)]
    with subprocess.Popen(command, env=environment) as child:
        while not script.half.wait(0.01):
            assert child.poll() is None
        child.kill()
        assert child.wait(20) == -signal.SIGKILL
    before = sum(script.attempts.values())
    assert NUM_CALLS // 2 <= before < NUM_CALLS
    replies = ask(server.url, tmp_path)
    assert [[reply.text for reply in row] for row in replies] == [["reply 7", "reply 8"]] * 30
    assert len(script.attempts) == NUM_CALLS
    assert NUM_CALLS <= sum(script.attempts.values()) <= NUM_CALLS + CONCURRENCY
    assert max(script.attempts.values()) <= 2


def test_an_interrupted_batch_goes_on_where_it_stopped(counted, tmp_path):
    class StopError(Exception):
        pass

    script, server = counted
    section = teacher(server.url, concurrency=CONCURRENCY, api_key_env="NO_KEY")
    prompts = [Prompt("Be brief.", (Segment(f"item {i}"),)) for i in range(NUM_PROMPTS)]

    def stop_at_half(done, total):
        if done == total // 2:
            raise StopError

    with pytest.raises(StopError):
        EndpointGenerator(section, CallStore(tmp_path)).generate(
            prompts, PER_PROMPT, SAMPLING, stop_at_half
        )
    assert NUM_CALLS // 2 <= sum(script.attempts.values()) < NUM_CALLS
    ask(server.url, tmp_path)
    assert script.attempts == Counter(dict.fromkeys(script.attempts, 1))
    assert len(script.attempts) == NUM_CALLS


if __name__ == "__main__":
    ask(sys.argv[1], Path(sys.argv[2]))
