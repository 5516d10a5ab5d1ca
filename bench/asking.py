"""Asking a gateway by single requests, as the checks do."""
import http.client
import socket

from upstreams import ANSWER


class CheckFailed(Exception):
    """A contestant does not do what the scenario asks, so its cost would mean nothing."""


def expect(holds, text):
    if not holds:
        raise CheckFailed(text)


class Client:
    """Asks one gateway, one connection for each request; `seen` is what reached the upstream behind it."""

    def __init__(self, port, seen=None):
        self.port, self.seen = port, seen

    def ask(self, method, path, headers=None, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {"Host": "bench.local", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def status_of_raw(self, request):
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(request)
            head = connection.recv(4096)
        return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0

    def good(self, method, path, headers=None, body=None):
        """Must be answered with the upstream's 1 KiB. Returns what the upstream got."""
        before = len(self.seen)
        status, answer = self.ask(method, path, headers, body)
        expect(status == 200 and answer == ANSWER, f"{method} {path}: expected 200 and 1 KiB, got {status} {answer[:200]!r}")
        expect(len(self.seen) == before + 1, f"{method} {path}: reached the upstream {len(self.seen) - before} times")
        got = self.seen[-1]
        expect(got[:2] == (method, path), f"sent {method} {path}, the upstream got {got[:2]}")
        expect(got[3] == (body or b""), f"{method} {path}: the upstream got another body of {len(got[3])} bytes")
        return got[2]

    def refused(self, statuses, method, path, headers=None, body=None):
        """Must be answered with one of `statuses` and must not reach the upstream."""
        before = len(self.seen)
        status, _ = self.ask(method, path, headers, body)
        expect(status in statuses, f"{method} {path} with {list(headers or {})}: expected {statuses}, got {status}")
        expect(len(self.seen) == before, f"{method} {path}: refused with {status}, but it reached the upstream")
