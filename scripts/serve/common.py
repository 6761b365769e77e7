"""What the load scripts share: a server in a folder of its own, a client, figures from /proc.

Nothing but the standard library of Python 3.9 and Linux's /proc is needed. The server is `moonlitd`, or any
nginx with the Lua module: it is started with a configuration of the script's, on free ports of 127.0.0.1, and
ended with the script.
"""

import asyncio
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PATIENCE_S = 30


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    """A running server. `conf` is the text of nginx.conf; `PORT` in it stands for the port, `DEAD` for one that
    nobody listens on, `FOLDER` for the prefix."""

    def __init__(self, program, conf, workers=2):
        self.program = os.path.abspath(program) if os.sep in program else program
        self.folder = tempfile.mkdtemp(prefix="serve-")
        self.port = free_port()
        for sub in ("conf", "logs", "html"):
            os.mkdir(os.path.join(self.folder, sub))
        os.chmod(self.folder, 0o755)
        files = min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        head = (
            f"daemon off; worker_processes {workers}; worker_rlimit_nofile {files};\n"
            "error_log logs/error.log error; pid logs/nginx.pid;\n"
            "events { worker_connections 16384; }\n"
        )
        if os.geteuid() == 0:
            head = "user root;\n" + head
        text = (head + conf).replace("PORT", str(self.port)).replace("DEAD", str(free_port()))
        with open(os.path.join(self.folder, "conf/nginx.conf"), "w") as f:
            f.write(text.replace("FOLDER", self.folder))
        self.process = subprocess.Popen([self.program, "-p", self.folder + "/", "-c", "conf/nginx.conf"])
        start = time.monotonic()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() - start > PATIENCE_S:
                    sys.exit("the server did not start:\n" + self.log())
                time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def log(self):
        try:
            with open(os.path.join(self.folder, "logs/error.log"), errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def workers(self):
        """The processes of the workers, draining ones included."""
        with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
            return [int(pid) for pid in f.read().split()]

    def rss_kb(self):
        total = 0
        for pid in self.workers():
            try:
                with open(f"/proc/{pid}/statm") as f:
                    total += int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
            except OSError:
                pass
        return total

    def descriptors(self):
        total = 0
        for pid in self.workers():
            try:
                total += len(os.listdir(f"/proc/{pid}/fd"))
            except OSError:
                pass
        return total


def request(path, method="GET", body=b"", close=False, extra=""):
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{extra}"
    if body:
        head += f"Content-Length: {len(body)}\r\n"
    if close:
        head += "Connection: close\r\n"
    return head.encode() + b"\r\n" + body


class Connection(asyncio.Protocol):
    """One connection that sends a request at a time."""

    def __init__(self):
        self.data = bytearray()
        self.waiter = None
        self.closed = False
        self.begun = False
        self.transport = None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        self.look()

    def eof_received(self):
        return False

    def connection_lost(self, _):
        self.closed = True
        self.look()

    def look(self):
        if self.waiter is None or self.waiter.done():
            return
        end = self.end()
        if end is not None:
            answer = bytes(self.data[:end])
            del self.data[:end]
            self.waiter.set_result(answer)
        elif self.closed:
            self.waiter.set_result(None)

    def end(self):
        """Where the response ends, if it is all there."""
        at = self.data.find(b"\r\n\r\n")
        if at < 0:
            return None
        at += 4
        head = bytes(self.data[:at]).lower()
        status = head[9:12]
        if status in (b"204", b"304"):
            return at
        cut = head.find(b"content-length: ")
        if cut >= 0:
            end = at + int(head[cut + 16 : head.index(b"\r", cut)])
            return end if len(self.data) >= end else None
        if b"transfer-encoding: chunked" in head:
            end = self.data.find(b"0\r\n\r\n", at - 2)
            while end >= 0 and end > at and self.data[end - 1 : end] != b"\n":
                end = self.data.find(b"0\r\n\r\n", end + 1)
            return end + 5 if end >= 0 else None
        return len(self.data) if self.closed else None

    async def ask(self, data):
        """The response's bytes; `None` when the connection ended before it was whole. `self.begun` says whether
        any byte of it came."""
        self.begun = False
        if self.closed:
            return None
        self.waiter = asyncio.get_running_loop().create_future()
        self.transport.write(data)
        self.look()
        answer = await self.waiter
        self.begun = answer is not None or len(self.data) > 0
        return answer

    def close(self):
        if self.transport is not None:
            self.transport.abort()


async def connect(port):
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(Connection, "127.0.0.1", port)
    return connection


def percentile(values, part):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def report(rows, failures):
    for name, value in rows:
        print(f"{name:44} {value}")
    for failure in failures:
        print(f"FAILED: {failure}")
    sys.exit(1 if failures else 0)
