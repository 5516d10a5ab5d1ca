"""Asking a gateway by single requests, as the checks do."""
import http.client
import socket
import ssl

from data import kept
from upstreams import ANSWER

HOST = "bench.local"
TIMEOUT_SECONDS = 10


class CheckFailed(Exception):
    """A contestant does not do what the scenario asks, so its cost would mean nothing."""


def expect(holds, text):
    if not holds:
        raise CheckFailed(text)


class Named(http.client.HTTPSConnection):
    """TLS with a gateway on this machine whose certificate is for HOST; TLS 1.3 unless `older`."""

    def __init__(self, port, older):
        trust = ssl.create_default_context(cafile=kept("tls.crt"))
        trust.minimum_version, trust.maximum_version = (ssl.TLSVersion.TLSv1_2,) * 2 if older else (ssl.TLSVersion.TLSv1_3,) * 2
        super().__init__("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=trust)
        self.trust = trust

    def connect(self):
        self.sock = self.trust.wrap_socket(socket.create_connection((self.host, self.port), self.timeout), server_hostname=HOST)


class Client:
    """Asks one gateway, one connection for each request; `seen` is what reached the upstream behind it."""

    def __init__(self, port, seen=None, tls=False):
        self.port, self.seen, self.tls = port, seen, tls

    def ask(self, method, path, headers=None, body=None, older_tls=False):
        """(status, body, fields) of the answer."""
        connection = Named(self.port, older_tls) if self.tls else http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request(method, path, body, {"Host": HOST, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read(), answer.headers
        finally:
            connection.close()

    def status_of_raw(self, request):
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT_SECONDS) as connection:
            connection.sendall(request)
            head = connection.recv(4096)
        return int(head.split()[1]) if head.startswith(b"HTTP/1.") else 0

    def good(self, method, path, headers=None, body=None, *, answer=ANSWER, arrives=None):
        """Must be answered with `answer` and reach the upstream once: as it is, or as `arrives` (method, body) says.

        Returns the fields that the upstream got.
        """
        arrives, before = arrives or (method, body or b""), len(self.seen)
        status, got, _ = self.ask(method, path, headers, body)
        expect(status == 200 and got == answer, f"{method} {path}: expected 200 and {len(answer)} bytes, got {status} and {len(got)} bytes: {got[:200]!r}")
        expect(len(self.seen) == before + 1, f"{method} {path}: reached the upstream {len(self.seen) - before} times")
        seen = self.seen[-1]
        expect(seen[:2] == (arrives[0], path), f"{arrives[0]} {path} should have reached the upstream, it got {seen[:2]}")
        expect(seen[3] == arrives[1], f"{method} {path}: the upstream got another body of {len(seen[3])} bytes, expected {len(arrives[1])}: {seen[3][:200]!r}")
        return seen[2]

    def refused(self, statuses, method, path, headers=None, body=None):
        """Must be answered with one of `statuses` and must not reach the upstream."""
        before = len(self.seen)
        status, *_ = self.ask(method, path, headers, body)
        expect(status in statuses, f"{method} {path} with {headers or 'no fields'}: expected {statuses}, got {status}")
        expect(len(self.seen) == before, f"{method} {path}: refused with {status}, but it reached the upstream")
