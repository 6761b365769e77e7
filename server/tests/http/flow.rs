//! Phases, redirects, error pages, files and bad input as a client sees them.

use std::io::{Read, Write};

use super::{body, header, start, status};

#[test]
fn return_with_text_has_nginx_headers() {
    let s =
        start("server { listen 8080; location / { default_type text/plain; return 200 'hi $arg_x'; } }", &[]);
    let r = s.get("/a?x=1");
    assert!(r.starts_with("HTTP/1.1 200 OK\r\nServer: openresty/"), "{r}");
    let names: Vec<&str> =
        r.split("\r\n").skip(1).take_while(|l| !l.is_empty()).map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(names, ["Server", "Date", "Content-Type", "Content-Length", "Connection"]);
    assert_eq!(body(&r), "hi 1");
}

#[test]
fn keepalive_and_pipelining_answer_in_order() {
    let s = start("server { listen 8080; location / { return 200 $uri; } }", &[]);
    let mut c = s.connect();
    c.write_all(b"GET /1 HTTP/1.1\r\nHost: t\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\n\r\nGET /3 HTTP/1.1\r\nHo")
        .unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    c.write_all(b"st: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut out = String::new();
    c.read_to_string(&mut out).unwrap();
    let bodies: Vec<&str> = out.split("\r\n\r\n").skip(1).map(|b| &b[..2]).collect();
    assert_eq!(bodies, ["/1", "/2", "/3"]);
    assert_eq!(out.matches("Connection: keep-alive").count(), 2);
    assert_eq!(out.matches("Connection: close").count(), 1);
}

#[test]
fn http_1_0_closes_unless_asked() {
    let s = start("server { listen 8080; location / { return 200 x; } }", &[]);
    assert!(s.raw(b"GET / HTTP/1.0\r\n\r\n").contains("Connection: close\r\n"));
    let mut c = s.connect();
    c.write_all(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n").unwrap();
    let mut out = String::new();
    c.read_to_string(&mut out).unwrap();
    assert_eq!(out.matches("HTTP/1.1 200").count(), 2);
}

#[test]
fn malformed_and_smuggling_shaped_requests_get_nginx_statuses() {
    let s = start("server { listen 8080; client_max_body_size 10; location / { return 200 x; } }", &[]);
    for (req, want) in [
        ("GARBAGE\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1,1\r\n\r\nx", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", "505"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world", "413"),
        ("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET /../x HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nbad name: x\r\n\r\n", "400"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", "405"),
    ] {
        let r = s.raw(req.as_bytes());
        assert_eq!(status(&r), want, "{req:?} -> {r}");
        assert!(want == "405" || r.contains("Connection: close"), "{req:?} -> {r}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    assert_eq!(status(&s.raw(long.as_bytes())), "414");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(9000));
    let r = s.raw(long.as_bytes());
    assert!(status(&r) == "400" && r.contains("Request Header Or Cookie Too Large"), "{r}");
    assert!(
        s.error_log()
            .contains("client sent invalid method while reading client request line, client: 127.0.0.1")
    );
}

#[test]
fn rewrite_return_set_and_if() {
    let s = start(
        "server { listen 8080; set $v start;
           location /a { set $v \"$v-a\"; rewrite ^/a/(.*)$ /b/$1?n=1 last; }
           location /b { if ($arg_n = 1) { set $v \"$v-if\"; } return 200 \"$v $uri $args\"; }
           location /r { rewrite ^/r/(.*)$ /x/$1 redirect; }
           location /loop { rewrite ^ /loop last; }
           location /c { return 301 /d; }
           location /e { return 404; }
           location ~ ^/re/(?<w>\\w+)$ { return 200 $w-$1; }
           location /n { return 204; }
         }",
        &[],
    );
    assert_eq!(body(&s.get("/a/x?m=2")), "start-a-if /b/x n=1&m=2");
    let r = s.get("/r/y?q=1");
    assert_eq!(
        (status(&r), header(&r, "location")),
        ("302", Some(&*format!("http://t:{}/x/y?q=1", s.addr.port())))
    );
    assert_eq!(status(&s.get("/loop")), "500");
    assert!(s.error_log().contains("rewrite or internal redirection cycle"));
    let r = s.get("/c");
    assert!(status(&r) == "301" && body(&r).contains("<h1>301 Moved Permanently</h1>"));
    assert!(body(&s.get("/e")).contains("<center><h1>404 Not Found</h1></center>"));
    assert_eq!(body(&s.get("/re/abc")), "abc-abc");
    let r = s.get("/n");
    assert!(status(&r) == "204" && header(&r, "content-length").is_none() && body(&r).is_empty());
}

#[test]
fn error_pages_named_locations_and_internal() {
    let s = start(
        "server { listen 8080;
           error_page 404 /missing; error_page 403 =200 @named; error_page 410 =302 http://x/;
           location = /missing { internal; return 200 'page'; }
           location @named { return 201 'named $uri'; }
           location /a { return 404; }
           location /b { return 403; }
           location /c { return 410; }
         }",
        &[],
    );
    let r = s.get("/a");
    assert_eq!(body(&r), "page");
    assert_eq!(body(&s.get("/b")), "named /b");
    assert_eq!(header(&s.get("/c"), "location"), Some("http://x/"));
    // From outside the internal page is not found, whose page it is itself.
    assert_eq!(body(&s.get("/missing")), "page");
}

#[test]
fn files_have_validators_types_and_index() {
    let s = start(
        "types { text/html html; } server { listen 8080; root html; etag on;
           location / { } location /t/ { try_files $uri /t/$arg_f =404; } }",
        &[("html/index.html", "INDEX"), ("html/a.html", "A"), ("html/t/f", "F"), ("html/d/x", "X")],
    );
    let r = s.get("/");
    assert_eq!((body(&r), header(&r, "content-type")), ("INDEX", Some("text/html")));
    let r = s.get("/a.html");
    let (etag, modified) = (header(&r, "etag").unwrap(), header(&r, "last-modified").unwrap());
    for h in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {modified}")] {
        let r =
            s.raw(format!("GET /a.html HTTP/1.1\r\nHost: t\r\n{h}\r\nConnection: close\r\n\r\n").as_bytes());
        assert!(status(&r) == "304" && body(&r).is_empty(), "{r}");
    }
    let r = s.raw(b"HEAD /a.html HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert_eq!((header(&r, "content-length"), body(&r)), (Some("1"), ""));
    assert_eq!(status(&s.get("/none")), "404");
    assert!(s.error_log().contains("html/none\" failed (2: No such file or directory)"));
    let r = s.get("/d");
    assert!(status(&r) == "301" && header(&r, "location").unwrap().ends_with("/d/"));
    assert_eq!(status(&s.get("/d/")), "403");
    assert_eq!(body(&s.get("/t/zz?f=f")), "F");
    assert_eq!(status(&s.get("/t/zz?f=g")), "404");
    assert_eq!(body(&s.get("/t/f")), "F");
    let r = s.raw(b"POST /a.html HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\nConnection: close\r\n\r\nxx");
    assert_eq!(status(&r), "405");
}

#[test]
fn large_file_arrives_whole() {
    let big: String = (0..400_000).map(|n| char::from(b'a' + (n % 23) as u8)).collect();
    let s = start("server { listen 8080; root html; }", &[("html/big", &big)]);
    assert!(body(&s.get("/big")) == big);
}

#[test]
fn unread_body_is_discarded_and_the_connection_goes_on() {
    let s = start("server { listen 8080; location / { return 200 $uri; } }", &[]);
    let mut c = s.connect();
    c.write_all(b"POST /1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel").unwrap();
    std::thread::sleep(std::time::Duration::from_millis(10));
    c.write_all(b"lo\r\n0\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let mut out = String::new();
    c.read_to_string(&mut out).unwrap();
    assert_eq!(out.matches("HTTP/1.1 200").count(), 2, "{out}");
    // A broken chunk ends the connection behind the response.
    let r = s.raw(b"POST /1 HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\nGET /2 HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(r.matches("HTTP/1.1").count(), 1, "{r}");
}

#[test]
fn access_log_and_servers_by_name() {
    let s = start(
        "log_format f '$remote_addr $host $status $request $body_bytes_sent'; access_log logs/a.log f;
         server { listen 8080; server_name one; location / { return 200 one; } }
         server { listen 8080; server_name *.two; location / { return 200 two; } }",
        &[],
    );
    assert_eq!(body(&s.raw(b"GET / HTTP/1.1\r\nHost: x.TWO:80\r\nConnection: close\r\n\r\n")), "two");
    assert_eq!(body(&s.get("/")), "one");
    let log = std::fs::read_to_string(s.dir.join("logs/a.log")).unwrap();
    assert_eq!(log, "127.0.0.1 x.two 200 GET / HTTP/1.1 3\n127.0.0.1 t 200 GET / HTTP/1.1 3\n");
}

#[test]
fn slow_header_is_cut_off_by_its_timeout() {
    let s = start(
        "client_header_timeout 50ms; keepalive_timeout 50ms; server { listen 8080; location / { return 200 x; } }",
        &[],
    );
    assert_eq!(s.raw(b"GET / HTTP/1.1\r\nHo"), "");
    let r = s.raw(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert!(r.contains("keep-alive"), "{r}");
}

#[test]
fn stopping_worker_still_answers_what_comes_on_idle_connections() {
    let s = start("server { listen 8080; location / { return 200 x; } }", &[]);
    let mut c = s.connect();
    let mut buf = [0u8; 1024];
    c.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let n = c.read(&mut buf).unwrap();
    assert!(String::from_utf8_lossy(&buf[..n]).contains("Connection: keep-alive"));
    s.drain();
    std::thread::sleep(std::time::Duration::from_millis(30));
    c.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    let mut rest = String::new();
    c.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("200 OK") && rest.contains("Connection: close"), "{rest}");
}

#[test]
fn header_filter_refusals_go_through_error_pages() {
    let s = start(
        "server { listen 8080; error_page 582 = /bar; error_page 416 /part; root html;
           location = /t { echo ok; header_filter_by_lua_block { return ngx.exit(582) } }
           location = /bar { echo hi; header_filter_by_lua_block { return ngx.exit(302) } }
           location = /plain { echo ok; header_filter_by_lua_block { return ngx.exit(403) } }
           location = /fails { echo ok; header_filter_by_lua_block { error('no') } }
           location = /part { return 200 other; }
         }",
        &[("html/f", "0123")],
    );
    let r = s.get("/t");
    assert!(status(&r) == "302" && body(&r).contains("302 Found"), "{r}");
    let r = s.get("/plain");
    assert!(status(&r) == "403" && body(&r).contains("403 Forbidden") && !r.contains("ok"), "{r}");
    assert_eq!(s.get("/fails"), "");
    let r = s.raw(b"GET /f HTTP/1.1\r\nHost: t\r\nRange: bytes=9-\r\nConnection: close\r\n\r\n");
    assert!(status(&r) == "416" && r.contains("bytes */4") && body(&r) == "other", "{r}");
}

#[test]
fn cycles_end_with_the_built_in_page() {
    let s = start(
        "server { listen 8080; error_page 500 /loop; recursive_error_pages on;
           location /loop { rewrite ^ /loop last; } location @a { error_page 404 @a; return 404; }
           location /named { error_page 404 @a; return 404; } }",
        &[],
    );
    assert_eq!(status(&s.get("/loop")), "500");
    assert!(s.error_log().contains("rewrite or internal redirection cycle while processing \"/loop\""));
    assert_eq!(status(&s.get("/named")), "500");
}

#[test]
fn bad_heads_keep_what_was_understood() {
    let s = start(
        "server { listen 8080; server_name one; return 200 one; }
         server { listen 8080; server_name two; ignore_invalid_headers off; underscores_in_headers on;
           error_page 400 /x; location / { echo \"$http_a_b $http_x\"; } }
         server { listen 8080; server_name ~^(?<sub>\\w+)\\.re$; return 200 \"$sub\"; }",
        &[],
    );
    let r = s.raw(b"GET / HTTP/1.1\r\nHost: two\r\nA_B: 1\r\nX@: 2\r\nConnection: close\r\n\r\n");
    assert!(body(&r).contains("1 "), "{r}");
    // The bad line comes behind the name: the server is known, and so is the version.
    let r = s.raw(b"GET / HTTP/1.1\r\nHost: two\r\nX: 1\r\nbad line: 1\r\n\r\n");
    assert!(status(&r) == "400" && header(&r, "transfer-encoding") == Some("chunked"), "{r}");
    assert_eq!(body(&s.raw(b"GET / HTTP/1.1\r\nHost: foo.re\r\nConnection: close\r\n\r\n")), "foo");
    for (target, want) in [("a:80", "405"), ("/", "400")] {
        let r = s.raw(format!("CONNECT {target} HTTP/1.1\r\nHost: one\r\n\r\n").as_bytes());
        assert_eq!(status(&r), want);
    }
}
