"""Pages that show something while it runs: its changes as events, or one answer that is held until it is finished (docs/decisions/0079)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from services.portal.pages.problems import PageProblem

LOOK_SECONDS: Final = 0.5
"""Between two looks."""
STREAM_SECONDS: Final = 15.0
"""How long one answer sends events; the browser asks again."""
HELD_SECONDS: Final = 10.0
"""How long an answer is held; below the timeouts of proxies (usually 60 s)."""


async def hold(
    is_finished: Callable[[], bool], seconds: float = HELD_SECONDS, look_seconds: float = LOOK_SECONDS
) -> None:
    """Return as soon as something is finished, or after `seconds`."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    while not await run_in_threadpool(is_finished) and clock() < until:
        await asyncio.sleep(look_seconds)


def follow(changing_part: Callable[[], str | None], look_seconds: float = LOOK_SECONDS) -> StreamingResponse:
    """The part of a page that changes, as events, whenever it has changed. None means finished: the event `finished` lets the browser load
    the whole page again."""
    return StreamingResponse(_events(changing_part, look_seconds), media_type="text/event-stream")


async def _events(changing_part: Callable[[], str | None], look_seconds: float) -> AsyncIterator[str]:
    clock = asyncio.get_running_loop().time
    until, sent = clock() + STREAM_SECONDS, ""
    while clock() < until:
        try:
            html = await run_in_threadpool(changing_part)
        except PageProblem:
            return  # the session has ended; the next request of the browser is answered with the page that says so
        if html is None:
            yield "event: finished\ndata: \n\n"
            return
        if html != sent:
            sent = html
            yield "".join(f"data: {line}\n" for line in html.splitlines()) + "\n"
        await asyncio.sleep(look_seconds)
