//! Lua that does not end or holds too much: the request pays for it, the worker serves on.

use super::{Server, body, start, start_with, status};
use moonlit_vm::host::Lua;

/// A request of HTTP/1.0: its answer is not chunked.
fn get(s: &Server, path: &str) -> String {
    s.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())
}

/// Ways not to end.
const LOOPS: [&str; 5] = [
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "local function f() pcall(f) pcall(f) end f()",
    "for n in function() return 1 end do coroutine.wrap(function() while true do end end)() end",
    "while true do pcall(string.find, ('a'):rep(30000), ('a-'):rep(30)..'b') end",
];

fn endless(code: &str) -> Server {
    let loc = |name: &str, text: &str| format!("location /{name} {{ {text} }}\n");
    let locations = [
        loc("set", &format!("set_by_lua_block $x {{ {code} }} return 200 $x;")),
        loc(
            "rewrite",
            &format!("rewrite_by_lua_block {{ {code} }} content_by_lua_block {{ ngx.say('no') }}"),
        ),
        loc("access", &format!("access_by_lua_block {{ {code} }} content_by_lua_block {{ ngx.say('no') }}")),
        loc("content", &format!("content_by_lua_block {{ {code} }}")),
        loc("balancer", "proxy_pass http://u;"),
        loc("header", &format!("header_filter_by_lua_block {{ {code} }} return 200 x;")),
        loc("body", &format!("body_filter_by_lua_block {{ {code} }} return 200 x;")),
        loc("log", &format!("log_by_lua_block {{ {code} }} return 200 x;")),
        loc(
            "thread",
            &format!(
                "content_by_lua_block {{ while true do
                     ngx.thread.wait(ngx.thread.spawn(function() {code} end)) end }}"
            ),
        ),
        loc(
            "timer",
            &format!("content_by_lua_block {{ ngx.timer.at(0, function() {code} end) ngx.print('x') }}"),
        ),
        loc("ok", "content_by_lua_block { local n = 0 for i = 1, 1000 do n = n + i end ngx.print(n) }"),
    ];
    start(
        &format!(
            "lua_cpu_limit 40ms;
             upstream u {{ server 0.0.0.1; balancer_by_lua_block {{ {code} }} }}
             server {{ listen 8080; {} }}",
            locations.concat()
        ),
        &[],
    )
}

#[test]
fn endless_loop_in_any_phase_ends_its_request_only() {
    for code in LOOPS {
        let s = endless(code);
        for (path, want) in [
            ("/set", "500"),
            ("/rewrite", "500"),
            ("/access", "500"),
            ("/content", "500"),
            ("/balancer", "500"),
            ("/header", ""),
            ("/body", ""),
            ("/log", "200"),
            ("/thread", "500"),
            ("/timer", "200"),
        ] {
            assert_eq!(status(&get(&s, path)), want, "{path} with {code}: {}", s.error_log());
            assert_eq!(body(&get(&s, "/ok")), "500500", "after {path} with {code}: {}", s.error_log());
        }
        // The log phase and the timer end after the response.
        let start = std::time::Instant::now();
        let count = || s.error_log().matches("CPU time limit exceeded").count();
        while count() < 10 && start.elapsed() < std::time::Duration::from_secs(20) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(count() >= 10, "with {code}: {}", s.error_log());
    }
}

#[test]
fn time_is_counted_over_phases_and_waits_and_only_where_it_is_limited() {
    let s = start(
        "server { listen 8080;
             location /sum {
                 lua_cpu_limit 60ms;
                 access_by_lua_block { ngx.ctx.n = 0 }
                 content_by_lua_block {
                     while true do
                         ngx.ctx.n = ngx.ctx.n + 1
                         for i = 1, 1e5 do end
                         ngx.sleep(0.001)
                     end
                 }
                 log_by_lua_block { ngx.log(ngx.WARN, 'rounds: ', ngx.ctx.n > 3) }
             }
             location /wait {
                 lua_cpu_limit 20ms;
                 content_by_lua_block { for i = 1, 30 do ngx.sleep(0.005) end ngx.print('done') }
             }
             location /free { content_by_lua_block {
                 local c = os.clock() while os.clock() - c < 0.3 do end ngx.print('done') } } }",
        &[],
    );
    assert_eq!(status(&get(&s, "/sum")), "500", "{}", s.error_log());
    assert_eq!(body(&get(&s, "/wait")), "done", "waiting costs nothing: {}", s.error_log());
    assert_eq!(body(&get(&s, "/free")), "done");
    assert!(s.error_log().contains("rounds: true"), "{}", s.error_log());
}

#[test]
fn memory_of_a_worker_is_limited() {
    fn small() -> Lua {
        Lua::new()
    }
    let s = start_with(
        "lua_memory_limit 8m;
         server { listen 8080;
             location /eat { content_by_lua_block { local t = {} while true do t[#t + 1] = ('x'):rep(1000) .. #t end } }
             location /ok { content_by_lua_block { ngx.print(#('x'):rep(1000)) } } }",
        &[],
        small,
    );
    for _ in 0..5 {
        assert_eq!(status(&get(&s, "/eat")), "500");
        assert_eq!(body(&get(&s, "/ok")), "1000", "{}", s.error_log());
    }
    assert_eq!(s.error_log().matches("not enough memory").count(), 5, "{}", s.error_log());
}
