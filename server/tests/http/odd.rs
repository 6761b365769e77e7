//! Rare requests and odd answers, as nginx has them.

use std::io::{Read, Write};

use super::{body, header, start, status};

#[test]
fn leave_to_send_a_body_comes_before_a_response_that_does_not_read_it() {
    let s = start(
        "server { listen 8080; root html;
             location /return { return 200 ret; }
             location /lua { content_by_lua_block { ngx.print('lua') } }
             location /read { content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data()) } } }",
        &[("html/file", "file")],
    );
    let leave = "HTTP/1.1 100 Continue\r\n\r\n";
    for (method, path, want) in [
        ("POST", "/return", "ret"),
        ("POST", "/lua", "lua"),
        ("GET", "/file", "file"),
        ("POST", "/read", "hello"),
    ] {
        let mut c = s.connect();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        );
        c.write_all(head.as_bytes()).expect("the server reads");
        let mut first = vec![0; leave.len()];
        c.read_exact(&mut first).expect("the server answers");
        assert_eq!(String::from_utf8_lossy(&first), leave, "{path}");
        // The connection goes on behind the body.
        c.write_all(b"helloGET /return HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").expect("as above");
        let mut rest = String::new();
        c.read_to_string(&mut rest).expect("the server goes on");
        assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && !rest.contains("100 Continue"), "{path}: {rest}");
        assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 2, "{path}: {rest}");
        assert!(rest.contains(want) && rest.ends_with("\r\n\r\nret"), "{path}: {rest}");
    }
    let head = "POST /none HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 5\r\nConnection: close\r\n\r\n";
    let answer = s.raw(head.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 404"), "an error takes no body: {answer}");
}

#[test]
fn returned_zero_is_a_status_and_444_is_no_answer() {
    let s = start(
        "log_format f '$uri $status'; access_log logs/access.log f;
         server { listen 8080; location /zero { return 0; } location /text { return 0 text; } location /none { return 444; } }",
        &[],
    );
    let answer = s.get("/zero");
    assert!(
        answer.starts_with("HTTP/1.1 000 \r\n") && header(&answer, "content-length") == Some("0"),
        "{answer}"
    );
    assert_eq!(body(&s.get("/text")), "text");
    assert_eq!(s.get("/none"), "");
    let log = || std::fs::read_to_string(s.dir.join("logs/access.log")).unwrap_or_default();
    let start = std::time::Instant::now();
    while log().lines().count() < 3 && start.elapsed() < std::time::Duration::from_secs(20) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(log(), "/zero 000\n/text 000\n/none 444\n");
}

#[test]
fn subrequest_without_an_end_is_told_to_be_truncated() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for c in listener.incoming() {
            let Ok(mut c) = c else { return };
            let _ = c.read(&mut [0; 4096]);
            let _ = c.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        }
    });
    let s = start(
        &format!(
            "server {{ listen 8080;
                 location /a {{ content_by_lua_block {{ local r = ngx.location.capture(ngx.var.arg_of)
                     ngx.print(r.status, ' ', r.truncated, ' ', r.body) }} }}
                 location /short {{ proxy_pass http://127.0.0.1:{port}; }}
                 location /endless {{ body_filter_by_lua_block {{ if ngx.arg[2] then ngx.arg[2] = false end }} return 200 sub; }}
                 location /whole {{ return 200 sub; }} }}"
        ),
        &[],
    );
    let get = |path: &str| s.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
    assert_eq!(body(&get("/a?of=/short")), "200 true abc");
    assert_eq!(body(&get("/a?of=/endless")), "200 true sub");
    assert_eq!(body(&get("/a?of=/whole")), "200 false sub");
}

#[test]
fn length_that_is_no_number_is_an_error() {
    let s = start(
        "server { listen 8080;
             location /content { content_by_lua_block { ngx.header.content_length = 'text' ngx.say('x') } }
             location /filter { header_filter_by_lua_block { ngx.header.content_length = 'text' } return 200 abc; } }",
        &[],
    );
    assert_eq!(status(&s.get("/content")), "500");
    assert_eq!(s.get("/filter"), "");
    let log = s.error_log();
    for line in [
        "lua entry thread aborted: runtime error: content_by_lua(nginx.conf:5):1: failed to set header",
        "failed to run header_filter_by_lua*: header_filter_by_lua(nginx.conf:6):1: failed to set header",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}
