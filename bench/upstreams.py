"""What stands behind the gateways: one upstream that remembers what reached it, one that is fast."""
import contextlib
import http.server
import tempfile
import threading
import time
import urllib.request

from machine import LOAD_CORE, free_port, started

ANSWER = bytes(97 + i % 26 for i in range(1024))   # what both answer: 1 KiB
START_SECONDS = 20


# ---- of the checks ---------------------------------------------------------------------------------
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
                self.send_header("content-length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            do_GET = do_POST = answer

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
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
@contextlib.contextmanager
def load_upstream():
    """nginx on the load core, answering 1 KiB to everything; yields its port and a count of accepted connections."""
    with tempfile.TemporaryDirectory(prefix="gwbench-upstream-") as directory:
        port = free_port()
        temp = "".join(f"{name}_temp_path {directory}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        with open(f"{directory}/nginx.conf", "w") as config:
            config.write(f"""daemon off; user root; worker_processes 1; pid {directory}/pid; error_log {directory}/error.log error;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 300s; default_type text/plain; client_body_buffer_size 64k; {temp}
  server {{
    listen 127.0.0.1:{port};
    location / {{ return 200 "{ANSWER.decode()}"; }}
    location = /.status {{ stub_status; }}
  }}
}}
""")

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
