//! Requests that are wrong on purpose, cut short or slow: nginx's status, nginx's line, and the server goes on.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::{Server, body, start, status};

const CONF: &str = "client_max_body_size 100; client_body_buffer_size 16; log_format f '$request_uri $status $body_bytes_sent';
    access_log logs/access.log f;
    server { listen 8080; server_name t;
        location /ok { return 200 ok; }
        location /body { content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data() or 'none') } } }";

/// Waits until a file of the server has a line with this text.
fn wait_for(s: &Server, file: &str, text: &str) {
    let begun = Instant::now();
    loop {
        let log = std::fs::read_to_string(s.dir.join(file)).unwrap_or_default();
        if log.contains(text) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{text} is not in {log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The head of a request to `/body` with these header lines, and what follows it.
fn post(lines: &str, rest: &str) -> String {
    format!("POST /body HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n{rest}")
}

fn get(lines: &str) -> String {
    format!("GET /ok HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{lines}\r\n")
}

#[test]
fn wrong_requests_have_nginx_statuses_and_lines() {
    let s = start(CONF, &[]);
    let chunked = "Transfer-Encoding: chunked\r\n";
    let headers =
        |text: &str| format!("{text} while reading client request headers, client: 127.0.0.1, server: t");
    let line = |text: &str| format!("{text} while reading client request line, client: 127.0.0.1, server: t");
    let huge = format!("X: {}\r\n", "a".repeat(9000));
    let many: String = (0..1500).map(|n| format!("X{n}: a\r\n")).collect();
    let cases: Vec<(String, &str, String)> = vec![
        // Lengths that contradict each other, or are none.
        (
            post("Content-Length: 3\r\nContent-Length: 4\r\n", "abcd"),
            "400",
            headers(
                "client sent duplicate header line: \"Content-Length: 4\", previous value: \"Content-Length: 3\"",
            ),
        ),
        (
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
            "400",
            headers("client sent \"Content-Length\" and \"Transfer-Encoding\" headers at the same time"),
        ),
        (
            post("Content-Length: -3\r\n", "abc"),
            "400",
            headers("client sent invalid \"Content-Length\" header"),
        ),
        (
            post("Content-Length: 99999999999999999999\r\n", ""),
            "400",
            headers("client sent invalid \"Content-Length\" header"),
        ),
        (
            post("Content-Length : 3\r\n", "abc"),
            "400",
            headers("client sent invalid header line: \"Content-Length\\x20...\""),
        ),
        (
            post("Transfer-Encoding: gzip, chunked\r\n", ""),
            "501",
            headers("client sent unknown \"Transfer-Encoding\": \"gzip, chunked\""),
        ),
        (
            "POST /body HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
            headers("client sent HTTP/1.0 request with \"Transfer-Encoding\" header"),
        ),
        // Chunks that are none.
        (post(chunked, "zz\r\nabc\r\n0\r\n\r\n"), "400", "[error] ".to_owned()),
        (post(chunked, "3\r\nabcX0\r\n\r\n"), "400", "client sent invalid chunked body, client:".to_owned()),
        (post(chunked, "3\nabc\n0\n\n"), "400", "client sent invalid chunked body, client:".to_owned()),
        (post(chunked, "-1\r\nabc\r\n"), "400", "client sent invalid chunked body, client:".to_owned()),
        (
            post(chunked, "fffffffffffffffff\r\nabc\r\n"),
            "400",
            "client sent invalid chunked body, client:".to_owned(),
        ),
        // Bodies over the limit: a chunk is refused by its size, before its data has come.
        (
            post(chunked, "ffff\r\n"),
            "413",
            "[error] 0#0: *1 client intended to send too large chunked body: 0+65535 bytes, client:"
                .to_owned(),
        ),
        (
            post(chunked, &format!("40\r\n{0}\r\n40\r\n{0}\r\n0\r\n\r\n", "a".repeat(64))),
            "413",
            "client intended to send too large chunked body: 64+64 bytes, client:".to_owned(),
        ),
        (
            post("Content-Length: 101\r\n", &"a".repeat(101)),
            "413",
            "client intended to send too large body: 101 bytes, client:".to_owned(),
        ),
        // Folded, huge, too many, and with bytes that headers do not have.
        (get("X: a\r\n b\r\n"), "400", headers("client sent invalid header line: \"\\x20...\"")),
        (get("X: a\rb\r\n"), "400", headers("client sent invalid header line: \"X: a\\x0d...\"")),
        (get("X: a\0b\r\n"), "400", headers("client sent invalid header line: \"X: a\\x00...\"")),
        (get(": b\r\n"), "400", headers("client sent invalid header line: \"\\x3a...\"")),
        (get(&huge), "400", "client sent too long header line: \"X: aaaa".to_owned()),
        (get(&many), "400", headers("client sent too many header lines")),
        (get("X_y: a\r\n"), "200", headers("client sent invalid header line: \"X_y: a\"")),
        (
            "GET /ok HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            "400",
            "client sent duplicate host header: \"Host: b\", previous value: \"Host: a\"".to_owned(),
        ),
        // Request lines.
        (
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(9000)),
            "414",
            line("client sent too long URI"),
        ),
        ("G?T /ok HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400", line("client sent invalid method")),
        ("GET /o k HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400", line("client sent invalid request")),
        ("GET /../x HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400", line("client sent invalid request")),
        ("GET /%00 HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(), "400", line("client sent invalid request")),
        ("GET /ok HTTP/1.1\rHost: t\r\r".to_owned(), "400", line("client sent invalid request")),
        (
            "GET ftp://o(t/ok HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
            "400",
            line("client sent invalid request"),
        ),
        (
            "GET http://t:x/ok HTTP/1.1\r\nHost: t\r\n\r\n".to_owned(),
            "400",
            line("client sent invalid request"),
        ),
        ("GET /ok HTTP/2.0\r\nHost: t\r\n\r\n".to_owned(), "505", line("client sent invalid version")),
        ("\x16\x03\x01\x02\0\x01\r\n".to_owned(), "400", line("client sent invalid method")),
        // A bare line feed ends a line, as in nginx.
        ("GET /ok HTTP/1.1\nHost: t\nConnection: close\n\n".to_owned(), "200", String::new()),
    ];
    for (request, want, logged) in cases {
        let before = s.error_log().len();
        let answer = s.raw(request.as_bytes());
        assert_eq!(status(&answer), want, "{request:?}: {answer}");
        if logged.starts_with("[error] 0#0") {
            let text = logged.split("*1 ").nth(1).expect("as written above");
            assert!(s.error_log()[before..].contains(text), "{request:?}: {}", &s.error_log()[before..]);
        } else {
            assert!(s.error_log()[before..].contains(&logged), "{request:?}: {}", &s.error_log()[before..]);
        }
    }
    let answer = s.raw(b"POST /ok\r\n");
    assert!(answer.starts_with("<html>"), "an answer to HTTP/0.9 has no head: {answer}");
    let answer = s.raw(b"GET /ok HTTP/1.1\r\nHost: t\r\n\r\nFOO\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"), "{answer}");
    let text = "client sent invalid method while reading client pipelined request line, client:";
    assert!(s.error_log().contains(text), "{}", s.error_log());
    assert_eq!(body(&s.get("/ok")), "ok");
}

#[test]
fn requests_that_stop_halfway_are_logged_and_answered_with_nothing() {
    let s = start(CONF, &[]);
    let head = "/body HTTP/1.1\r\nHost: t\r\n";
    for (text, line, access) in [
        (
            "GET /li HT",
            "client prematurely closed connection while reading client request line, client:",
            "400 0",
        ),
        (
            "GET /head HTTP/1.1\r\nHost: x\r\n",
            "client prematurely closed connection while reading client request headers, client: 127.0.0.1, \
             server: t, request: \"GET /head HTTP/1.1\", host: \"x\"",
            "/head 400 0",
        ),
        (
            &format!("POST {head}Content-Length: 10\r\n\r\nab"),
            "client prematurely closed connection, client:",
            "/body 400 0",
        ),
        (
            &format!("POST {head}Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
            "client prematurely closed connection, client:",
            "/body 400 0",
        ),
    ] {
        let mut c = s.connect();
        c.write_all(text.as_bytes()).expect("the server reads");
        c.shutdown(Shutdown::Write).expect("open");
        let mut answer = String::new();
        let _ = c.read_to_string(&mut answer);
        assert_eq!(answer, "", "{text}");
        wait_for(&s, "logs/error.log", line);
        wait_for(&s, "logs/access.log", access);
    }
    drop(s.connect());
    wait_for(
        &s,
        "logs/error.log",
        "client closed connection while waiting for request, client: 127.0.0.1, server: ",
    );
    assert_eq!(body(&s.get("/ok")), "ok");
}

#[test]
fn slow_clients_are_cut_off_by_their_timeouts() {
    let s = start(
        &format!(
            "client_header_timeout 300ms; client_body_timeout 300ms; reset_timedout_connection on; {CONF}"
        ),
        &[],
    );
    for (text, line, access) in [
        ("", "client timed out (110: Connection timed out) while waiting for request, client:", ""),
        (
            "GET /a HT",
            "client timed out (110: Connection timed out) while reading client request line, client:",
            "408 0",
        ),
        (
            "GET /b HTTP/1.1\r\nHost: t\r\nX:",
            "client timed out (110: Connection timed out) while reading client request headers, client: 127.0.0.1, \
             server: t, request: \"GET /b HTTP/1.1\", host: \"t\"",
            "/b 408 0",
        ),
        ("POST /body HTTP/1.1\r\nHost: t\r\nContent-Length: 10\r\n\r\nab", "", "/body 408 0"),
    ] {
        let mut c = s.connect();
        c.write_all(text.as_bytes()).expect("the server reads");
        let mut answer = String::new();
        let _ = c.read_to_string(&mut answer);
        assert_eq!(answer, "", "{text}");
        if !line.is_empty() {
            wait_for(&s, "logs/error.log", line);
        }
        if !access.is_empty() {
            wait_for(&s, "logs/access.log", access);
        }
    }
    assert_eq!(body(&s.get("/ok")), "ok");
}

/// The clock is read when the worker wakes: what was open before must not count against who comes now.
#[test]
fn connection_after_a_long_pause_has_its_whole_time() {
    let s = start("server { listen 8080; location / { return 200 $connection_time; } }", &[]);
    let warm: f64 = body(&s.get("/")).parse().expect("a number");
    assert!(warm < 2.5, "{warm}");
    // Nothing happens meanwhile: that is what is tested.
    std::thread::sleep(Duration::from_secs(3));
    let age: f64 = body(&s.get("/")).parse().expect("a number");
    assert!(age < 2.5, "a connection just made is {age} s old");
}

#[test]
fn bodies_that_came_with_the_head_stay_in_memory() {
    let s = start(
        "client_body_buffer_size 16; client_header_buffer_size 256;
         server { listen 8080; location / { content_by_lua_block { ngx.req.read_body()
             ngx.print(ngx.req.get_body_file() and 'file' or ngx.req.get_body_data()) } } }",
        &[],
    );
    let send = |len: usize| {
        let data = "a".repeat(len);
        s.raw(format!("POST / HTTP/1.0\r\nContent-Length: {len}\r\n\r\n{data}").as_bytes())
    };
    assert_eq!(body(&send(50)), "a".repeat(50));
    assert_eq!(body(&send(300)), "file");
    assert!(s.error_log().contains("[warn] "), "{}", s.error_log());
}

#[test]
fn body_that_finds_no_folder_is_500_and_told() {
    let s = start(
        "client_body_buffer_size 16; client_body_temp_path /dev/null/none;
         server { listen 8080; location /ok { return 200 ok; }
                  location / { content_by_lua_block { ngx.req.read_body() ngx.print('read') } } }",
        &[],
    );
    let data = "a".repeat(20_000);
    let answer = s.raw(format!("POST / HTTP/1.0\r\nContent-Length: 20000\r\n\r\n{data}").as_bytes());
    assert_eq!(status(&answer), "500");
    let log = s.error_log();
    assert!(log.contains("[crit]") && log.contains("/dev/null/none\" failed (20: Not a directory)"), "{log}");
    assert_eq!(body(&s.get("/ok")), "ok");
}
