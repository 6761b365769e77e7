//! What surrounds the processes: the first process of a container, standard output as a log, time limits of a stop.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{PATIENCE, Server};

fn server(main: &str, http: &str) -> Server {
    let conf = format!(
        "worker_processes 1; {main} events {{ }} http {{ {} }}",
        http.replace("LISTEN", "listen 127.0.0.1:PORT;")
    );
    Server::of_program("interpreted", &conf)
}

/// Waits for a child; it is killed when it takes too long.
fn finish(child: &mut Child) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if let Ok(Some(status)) = child.try_wait() {
            return status.success();
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
    false
}

fn signal(pid: u32, name: &str) {
    Command::new("kill").args([name, &pid.to_string()]).status().expect("kill is everywhere");
}

fn children(pid: u32) -> Vec<u32> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

#[test]
fn first_process_of_a_container_replaces_workers_and_ends_with_them() {
    let possible = Command::new("unshare").args(["-p", "-f", "true"]).stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no process namespace can be made here");
        return;
    }
    // The usual pid file would make the end of the test signal process 1 of this system.
    let server = server(
        "daemon off; pid logs/one.pid; error_log logs/error.log info;",
        "server { LISTEN location / { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
           location /orphan { content_by_lua_block {
             os.execute('(sleep 0.1 &)') ngx.print('left') } } }",
    );
    let mut unshare = Command::new("unshare")
        .args(["-p", "-f", "--kill-child"])
        .arg(&server.program)
        .arg("-p")
        .arg(server.folder.0.join(""))
        .spawn()
        .expect("it was tried above");
    server.wait_for("the start", |server| server.get("/").is_ok());
    let pid_file = std::fs::read_to_string(server.folder.0.join("logs/one.pid")).expect("was written");
    assert_eq!(pid_file.trim(), "1");
    let master = *children(unshare.id()).first().expect("the master runs");
    let worker = *children(master).first().expect("a worker runs");
    let before = server.get("/").expect("answers");
    assert_eq!(server.get("/orphan").expect("answers"), "left");
    signal(worker, "-KILL");
    server.wait_for("the replacement", |server| server.get("/").is_ok_and(|pid| pid != before));
    signal(master, "-QUIT");
    assert!(finish(&mut unshare), "{}", server.log());
    // Who was left behind by a worker is the first process's child, and is not taken for a worker.
    assert!(!server.log().contains("[emerg]"), "{}", server.log());
}

#[test]
fn worker_that_takes_too_long_to_leave_is_cut_off() {
    let server = server(
        "worker_shutdown_timeout 200ms; error_log logs/error.log info;",
        "server { LISTEN location / { content_by_lua_block { ngx.print('ok') } }
           location /hang { content_by_lua_block { ngx.sleep(1000) } } }",
    );
    assert!(server.run(&[]).status.success(), "{}", server.log());
    let mut hanging = TcpStream::connect(("127.0.0.1", server.port)).expect("connects");
    hanging.write_all(b"GET /hang HTTP/1.0\r\n\r\n").expect("writes");
    // The answer to another request shows that this one has been accepted: there is one worker.
    server.get("/").expect("answers");
    let start = Instant::now();
    server.run(&["-s", "quit"]);
    let mut rest = Vec::new();
    hanging.set_read_timeout(Some(PATIENCE)).expect("a positive time");
    let _ = hanging.read_to_end(&mut rest);
    assert!(rest.is_empty(), "no answer is made up: {}", String::from_utf8_lossy(&rest));
    server.wait_for("the end", |server| server.pid().is_none());
    assert!(start.elapsed() >= Duration::from_millis(200), "it had its time: {:?}", start.elapsed());
}

#[test]
fn logs_go_to_standard_output_and_error() {
    let server = server(
        "daemon off; error_log /dev/stderr info;",
        "log_format f 'asked for $uri'; access_log /dev/stdout f;
         server { LISTEN location / { content_by_lua_block { ngx.log(ngx.WARN, 'told') ngx.print('ok') } } }",
    );
    let mut child = Command::new(&server.program)
        .arg("-p")
        .arg(server.folder.0.join(""))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example was built beside this test");
    server.wait_for("the start", |server| server.get("/x").is_ok());
    server.run(&["-s", "quit"]);
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
    child.stderr.take().expect("piped").read_to_string(&mut err).expect("text");
    assert!(finish(&mut child));
    assert!(out.lines().any(|line| line == "asked for /x"), "{out}");
    assert!(err.contains("told, client: 127.0.0.1") && err.contains("[notice]"), "{err}");
}

#[test]
fn error_log_goes_to_a_syslog_socket() {
    let server = server(
        // A daemon would keep the standard error that it was started with.
        "daemon off; error_log syslog:server=unix:SOCKET,facility=local5,tag=moon,nohostname warn;",
        "server { LISTEN location / { content_by_lua_block { ngx.log(ngx.ERR, 'told') ngx.print('ok') } } }",
    );
    let path = server.folder.0.join("log.sock");
    let socket = std::os::unix::net::UnixDatagram::bind(&path).expect("the folder can be written");
    // Workers may be somebody else.
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("as above");
    socket.set_read_timeout(Some(PATIENCE)).expect("a positive time");
    let conf = server.folder.0.join("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).expect("was written");
    std::fs::write(&conf, text.replace("SOCKET", &path.display().to_string())).expect("as above");
    let mut child = Command::new(&server.program)
        .arg("-p")
        .arg(server.folder.0.join(""))
        .stderr(Stdio::null())
        .spawn()
        .expect("the example was built beside this test");
    server.wait_for("the start", |server| server.get("/").is_ok());
    let mut buf = [0; 2048];
    let n = socket.recv(&mut buf).expect("a line comes");
    let line = String::from_utf8_lossy(&buf[..n]).into_owned();
    // Facility 21, severity 3.
    assert!(line.starts_with("<171>") && line.contains(" moon: "), "{line}");
    assert!(line.contains("told, client: 127.0.0.1"), "{line}");
    let master = server.pid().expect("runs");
    signal(master, "-QUIT");
    assert!(finish(&mut child));
}
