//! Requests over real sockets against a whole worker.

mod access;
mod bad_input;
mod content;
mod debug;
mod echo;
mod files;
mod flow;
mod idle;
mod limits;
mod lua;
mod modules;
mod names;
mod odd;
mod peer;
mod proxy;
mod redis;
mod reqsock;
mod sockets;
mod ssl;
mod surface;
mod tls;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use moonlit_server::app::{Accepted, App, AppFactory, Socket, WorkerInfo};
use moonlit_server::application::Gateways;
use moonlit_server::conf::{Options, load};
use moonlit_server::log::Logs;
use moonlit_vm::host::Lua;

/// A server on a thread of its own, with a directory of its own.
pub struct Server {
    pub addr: SocketAddr,
    pub dir: PathBuf,
    drain: tokio::sync::mpsc::UnboundedSender<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn fresh_dir() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("moonlit-http-{}-{n}", std::process::id()));
    for sub in ["html", "logs"] {
        std::fs::create_dir_all(dir.join(sub)).expect("the temporary directory is writable");
    }
    dir
}

/// Starts a server whose `http {}` block has this text inside.
pub fn start(http: &str, files: &[(&str, &str)]) -> Server {
    start_with(http, files, Lua::new)
}

/// The same with VMs of the caller's making.
pub fn start_with(http: &str, files: &[(&str, &str)], make: fn() -> Lua) -> Server {
    launch("", http, files, make)
}

/// Starts a server with lines outside any block, too.
pub fn start_full(main: &str, http: &str, files: &[(&str, &str)]) -> Server {
    launch(main, http, files, Lua::new)
}

fn launch(main: &str, http: &str, files: &[(&str, &str)], make: fn() -> Lua) -> Server {
    let dir = fresh_dir();
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a file has a directory")).expect("writable");
        std::fs::write(path, text).expect("writable");
    }
    let conf = format!("error_log logs/error.log debug; {main}\nevents {{}}\nhttp {{\n{http}\n}}\n");
    std::fs::write(dir.join("nginx.conf"), conf).expect("writable");
    let (tx, rx) = std::sync::mpsc::channel();
    let at = dir.clone();
    let (drain, draining) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || run(&at, tx, draining, make));
    let addr = rx.recv().expect("the server thread starts");
    Server { addr, dir, drain }
}

fn run(
    dir: &Path,
    tx: std::sync::mpsc::Sender<SocketAddr>,
    mut draining: tokio::sync::mpsc::UnboundedReceiver<()>,
    make: fn() -> Lua,
) {
    let options = Options {
        prefix: format!("{}/", dir.display()).into(),
        file: dir.join("nginx.conf"),
        error_log: dir.join("logs/error.log"),
        globals: String::new(),
    };
    let config = match load(&options) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(_) => panic!("the test's configuration does not load"),
    };
    let logs = Arc::new(Logs::open(&config).expect("logs open"));
    let app = match (Gateways { vms: make }).prepare(&config, &logs, None) {
        Ok(app) => Rc::new(app),
        Err(e) => panic!("{e}"),
    };
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&rt, async move {
        app.clone()
            .start(WorkerInfo { id: 0, count: 1, privileged: false, has_master: false, master_pid: 0 })
            .await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        tx.send(listener.local_addr().expect("bound")).expect("the test waits");
        let stopping = app.clone();
        tokio::task::spawn_local(async move {
            while draining.recv().await.is_some() {
                stopping.drain();
            }
        });
        let mut id = 0;
        loop {
            let (s, peer) = listener.accept().await.expect("accepts");
            id += 1;
            let local = s.local_addr().ok();
            let accepted = Accepted { socket: Socket::Tcp(s), peer: Some(peer), local, listen: 0, id };
            tokio::task::spawn_local(app.clone().serve(accepted));
        }
    });
}

impl Server {
    /// Begins a graceful stop, but for the accepting.
    pub fn drain(&self) {
        self.drain.send(()).expect("the server runs");
    }

    /// A connection to it.
    pub fn connect(&self) -> TcpStream {
        let s = TcpStream::connect(self.addr).expect("the server listens");
        s.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        s
    }

    /// Sends bytes on a connection of their own, returns everything that comes back until it is closed.
    pub fn raw(&self, bytes: &[u8]) -> String {
        let mut s = self.connect();
        // The server may have answered and closed before it has taken everything.
        let _ = s.write_all(bytes);
        let mut out = Vec::new();
        let _ = s.read_to_end(&mut out);
        String::from_utf8_lossy(&out).into_owned()
    }

    /// A GET with `Connection: close`; returns status line, headers and body as text.
    pub fn get(&self, path: &str) -> String {
        self.raw(format!("GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// The error log so far.
    pub fn error_log(&self) -> String {
        std::fs::read_to_string(self.dir.join("logs/error.log")).unwrap_or_default()
    }
}

/// The body of a response.
pub fn body(response: &str) -> &str {
    response.split_once("\r\n\r\n").map_or("", |(_, b)| b)
}

/// The status of a response.
pub fn status(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or("")
}

/// The value of a header of a response.
pub fn header<'a>(response: &'a str, name: &str) -> Option<&'a str> {
    let head = response.split("\r\n\r\n").next()?;
    head.split("\r\n").skip(1).find_map(|l| {
        let (n, v) = l.split_once(": ")?;
        n.eq_ignore_ascii_case(name).then_some(v)
    })
}
