"""A small model server for tests of `run`: two classes, Open Inference V2, started as a process of its own.

`python model_server.py KIND`: prints the port it listens on. KIND is a slope, the weight of the one feature, or
`html` for something that is no model.
"""

import math
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route


def application(kind: str) -> Starlette:
    async def infer(request: Request) -> Response:
        if kind == "html":
            return HTMLResponse("<html><body>Sign in to go on</body></html>")
        document = await request.json()
        shares = [1 / (1 + math.exp(-float(kind) * value)) for value in document["inputs"][0]["data"]]
        data = [number for share in shares for number in (1 - share, share)]
        output = {"name": "probabilities", "datatype": "FP64", "shape": [len(shares), 2], "data": data}
        return JSONResponse({"model_name": "toy", "outputs": [output]})

    async def anything(request: Request) -> Response:
        return JSONResponse({"error": "not here"}, 404)

    return Starlette(routes=[Route("/v2/models/toy/infer", infer, methods=["POST"]), Route("/{path:path}", anything)])


def main() -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    server = uvicorn.Server(uvicorn.Config(application(sys.argv[1]), log_level="warning"))
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
