//! Names of upstream servers: looked up for a request, and watched for a group.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{body, start, status};

/// A name server: what it knows can be changed; it counts what it is asked.
struct Dns {
    at: SocketAddr,
    known: Arc<Mutex<Vec<Ipv4Addr>>>,
    asked: Arc<AtomicUsize>,
}

impl Dns {
    /// `known.test` has these addresses for a second, `mute.test` gets no answer, nothing else is there. A service
    /// of anything is at `known.test`, at the port that is its name; a backup of it is at port 1.
    fn new(known: &[Ipv4Addr]) -> Dns {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let at = socket.local_addr().expect("bound");
        let known = Arc::new(Mutex::new(known.to_vec()));
        let asked = Arc::new(AtomicUsize::new(0));
        let (list, count) = (known.clone(), asked.clone());
        std::thread::spawn(move || {
            let mut buf = [0u8; 512];
            while let Ok((n, from)) = socket.recv_from(&mut buf) {
                count.fetch_add(1, Ordering::SeqCst);
                let mut m = buf[..n].to_vec();
                m[2] = 0x81;
                if m[13..].starts_with(b"mute") {
                    continue;
                }
                let list = list.lock().expect("no panic in the test").clone();
                if n > 4 && m[n - 4..n - 2] == [0, 33] {
                    let label = String::from_utf8_lossy(&m[13..13 + usize::from(m[12])]).into_owned();
                    let Some(port) = label.trim_start_matches('_').parse::<u16>().ok() else {
                        m[3] |= 3;
                        let _ = socket.send_to(&m, from);
                        continue;
                    };
                    for (priority, port) in [(2, 1), (1, port)] {
                        m[7] += 1;
                        m.extend_from_slice(b"\xc0\x0c\0\x21\0\x01\0\0\0\x01\0\x12");
                        m.extend_from_slice(&[0, priority, 0, 3]);
                        m.extend_from_slice(&port.to_be_bytes());
                        m.extend_from_slice(b"\x05known\x04test\0");
                    }
                    let _ = socket.send_to(&m, from);
                    continue;
                }
                if m[13..].starts_with(b"known") && !list.is_empty() {
                    m[7] = list.len() as u8;
                    for ip in list {
                        m.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x01\0\x04");
                        m.extend_from_slice(&ip.octets());
                    }
                } else {
                    m[3] |= 3;
                }
                let _ = socket.send_to(&m, from);
            }
        });
        Dns { at, known, asked }
    }

    fn set(&self, known: &[Ipv4Addr]) {
        *self.known.lock().expect("no panic in the server") = known.to_vec();
    }
}

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const NOBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

/// Servers at one port of two addresses that answer with the address; the port.
fn upstreams() -> u16 {
    let (a, b) = loop {
        let a = TcpListener::bind((ONE, 0)).expect("a free port");
        let port = a.local_addr().expect("bound").port();
        if let Ok(b) = TcpListener::bind((TWO, port)) {
            break (a, b);
        }
    };
    let port = a.local_addr().expect("bound").port();
    for listener in [a, b] {
        std::thread::spawn(move || {
            for c in listener.incoming() {
                let Ok(mut c) = c else { return };
                let mut buf = [0u8; 4096];
                let _ = c.read(&mut buf);
                let ip = listener.local_addr().expect("bound").ip().to_string();
                let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{ip}", ip.len());
                let _ = c.write_all(head.as_bytes());
            }
        });
    }
    port
}

#[test]
fn name_in_a_variable_goes_to_the_resolver_of_the_location() {
    let dns = Dns::new(&[NOBODY, ONE]);
    let port = upstreams();
    let s = start(
        &format!(
            "server {{ listen 8080; resolver_timeout 300ms;
               location /none {{ set $n known.test; proxy_pass http://$n:{port}; }}
               location / {{ resolver {at} ipv6=off; set $n $arg_n; proxy_pass http://$n:{port}; }} }}",
            at = dns.at
        ),
        &[],
    );
    assert_eq!(status(&s.get("/none")), "502");
    assert!(s.error_log().contains("no resolver defined to resolve known.test"), "{}", s.error_log());
    assert_eq!(dns.asked.load(Ordering::SeqCst), 0);
    for _ in 0..4 {
        // Nobody is at one of its addresses: the other one is tried.
        assert_eq!(body(&s.get("/?n=known.test")), "127.0.0.1", "{}", s.error_log());
    }
    assert!(s.error_log().contains("connect() failed (111: Connection refused)"), "{}", s.error_log());
    for (name, why) in [("no.test", "3: Host not found"), ("mute.test", "110: Operation timed out")] {
        assert_eq!(status(&s.get(&format!("/?n={name}"))), "502");
        let line = format!("{name} could not be resolved ({why})");
        assert!(s.error_log().contains(&line), "{line} is not in {}", s.error_log());
    }
}

#[test]
fn answer_is_asked_for_again_when_it_is_old() {
    let dns = Dns::new(&[ONE]);
    let port = upstreams();
    let s = start(
        &format!(
            "server {{ listen 8080; set $n known.test;
               location / {{ resolver {at} ipv6=off; proxy_pass http://$n:{port}; }}
               location /long/ {{ resolver {at} ipv6=off valid=1h; proxy_pass http://$n:{port}; }} }}",
            at = dns.at
        ),
        &[],
    );
    assert_eq!(body(&s.get("/")), "127.0.0.1");
    assert_eq!(body(&s.get("/long/")), "127.0.0.1");
    dns.set(&[TWO]);
    wait("the new address", || body(&s.get("/")) == "127.0.0.2");
    assert_eq!(body(&s.get("/long/")), "127.0.0.1");
}

fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what} did not come about");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn group_follows_the_addresses_of_its_names() {
    let dns = Dns::new(&[ONE]);
    let port = upstreams();
    let s = start(
        &format!(
            "resolver {at} ipv6=off;
             upstream u {{ zone u 64k; server known.test:{port} resolve max_fails=0; }}
             server {{ listen 8080; location / {{ proxy_pass http://u; }} }}",
            at = dns.at
        ),
        &[],
    );
    wait("the first answer", || body(&s.get("/")) == "127.0.0.1");
    let all = || -> Vec<String> { (0..4).map(|_| body(&s.get("/")).to_owned()).collect() };
    dns.set(&[ONE, TWO]);
    wait("both addresses", || {
        let all = all();
        all.iter().any(|a| a == "127.0.0.1") && all.iter().any(|a| a == "127.0.0.2")
    });
    dns.set(&[TWO]);
    wait("the second one alone", || all().iter().all(|a| a == "127.0.0.2"));
    dns.set(&[]);
    wait("nobody", || status(&s.get("/")) == "502");
    let log = s.error_log();
    assert!(log.contains("known.test could not be resolved (3: Host not found)"), "{log}");
    assert!(log.contains("no live upstreams while connecting to upstream"), "{log}");
}

#[test]
fn group_follows_where_a_service_is() {
    let dns = Dns::new(&[ONE]);
    let port = upstreams();
    let s = start(
        &format!(
            "resolver {at} ipv6=off;
             upstream u {{ zone u 64k; server any.test service={port} resolve max_fails=0; }}
             upstream n {{ zone n 64k; server any.test service=none resolve; }}
             server {{ listen 8080; location / {{ proxy_pass http://u; }} location /n {{ proxy_pass http://n; }} }}",
            at = dns.at
        ),
        &[],
    );
    wait("the first answer", || body(&s.get("/")) == "127.0.0.1");
    dns.set(&[TWO]);
    wait("the other address", || (0..4).all(|_| body(&s.get("/")) == "127.0.0.2"));
    dns.set(&[]);
    wait("nobody", || status(&s.get("/")) == "502");
    assert_eq!(status(&s.get("/n")), "502");
    let log = s.error_log();
    assert!(log.contains("service none of any.test could not be resolved (3: Host not found)"), "{log}");
    let line = format!(
        "known.test could not be resolved (3: Host not found) while resolving service {port} of any.test"
    );
    assert!(log.contains(&line), "{log}");
}
