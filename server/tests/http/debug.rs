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
           local function f() ngx.sleep(0.05) end
           ngx.timer.at(0, f) ngx.timer.at(0, f)
           ngx.sleep(0.02) ngx.print(ngx.timer.running_count())
         } } }",
        &[],
    );
    assert_eq!(body(&s.get("/")).lines().nth(1), Some("1"));
    let line = line_with(&s.error_log(), "lua_max_running_timers are not enough");
    let expected = "lua failed to run timer with function defined at =content_by_lua(nginx.conf:4):2: 1 lua";
    assert!(line.contains(" [alert] ") && line.contains(expected), "{line}");
}
