"""A real server as the teacher: `transformers serve` over SmolLM2, started here.

pip install 'transformers[serving]'
python -m pytest -m service tests/reasoning/test_teacher_service.py
"""

import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from shop import ITEMS, example

from taiji.config import OpenAITeacher
from taiji.config.text import TextSection
from taiji.language.models import SMOLLM2, resolve_model
from taiji.reasoning.teachers import TeacherTask, build_teacher

START_SECONDS = 300
# This server takes the temperature but samples only where the model's own settings say so.
SAMPLED = {"do_sample": True, "eos_token_id": 2, "pad_token_id": 2}
TASKS = [
    TeacherTask(example((3, 2), example_id="a"), ITEMS[0]),
    TeacherTask(example(example_id="b"), ITEMS[10]),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """(process, base URL, model name) of a server that is ready."""
    pytest.importorskip("uvicorn", reason="pip install 'transformers[serving]'")
    pytest.importorskip("openai", reason="pip install 'transformers[serving]'")
    model = str(resolve_model(SMOLLM2))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("transformers")
    command = [program, "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=stream) as child:
        try:
            wait_until_ready(child, port, log)
            yield child, f"http://127.0.0.1:{port}/v1", model
        finally:
            child.kill()


def wait_until_ready(child, port, log):
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert child.poll() is None, log.read_text()
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as response:
                assert response.status == 200
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"not ready after {START_SECONDS} s: {log.read_text()}")


@pytest.mark.service
def test_a_real_server_teaches_and_what_it_said_outlives_it(served, tmp_path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    child, url, model = served
    section = OpenAITeacher(
        kind="openai",
        base_url=url,
        model=model,
        api_key_env="NO_KEY",
        max_new_tokens=24,
        concurrency=2,
        timeout_seconds=240,
        extra_body={"generation_config": json.dumps(SAMPLED)},
    )
    teacher = build_teacher(section, TextSection(), 7, tmp_path)
    seen = []
    replies = teacher.write(TASKS, 2, lambda done, total: seen.append((done, total)))
    assert [len(group) for group in replies] == [2, 2]
    assert seen[-1] == (2, 2)
    for reply in (reply for group in replies for reply in group):
        assert reply.status in ("ok", "truncated")
        assert reply.text
        assert 1 <= reply.num_tokens <= 24
    assert len({reply.text for group in replies for reply in group}) == 4

    child.kill()
    child.wait(20)
    assert build_teacher(section, TextSection(), 7, tmp_path).write(TASKS, 2) == replies
