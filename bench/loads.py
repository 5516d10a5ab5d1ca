"""Load on a gateway: one class for each manner.

Each has `warm_up(ctx)`, and `run(ctx, seconds)`, which gives back `requests`, `us` (how long it took), `p50_us`, `p99_us`,
`errors`, and whatever else it has found out; `cpu_s` where only a part of the gateway's time is to count. `connections` is
how many it opens, `ends_connections` says that the gateway may open many more to its upstream meanwhile, `changes` that its
configuration does not stay.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

from asking import Client
from data import kept
from machine import LOAD_CORE, cpu_seconds, pss_kib

CLIENTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clients.py")
SPARE_SECONDS = 60          # past what was asked for; then a load that does not end has failed
WARM_UP_SECONDS = 1
RATE = 2000                 # requests per second of what is paced
IDLE, ACTIVE = 1000, 200    # connections of `idle`

# wrk's own totals and percentiles, in microseconds, as one line.
DONE = """
function done(summary, latency)
  local e = summary.errors
  print(string.format('RESULT {"requests":%d,"us":%d,"p50_us":%d,"p99_us":%d,"errors":%d}', summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.connect + e.read + e.write + e.timeout + e.status))
end
"""
IN_TURN = """
local requests, turn = {}, 0
function init(arguments)
  for line in io.lines(%s) do
    requests[#requests + 1] = %s .. line .. %s
  end
end
function request()
  turn = turn %% #requests + 1
  return requests[turn]
end
"""


def raw(method, path, headers):
    """A request without a body, as it stands on the wire."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in {"host": "bench.local", **headers}.items())
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n"


def lua(text):
    return '"' + "".join(c if c.isprintable() and c.isascii() and c not in '"\\' else f"\\{ord(c):03}" for c in text) + '"'


def result_of(cmd, seconds, cwd=None):
    out = subprocess.run(["taskset", "-c", str(LOAD_CORE), *cmd], capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, cwd=cwd)
    found = re.search(r"^RESULT (.*)$", out.stdout, re.M)
    if not found:
        raise RuntimeError(f"{os.path.basename(cmd[0])} gave no result: {out.stdout[-300:]}{out.stderr[-300:]}")
    return json.loads(found.group(1))


class Load:
    ends_connections = changes = False

    def warm_up(self, ctx):
        self.run(ctx, WARM_UP_SECONDS)


class Wrk(Load):
    """As many requests as go: one again and again, or one for each of `values`, which stands where VALUE does."""

    def __init__(self, method, path, headers=None, body=None, *, values=None, connections=64, tls=False):
        self.request, self.body, self.values = (method, path, headers or {}), body, values
        self.connections, self.tls = connections, tls

    def script(self, ctx):
        method, path, headers = self.request
        if self.values:
            before, after = raw(method, path, headers).split("VALUE")
            return IN_TURN % (lua(ctx.write("load.values", "".join(f"{value}\n" for value in self.values()))), lua(before), lua(after)) + DONE
        lines = [f"wrk.method = {lua(method)}", f"wrk.path = {lua(path)}"]
        lines += [f"wrk.headers[{lua(name)}] = {lua(value)}" for name, value in {"Host": "bench.local", **headers}.items()]
        if self.body is not None:
            with open(os.path.join(ctx.dir, "load.body"), "wb") as file:
                file.write(self.body)
            lines += [f"local file = io.open({lua(file.name)}, 'rb')", "wrk.body = file:read('*a')", "file:close()"]
        return "\n".join(lines) + DONE

    def run(self, ctx, seconds):
        scheme, path = "https" if self.tls else "http", ctx.write("load.lua", self.script(ctx))
        cmd = ["wrk", "-t1", f"-c{self.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", path, f"{scheme}://127.0.0.1:{ctx.port}"]
        return result_of(cmd, seconds)


class Paced(Load):
    """RATE requests per second, whatever the gateway makes of them."""

    connections = 32

    def __init__(self, path, headers=None):
        self.request = raw("GET", path, headers or {})

    def run(self, ctx, seconds):
        cmd = [sys.executable, CLIENTS, "paced", str(ctx.port), str(self.connections), str(RATE), str(seconds), self.request]
        return result_of(cmd, seconds)


class Handshakes(Load):
    """A connection for each request."""

    connections = 16

    def __init__(self, path):
        self.request = raw("GET", path, {"connection": "close"})

    def run(self, ctx, seconds):
        cmd = [sys.executable, CLIENTS, "handshakes", str(ctx.port), str(self.connections), str(seconds), self.request, kept("tls.crt")]
        return result_of(cmd, seconds)


class Reloads(Paced):
    """One reload in each second of RATE requests per second: 20 in 20 s where a measurement takes 5."""

    ends_connections = changes = True

    def warm_up(self, ctx):
        super().run(ctx, WARM_UP_SECONDS)

    def run(self, ctx, seconds):
        count, out = 4 * seconds, {}

        def load():
            out.update(super(Reloads, self).run(ctx, count + 2))

        thread, most = threading.Thread(target=load), 0
        thread.start()
        for number in range(1, count + 1):
            time.sleep(1)
            ctx.change(number)
            most = max(most, pss_kib(ctx.process.pid))
        thread.join()
        if not out:
            raise RuntimeError("the load beside the reloads failed")
        live = Client(ctx.port).ask("GET", "/item/7")[2].get("x-version")
        if live != str(count):
            raise RuntimeError(f"{count} reloads, but x-version is {live} after them")
        return {**out, "reloads": count, "failed": out["errors"], "errors": 0, "pss_peak_kib": most}


class Idle(Wrk):
    """IDLE connections that had one request each, then ACTIVE ones beside them: what a connection takes."""

    ends_connections = True

    def __init__(self, path):
        super().__init__("GET", path, connections=ACTIVE)

    def warm_up(self, ctx):
        Wrk("GET", self.request[1], connections=8).warm_up(ctx)     # what more connections take is what is measured

    def run(self, ctx, seconds):
        before = pss_kib(ctx.process.pid)
        cmd = ["taskset", "-c", str(LOAD_CORE), sys.executable, CLIENTS, "idle", str(ctx.port), str(IDLE), raw("GET", self.request[1], {})]
        with subprocess.Popen(cmd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
            try:
                if holder.stdout.readline() != "READY\n":
                    raise RuntimeError(f"{IDLE} idle connections could not be opened")
                idle, cpu, out = pss_kib(ctx.process.pid), cpu_seconds(ctx.process.pid), {}
                thread = threading.Thread(target=lambda: out.update(super(Idle, self).run(ctx, seconds)))
                thread.start()
                time.sleep(max(seconds * 0.7, 0.5))
                active = pss_kib(ctx.process.pid)
                thread.join()
                cpu = cpu_seconds(ctx.process.pid) - cpu
            finally:
                holder.stdin.close()
        if not out:
            raise RuntimeError("the load beside the idle connections failed")
        return {**out, "cpu_s": cpu, "idle_kib": (idle - before) / IDLE, "active_kib": (active - idle) / ACTIVE, "pss_peak_kib": active}
