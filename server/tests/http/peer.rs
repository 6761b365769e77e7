//! The same requests to a real nginx with its Lua module and to this server; the answers must be the same
//! but for names, dates and tags. Skipped aloud where there is no such nginx.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{fresh_dir, start};

const SERVER: &str = r##"
  server_tokens off; default_type text/plain; types { text/html html; }
  server { listen LISTEN; root html; client_max_body_size 1000; lingering_timeout 1s;
  error_page 402 /e402; error_page 410 =200 /e402;
  location / { }
  location /r { return 200 "uri=$uri args=$args is_args=$is_args host=$host m=$request_method ru=$request_uri"; }
  location /r301 { return 301 /x?y=1; }
  location /r302t { return 302 http://a/b; }
  location /r204 { return 204; }
  location /r404t { return 404 "nope"; }
  location /r444 { return 444; }
  location /r402 { return 402; }
  location /r410 { return 410; }
  location /e402 { return 200 "epage"; }
  location /int { internal; return 200 x; }
  location = /exact { return 200 exact; }
  location ^~ /pre { return 200 pre; }
  location ~ \.php$ { return 200 php; }
  location ~* ^/ci/(\w+) { return 200 "ci $1"; }
  location /rw { rewrite ^/rw/(.*)$ /r/$1?z=1 last; }
  location /rwr { rewrite ^/rwr(.*)$ /r$1 redirect; }
  location /rwp { rewrite ^/rwp(.*)$ /r$1? permanent; }
  location /h { add_header X-A 1; add_header X-B $arg_b always; return 404; }
  location /tf { try_files $uri /a.txt; }
  location /lua1 { content_by_lua_block { ngx.say("hello") } }
  location /lua2 { content_by_lua_block { ngx.header["Content-Length"] = 5 ngx.print("hello") } }
  location /lua3 { content_by_lua_block { ngx.status = 201 ngx.header.x_y = {"a", "b"} ngx.header["content-type"] = "a/b" ngx.print("z") } }
  location /lua4 { content_by_lua_block { ngx.exit(503) } }
  location /lua5 { content_by_lua_block { ngx.redirect("/abc?x=1") } }
  location /lua6 { content_by_lua_block { } }
  location /lua7 { content_by_lua_block { ngx.req.read_body() ngx.print(ngx.req.get_body_data()) } }
  location /lua8 { content_by_lua_block { error("boom") } }
  location /luaa { access_by_lua_block { ngx.exit(ngx.HTTP_FORBIDDEN) } return 200 no; }
  location /luab { access_by_lua_block { ngx.say("from access") } content_by_lua_block { ngx.say("c") } }
  location /luac { rewrite_by_lua_block { ngx.req.set_uri("/r/new", true) } }
  location /luad { content_by_lua_block { ngx.say(ngx.req.raw_header()) } }
  location /luae { content_by_lua_block { ngx.exec("/r", "k=v") } }
  location /luaf { content_by_lua_block { ngx.exit(204) } }
  location /luah { content_by_lua_block { ngx.header["X"] = "1\r\nY: 2" ngx.say("x") ngx.eof() } }
  location /luak { header_filter_by_lua_block { ngx.header["X-Len"] = ngx.header["Content-Length"] ngx.header.content_length = nil }
    body_filter_by_lua_block { ngx.arg[1] = string.upper(ngx.arg[1]) } return 200 "abc"; }
  location /luai { content_by_lua_block { ngx.say(ngx.escape_uri("a b/c?d=e&f"), ngx.unescape_uri("a%20b+c"), ngx.md5("x"),
    ngx.encode_base64("abc"), ngx.decode_base64("YWJj"), ngx.crc32_short("abc"), ngx.quote_sql_str("a'b\n"), ngx.http_time(0), ngx.cookie_time(0)) } }
  location /lual { content_by_lua_block { local a = ngx.req.get_uri_args() local t = {}
    for k, v in pairs(a) do t[#t + 1] = k .. '=' .. (type(v) == 'table' and table.concat(v, ',') or tostring(v)) end
    table.sort(t) ngx.say(table.concat(t, ';')) } }
 }"##;

struct Nginx {
    child: Child,
    port: u16,
    dir: std::path::PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn nginx(files: &[(&str, &str)]) -> Option<Nginx> {
    const MODULES: [&str; 2] =
        ["/usr/lib/nginx/modules/ndk_http_module.so", "/usr/lib/nginx/modules/ngx_http_lua_module.so"];
    if !MODULES.iter().all(|m| Path::new(m).is_file()) {
        return None;
    }
    let dir = fresh_dir();
    for (name, text) in files {
        std::fs::write(dir.join(name), text).ok()?;
    }
    // The port is free when it is looked for; nobody else here asks for a certain one.
    let port = std::net::TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
    let listen = format!("127.0.0.1:{port}");
    let conf = format!(
        "load_module {}; load_module {}; daemon off; master_process off; error_log logs/error.log; pid nginx.pid;
         events {{}} http {{ access_log off; lua_package_path '/usr/share/lua/5.1/?.lua;;'; {} }}",
        MODULES[0],
        MODULES[1],
        SERVER.replace("LISTEN", &listen)
    );
    std::fs::write(dir.join("nginx.conf"), conf).ok()?;
    let child = Command::new("nginx")
        .args(["-c", "nginx.conf", "-e", "logs/error.log", "-p"])
        .arg(&dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let server = Nginx { child, port, dir };
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

fn ask(port: u16, request: &[u8]) -> String {
    let mut s = TcpStream::connect(("127.0.0.1", port)).expect("listens");
    s.set_read_timeout(Some(Duration::from_secs(4))).expect("a timeout");
    let _ = s.write_all(request);
    let mut out = Vec::new();
    if s.read_to_end(&mut out).is_err() {
        out.extend_from_slice(b"<no end>");
    }
    normalised(&String::from_utf8_lossy(&out), port)
}

/// Without what may differ: names, dates, tags, the port, and the length of pages that show the name.
fn normalised(answer: &str, port: u16) -> String {
    let page = answer.contains("<center>");
    let lines = answer.split("\r\n").map(|l| match l.split_once(": ") {
        Some(("Date", _)) => "Date".to_owned(),
        Some(("ETag", _)) => "ETag".to_owned(),
        Some(("Content-Length", _)) if page => "Content-Length".to_owned(),
        _ => l.replace("openresty", "nginx").replace(&port.to_string(), "PORT"),
    });
    let text: Vec<String> = lines.collect();
    // HEAD of a page has its length and no text to tell it by.
    text.join("\n")
}

fn requests() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    let mut add = |method: &str, path: &str, version: &str, more: &str| {
        out.push(
            format!("{method} {path} HTTP/{version}\r\nHost: h.x:99\r\nConnection: close\r\n{more}")
                .into_bytes(),
        );
    };
    for path in [
        "/",
        "/r",
        "/r/a%20b/../c?x=1&y=%20",
        "//r//x",
        "/r301",
        "/r302t",
        "/r204",
        "/r404t",
        "/r444",
        "/r402",
        "/r410",
        "/int",
        "/exact",
        "/exact/",
        "/prefoo.php",
        "/a.php",
        "/ci/Foo",
        "/CI/Foo",
        "/rw/abc?q=1",
        "/rwr/x?q=1",
        "/rwp/x?q=1",
        "/h",
        "/h?b=5",
        "/dir",
        "/tf/x",
        "/a.txt",
        "/none",
        "/r%3Fa",
        "/r%zz",
        "/r/#frag",
        "/r?",
        "/r??a",
        "/lual?a=1&a=2&b&c=&=x&d=%41+b",
        "/luai",
    ] {
        add("GET", path, "1.1", "\r\n");
    }
    for n in "12345678abcdefhk".chars() {
        add("GET", &format!("/lua{n}"), "1.1", "\r\n");
    }
    for n in "124578abce".chars() {
        add("GET", &format!("/lua{n}"), "1.0", "\r\n");
    }
    for path in ["/lua1", "/lua2", "/lua6", "/r", "/a.txt"] {
        add("HEAD", path, "1.1", "\r\n");
    }
    for method in ["OPTIONS", "FOO", "DELETE"] {
        add(method, "/r", "1.1", "\r\n");
        add(method, "/a.txt", "1.1", "\r\n");
    }
    add("GET", "/a.txt", "1.1", "If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT\r\n\r\n");
    add("POST", "/lua7", "1.1", "Content-Length: 5\r\n\r\nhello");
    add(
        "POST",
        "/lua7",
        "1.1",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n",
    );
    add("POST", "/lua7", "1.1", "Transfer-Encoding: chunked\r\n\r\nzz\r\n");
    add("POST", "/lua7", "1.1", &format!("Content-Length: 2000\r\n\r\n{}", "x".repeat(2000)));
    add("POST", "/lua7", "1.1", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let long_line = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(9000));
    let long_header = format!("GET /r HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "b".repeat(9000));
    for raw in [
        "GET /r\r\n",
        "GET /r HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\nConnection: close\r\n\r\n",
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\nGET /r HTTP/1.0\r\n\r\n",
        "GET /r HTTP/1.1 \r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET http://abs.host:8/r?x HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n",
        "GET http://abs.host HTTP/1.0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /r HTTP/1.1\nHost: a\nConnection: close\n\n",
        "GET /r HTTP/1.1\r\nHost: a\r\nbad header: x\r\n\r\n",
        "GET /r HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET /r HTTP/1.1\r\nHost: a\r\nno_score: x\r\nnocolon\r\nConnection: close\r\n\r\n",
        "GET /r HTTP/1.1\r\nHost: a\r\nX: \0\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        "POST /r HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        &long_line,
        &long_header,
        "GET /r HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /r HTTP/1.1\r\nHost: \r\nConnection: close\r\n\r\n",
        "TRACE /r HTTP/1.1\r\nHost: a\r\n\r\n",
        // No CONNECT: what its target may be has changed in nginx 1.29 (see `bad_heads_keep_...`).
        "GET /r HTTP/1.1\r\nHost: A.B.\r\nConnection: close\r\n\r\n",
        "GET /r HTTP/1.1\r\nHost: a\r\n\r\nGET /r2 HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n",
        "POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /r HTTP/1.0\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "GET /../x HTTP/1.0\r\n\r\n",
        "GET /%00 HTTP/1.0\r\n\r\n",
    ] {
        out.push(raw.as_bytes().to_vec());
    }
    out
}

#[test]
fn answers_are_those_of_nginx() {
    let files = [("html/a.txt", "A"), ("html/index.html", "INDEX\n")];
    let Some(theirs) = nginx(&files) else {
        eprintln!("SKIPPED: no nginx with the Lua module is installed");
        return;
    };
    let ours = start(&SERVER.replace("LISTEN", "8080"), &files);
    let stamp = std::time::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    for dir in [&theirs.dir, &ours.dir] {
        std::fs::create_dir_all(dir.join("html/dir")).expect("writable");
        for (name, _) in files {
            let f = std::fs::File::options().write(true).open(dir.join(name)).expect("made above");
            f.set_modified(stamp).expect("may be set");
        }
    }
    let mut wrong = String::new();
    let list = requests();
    for r in &list {
        let (a, b) = (ask(theirs.port, r), ask(ours.addr.port(), r));
        // The installed module is older: with output gathered for HTTP/1.0 it still went on to the content.
        if r.starts_with(b"GET /luab HTTP/1.0") {
            assert!(b.ends_with("\n\nfrom access\n") || b.ends_with("\r\n\r\nfrom access\n"), "{b:?}");
            continue;
        }
        if a != b {
            let shown = String::from_utf8_lossy(&r[..r.len().min(100)]).escape_debug().to_string();
            wrong.push_str(&format!("== {shown}\n-- nginx\n{a}\n-- here\n{b}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(list.len() > 100);
}
