#!/usr/bin/env python3
"""Many requests over all phases, with clients that leave, servers that are dead or slow: what the workers hold
must stay the same.

    scripts/serve/soak.py [--server PROGRAM] [--requests 1000000] [--connections 32]

The memory of the workers is looked at again and again; over the last half it may grow by one part in a hundred. What
counts is what it always comes back to (the least value of each of ten windows): responses under way take and give back
some megabytes.
Descriptors and running timers go back to where they were.
"""

import argparse
import asyncio
import random
import time

from common import Server, connect, report, request

CONF = """
http { access_log logs/access.log; lua_shared_dict d 1m; client_body_buffer_size 8k;
  lua_socket_log_errors off; lua_max_running_timers 4096; lua_max_pending_timers 4096;
  proxy_temp_path FOLDER/proxy; client_body_temp_path FOLDER/body; fastcgi_temp_path FOLDER/f;
  uwsgi_temp_path FOLDER/u; scgi_temp_path FOLDER/s;
  upstream alive { zone z 64k; server 127.0.0.1:PORT; keepalive 16; }
  upstream lame { zone z; server 127.0.0.1:DEAD max_fails=0; server 127.0.0.1:PORT max_fails=0; }
  upstream chosen { server 0.0.0.1; keepalive 8;
    balancer_by_lua_block { assert(require("ngx.balancer").set_current_peer("127.0.0.1", PORT)) } }
  init_by_lua_block { shared = { n = 0 } }
  init_worker_by_lua_block { ngx.timer.every(0.05, function() shared.n = shared.n + 1 end) }
  server { listen 127.0.0.1:PORT backlog=4096; root html; keepalive_requests 1000;
    location /phases { set_by_lua_block $x { return "x" }
      rewrite_by_lua_block { ngx.ctx.n = 1 } access_by_lua_block { ngx.ctx.n = ngx.ctx.n + 1 }
      content_by_lua_block { ngx.say(ngx.var.x, ngx.ctx.n) }
      header_filter_by_lua_block { ngx.header.x_n = ngx.ctx.n; ngx.header.content_length = nil }
      body_filter_by_lua_block { ngx.arg[1] = ngx.arg[1]:upper() }
      log_by_lua_block { ngx.shared.d:incr("log", 1, 0) } }
    location /shdict { content_by_lua_block { local d = ngx.shared.d
      d:set("k" .. math.random(5000), ("v"):rep(math.random(200)), 1) d:lpush("l", 1) d:rpop("l") ngx.say("ok") } }
    location /capture { content_by_lua_block {
      local a, b = ngx.location.capture_multi { { "/plain" }, { "/phases" } } ngx.say(a.body, b.status) } }
    location /threads { content_by_lua_block {
      local t = {} for i = 1, 3 do t[i] = ngx.thread.spawn(function() ngx.sleep(0.001 * i) return i end) end
      ngx.thread.wait(t[1], t[2]) ngx.thread.kill(t[3]) ngx.say("ok") } }
    location /timer { content_by_lua_block { ngx.say((ngx.timer.at(0.001, function() shared.n = shared.n + 1 end))) } }
    location /socket { content_by_lua_block { local s = ngx.socket.tcp() s:settimeout(1000)
      assert(s:connect("127.0.0.1", PORT)) s:send("GET /plain HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
      local n repeat local line = assert(s:receive()) n = tonumber(line:match("Length: (%d+)")) or n until line == ""
      ngx.print(s:receive(n)) s:setkeepalive(1000, 20) } }
    location /deadsocket { content_by_lua_block { local s = ngx.socket.tcp() ngx.say(s:connect("127.0.0.1", DEAD)) } }
    location /semaphore { content_by_lua_block { local s = require("ngx.semaphore").new()
      ngx.thread.spawn(function() s:post() end) ngx.say(s:wait(1)) ngx.say(s:wait(0.001)) } }
    location /re { content_by_lua_block {
      ngx.say(ngx.re.gsub(("abc "):rep(20), "(b)(c)", "$2$1", "jo"), ngx.re.match("k" .. math.random(1e6), "\\\\d+", "jo")[0]) } }
    location /body { content_by_lua_block { ngx.req.read_body()
      ngx.say(#(ngx.req.get_body_data() or ""), ngx.req.get_body_file() and "file" or "memory") } }
    location /unread { content_by_lua_block { ngx.say("ok") } }
    location /json { content_by_lua_block { local j = require "cjson" ngx.say(j.encode(j.decode('{"a":[1,2,{"b":"c"}]}'))) } }
    location /error { content_by_lua_block { local t t.x = 1 } }
    location /exit { access_by_lua_block { ngx.exit(403) } }
    location /exec { rewrite_by_lua_block { ngx.exec("/plain") } }
    location /redirect { rewrite_by_lua_block { ngx.redirect("/plain") } }
    location /large { content_by_lua_block { for i = 1, 50 do ngx.print(("x"):rep(20000)) ngx.flush(true) end } }
    location /sleep { content_by_lua_block { ngx.sleep(0.02) ngx.say("ok") } }
    location /slow { content_by_lua_block { ngx.sleep(0.1) ngx.say("ok") } }
    location /plain { return 200 "plain\\n"; }
    location /proxy { proxy_pass http://alive/plain; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location /lame { proxy_pass http://lame/plain; }
    location /chosen { proxy_pass http://chosen/plain; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location /dead { proxy_pass http://127.0.0.1:DEAD; proxy_connect_timeout 1s; }
    location /late { proxy_pass http://127.0.0.1:PORT/slow; proxy_read_timeout 20ms; }
    location /proxylarge { proxy_pass http://alive/large; proxy_http_version 1.1; proxy_set_header Connection ""; }
    location /gzip { gzip on; gzip_min_length 1; gzip_types *; content_by_lua_block { ngx.say(("text "):rep(500)) } }
    location /file { alias html/; }
    location = /timers { content_by_lua_block { local n = ngx.timer.running_count() .. ""
      ngx.header.content_length = #n ngx.print(n) } }
  } }
"""

# Path, weight, statuses that are right.
MIX = [
    ("/phases", 12, "200"), ("/shdict", 8, "200"), ("/capture", 6, "200"), ("/threads", 4, "200"), ("/timer", 4, "200"),
    ("/socket", 6, "200"), ("/deadsocket", 2, "200"), ("/semaphore", 2, "200"), ("/re", 4, "200"), ("/json", 4, "200"),
    ("/error", 2, "500"), ("/exit", 3, "403"), ("/exec", 3, "200"), ("/redirect", 3, "302"), ("/sleep", 1, "200"),
    ("/plain", 10, "200"), ("/proxy", 6, "200"), ("/lame", 3, "200"), ("/chosen", 4, "200"), ("/dead", 2, "502"),
    # A machine that stands still for long enough lets the late response be in time.
    ("/late", 1, "504 200"), ("/gzip", 3, "200"), ("/file/small", 5, "200"), ("/file/none", 2, "404"),
]
POSTS = [("/body", 100, 3), ("/body", 30000, 2), ("/unread", 50000, 1), ("/proxy", 20000, 1)]
# Clients that leave before the response is there.
LEAVERS = ["/sleep", "/large", "/proxylarge", "/late", "/threads", "/slow", "/file/large"]


def choices():
    for path, weight, want in MIX:
        yield weight, (request(path, extra="Accept-Encoding: gzip\r\n"), want, path)
    for path, size, weight in POSTS:
        # The body of a request that nobody reads may end the connection.
        yield weight, (request(path, "POST", b"b" * size), "200", "POST " + path)


async def client(port, state, total):
    weights, asks = zip(*choices())
    conn = None
    while state["done"] + state["left"] < total:
        if conn is None or conn.closed:
            try:
                conn = await connect(port)
            except OSError:
                state["errors"].append("connect")
                await asyncio.sleep(0.05)
                continue
        if random.random() < 0.02:
            conn.transport.write(request(random.choice(LEAVERS)))
            await asyncio.sleep(random.random() * 0.01)
            conn.close()
            conn = None
            state["left"] += 1
            continue
        data, want, name = random.choices(asks, weights)[0]
        try:
            answer = await asyncio.wait_for(conn.ask(data), 30)
        except asyncio.TimeoutError:
            state["errors"].append(f"{name}: no answer")
            conn.close()
            continue
        if answer is None and not conn.begun:
            # The server has closed a connection that was idle.
            state["retried"] += 1
            continue
        state["done"] += 1
        got = answer[9:12].decode() if answer else f"an end after {bytes(conn.data[-80:])}"
        if got not in want.split():
            state["errors"].append(f"{name}: {got} instead of {want}")
        if answer is None or b"Connection: close" in answer:
            conn.close()
    if conn is not None:
        conn.close()


async def watch(server, state, samples, total):
    start = time.monotonic()
    while state["done"] + state["left"] < total:
        n = state["done"] + state["left"]
        samples.append((n, server.rss_kb()))
        if len(samples) % 20 == 0:
            print(f"{n} requests, {samples[-1][1]} kB, {n / (time.monotonic() - start):.0f}/s", flush=True)
        await asyncio.sleep(1)


async def run(server, args):
    state = {"done": 0, "left": 0, "retried": 0, "errors": []}
    samples = []
    # A first round makes pools and caches: descriptors are counted behind it.
    await asyncio.gather(*[client(server.port, state, 2000) for _ in range(args.connections)])
    await asyncio.sleep(3)
    before = server.descriptors()
    state.update(done=0, left=0)
    clients = [client(server.port, state, args.requests) for _ in range(args.connections)]
    await asyncio.gather(watch(server, state, samples, args.requests), *clients)
    await asyncio.sleep(3)
    conn = await connect(server.port)
    timers = (await conn.ask(request("/timers"))).split(b"\r\n\r\n")[1].strip().decode()
    conn.close()
    await asyncio.sleep(1)
    return state, samples, before, server.descriptors(), timers


def floors(samples, windows=10):
    """The least value of each window, at the middle of the window."""
    step = max(1, len(samples) // windows)
    parts = [samples[i:i + step] for i in range(0, len(samples) - step + 1, step)]
    return [(part[len(part) // 2][0], min(y for _, y in part)) for part in parts]


def slope(samples):
    """Growth of a line through the samples, in parts of their mean."""
    n = len(samples)
    if n < 3:
        return 0.0
    mx = sum(x for x, _ in samples) / n
    my = sum(y for _, y in samples) / n
    var = sum((x - mx) ** 2 for x, _ in samples)
    k = sum((x - mx) * (y - my) for x, y in samples) / var if var else 0.0
    return k * (samples[-1][0] - samples[0][0]) / my


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="moonlitd")
    parser.add_argument("--requests", type=int, default=1000000)
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()
    with Server(args.server, CONF) as server:
        for name, size in [("small", 500), ("large", 2000000)]:
            with open(f"{server.folder}/html/{name}", "w") as f:
                f.write("f" * size)
        start = time.monotonic()
        state, samples, before, after, timers = asyncio.run(run(server, args))
        took = time.monotonic() - start
        alerts = [line for line in server.log().splitlines() if "[alert]" in line or "[emerg]" in line]
    half = [s for s in samples if s[0] >= args.requests / 2]
    growth = slope(floors(half))
    rows = [
        ("requests / clients that left", f"{state['done']} / {state['left']} in {took:.0f} s"),
        ("memory at first / half / end", " / ".join(f"{s[1]} kB" for s in (samples[0], half[0] if half else samples[-1], samples[-1]))),
        ("growth over the last half", f"{growth * 100:.2f} %"),
        ("descriptors before / after", f"{before} / {after}"),
        ("timers running at the end", timers),
        ("errors", len(state["errors"])),
    ]
    failures = [f"{e} ({state['errors'].count(e)} times)" for e in sorted(set(state["errors"]))[:10]]
    failures += [f"in the log: {line}" for line in alerts[:5]]
    if growth > 0.01:
        failures.append("memory grows")
    # Idle connections of the pools may differ by a few.
    if after > before + 40:
        failures.append("descriptors are left open")
    report(rows, failures)


main()
