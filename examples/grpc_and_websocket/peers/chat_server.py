"""The chat of the example: a WebSocket that answers, with Debian's python3-websockets."""

import asyncio
import sys

import websockets


async def talk(socket):
    async for message in socket:
        await socket.send(f"you said {message}")


async def main():
    host, _, port = sys.argv[1].rpartition(":")
    async with websockets.serve(talk, host, int(port)) as server:
        print(f"listening on {host}:{server.sockets[0].getsockname()[1]}", flush=True)
        await asyncio.Future()


asyncio.run(main())
