"""How much of a teacher's time is lost between Taiji and an endpoint.

    python benchmarks/distill.py

A server in a process of its own answers every chat completion after a fixed delay, however many
there are at once. Asking it for n replies with c calls side by side cannot take less than
delay x n / c. Measured is the wall time over that: of Taiji's endpoint, replies written to the
store, prompts by the shard as `distill` sends them; and, where `openai` is installed, of its
asynchronous client behind a semaphore, which keeps nothing. By turns, several times. Then the
same batch once more, which must come from the store without a call. Prints a table; the last
line is JSON.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from taiji.config import OpenAITeacher
from taiji.language.endpoint.call_store import CallStore
from taiji.language.endpoint.generator import EndpointGenerator
from taiji.language.generate import Sampling
from taiji.language.prompt import Prompt, Segment

PER_PROMPT = 4
SAMPLING = Sampling(max_new_tokens=256, temperature=0.8, seed=17)
HISTORY = "\n".join(f"{day} days before: bought yogurt {day} oz" for day in range(1, 51))
REPLY = {
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The user buys yogurt weekly. " * 20},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 700, "completion_tokens": 140, "total_tokens": 840},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--delay", type=float, default=1.0, help="seconds the server takes")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--calls", type=int, default=320)
    parser.add_argument("--shard", type=int, default=64, help="prompts to a batch")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--serve", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        asyncio.run(serve(arguments.serve))
        return
    compare(arguments)


def compare(arguments: argparse.Namespace) -> None:
    ideal = arguments.delay * arguments.calls / arguments.concurrency
    ways = {"taiji": taiji_seconds} | ({"openai": openai_seconds} if has_openai() else {})
    wall: dict[str, list[float]] = {name: [] for name in [*ways, "again"]}
    with server(arguments.delay) as url:
        warm = argparse.Namespace(**vars(arguments) | {"calls": arguments.concurrency})
        for run in ways.values():  # imports and certificates are read once
            run(url, warm)
        for _ in range(arguments.repeats):
            for name, run in ways.items():
                first, again = run(url, arguments)
                wall[name].append(first)
                if again is not None:
                    wall["again"].append(again)
    print(f"{arguments.calls} calls of {arguments.delay:g} s, {arguments.concurrency} side by side:"
          f" {ideal:.2f} s at best")  # fmt: skip
    print(f"{'':10} {'seconds':>8} {'spread':>14} {'over ideal':>10}")
    for name, seconds in wall.items():
        median, spread = statistics.median(seconds), f"{min(seconds):.2f}-{max(seconds):.2f}"
        print(f"{name:10} {median:8.2f} {spread:>14} {median / ideal:10.3f}")
    told = {name: statistics.median(seconds) / ideal for name, seconds in wall.items()}
    print(json.dumps({
        "over_ideal": round(told["taiji"], 4),
        "openai_over_ideal": round(told["openai"], 4) if "openai" in told else None,
        "again_over_first": round(told["again"] / told["taiji"], 4),
        "delay_seconds": arguments.delay,
        "concurrency": arguments.concurrency,
        "calls": arguments.calls,
    }))  # fmt: skip


def prompts(arguments: argparse.Namespace) -> list[Prompt]:
    words = "Explain the next purchase."
    return [
        Prompt(words, (Segment(f"user {number}\n{HISTORY}"),))
        for number in range(arguments.calls // PER_PROMPT)
    ]


def taiji_seconds(url: str, arguments: argparse.Namespace) -> tuple[float, float]:
    """Wall time of all shards, and of all shards once more."""
    section = OpenAITeacher(
        kind="openai", base_url=url, model="m", concurrency=arguments.concurrency
    )
    asked = prompts(arguments)
    with tempfile.TemporaryDirectory(prefix="distill-") as folder:
        times = []
        for _ in range(2):
            began = time.perf_counter()
            generator = EndpointGenerator(section, CallStore(Path(folder)))
            for start in range(0, len(asked), arguments.shard):
                part = asked[start : start + arguments.shard]
                replies = generator.generate(part, PER_PROMPT, SAMPLING)
                assert all(reply.status == "ok" for row in replies for reply in row)
            times.append(time.perf_counter() - began)
    return times[0], times[1]


def has_openai() -> bool:
    try:
        import openai  # noqa: F401
    except ImportError:
        return False
    return True


def openai_seconds(url: str, arguments: argparse.Namespace) -> tuple[float, None]:
    """The usual way: everything at once, a semaphore in front."""
    from openai import AsyncOpenAI

    async def all_of_them() -> None:
        gate = asyncio.Semaphore(arguments.concurrency)

        async def ask(client: AsyncOpenAI, prompt: Prompt, index: int) -> None:
            async with gate:
                answer = await client.chat.completions.create(
                    model="m",
                    messages=prompt.messages(),
                    temperature=SAMPLING.temperature,
                    max_tokens=SAMPLING.max_new_tokens,
                    seed=index,
                )
            assert answer.choices[0].message.content

        async with AsyncOpenAI(base_url=url, api_key="none") as client:
            jobs = [ask(client, p, i) for p in prompts(arguments) for i in range(PER_PROMPT)]
            await asyncio.gather(*jobs)

    began = time.perf_counter()
    asyncio.run(all_of_them())
    return time.perf_counter() - began, None


@contextmanager
def server(delay: float) -> Iterator[str]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        os.environ.pop(name, None)
    command = [sys.executable, __file__, "--serve", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.terminate()


async def serve(delay: float) -> None:
    """Chat completions after `delay` seconds, over connections that stay open."""
    body = json.dumps(REPLY).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    response = head.encode() + b"\r\n" + body

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(request.partition(b"content-length:")[2].split(b"\r\n")[0])
                await reader.readexactly(length)
                await asyncio.sleep(delay)
                writer.write(response)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    main()
