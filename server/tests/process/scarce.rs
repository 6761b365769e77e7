//! Processes that lack something: room on the disk, descriptors, time; and what they count together.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use super::{PATIENCE, Server, kill};

fn server(main: &str, http: &str) -> Server {
    let conf = format!(
        "{main} error_log logs/error.log info; events {{ }} http {{ {} \n }}",
        http.replace("LISTEN", "listen 127.0.0.1:PORT;")
    );
    Server::of_program("interpreted", &conf)
}

/// Starts the server from a shell that has set limits first.
fn start_limited(server: &Server, limits: &str) {
    let script = format!("{limits}; exec \"$0\" -p \"$1\"");
    let output = Command::new("sh")
        .args(["-c", &script])
        .arg(&server.program)
        .arg(server.folder.0.join(""))
        .output()
        .expect("a shell is everywhere");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Sends a request, returns the whole answer.
fn ask(server: &Server, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a positive time");
    // It may answer before it has read everything.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn disk_that_is_full_is_500_and_told() {
    let server = server(
        "worker_processes 1;",
        "client_body_buffer_size 1k; client_max_body_size 0; server { LISTEN
           location /ok { return 200 ok; }
           location / { content_by_lua_block { ngx.req.read_body() ngx.print('read') } } }",
    );
    // No file may grow beyond 64 KiB: whoever writes more is told so, as on a full disk.
    start_limited(&server, "trap '' XFSZ; ulimit -f 128");
    let mut request = b"POST / HTTP/1.0\r\nContent-Length: 300000\r\n\r\n".to_vec();
    request.resize(request.len() + 300_000, b'a');
    let answer = ask(&server, &request);
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    server.wait_for("the line", |server| {
        server.log().lines().any(|l| {
            l.contains("[crit]") && l.contains("pwrite() \"") && l.contains("failed (27: File too large)")
        })
    });
    assert_eq!(server.get("/ok").expect("answers"), "ok");
    let left = std::fs::read_dir(server.folder.0.join("client_body_temp")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the file is gone");
}

#[test]
fn worker_without_descriptors_waits_for_some() {
    let server = server(
        "worker_processes 1; worker_rlimit_nofile 40;",
        "server { LISTEN location / { return 200 ok; } }",
    );
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let held: Vec<TcpStream> = (0..60)
        .map(|_| TcpStream::connect(("127.0.0.1", server.port)).expect("the system accepts"))
        .collect();
    server.wait_for("the line", |server| {
        server.log().contains("[crit]") && server.log().contains("accept4() failed (24: Too many open files)")
    });
    drop(held);
    assert_eq!(server.get("/").expect("answers"), "ok");
}

#[test]
fn init_that_does_not_end_is_ended_and_workers_have_limits_of_their_own() {
    let endless = server(
        "worker_processes 1;",
        "lua_cpu_limit 50ms; init_by_lua_block { while true do pcall(function() while true do end end) end } server { LISTEN }",
    );
    let output = endless.run(&[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("init_by_lua error: ") && said.contains("CPU time limit exceeded"), "{said}");
    let server = server(
        "worker_processes 1;",
        "lua_cpu_limit 50ms; init_by_lua_block { n = 1 for i = 1, 1000 do n = n + 1 end } server { LISTEN
           location / { content_by_lua_block { while true do end } }
           location /ok { content_by_lua_block { ngx.print(n) } } }",
    );
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // A timer made before the fork is not the worker's.
    let answer = ask(&server, b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert_eq!(server.get("/ok").expect("answers"), "1001");
    kill(&server, "-HUP");
    server.wait_for("the new worker", |server| server.log().contains("exited with code 0"));
    let answer = ask(&server, b"GET / HTTP/1.0\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
}

#[test]
fn status_counts_the_whole_server() {
    let server = server(
        "worker_processes 2;",
        "server { LISTEN location /who { return 200 $pid; } location /status { stub_status; } }",
    );
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut workers = super::lua::one_to_each(&server);
    let line = |text: &str, n: usize| text.lines().nth(n).unwrap_or_default().to_owned();
    let active = |text: &str| -> usize {
        line(text, 0).rsplit(' ').find_map(|word| word.parse().ok()).expect("a number")
    };
    // Connections that were tried are closed on this side; the workers notice in their own time.
    server.wait_for("two connections", |_| workers.iter_mut().all(|w| active(&w.get("/status")) == 2));
    let counted = |text: &str| -> Vec<u64> {
        line(text, 2).split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let first = counted(&workers[0].get("/status"));
    let second = counted(&workers[1].get("/status"));
    assert_eq!(first[0], second[0], "both know of all connections");
    assert_eq!(first[2] + 1, second[2], "one request more");
    assert_eq!(line(&workers[0].get("/status"), 3).trim_end(), "Reading: 0 Writing: 1 Waiting: 1");
    // A new configuration goes on counting.
    kill(&server, "-HUP");
    server.wait_for("the new workers", |server| server.log().matches("exited with code 0").count() >= 1);
    let text = server.get("/status").expect("answers");
    let total: u64 = text
        .lines()
        .nth(2)
        .and_then(|l| l.split_whitespace().nth(2))
        .and_then(|n| n.parse().ok())
        .expect("a number");
    assert!(total > second[2], "{text}");
}

#[test]
fn daemon_with_nothing_but_syslog_lets_go_of_its_caller_s_standard_error() {
    let server = server("worker_processes 1;", "server { LISTEN location / { return 200 ok; } }");
    let conf = server.folder.0.join("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).expect("was written");
    std::fs::write(&conf, text.replace("logs/error.log info", "syslog:server=127.0.0.1:9 warn"))
        .expect("as above");
    let mut child = Command::new(&server.program)
        .arg("-p")
        .arg(server.folder.0.join(""))
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example was built beside this test");
    let mut said = child.stderr.take().expect("piped");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = String::new();
        let _ = said.read_to_string(&mut text);
        let _ = tell.send(text);
    });
    assert!(child.wait().expect("ends").success());
    told.recv_timeout(PATIENCE).expect("nobody holds the pipe any more");
    assert_eq!(server.get("/").expect("answers"), "ok");
}

#[test]
fn warnings_about_the_configuration_are_in_the_log_too() {
    let server = server("", "server { LISTEN server_name a/b; }");
    let output = server.run(&["-t"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains("nginx: [warn] server name \"a/b\""));
    let log = server.log();
    assert!(
        log.contains("[warn] ") && log.contains("server name \"a/b\" has suspicious symbols in "),
        "{log}"
    );
}
