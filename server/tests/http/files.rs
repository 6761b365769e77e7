//! Large files: by the kernel and by pieces, parts of them, slow clients, files that change on the way.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;

use super::{Server, body, header, start, status};

/// Bytes of a file that says at each place where it is.
fn pattern(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|at| (at % 251) as u8 ^ (at >> 16) as u8).collect()
}

fn write(s: &Server, name: &str, len: u64) {
    let file = std::fs::File::create(s.dir.join("html").join(name)).expect("writable");
    let step = 1 << 20;
    for at in (0..len).step_by(step as usize) {
        file.write_all_at(&pattern(at, len.min(at + step)), at).expect("there is room");
    }
}

/// Sends a request, and reads the response's head.
fn begin(s: &Server, path: &str, headers: &str) -> (TcpStream, String) {
    let mut c = s.connect();
    let text = format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{headers}\r\n");
    c.write_all(text.as_bytes()).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut b = [0];
        c.read_exact(&mut b).expect("the server answers");
        head.push(b[0]);
    }
    (c, String::from_utf8(head).expect("a head is text"))
}

/// Reads the rest and compares it with the file from a place on.
fn compare(c: &mut TcpStream, from: u64, to: u64) {
    let mut buf = vec![0; 1 << 20];
    let mut at = from;
    loop {
        let n = c.read(&mut buf).expect("the server goes on");
        if n == 0 {
            break;
        }
        assert!(buf[..n] == pattern(at, at + n as u64), "other bytes near {at}");
        at += n as u64;
    }
    assert_eq!(at, to);
}

const CONF: &str = "server { listen 8080; root html;
    location /k/ { alias html/; sendfile on; }
    location /nopush/ { alias html/; sendfile on; tcp_nopush on; sendfile_max_chunk 64k; }
    location /m/ { alias html/; }
    location /filter/ { alias html/; sendfile on; sub_filter_types *; sub_filter zzzz yyyy; }
    location /lua/ { alias html/; sendfile on; body_filter_by_lua_block { } }
}";

#[test]
fn large_file_is_the_same_by_every_way() {
    let s = start(CONF, &[]);
    let len = 100 << 20;
    write(&s, "big", len);
    let lines = || s.error_log().matches("sendfile: ").count();
    for (path, by_kernel) in [("/k/big", true), ("/nopush/big", true), ("/m/big", false), ("/lua/big", false)]
    {
        let before = lines();
        let (mut c, head) = begin(&s, path, "");
        assert_eq!(header(&head, "content-length"), Some("104857600"), "{head}");
        compare(&mut c, 0, len);
        assert_eq!(lines() > before, by_kernel, "{path}");
    }
}

#[test]
fn parts_of_a_large_file_are_read_where_they_are() {
    let s = start(CONF, &[]);
    let len = 9 << 20;
    write(&s, "big", len);
    for path in ["/k/big", "/nopush/big", "/m/big", "/filter/big", "/lua/big"] {
        for (range, from, to) in
            [("5-3000000", 5, 3_000_001), ("-7", len - 7, len), ("9000000-", 9_000_000, len), ("0-0", 0, 1)]
        {
            let (mut c, head) = begin(&s, path, &format!("Range: bytes={range}\r\n"));
            if path == "/filter/big" {
                // What is changed on the way has no parts.
                assert_eq!(status(&head), "200", "{head}");
                continue;
            }
            assert_eq!(status(&head), "206", "{path} {range}: {head}");
            compare(&mut c, from, to);
        }
    }
    let (mut c, head) = begin(&s, "/k/big", "Range: bytes=0-1,9000000-9000001\r\n");
    let mut rest = Vec::new();
    c.read_to_end(&mut rest).expect("the server goes on");
    assert_eq!(header(&head, "content-length"), Some(rest.len().to_string().as_str()), "{head}");
    let (_, head) = begin(&s, "/k/big", "Range: bytes=99999999-\r\n");
    assert_eq!(status(&head), "416");
    let head = s.raw(b"HEAD /k/big HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    assert!(header(&head, "content-length") == Some("9437184") && body(&head).is_empty(), "{head}");
}

#[test]
fn slow_client_gets_everything_and_others_are_served_meanwhile() {
    let s = start(CONF, &[("html/small", "small")]);
    let len = 30 << 20;
    write(&s, "big", len);
    let (mut slow, _) = begin(&s, "/k/big", "");
    for _ in 0..3 {
        let mut piece = vec![0; 4096];
        slow.read_exact(&mut piece).expect("there is more");
        assert_eq!(body(&s.get("/k/small")), "small");
    }
    compare(&mut slow, 3 * 4096, len);
    // One that goes away takes nothing along.
    let (gone, _) = begin(&s, "/k/big", "");
    drop(gone);
    assert_eq!(body(&s.get("/k/small")), "small");
}

#[test]
fn file_cut_short_on_the_way_ends_the_connection() {
    let s = start(CONF, &[]);
    for (path, line) in [("/k/", "was truncated at "), ("/m/", "file was truncated while it was read")] {
        let name = format!("cut{}", &path[1..2]);
        write(&s, &name, 60 << 20);
        let (mut c, head) = begin(&s, &format!("{path}{name}"), "");
        assert_eq!(status(&head), "200");
        let file = std::fs::File::options().write(true).open(s.dir.join("html").join(&name)).expect("there");
        file.set_len(1 << 20).expect("can be cut");
        let mut rest = Vec::new();
        // The end may be told as a reset.
        let _ = c.read_to_end(&mut rest);
        assert!(rest.len() < 60 << 20);
        let start = std::time::Instant::now();
        while !s.error_log().contains(line) && start.elapsed() < std::time::Duration::from_secs(20) {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(s.error_log().contains(line), "{}", s.error_log());
    }
}

#[test]
fn keepalive_goes_on_behind_a_large_file_and_a_rate_holds() {
    let s = start(
        "server { listen 8080; root html; sendfile on; tcp_nopush on;
             location /slow/ { alias html/; limit_rate 200k; } }",
        &[("html/small", "small")],
    );
    write(&s, "big", 300_000);
    let mut c = s.connect();
    c.write_all(
        b"GET /big HTTP/1.1\r\nHost: t\r\n\r\nGET /small HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n",
    )
    .expect("the server reads");
    let mut all = Vec::new();
    c.read_to_end(&mut all).expect("the server goes on");
    assert!(all.ends_with(b"\r\n\r\nsmall"), "the second response follows the first");
    let at = all.windows(4).position(|w| w == b"\r\n\r\n").expect("a head") + 4;
    assert!(all[at..at + 300_000] == pattern(0, 300_000));
    let start = std::time::Instant::now();
    let (mut c, _) = begin(&s, "/slow/big", "");
    compare(&mut c, 0, 300_000);
    assert!(start.elapsed() >= std::time::Duration::from_millis(500), "{:?}", start.elapsed());
}

#[test]
fn remembered_files_are_believed_for_their_time() {
    let s = start(
        "server { listen 8080; root html;
             location /kept/ { alias html/; open_file_cache max=10; open_file_cache_valid 1h; }
             location /errors/ { alias html/; open_file_cache max=10 inactive=1h; open_file_cache_errors on; }
             location /off/ { alias html/; open_file_cache off; } }",
        &[("html/a", "first")],
    );
    let replace = |text: &str| {
        std::fs::write(s.dir.join("beside"), text).expect("writable");
        std::fs::rename(s.dir.join("beside"), s.dir.join("html/a")).expect("writable");
    };
    assert_eq!(body(&s.get("/kept/a")), "first");
    replace("second one");
    assert_eq!(body(&s.get("/kept/a")), "first");
    assert_eq!(body(&s.get("/off/a")), "second one");
    assert_eq!(status(&s.get("/errors/none")), "404");
    assert_eq!(status(&s.get("/kept/none")), "404");
    std::fs::write(s.dir.join("html/none"), "here").expect("writable");
    assert_eq!(status(&s.get("/errors/none")), "404", "the error is remembered");
    assert_eq!(body(&s.get("/kept/none")), "here");
}
