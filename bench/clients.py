#!/usr/bin/env python3
"""Load that wrk cannot make, as a program of its own so that it shares no interpreter with bench/run.

usage: clients.py paced PORT CONNECTIONS RATE SECONDS REQUEST     requests that are due at fixed times
       clients.py handshakes PORT CONNECTIONS SECONDS REQUEST CA  a TLS handshake for each request, never resumed
       clients.py idle PORT CONNECTIONS REQUEST                   one request on each connection, then silence

`paced` counts time from the moment when a request was due, so that one that had to wait is not forgiven.
The result is one line of JSON in the words of the wrk scripts; `idle` says READY and stays until its input ends.
"""
import collections
import gc
import json
import select
import socket
import ssl
import sys
import threading
import time

HOST = "bench.local"
AFTER_SECONDS = 5           # how long after the end an answer may still come
TIMEOUT_SECONDS = 10


def opened(port):
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def length_of(answer):
    """Bytes that an answer has when it is whole; None while its head is not."""
    head, end, _ = answer.partition(b"\r\n\r\n")
    if not end:
        return None
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(head) + 4 + int(value)
    raise ValueError(f"an answer without Content-Length: {head[:200]!r}")


def read_answer(connection):
    answer = b""
    while (length := length_of(answer)) is None or len(answer) < length:
        piece = connection.recv(65536)
        if not piece:
            raise ConnectionError("the connection ended in front of the answer")
        answer += piece
    return answer


def is_good(answer):
    return answer.startswith(b"HTTP/1.1 200 ")


def result(times_us, wall_s, errors):
    times = sorted(times_us) or [0]
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]
    print("RESULT " + json.dumps({"requests": len(times_us), "us": int(wall_s * 1e6), "p50_us": at(0.5), "p99_us": at(0.99),
                                  "max_us": times[-1], "errors": errors}), flush=True)


class Paced:
    def __init__(self, port, connections, request):
        self.port, self.request = port, request
        self.free, self.busy, self.times, self.errors = [opened(port) for _ in range(connections)], {}, [], 0

    def send(self, due):
        connection = self.free.pop()
        try:
            connection.sendall(self.request)
            self.busy[connection] = [due, b""]
        except OSError:
            self.again(connection)
            self.errors += 1

    def again(self, connection):
        connection.close()
        self.free.append(opened(self.port))

    def receive(self, connection):
        try:
            piece = connection.recv(65536)
        except OSError:
            piece = b""
        if connection not in self.busy:     # closed while it was idle: nothing is lost
            self.free.remove(connection)
            return self.again(connection)
        due, answer = self.busy[connection]
        answer += piece
        length = length_of(answer)
        if piece and (length is None or len(answer) < length):
            self.busy[connection][1] = answer
            return None
        del self.busy[connection]
        if piece and is_good(answer):
            self.times.append(int((time.monotonic() - due) * 1e6))
        else:
            self.errors += 1
        if not piece or b"\r\nconnection: close" in answer[:1000].lower():
            return self.again(connection)
        return self.free.append(connection)

    def run(self, rate, seconds):
        begun = time.monotonic()
        end, due, waiting = begun + seconds, begun, collections.deque()
        while (now := time.monotonic()) < end or self.busy or waiting:
            if now > end + AFTER_SECONDS:
                self.errors += len(self.busy) + len(waiting)
                break
            while due <= now and due < end:
                waiting.append(due)
                due += 1 / rate
            while waiting and self.free:
                self.send(waiting.popleft())
            pause = due - time.monotonic() if due < end else 0.1
            for connection in select.select([*self.busy, *self.free], [], [], max(0, pause))[0]:
                self.receive(connection)
        return result(self.times, time.monotonic() - begun, self.errors)


def handshakes(port, connections, seconds, request, ca):
    trust = ssl.create_default_context(cafile=ca)
    trust.minimum_version = ssl.TLSVersion.TLSv1_3
    times, errors, begun = [], [], time.monotonic()

    def ask_again_and_again():
        while (now := time.monotonic()) < begun + seconds:
            try:
                # A session is resumed only where wrap_socket is given one.
                with trust.wrap_socket(opened(port), server_hostname=HOST) as connection:
                    connection.sendall(request)
                    good = is_good(read_answer(connection)) and not connection.session_reused
            except (OSError, ValueError):
                good = False
            (times if good else errors).append(int((time.monotonic() - now) * 1e6))

    threads = [threading.Thread(target=ask_again_and_again) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result(times, time.monotonic() - begun, len(errors))


def idle(port, connections, request):
    held = []
    for _ in range(connections):
        held.append(opened(port))
        held[-1].sendall(request)
        if not is_good(read_answer(held[-1])):
            sys.exit("a request was not answered with 200")
    print("READY", flush=True)
    sys.stdin.read()


def main():
    kind, port, connections, *rest = sys.argv[1:]
    gc.disable()
    if kind == "paced":
        Paced(int(port), int(connections), rest[2].encode()).run(float(rest[0]), float(rest[1]))
    elif kind == "handshakes":
        handshakes(int(port), int(connections), float(rest[0]), rest[1].encode(), rest[2])
    else:
        idle(int(port), int(connections), rest[0].encode())


if __name__ == "__main__":
    main()
