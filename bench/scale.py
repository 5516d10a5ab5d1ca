#!/usr/bin/env python3
"""How a gateway of many services starts, how large it is, and how soon a saved file is live.

usage: bench/scale.py BINARY cold_load|live_change SERVICES

Writes the services to a folder of its own: ten lines each, every tenth with a test, one fragment and one
list that all of them use. Times are of the whole process, from its start to the line that says it serves;
a change is timed from the moment the file is saved to the first answer that shows it.
"""

import http.client
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

CHANGES = 9
SERVICES_PER_FOLDER = 200

CONFIG = """listeners: [{ name: main, address: "127.0.0.1:0" }]
admin: { address: "127.0.0.1:0" }
workers: 2
tests: { budget: 60s }
"""
SHARED = """fragment: guarded
policy:
  - restrict_ip: { allow: [127.0.0.0/8, 10.0.0.0/8] }
---
list: regions
entries: [eu, us, ap]
"""
SERVICE = """service: service_{n}
match: {{ path: "/team_{team}/service_{n}/{{id}}", methods: [GET, POST] }}
policy:
  - include: guarded
  - limit_rate: {{ per: "${{request.client.ip}}", rate: 100000/minute }}
  - name: only known regions
    when: request.method == "POST"
    set_headers: {{ x-region: "${{request.query.region ?? 'eu'}}" }}
  - respond: {{ json: {{ id: "${{path.id}}", version: "{version}", regions: "${{list('regions')}}" }} }}
"""
TESTS = """tests:
  - name: answers with the id
    request: {{ path: /team_{team}/service_{n}/7, client: {{ ip: 10.0.0.1 }} }}
    expect: {{ status: 200, json_has: {{ id: "7" }} }}
"""


def service(n, version):
    text = SERVICE + (TESTS if n % 10 == 0 else "")
    return text.format(n=n, team=n // SERVICES_PER_FOLDER, version=version)


def place(folder, n):
    return folder / "policies" / f"team_{n // SERVICES_PER_FOLDER}" / f"service_{n}.yaml"


def write_all(folder, count):
    (folder / "gateway.yaml").write_text(CONFIG)
    for n in range(count):
        file = place(folder, n)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(service(n, 0))
    (folder / "policies" / "shared.yaml").write_text(SHARED)


class Gateway:
    def __init__(self, binary, folder):
        begun = time.monotonic()
        self.log = open(folder / "log", "w+")
        self.process = subprocess.Popen([binary, "run"], cwd=folder, stdout=subprocess.DEVNULL, stderr=self.log)
        self.port = None
        reader = open(folder / "log")
        buffer = ""
        while True:
            buffer += reader.read()
            lines = buffer.split("\n")
            buffer = lines.pop()
            for line in lines:
                said = json.loads(line)
                if said.get("message") == "listening" and said.get("listener") == "main":
                    self.port = int(said["address"].rsplit(":", 1)[1])
                if said.get("message") == "serving":
                    self.start_s = time.monotonic() - begun
                    self.services = said["services"]
                    return
            if self.process.poll() is not None:
                sys.exit(f"the gateway ended: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.002)

    def rss_mib(self, key="VmRSS"):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) / 1024

    def version(self, connection, n):
        connection.request("GET", f"/team_{n // SERVICES_PER_FOLDER}/service_{n}/7")
        return json.loads(connection.getresponse().read()).get("version")


def main():
    if len(sys.argv) != 4 or sys.argv[2] not in ("cold_load", "live_change"):
        sys.exit(__doc__)
    binary, what, count = os.path.abspath(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    folder = pathlib.Path(tempfile.mkdtemp(prefix="gatewright-scale-"))
    try:
        write_all(folder, count)
        gateway = Gateway(binary, folder)
        try:
            if what == "cold_load":
                first = gateway.start_s
                rss, peak = gateway.rss_mib(), gateway.rss_mib("VmHWM")
                gateway.process.terminate()
                gateway.process.wait()
                gateway = Gateway(binary, folder)
                print(
                    f"{gateway.services} services: first start {first:.2f} s (with {(count + 9) // 10} tests), "
                    f"restart {gateway.start_s:.2f} s, {rss:.0f} MiB resident ({peak:.0f} MiB at most)"
                )
            else:
                live_change(gateway, folder, count)
        finally:
            gateway.process.kill()
            gateway.process.wait()
    finally:
        shutil.rmtree(folder)


def live_change(gateway, folder, count):
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port)
    time.sleep(3)  # time stamps of files that were just written tell nothing yet
    times = []
    for change in range(1, CHANGES + 1):
        n = change * 10 % count
        begun = time.monotonic()
        place(folder, n).write_text(service(n, change))
        while gateway.version(connection, n) != str(change):
            time.sleep(0.001)
        times.append((time.monotonic() - begun) * 1000)
        time.sleep(0.5)
    times.sort()
    print(
        f"{count} services: a saved file is live after {times[len(times) // 2]:.0f} ms at the median, "
        f"{times[-1]:.0f} ms at most, of which 100 ms are the quiet time before it is read; "
        f"{gateway.rss_mib():.0f} MiB resident"
    )


main()
