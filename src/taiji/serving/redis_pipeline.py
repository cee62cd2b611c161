"""Commands of one event loop over one connection to Redis, many under way at once.

A pool lends a connection to one request at a time, which costs more than the command. Here commands
are sent as they come and answered in their order, as Redis promises; each is still one command.
"""

import asyncio
from collections import deque
from typing import Any, cast

import hiredis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError


class Pipeline:
    """Lives as long as its connection; made inside of the loop that asks.

    Args:
        connection: Connected, without a time-out of its own.
    """

    def __init__(self, connection: AbstractConnection) -> None:
        self._connection = connection
        self._asked: deque[asyncio.Future[Any]] = deque()
        self._listening = asyncio.create_task(self._listen())

    @property
    def is_open(self) -> bool:
        """Whether answers can still come."""
        return not self._listening.done()

    async def ask(self, *words: bytes) -> Any:
        """The answer to one command.

        Raises:
            RedisError: Redis refuses it, or the connection ends before the answer.
        """
        answer = asyncio.get_running_loop().create_future()
        self._asked.append(answer)  # before anything is waited for: the order of questions
        try:
            packed = hiredis.pack_command(cast("Any", words))  # its stub knows one word
            await self._connection.send_packed_command(packed, check_health=False)
            return await answer
        finally:
            answer.cancel()  # if it is still awaited, nobody wants it any more

    async def close(self) -> None:
        """Whoever still waits is told that the connection ended."""
        self._listening.cancel()
        await self._connection.disconnect(nowait=True)

    async def _listen(self) -> None:
        try:
            while True:
                try:
                    said = await self._connection.read_response(disable_decoding=True)
                except ResponseError as error:
                    said = error
                self._answer(said)
        except (RedisError, OSError):
            pass  # told below
        finally:
            while self._asked:
                self._answer(RedisConnectionError("the connection ended"))

    def _answer(self, said: Any) -> None:
        answer = self._asked.popleft()
        if answer.done():
            return
        if isinstance(said, RedisError):
            answer.set_exception(said)
        else:
            answer.set_result(said)
