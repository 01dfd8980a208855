"""The brokers that tests of distributed runs use: redis-server and rabbitmq-server, each on a port of its own.

Standard library only; `deploy/services.py` starts and stops them with the rest. What they
keep is below the folder given, and nothing of the system's own servers is touched.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

START_S = 60
RABBITMQ = Path("/usr/lib/rabbitmq/bin")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody has just now."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def answers(port: int) -> bool:
    """Say whether somebody listens there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start_redis(folder: Path) -> str | None:
    """Return the URL of a Redis started for good; None when its program is not to be had."""
    program = shutil.which("redis-server")
    if program is None:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    port = free_ports(1)[0]
    words = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "yes"]
    words += ["--dir", str(folder), "--pidfile", str(folder / "pid"), "--logfile", str(folder / "log")]
    subprocess.run([program, *words], check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
    return f"redis://127.0.0.1:{port}/0" if await_port(port) else None


def start_rabbitmq(folder: Path) -> str | None:
    """Return the URL of a RabbitMQ started for good; None when its programs are not to be had, or it does not start."""
    if not (RABBITMQ / "rabbitmq-server").exists():
        return None
    folder.mkdir(parents=True, exist_ok=True)
    port, between, names = free_ports(3)
    (folder / "ports").write_text(f"{port} {between} {names}")
    command = [str(RABBITMQ / "rabbitmq-server"), "-detached"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "stdin": subprocess.DEVNULL}
    subprocess.run(command, check=False, env=rabbitmq_environment(folder), **quiet)  # noqa: S603
    return f"amqp://guest:guest@127.0.0.1:{port}//" if await_port(port) else None


def rabbitmq_environment(folder: Path) -> dict[str, str]:
    """Return what makes it a node of ours: its own name, ports, files and name server."""
    port, between, names = (folder / "ports").read_text().split()
    return {
        **os.environ,
        "HOME": str(folder),
        "RABBITMQ_NODENAME": f"controlplane-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": between,
        "ERL_EPMD_PORT": names,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_PID_FILE": str(folder / "pid"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_CONF_ENV_FILE": str(folder / "none-env"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
    }


def await_port(port: int) -> bool:
    until = time.monotonic() + START_S
    while not answers(port):
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def stop_all(redis: Path, rabbitmq: Path) -> None:
    """Stop what was started here, and nothing else."""
    pid = redis / "pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError, ValueError):
            os.kill(int(pid.read_text()), 15)
        pid.unlink(missing_ok=True)
    if (rabbitmq / "ports").exists():
        environment = rabbitmq_environment(rabbitmq)
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False, "env": environment}
        subprocess.run([str(RABBITMQ / "rabbitmqctl"), "stop"], **quiet)  # noqa: S603
        epmd = shutil.which("epmd")
        if epmd:
            subprocess.run([epmd, "-port", environment["ERL_EPMD_PORT"], "-kill"], **quiet)  # noqa: S603
        shutil.rmtree(rabbitmq, ignore_errors=True)
