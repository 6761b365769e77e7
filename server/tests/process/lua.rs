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
fn zoned(lines: &str, more: &str) -> Server {
    let server = server(&format!(
        "upstream u {{ zone u 64k; {lines} }} {more}
         server {{ listen unix:FOLDER/a; location / {{ content_by_lua_block {{ ngx.print('a') }} }} }}
         server {{ listen unix:FOLDER/b; location / {{ content_by_lua_block {{ ngx.print('b') }} }} }}
         server {{ LISTEN
             location / {{ add_header X-W $pid; proxy_pass http://u; }}
             location /who {{ content_by_lua_block {{ ngx.print(ngx.worker.pid()) }} }}
             location /down {{ content_by_lua_block {{
                 ngx.print(ngx.worker.pid(), ' ', require 'ngx.upstream'.set_peer_down('u', false, 0, true)) }} }} }}"
    ));
    let conf = server.folder.0.join("conf/nginx.conf");
    let text = std::fs::read_to_string(&conf).expect("was written");
    let folder = server.folder.0.display().to_string();
    std::fs::write(&conf, text.replace("FOLDER", &folder)).expect("as above");
    let output = server.run(&[]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server
}

/// Asks again and again until both workers have answered often enough; the answers in their order.
fn asked_of_both(server: &Server, times: usize) -> Vec<String> {
    let mut by: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let mut answers = Vec::new();
    server.wait_for("answers of both workers", |server| {
        // Several at a time: the one that accepts is busy, so the other gets its turn.
        let others: Vec<_> =
            (0..3).filter_map(|_| std::net::TcpStream::connect(("127.0.0.1", server.port)).ok()).collect();
        let (head, body) = server.answer("/").expect("answers");
        drop(others);
        let worker = head.lines().find_map(|l| l.strip_prefix("X-W: ")).expect("it is sent").to_owned();
        *by.entry(worker).or_default() += 1;
        answers.push(body);
        by.len() == 2 && by.values().all(|n| *n >= times)
    });
    answers
}

#[test]
fn workers_share_the_turns_and_the_failures_of_a_zone() {
    let server = zoned("server unix:FOLDER/a; server unix:FOLDER/b;", "");
    let answers = asked_of_both(&server, 3);
    assert!(answers.windows(2).all(|two| two[0] != two[1]), "they take turns: {answers:?}");
    server.get("/down").expect("answers");
    let answers = asked_of_both(&server, 2);
    assert!(answers.iter().all(|a| a == "b"), "what one worker takes away, none asks: {answers:?}");
    server.run(&["-s", "stop"]);
    server.wait_for("the end", |server| server.pid().is_none());

    let server = zoned("server unix:FOLDER/none max_fails=1 fail_timeout=1h; server unix:FOLDER/b;", "");
    let answers = asked_of_both(&server, 3);
    assert!(answers.iter().all(|a| a == "b"), "{answers:?}");
    let log = server.log();
    assert_eq!(log.matches("connect() to unix:").count(), 1, "one failure is enough for all: {log}");
    // A worker that dies leaves the zone usable.
    let pid = server.get("/who").expect("answers");
    Command::new("kill").args(["-9", &pid]).status().expect("kill is everywhere");
    server.wait_for("the replacement", |server| server.log().contains("exited on signal 9"));
    assert!(asked_of_both(&server, 2).iter().all(|a| a == "b"));
    assert_eq!(server.log().matches("connect() to unix:").count(), 1, "{}", server.log());
}
