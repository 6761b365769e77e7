//! The modules that scripts require: `ngx.semaphore`, `ngx.pipe`, `ngx.errlog`, `ngx.re` and their kin.

use super::{body, header, start, status};

/// The body that a handler of this code answers with, chunks put together.
fn answer(http: &str, code: &str) -> String {
    let s = start(
        &format!("{http} server {{ listen 8080; location / {{ content_by_lua_block {{ {code} }} }} }}"),
        &[],
    );
    let r = s.raw(b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
    assert_eq!(status(&r), "200", "{r}\n{}", s.error_log());
    body(&r).to_owned()
}

#[test]
fn semaphores_are_granted_in_order_and_time_out() {
    let out = answer(
        "",
        "local sema = require('ngx.semaphore').new(1)
         ngx.say(sema:count(), ' ', sema:wait(0), ' ', sema:count())
         ngx.say(sema:wait(0))
         ngx.say(sema:wait(0.01))
         local order = {}
         local function taker(n) local ok = sema:wait(5) order[#order + 1] = n .. tostring(ok) end
         local a, b = ngx.thread.spawn(taker, 'a'), ngx.thread.spawn(taker, 'b')
         ngx.say(sema:count())
         sema:post(1)
         ngx.say(ngx.thread.wait(a))
         sema:post(2)
         ngx.say(ngx.thread.wait(b))
         ngx.say(table.concat(order, ','), ' ', sema:count())
         ngx.say(pcall(sema.wait, {}, 1))
         ngx.say(pcall(sema.post, sema, 0))",
    );
    assert_eq!(
        out,
        "1 true 0\nniltimeout\nniltimeout\n-2\ntrue\ntrue\natrue,btrue 1\n\
         falsenot a semaphore instance\nfalsepositive number required\n"
    );
}

#[test]
fn a_killed_waiter_gives_its_grant_on() {
    let out = answer(
        "",
        "local sema = require('ngx.semaphore').new()
         local t = ngx.thread.spawn(function() sema:wait(5) end)
         sema:post(1)
         ngx.thread.kill(t)
         ngx.say(sema:count(), ' ', sema:wait(0))",
    );
    assert_eq!(out, "1 true\n");
}

#[test]
fn pipes_read_write_and_wait() {
    let out = answer(
        "",
        "local pipe = require 'ngx.pipe'
         local p = pipe.spawn({'cat'})
         ngx.say(p:write('one\\r\\ntwo'), ' ', p:stdout_read_line())
         p:shutdown('stdin')
         ngx.say(p:stdout_read_bytes(2), ' ', p:stdout_read_all())
         ngx.say(p:wait())
         ngx.say(p:wait())
         p = pipe.spawn('echo out; echo err >&2; exit 3', {merge_stderr = true})
         ngx.say(p:stdout_read_all())
         ngx.say(p:stderr_read_all())
         ngx.say(p:wait())
         p = pipe.spawn({'sleep', '100'}, {wait_timeout = 10, stdout_read_timeout = 10})
         ngx.say(p:stdout_read_line())
         ngx.say(p:wait())
         ngx.say(p:kill(15), ' ', p:wait())
         ngx.say(p:kill(15))
         p = pipe.spawn({'/no/such/program'})
         ngx.say(p:wait())
         p = pipe.spawn({'sh', '-c', 'echo $A'}, {environ = {'A=b'}})
         ngx.print(p:stdout_read_any(10))
         ngx.say(pcall(pipe.spawn, {}))
         ngx.say(pcall(p.wait, 1))",
    );
    assert_eq!(
        out,
        "8 one\ntw o\ntrueexit0\nnilexited\nout\nerr\n\nnilmerged to stdout\nfalseexit3\nniltimeout\nniltimeout\n\
         true falsesignal15\nnilexited\nfalseexit1\nb\nfalsebad args arg: non-empty table expected\n\
         falsenot a process instance\n"
    );
}

#[test]
fn the_error_log_is_kept_and_filtered() {
    let out = answer(
        "lua_capture_error_log 32k;",
        "local log = require 'ngx.errlog'
         log.get_logs(1000)
         ngx.log(ngx.ERR, 'first')
         assert(log.set_filter_level(ngx.WARN))
         ngx.log(ngx.NOTICE, 'dropped')
         log.raw_log(ngx.WARN, 'raw')
         local t = log.get_logs()
         ngx.say(#t, ' ', t[1], ' ', t[3]:find('first', 1, true) ~= nil, ' ', t[4], ' ', t[6]:find('%*%d+ raw, client') ~= nil)
         ngx.say(log.get_sys_filter_level(), ' ', #log.get_logs())
         ngx.say(log.set_filter_level(99))",
    );
    assert_eq!(out, "6 4 true 5 true\n8 0\nnilbad log level: 99\n");
    let out = answer("", "ngx.say(require('ngx.errlog').get_logs())");
    assert_eq!(out, "nildirective \"lua_capture_error_log\" is not set\n");
}

#[test]
fn split_cuts_between_matches() {
    let out = answer(
        "",
        "local split = require('ngx.re').split
         local function show(...) local t, err = split(...) ngx.say(t and table.concat(t, '|') or err) end
         show('a,b,c,d', ',')
         show('a1b2c', '([0-9])')
         show('abcd', '')
         show('a,b,,', ',')
         show('a,b,,', ',', nil, nil, 3)
         show('a b c', ' ', nil, {pos = 3})
         show('x', '(')
         ngx.say(split('a,b', ',', 'jo', nil, nil, {1, 2, 3, 4})[3])
         ngx.say(pcall(require('ngx.re').opt, 'x', 1))",
    );
    assert_eq!(
        out,
        "a|b|c|d\na|1|b|2|c\na|b|c|d\na|b\na|b|,\nb|c\n\
         pcre2_compile() failed: missing closing parenthesis in \"(\"\nnil\nfalseunrecognized option name\n"
    );
}

#[test]
fn headers_are_added_and_the_status_has_its_reason() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           local resp = require 'ngx.resp'
           resp.set_status(299, 'Odd')
           ngx.header.Foo = 'a'
           resp.add_header('Foo', {'b', 'c'})
           require('ngx.req').add_header('X-In', 'two')
           ngx.say(table.concat(ngx.req.get_headers()['x-in'], ','))
           ngx.say(pcall(resp.add_header, 'Foo'))
         } } }",
        &[],
    );
    let r = s.raw(b"GET / HTTP/1.1\r\nHost: t\r\nX-In: one\r\nConnection: close\r\n\r\n");
    assert!(r.starts_with("HTTP/1.1 299 Odd\r\n"), "{r}");
    assert_eq!(r.matches("\r\nFoo: ").count(), 3, "{r}");
    assert!(body(&r).contains("one,two") && body(&r).contains("falseinvalid header value"), "{r}");
    assert_eq!(header(&r, "foo"), Some("a"));
}

#[test]
fn base64_of_every_kind() {
    let out = answer(
        "",
        "local b = require 'ngx.base64'
         ngx.say(b.encode_base64url('\\255\\254\\253?'), ' ', b.decode_base64url('__79Pw'), ' ', b.decode_base64url('+'))
         ngx.say(ngx.decode_base64mime('aGVs\\nbG8='), ' ', ngx.decode_base64('aGVs\\nbG8='))
         ngx.say(ngx.escape_uri('a b&+?', 1), ' ', ngx.escape_uri('a b&+?', 0), ' ', ngx.escape_uri('a b&+?'))
         ngx.say(pcall(ngx.escape_uri, 'a', 7))",
    );
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[1], "hello nil");
    assert_eq!(lines[2], "a%20b&%2B%3F a%20b&+%3F a%20b%26%2B%3F");
    assert!(lines[0].starts_with("__79Pw ") && lines[0].ends_with("nilinvalid input"), "{out}");
    assert!(lines[3].ends_with("\"type\" 7 out of range"), "{out}");
}

#[test]
fn a_body_is_put_together_and_replaced() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           ngx.req.read_body()
           ngx.req.init_body(8)
           ngx.req.append_body('hello ')
           ngx.req.append_body('world')
           ngx.req.finish_body()
           local name = ngx.req.get_body_file()
           ngx.say(name ~= nil and io.open(name):read('*a'), ' ', ngx.var.http_content_length)
           ngx.req.init_body()
           ngx.req.append_body('short')
           ngx.req.finish_body()
           ngx.say(ngx.req.get_body_data())
           local f = io.open(ngx.config.prefix() .. 'kept', 'w') f:write('from a file') f:close()
           ngx.req.set_body_file(ngx.config.prefix() .. 'kept')
           ngx.say(ngx.req.get_body_data(), ' ', ngx.var.content_length)
           ngx.say(pcall(ngx.req.set_body_file, '/no/such/file'))
           ngx.say(pcall(ngx.req.append_body, 'x'))
         } } }",
        &[],
    );
    let r = s.raw(b"POST / HTTP/1.0\r\nHost: t\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(
        body(&r),
        "hello world 11\nshort\nnil 11\nfalsestat() \"/no/such/file\" failed\nfalserequest_body not initialized\n",
        "{}",
        s.error_log()
    );
    assert!(s.dir.join("kept").exists(), "a file that is not to be cleaned stays");
}

#[test]
fn states_on_threads_run_functions_of_modules() {
    let s = super::start_full(
        "thread_pool one threads=1; ",
        "lua_package_path '$prefix/?.lua;;'; lua_shared_dict d 1m; server { listen 8080; location / { content_by_lua_block {
           local run = ngx.run_worker_thread
           ngx.say(run('one', 'work', 'add', 1, 2))
           local ok, t = run('one', 'work', 'echo', {a = {1, true, 'x'}, [2] = ngx.null})
           ngx.say(ok, ' ', t.a[3], ' ', t[2] == ngx.null)
           ngx.say(run('one', 'work', 'fail'))
           ngx.say(run('one', 'work', 'echo', print))
           ngx.say(run('two', 'work', 'add'))
           ngx.say(run('one', 'work', 'none'))
           ngx.say(run('one', 'nothing'))
           run('one', 'work', 'store', 'k', 'v')
           ngx.say(ngx.shared.d:get('k'))
         } } }",
        &[(
            "work.lua",
            "return { add = function(a, b) return a + b, ngx.md5('') end, echo = function(...) return ... end,
               fail = function() error('no', 0) end, store = function(k, v) ngx.shared.d:set(k, v) end }",
        )],
    );
    let r = s.raw(b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
    assert_eq!(
        body(&r),
        "true3d41d8cd98f00b204e9800998ecf8427e\ntrue x true\nfalseno\n\
         falseunsupported Lua type: LUA_TFUNCTION in the argument\nfalsethread pool two not found\nfalseinvalid function\n\
         falseexpecting at least 3 arguments\nv\n",
        "{}",
        s.error_log()
    );
}

#[test]
fn states_on_threads_have_the_time_of_who_asks() {
    let s = super::start_full(
        "thread_pool one threads=1; ",
        "lua_package_path '$prefix/?.lua;;'; server { listen 8080;
           location / { lua_cpu_limit 50ms; content_by_lua_block { ngx.print(ngx.run_worker_thread('one', 'work', 'endless')) } }
           location /ok { content_by_lua_block { ngx.print(ngx.run_worker_thread('one', 'work', 'busy')) } } }",
        &[(
            "work.lua",
            "return { endless = function() while true do pcall(function() while true do end end) end end,
               busy = function() local c = os.clock() while os.clock() - c < 0.2 do end return 'done' end }",
        )],
    );
    let get = |path: &str| s.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    assert!(body(&get("/")).starts_with("false") && body(&get("/")).contains("CPU time limit exceeded"));
    assert_eq!(body(&get("/ok")), "truedone");
}

#[test]
fn core_modules_are_loaded_and_tls_ones_say_what_they_need() {
    let out = answer(
        "",
        "ngx.say(require('resty.core').version, ' ', require('ngx') == ngx, ' ', package.loaded['resty.core.regex'] ~= nil)
         local base = require 'resty.core.base'
         ngx.say(base.FFI_OK, ' ', base.get_request() ~= nil, ' ', type(base.new_tab(1, 1)))
         local t = {} base.ref_in_table(t, 'a') base.ref_in_table(t, 'b') t[0] = 1 t[1] = 0
         ngx.say(base.ref_in_table(t, 'c'), t[1], t[2])
         ngx.say(pcall(require, 'ngx.ssl'))
         ngx.say(require('ngx.process').type(), ' ', #ngx.worker.pids())",
    );
    assert_eq!(
        out,
        "0.1.33 true true\n0 true table\n1cb\nfalsemodule 'ngx.ssl' needs TLS, which this server does not support yet\n\
         single 1\n"
    );
}

#[test]
fn without_code_cache_each_request_has_a_vm_of_its_own() {
    let s = start(
        "lua_code_cache off; lua_package_path '$prefix/?.lua;;';
         init_by_lua_block { made = (made or 0) + 1 }
         server { listen 8080;
           location /n { content_by_lua_block {
             local m = require 'counter'
             m.n = m.n + 1
             ngx.say(m.n, ' ', made, ' ', ngx.location.capture('/sub').body)
             ngx.timer.at(0, function() ngx.log(ngx.WARN, 'timer sees ', m.n) end)
           } }
           location /sub { content_by_lua_block { local m = require 'counter' m.n = m.n + 1 ngx.print(m.n) } }
         }",
        &[("counter.lua", "return { n = 0 }")],
    );
    for _ in 0..2 {
        let r = s.raw(b"GET /n HTTP/1.0\r\nHost: t\r\n\r\n");
        assert_eq!(body(&r), "1 1 1\n", "{}", s.error_log());
    }
    let closed = || s.error_log().matches("lua close the global Lua VM").count();
    for _ in 0..200 {
        if closed() == 4 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(closed(), 4, "{}", s.error_log());
    assert_eq!(s.error_log().matches("timer sees 1").count(), 2, "{}", s.error_log());
    assert!(s.error_log().contains("lua decrementing the reference count for Lua VM: 2"));
}

#[test]
fn pending_subrequests_cannot_be_left_behind() {
    let s = start(
        "server { listen 8080;
           location /slow { content_by_lua_block { ngx.sleep(0.05) ngx.print('slow') } }
           location / { content_by_lua_block {
             local t = ngx.thread.spawn(function() return ngx.location.capture('/slow').body end)
             ngx.say(ngx.thread.kill(t))
             ngx.say(pcall(ngx.exit, 403))
             ngx.say(pcall(ngx.exec, '/slow'))
             ngx.say(ngx.thread.wait(t))
             ngx.say(ngx.thread.wait(ngx.thread.spawn(function() error('bad') end)))
           } } }",
        &[],
    );
    let out = s.raw(b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
    let lines: Vec<&str> = body(&out).lines().collect();
    assert_eq!(lines[0], "nilpending subrequests", "{out}");
    assert!(lines[1].ends_with("attempt to abort with pending subrequests"), "{out}");
    assert!(lines[2].ends_with("attempt to abort with pending subrequests"), "{out}");
    assert_eq!(lines[3], "trueslow");
    assert!(lines[4].starts_with("falsebad"), "{out}");
}

#[test]
fn the_environment_of_workers_is_there_in_init() {
    let s = super::start_full(
        "env MOONLIT_TEST_A=from-conf;",
        "init_by_lua_block { seen = os.getenv('MOONLIT_TEST_A') before = os.getenv }
         server { listen 8080; location / { content_by_lua_block {
           local _ = os.getenv('HOME')
           ngx.say(seen, ' ', os.getenv ~= before)
         } } }",
        &[],
    );
    assert!(body(&s.get("/")).contains("from-conf true"), "{}", s.error_log());
}

#[test]
fn what_a_phase_has_said_is_the_answer() {
    let s = start(
        "server { listen 8080;
           location / { rewrite_by_lua_block { ngx.status = 403 ngx.say('mine') } content_by_lua_block { ngx.say('not') } }
           location /re { rewrite ^/re$ /in last; }
           location /in { content_by_lua_block {
             ngx.say(ngx.req.is_internal(), ' ', ngx.req.get_headers()[123])
             ngx.log(ngx.STDERR, 'plain')
             ngx.say(pcall(function() ngx.var.arg_x = 1 end))
             ngx.say(pcall(ngx.req.set_uri_args, nil))
             ngx.say(pcall(ngx.log, ngx.ERR, {}))
           } } }",
        &[],
    );
    let r = s.raw(b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
    assert_eq!((status(&r), body(&r)), ("403", "mine\n"), "HTTP/1.0 gathers its output");
    let r = s.raw(b"GET /re HTTP/1.0\r\nHost: t\r\n123: x\r\n\r\n");
    let lines: Vec<&str> = body(&r).lines().collect();
    assert_eq!(lines[0], "true x", "{r}");
    assert!(
        lines[1].contains("variable \"arg_x\" not found for writing; maybe it is a built-in variable"),
        "{r}"
    );
    assert!(lines[2].contains("(string, number, or table expected, but got nil)"), "{r}");
    assert!(lines[3].contains("(expected table to have __tostring metamethod)"), "{r}");
    assert!(s.error_log().contains(" [] 0#0: *"), "the gravest level has no name");
}
