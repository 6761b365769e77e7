//! What functions say to wrong arguments, and small things about requests and responses that scripts see.

use super::{Server, body, header, start, status};

/// A server whose location `/` prints what `pcall` makes of an expression.
fn results(cases: &[(&str, &str)]) -> (Server, Vec<String>) {
    let locations: String = cases
        .iter()
        .enumerate()
        .map(|(n, (code, _))| {
            format!(
                "location /{n} {{ content_by_lua_block {{
                     local function join(...)
                         local t = {{}}
                         for i = 1, select('#', ...) do t[i] = tostring((select(i, ...))) end
                         return table.concat(t, '|')
                     end
                     ngx.print(join(pcall(function() {code} end))) }} }}\n"
            )
        })
        .collect();
    let s = start(&format!("server {{ listen 8080; location /none {{ return 204; }} {locations} }}"), &[]);
    let got = (0..cases.len())
        .map(|n| {
            let request = format!("POST /{n}?a=1&b HTTP/1.0\r\nContent-Length: 3\r\nX-A: 1\r\n\r\nbod");
            body(&s.raw(request.as_bytes())).to_owned()
        })
        .collect();
    (s, got)
}

#[test]
fn wrong_arguments_have_upstream_s_words() {
    let cases = [
        ("ngx.req.set_uri()", "expecting 1, 2 or 3 arguments but seen 0"),
        ("ngx.req.set_uri_args()", "expecting 1 argument but seen 0"),
        ("ngx.req.read_body(1)", "expecting 0 arguments but seen 1"),
        ("ngx.req.read_body() ngx.req.set_body_data()", "expecting 1 arguments but seen 0"),
        ("ngx.req.read_body() ngx.req.set_body_file('/none')", "stat() \"/none\" failed"),
        ("ngx.exec()", "expecting one or two arguments, but got 0"),
        ("ngx.exec('/x', true)", "string, number, or table expected, but got boolean"),
        ("ngx.redirect()", "expecting one or two arguments"),
        ("ngx.flush(1)", "boolean expected, got number"),
        ("ngx.flush(true, 2)", "attempt to pass 2 arguments, but accepted 0 or 1"),
        ("ngx.eof(1)", "no argument is expected"),
        ("ngx.sleep()", "attempt to pass 0 arguments, but accepted 1"),
        ("ngx.sleep(-1)", "invalid sleep duration \"-1000\""),
        ("return ngx.encode_args()", "expecting 1 argument but seen 0"),
        ("return ngx.encode_args({ a = { b = 1 } })", "true|a=1"),
        ("return ngx.decode_args()", "expecting 1 or 2 arguments but seen 0"),
        ("return ngx.md5(), ngx.crc32_short()", "true|d41d8cd98f00b204e9800998ecf8427e|0"),
        ("return ngx.hmac_sha1('k')", "expecting 2 arguments, but got 1"),
        ("return ngx.quote_sql_str()", "expecting one argument"),
        ("return ngx.quote_sql_str(nil)", "string expected, got nil"),
        ("return ngx.http_time('12')", "number argument only"),
        ("return ngx.http_time(-1)", "true|Thu, 01 Jan 1970 00:00:00 GMT"),
        ("return ngx.parse_http_time(1)", "string argument only"),
        ("return select('#', ngx.re.find('hello', '(l)(x)?', '', nil, 2))", "true|2"),
        ("return ngx.re.gsub('abc', 'b', nil)", "true|anilc|1"),
        ("ngx.print(-0)", "0true"),
        ("ngx.location.capture()", "expecting one or two arguments"),
        ("ngx.location.capture('')", "unsafe uri in argument #1: "),
        (
            "ngx.location.capture('/none', 1)",
            "expecting table as the 2nd argument for subrequest 0, but got number",
        ),
        (
            "ngx.location.capture('/none', { vars = { a = true } })",
            "attempt to use bad variable value type boolean",
        ),
        ("ngx.location.capture('/none', { vars = { uri = '/' } })", "failed to adjust the subrequest: 500"),
        ("ngx.location.capture('/none', { vars = { nope = '' } })", "failed to adjust the subrequest: -1"),
        ("ngx.location.capture('/none', { method = 99 })", "failed to adjust the subrequest: -1"),
        ("ngx.location.capture('/none', { copy_all_vars = 1 })", "Bad copy_all_vars option value"),
        ("ngx.location.capture_multi()", "only one argument is expected, but got 0"),
        ("ngx.location.capture_multi({})", "at least one subrequest should be specified"),
        ("ngx.location.capture_multi({ '/none' })", "the query argument 0 is not a table, but a string"),
        ("return ngx.on_abort(function() end)", "true|nil|lua_check_client_abort is off"),
        ("return ngx.config.nginx_configure():match('%-%-with%-[a-z]+')", "true|--with-pcre"),
        ("return getmetatable(ngx.socket.tcp()).__index == getmetatable(ngx.socket.tcp())", "true|true"),
        ("return ngx.var.content_type, ngx.var.request_port, ngx.var.pipe", "true|nil||."),
        ("ngx.req.set_header('Content-Length', nil) return ngx.var.content_length", "true|nil"),
        ("ngx.req.set_header('Host', '') return ngx.var.http_host", "true|nil"),
        ("ngx.var.limit_rate = nil return ngx.var.limit_rate", "true|0"),
        ("return ngx.var.ssl_protocol, ngx.var.http2, ngx.var.gzip_ratio", "true|nil||nil"),
        ("return tonumber(ngx.var.tcpinfo_rtt) ~= nil", "true|true"),
        ("return ngx.var.date_gmt:match('^%a+, %d+%-%a+%-%d+ %d+:%d+:%d+ ')~= nil", "true|true"),
        ("ngx.header.server = nil return ngx.header.server", "true|nil"),
    ];
    let (s, got) = results(&cases);
    for ((code, want), got) in cases.iter().zip(&got) {
        let end = got.strip_prefix("false|").unwrap_or(got);
        assert!(end == *want || (got.starts_with("false|") && end.contains(want)), "{code}: {got}");
    }
    let log = s.error_log();
    for line in [
        "variable \"uri\" not changeable, client",
        "unsupported HTTP method: 99, client",
        "invalid $limit_rate \"\"",
    ] {
        assert!(log.contains(line), "{line} is not in {log}");
    }
}

#[test]
fn a_query_set_to_nothing_is_a_value() {
    let s = start(
        "server { listen 8080;
           location /lua { content_by_lua_block {
             local v, say = ngx.var, function() ngx.print(tostring(ngx.var.args), '|') end
             say() ngx.req.set_uri_args('') say() ngx.req.set_uri_args({}) say() v.args = '' say() v.args = nil say()
             v.args = 'x=1' say() } }
           location /set { set $args ''; content_by_lua_block { ngx.print('<', tostring(ngx.var.args), '>') } }
           location /rewrite { rewrite ^ /show?; }
           location /exec { rewrite_by_lua_block { ngx.req.set_uri_args('') ngx.exec('/show') } }
           location /mark { content_by_lua_block { ngx.exec('/show?') } }
           location /try { set $args ''; try_files /none /show; }
           location /both { rewrite ^ /show?$arg_none; }
           location /capture { content_by_lua_block {
             for _, u in ipairs {'/show', '/show?'} do ngx.print(ngx.location.capture(u).body) end } }
           location /show { content_by_lua_block { ngx.print('<', tostring(ngx.var.args), '>') } } }",
        &[],
    );
    let show = |path: &str| body(&s.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())).to_owned();
    assert_eq!(show("/lua?a"), "a||||nil|x=1|");
    assert_eq!(show("/lua"), "nil||||nil|x=1|");
    assert_eq!(show("/set"), "<>");
    // What a rewrite takes away was there; a jump begins anew.
    assert_eq!((show("/rewrite?a"), show("/rewrite")), ("<>".to_owned(), "<nil>".to_owned()));
    assert_eq!(show("/exec"), "<nil>");
    assert_eq!(
        (show("/mark"), show("/try"), show("/both?x")),
        ("<>".to_owned(), "<>".to_owned(), "<&x>".to_owned())
    );
    assert_eq!(show("/capture"), "<nil><>");
}

#[test]
fn variable_that_a_script_takes_away_stays_away() {
    let s = start(
        "map $uri $m { default m; } geo $g { default g; } split_clients $uri $c { * c; }
         server { listen 8080; location / { set $u u; content_by_lua_block {
             for _, name in ipairs { 'm', 'g', 'c', 'u' } do
                 local before = ngx.var[name]
                 ngx.var[name] = nil
                 ngx.print(before, ' ', ngx.var[name], ' ')
                 ngx.var[name] = 'x'
                 ngx.print(ngx.var[name], ';')
             end
             ngx.var.args = nil
             ngx.print(ngx.var.args) } } }",
        &[],
    );
    let answer = s.raw(b"GET /?a=1 HTTP/1.0\r\n\r\n");
    assert_eq!(body(&answer), "m nil x;g nil x;c nil x;u nil x;nil");
}

#[test]
fn captured_errors_are_a_status_without_a_page() {
    let s = start(
        "server { listen 8080; root html;
             location /s500 { return 500; }
             location /serr { content_by_lua_block { error('x') } }
             location /spage { return 404; error_page 404 /page; }
             location /page { return 200 page; }
             location /say { content_by_lua_block { ngx.status = 404 ngx.print('said') } }
             location /quiet { default_type a/b; content_by_lua_block { ngx.exit(ngx.OK) } }
             location /c { content_by_lua_block { local r = ngx.location.capture(ngx.var.arg_u)
                 ngx.print(r.status, ' [', r.body, '] ', r.truncated, ' ', r.header['Content-Type']) } } }",
        &[],
    );
    let get = |u: &str| body(&s.raw(format!("GET /c?u={u} HTTP/1.0\r\n\r\n").as_bytes())).to_owned();
    assert_eq!(get("/none"), "404 [] true text/plain");
    assert_eq!(get("/s500"), "500 [] true text/plain");
    assert_eq!(get("/serr"), "500 [] true text/plain");
    assert_eq!(get("/spage"), "404 [] true text/plain");
    assert_eq!(get("/say"), "404 [said] false text/plain");
    assert_eq!(get("/quiet"), "200 [] false a/b");
}

#[test]
fn what_was_set_before_an_error_page_stays() {
    let s = start(
        "server { listen 8080; root html;
             location /a { content_by_lua_block { ngx.header.foo = 'x' ngx.exit(404) } error_page 404 /page; }
             location /b { content_by_lua_block { ngx.exit(404) } error_page 404 = /page; }
             location /c { return 404; error_page 404 = /page; }
             location /d { content_by_lua_block { ngx.header.foo = 'x' ngx.exit(404) } error_page 404 /file; }
             location /e { content_by_lua_block { ngx.header.last_modified = 'Thu, 18 Nov 2010 11:27:35 GMT' ngx.exit(404) } }
             location /page { content_by_lua_block { ngx.say(ngx.status, ' ', ngx.header.foo) } } }",
        &[("html/file", "file")],
    );
    let a = s.get("/a");
    assert_eq!((status(&a), header(&a, "foo")), ("404", Some("x")), "{a}");
    assert!(a.contains("404 x\n"), "{a}");
    assert_eq!(status(&s.get("/b")), "404");
    assert_eq!(status(&s.get("/c")), "200");
    let d = s.get("/d");
    assert_eq!((status(&d), header(&d, "foo"), body(&d)), ("404", Some("x"), "file"), "{d}");
    assert_eq!(header(&d, "last-modified"), None, "{d}");
    assert_eq!(header(&s.get("/e"), "last-modified"), None);
}

#[test]
fn scripts_jump_and_run_where_upstream_s_do() {
    let s = start(
        "server { listen 8080; root html;
             server_rewrite_by_lua_block { ngx.log(ngx.WARN, 'path is ', ngx.var.uri) }
             rewrite ^/old /new;
             location /new { return 200 $uri; }
             location /named { content_by_lua_block { ngx.exec('@n?a=1', 'b=2') } }
             location @n { return 200 '$uri $args'; }
             location /jump { rewrite_by_lua_block { ngx.ctx.a = 1 ngx.req.set_uri('/to', true) } }
             location /to { content_by_lua_block { ngx.print(tostring(ngx.ctx.a)) } }
             location = /slash/ { proxy_pass http://127.0.0.1:1; }
             location /empty { default_type a/b; content_by_lua_block { ngx.exit(0) } }
             location /unchanged { default_type a/b; content_by_lua_block { ngx.status = 304 } }
             location /quiet { content_by_lua_block { ngx.header.server = nil ngx.print('x') } }
             location /refused { content_by_lua_block { ngx.header.last_modified = 'Thu, 10 May 2012 07:50:48 GMT'
                 ngx.log(ngx.WARN, 'said: ', select(2, ngx.say('hello'))) } }
             location /error { log_by_lua_block { error({}) } return 200 x; } }",
        &[("html/t/\u{4e2d}/f", "f")],
    );
    assert_eq!(body(&s.get("/old")), "/new");
    assert!(s.error_log().contains("path is /old"), "{}", s.error_log());
    assert_eq!(body(&s.get("/named?z=1")), "/named z=1");
    assert!(s.error_log().contains("query strings a=1&b=2 ignored when exec'ing named location @n"));
    assert!(s.get("/jump").contains("nil"));
    assert!(header(&s.get("/slash"), "location").is_some_and(|l| l.ends_with("/slash/")));
    assert_eq!(header(&s.get("/empty"), "content-type"), Some("a/b"));
    assert_eq!(header(&s.get("/unchanged"), "content-type"), None);
    assert_eq!(header(&s.get("/quiet"), "server"), None);
    let refused = s.raw(b"GET /refused HTTP/1.1\r\nHost: t\r\nConnection: close\r\nIf-Unmodified-Since: Thu, 10 May 2012 07:50:47 GMT\r\n\r\n");
    assert_eq!(status(&refused), "412");
    assert!(s.error_log().contains("said: nginx output filter error"), "{}", s.error_log());
    assert!(header(&s.get("/t/\u{4e2d}"), "location").is_some_and(|l| l.ends_with("/t/%E4%B8%AD/")));
    s.get("/error");
    let log = s.error_log();
    let at = log.find("failed to run log_by_lua*: unknown reason").expect("it is logged");
    assert!(!log[at..].contains("stack traceback"), "{}", &log[at..]);
}

#[test]
fn formats_may_name_what_a_plain_connection_does_not_have() {
    let s = start(
        "log_format f '$uri [$ssl_protocol] [$ssl_client_verify] [$gzip_ratio] [$http2] [$upstream_cache_status]';
         access_log logs/access.log f; gzip on; gzip_min_length 1; gzip_types text/plain;
         server { listen 8080; location / { return 200 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa'; } }",
        &[],
    );
    s.get("/plain");
    s.raw(b"GET /small HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n");
    let begun = std::time::Instant::now();
    let log = loop {
        let log = std::fs::read_to_string(s.dir.join("logs/access.log")).unwrap_or_default();
        if log.lines().count() == 2 {
            break log;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{log}");
        std::thread::sleep(std::time::Duration::from_millis(5));
    };
    let (plain, small) = log.split_once('\n').expect("two lines");
    assert_eq!(plain, "/plain [-] [-] [-] [] [-]");
    assert!(small.starts_with("/small [-] [-] [") && !small.contains("[-] [] [-]"), "{small}");
}
