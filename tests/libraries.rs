//! Unmodified OpenResty libraries at their work: each against the real server it is made for.
//!
//! The files come from Debian's packages, or from a `lualib` folder that `MOONLIT_LUALIB` names (it holds
//! `resty/redis.lua` and its like). What is missing is skipped aloud.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for something that must come about.
const PATIENCE: Duration = Duration::from_secs(30);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        // Paths of Unix sockets are short: so is this one.
        let path = std::env::temp_dir().join(format!("moonlib-{}-{n}", std::process::id()));
        std::fs::create_dir_all(path.join("logs")).expect("the temporary folder can be written");
        Folder(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Option<Process> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok().map(Process)
}

fn wait_for(path: &Path) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if UnixStream::connect(path).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Where a library is: the folder for the search path, and the name of its module (`resty.x`, in Debian's
/// packages `nginx.x`).
fn library(name: &str) -> Option<(String, String)> {
    let named = std::env::var("MOONLIT_LUALIB").ok();
    let roots =
        named.into_iter().chain(["/usr/share/lua/5.1", "/usr/local/openresty/lualib"].map(str::to_owned));
    for root in roots {
        for family in ["resty", "nginx"] {
            let file = format!("{root}/{family}/{}.lua", name.replace('.', "/"));
            if Path::new(&file).is_file() {
                return Some((root, format!("{family}.{name}")));
            }
        }
    }
    eprintln!("SKIPPED: lua-resty-{name} is not installed (MOONLIT_LUALIB names a folder that has it)");
    None
}

fn skipped(what: &str) {
    eprintln!("SKIPPED: {what} is not installed or does not start");
}

/// moonlitd with one location `/` of this code, in which `LIB` stands for the module's name and `DIR` for
/// the server's folder.
struct Server {
    folder: Folder,
    _process: Process,
}

impl Server {
    fn start(lib: &(String, String), extra: &str, code: &str) -> Server {
        let folder = Folder::new();
        let dir = folder.0.display().to_string();
        let locations = format!("location / {{ content_by_lua_block {{\n{code}\n}} }}");
        let fill = |text: &str| text.replace("LIB", &lib.1).replace("DIR", &dir);
        let (in_http, in_server) = extra.split_once("---").unwrap_or(("", extra));
        let conf = format!(
            "daemon off; master_process off; error_log logs/error.log info; pid logs/nginx.pid; events {{}}
             http {{ access_log off; lua_package_path '{root}/?.lua;;'; {http}
             server {{ listen unix:{dir}/s; {server} {locations} }} }}",
            root = lib.0,
            http = fill(in_http),
            server = fill(in_server),
            locations = fill(&locations),
        );
        std::fs::write(folder.path("nginx.conf"), conf).expect("as above");
        let process = spawn(
            Command::new(env!("CARGO_BIN_EXE_moonlitd"))
                .arg("-p")
                .arg(folder.path(""))
                .args(["-c", "nginx.conf"]),
        )
        .expect("moonlitd was built beside this test");
        let server = Server { folder, _process: process };
        assert!(wait_for(&server.folder.path("s")), "{}", server.log());
        server
    }

    fn connect(&self) -> UnixStream {
        let s = UnixStream::connect(self.folder.path("s")).expect("the server listens");
        s.set_read_timeout(Some(PATIENCE)).expect("a positive time");
        s
    }

    fn send(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).expect("the server reads");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the server answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// The body of the answer to a GET, which must be 200.
    fn get(&self) -> String {
        let answer = self.send(b"GET / HTTP/1.0\r\nHost: t\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}\n{}", self.log());
        answer.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("logs/error.log")).unwrap_or_default()
    }
}

#[test]
fn redis() {
    let Some(lib) = library("redis") else { return };
    let home = Folder::new();
    let socket = home.path("r");
    let started = spawn(
        Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
            .arg(&socket),
    );
    let Some(_redis) = started.filter(|_| wait_for(&socket)) else { return skipped("redis-server") };
    let server = Server::start(
        &lib,
        "",
        &format!(
            "local redis = require 'LIB'
             local r = redis:new() r:set_timeout(5000)
             ngx.say((r:connect('unix:{0}')))
             ngx.say(r:set('k', 'v\\r\\n2'), r:get('k'), r:get('none') == ngx.null)
             r:init_pipeline() r:set('n', 1) r:incr('n') r:get('n')
             local res = r:commit_pipeline() ngx.say(#res, res[2], res[3])
             local sub = redis:new() sub:connect('unix:{0}') sub:subscribe('c')
             ngx.say((r:publish('c', 'hello'))) ngx.say(sub:read_reply()[3])
             ngx.say(r:eval('return redis.error_reply(\"MY bad\")', 0))
             ngx.say(r:get_reused_times(), r:set_keepalive(10000, 10))
             local t = redis:new() t:connect('unix:{0}') ngx.say(t:get_reused_times(), (t:get('n')))",
            socket.display()
        ),
    );
    let got = server.get();
    assert_eq!(got, "1\nOKv\r\n2true\n322\n1\nhello\nfalseMY bad\n01\n12\n", "{}", server.log());
}

#[test]
fn memcached() {
    let Some(lib) = library("memcached") else { return };
    let home = Folder::new();
    let socket = home.path("m");
    let started = spawn(Command::new("memcached").args(["-u", "root", "-s"]).arg(&socket));
    let Some(_memcached) = started.filter(|_| wait_for(&socket)) else { return skipped("memcached") };
    let server = Server::start(
        &lib,
        "",
        &format!(
            "local memcached = require 'LIB'
             local m = memcached:new() m:set_timeout(5000)
             ngx.say(m:connect('unix:{}'))
             ngx.say(m:set('dog', 'an animal\\r\\n', 60, 7)) local v, flags = m:get('dog') ngx.say(v, flags)
             ngx.say(m:add('dog', 1)) ngx.say(m:set('n', 5)) ngx.say(m:incr('n', 37))
             local many = m:get({{'dog', 'n', 'none'}}) ngx.say(many.n[1], many.none)
             ngx.say(m:delete('dog')) ngx.say(m:get('dog')) ngx.say(m:set_keepalive(10000, 10))",
            socket.display()
        ),
    );
    let want = "1\n1\nan animal\r\n7\nnilNOT_STORED\n1\n42\n42nil\n1\nnilnilnil\n1\n";
    assert_eq!(server.get(), want, "{}", server.log());
}

/// A MariaDB server of our own. Making its tables takes a second or two.
fn mariadb(home: &Folder) -> Option<(Process, PathBuf)> {
    let data = home.path("data");
    let made = Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .arg(format!("--datadir={}", data.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !made.is_ok_and(|s| s.success()) {
        return None;
    }
    let socket = home.path("q");
    let daemon =
        ["/usr/sbin/mariadbd", "/usr/libexec/mariadbd"].into_iter().find(|p| Path::new(p).is_file())?;
    let process = spawn(
        Command::new(daemon)
            .args(["--no-defaults", "--skip-networking", "--user=root"])
            .arg(format!("--datadir={}", data.display()))
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--pid-file={}", home.path("pid").display())),
    )?;
    wait_for(&socket).then_some((process, socket))
}

#[test]
fn mysql() {
    let Some(lib) = library("mysql") else { return };
    let home = Folder::new();
    let Some((_mariadb, socket)) = mariadb(&home) else { return skipped("mariadb-server") };
    let server = Server::start(
        &lib,
        "",
        &format!(
            "local mysql = require 'LIB'
             local function new(t)
               local db = assert(mysql:new()) db:set_timeout(5000)
               t.path, t.charset = '{}', 'utf8'
               return db, db:connect(t)
             end
             local db, ok, err = new{{user = 'root', database = 'mysql'}}
             ngx.say(ok, err)
             assert(db:query('create database d'))
             assert(db:query(\"create user u identified by 'secret'\"))
             assert(db:query('grant all on d.* to u'))
             local db, ok, err = new{{user = 'u', password = 'secret', database = 'd'}}
             ngx.say(ok, err)
             assert(db:query('create table t (id int primary key auto_increment, name text, x double)'))
             local res = assert(db:query(\"insert into t (name, x) values ('one', 1.5), (null, 2), ('\\195\\164', 3)\"))
             ngx.say(res.affected_rows, ' ', res.insert_id)
             for _, row in ipairs(assert(db:query('select * from t order by id'))) do
               ngx.say(row.id, ' ', row.name == ngx.null and 'null' or row.name, ' ', row.x)
             end
             local res, err, code, state = db:query('select nonsense')
             ngx.say(res, ' ', code, ' ', state)
             local res, err = db:query('select 1 as a; select 2 as b') ngx.say(res[1].a, ' ', err)
             local res = db:read_result() ngx.say(res[1].b)
             ngx.say(#db:query(\"select repeat('x', 200000) as big\")[1].big)
             ngx.say(db:set_keepalive(10000, 5))
             local db, ok = new{{user = 'u', password = 'secret', database = 'd'}} ngx.say(db:get_reused_times())
             ngx.say((select(2, new{{user = 'u', password = 'wrong', database = 'd'}})))",
            socket.display()
        ),
    );
    let want =
        "1nil\n1nil\n3 1\n1 one 1.5\n2 null 2\n3 \u{e4} 3\nnil 1054 42S22\n1 again\n2\n200000\n1\n1\nnil\n";
    assert_eq!(server.get(), want, "{}", server.log());
}

#[test]
fn websocket_server_and_client() {
    let (Some(server_lib), Some(client_lib)) = (library("websocket.server"), library("websocket.client"))
    else {
        return;
    };
    let server = Server::start(
        &client_lib,
        &format!(
            "location /ws {{ content_by_lua_block {{
               local server = require '{}'
               local ws, err = server:new{{timeout = 5000, max_payload_len = 1000000}}
               if not ws then ngx.log(ngx.ERR, err) return ngx.exit(444) end
               while true do
                 local data, typ, err = ws:recv_frame()
                 if not data and ws.fatal then return end
                 if typ == 'close' then ws:send_close(1000, 'bye ' .. data) return end
                 if typ == 'ping' then ws:send_pong(data) end
                 if typ == 'text' then ws:send_text(data:upper()) end
                 if typ == 'binary' then ws:send_binary(data:reverse()) end
               end
             }} }}",
            server_lib.1
        ),
        "local client = require 'LIB'
         local ws = client:new{timeout = 5000, max_payload_len = 1000000}
         local ok = ws:connect('ws://unix:DIR/s:/ws') ngx.say(ok) if not ok then return end
         ws:send_text('hello') ngx.say(ws:recv_frame())
         ws:send_binary(('ab'):rep(70000))
         local data, typ = ws:recv_frame() ngx.say(#data, ' ', data:sub(1, 4), ' ', typ)
         ws:send_ping('p') ngx.say(ws:recv_frame())
         ws:send_close(1000, 'enough') ngx.say(ws:recv_frame())
         ngx.say(ws:close())",
    );
    let got = server.get();
    if got.starts_with("nil") {
        // Older clients know no Unix sockets in addresses; the server is then asked by hand.
        return by_hand(&server);
    }
    let mut lines = got.lines();
    lines.next();
    let rest: Vec<&str> = lines.collect();
    assert_eq!(
        rest[..4],
        ["HELLOtextnil", "140000 baba binary", "ppongnil", "bye enoughclose1000"],
        "{}",
        server.log()
    );
}

/// A client of our own: the handshake, one masked text frame, a close.
fn by_hand(server: &Server) {
    let mut s = server.connect();
    let head = b"GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    s.write_all(head).expect("the server reads");
    s.write_all(b"\x81\x85\x00\x00\x00\x00hello\x88\x82\x00\x00\x00\x00\x03\xe8").expect("as above");
    let mut answer = Vec::new();
    s.read_to_end(&mut answer).expect("the server closes");
    let text = String::from_utf8_lossy(&answer);
    assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
    assert!(text.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{text}");
    assert!(answer.windows(7).any(|w| w == b"\x81\x05HELLO"), "{text}");
}

#[test]
fn dns() {
    let Some(lib) = library("dns.resolver") else { return };
    let stub = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = stub.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        let mut buf = [0u8; 512];
        while let Ok((n, from)) = stub.recv_from(&mut buf) {
            let mut m = buf[..n].to_vec();
            (m[2], m[3]) = (0x81, 0x80);
            if m[13..].starts_with(b"known") {
                m[7] = 2;
                m.extend_from_slice(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x06\x03one\xc0\x0c");
                m.extend_from_slice(b"\x03one\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x0a\x01\x02\x03");
            } else {
                m[3] |= 3;
            }
            let _ = stub.send_to(&m, from);
        }
    });
    let server = Server::start(
        &lib,
        "",
        &format!(
            "local resolver = require 'LIB'
             local r = assert(resolver:new{{nameservers = {{{{'127.0.0.1', {port}}}}}, retrans = 2, timeout = 2000}})
             local a = assert(r:query('known.test', {{qtype = r.TYPE_A}}))
             for _, x in ipairs(a) do ngx.say(x.name, ' ', x.type, ' ', x.address or x.cname, ' ', x.ttl) end
             local a = assert(r:query('unknown.test')) ngx.say(a.errcode, ' ', a.errstr)
             local r = assert(resolver:new{{nameservers = {{{{'127.0.0.1', 1}}}}, retrans = 1, timeout = 200}})
             ngx.say(r:query('x.test') == nil)"
        ),
    );
    let want = "known.test 5 one.known.test 60\none.known.test 1 10.1.2.3 10\n3 name error\ntrue\n";
    assert_eq!(server.get(), want, "{}", server.log());
}

#[test]
fn string() {
    let Some(lib) = library("string") else { return };
    let server = Server::start(
        &lib,
        "",
        "local s = require 'LIB'
         local hex = {}
         for i = 0, 299 do hex[#hex + 1] = s.to_hex(string.char(i % 256)) end
         ngx.print(s.to_hex('\\0\\15abc\\255'), ' ', #s.to_hex(('x'):rep(5000)), ' ', table.concat(hex):sub(1, 12), ' ',
           s.atoi('4711'), ' ', s.atoi('47x'), ' ', s.atoi(''))",
    );
    assert_eq!(server.get(), "000f616263ff 10000 000102030405 4711 -1 -1");
}

#[test]
fn lrucache() {
    let Some(lib) = library("lrucache") else { return };
    let server = Server::start(
        &lib,
        "",
        "for _, name in ipairs{'LIB', 'LIB.pureffi'} do
           local c = require(name).new(2)
           c:set('a', 1) c:set('b', {2}) c:get('a') c:set('c', 3, 0.01)
           ngx.say((c:get('a')), (c:get('b')), (c:get('c'))) ngx.sleep(0.03)
           ngx.say((c:get('c'))) c:delete('a') ngx.say((c:get('a')))
         end",
    );
    let got = server.get();
    assert_eq!(got, "1nil3\nnil\nnil\n".repeat(2), "{}", server.log());
}

#[test]
fn lock() {
    let Some(lib) = library("lock") else { return };
    let server = Server::start(
        &lib,
        "lua_shared_dict locks 100k; ---",
        "local lock = require 'LIB'
         local a, b = lock:new('locks'), lock:new('locks', {timeout = 0.02})
         ngx.say(a:lock('k')) ngx.say(b:lock('k'))
         local t = ngx.thread.spawn(function()
           local c = lock:new('locks') local waited = c:lock('k') c:unlock() return waited > 0
         end)
         ngx.sleep(0.03) ngx.say(a:unlock()) ngx.say(ngx.thread.wait(t)) ngx.say(a:unlock())",
    );
    assert_eq!(server.get(), "0\nniltimeout\n1\ntruetrue\nnilunlocked\n", "{}", server.log());
}

#[test]
fn limit_traffic() {
    let (Some(lib), Some(_)) = (library("limit.req"), library("limit.conn")) else { return };
    let server = Server::start(
        &lib,
        "lua_shared_dict store 100k; ---",
        "local req = require('LIB').new('store', 2, 1)
         for i = 1, 3 do local delay, err = req:incoming('k', true) ngx.say(delay and delay > 0, ' ', delay and '' or err) end
         local conn = require('resty.limit.conn').new('store', 1, 1, 0.5)
         for i = 1, 3 do ngx.say(conn:incoming('c', true)) end
         ngx.say(conn:leaving('c', 0.5))
         local traffic = require 'resty.limit.traffic'
         local more = require('LIB').new('store', 100, 10)
         ngx.say(traffic.combine({more, req}, {'x', 'y'}, {}))",
    );
    let want = "false \ntrue \nnil rejected\n01\n0.52\nnilrejected\n1\n0\n";
    assert_eq!(server.get(), want, "{}", server.log());
}

#[test]
fn upload() {
    let Some(lib) = library("upload") else { return };
    let server = Server::start(
        &lib,
        "",
        "local form, err = require('LIB'):new(5)
         if not form then return ngx.say(err) end
         form:set_timeout(2000)
         while true do
           local typ, res, err = form:read()
           if not typ then return ngx.say('failed: ', err) end
           ngx.say(typ, ' ', type(res) == 'table' and res[1] .. '=' .. res[2] or res)
           if typ == 'eof' then break end
         end",
    );
    let body = "--b\r\nContent-Disposition: form-data; name=\"a\"; filename=\"x\"\r\nContent-Type: text/x\r\n\r\n\
                hello, w\r\n--b\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nv\r\n--b--\r\n";
    let head = format!(
        "POST / HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Type: multipart/form-data; boundary=b\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let got = server.send(head.as_bytes());
    let lines: Vec<&str> = got.lines().filter(|l| l.contains(' ')).collect();
    let at = lines
        .iter()
        .position(|l| l.starts_with("header "))
        .unwrap_or_else(|| panic!("{got}\n{}", server.log()));
    let want = [
        "header Content-Disposition=form-data; name=\"a\"; filename=\"x\"",
        "header Content-Type=text/x",
        "body hello",
        "body , w",
        "part_end nil",
        "header Content-Disposition=form-data; name=\"n\"",
        "body v",
        "part_end nil",
        "eof nil",
    ];
    assert_eq!(lines[at..], want, "{got}");
    assert!(server.get().contains("no boundary defined in Content-Type"));
}

#[test]
fn http_client() {
    let Some(lib) = library("http") else { return };
    let server = Server::start(
        &lib,
        "location /echo { content_by_lua_block {
           ngx.req.read_body() ngx.header['X-Seen'] = ngx.req.get_headers()['X-Mine']
           ngx.say(ngx.req.get_method(), ' ', ngx.var.args, ' ', ngx.req.get_body_data()) } }
         location /chunks { content_by_lua_block { for i = 1, 3 do ngx.say('part ', i) ngx.flush(true) end } }",
        "local httpc = require('LIB').new() httpc:set_timeouts(2000, 2000, 2000)
         assert(httpc:connect('unix:DIR/s'))
         local res = assert(httpc:request{path = '/echo', query = {a = 1}, method = 'POST', body = 'hello',
           headers = {Host = 't', ['X-Mine'] = 'yes'}})
         ngx.say(res.status, ' ', res.headers['X-Seen']) ngx.print(res:read_body())
         local res = assert(httpc:request{path = '/chunks', headers = {Host = 't'}})
         local whole = {} for chunk in res.body_reader, 4 do whole[#whole + 1] = chunk end
         ngx.print(table.concat(whole))
         ngx.say(httpc:set_keepalive()) httpc:connect('unix:DIR/s') ngx.say(httpc:get_reused_times())",
    );
    let want = "200 yes\nPOST a=1 hello\npart 1\npart 2\npart 3\n1\n1\n";
    assert_eq!(server.get(), want, "{}", server.log());
}

/// The same over TLS: what `openssl s_server` tells about the connection.
#[test]
fn http_client_over_tls() {
    let Some(lib) = library("http") else { return };
    let home = Folder::new();
    let at = |name: &str| home.path(name).display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=some.test"])
        .args(["-addext", "subjectAltName=DNS:some.test", "-keyout", &at("key.pem"), "-out", &at("cert.pem")])
        .stderr(Stdio::null())
        .status();
    let server = spawn(
        Command::new("openssl")
            .args([
                "s_server",
                "-www",
                "-quiet",
                "-unix",
                &at("tls"),
                "-cert",
                &at("cert.pem"),
                "-key",
                &at("key.pem"),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    if !made.is_ok_and(|s| s.success()) || server.is_none() || !wait_for(&home.path("tls")) {
        return skipped("openssl");
    }
    let code = format!(
        "local function get(name, verify)
           local httpc = require('LIB').new() httpc:set_timeouts(20000, 20000, 20000)
           local ok, err = httpc:connect {{ scheme = 'https', host = 'unix:{tls}', ssl_server_name = name, ssl_verify = verify }}
           if not ok then return err end
           local res = assert(httpc:request {{ path = '/', headers = {{ Host = name }} }})
           local body = res:read_body()
           httpc:close()
           return res.status .. ' ' .. body:match('Protocol%s*:%s*(%S+)')
         end
         ngx.say(get('some.test', true)) ngx.say(get('other.test', true)) ngx.say(get('other.test', false))",
        tls = at("tls")
    );
    let trusts = format!("lua_ssl_trusted_certificate {};---", at("cert.pem"));
    let server = Server::start(&lib, &trusts, &code);
    assert_eq!(server.get(), "200 TLSv1.3\ncertificate host mismatch\n200 TLSv1.3\n", "{}", server.log());
    let server = Server::start(&lib, "", &code);
    assert!(
        server.get().starts_with("18: self-signed certificate\n18: self-signed certificate\n200 "),
        "{}",
        server.log()
    );
}
