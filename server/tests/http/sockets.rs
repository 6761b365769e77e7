//! Cosockets as scripts see them: pools, errors and their log lines, owners, datagrams, names.

use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use super::debug::line_with;
use super::{Server, body, start};

/// A server whose location `/` has this code.
fn with_code(code: &str) -> Server {
    start(&format!("server {{ listen 8080; location / {{ content_by_lua_block {{\n{code}\n}} }} }}"), &[])
}

fn get(s: &Server) -> String {
    body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")).to_owned()
}

/// A server that answers each line with itself, on a thread of its own. A line `bye` ends the connection.
fn line_echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for s in listener.incoming() {
            let Ok(mut s) = s else { return };
            std::thread::spawn(move || {
                let mut line = Vec::new();
                let mut b = [0u8; 1];
                while matches!(s.read(&mut b), Ok(1)) {
                    line.push(b[0]);
                    if b[0] == b'\n' {
                        if line == b"bye\n" || s.write_all(&line).is_err() {
                            return;
                        }
                        line.clear();
                    }
                }
            });
        }
    });
    port
}

#[test]
fn what_a_socket_sends_and_how_it_says_no() {
    let s = with_code(&format!(
        "local s = ngx.socket.tcp()
         ngx.say(pcall(s.setoption, s, 'keepalive', true))
         ngx.say(s:send('x')) ngx.say(s:receive())
         ngx.say(s:connect('127.0.0.1')) ngx.say(s:connect('127.0.0.1', 99999))
         ngx.say(s:connect('a b/c', 1))
         ngx.say(s:connect('127.0.0.1', {port}))
         ngx.say(s:send({{'a', {{1, {{'b'}}}}, 2.5, '\\n'}})) ngx.say(s:receive())
         ngx.say(pcall(s.send, s, {{true}})) ngx.say(pcall(s.send, s, {{a = 1}}))
         local deep = {{}} deep[1] = deep
         ngx.say(pcall(s.send, s, deep))
         ngx.say(pcall(s.receive, s, '*x')) ngx.say(pcall(s.receive, s, -1)) ngx.say(pcall(s.receiveany, s, 0))
         ngx.say(s:setoption('tcp-nodelay', true), ' ', s:getoption('tcp-nodelay'), ' ', s:setoption('odd', 1))
         ngx.say(s:send(''), ' ', s:send(nil), ' ', s:send('\\n'), ' ', s:receive('*l'))
         ngx.say(s:getsslsession())
         ngx.say(s:close()) ngx.say(s:close())",
        port = line_echo()
    ));
    let got = get(&s);
    let lines: Vec<&str> = got.lines().collect();
    let want = [
        "falsesocket is never created nor connected",
        "nilclosed",
        "nilclosed",
        "nilmissing the port number",
        "nilbad port number: 99999",
        "nilfailed to parse host name \"a b/c\": invalid host",
        "1",
        "7",
        "a1b2.5",
        "falsebad argument #2 to 'send' (bad data type boolean found)",
        "falsebad argument #2 to 'send' (non-array table found)",
        "falsebad argument #2 to 'send' (table nested too deeply)",
        "falsebad argument #2 to 'receive' (bad pattern argument)",
        "falsebad argument #2 to 'receive' (bad number argument)",
        "falsebad argument #2 to 'receiveany' (bad max argument)",
        "true 1 nilunsupported option odd",
        "0 3 1 nil",
        "nilno session",
        "1",
        "nilclosed",
    ];
    for (got, want) in lines.iter().zip(want) {
        // `pcall(s.send, ...)` gives the function no name in front of it.
        let got = got.replace("to '?'", "to 'send'");
        let same = got == want
            || got.split("to '").next() == want.split("to '").next()
                && got.ends_with(want.split("' ").last().unwrap());
        assert!(same, "{got:?} instead of {want:?} in\n{lines:#?}");
    }
    assert_eq!(lines.len(), want.len());
    let log = s.error_log();
    line_with(
        &log,
        "attempt to send data on a closed socket: u:0000000000000000, c:0000000000000000, ft:0 eof:0",
    );
    line_with(&log, "attempt to receive data on a closed socket: u:");
}

#[test]
fn failures_are_logged_with_the_peer_unless_switched_off() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("bound").port();
    let code = format!(
        "content_by_lua_block {{
           local s = ngx.socket.tcp() s:settimeouts(500, 500, 20)
           ngx.say(s:connect('127.0.0.1', {port})) ngx.say(s:receive(5))
           local t = ngx.socket.tcp()
           ngx.say(t:connect('127.0.0.1', 1)) ngx.say(t:connect('unix:/no/such/file'))
         }}"
    );
    let s = start(
        &format!(
            "server {{ listen 8080; location / {{ {code} }}
               location /quiet {{ lua_socket_log_errors off; {code} }} }}"
        ),
        &[],
    );
    let want = "1\nniltimeout\nnilconnection refused\nnilno such file or directory\n";
    assert_eq!(get(&s), want);
    let log = s.error_log();
    let timed = line_with(&log, "lua tcp socket read timed out");
    assert!(
        timed.contains(&format!(", upstream: 127.0.0.1:{port}(127.0.0.1), client: 127.0.0.1, server: ")),
        "{timed}"
    );
    assert!(line_with(&log, "connect() failed (111: Connection refused)").contains(" [error] "));
    let unix = line_with(&log, "connect() to unix:/no/such/file failed (2: No such file or directory)");
    assert!(unix.contains(" [crit] "), "{unix}");
    let before = log.matches("timed out").count();
    assert_eq!(body(&s.raw(b"GET /quiet HTTP/1.0\r\n\r\n")), want);
    assert_eq!(s.error_log().matches("timed out").count(), before);
}

#[test]
fn a_socket_belongs_to_its_request_and_ends_with_it() {
    let s = with_code(&format!(
        "local kept = package.loaded.kept or {{}} package.loaded.kept = kept
         local function last(...) return (select(select('#', ...), ...)) end
         if not kept.s then
           kept.s = ngx.socket.tcp() kept.s:connect('127.0.0.1', {port})
           ngx.thread.spawn(function() while not kept.done do ngx.sleep(0.005) end end)
           return ngx.say('first')
         end
         ngx.say(last(pcall(kept.s.send, kept.s, 'x'))) ngx.say(last(pcall(kept.s.receive, kept.s)))
         ngx.say(last(pcall(kept.s.close, kept.s))) ngx.say(last(pcall(kept.s.setkeepalive, kept.s)))
         ngx.say(last(pcall(kept.s.connect, kept.s, '127.0.0.1', {port})))
         kept.done = true ngx.sleep(0.05)
         ngx.say(kept.s:send('x'))",
        port = line_echo()
    ));
    let first = {
        let addr = s.addr;
        std::thread::spawn(move || {
            let mut c = std::net::TcpStream::connect(addr).expect("listens");
            let _ = c.write_all(b"GET / HTTP/1.0\r\n\r\n");
            let mut out = String::new();
            let _ = c.read_to_string(&mut out);
            out
        })
    };
    let again = loop {
        // The first request must have begun.
        std::thread::sleep(Duration::from_millis(20));
        let got = get(&s);
        if !got.starts_with("first") {
            break got;
        }
    };
    let bad = "bad request\n".repeat(5);
    assert_eq!(again, format!("{bad}nilclosed\n"), "{}", s.error_log());
    assert!(first.join().expect("no panic").ends_with("first\n"));
}

#[test]
fn pools_keep_limit_and_free() {
    let s = with_code(&format!(
        "local function new(opts)
           local s = ngx.socket.tcp()
           local ok, err = s:connect('127.0.0.1', {port}, opts)
           return ok and s or err
         end
         local a = new() ngx.say(a:setkeepalive()) ngx.say(a:send('x'))
         local b = new() ngx.say(b:getreusedtimes()) b:send('left\\n') b:receive(1)
         ngx.say(b:setkeepalive()) b:receive() ngx.say(b:setkeepalive(0, 1))
         local c = new({{pool = 'p', pool_size = 1, backlog = 1}})
         local t = ngx.thread.spawn(function()
           local d = new({{pool = 'p', pool_size = 1, backlog = 1}}) return d:getreusedtimes()
         end)
         ngx.say(new({{pool = 'p', pool_size = 1, backlog = 1}}))
         c:setkeepalive() ngx.say(select(2, ngx.thread.wait(t)))
         ngx.say(pcall(new, {{pool_size = 0}})) ngx.say(pcall(new, {{pool = {{}}}}))
         local e = new({{pool = 'gone'}}) e:setkeepalive(10) ngx.sleep(0.1)",
        port = line_echo()
    ));
    let got = get(&s);
    let lines: Vec<&str> = got.lines().collect();
    assert_eq!(
        lines[..7],
        ["1", "nilclosed", "1", "nilunread data in buffer", "1", "too many waiting connect operations", "1"],
        "{}",
        s.error_log()
    );
    assert!(lines[7].ends_with("(bad \"pool_size\" option value: 0)"), "{got}");
    assert!(lines[8].ends_with("(bad \"pool\" option type: table)"), "{got}");
    let log = s.error_log();
    for text in [
        "lua tcp socket get keepalive peer: using connection ",
        "lua tcp socket connection pool size: 30, backlog: -1",
        "lua tcp socket connection pool size: 1, backlog: 1",
        "lua tcp socket queue connect operation for connection pool \"p\", connections: 2",
        "lua tcp socket keepalive timeout: unlimited",
        "lua tcp socket keepalive timeout: 10 ms",
        "lua tcp socket keepalive max idle timeout",
        "lua tcp socket keepalive: free connection pool for \"gone\"",
    ] {
        assert!(line_with(&log, text).contains(" [debug] "));
    }
}

#[test]
fn light_threads_read_and_write_at_once_but_not_twice() {
    let s = with_code(&format!(
        "local s = ngx.socket.tcp() s:connect('127.0.0.1', {port})
         local t = ngx.thread.spawn(function() return s:receive() end)
         ngx.say(s:receive()) ngx.say(s:close()) ngx.say(s:setkeepalive())
         ngx.say(s:send('both\\n')) ngx.say(select(2, ngx.thread.wait(t)))
         s:send('bye\\n') ngx.say(s:receive('*a'), '.') ngx.say(s:receive('*a'), '.') ngx.say(s:receive())
         ngx.say(s:receive())",
        port = line_echo()
    ));
    let want = "nilsocket busy reading\nnilsocket busy reading\nnilsocket busy reading\n5\nboth\n.\n.\nnilclosed\nnilclosed\n";
    assert_eq!(get(&s), want);
}

#[test]
fn datagrams_to_a_peer_and_back() {
    let echo = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = echo.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buf = [0u8; 100];
        while let Ok((n, from)) = echo.recv_from(&mut buf) {
            let _ = echo.send_to(&buf[..n], from);
        }
    });
    let s = with_code(&format!(
        "local s = ngx.socket.udp() s:settimeout(30)
         ngx.say(s:send('x')) ngx.say(s:setpeername('127.0.0.1', 70000))
         ngx.say(s:setpeername('127.0.0.1', {port}))
         ngx.say(s:send({{'he', 'llo'}})) ngx.say(s:receive()) ngx.say(s:send('longer')) ngx.say(s:receive(4))
         ngx.say(s:receive())
         ngx.say(s:setpeername('127.0.0.1', 1)) ngx.say(s:send('x')) ngx.say(s:receive())
         ngx.say(s:close()) ngx.say(s:close()) ngx.say(s:bind('nonsense'))"
    ));
    let want = "nilclosed\nnilbad port number: 70000\n1\n1\nhello\n1\nlong\nniltimeout\n\
                1\n1\nnilconnection refused\n1\nnilclosed\nnilbad address\n";
    assert_eq!(get(&s), want);
    let log = s.error_log();
    line_with(
        &log,
        &format!("lua udp socket read timed out, upstream: 127.0.0.1:{port}(127.0.0.1), client: "),
    );
    line_with(&log, "recv() failed (111: Connection refused), upstream: 127.0.0.1:1(127.0.0.1), client: ");
    line_with(&log, "lua udp socket receive buffer size: 65536");
}

#[test]
fn names_go_to_the_resolver_or_to_the_system() {
    let dns = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let at = dns.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut buf = [0u8; 512];
        while let Ok((n, from)) = dns.recv_from(&mut buf) {
            let mut m = buf[..n].to_vec();
            m[2] = 0x81;
            if m[13..].starts_with(b"known") {
                m[7] = 1;
                m.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01");
            } else {
                m[3] |= 3;
            }
            let _ = dns.send_to(&m, from);
        }
    });
    let code = format!(
        "content_by_lua_block {{
           for _, name in ipairs{{'known.test', 'unknown.test', 'localhost'}} do
             local s = ngx.socket.tcp() ngx.say(s:connect(name, {}))
           end }}",
        line_echo()
    );
    let s = start(
        &format!(
            "server {{ listen 8080; location / {{ resolver {at} ipv6=off; resolver_timeout 500ms; {code} }}
               location /system {{ {code} }} }}"
        ),
        &[],
    );
    let missing = "could not be resolved (3: Host not found)";
    assert_eq!(get(&s), format!("1\nnilunknown.test {missing}\nnillocalhost {missing}\n"));
    let system = s.raw(b"GET /system HTTP/1.0\r\n\r\n");
    assert_eq!(body(&system).lines().nth(2), Some("1"), "{system}");
    line_with(&s.error_log(), "name was resolved to 127.0.0.1");
}

#[test]
fn sockets_of_a_subrequest_live_as_long_as_the_request() {
    let s = start(
        &format!(
            "server {{ listen 8080;
               location / {{ content_by_lua_block {{
                 ngx.print(ngx.location.capture('/make').body)
                 local kept = package.loaded.kept_by_sub
                 ngx.say(pcall(kept.send, kept, 'x'))
                 ngx.say(pcall(kept.connect, kept, '127.0.0.1', {port}))
               }} }}
               location /make {{ content_by_lua_block {{
                 local s = ngx.socket.tcp() package.loaded.kept_by_sub = s
                 ngx.say(s:connect('127.0.0.1', {port}))
               }} }} }}",
            port = line_echo()
        ),
        &[],
    );
    assert_eq!(get(&s), "1\nfalsebad request\nfalsebad request\n");
}

#[test]
fn connection_ends_with_the_requests_that_its_location_allows() {
    let s = start(
        "server { listen 8080; location / { keepalive_requests 2; content_by_lua_block { ngx.say(ngx.var.connection_requests) } } }",
        &[],
    );
    let twice = b"GET / HTTP/1.1\r\nHost: t\r\n\r\n".repeat(3);
    let got = s.raw(&twice);
    assert_eq!(got.matches("HTTP/1.1 200").count(), 2, "{got}");
    assert!(got.contains("Connection: close"), "{got}");
}

#[test]
fn sockets_work_in_every_phase() {
    let http = format!(
        "init_by_lua_block {{
           function ask(text)
             local s = ngx.socket.tcp()
             assert(s:connect('127.0.0.1', {port}))
             s:send(text .. '\\n')
             local got = s:receive()
             s:setkeepalive()
             return ngx.get_phase() .. '=' .. got
           end
         }}
         init_worker_by_lua_block {{ first = ask('w') }}
         server {{ listen 8080; location / {{
           set_by_lua_block $x {{ return ask('s') }}
           rewrite_by_lua_block {{ ngx.ctx.all = {{first, ngx.var.x, ask('r')}} }}
           access_by_lua_block {{ table.insert(ngx.ctx.all, ask('a')) }}
           content_by_lua_block {{ table.insert(ngx.ctx.all, ask('c')) ngx.print(table.concat(ngx.ctx.all, ' ')) }}
           header_filter_by_lua_block {{ ngx.header.X = ask('h') }}
           body_filter_by_lua_block {{ if ngx.arg[2] then ngx.arg[1] = ngx.arg[1] .. ' ' .. ask('b') end }}
           log_by_lua_block {{ ngx.log(ngx.WARN, ask('l')) }}
         }} }}",
        port = line_echo()
    );
    let s = start(&http, &[]);
    let got = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    let want = "init_worker=w set=s rewrite=r access=a content=c body_filter=b";
    assert_eq!(body(&got), want, "{}", s.error_log());
    assert_eq!(super::header(&got, "X"), Some("header_filter=h"));
    let start = std::time::Instant::now();
    while !s.error_log().contains("log=l") && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(5));
    }
    line_with(&s.error_log(), "log=l while logging request, client: ");
}
