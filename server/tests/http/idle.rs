//! What idle connections cost.

use std::io::{Read, Write};

use super::start;

fn rss_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Both ends live in one process, so what is measured includes the client's sockets (a few bytes each).
/// The process is a child of its own: other tests would be measured too.
#[test]
fn idle_keepalive_connection_costs_little_memory() {
    if std::env::var_os("MOONLIT_TEST_IDLE").is_some() {
        return measure();
    }
    let out = std::process::Command::new(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "http::idle::idle_keepalive_connection_costs_little_memory", "--nocapture"])
        .env("MOONLIT_TEST_IDLE", "1")
        .output()
        .expect("runs");
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

fn measure() {
    // Two descriptors each, and the limit of the process.
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files = limits.lines().find(|l| l.starts_with("Max open files"));
    let files: u64 = files.and_then(|l| l.split_whitespace().nth(3)?.parse().ok()).unwrap_or(1024);
    let connections = (files.saturating_sub(400) / 2).clamp(200, 10_000);
    let s = start("server { listen 8080; location / { return 200 x; } }", &[]);
    let open = |n: u64| {
        (0..n)
            .map(|_| {
                let mut c = s.connect();
                c.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
                let mut buf = [0u8; 512];
                let got = c.read(&mut buf).unwrap();
                assert!(got > 0);
                c
            })
            .collect::<Vec<_>>()
    };
    // Buffers and tables come into being with the first connections.
    let first = open(60);
    let before = rss_bytes();
    let more = open(connections);
    let each = rss_bytes().saturating_sub(before) / connections;
    println!("{each} bytes per idle connection over {connections}");
    assert!(each <= 1400, "{each} bytes per idle connection");
    drop((first, more));
}
