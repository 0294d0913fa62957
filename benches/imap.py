#!/usr/bin/env python3
"""How long 2,000 messages of 4 KiB take into Dovecot's IMAP, 20 ms of round trip away.

    benches/imap.py PROGRAM [ROUNDS]

Compares, in turn in each round: PROGRAM, which fetches them from a POP3 server in this process (without delay) and
appends them; one APPEND after the other by Python's imaplib; `mbsync` (Debian: isync), which pushes them from a maildir.
Prints seconds, the ratios' median and range, and the peak of PROGRAM's memory. Root, dovecot-imapd and isync are wanted.
"""
import asyncio
import imaplib
import os
import pathlib
import pwd
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

COUNT, OCTETS, ROUND_TRIP = 2000, 4096, 0.020
# One after the other each takes as long as the others; these are enough.
SINGLE = 200
# KiB that the program took at most, in each round.
PEAKS = []


def message(number):
    head = (
        f"Received: from a by b; Sat, 29 Nov 2025 12:00:00 +0000\r\nMessage-ID: <{number}@bench>\r\n"
        f"Date: Sat, 29 Nov 2025 11:00:00 +0000\r\nFrom: a@example.net\r\nSubject: {number}\r\n\r\n"
    )
    line = "x" * 76 + "\r\n"
    return (head + line * ((OCTETS - len(head)) // len(line))).encode()


MESSAGES = [message(number) for number in range(COUNT)]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve_pop3(port):
    listener = socket.create_server(("127.0.0.1", port))

    def session(stream):
        lines = stream.makefile("rb")
        stream.sendall(b"+OK\r\n")
        listing = b"".join(b"%d %d\r\n" % (at + 1, len(octets)) for at, octets in enumerate(MESSAGES))
        names = b"".join(b"%d u%d\r\n" % (at + 1, at) for at in range(COUNT))
        for line in lines:
            verb, *rest = line.split()
            if verb == b"CAPA":
                stream.sendall(b"+OK\r\nUSER\r\nUIDL\r\nTOP\r\nPIPELINING\r\n.\r\n")
            elif verb == b"LIST":
                stream.sendall(b"+OK\r\n" + listing + b".\r\n")
            elif verb == b"UIDL":
                stream.sendall(b"+OK\r\n" + names + b".\r\n")
            elif verb == b"RETR":
                stream.sendall(b"+OK\r\n" + MESSAGES[int(rest[0]) - 1] + b".\r\n")
            else:
                stream.sendall(b"+OK %d 1\r\n" % COUNT)
            if verb == b"QUIT":
                return

    while True:
        threading.Thread(target=session, args=(listener.accept()[0],), daemon=True).start()


def relay(port, to):
    """Passes octets on, each half a round trip later."""

    async def one_way(reader, writer):
        queue, clock = asyncio.Queue(), asyncio.get_running_loop().time

        async def write():
            while True:
                due, octets = await queue.get()
                await asyncio.sleep(max(0, due - clock()))
                if not octets:
                    return writer.close()
                writer.write(octets)
                await writer.drain()

        writing = asyncio.create_task(write())
        while True:
            octets = await reader.read(1 << 16)
            queue.put_nowait((clock() + ROUND_TRIP / 2, octets))
            if not octets:
                return await writing

    async def connection(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(one_way(reader, there_writer), one_way(there_reader, writer), return_exceptions=True)

    async def serve():
        async with await asyncio.start_server(connection, "127.0.0.1", port) as server:
            await server.serve_forever()

    asyncio.run(serve())


def dovecot(home, port):
    user = pwd.getpwnam("mail")
    (home / "passwd").write_text("".join(f"u{at}:{{PLAIN}}secret:{user.pw_uid}:{user.pw_gid}::{home}/mail/u{at}::\n" for at in range(100)))
    (home / "mail").mkdir()
    shutil.chown(home / "mail", "mail", "mail")
    (home / "conf").write_text(
        f"""base_dir = {home}/run
state_dir = {home}/state
log_path = {home}/log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
mail_fsync = never
first_valid_uid = 1
service imap-login {{
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
passdb {{
  driver = passwd-file
  args = {home}/passwd
}}
userdb {{
  driver = passwd-file
  args = {home}/passwd
}}
"""
    )
    running = subprocess.Popen(["dovecot", "-F", "-c", home / "conf"])
    for _ in range(200):
        try:
            return socket.create_connection(("127.0.0.1", port)).close() or running
        except OSError:
            time.sleep(0.05)
    sys.exit("dovecot does not start")


def by_program(program, home, user, pop3, imap):
    config = home / f"{user}.yaml"
    config.write_text(
        f"accounts:\n  a: {{host: 127.0.0.1, port: {pop3}, user: a, password: secret, tls: none, auth: [user-pass], deliver: "
        f"{{imap: {{host: 127.0.0.1, port: {imap}, tls: none, user: {user}, password: secret}}}}}}\nstate: {home}/{user}.db\n"
    )
    config.chmod(0o600)
    running, peak = subprocess.Popen([program, "--config", config, "sync"]), 0
    while running.poll() is None:
        for line in pathlib.Path(f"/proc/{running.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = max(peak, int(line.split()[1]))
        time.sleep(0.01)
    assert running.returncode == 0
    PEAKS.append(peak)


def by_imaplib(user, imap):
    server = imaplib.IMAP4("127.0.0.1", imap)
    server.login(user, "secret")
    for octets in MESSAGES[:SINGLE]:
        assert server.append("INBOX", None, None, octets)[0] == "OK"
    server.logout()


def by_mbsync(home, user, imap):
    maildir = home / f"{user}-maildir"
    for folder in ["new", "cur", "tmp"]:
        (maildir / "INBOX" / folder).mkdir(parents=True)
    for at, octets in enumerate(MESSAGES):
        (maildir / "INBOX" / "cur" / f"{at}.bench:2,").write_bytes(octets.replace(b"\r\n", b"\n"))
    config = home / f"{user}.mbsyncrc"
    config.write_text(
        f"IMAPStore far\nHost 127.0.0.1\nPort {imap}\nUser {user}\nPass secret\nSSLType None\nAuthMechs LOGIN\n\n"
        f"MaildirStore near\nPath {maildir}/\nInbox {maildir}/INBOX\n\nChannel all\nFar :far:\nNear :near:\nPatterns INBOX\n"
        f"Sync PushNew\nSyncState {home}/{user}-\n"
    )

    def run():
        subprocess.run(["mbsync", "-q", "-c", config, "all"], check=True)

    return run


def main():
    program = pathlib.Path(sys.argv[1]).resolve()
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    home = pathlib.Path(tempfile.mkdtemp())
    home.chmod(0o755)
    pop3, near, far = free_port(), free_port(), free_port()
    running = dovecot(home, near)
    threading.Thread(target=serve_pop3, args=(pop3,), daemon=True).start()
    # A process of its own, which waits for no lock of this one.
    passing = os.fork()
    if passing == 0:
        relay(far, near)
    time.sleep(0.5)
    ratios = {"imaplib": [], "mbsync": []}
    try:
        for at in range(rounds):
            users = [f"u{3 * at + which}" for which in range(3)]
            push = by_mbsync(home, users[2], far)
            ways = [
                ("program", lambda: by_program(program, home, users[0], pop3, far)),
                ("imaplib", lambda: by_imaplib(users[1], far)),
                ("mbsync", push),
            ]
            took = {}
            for name, way in ways:
                began = time.monotonic()
                way()
                took[name] = (time.monotonic() - began) * (COUNT / SINGLE if name == "imaplib" else 1)
            for user in users:
                server = imaplib.IMAP4("127.0.0.1", near)
                server.login(user, "secret")
                there = int(server.select("INBOX", readonly=True)[1][0])
                assert there == (SINGLE if user == users[1] else COUNT), f"{user} has {there}"
                server.logout()
            for name in ratios:
                ratios[name].append(took["program"] / took[name])
            print("  ".join(f"{name} {seconds:.2f} s" for name, seconds in took.items()), flush=True)
        for name, of in ratios.items():
            print(f"program / {name}: {statistics.median(of):.3f} ({min(of):.3f} .. {max(of):.3f})")
        print(f"peak of the program's memory: {max(PEAKS) / 1024:.1f} MiB")
    finally:
        os.kill(passing, 15)
        running.terminate()
        running.wait()
        shutil.rmtree(home)


main()
