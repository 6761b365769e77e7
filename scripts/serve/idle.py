#!/usr/bin/env python3
"""Idle keepalive connections beside busy ones: no error, and the busy ones hardly notice.

    scripts/serve/idle.py [--server PROGRAM] [--idle 10000] [--busy 64] [--seconds 5] [--rounds 3]

The busy connections are measured alone and beside the idle ones, in turn. The limit of open files must allow
for them (`ulimit -n`).
"""

import argparse
import asyncio
import resource
import time

from common import Server, connect, percentile, report, request

CONF = """
http { access_log off; keepalive_timeout 3600s; keepalive_requests 1000000;
  server { listen 127.0.0.1:PORT backlog=4096; location / { return 200 "hello"; } } }
"""


async def busy(port, until, times, errors):
    conn = await connect(port)
    data = request("/")
    while time.monotonic() < until:
        start = time.monotonic()
        answer = await conn.ask(data)
        if answer is None or not answer.startswith(b"HTTP/1.1 200"):
            errors.append(answer)
            conn.close()
            conn = await connect(port)
            continue
        times.append(time.monotonic() - start)
    conn.close()


async def measure(port, n, seconds):
    times, errors = [], []
    until = time.monotonic() + seconds
    await asyncio.gather(*[busy(port, until, times, errors) for _ in range(n)])
    return times, errors


async def run(server, args):
    alone, beside, errors = [], [], []
    bytes_each = 0.0
    for _ in range(args.rounds):
        times, bad = await measure(server.port, args.busy, args.seconds)
        alone += times
        errors += bad
        before = server.rss_kb()
        idle = []
        for _ in range(args.idle // 100):
            group = await asyncio.gather(*[connect(server.port) for _ in range(100)])
            for conn in group:
                answer = await conn.ask(request("/"))
                if answer is None:
                    errors.append(answer)
            idle += group
        bytes_each = (server.rss_kb() - before) * 1024 / max(1, len(idle))
        times, bad = await measure(server.port, args.busy, args.seconds)
        beside += times
        errors += bad
        gone = sum(conn.closed for conn in idle)
        if gone:
            errors.append(f"{gone} idle connections were closed")
        for conn in idle:
            conn.close()
    return alone, beside, errors, bytes_each


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="moonlitd")
    parser.add_argument("--idle", type=int, default=10000)
    parser.add_argument("--busy", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    want = args.idle + args.busy + 100
    if soft < want:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(want, hard), hard))
        if hard < want:
            args.idle = hard - args.busy - 100
            print(f"the limit of open files allows for {args.idle} idle connections")
    with Server(args.server, CONF) as server:
        alone, beside, errors, bytes_each = asyncio.run(run(server, args))
    p99 = [percentile(times, 0.99) * 1000 for times in (alone, beside)]
    rows = [
        ("requests alone / beside", f"{len(alone)} / {len(beside)}"),
        ("p99 alone / beside", f"{p99[0]:.2f} ms / {p99[1]:.2f} ms ({p99[1] / max(p99[0], 1e-9):.2f}x)"),
        ("memory of an idle connection", f"{bytes_each:.0f} bytes"),
        ("errors", len(errors)),
    ]
    failures = [f"{len(errors)} errors"] if errors else []
    if p99[1] > 2 * p99[0]:
        failures.append("p99 beside idle connections is more than twice the one alone")
    report(rows, failures)


main()
