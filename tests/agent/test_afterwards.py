"""What administrators and logrotate do afterwards: new files are loaded beside patched old code; all answers are right.

Where a package would restart its service (a part was changed, not all), the machine's own policy keeps it from that
here: old processes with new files are what these tests are about. Those that are fixed as a whole (haproxy, redis) are
reloaded and restarted in `test_servers`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.load import Load, http, ssh
from tests.agent.machine import Machine
from tests.agent.redis import oldest
from tests.servers.process import wait_until

NGINX_PORT, APACHE_PORT, SSH_PORT, POSTGRES_PORT, PHP_PORT = range(18461, 18466)
SECONDS_MAX = 120
"""For what ends by itself after a reload: on a machine with other work that takes its time."""
NOTHING_IS_RESTARTED = "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d"


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with Machine(tmp_path / "machine", systemd=True) as begun:
        yield begun


def main_pid(machine: Machine, unit: str) -> int:
    return int(machine.run(f"systemctl show --value -p MainPID {unit}").stdout)


def settled(machine: Machine, image: str = "") -> list[int]:
    """Return the processes in which the hotpatch of an image, or of any, is settled."""
    rows = [json.loads(line) for line in machine.hotmend("status", "--json").stdout.splitlines()]
    found = ((row["pid"], h) for row in rows for h in row["hotpatches"])
    return [pid for pid, h in found if h["state"] == "settled" and image in ("", h["name"])]


def everyone_is_settled(machine: Machine, image: str, command: str) -> bool:
    """Whether all processes of that name have the hotpatch of an image; one on its way out may end meanwhile."""
    return set(settled(machine, image)) == set(machine.pids(command))


def exchange(machine: Machine, *packages: str) -> None:
    """Change memory as far as it goes, and then the files; nothing is restarted."""
    machine.run(NOTHING_IS_RESTARTED)
    machine.hotmend("upgrade", "--memory-only", "--partial", *packages)
    machine.run(f"HOTMEND_APT_HOOK=off apt-get install -q -y --only-upgrade {' '.join(packages)}")
    machine.run("rm /usr/sbin/policy-rc.d")


def fresh(machine: Machine, command: str) -> bool:
    """Whether all processes of that name run the file that is on the disk now."""
    links = machine.run(f"for pid in $(pidof {command}); do readlink /proc/$pid/exe; done").stdout.split("\n")
    return bool(links[:-1]) and not any("deleted" in link for link in links)


def test_nginx_reload_logrotate_and_binary_upgrade(machine: Machine) -> None:
    old = "1.22.1-9+deb12u9"
    machine.install(f"nginx={old}", f"nginx-common={old}", "logrotate")
    listen = f"-e '/\\[::\\]/d' -e 's/listen 80 default_server/listen 127.0.0.1:{NGINX_PORT}/'"
    machine.run(f"sed -i {listen} /etc/nginx/sites-enabled/default; systemctl restart nginx")
    main = main_pid(machine, "nginx")
    exchange(machine, "nginx", "nginx-common")
    assert main in settled(machine, "nginx")
    with Load(machine, http(NGINX_PORT, "Welcome to nginx")) as load:
        machine.run("nginx -s reload; sleep 1; nginx -s reload; sleep 1")
        wait_until(lambda: everyone_is_settled(machine, "nginx", "nginx"), "all of them have the hotpatch", SECONDS_MAX)
        machine.run("logrotate -f /etc/logrotate.d/nginx")
        assert machine.run("cat /var/log/nginx/access.log.1 | wc -l").stdout != "0\n"
        assert main_pid(machine, "nginx") == main
        machine.run("/etc/init.d/nginx upgrade; sleep 2")
        wait_until(lambda: fresh(machine, "nginx"), "the old ones have ended", SECONDS_MAX)
    assert load.count.fine, load.count
    assert "exited on signal" not in machine.run("cat /var/log/nginx/error.log*").stdout
    assert settled(machine, "nginx") == []
    wait_until(
        lambda: main_pid(machine, "nginx") not in (0, main), "the service manager knows the new one", SECONDS_MAX
    )
    assert machine.run("cat /var/log/nginx/access.log | wc -l").stdout != "0\n"


def test_apache_graceful_loads_its_modules_anew(machine: Machine) -> None:
    """Modules that are patched are closed, and new files opened in their places, beside the patched main program."""
    old = "2.4.68-1~deb12u1"
    packages = ("apache2", "apache2-bin", "apache2-data", "apache2-utils")
    machine.install(*(f"{package}={old}" for package in packages), "logrotate")
    machine.run(
        f"sed -i 's/^Listen 80/Listen 127.0.0.1:{APACHE_PORT}/' /etc/apache2/ports.conf; systemctl restart apache2"
    )
    main = main_pid(machine, "apache2")
    exchange(machine, *packages)
    assert main in settled(machine, "apache2")
    modules = set(machine.run(f"grep -o '/usr/lib/apache2/modules/.*' /proc/{main}/maps | sort -u").stdout.split("\n"))
    assert any("deleted" in module for module in modules)
    with Load(machine, http(APACHE_PORT, "Apache2")) as load:
        machine.run("apachectl graceful; sleep 2; apachectl graceful; sleep 2")
        machine.run("logrotate -f /etc/logrotate.d/apache2; sleep 2")
    assert load.count.fine, load.count
    assert main_pid(machine, "apache2") == main
    wait_until(lambda: everyone_is_settled(machine, "apache2", "apache2"), "all of them have the hotpatch", SECONDS_MAX)
    modules = set(machine.run(f"grep -o '/usr/lib/apache2/modules/.*' /proc/{main}/maps | sort -u").stdout.split("\n"))
    assert not any("deleted" in module for module in modules)
    log = machine.run("cat /var/log/apache2/error.log*").stdout
    assert "[core:alert]" not in log
    assert "exit signal" not in log
    machine.run("systemctl restart apache2")
    assert fresh(machine, "apache2")


PHP_POOL = "[www]\nuser = www-data\nlisten = /run/php/pool.sock\nlisten.owner = www-data\npm = static\n"
PHP_SITE = f"""
server {{
    listen 127.0.0.1:{PHP_PORT};
    root /var/www/html;
    location / {{ include fastcgi.conf; fastcgi_pass unix:/run/php/pool.sock; }}
}}
"""
PHP_PAGE = (
    """<?php $k = "0123456789abcdef"; echo "here ", bin2hex(openssl_encrypt("text", "aes-128-ctr", $k, 1, $k));"""
)


@pytest.mark.long
def test_php_children_come_from_the_patched_main_process(machine: Machine) -> None:
    """A library of it is patched. Children end after a few requests, and their successors have the new code; a reload
    executes the file anew, with the library that is on the disk then.
    """
    old = oldest(machine, "libssl3")
    machine.install(f"libssl3={old}", "php8.2-fpm", "nginx")
    pool = f"{PHP_POOL}pm.max_children = 3\npm.max_requests = 20\n"
    machine.run(f"cat > /etc/php/8.2/fpm/pool.d/www.conf <<'END'\n{pool}END")
    # By default php-fpm ends its children in the middle of requests when it is reloaded, patched or not.
    machine.run("sed -i 's/^;process_control_timeout.*/process_control_timeout = 10s/' /etc/php/8.2/fpm/php-fpm.conf")
    machine.run(f"cat > /var/www/html/page.php <<'END'\n{PHP_PAGE}\nEND")
    machine.run(f"cat > /etc/nginx/sites-enabled/default <<'END'\n{PHP_SITE}END")
    machine.run("systemctl restart php8.2-fpm nginx")
    main = main_pid(machine, "php8.2-fpm")
    before = set(machine.pids("php-fpm8.2"))
    assert len(before) == 4
    with Load(machine, http(PHP_PORT, "here 061706fc", "/page.php")) as load:
        exchange(machine, "libssl3")
        assert main in settled(machine, "libcrypto.so.3")
        machine.run("sleep 3")
    assert load.count.fine, load.count
    after = set(machine.pids("php-fpm8.2"))
    assert after & before == {main}, "no child has ended"
    assert after <= set(settled(machine, "libcrypto.so.3"))
    with Load(machine, http(PHP_PORT, "here 061706fc", "/page.php")) as load:
        machine.run("systemctl reload php8.2-fpm; sleep 2")
    assert load.count.fine, load.count
    assert main_pid(machine, "php8.2-fpm") == main
    assert not set(machine.pids("php-fpm8.2")) & set(settled(machine, "libcrypto.so.3"))
    assert "SIGSEGV" not in machine.run("cat /var/log/php8.2-fpm.log").stdout
    assert "deleted" not in machine.run(f"grep libcrypto /proc/{main}/maps").stdout
    machine.run("systemctl restart php8.2-fpm")
    assert main_pid(machine, "php8.2-fpm") != main


def test_sshd_executes_its_new_file_for_each_connection(machine: Machine) -> None:
    """The listening process is patched; who logs in talks to the new file; SIGHUP has the listener execute it too."""
    old = "1:9.2p1-2+deb12u9"
    packages = ("openssh-server", "openssh-client", "openssh-sftp-server")
    machine.install(*(f"{package}={old}" for package in packages))
    machine.run(f"echo 'Port {SSH_PORT}' > /etc/ssh/sshd_config.d/port.conf; rm -f /run/nologin; mkdir -p /root/.ssh")
    machine.run(
        "ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/test; cat /root/.ssh/test.pub >> /root/.ssh/authorized_keys"
    )
    machine.run("chmod 600 /root/.ssh/authorized_keys; systemctl restart ssh")
    main = main_pid(machine, "ssh")
    with Load(machine, ssh(SSH_PORT)) as load:
        exchange(machine, *packages)
        assert settled(machine, "sshd") == [main]
        machine.run("sleep 2; systemctl reload ssh; sleep 2")
    assert load.count.fine, load.count
    assert (main_pid(machine, "ssh"), settled(machine, "sshd"), fresh(machine, "sshd")) == (main, [], True)


@pytest.mark.long
def test_postgres_cannot_load_what_needs_new_exports(machine: Machine) -> None:
    """Known, and why such a restart is never held back: procedures fail in old processes beside the new files."""
    machine.run(f"sed -i 's/^port = .*/port = {POSTGRES_PORT}/' /etc/postgresql/15/main/postgresql.conf")
    machine.run("systemctl start postgresql")
    ask = f"su postgres -c \"psql -p {POSTGRES_PORT} -Atc 'do language plpgsql \\$\\$ begin perform 1; end \\$\\$'\""
    machine.run(f"for i in $(seq 50); do {ask} 2>/dev/null && exit; sleep 0.2; done; exit 1")
    packages = ("postgresql-15", "postgresql-client-15")
    exchange(machine, *packages)
    assert main_pid(machine, "postgresql@15-main") in settled(machine, "postgres")
    assert "undefined symbol: heap_datum_update_type" in machine.run(ask, check=False).stderr
    machine.run("systemctl reload postgresql; systemctl restart postgresql")
    assert machine.run(f"for i in $(seq 50); do {ask} 2>/dev/null && exit; sleep 0.2; done; exit 1").stdout == "DO\n"
