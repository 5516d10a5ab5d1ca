"""Processes of this machine: starting them on a core, ending them, and what they take."""
import contextlib
import os
import re
import signal
import socket
import subprocess

GATEWAY_CORE, LOAD_CORE = 0, 1
STOP_SECONDS = 5            # then it is killed
TICK = os.sysconf("SC_CLK_TCK")


# A contestant is everything in the session that was started for it.
def processes(session):
    """(pid, user and system time in seconds, that of its ended children with it) of each live process of a session."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/stat") as stat:
                    fields = stat.read().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    yield int(entry), sum(map(int, fields[11:15])) / TICK


def cpu_seconds(session):
    return sum(seconds for _, seconds in processes(session))


def pss_kib(session):
    total = 0
    for pid, _ in processes(session):
        with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as rollup:
            found = re.search(r"^Pss:\s+(\d+)", rollup.read(), re.M)
            total += int(found.group(1)) if found else 0
    return total


@contextlib.contextmanager
def started(cmd, directory, core, env=None):
    """Runs cmd in a session of its own, pinned to a core, and ends the whole session."""
    with open(os.path.join(directory, "log"), "wb") as log:
        process = subprocess.Popen(["taskset", "-c", str(core), *cmd], cwd=directory, env={**os.environ, **(env or {})},
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        for pid, _ in list(processes(process.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
