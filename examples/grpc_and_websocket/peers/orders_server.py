"""The order system of the example: gRPC with Debian's python3-grpcio and no generated code. Messages are texts."""

import sys
from concurrent import futures

import grpc


def show(order, context):
    """One message, one answer; the price of the call stands in the trailers."""
    if order == b"0":
        context.abort(grpc.StatusCode.NOT_FOUND, "no such order")
    context.set_trailing_metadata((("x-cost", "7"),))
    return b"order " + order


def watch(order, context):
    """One message, several answers."""
    for state in (b"placed", b"packed", b"sent"):
        yield order + b" " + state


def talk(messages, context):
    """An answer to each message, before the next one comes."""
    for message in messages:
        yield b"heard " + message


METHODS = {
    "Show": grpc.unary_unary_rpc_method_handler(show),
    "Watch": grpc.unary_stream_rpc_method_handler(watch),
    "Talk": grpc.stream_stream_rpc_method_handler(talk),
}

server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", METHODS),))
host = sys.argv[1].rpartition(":")[0]
print(f"listening on {host}:{server.add_insecure_port(sys.argv[1])}", flush=True)
server.start()
server.wait_for_termination()
