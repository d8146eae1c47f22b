"""Answers with what was asked and the body in upper case: CPython as a component. Worlds: http"""

import asyncio
import sys

from componentize_py_types import Ok
from poll_loop import PollLoop, Sink, Stream
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    OutgoingResponse,
    ResponseOutparam,
)


class IncomingHandler(exports.IncomingHandler):
    """What the host calls for each request."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = PollLoop()
        asyncio.set_event_loop(loop)
        loop.run_until_complete(answer(request, response_out))


async def answer(request: IncomingRequest, response_out: ResponseOutparam) -> None:
    """Piece by piece as it comes. `/raise` is an error of the program's own."""
    path = request.path_with_query()
    print("asked for", path, file=sys.stderr)
    if path == "/raise":
        raise ValueError("as it was asked to")
    method = type(request.method()).__name__.removeprefix("Method_").upper()
    response = OutgoingResponse(Fields.from_list([("content-type", b"text/plain")]))
    sink = Sink(response.body())
    ResponseOutparam.set(response_out, Ok(response))
    await sink.send(f"{sys.implementation.name}: {method} {path}\n".encode())
    body = Stream(request.consume())
    while (piece := await body.next()) is not None:
        await sink.send(piece.upper())
    sink.close()
