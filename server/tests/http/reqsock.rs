//! The client's connection in the hands of scripts: `ngx.req.socket`, `ngx.on_abort`.

use std::io::{Read, Write};
use std::time::Duration;

use super::debug::line_with;
use super::{body, start, status};

#[test]
fn body_is_read_piece_by_piece_and_only_once() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           local s, err = ngx.req.socket()
           if not s then return ngx.say(err) end
           ngx.say(s:receive(3)) ngx.say(s:receive()) ngx.say(s:receive('*l')) ngx.say(s:receive(1))
           ngx.say(ngx.req.socket()) ngx.say(s.send, s.close, s.connect)
         } } }",
        &[],
    );
    let mut c = s.connect();
    let head = b"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n";
    c.write_all(head).expect("sent");
    let mut go = [0u8; 25];
    c.read_exact(&mut go).expect("leave to send");
    assert_eq!(&go, b"HTTP/1.1 100 Continue\r\n\r\n");
    for part in [&b"abcde"[..], b"f\ngh", b"i"] {
        c.write_all(part).expect("sent");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut out = String::new();
    c.read_to_string(&mut out).expect("a response");
    let got: Vec<&str> = out.split("\r\n").filter(|l| l.ends_with('\n')).collect();
    assert_eq!(
        got.concat(),
        "abc\ndef\nnilclosedghi\nnilclosed\nnilrequest body already exists\nnilnilnil\n"
    );
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "no body\n");
    let chunked = s.raw(
        b"POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    );
    assert!(chunked.contains("chunked request bodies not supported yet"), "{chunked}");
}

#[test]
fn client_that_leaves_in_its_body_aborts_the_read() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           local s = ngx.req.socket() ngx.log(ngx.WARN, 'got: ', table.concat({tostring(s:receive(9)), select(2, s:receive(9))}, ' '))
           ngx.log(ngx.WARN, 'end') } } }",
        &[],
    );
    let mut c = s.connect();
    c.write_all(b"POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nabc").expect("sent");
    drop(c);
    for _ in 0..200 {
        if s.error_log().contains("end, client") {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    line_with(&s.error_log(), "got: nil closed");
}

#[test]
fn raw_socket_has_the_connection_for_itself() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           ngx.status = 101 ngx.header.Upgrade = 'x' ngx.header.Connection = 'Upgrade'
           ngx.send_headers() ngx.flush(true)
           local s, err = ngx.req.socket(true)
           if not s then return ngx.log(ngx.ERR, err) end
           local again = select(2, ngx.req.socket(true))
           local said, why = ngx.say('no')
           s:send({'<', s:receive(), '|', again, '|', tostring(why), '|'})
           local t = ngx.thread.spawn(function() return s:receive(2) end)
           s:send('both')
           s:send({(select(2, ngx.thread.wait(t))), '>'})
           s:send(tostring(s.close) .. type(s:getfd()))
         } } }",
        &[],
    );
    let mut c = s.connect();
    c.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\nhello\nab").expect("sent");
    let mut out = String::new();
    c.read_to_string(&mut out).expect("the end");
    assert_eq!(status(&out), "101", "{out}");
    assert_eq!(body(&out), "<hello|duplicate call|raw request socket acquired|bothab>nilnumber");
    assert!(!s.error_log().contains("[error]"), "{}", s.error_log());
}

const ABORT: &str = "lua_check_client_abort on; log_format s '$status'; access_log logs/a.log s;
   server { listen 8080; location / { content_by_lua_block {
     local ok, err = ngx.on_abort(function() ngx.log(ngx.WARN, 'told') ngx.exit(499) end)
     ngx.log(ngx.WARN, 'first ', ok, ' second ', select(2, ngx.on_abort(print)))
     ngx.sleep(10) ngx.log(ngx.WARN, 'not reached') } }
   location /plain { content_by_lua_block { ngx.sleep(10) ngx.log(ngx.WARN, 'not reached') } }
   location /sub { content_by_lua_block { ngx.location.capture('/plain') ngx.log(ngx.WARN, 'not reached') } }
   location /off { lua_check_client_abort off; content_by_lua_block { ngx.say(ngx.on_abort(print)) } }
   location /body { content_by_lua_block { ngx.sleep(0.05) ngx.req.read_body() ngx.say(ngx.req.get_body_data()) } } }";

#[test]
fn handler_ends_when_its_client_leaves_and_may_be_told() {
    let s = start(ABORT, &[]);
    for path in ["/", "/plain", "/sub"] {
        let mut c = s.connect();
        c.write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes()).expect("sent");
        std::thread::sleep(Duration::from_millis(50));
        drop(c);
    }
    let seen = || std::fs::read_to_string(s.dir.join("logs/a.log")).unwrap_or_default();
    for _ in 0..200 {
        if seen().lines().count() == 3 {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(seen(), "499\n499\n499\n");
    let log = s.error_log();
    line_with(&log, "first 1 second duplicate call");
    line_with(&log, "told, client: ");
    assert!(line_with(&log, "client prematurely closed connection").contains(" [info] "));
    assert!(!log.contains("not reached"));
    let off = s.raw(b"GET /off HTTP/1.0\r\n\r\n");
    assert_eq!(body(&off), "nillua_check_client_abort is off\n");
    // Watching reads ahead, but takes nothing away.
    let mut c = s.connect();
    c.write_all(b"POST /body HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello").expect("sent");
    let mut out = String::new();
    c.read_to_string(&mut out).expect("a response");
    assert_eq!(body(&out), "hello\n");
}
