"""What stands behind the gateways: one upstream that remembers what reached it, one that is fast."""
import contextlib
import http.server
import os
import tempfile
import threading
import time
import urllib.request

from machine import LOAD_CORE, free_port, started

ANSWER = bytes(97 + i % 26 for i in range(1024))   # what both answer: 1 KiB
BODIES = {f"/down/{size}k": bytes(97 + i % 23 for i in range(1024)) * size for size in (100, 10240)}   # and to these paths
START_SECONDS = 20


# ---- of the checks ---------------------------------------------------------------------------------
class Listening(http.server.ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        """A gateway that ends may reset its connections: nothing to tell of. Whatever else went wrong, the check sees."""


class RecordingUpstream:
    """A small HTTP/1.1 server in this process. Far too slow to measure with, exact enough to check with."""

    def __init__(self):
        self.seen = seen = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                body = read_chunked(self.rfile) if "chunked" in self.headers.get("transfer-encoding", "") \
                    else self.rfile.read(int(self.headers.get("content-length", 0)))
                seen.append((self.command, self.path, self.headers, body))
                self.send_response(200)
                self.send_header("content-type", "text/plain")
                answer = BODIES.get(self.path, ANSWER)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = answer

            def log_message(self, *args):
                pass

        self.server = Listening(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


def read_chunked(stream):
    body = b""
    while size := int(stream.readline().split(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    while stream.readline().strip():
        pass
    return body


# ---- of the measurements ---------------------------------------------------------------------------
CONFIG = """daemon off; user root; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log error;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; default_type text/plain; sendfile on;
  client_body_buffer_size 64k; client_max_body_size 0; open_file_cache max=16; {temporary}
  upstream answer {{ server unix:{dir}/answer; keepalive 64; keepalive_requests 1000000000; }}
  server {{
    listen unix:{dir}/answer;
    location / {{ return 200 "{answer}"; }}
  }}
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 "{answer}"; }}
    location /down/ {{ root {dir}/files; }}
    # `return` answers before the body has come: only a proxy reads all of it first.
    location /up {{
      client_body_buffer_size 11m;
      proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Content-Length ""; proxy_pass_request_body off;
      proxy_pass http://answer;
    }}
    location = /.status {{ stub_status; }}
  }}
}}
"""
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")


@contextlib.contextmanager
def load_upstream():
    """nginx on the load core, answering from memory; yields its port and a count of accepted connections."""
    with tempfile.TemporaryDirectory(prefix="gwbench-upstream-") as directory:
        port = free_port()
        for path, body in BODIES.items():
            os.makedirs(os.path.dirname(f"{directory}/files{path}"), exist_ok=True)
            with open(f"{directory}/files{path}", "wb") as file:
                file.write(body)
        with open(f"{directory}/nginx.conf", "w") as config:
            config.write(CONFIG.format(dir=directory, port=port, answer=ANSWER.decode(),
                                       temporary="".join(f"{name}_temp_path {directory}/{name}; " for name in TEMPORARY)))

        def accepted():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/.status", timeout=5) as answer:
                return int(answer.read().split(b"requests")[1].split()[0])

        with started(["nginx", "-e", f"{directory}/error.log", "-c", f"{directory}/nginx.conf"], directory, LOAD_CORE):
            deadline = time.monotonic() + START_SECONDS
            while True:
                try:
                    accepted()
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise RuntimeError("the upstream (nginx) did not start") from None
                    time.sleep(0.05)
            yield port, accepted
