"""Calls the order system: orders_client.py ADDRESS show|watch ORDER, or talk TEXT..., with Debian's python3-grpcio.

Prints what came, message by message, then the status; exit code 1 where it is not OK. With ORDERS_CA=FILE it comes over
TLS and trusts the authority of that file.
"""

import os
import queue
import sys

import grpc

TIMEOUT_S = 20
address, method, *texts = sys.argv[1:]
# What the environment says of proxies is not meant for this.
options = (("grpc.enable_http_proxy", 0),)
if "ORDERS_CA" in os.environ:
    with open(os.environ["ORDERS_CA"], "rb") as authority:
        channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(authority.read()), options)
else:
    channel = grpc.insecure_channel(address, options)


def talk():
    """Sends a message once the one before it has its answer."""
    waiting = queue.SimpleQueue()
    waiting.put(texts[0].encode())
    answers = channel.stream_stream("/shop.Orders/Talk")(iter(waiting.get, None), timeout=TIMEOUT_S)
    left = [text.encode() for text in texts[1:]] + [None]
    for number, answer in enumerate(answers):
        print(answer.decode())
        waiting.put(left[number])
    return answers


try:
    if method == "show":
        answer, call = channel.unary_unary("/shop.Orders/Show").with_call(texts[0].encode(), timeout=TIMEOUT_S)
        print(answer.decode())
    elif method == "watch":
        call = channel.unary_stream("/shop.Orders/Watch")(texts[0].encode(), timeout=TIMEOUT_S)
        for answer in call:
            print(answer.decode())
    else:
        call = talk()
except grpc.RpcError as error:
    print(error.code().name, error.details())
    sys.exit(1)
print(call.code().name, *(f"{name}={value}" for name, value in call.trailing_metadata()))
