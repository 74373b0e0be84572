"""Answers that take long to make."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response


class DocumentAnswers:
    """JSON documents made in a thread, one at a time, however many are asked for at once."""

    def __init__(self) -> None:
        self._making = asyncio.Lock()

    async def answer(self, make: Callable[[], Any]) -> Response:
        """An answer with the document that *make* gives."""
        async with self._making:
            text = await asyncio.to_thread(lambda: json.dumps(make(), indent=1, ensure_ascii=False))
        return Response(text, media_type="application/json")
