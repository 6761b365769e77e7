//! Lines of level debug, and the context of lines that belong to no request.

use super::{body, start};

/// The log's line that holds a text.
pub fn line_with(log: &str, text: &str) -> String {
    log.lines().find(|l| l.contains(text)).unwrap_or_else(|| panic!("no {text:?} in\n{log}")).to_owned()
}

#[test]
fn timer_tells_when_it_runs_and_who_made_it() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           ngx.timer.at(0, function() ngx.log(ngx.WARN, 'in timer') end)
           ngx.sleep(0.01)
           ngx.log(ngx.DEBUG, 'quiet') ngx.log(ngx.INFO, 'loud')
         } } }",
        &[],
    );
    s.get("/");
    let log = s.error_log();
    assert!(line_with(&log, "lua ngx.timer expired").contains(" [debug] "));
    line_with(&log, "http lua close fake http connection");
    assert!(line_with(&log, "in timer").contains(", context: ngx.timer, client: 127.0.0.1"), "{log}");
    assert!(line_with(&log, "quiet").ends_with("quiet"));
    assert!(line_with(&log, "loud").contains(", client: 127.0.0.1, server: "));
}

#[test]
fn timer_over_the_limit_names_its_function() {
    let s = start(
        "lua_max_running_timers 1; server { listen 8080; location / { content_by_lua_block {
           local function g() ngx.sleep(0.05) end local function f()
             ngx.sleep(0.05) end
           ngx.timer.at(0, f) ngx.timer.at(0, g)
           ngx.sleep(0.02) ngx.print(ngx.timer.running_count())
         } } }",
        &[],
    );
    assert_eq!(body(&s.get("/")).lines().nth(1), Some("1"));
    let line = line_with(&s.error_log(), "lua_max_running_timers are not enough");
    let expected = "lua failed to run timer with function defined at =content_by_lua(nginx.conf:4):2: 1 lua";
    assert!(line.contains(" [alert] ") && line.contains(expected), "{line}");
}

#[test]
fn repeating_timer_is_set_anew_before_it_runs() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           local n, most, now = 0, 0, 0
           ngx.timer.every(0.005, function()
             n, now = n + 1, now + 1 most = math.max(most, now)
             if n == 1 then ngx.sleep(0.05) end
             now = now - 1
           end)
           ngx.sleep(0.1) ngx.print(n > 3, ' ', most > 1, ' ', ngx.timer.pending_count())
         } } }",
        &[],
    );
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "true true 1");
}

#[test]
fn timer_without_delay_runs_while_the_worker_exits_and_others_come_early() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           ngx.timer.at(100, function(premature)
             ngx.log(ngx.WARN, 'early ', premature)
             ngx.log(ngx.WARN, 'late timer ', select(2, ngx.timer.at(1, print)))
             ngx.timer.at(0, function(premature) ngx.log(ngx.WARN, 'at once ', premature) end)
           end)
         } } }",
        &[],
    );
    s.get("/");
    s.drain();
    let start = std::time::Instant::now();
    while !s.error_log().contains("at once") && start.elapsed().as_secs() < 5 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let log = s.error_log();
    for text in ["early true", "late timer process exiting", "at once false", "lua found 1 pending timers"] {
        line_with(&log, text);
    }
}

#[test]
fn clock_has_moved_when_a_handler_or_timer_goes_on() {
    let s = start(
        "server { listen 8080; location / { content_by_lua_block {
           local passed
           ngx.timer.at(0, function() local t = ngx.now() ngx.sleep(0.03) passed = ngx.now() - t end)
           local t = ngx.now() ngx.sleep(0.05) ngx.print(ngx.now() - t >= 0.049, passed >= 0.029)
         } } }",
        &[],
    );
    assert_eq!(body(&s.raw(b"GET / HTTP/1.0\r\n\r\n")), "truetrue", "{}", s.error_log());
}
