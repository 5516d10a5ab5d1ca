"""A contestant as a running gateway: its configuration in a folder of its own, started until it answers rightly."""
import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
import time

from asking import CheckFailed, Client
from machine import GATEWAY_CORE, free_port, started
from scenarios import CLIENTS, HMAC_KEY, SCENARIOS
from upstreams import ANSWER

HERE = os.path.dirname(os.path.abspath(__file__))
START_SECONDS = 20          # a gateway that gives no right answer by then has failed


class Ctx:
    """What a contestant is given to write its configuration from."""

    def __init__(self, directory, upstream_port):
        self.dir, self.upstream_port = directory, upstream_port
        self.port, self.admin_port = free_port(), free_port()
        self.clients, self.hmac_key = CLIENTS, HMAC_KEY

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        return path


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
        found = re.search(r"\d+\.\d+[\w.+-]*", out.stdout + out.stderr)
        return found.group(0) if found else "?"
    return "?"


@contextlib.contextmanager
def gateway(module, scenario, upstream_port):
    """A running gateway that has given its first right answer: (process, ctx)."""
    directory = tempfile.mkdtemp(prefix=f"gwbench-{module.__name__}-")
    keep = False
    try:
        ctx = Ctx(directory, upstream_port)
        plan = module.start(scenario, ctx)
        if "left_out" in plan:
            raise LeftOut(plan["left_out"])
        ctx.records = os.path.join(directory, plan["records"])
        with started(plan["cmd"], directory, GATEWAY_CORE, plan.get("env")) as process:
            wait_until_right(process, ctx, SCENARIOS[scenario][2])
            yield process, ctx
    except (CheckFailed, RuntimeError) as error:
        keep = True
        raise type(error)(f"{error} (configuration and log: {directory})") from None
    finally:
        if not keep:
            shutil.rmtree(directory, ignore_errors=True)


def wait_until_right(process, ctx, good_request):
    client, last, deadline = Client(ctx.port), "no answer", time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            status, body = client.ask(*good_request)
            if status == 200 and body == ANSWER:
                return
            last = f"{status} {body[:200]!r}"
        except OSError as error:
            last = str(error)
        time.sleep(0.05)
    with open(os.path.join(ctx.dir, "log"), errors="replace") as log:
        raise RuntimeError(f"no right answer after the start: {last}; its log ends: {log.read()[-600:].strip()}")
