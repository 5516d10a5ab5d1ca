"""A contestant as a running gateway: its configuration in a folder of its own, started until it answers rightly."""
import contextlib
import http.client
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time

from asking import CheckFailed, Client, expect
from data import write
from machine import GATEWAY_CORE, free_port, started
from scenarios import SCENARIOS

HERE = os.path.dirname(os.path.abspath(__file__))
START_SECONDS = 60          # a gateway that gives no right answer by then has failed


class Ctx:
    """What a contestant is given to write its configuration from."""

    def __init__(self, module, scenario, directory, upstream_port):
        self.module, self.scenario, self.dir, self.upstream_port = module, scenario, directory, upstream_port
        self.port, self.admin_port = free_port(), free_port()
        self.services, self.process, self.records = scenario.services, None, None

    def write(self, name, text):
        """Writes a file of its folder, in the place of the one that is there: whole or not at all."""
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write(path, text)
        return path

    def change(self, number):
        """Makes change `number` of the configuration happen, while the gateway runs."""
        self.module.reload(number, self)


class LeftOut(Exception):
    """The contestant cannot do this scenario; the text says why."""


def load_contestant(name):
    spec = importlib.util.spec_from_file_location(name, os.path.join(HERE, "contestants", f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def version(module):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        out = subprocess.run(module.VERSION, capture_output=True, text=True, timeout=5)
        found = re.search(r"\b\d+\.\d+[\w.+-]*", out.stdout + out.stderr)
        return found.group(0) if found else "?"
    return "?"


@contextlib.contextmanager
def gateway(module, name, upstream_port):
    """A running gateway that has given its first right answer: its Ctx."""
    directory = tempfile.mkdtemp(prefix=f"gwbench-{module.__name__}-")
    keep = False
    try:
        scenario = SCENARIOS[name]
        ctx = Ctx(module, scenario, directory, upstream_port)
        plan = module.start(scenario.work or name, ctx)
        if "left_out" in plan:
            raise LeftOut(plan["left_out"])
        ctx.records = os.path.join(directory, plan["records"])
        begun = time.monotonic()
        with started(plan["cmd"], directory, GATEWAY_CORE, plan.get("env")) as ctx.process:
            wait_until_right(ctx)
            ctx.start_s = time.monotonic() - begun
            for request in scenario.prime():
                status, *_ = Client(ctx.port, tls=scenario.tls).ask(*request)
                expect(status == 200, f"one of the requests before the load: expected 200, got {status}")
            yield ctx
    except (CheckFailed, RuntimeError, OSError, subprocess.SubprocessError) as error:
        keep = True
        raise RuntimeError(f"{error} (configuration and log: {directory})") from error
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def wait_until_right(ctx):
    client, last, deadline = Client(ctx.port, tls=ctx.scenario.tls), "no answer", time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and ctx.process.poll() is None:
        try:
            status, body, _ = client.ask(*ctx.scenario.good)
            if status == 200 and body == ctx.scenario.answer:
                return
            last = f"{status} {body[:200]!r}"
        except (OSError, http.client.HTTPException) as error:
            last = str(error)
        time.sleep(0.02)
    with open(os.path.join(ctx.dir, "log"), errors="replace") as log:
        raise RuntimeError(f"no right answer after the start: {last}; its log ends: {log.read()[-600:].strip()}")
