//! Lua in the processes: start-up, worker ends, reloads, crashes; with the example `interpreted`.

use std::process::Command;

use super::{Server, kill};

fn server(http: &str) -> Server {
    let conf = format!(
        "worker_processes 2; error_log logs/error.log info; events {{ }} http {{ {} \n }}",
        http.replace("LISTEN", "listen 127.0.0.1:PORT;")
    );
    Server::of_program("interpreted", &conf)
}

fn started(http: &str) -> Server {
    let server = server(http);
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server
}

#[test]
fn error_in_init_stops_the_start() {
    let server = server("init_by_lua_block {\n error('boom') } server { LISTEN }");
    let output = server.run(&[]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.starts_with(
            "nginx: [error] init_by_lua error: init_by_lua(nginx.conf:1):2: boom\nstack traceback:\n"
        ),
        "{said}"
    );
    assert!(server.pid().is_none());
}

#[test]
fn workers_share_what_init_made_and_say_goodbye() {
    let server = started(
        "lua_shared_dict d 1m;
         init_by_lua_block { shared = { text = 'from init' } ngx.shared.d:set('boots', (ngx.shared.d:get('boots') or 0) + 1) }
         init_worker_by_lua_block { ngx.timer.at(1000, function(premature) ngx.log(ngx.WARN, 'premature ', tostring(premature)) end) }
         exit_worker_by_lua_block { ngx.log(ngx.WARN, 'goodbye') }
         server { LISTEN location / { content_by_lua_block { ngx.print(shared.text, ' ', ngx.shared.d:get('boots')) } } }",
    );
    assert_eq!(server.get("/").expect("answers"), "from init 1");
    server.run(&["-s", "reload"]);
    server.wait_for("the old workers' end", |server| server.log().matches("exited with code 0").count() == 2);
    assert_eq!(server.get("/").expect("answers"), "from init 2", "the dictionary lives on, init ran again");
    server.run(&["-s", "quit"]);
    server.wait_for("the end", |server| server.pid().is_none());
    assert_eq!(server.log().matches("goodbye").count(), 4);
    assert_eq!(server.log().matches("premature true, context: ngx.timer").count(), 4);
}

#[test]
fn graceful_stop_waits_for_a_sleeping_handler() {
    let server = started(
        "server { LISTEN location / { content_by_lua_block { ngx.print(ngx.worker.pid()) } }
           location /slow { content_by_lua_block { ngx.sleep(0.3) ngx.print('done') } } }",
    );
    let answer = std::thread::scope(|scope| {
        let slow = scope.spawn(|| server.get("/slow"));
        server.get("/").expect("answers");
        std::thread::sleep(std::time::Duration::from_millis(50));
        server.run(&["-s", "quit"]);
        slow.join().expect("no panic")
    });
    assert_eq!(answer.expect("the request is finished"), "done");
    server.wait_for("the end", |server| server.pid().is_none());
}

#[test]
fn errors_of_handlers_are_logged_as_upstream_logs_them() {
    let server = started(
        "server { LISTEN
           location /content { content_by_lua_block { local t\n t.x = 1 } }
           location /filter { header_filter_by_lua_block { error('hf') } return 200 x; }
           location /log { log_by_lua_block { error('lg') } return 200 x; }
           location /file { content_by_lua_file none.lua; }
           location /global { content_by_lua_block { leaked = 1 ngx.print('ok') } }
         }",
    );
    for path in ["/content", "/filter", "/log", "/file", "/global"] {
        // Some of them end without a response.
        let _ = server.get(path);
    }
    server.wait_for("all lines", |server| server.log().contains("write guard"));
    let prefix = server.folder.0.display().to_string();
    let log = server.log().replace(&prefix, "PREFIX");
    for line in [
        "lua entry thread aborted: runtime error: content_by_lua(nginx.conf:2):2: attempt to index local 't' (a nil value)\n\
         stack traceback:\ncoroutine 0:\n\tcontent_by_lua(nginx.conf:2): in main chunk, client: 127.0.0.1, server: , request: \"GET /content HTTP/1.0\"\n",
        "failed to run header_filter_by_lua*: header_filter_by_lua(nginx.conf:4):1: hf\nstack traceback:\n\t[C]: in function 'error'\n",
        "failed to run log_by_lua*: log_by_lua(nginx.conf:5):1: lg\n",
        "in main chunk while logging request, client: ",
        "failed to load external Lua file \"PREFIX/none.lua\": cannot open PREFIX/none.lua: No such file or directory, client: ",
        "[lua] _G write guard:12: __newindex(): writing a global Lua variable ('leaked') which may lead to race conditions \
         between concurrent requests, so prefer the use of 'local' variables\nstack traceback:\n",
    ] {
        assert!(log.contains(line), "missing: {line}\nin: {log}");
    }
}

#[test]
fn worker_killed_while_it_writes_to_a_dictionary_harms_nobody() {
    let server = started(
        "lua_shared_dict d 1m;
         server { LISTEN
           location /spin { content_by_lua_block { ngx.timer.at(0, function() while true do
              for i = 1, 200 do ngx.shared.d:set('k' .. i, ('x'):rep(i)) end ngx.sleep(0) end end) ngx.print(ngx.worker.pid()) } }
           location / { content_by_lua_block { local d = ngx.shared.d
              d:set('probe', 'here') ngx.print(d:get('probe'), ' ', d:get('k7') or 'xxxxxxx') } } }",
    );
    for round in 0..5 {
        let pid = server.get("/spin").expect("answers");
        std::thread::sleep(std::time::Duration::from_millis(20));
        Command::new("kill").args(["-9", &pid]).status().expect("kill is everywhere");
        server.wait_for("the replacement", |server| {
            server.log().matches("exited on signal 9").count() == round + 1
        });
        for _ in 0..4 {
            assert_eq!(server.get("/").expect("answers"), "here xxxxxxx");
        }
    }
    kill(&server, "-TERM");
    server.wait_for("the end", |server| server.pid().is_none());
}

/// A group whose servers are two sockets of the same server.
fn zoned(lines: &str) -> Server {
    let server = server(&format!(
        "upstream u {{ zone u 64k; {lines} }}
         server {{ listen unix:FOLDER/a; return 200 a; }}
         server {{ listen unix:FOLDER/b; return 200 b; }}
         server {{ LISTEN
             location / {{ proxy_pass http://u; }}
             location /who {{ return 200 $pid; }}
             location /down {{ content_by_lua_block {{
                 ngx.header.content_length = 4
                 ngx.print(require 'ngx.upstream'.set_peer_down('u', false, 0, true)) }} }} }}"
    ));
    let conf = server.folder.0.join("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).expect("was written");
    let folder = server.folder.0.display().to_string();
    std::fs::write(&conf, text.replace("FOLDER", &folder)).expect("as above");
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server
}

/// A connection that stays open, and with it the worker at its other end.
pub(super) struct Kept(std::net::TcpStream);

impl Kept {
    /// The body of an answer that tells its length.
    pub(super) fn get(&mut self, path: &str) -> String {
        use std::io::{Read, Write};
        self.0
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: t\r\n\r\n").as_bytes())
            .expect("the server reads");
        let mut answer = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("Content-Length: ").nth(1).and_then(|n| n.lines().next());
                let length: usize = length.and_then(|n| n.parse().ok()).expect("a length");
                if body.len() >= length {
                    return body.to_owned();
                }
            }
            let mut piece = [0; 4096];
            let n = self.0.read(&mut piece).expect("the server answers");
            assert!(n > 0, "the answer ends early: {text}");
            answer.extend_from_slice(&piece[..n]);
        }
    }
}

/// A connection to each of the two workers.
pub(super) fn one_to_each(server: &Server) -> Vec<Kept> {
    let mut found: Vec<(String, Kept)> = Vec::new();
    server.wait_for("connections to both workers", |server| {
        // Several wait at a time: who has just taken one leaves the next to the other.
        let waiting: Vec<_> =
            (0..8).filter_map(|_| std::net::TcpStream::connect(("127.0.0.1", server.port)).ok()).collect();
        for stream in waiting {
            stream.set_read_timeout(Some(super::PATIENCE)).expect("a positive time");
            let mut kept = Kept(stream);
            let pid = kept.get("/who");
            if found.iter().all(|(known, _)| *known != pid) {
                found.push((pid, kept));
            }
        }
        found.len() == 2
    });
    found.into_iter().map(|(_, kept)| kept).collect()
}

#[test]
fn workers_share_the_turns_of_a_zone_and_what_is_taken_away() {
    let server = zoned("server unix:FOLDER/a; server unix:FOLDER/b;");
    let mut workers = one_to_each(&server);
    let mut ask = |times: usize| -> String { (0..times).map(|n| workers[n % 2].get("/")).collect() };
    let answers = ask(6);
    assert!(answers == "ababab" || answers == "bababa", "they take turns: {answers}");
    let answers = ask(3);
    assert!(answers == "aba" || answers == "bab", "three more end with the other worker: {answers}");
    assert_eq!(one_to_each(&server)[0].get("/down"), "true");
    assert_eq!(ask(4), "bbbb", "what one worker takes away, none asks");
}

#[test]
fn failure_that_one_worker_sees_counts_for_all() {
    let server = zoned("server unix:FOLDER/none max_fails=1 fail_timeout=1h; server unix:FOLDER/b;");
    let mut workers = one_to_each(&server);
    for n in 0..6 {
        assert_eq!(workers[n % 2].get("/"), "b");
    }
    let failures = |server: &Server| server.log().matches("connect() to unix:").count();
    assert_eq!(failures(&server), 1, "{}", server.log());
    // A worker that dies leaves the zone as it is.
    let pid = workers[0].get("/who");
    Command::new("kill").args(["-9", &pid]).status().expect("kill is everywhere");
    server.wait_for("the replacement", |server| server.log().contains("exited on signal 9"));
    for worker in &mut one_to_each(&server) {
        assert_eq!(worker.get("/"), "b");
    }
    assert_eq!(failures(&server), 1, "{}", server.log());
}
