//! Handlers in Lua: phases, output, request and response, waiting.

use super::{body, header, start, status};

/// A server with one location of this content.
fn content(code: &str) -> super::Server {
    start(&format!("server {{ listen 8080; location / {{ content_by_lua_block {{ {code} }} }} }}"), &[])
}

#[test]
fn say_and_print_write_chunks() {
    let s = content("ngx.say('a', 1, nil, true, {'x', {2}}, ngx.null) ngx.print('end')");
    let r = s.get("/");
    assert_eq!(header(&r, "transfer-encoding"), Some("chunked"), "{r}");
    assert_eq!(header(&r, "content-type"), Some("text/plain"));
    assert_eq!(body(&r), "10\r\na1niltruex2null\n\r\n3\r\nend\r\n0\r\n\r\n");
    let r = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!((header(&r, "content-length"), body(&r)), (Some("19"), "a1niltruex2null\nend"));
}

#[test]
fn tables_that_hold_themselves_are_refused() {
    let s = content(
        "local t = {} t[1] = t local u = {} u[1] = u u[2] = u
         ngx.say(select(2, pcall(function() ngx.say(t) end)))
         ngx.say(select(2, pcall(function() ngx.print(1, u) end)))",
    );
    let r = s.get("/");
    for text in ["#1 to 'say' (table nested too deeply)", "#2 to 'print' (table nested too deeply)"] {
        assert!(r.contains(text), "{r}");
    }
    assert_eq!(status(&s.get("/")), "200", "the worker serves on");
}

#[test]
fn runtime_error_is_500_with_its_traceback_in_the_log() {
    let s = content("local t = nil\nngx.say(t.x)");
    let r = s.get("/");
    assert!(status(&r) == "500" && body(&r).contains("500 Internal Server Error"), "{r}");
    let log = s.error_log();
    let want = "lua entry thread aborted: runtime error: content_by_lua(nginx.conf:";
    assert!(log.contains(want) && log.contains("attempt to index local 't' (a nil value)"), "{log}");
    assert!(log.contains("\nstack traceback:\ncoroutine 0:\n"), "{log}");
    assert_eq!(status(&s.get("/")), "500", "the worker serves on");
}

#[test]
fn phases_run_in_order_and_share_ctx() {
    let s = start(
        "server { listen 8080; location / { set $v 0;
           rewrite_by_lua_block { ngx.ctx.trail = 'rewrite'; ngx.var.v = 'set-by-lua' }
           access_by_lua_block { ngx.ctx.trail = ngx.ctx.trail .. ' ' .. ngx.get_phase() }
           content_by_lua_block { ngx.header['X-V'] = ngx.var.v; ngx.say(ngx.ctx.trail, ' ', ngx.get_phase()) }
           header_filter_by_lua_block { ngx.header['X-Trail'] = ngx.ctx.trail .. ' hf' }
           body_filter_by_lua_block { if not ngx.arg[2] then ngx.arg[1] = '<' .. ngx.arg[1] .. '>' end }
           log_by_lua_block { ngx.log(ngx.ERR, 'logged ', ngx.status, ' ', ngx.ctx.trail) }
         } }",
        &[],
    );
    let r = s.get("/");
    assert_eq!(header(&r, "x-v"), Some("set-by-lua"), "{r}");
    assert_eq!(header(&r, "x-trail"), Some("rewrite access hf"));
    assert!(body(&r).contains("<rewrite access content\n>"), "{r}");
    let log = s.error_log();
    assert!(
        log.contains("[lua] log_by_lua(nginx.conf:")
            && log.contains("logged 200 rewrite access while logging request, client:"),
        "{log}"
    );
}

#[test]
fn exit_redirect_and_exec() {
    let s = start(
        "server { listen 8080; error_page 404 /missing;
           location /missing { return 200 'page'; }
           location /deny { access_by_lua_block { return ngx.exit(403) } return 200 no; }
           location /deny2 { access_by_lua_block { ngx.exit(403) ngx.log(ngx.ERR, 'not reached') } content_by_lua_block { ngx.say('no') } }
           location /own { access_by_lua_block { ngx.status = 401 ngx.say('mine') return ngx.exit(401) } content_by_lua_block { ngx.say('no') } }
           location /404 { content_by_lua_block { ngx.exit(404) } }
           location /pass { access_by_lua_block { ngx.exit(ngx.OK) } content_by_lua_block { ngx.say('yes') } }
           location /to { content_by_lua_block { return ngx.redirect('/x?a=b', 301) } }
           location /exec { content_by_lua_block { ngx.ctx.x = 1 return ngx.exec('/target', {q = 1}) } }
           location /named { content_by_lua_block { return ngx.exec('@there') } }
           location /target { content_by_lua_block { ngx.say(ngx.var.uri, ' ', ngx.var.args, ' ', ngx.ctx.x) } }
           location @there { content_by_lua_block { ngx.say('there ', ngx.var.uri) } }
           location /close { content_by_lua_block { ngx.exit(444) } }
           location /empty { content_by_lua_block { ngx.exit(204) } }
         }",
        &[],
    );
    assert_eq!(status(&s.get("/deny2")), "403");
    assert!(!s.error_log().contains("not reached"));
    let r = s.get("/own");
    assert!(status(&r) == "401" && body(&r).contains("mine"), "{r}");
    assert_eq!(body(&s.get("/404")), "page");
    assert!(body(&s.get("/pass")).contains("yes"));
    let r = s.get("/to");
    assert!(status(&r) == "301" && header(&r, "location").unwrap().ends_with("/x?a=b"), "{r}");
    assert!(body(&s.get("/exec")).contains("/target q=1 nil"));
    assert!(body(&s.get("/named")).contains("there /named"));
    assert_eq!(s.get("/close"), "");
    assert_eq!(status(&s.get("/empty")), "204");
}

#[test]
fn request_data_is_there() {
    let s = content(
        "ngx.req.read_body()
         local h = ngx.req.get_headers()
         local a = ngx.req.get_uri_args()
         ngx.print(ngx.req.get_method(), '|', h['X-Foo'], '|', h.x_foo, '|', a.k, '|', a.m[1], a.m[2], '|', a.flag, '|',
           ngx.req.get_body_data(), '|', ngx.var.arg_k, '|', ngx.var.http_x_foo, '|', ngx.req.http_version())",
    );
    let r = s.raw(
        b"POST /?k=v%20w&m=1&m=2&flag HTTP/1.1\r\nHost: t\r\nx-fOO: bar\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
    );
    assert!(body(&r).contains("POST|bar|bar|v w|12|true|hello|v%20w|bar|1.1"), "{r}");
}

#[test]
fn large_body_goes_to_a_file_and_too_large_is_413() {
    let s = start(
        "client_body_buffer_size 1k; client_max_body_size 4k; server { listen 8080; location / { content_by_lua_block {
           ngx.req.read_body() ngx.print(ngx.req.get_body_data(), ' ', ngx.req.get_body_file() ~= nil) } } }",
        &[],
    );
    let post = |n: usize| {
        format!(
            "POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {n}\r\n\r\n{}",
            "x".repeat(n)
        )
    };
    assert!(body(&s.raw(post(3000).as_bytes())).contains("nil true"));
    assert_eq!(status(&s.raw(post(5000).as_bytes())), "413");
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n1388\r\n{}\r\n0\r\n\r\n",
        "x".repeat(5000)
    );
    assert_eq!(status(&s.raw(chunked.as_bytes())), "413");
}

#[test]
fn sleeping_handlers_do_not_hold_each_other_up() {
    let s = content("ngx.sleep(0.15) ngx.say('woke')");
    let begun = std::time::Instant::now();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let addr = s.addr;
            std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut c = std::net::TcpStream::connect(addr).unwrap();
                c.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                let mut out = String::new();
                c.read_to_string(&mut out).unwrap();
                out
            })
        })
        .collect();
    for c in clients {
        assert!(c.join().unwrap().contains("woke"));
    }
    assert!(begun.elapsed() < std::time::Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[test]
fn light_threads_wait_and_report() {
    let s = content(
        "local function f(n, t) ngx.sleep(t) ngx.print('[', n, ']') return n * 2 end
         local a = ngx.thread.spawn(f, 1, 0.05)
         local b = ngx.thread.spawn(f, 2, 0.01)
         ngx.print('started ')
         local ok, v = ngx.thread.wait(a, b)
         ngx.print(' first ', ok, ' ', v)
         ok, v = ngx.thread.wait(a)
         ngx.print(' second ', ok, ' ', v)
         local c = ngx.thread.spawn(function() local x = nil; return x.y end)
         ok, v = ngx.thread.wait(c)
         ngx.print(' third ', ok)
         local d = ngx.thread.spawn(function() ngx.sleep(10) end)
         ngx.print(' killed ', ngx.thread.kill(d), ' ', (ngx.thread.kill(d)))",
    );
    let r = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(body(&r), "started [2] first true 4[1] second true 2 third false killed 1 nil");
    assert!(s.error_log().contains("lua user thread aborted: runtime error: "));
}

#[test]
fn shared_dictionary_and_timer() {
    let s = start(
        "lua_shared_dict d 64k; server { listen 8080; location / { content_by_lua_block {
           local d = ngx.shared.d
           local ok, err = ngx.timer.at(0, function(premature, x) d:set('timer', x .. ngx.get_phase()) end, 'from ')
           ngx.sleep(0.02)
           ngx.say(ok, ' ', d:get('timer'), ' ', d:incr('n', 2, 5), ' ', (d:incr('n', 1)), ' ', d:add('n', 1), ' ', d:get('none'))
         } } }",
        &[],
    );
    let r = s.get("/");
    assert!(body(&r).contains("1 from timer 7 8 false nil"), "{r}");
}

#[test]
fn set_by_lua_and_regex() {
    let s = start(
        r#"server { listen 8080; location / { set_by_lua_block $x { return 'set ' .. ngx.get_phase() }
             content_by_lua_block {
               local m = ngx.re.match('hello 123 world', [[(\w+) (?<num>\d+)]], 'jo')
               local from, to = ngx.re.find('abc', 'b')
               local s1, n1 = ngx.re.gsub('a-b-c', '(\\w)', '<$1>')
               local s2, n2 = ngx.re.sub('abc', 'b', function(m) return m[0] .. m[0] end)
               local bad, err = ngx.re.match('x', '(')
               ngx.say(ngx.var.x, '|', m[1], m.num, '|', from, to, '|', s1, n1, '|', s2, n2, '|', bad, err ~= nil)
             } } }"#,
        &[],
    );
    let r = s.get("/");
    assert!(body(&r).contains("set set|hello123|22|<a>-<b>-<c>3|abbc1|niltrue"), "{r}");
}

#[test]
fn body_filter_that_sleeps_keeps_the_order_of_writers() {
    let s = start(
        "server { listen 8080; location / {
           content_by_lua_block {
             local t = ngx.thread.spawn(function() for i = 1, 3 do ngx.print('t', i, ' ') end end)
             ngx.print('main ')
             ngx.thread.wait(t)
             ngx.print('end')
           }
           body_filter_by_lua_block { ngx.sleep(0.005) }
         } }",
        &[],
    );
    let r = s.raw(b"GET / HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    let text: String = body(&r).split("\r\n").skip(1).step_by(2).collect();
    let order: Vec<usize> =
        ["t1 ", "t2 ", "t3 "].iter().map(|w| text.find(w).unwrap_or(usize::MAX)).collect();
    assert!(
        order[0] < order[1] && order[1] < order[2] && text.contains("main ") && text.ends_with("end"),
        "{r}"
    );
}

#[test]
fn cosocket_talks_to_a_server_and_pools_its_connection() {
    use std::io::{BufRead, BufReader, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for c in listener.incoming() {
            let c = c.unwrap();
            std::thread::spawn(move || {
                let mut out = c.try_clone().unwrap();
                for line in BufReader::new(c).lines() {
                    let Ok(line) = line else { return };
                    if out.write_all(format!("+{line}\r\n").as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let s = content(&format!(
        "local sock = ngx.socket.tcp()
         sock:settimeout(1000)
         local ok, err = sock:connect('127.0.0.1', {port})
         if not ok then ngx.say('connect: ', err) return end
         local n = sock:send({{'PI', 'NG', '\\n'}})
         local line = sock:receive()
         ngx.print(n, ' ', line, ' ', sock:getreusedtimes(), ' ', sock:setkeepalive(1000, 5), ' ')
         local closed, err = sock:receive()
         ngx.print(err)
         local bad = ngx.socket.tcp()
         local ok, err = bad:connect('127.0.0.1', 1)
         ngx.print(' ', ok, ' ', err)"
    ));
    let one = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(body(&one), "5 +PING 0 1 closed nil connection refused");
    assert!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")).starts_with("5 +PING 1 1"));
}

#[test]
fn api_that_a_phase_does_not_offer_is_refused() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block { ngx.say('x') }
           log_by_lua_block { ngx.say('no') } } }",
        &[],
    );
    s.get("/");
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(s.error_log().contains("API disabled in the context of log_by_lua*"), "{}", s.error_log());
}

#[test]
fn capture_runs_locations_inside_the_server() {
    let s = start(
        "server { listen 8080; root html; location / { set $v outer; content_by_lua_block {
             local r = ngx.location.capture('/sub?a=1', {args = {b = 2}, vars = {v = 'inner'}, method = ngx.HTTP_POST, body = 'BODY'})
             ngx.print(r.status, ' ', r.header['X-Sub'], ' ', r.body, ' ', r.truncated, '|')
             local a, b = ngx.location.capture_multi({{'/slow?n=1'}, {'/file.txt'}})
             ngx.print(a.body, ' ', b.body, ' ', ngx.location.capture('/none').status, ' ', ngx.var.v)
           } }
           location /sub { content_by_lua_block { ngx.req.read_body() ngx.header['X-Sub'] = ngx.is_subrequest
             ngx.status = 201 ngx.print(ngx.req.get_method(), ngx.var.args, ngx.req.get_body_data(), ngx.var.v) } }
           location /slow { content_by_lua_block { ngx.sleep(0.01) ngx.print('slow') } }
           location /file.txt { } location /none { }
         }",
        &[("html/file.txt", "FILE")],
    );
    let r = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(body(&r), "201 true POSTa=1&b=2BODYinner false|slow FILE 404 outer", "{}", s.error_log());
}

#[test]
fn cosocket_inside_wrap_inside_pcall_inside_a_loop() {
    use std::io::{Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let (mut c, _) = listener.accept().unwrap();
        let mut b = [0u8; 1];
        while c.read(&mut b).unwrap_or(0) == 1 {
            c.write_all(b"7\n").unwrap();
        }
    });
    let s = content(&format!(
        "local sock = ngx.socket.tcp()
         assert(sock:connect('127.0.0.1', {port}))
         local sum = 0
         local read = coroutine.wrap(function() while true do
           local ok, line = pcall(function() sock:send('x') return sock:receive() end)
           coroutine.yield(tonumber(line))
         end end)
         for i = 1, 300 do
           for j = 1, 50 do sum = sum + 1 end
           sum = sum + read()
         end
         ngx.print(sum)"
    ));
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), (300 * 57).to_string());
}

#[test]
fn client_that_goes_away_harms_nobody() {
    use std::io::Write;
    let s = start(
        "server { listen 8080; location /slow { content_by_lua_block { ngx.sleep(0.02) for i = 1, 100 do ngx.say(('x'):rep(10000)) ngx.flush(true) end } }
           location / { content_by_lua_block { ngx.say('fine') } } }",
        &[],
    );
    for _ in 0..5 {
        let mut c = s.connect();
        c.write_all(b"GET /slow HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    assert!(body(&s.get("/")).contains("fine"));
}

#[test]
fn new_global_is_warned_of_and_stays() {
    let s = content("counter = (counter or 0) + 1 ngx.print(counter)");
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "1");
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "2");
    let log = s.error_log();
    let want = "writing a global Lua variable ('counter') which may lead to race conditions between concurrent requests";
    assert_eq!(log.matches(want).count(), 1, "{log}");
    assert!(log.contains("[warn]") && log.contains("stack traceback:"), "{log}");
}

#[test]
fn panic_in_a_native_is_an_error_of_that_request_only() {
    let make = || {
        let lua = moonlit_vm::host::Lua::new();
        let f = lua
            .create_function(|_, ()| -> moonlit_vm::host::Result<()> { panic!("on purpose") })
            .expect("a function");
        lua.globals().set("boom", f).expect("a global");
        lua
    };
    let s = super::start_with(
        "server { listen 8080; location /boom { content_by_lua_block { ngx.print(pcall(boom)) boom() } }
           location / { content_by_lua_block { ngx.print('fine') } } }",
        &[],
        make,
    );
    let r = s.raw(b"GET /boom HTTP/1.0\r\n\r\n");
    assert_eq!(status(&r), "500", "{r}");
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "fine");
}

#[test]
fn no_postpone_runs_before_the_rewrite_script() {
    let conf = "server { listen 8080; location / { set $a ''; set $b 'script';
       rewrite_by_lua_block { ngx.var.a = 'saw ' .. tostring(ngx.var.b) }
       content_by_lua_block { ngx.print(ngx.var.a) } } }";
    assert!(body(&start(conf, &[]).get("/")).contains("saw script"));
    // The script runs afterwards and empties what the handler wrote.
    let early = format!("rewrite_by_lua_no_postpone on; {conf}").replace("set $a '';", "");
    let early = early.replace("location / {", "set $a ''; location / {");
    let said = start(&early, &[]).get("/");
    assert!(body(&said).contains("saw ") && !body(&said).contains("script"), "{said}");
}

#[test]
fn variable_that_nobody_has_set_is_empty_and_told() {
    let s = start(
        "server { listen 8080;
           location /other { set $later 1; return 200; }
           location / { content_by_lua_block { ngx.print('[', ngx.var.later, ']', tostring(ngx.var.nowhere)) } } }",
        &[],
    );
    assert!(body(&s.get("/")).contains("[]nil"));
    assert!(
        s.error_log().contains("[warn] ")
            && s.error_log().contains("using uninitialized \"later\" variable, client: ")
    );
}

#[test]
fn socket_left_open_is_closed_with_its_request() {
    use std::io::Read;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let s = content(&format!(
        "kept = kept or {{}} local sock = ngx.socket.tcp() kept[#kept + 1] = sock
         ngx.print(sock:connect('127.0.0.1', {port}))"
    ));
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "1");
    let (mut c, _) = listener.accept().unwrap();
    c.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    assert_eq!(c.read(&mut [0u8; 8]).unwrap(), 0, "the end of the stream");
}
