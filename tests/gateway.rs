//! The example gateway under `moonlitd`, as a client sees it: with and without Redis, through reloads and a killed worker.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const WAIT_MAX: Duration = Duration::from_secs(20);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn wait_for(what: &str, mut ready: impl FnMut() -> bool) {
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < WAIT_MAX, "{what}: not within {WAIT_MAX:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for e in std::fs::read_dir(from).expect("the example").flatten() {
        let (src, dst) = (e.path(), to.join(e.file_name()));
        if src.is_dir() {
            copy_dir(&src, &dst);
        } else {
            std::fs::copy(&src, &dst).expect("a copy");
        }
    }
}

/// A running gateway in a folder of its own.
struct Gateway {
    child: Child,
    dir: PathBuf,
    port: u16,
}

impl Gateway {
    fn start(name: &str, redis: Option<u16>) -> Gateway {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = std::env::temp_dir().join(format!("moonlit-gateway-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        copy_dir(&root.join("examples/gateway"), &dir);
        std::fs::create_dir_all(dir.join("logs")).expect("a log folder");
        let port = free_port();
        let conf = std::fs::read_to_string(dir.join("nginx.conf")).expect("nginx.conf");
        std::fs::write(dir.join("nginx.conf"), conf.replace("127.0.0.1:8080", &format!("127.0.0.1:{port}")))
            .expect("nginx.conf");
        if redis.is_some() {
            std::fs::create_dir_all(dir.join("lib")).expect("lib");
            std::fs::copy(RESTY_REDIS, dir.join("lib/redis.lua")).expect("lua-resty-redis");
        }
        let mut cmd = Command::new(env!("CARGO_BIN_EXE_moonlitd"));
        cmd.arg("-p").arg(&dir).args(["-c", "nginx.conf", "-g", "daemon off;"]);
        cmd.env_remove("GATEWAY_REDIS").stdin(Stdio::null());
        if let Some(p) = redis {
            cmd.env("GATEWAY_REDIS", format!("127.0.0.1:{p}"));
        }
        let child = cmd.spawn().expect("moonlitd starts");
        let g = Gateway { child, dir, port };
        wait_for("the gateway listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        g
    }

    fn connect(&self) -> Client {
        let s = TcpStream::connect(("127.0.0.1", self.port)).expect("a connection");
        s.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
        Client { reader: BufReader::new(s.try_clone().expect("a second handle")), stream: s }
    }

    fn get(&self, path: &str, key: Option<&str>) -> Response {
        self.connect().request("GET", path, key, b"")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("logs/error.log")).unwrap_or_default()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let ok = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill").success();
        assert!(ok, "signal {name}");
    }

    /// Ids of the worker processes.
    fn workers(&self) -> Vec<String> {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().map(str::to_string).collect()
    }

    fn quit(mut self) {
        self.signal("QUIT");
        let start = Instant::now();
        let status = loop {
            if let Some(s) = self.child.try_wait().expect("wait") {
                break s;
            }
            assert!(start.elapsed() < WAIT_MAX, "QUIT does not end it");
            std::thread::sleep(Duration::from_millis(10));
        };
        assert!(status.success(), "{status}");
        assert!(!self.dir.join("logs/nginx.pid").exists(), "the pid file is gone after QUIT");
        let log = self.log();
        for bad in ["[alert]", "[crit]", "[emerg]", "panic"] {
            assert!(!log.contains(bad), "{bad} in the error log:\n{log}");
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let start = Instant::now();
            while let Ok(None) = self.child.try_wait() {
                if start.elapsed() > Duration::from_secs(5) {
                    let _ = self.child.kill();
                    let _ = self.child.wait();
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

impl Client {
    fn send(&mut self, method: &str, path: &str, key: Option<&str>, body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n");
        if let Some(k) = key {
            head += &format!("X-Api-Key: {k}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.stream.write_all(head.as_bytes()).and_then(|()| self.stream.write_all(body)).expect("sent");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("a line");
        line.trim_end().to_string()
    }

    fn receive(&mut self) -> Response {
        let first = self.line();
        let status =
            first.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or_else(|| panic!("{first:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                break;
            }
            let (n, v) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            headers.push((n.to_string(), v.to_string()));
        }
        let mut r = Response { status, headers, body: String::new() };
        if r.header("Transfer-Encoding") == Some("chunked") {
            loop {
                let line = self.line();
                let n = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("chunk size {line:?}"));
                let mut chunk = vec![0; n + 2];
                self.reader.read_exact(&mut chunk).expect("a chunk");
                if n == 0 {
                    break;
                }
                r.body += &String::from_utf8_lossy(&chunk[..n]);
            }
        } else if let Some(n) = r.header("Content-Length") {
            let mut body = vec![0; n.parse().expect("a length")];
            self.reader.read_exact(&mut body).expect("a body");
            r.body = String::from_utf8_lossy(&body).into_owned();
        }
        r
    }

    fn request(&mut self, method: &str, path: &str, key: Option<&str>, body: &[u8]) -> Response {
        self.send(method, path, key, body);
        self.receive()
    }
}

#[test]
fn session_of_the_readme_works_without_redis() {
    let g = Gateway::start("plain", None);
    let r = g.get("/", None);
    assert_eq!((r.status, r.header("Server").is_some()), (200, true));
    let r = g.get("/api/hello", None);
    assert_eq!((r.status, r.body.trim_end()), (401, r#"{"error":"missing X-Api-Key"}"#));
    assert_eq!(r.header("X-Gateway"), Some("moonlit-example"), "the header filter runs on refusals too");
    assert_eq!(g.get("/api/hello", Some("nobody")).status, 403);
    let r = g.get("/api/hello?name=you", Some("demo"));
    assert_eq!((r.status, r.body.trim_end()), (200, r#"{"hello":"you","method":"GET","user":"demo"}"#));
    assert_eq!(r.header("X-Api-User"), Some("demo"));
    assert_eq!(r.header("Content-Type"), Some("application/json"));
    let r = g.connect().request("POST", "/api/echo", Some("load"), b"a\"b");
    assert_eq!(r.body.trim_end(), r#"{"body":"a\"b","bytes":3}"#);
    assert_eq!(g.get("/api/none", Some("load")).status, 404);
    assert_eq!(g.get("/nowhere", None).status, 404);

    let codes: Vec<u16> = (0..12).map(|_| g.get("/api/hello", Some("demo")).status).collect();
    assert!(codes.contains(&429), "twelve requests in a row pass a limit of five per second: {codes:?}");

    wait_for("the log phase counts", || {
        let m = g.get("/metrics", None).body;
        m.contains("gateway_responses_total{status=\"401\"} 1\n") && m.contains("{status=\"403\"} 1\n")
    });
    assert!(g.log().contains("keys from embedded table (GATEWAY_REDIS is not set)"), "{}", g.log());
    g.quit();
}

#[test]
fn connection_is_kept_and_requests_are_pipelined() {
    let g = Gateway::start("pipeline", None);
    let mut c = g.connect();
    for i in 0..50 {
        let r = c.request("GET", &format!("/api/hello?name=n{i}"), Some("load"), b"");
        assert_eq!(r.body.trim_end(), format!(r#"{{"hello":"n{i}","method":"GET","user":"load"}}"#));
    }
    for i in 0..10 {
        c.send("GET", &format!("/api/hello?name=p{i}"), Some("load"), b"");
    }
    for i in 0..10 {
        assert!(c.receive().body.contains(&format!("\"p{i}\"")), "answers come in order");
    }
    g.quit();
}

#[test]
fn waiting_request_does_not_hold_the_worker() {
    let g = Gateway::start("slow", None);
    let start = Instant::now();
    let mut slow: Vec<Client> = (0..20).map(|_| g.connect()).collect();
    for c in &mut slow {
        c.send("GET", "/api/slow", Some("load"), b"");
    }
    assert_eq!(g.get("/api/hello", Some("load")).status, 200);
    for c in &mut slow {
        assert_eq!(c.receive().status, 200);
    }
    assert!(start.elapsed() < Duration::from_secs(3), "twenty sleeps of 0.2 s ran one after the other");
    g.quit();
}

#[test]
fn reload_and_a_killed_worker_lose_nothing_that_is_shared() {
    let g = Gateway::start("reload", None);
    assert_eq!(g.get("/api/hello", None).status, 401);
    wait_for("two workers", || g.workers().len() == 2);
    let before = g.workers();
    g.signal("HUP");
    wait_for("new workers", || {
        let now = g.workers();
        now.len() == 2 && now.iter().all(|w| !before.contains(w))
    });
    assert!(
        g.get("/metrics", None).body.contains("{status=\"401\"} 1\n"),
        "the dictionary survives a reload"
    );
    let victim = g.workers().remove(0);
    assert!(Command::new("kill").args(["-9", &victim]).status().expect("kill").success());
    wait_for("a new worker for the killed one", || {
        let now = g.workers();
        now.len() == 2 && !now.contains(&victim)
    });
    for _ in 0..20 {
        assert_eq!(g.get("/api/hello", Some("load")).status, 200);
    }
    assert!(g.log().contains("exited on signal 9"), "{}", g.log());
    g.signal("TERM");
    let mut g = g;
    wait_for("TERM ends it", || matches!(g.child.try_wait(), Ok(Some(_))));
}

/// Where Debian's package `lua-nginx-redis` puts the unmodified lua-resty-redis.
const RESTY_REDIS: &str = "/usr/share/lua/5.1/nginx/redis.lua";

struct Redis {
    child: Child,
    port: u16,
}

impl Redis {
    fn start() -> Option<Redis> {
        let port = free_port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let r = Redis { child, port };
        wait_for("redis listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(r)
    }

    fn command(&self, line: &str) {
        let mut s = TcpStream::connect(("127.0.0.1", self.port)).expect("redis");
        s.write_all(format!("{line}\r\n").as_bytes()).expect("sent");
        let mut reply = [0; 64];
        let n = s.read(&mut reply).expect("a reply");
        assert!(n > 0 && reply[0] != b'-', "{}", String::from_utf8_lossy(&reply[..n]));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn keys_come_from_redis_through_the_unmodified_library() {
    if !Path::new(RESTY_REDIS).exists() {
        eprintln!("skipped: lua-nginx-redis is not installed");
        return;
    }
    let Some(redis) = Redis::start() else {
        eprintln!("skipped: redis-server is not installed");
        return;
    };
    redis.command("HSET key:team user team rate 1000");
    let g = Gateway::start("redis", Some(redis.port));
    assert!(g.log().contains("keys from redis at 127.0.0.1:") || g.get("/", None).status == 200);
    let mut c = g.connect();
    for _ in 0..30 {
        let r = c.request("GET", "/api/hello", Some("team"), b"");
        assert_eq!((r.status, r.body.trim_end()), (200, r#"{"hello":"team","method":"GET","user":"team"}"#));
    }
    assert_eq!(c.request("GET", "/api/hello", Some("nobody"), b"").status, 403);
    drop(redis);
    let r = g.get("/api/hello", Some("team"));
    assert_eq!(r.status, 503, "a dead Redis is an answer, not a hang");
    assert!(g.log().contains("key store: "), "{}", g.log());
    g.quit();
}
