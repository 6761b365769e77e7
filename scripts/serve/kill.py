#!/usr/bin/env python3
"""`kill -9` of workers under load: only what the killed worker was about to answer is lost.

    scripts/serve/kill.py [--server PROGRAM] [--kills 5] [--connections 16]
"""

import argparse
import asyncio
import os
import random
import signal

from common import PATIENCE_S, Server, connect, report, request

CONF = """
http { access_log off; lua_shared_dict d 1m;
  server { listen 127.0.0.1:PORT;
    location / { content_by_lua_block { ngx.shared.d:incr("n", 1, 0) ngx.sleep(0.002) ngx.say("hello") } } } }
"""


async def client(port, state):
    while not state["stop"]:
        try:
            conn = await connect(port)
        except OSError:
            state["refused"] += 1
            continue
        answer = await conn.ask(request("/", close=True))
        ok = answer is not None and answer.startswith(b"HTTP/1.1 200")
        state["done" if ok else "lost"] += 1
        conn.close()


async def run(server, kills, connections):
    state = {"stop": False, "done": 0, "lost": 0, "refused": 0}
    tasks = [asyncio.create_task(client(server.port, state)) for _ in range(connections)]
    replaced = 0
    for _ in range(kills):
        before = state["done"]
        while state["done"] < before + 20 * connections:
            await asyncio.sleep(0.01)
        old = server.workers()
        os.kill(random.choice(old), signal.SIGKILL)
        for _ in range(PATIENCE_S * 100):
            now = server.workers()
            if len(now) == len(old) and set(now) != set(old):
                replaced += 1
                break
            await asyncio.sleep(0.01)
    before = state["done"]
    while state["done"] < before + 20 * connections:
        await asyncio.sleep(0.01)
    state["stop"] = True
    await asyncio.gather(*tasks)
    return state, replaced


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="moonlitd")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--connections", type=int, default=16)
    args = parser.parse_args()
    failures = []
    with Server(args.server, CONF) as server:
        s, replaced = asyncio.run(run(server, args.kills, args.connections))
    rows = [
        ("requests", s["done"]),
        ("lost with their worker / refused", f"{s['lost']} / {s['refused']}"),
        ("workers replaced", f"{replaced} of {args.kills}"),
    ]
    if replaced < args.kills:
        failures.append("a killed worker was not replaced")
    if s["lost"] > args.kills * args.connections or s["refused"]:
        failures.append("more was lost than the killed workers had in hand")
    report(rows, failures)


main()
