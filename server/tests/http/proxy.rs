//! `proxy_pass` and `upstream {}` against servers of the test's own: what they are sent, what becomes of
//! their answers, who is asked next.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::{Server, body, header, start, status};

type Answer = dyn Fn(&mut TcpStream, &str, usize) -> bool + Send + Sync;

/// A server that remembers what it is sent and answers as it is told.
struct Stub {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<(usize, String)>>>,
}

impl Stub {
    /// Always the same answer; the connection stays open.
    fn fixed(answer: &str) -> Stub {
        let answer = answer.to_owned();
        Stub::new(move |s, _, _| s.write_all(answer.as_bytes()).is_ok())
    }

    /// `answer` gets the connection, the request and its number; false closes the connection.
    fn new(answer: impl Fn(&mut TcpStream, &str, usize) -> bool + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("bound");
        let seen: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let log = seen.clone();
        let answer: Arc<Answer> = Arc::new(answer);
        std::thread::spawn(move || {
            for (n, s) in listener.incoming().enumerate() {
                let Ok(s) = s else { return };
                let (log, answer) = (log.clone(), answer.clone());
                std::thread::spawn(move || serve(s, n, &log, &*answer));
            }
        });
        Stub { addr, seen }
    }

    /// The requests so far, with the number of their connection.
    fn requests(&self) -> Vec<(usize, String)> {
        self.seen.lock().expect("no panic in the stub").clone()
    }

    fn last(&self) -> String {
        self.requests().pop().expect("it was asked").1
    }
}

fn serve(mut s: TcpStream, n: usize, log: &Mutex<Vec<(usize, String)>>, answer: &Answer) {
    let mut buf: Vec<u8> = Vec::new();
    loop {
        let end = loop {
            let text = String::from_utf8_lossy(&buf).into_owned();
            if let Some(at) = text.find("\r\n\r\n") {
                let lower = text[..at].to_ascii_lowercase();
                let length = lower.split("content-length: ").nth(1).map_or(0, |rest| {
                    rest.split("\r\n").next().and_then(|n| n.trim().parse().ok()).unwrap_or(0)
                });
                if lower.contains("transfer-encoding: chunked") {
                    if let Some(end) = text.find("0\r\n\r\n") {
                        break end + 5;
                    }
                } else if buf.len() >= at + 4 + length {
                    break at + 4 + length;
                }
            }
            let mut piece = [0u8; 65536];
            match s.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(n) => buf.extend_from_slice(&piece[..n]),
            }
        };
        let request = String::from_utf8_lossy(&buf[..end]).into_owned();
        buf.drain(..end);
        let count = {
            let mut log = log.lock().expect("no panic in the stub");
            log.push((n, request.clone()));
            log.len()
        };
        if !answer(&mut s, &request, count) {
            return;
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// An address that nobody listens on.
fn dead() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port")
}

fn server(text: &str) -> Server {
    start(&format!("server {{ listen 8080; {text} }}"), &[])
}

fn ask(s: &Server, extra: &str) -> String {
    let text = format!("GET /a/b%20c?x=1 HTTP/1.1\r\nHost: Ex.com:1\r\nConnection: close\r\n{extra}\r\n");
    s.raw(text.as_bytes())
}

#[test]
fn request_has_nginx_bytes() {
    let up = Stub::fixed(OK);
    let a = up.addr;
    let s = server(&format!(
        "location / {{ proxy_pass http://{a}; }}
         location /z/ {{ proxy_pass http://{a}/q/; }}
         location /v {{ set $to {a}; proxy_pass http://$to/w$is_args$args; }}
         location /r/ {{ rewrite ^/r/(.*) /n/$1 break; proxy_pass http://{a}/ignored/; }}"
    ));
    ask(&s, "X-A: 1\r\nTE: x\r\nKeep-Alive: y\r\nUpgrade: z\r\nAccept: */*\r\n");
    assert_eq!(up.last(), format!("GET /a/b%20c?x=1 HTTP/1.1\r\nHost: {a}\r\nX-A: 1\r\nAccept: */*\r\n\r\n"));
    for (path, sent) in [
        ("/z/1/%2e%20?k", "/q/1/.%20?k"),
        ("//y/../z/2", "/q/2"),
        ("/v?k=v", "/w?k=v"),
        ("/r/x?k", "/n/x?k"),
        ("//raw/./%41", "//raw/./%41"),
    ] {
        s.get(path);
        assert!(up.last().starts_with(&format!("GET {sent} HTTP/1.1\r\n")), "{path}: {}", up.last());
    }
}

#[test]
fn headers_and_body_are_set_as_told() {
    let up = Stub::fixed(OK);
    let a = up.addr;
    let s = server(&format!(
        "proxy_set_header X-A \"\"; proxy_set_header Host $http_host; proxy_set_header Connection $arg_x;
         proxy_set_header X-F $proxy_add_x_forwarded_for;
         location / {{ proxy_pass http://{a}; }}
         location /b {{ proxy_set_body \"b=$arg_x\"; proxy_method PUT; proxy_pass http://{a}; }}
         location /n {{ proxy_pass_request_headers off; proxy_set_header Host \"\"; proxy_http_version 1.0;
                        proxy_pass http://{a}; }}"
    ));
    ask(&s, "X-A: 1\r\nX-Forwarded-For: 9.9.9.9\r\nX-B: 2\r\n");
    let want = "GET /a/b%20c?x=1 HTTP/1.1\r\nHost: Ex.com:1\r\nConnection: 1\r\nX-F: 9.9.9.9, 127.0.0.1\r\n\
                X-Forwarded-For: 9.9.9.9\r\nX-B: 2\r\n\r\n";
    assert_eq!(up.last(), want);
    s.get("/b?x=5");
    assert!(up.last().starts_with("PUT /b?x=5 ") && up.last().ends_with("Content-Length: 3\r\n\r\nb=5"));
    s.get("/n");
    assert_eq!(up.last(), "GET /n HTTP/1.0\r\n\r\n");
}

#[test]
fn bodies_arrive_from_memory_file_and_client() {
    let up = Stub::fixed(OK);
    let a = up.addr;
    let s = server(&format!(
        "client_body_buffer_size 1k; location / {{ proxy_pass http://{a}; }}
         location /u {{ proxy_request_buffering off; proxy_pass http://{a}; }}
         location /p {{ proxy_pass_request_body off; proxy_set_header Content-Length \"\";
                        proxy_pass http://{a}; }}"
    ));
    let post = |path: &str, framing: &str, body: &str| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{framing}\r\n\r\n{body}");
        assert_eq!(status(&s.raw(head.as_bytes())), "200");
        up.last()
    };
    assert!(post("/", "Content-Length: 5", "hello").ends_with("Content-Length: 5\r\n\r\nhello"));
    let big = "x".repeat(50_000);
    assert!(post("/", "Content-Length: 50000", &big).ends_with(&format!("\r\n\r\n{big}")));
    let chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    assert!(post("/", "Transfer-Encoding: chunked", chunks).ends_with("Content-Length: 5\r\n\r\nabcde"));
    assert!(post("/", "Transfer-Encoding: chunked", "0\r\n\r\n").ends_with("Content-Length: 0\r\n\r\n"));
    assert!(post("/u", "Content-Length: 50000", &big).ends_with(&format!("\r\n\r\n{big}")));
    assert!(post("/u", "Transfer-Encoding: chunked", chunks).contains("Transfer-Encoding: chunked\r\n"));
    assert!(!post("/p", "Content-Length: 5", "hello").contains("hello"));
}

#[test]
fn response_headers_are_hidden_passed_and_rewritten() {
    let up = Stub::new(|s, request, _| {
        let host = request.split("Host: ").nth(1).and_then(|r| r.split("\r\n").next()).unwrap_or("");
        let answer = format!(
            "HTTP/1.1 201 Fine\r\nServer: s\r\nDate: d\r\nX-Pad: p\r\nX-Q: 1\r\nX-R: 2\r\nKeep-Alive: k\r\n\
             Content-Type: t/x\r\nLocation: http://{host}/z/q\r\nSet-Cookie: a=1; Domain=.a.com; Path=/x/z\r\n\
             Content-Length: 2\r\n\r\nhi"
        );
        s.write_all(answer.as_bytes()).is_ok()
    });
    let a = up.addr;
    let s = server(&format!(
        "proxy_hide_header X-Q; proxy_pass_header Server; proxy_cookie_domain a.com b.org;
         proxy_cookie_path /x/ /y/; proxy_cookie_flags a secure samesite=lax;
         location /d/ {{ proxy_pass http://{a}/z/; }}
         location /o/ {{ proxy_redirect off; proxy_pass http://{a}/z/; }}
         location /e/ {{ proxy_redirect ~^http://[^/]+(/z.*) https://n$1; proxy_pass http://{a}/z/; }}"
    ));
    let r = s.get("/d/");
    assert!(r.starts_with("HTTP/1.1 201 Fine\r\n"), "{r}");
    assert_eq!((header(&r, "server"), header(&r, "x-q"), header(&r, "x-r")), (Some("s"), None, Some("2")));
    assert_eq!((header(&r, "x-pad"), header(&r, "keep-alive")), (None, None));
    assert_ne!(header(&r, "date"), Some("d"));
    assert_eq!(header(&r, "set-cookie"), Some("a=1; Domain=.b.org; Path=/y/z; Secure; SameSite=Lax"));
    assert!(header(&r, "location").is_some_and(|l| l.ends_with("/d/q") && !l.contains("/z/")), "{r}");
    assert_eq!(header(&s.get("/o/"), "location"), Some(&*format!("http://{a}/z/q")));
    assert_eq!(header(&s.get("/e/"), "location"), Some("https://n/z/q"));
}

#[test]
fn bodies_of_every_framing_come_through() {
    let up = Stub::new(|s, request, _| {
        let path = request.split(' ').nth(1).unwrap_or("");
        let (answer, stays) = match path {
            "/chunked" => {
                let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;x\r\n!\r\n0\r\nT: v\r\n\r\n";
                (text.to_owned(), true)
            }
            "/close" => ("HTTP/1.0 200 OK\r\n\r\nhello!".to_owned(), false),
            "/bare" => ("no head at all\n".to_owned(), false),
            "/none" => ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), true),
            "/early" => {
                let text = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!";
                (text.to_owned(), true)
            }
            _ => {
                let body = "y".repeat(3_000_000);
                (format!("HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n{body}"), true)
            }
        };
        s.write_all(answer.as_bytes()).is_ok() && stays
    });
    let a = up.addr;
    let s = server(&format!(
        "location / {{ proxy_pass http://{a}; }}
         location /off/ {{ proxy_buffering off; proxy_pass http://{a}/; }}"
    ));
    for prefix in ["", "/off"] {
        for path in ["/chunked", "/close", "/early"] {
            let r = s.raw(format!("GET {prefix}{path} HTTP/1.0\r\n\r\n").as_bytes());
            assert_eq!(body(&r), "hello!", "{prefix}{path}: {r}");
        }
        let r = s.get(&format!("{prefix}/chunked"));
        assert!(header(&r, "transfer-encoding") == Some("chunked") && r.ends_with("\r\n0\r\n\r\n"), "{r}");
        assert_eq!(s.get(&format!("{prefix}/bare")), "no head at all\n");
        assert!(s.get(&format!("{prefix}/none")).starts_with("HTTP/1.1 204 No Content\r\n"));
        assert_eq!(body(&s.get(&format!("{prefix}/big"))).len(), 3_000_000);
    }
    let head = s.raw(b"HEAD /big HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(head.contains("Content-Length: 3000000\r\n") && head.ends_with("\r\n\r\n"));
}

#[test]
fn slow_client_gets_a_large_response_through_a_file() {
    let up = Stub::new(|s, _, _| {
        let piece: Vec<u8> = (0..64 * 1024).map(|n| (n % 251) as u8).collect();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", piece.len() * 400);
        let _ = s.write_all(head.as_bytes());
        (0..400).all(|_| s.write_all(&piece).is_ok())
    });
    let s = server(&format!("location / {{ proxy_pass http://{}; }}", up.addr));
    let mut c = s.connect();
    c.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    // The log tells when the response has begun to go to the file.
    for _ in 0..200 {
        if s.error_log().contains("an upstream response is buffered to a temporary file") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(s.error_log().contains("an upstream response is buffered to a temporary file"));
    let mut out = Vec::new();
    c.read_to_end(&mut out).unwrap();
    let at = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    let body = &out[at..];
    assert_eq!(body.len(), 400 * 64 * 1024);
    assert!(body.chunks(64 * 1024).all(|p| p.iter().enumerate().all(|(n, b)| *b == (n % 251) as u8)));
    let left = std::fs::read_dir(s.dir.join("proxy_temp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the file goes with the response");
}

#[test]
fn failures_have_nginx_statuses_and_lines() {
    let up = Stub::new(|s, request, _| {
        let path = request.split(' ').nth(1).unwrap_or("");
        let text = match path {
            "/silent" => {
                std::thread::sleep(std::time::Duration::from_millis(1500));
                ""
            }
            "/partial" => "HTTP/1.1 200 OK\r\nX",
            "/bad" => "HTTP/1.1 200 OK\r\nA B: 1\r\n\r\n",
            "/twice" => "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "/stuck" => {
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
                std::thread::sleep(std::time::Duration::from_millis(1500));
                ""
            }
            "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc",
            "/huge" => {
                return s
                    .write_all(format!("HTTP/1.1 200 OK\r\nA: {}\r\n", "x".repeat(9000)).as_bytes())
                    .is_ok();
            }
            _ => "",
        };
        let _ = s.write_all(text.as_bytes());
        false
    });
    let (a, gone) = (up.addr, dead());
    let s = server(&format!(
        "proxy_read_timeout 300ms; location / {{ proxy_pass http://{a}; }}
         location /dead {{ proxy_pass http://{gone}; }}
         location /unix {{ proxy_pass http://unix:/nowhere/x.sock:/q; }}
         location /var {{ set $u nothing; proxy_pass $u; }}
         location /name {{ set $u x.invalid; proxy_pass http://$u; }}"
    ));
    for (path, want, line) in [
        ("/dead", "502", "connect() failed (111: Connection refused) while connecting to upstream"),
        ("/unix", "502", "connect() to unix:/nowhere/x.sock failed (2: No such file or directory)"),
        ("/var", "500", "invalid URL prefix in \"nothing\""),
        ("/name", "502", "no resolver defined to resolve x.invalid"),
        ("/x", "502", "upstream prematurely closed connection while reading response header from upstream"),
        ("/partial", "502", "upstream prematurely closed connection while reading response header"),
        ("/bad", "502", "upstream sent invalid header: \"A\\x20...\" while reading response header"),
        ("/twice", "502", "upstream sent duplicate header line: \"Content-Length: 1\""),
        ("/huge", "502", "upstream sent too big header while reading response header from upstream"),
        ("/silent", "504", "upstream timed out (110: Connection timed out) while reading response header"),
    ] {
        assert_eq!(status(&s.get(path)), want, "{path}");
        let log = s.error_log();
        assert!(log.contains(line), "{path}: {log}");
    }
    let r = s.get("/stuck");
    assert!(status(&r) == "200" && body(&r).is_empty(), "{r}");
    assert!(s.error_log().contains("upstream timed out (110: Connection timed out) while reading upstream"));
    let r = s.get("/short");
    assert!(status(&r) == "200" && body(&r) == "abc", "{r}");
    let line = format!(
        "upstream prematurely closed connection while reading upstream, client: 127.0.0.1, server: , \
         request: \"GET /short HTTP/1.1\", upstream: \"http://{a}/short\", host: \"t\""
    );
    assert!(s.error_log().contains(&line));
}

#[test]
fn next_server_is_asked_when_told_and_only_then() {
    let bad = Stub::new(|s, request, _| {
        let code = request.split(' ').nth(1).unwrap_or("").trim_start_matches('/');
        let code = code.split('/').next_back().unwrap_or("");
        if code == "drop" {
            return false;
        }
        s.write_all(format!("HTTP/1.1 {code} X\r\nContent-Length: 3\r\n\r\nbad").as_bytes()).is_ok()
    });
    let good = Stub::fixed(OK);
    let (b, g, gone) = (bad.addr, good.addr, dead());
    let groups = format!(
        "upstream u {{ server {b} max_fails=0; server {g} backup; }}
         upstream d {{ server {gone}; server {g}; }}
         upstream n {{ server {gone}; server {gone}; }}
         log_format t '$upstream_addr|$upstream_status|$status';"
    );
    let s = start(
        &format!(
            "{groups} server {{ listen 8080; add_header X-S $upstream_status; add_header X-A $upstream_addr;
             access_log logs/t.log t;
             location / {{ proxy_pass http://u; }}
             location /all/ {{ proxy_next_upstream error http_500 http_404 non_idempotent; proxy_pass http://u; }}
             location /off/ {{ proxy_next_upstream off; proxy_pass http://u; }}
             location /one/ {{ proxy_next_upstream_tries 1; proxy_pass http://u; }}
             location /dead {{ proxy_pass http://d; }}
             location /none {{ proxy_pass http://n; }} }}"
        ),
        &[],
    );
    let upstream = |r: &str| header(r, "x-s").unwrap_or("").to_owned();
    assert_eq!(upstream(&s.get("/drop")), "502, 200");
    assert_eq!(status(&s.get("/500")), "500");
    assert_eq!(upstream(&s.get("/all/500")), "500, 200");
    assert_eq!(upstream(&s.get("/all/404")), "404, 200");
    assert_eq!(status(&s.get("/off/drop")), "502");
    assert_eq!(status(&s.get("/one/drop")), "502");
    let post = |path: &str| {
        s.raw(
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi")
                .as_bytes(),
        )
    };
    assert_eq!(status(&post("/drop")), "502", "a POST that was sent is not sent again");
    assert_eq!(upstream(&post("/all/drop")), "502, 200");
    assert!(good.last().ends_with("hi"));
    let r = s.get("/dead");
    assert_eq!(header(&r, "x-a"), Some(&*format!("{gone}, {g}")));
    assert_eq!(header(&s.get("/dead"), "x-a"), Some(&*g.to_string()), "the dead one rests");
    assert!(s.error_log().contains("upstream server temporarily disabled while connecting to upstream"));
    assert_eq!(status(&s.get("/none")), "502");
    assert_eq!(status(&s.get("/none")), "502");
    assert!(s.error_log().contains("no live upstreams while connecting to upstream"));
    let log = std::fs::read_to_string(s.dir.join("logs/t.log")).unwrap();
    assert!(log.contains(&format!("{gone}, {g}|502, 200|200\n")), "{log}");
    assert!(log.contains("n|502|502\n"), "{log}");
}

#[test]
fn connections_are_kept_and_used_again() {
    let up = Stub::fixed(OK);
    let a = up.addr;
    let s = start(
        &format!(
            "upstream k {{ server {a}; keepalive 4; keepalive_requests 2; }} upstream z {{ server {a}; keepalive 0; }}
             server {{ listen 8080; location / {{ proxy_pass http://k; }} location /z {{ proxy_pass http://z; }} }}"
        ),
        &[],
    );
    for _ in 0..3 {
        assert_eq!(body(&s.get("/")), "ok");
    }
    let conns: Vec<usize> = up.requests().iter().map(|(n, _)| *n).collect();
    assert_eq!(conns, [0, 0, 1], "two requests a connection");
    s.get("/z");
    s.get("/z");
    let conns: Vec<usize> = up.requests().iter().map(|(n, _)| *n).collect();
    assert_eq!(conns[3..], [2, 3]);
}

#[test]
fn kept_connection_closed_by_its_server_costs_no_try() {
    // Answers once, then closes when the next request has come.
    let up = Stub::new(|s, _, n| n != 2 && s.write_all(OK.as_bytes()).is_ok());
    let s = start(
        &format!(
            "upstream k {{ server {}; keepalive 4; }} server {{ listen 8080; location / {{ proxy_pass http://k; }} }}",
            up.addr
        ),
        &[],
    );
    assert_eq!(body(&s.get("/")), "ok");
    assert_eq!(body(&s.get("/")), "ok");
    assert_eq!(up.requests().len(), 3);
}

#[test]
fn accel_headers_and_intercepted_errors() {
    let up = Stub::new(|s, request, _| {
        let text = if request.contains("GET /e") {
            "HTTP/1.1 404 Gone\r\nContent-Length: 3\r\n\r\nbad"
        } else {
            "HTTP/1.1 200 OK\r\nX-Accel-Redirect: /in?k=v\r\nSet-Cookie: a=b\r\nX-No: 1\r\nContent-Length: 3\r\n\r\nzzz"
        };
        s.write_all(text.as_bytes()).is_ok()
    });
    let a = up.addr;
    let s = server(&format!(
        "location / {{ proxy_pass http://{a}; }}
         location /raw {{ proxy_ignore_headers X-Accel-Redirect; proxy_pass http://{a}; }}
         location /in {{ internal; return 200 $uri$is_args$args; }}
         location /e {{ proxy_intercept_errors on; error_page 404 /page; proxy_pass http://{a}; }}
         location /e2 {{ proxy_pass http://{a}; }}
         location /page {{ return 200 page-$upstream_status; }}"
    ));
    let r = s.get("/");
    assert_eq!((body(&r), header(&r, "set-cookie"), header(&r, "x-no")), ("/in?k=v", Some("a=b"), None));
    assert_eq!(body(&s.get("/raw")), "zzz");
    let r = s.get("/e");
    assert_eq!((status(&r), body(&r)), ("404", "page-404"));
    assert_eq!(body(&s.get("/e2")), "bad");
}

#[test]
fn server_may_slow_the_response_down() {
    let body = "z".repeat(3000);
    let up = Stub::fixed(&format!(
        "HTTP/1.1 200 OK\r\nX-Accel-Limit-Rate: 2000\r\nContent-Length: 3000\r\n\r\n{body}"
    ));
    let a = up.addr;
    let s = server(&format!(
        "location / {{ proxy_pass http://{a}; }}
         location /i {{ proxy_ignore_headers X-Accel-Limit-Rate; proxy_pass http://{a}; }}"
    ));
    let time = |path: &str| {
        let start = std::time::Instant::now();
        assert_eq!(super::body(&s.get(path)), body, "{path}");
        start.elapsed().as_millis()
    };
    assert!(time("/") >= 400);
    assert!(time("/i") < 400);
}

#[test]
fn upgraded_connection_is_a_tunnel() {
    let up = Stub::new(|s, _, _| {
        let _ = s
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\nhello");
        let mut buf = [0u8; 100];
        while let Ok(n) = s.read(&mut buf) {
            if n == 0 || buf[..n].ends_with(b"bye") {
                let _ = s.write_all(b"closed");
                return false;
            }
            let _ = s.write_all(&buf[..n]);
        }
        false
    });
    let s = server(&format!(
        "location / {{ proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
         proxy_pass http://{}; }}",
        up.addr
    ));
    let mut c = s.connect();
    c.write_all(b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: w\r\nConnection: upgrade\r\n\r\n").unwrap();
    let mut got = Vec::new();
    let mut expect = |c: &mut TcpStream, end: &str| {
        while !got.ends_with(end.as_bytes()) {
            let mut piece = [0u8; 4096];
            let n = c.read(&mut piece).unwrap();
            assert!(n > 0, "{}", String::from_utf8_lossy(&got));
            got.extend_from_slice(&piece[..n]);
        }
        String::from_utf8_lossy(&got).into_owned()
    };
    let head = expect(&mut c, "hello");
    assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
    assert!(
        header(&head, "connection") == Some("upgrade") && header(&head, "upgrade") == Some("w"),
        "{head}"
    );
    c.write_all(b"ping").unwrap();
    expect(&mut c, "ping");
    c.write_all(b"bye").unwrap();
    expect(&mut c, "closed");
    assert_eq!(c.read(&mut [0u8; 1]).unwrap(), 0);
}

#[test]
fn client_that_leaves_ends_the_request_to_the_server() {
    let (tx, rx) = std::sync::mpsc::channel();
    let tx = Mutex::new(tx);
    let up = Stub::new(move |s, _, _| {
        // Nothing comes any more when the other side has closed.
        let n = s.read(&mut [0u8; 1]).unwrap_or(0);
        tx.lock().unwrap().send(n).unwrap();
        false
    });
    let s = server(&format!("location / {{ proxy_pass http://{}; }}", up.addr));
    let mut c = s.connect();
    c.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    while up.requests().is_empty() {
        std::thread::yield_now();
    }
    drop(c);
    assert_eq!(rx.recv_timeout(std::time::Duration::from_secs(5)), Ok(0));
    for _ in 0..100 {
        if s.error_log().contains("so upstream connection is closed too") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let log = s.error_log();
    assert!(
        log.contains(
            "client prematurely closed connection, so upstream connection is closed too while reading response \
             header from upstream"
        ),
        "{log}"
    );
}

#[test]
fn balancer_script_chooses_retries_and_may_wait() {
    let good = Stub::fixed(OK);
    let (g, gone) = (good.addr, dead());
    let s = start(
        &format!(
            "upstream u {{
                 server 0.0.0.1;
                 balancer_by_lua_block {{
                     local b = require 'ngx.balancer'
                     local last, code = b.get_last_failure()
                     ngx.sleep(0.001)
                     if not last then
                         assert(b.set_more_tries(1))
                         assert(b.set_current_peer('127.0.0.1', {dead_port}))
                     else
                         ngx.log(ngx.WARN, 'last: ', last, ' ', code)
                         assert(b.set_timeouts(1, 1, 1))
                         assert(b.set_current_peer('127.0.0.1', {good_port}))
                         assert(b.enable_keepalive(10, 2))
                     end
                 }}
             }}
             upstream none {{ balancer_by_lua_block {{ print('nothing chosen') }} }}
             upstream exit {{ server 0.0.0.1; balancer_by_lua_block {{ ngx.exit(403) }} }}
             upstream fails {{ server 0.0.0.1; balancer_by_lua_block {{ error('no') }} }}
             server {{ listen 8080; add_header X-A $upstream_addr;
                 location / {{ proxy_pass http://u; }}
                 location /none {{ proxy_pass http://none; }}
                 location /exit {{ proxy_pass http://exit; }}
                 location /fails {{ proxy_pass http://fails; }}
                 location /api {{ content_by_lua_block {{
                     local u = require 'ngx.upstream'
                     ngx.print(u.get_servers('u')[1].addr, ' ', u.get_primary_peers('u')[1].weight, ' ',
                         tostring(u.get_servers('zz')))
                     local ok, err = require('ngx.balancer').set_current_peer('127.0.0.1', 1)
                     ngx.print(' ', err)
                 }} }}
             }}",
            dead_port = gone.port(),
            good_port = g.port(),
        ),
        &[],
    );
    for _ in 0..3 {
        let r = s.get("/");
        assert_eq!(
            (body(&r), header(&r, "x-a")),
            ("ok", Some(&*format!("{gone}, {g}"))),
            "{}",
            s.error_log()
        );
    }
    let conns: Vec<usize> = good.requests().iter().map(|(n, _)| *n).collect();
    assert_eq!(conns, [0, 0, 1], "two requests a connection");
    assert!(s.error_log().contains("last: failed 502"));
    assert_eq!(status(&s.get("/none")), "500");
    assert!(s.error_log().contains("lua balancer: no peer set while connecting to upstream"));
    assert_eq!(status(&s.get("/exit")), "403");
    assert_eq!(status(&s.get("/fails")), "500");
    let r = s.raw(b"GET /api HTTP/1.0\r\n\r\n");
    assert_eq!(body(&r), "0.0.0.1:80 1 nil no upstream found");
}

#[test]
fn balancer_script_that_chooses_nothing_leaves_the_choice_to_the_group() {
    let good = Stub::fixed(OK);
    let (g, gone) = (good.addr, dead());
    let s = start(
        &format!(
            "upstream u {{ server {gone} weight=9; server {g};
                 balancer_by_lua_block {{ assert(require('ngx.balancer').recreate_request()) }} }}
             server {{ listen 8080; add_header X-A $upstream_addr; location / {{ proxy_pass http://u; }} }}"
        ),
        &[],
    );
    let r = s.get("/");
    assert_eq!((status(&r), header(&r, "x-a")), ("200", Some(&*format!("{gone}, {g}"))));
    assert!(s.error_log().contains("[debug]") && s.error_log().contains("http next upstream, 2"));
}

#[test]
fn subrequests_are_passed_on_too() {
    let up = Stub::new(|s, request, _| {
        let path = request.split(' ').nth(1).unwrap_or("").to_owned();
        if path == "/cut" {
            let _ = s.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
            return false;
        }
        let text = format!("HTTP/1.1 200 OK\r\nX-P: {path}\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        s.write_all(text.as_bytes()).is_ok()
    });
    let s = server(&format!(
        "location /p/ {{ internal; proxy_pass http://{}/; }}
         location / {{ content_by_lua_block {{
             local a, b, c = ngx.location.capture_multi{{
                 {{'/p/one?x=1'}}, {{'/p/two', {{method = ngx.HTTP_POST, body = 'hi'}}}}, {{'/p/cut'}} }}
             ngx.print(a.status, a.body, a.header['X-P'], ' ', b.body, ' ', c.body, tostring(c.truncated))
         }} }}",
        up.addr
    ));
    let r = s.raw(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(body(&r), "200/one?x=1/one?x=1 /two abctrue");
    assert!(up.requests().iter().any(|(_, r)| r.starts_with("POST /two ") && r.ends_with("hi")));
}

#[test]
fn status_may_be_set_in_a_header_filter() {
    let up = Stub::fixed("HTTP/1.1 206 Part\r\nContent-Length: 2\r\n\r\nok");
    let a = up.addr;
    let s = server(&format!(
        "location / {{ proxy_pass http://{a}; header_filter_by_lua_block {{ if ngx.status == 206 then ngx.status = 200 end }} }}"
    ));
    assert_eq!(status(&s.get("/")), "200");
}
