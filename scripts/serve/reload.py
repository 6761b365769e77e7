#!/usr/bin/env python3
"""Reloads (HUP) under load, with and without keepalive: no response may be lost.

    scripts/serve/reload.py [--server PROGRAM] [--reloads 100] [--connections 16]

Without keepalive no request may fail. With keepalive a request fails only if a byte of its response was there
and the rest never came; a connection that the server closes between two requests is opened again, and the
request is sent once more (`retried` counts those).
"""

import argparse
import asyncio
import signal

from common import Server, connect, report, request

CONF = """
http { access_log off; lua_shared_dict d 1m;
  server { listen 127.0.0.1:PORT;
    location / { content_by_lua_block { ngx.shared.d:incr("n", 1, 0) ngx.sleep(0.002) ngx.say("hello") } } } }
"""


async def client(port, keepalive, state):
    conn = None
    while not state["stop"]:
        fresh = conn is None or conn.closed
        if fresh:
            try:
                conn = await connect(port)
            except OSError:
                state["refused"] += 1
                continue
        answer = await conn.ask(request("/", close=not keepalive))
        if answer is not None and answer.startswith(b"HTTP/1.1 200"):
            state["done"] += 1
        elif answer is None and not conn.begun and not fresh:
            state["retried"] += 1
        else:
            state["lost"] += 1
        if answer is None or not keepalive or b"Connection: close" in answer:
            conn.close()
            conn = None
    if conn is not None:
        conn.close()


async def run(server, keepalive, reloads, connections):
    state = {"stop": False, "done": 0, "lost": 0, "refused": 0, "retried": 0}
    tasks = [asyncio.create_task(client(server.port, keepalive, state)) for _ in range(connections)]
    for _ in range(reloads):
        before = state["done"]
        server.process.send_signal(signal.SIGHUP)
        # The next one comes when the load has gone on for a while.
        while state["done"] < before + 20 * connections and server.process.poll() is None:
            await asyncio.sleep(0.01)
    state["stop"] = True
    await asyncio.gather(*tasks)
    return state


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="moonlitd")
    parser.add_argument("--reloads", type=int, default=100)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    rows, failures = [], []
    with Server(args.server, CONF) as server:
        for name, keepalive in [("Connection: close", False), ("keepalive", True)]:
            s = asyncio.run(run(server, keepalive, args.reloads, args.connections))
            rows.append((f"{name}: requests", s["done"]))
            rows.append((f"{name}: lost / refused / retried", f"{s['lost']} / {s['refused']} / {s['retried']}"))
            if s["lost"] or s["refused"]:
                failures.append(f"{name}: {s['lost']} responses lost, {s['refused']} connections refused")
    report(rows, failures)


main()
