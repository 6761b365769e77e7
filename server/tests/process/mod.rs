//! Processes: the server as a program, with the example application `hello`.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::conf::Folder;

mod lua;
mod scarce;
mod surroundings;

/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(10);

fn program(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test knows its own path");
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

/// Sends a signal to the master by hand.
fn kill(server: &Server, signal: &str) {
    let master = server.pid().expect("runs").to_string();
    Command::new("kill").args([signal, &master]).status().expect("kill is everywhere");
}

/// A server in a folder of its own, ended with the test.
struct Server {
    program: PathBuf,
    folder: Folder,
    port: u16,
}

impl Server {
    fn new(conf: &str) -> Server {
        Server::of_program("hello", conf)
    }

    fn of_program(name: &str, conf: &str) -> Server {
        // The port is free now, and nobody else asks the kernel for this one soon.
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("binds").port();
        let folder = Folder::new();
        folder.write("conf/nginx.conf", &conf.replace("PORT", &port.to_string()));
        Server { program: program(name), folder, port }
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(&self.program)
            .arg("-p")
            .arg(self.folder.0.join(""))
            .args(args)
            .output()
            .expect("the example was built beside this test")
    }

    fn start(conf: &str) -> Server {
        let server = Server::new(conf);
        let output = server.run(&[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        server
    }

    fn pid(&self) -> Option<u32> {
        std::fs::read_to_string(self.folder.0.join("logs/nginx.pid")).ok()?.trim().parse().ok()
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        // One write: the example answers to the first bytes it reads.
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.rsplit("\r\n\r\n").next().unwrap_or_default().trim().to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.0.join("logs/error.log")).unwrap_or_default()
    }

    fn wait_for(&self, what: &str, mut done: impl FnMut(&Server) -> bool) {
        let start = Instant::now();
        while !done(self) {
            assert!(start.elapsed() < PATIENCE, "{what} did not come about; the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.pid().is_some() {
            self.run(&["-s", "stop"]);
            let start = Instant::now();
            while self.pid().is_some() && start.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

const CONF: &str = "worker_processes 2; error_log logs/error.log debug; events { } \
                    http { server { listen 127.0.0.1:PORT; location / { root html; } } }";

#[test]
fn daemon_serves_when_its_parent_has_left() {
    let server = Server::start(CONF);
    let worker: u32 = server.get("/").expect("answers").parse().expect("a process id");
    assert_ne!(Some(worker), server.pid());
    server.wait_for("both workers", |server| server.log().matches("hello from worker").count() == 2);
}

#[test]
fn quit_lets_requests_finish() {
    let server = Server::start(CONF);
    let port = server.port;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    stream.write_all(b"GET /slow HTTP/1.0\r\n\r\n").expect("writes");
    // The answer to another request shows that this one has been accepted: they queue in order.
    server.get("/").expect("answers");
    server.run(&["-s", "quit"]);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the request is finished");
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    server.wait_for("the end", |server| server.pid().is_none());
    assert!(server.log().contains("gracefully shutting down"));
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn reload_replaces_workers_and_a_bad_file_changes_nothing() {
    let server = Server::start(CONF);
    let before = server.get("/").expect("answers");
    server.run(&["-s", "reload"]);
    server.wait_for("the old workers' end", |server| server.log().matches("exited with code 0").count() == 2);
    let after = server.get("/").expect("answers");
    assert_ne!(before, after);
    server.folder.write("conf/nginx.conf", "evnts { }");
    // `-s` reads the file too: the signal is sent by hand.
    let master = server.pid().expect("runs").to_string();
    Command::new("kill").args(["-HUP", &master]).status().expect("kill is everywhere");
    server.wait_for("the complaint", |server| server.log().contains("[emerg]"));
    assert!(server.log().contains("unknown directive \"evnts\" in "));
    assert!(server.get("/").is_ok());
    Command::new("kill").args(["-TERM", &master]).status().expect("as above");
    server.wait_for("the end", |server| server.pid().is_none());
}

#[test]
fn dead_worker_is_replaced() {
    let server = Server::start(CONF);
    let _ = server.get("/crash");
    server.wait_for("the replacement", |server| server.log().matches("start worker process ").count() == 3);
    assert!(server.log().contains("exited on signal 6"));
    assert!(server.get("/").is_ok());
}

#[test]
fn stray_signals_end_nobody() {
    for conf in [format!("master_process off; {CONF}"), CONF.to_owned()] {
        let server = Server::start(&conf);
        let pid = server.pid();
        for signal in ["-ALRM", "-IO", "-SYS", "-PIPE"] {
            kill(&server, signal);
        }
        assert!(server.get("/").is_ok() && server.pid() == pid, "{}", server.log());
        // What is asked for after them is still done: nothing of them is left in the way.
        server.run(&["-s", "quit"]);
        server.wait_for("the end", |server| server.pid().is_none());
    }
}

#[test]
fn reopened_log_is_a_new_file() {
    let server = Server::start(CONF);
    let log = server.folder.0.join("logs/error.log");
    let moved = server.folder.0.join("logs/error.log.1");
    std::fs::rename(&log, &moved).expect("renames");
    server.run(&["-s", "reopen"]);
    server.wait_for("the workers' reopening", |_| {
        std::fs::read_to_string(&moved).is_ok_and(|said| said.matches("reopening logs").count() == 3)
    });
    server.wait_for("a line in the new file", |server| {
        server.get("/").is_ok() && server.log().contains("said hello")
    });
}

#[test]
fn one_process_serves_reloads_and_ends() {
    let server = Server::start(&format!("master_process off; {CONF}"));
    assert_eq!(server.get("/").expect("answers").parse().ok(), server.pid());
    server.run(&["-s", "reload"]);
    server.wait_for("the new generation", |server| server.log().matches("hello from worker").count() == 2);
    assert!(server.get("/").is_ok());
    server.run(&["-s", "quit"]);
    server.wait_for("the end", |server| server.pid().is_none());
}

#[test]
fn binary_is_changed_without_a_refused_connection() {
    let server = Server::start(CONF);
    let old = server.pid().expect("runs");
    kill(&server, "-USR2");
    let old_file = server.folder.0.join("logs/nginx.pid.oldbin");
    server.wait_for("the new program", |server| {
        assert!(server.get("/").is_ok());
        old_file.exists() && server.pid().is_some_and(|new| new != old)
    });
    server.wait_for("its workers", |server| server.log().matches("hello from worker").count() == 4);
    let signal = |signal: &str| {
        Command::new("kill").args([signal, &old.to_string()]).status().expect("kill is everywhere");
    };
    signal("-WINCH");
    server.wait_for("the old workers' end", |server| {
        assert!(server.get("/").is_ok());
        server.log().matches("exited with code 0").count() == 2
    });
    signal("-QUIT");
    server.wait_for("the old program's end", |server| {
        assert!(server.get("/").is_ok());
        !old_file.exists()
    });
    assert!(server.pid().is_some_and(|new| new != old));
}

#[test]
fn new_binary_that_ends_leaves_the_old_one_in_charge() {
    let server = Server::start(CONF);
    let old = server.pid().expect("runs");
    kill(&server, "-USR2");
    server.wait_for("the new program", |server| server.pid().is_some_and(|new| new != old));
    server.wait_for("its workers", |server| server.log().matches("hello from worker").count() == 4);
    kill(&server, "-QUIT");
    server.wait_for("the old program's return", |server| server.pid() == Some(old));
    assert!(server.get("/").is_ok());
}

#[test]
fn address_in_use_is_told_five_times() {
    let server = Server::start(CONF);
    let second = Server { program: program("hello"), folder: Folder::new(), port: server.port };
    second.folder.write("conf/nginx.conf", &CONF.replace("PORT", &server.port.to_string()));
    let output = second.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line =
        format!("nginx: [emerg] bind() to 127.0.0.1:{} failed (98: Address already in use)\n", server.port);
    assert_eq!(said.matches(&line).count(), 5, "{said}");
    assert!(said.ends_with("nginx: [emerg] still could not bind()\n"), "{said}");
}

#[test]
fn test_mode_says_what_nginx_says() {
    let server = Server::new(CONF);
    let prefix = server.folder.0.display().to_string();
    let said = |args: &[&str]| {
        let output = server.run(args);
        let text = String::from_utf8_lossy(&output.stderr).replace(&prefix, "PREFIX");
        (output.status.code(), text, String::from_utf8_lossy(&output.stdout).replace(&prefix, "PREFIX"))
    };
    let ok = "nginx: the configuration file PREFIX/conf/nginx.conf syntax is ok\n\
              nginx: configuration file PREFIX/conf/nginx.conf test is successful\n";
    assert_eq!(said(&["-t"]), (Some(0), ok.to_owned(), String::new()));
    assert_eq!(said(&["-tq"]).1, "");
    assert!(said(&["-T"]).2.starts_with("# configuration file PREFIX/conf/nginx.conf:\nworker_processes 2;"));
    server.folder.write("conf/nginx.conf", "events { } http { init_by_lua_block {\n syntax error } }");
    assert_eq!(
        said(&["-t"]).1,
        "nginx: [emerg] failed to load inlined Lua code: init_by_lua(nginx.conf:1):1: '=' expected near 'error' \
         in PREFIX/conf/nginx.conf:1\n\
         nginx: configuration file PREFIX/conf/nginx.conf test failed\n"
    );
    assert_eq!(
        said(&["-t", "-g", "foo;"]).1.lines().next(),
        Some("nginx: [emerg] unknown directive \"foo\" in command line")
    );
    assert!(server.log().contains(" [emerg] "), "the complaint is in the log too");
}

#[test]
fn reuseport_and_unix_sockets_are_served_and_survive_a_reload() {
    let server = Server::new(
        "worker_processes 2; error_log logs/error.log debug; events { } http { server { \
         listen 127.0.0.1:PORT reuseport backlog=16; listen unix:SOCKET; location / { } } }",
    );
    let socket = server.folder.0.join("unix.sock");
    let conf = std::fs::read_to_string(server.folder.0.join("conf/nginx.conf")).expect("was written");
    server.folder.write("conf/nginx.conf", &conf.replace("SOCKET", &socket.display().to_string()));
    assert!(server.run(&[]).status.success(), "{}", server.log());
    let ask = || -> std::io::Result<String> {
        let mut stream = std::os::unix::net::UnixStream::connect(&socket)?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    assert!(server.get("/").is_ok() && ask().is_ok());
    server.run(&["-s", "reload"]);
    server.wait_for("the old workers' end", |server| server.log().matches("exited with code 0").count() == 2);
    assert!(server.get("/").is_ok() && ask().is_ok());
    server.run(&["-s", "quit"]);
    server.wait_for("the end", |server| server.pid().is_none());
    assert!(!socket.exists(), "the socket's file goes with the server");
}

#[test]
fn pid_file_of_a_dead_server_is_told() {
    let server = Server::new(CONF);
    let output = server.run(&["-s", "quit"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with("nginx: [error] open() \"")
            && said.contains("failed (2: No such file or directory)"),
        "{said}"
    );
    server.folder.write("logs/nginx.pid", "x\n");
    let said = String::from_utf8_lossy(&server.run(&["-s", "quit"]).stderr).into_owned();
    assert!(said.starts_with("nginx: [error] invalid PID number \"x\" in \""), "{said}");
    std::fs::remove_file(server.folder.0.join("logs/nginx.pid")).expect("is there");
}
