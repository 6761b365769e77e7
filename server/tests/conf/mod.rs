//! The configuration as a whole: messages as nginx gives them, inheritance, look-ups.
//!
//! The table of complaints is also put before the installed nginx, when there is one, so that what we
//! say stays what it says.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use moonlit_server::conf::model::{Config, Content, HttpConf, LuaSource, RewriteOp, Server};
use moonlit_server::conf::{self, Options};
use moonlit_server::phase::Phase;
use moonlit_server::regex::MatchData;

/// A folder of its own for a test, removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    /// An empty folder with `logs` and `conf` inside.
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("moonlit-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(path.join("logs")).expect("the temporary folder can be written");
        std::fs::create_dir_all(path.join("conf")).expect("as above");
        Folder(path)
    }

    /// Writes a file below the folder.
    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.join(name), text).expect("the temporary folder can be written");
    }

    fn options(&self) -> Options {
        Options {
            prefix: self.0.clone(),
            file: "conf/nginx.conf".into(),
            error_log: "stderr".into(),
            globals: String::new(),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The configuration of this text, or everything that is said about it. `PREFIX` stands for the folder.
fn load(text: &str) -> Result<Config, Vec<String>> {
    let folder = Folder::new();
    folder.write("conf/nginx.conf", text);
    folder.write("conf/part.conf", "set $part 1;\n");
    let shown = folder.0.display().to_string();
    match conf::load(&folder.options()) {
        Ok(loaded) => Ok(loaded.config),
        Err(failed) => {
            let mut lines: Vec<String> = failed.warnings.iter().map(|(_, line)| line.clone()).collect();
            lines.push(failed.error.to_string());
            lines.extend(failed.error.hint);
            Err(lines.iter().map(|line| line.replace(&shown, "PREFIX")).collect())
        }
    }
}

/// Configurations and the line that nginx and we answer with.
const COMPLAINTS: &[(&str, &str)] = &[
    (
        "events { worker_connections 1; } http { server { listen 8080; } }",
        "1 worker_connections are not enough for 1 listening sockets",
    ),
    (
        "events {} http { map_hash_max_size 1;\nmap_hash_max_size 2; }",
        "\"map_hash_max_size\" directive is duplicate in PREFIX/conf/nginx.conf:2",
    ),
    ("foo;\nevents{}", "unknown directive \"foo\" in PREFIX/conf/nginx.conf:1"),
    ("events {}\nhttp { server {\n foo\n bar; } }", "unknown directive \"foo\" in PREFIX/conf/nginx.conf:4"),
    ("events {} http { set $a b; }", "\"set\" directive is not allowed here in PREFIX/conf/nginx.conf:1"),
    ("events {} http { server { set $a $b; } }", "unknown \"b\" variable"),
    ("events {} http { server { set a $b; } }", "invalid variable name \"a\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {} http { server { location / { return 200 \"a$\"; } } }",
        "invalid variable name in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location / { return 200 \"a${b\"; } } }",
        "the closing bracket in \"b\" variable is missing in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location / { root a b; } } }",
        "invalid number of arguments in \"root\" directive in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location / { root a;\nroot b; } } }",
        "\"root\" directive is duplicate in PREFIX/conf/nginx.conf:2",
    ),
    (
        "events {} http { server { location /a { alias /b; root /c; } } }",
        "\"root\" directive is duplicate, \"alias\" directive was specified earlier in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server {\nlocation / { }\nlocation / {\n }\n } }",
        "duplicate location \"/\" in PREFIX/conf/nginx.conf:3",
    ),
    (
        "events {} http { server { location = /a/ { location /b { } } } }",
        "location \"/b\" cannot be inside the exact location \"/a/\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location /a/ { location /b { } } } }",
        "location \"/b\" is outside location \"/a/\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location ~ ( { } } }",
        "pcre2_compile() failed: missing closing parenthesis in \"(\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location ~ a(b))c { } } }",
        "pcre2_compile() failed: unmatched closing parenthesis in \"a(b))c\" at \")c\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { listen 80; listen 80; } }",
        "a duplicate listen 0.0.0.0:80 in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { listen 80 default_server; } server { listen 80 default_server; } }",
        "a duplicate default server for 0.0.0.0:80 in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { listen 99999; } }",
        "invalid port in \"99999\" of the \"listen\" directive in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { listen 127.0.0.1:8080 foo; } }",
        "invalid parameter \"foo\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { keepalive_timeout x; } }",
        "\"keepalive_timeout\" directive invalid value in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { sendfile x; } }",
        "invalid value \"x\" in \"sendfile\" directive, it must be \"on\" or \"off\" in PREFIX/conf/nginx.conf:1",
    ),
    ("events {} http { error_page x /a; }", "invalid value \"x\" in PREFIX/conf/nginx.conf:1"),
    ("http { }", "no \"events\" section in configuration"),
    ("events {} events {}", "\"events\" directive is duplicate in PREFIX/conf/nginx.conf:1"),
    ("events {} http {} http {}", "\"http\" directive is duplicate in PREFIX/conf/nginx.conf:1"),
    (
        "worker_processes x; events {}",
        "\"worker_processes\" directive invalid value in PREFIX/conf/nginx.conf:1",
    ),
    ("error_log logs/e foo; events {}", "invalid log level \"foo\" in PREFIX/conf/nginx.conf:1"),
    ("events {} }", "unexpected \"}\" in PREFIX/conf/nginx.conf:1"),
    ("events {", "unexpected end of file, expecting \"}\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {}\nhttp { server \"a }",
        "unexpected end of file, expecting \";\" or \"}\" in PREFIX/conf/nginx.conf:2",
    ),
    ("events {} http { access_log \"a\"b; }", "unexpected \"b\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {}\n http { include nothere; }",
        "open() \"PREFIX/conf/nothere\" failed (2: No such file or directory) in PREFIX/conf/nginx.conf:2",
    ),
    ("events {} ; ", "unexpected \";\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {} http a { } ",
        "invalid number of arguments in \"http\" directive in PREFIX/conf/nginx.conf:1",
    ),
    ("events; ", "directive \"events\" has no opening \"{\" in PREFIX/conf/nginx.conf:1"),
    ("pid a { } ", "directive \"pid\" is not terminated by \";\" in PREFIX/conf/nginx.conf:1"),
    ("events {} http { server { return abc; } }", "invalid return code \"abc\" in PREFIX/conf/nginx.conf:1"),
    ("events {} http { server { rewrite a b c; } }", "invalid parameter \"c\" in PREFIX/conf/nginx.conf:1"),
    ("events {} http { server { if ($a) { } } }", "unknown \"a\" variable"),
    ("events {} http { server { if (a) { } } }", "invalid condition \"a\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {} http { server { if ($host = ) { } } }",
        "invalid condition \"$host\" in PREFIX/conf/nginx.conf:1",
    ),
    ("events {} http { server { if $host { } } }", "invalid condition \"$host\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {} http { server { if ($host ! a) { } } }",
        "unexpected \"!\" in condition in PREFIX/conf/nginx.conf:1",
    ),
    ("events {} http { access_log logs/x b; }", "unknown log format \"b\" in PREFIX/conf/nginx.conf:1"),
    ("events {} http { map $a b { } }", "invalid variable name \"b\" in PREFIX/conf/nginx.conf:1"),
    (
        "events {} http { map $host $b {\n a b;\n a c; } }",
        "conflicting parameter \"a\" in PREFIX/conf/nginx.conf:3",
    ),
    (
        "events {} http { server { location @a { alias /b; } } }",
        "the \"alias\" directive cannot be used inside the named location in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location ~~ c { } } }",
        "invalid location modifier \"~~\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { set $host a; } }",
        "the duplicate \"host\" variable in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} load_module x.so;",
        "\"load_module\" directive is specified too late in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location /a { try_files a =x; } } }",
        "invalid code \"=x\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { log_format a b; log_format a c; }",
        "duplicate \"log_format\" name \"a\" in PREFIX/conf/nginx.conf:1",
    ),
    (
        "events {} http { server { location /a { limit_except FOO { deny all; } } } }",
        "invalid method \"FOO\" in PREFIX/conf/nginx.conf:1",
    ),
];

#[test]
fn complaints_are_nginx_s_own() {
    for (text, expected) in COMPLAINTS {
        let said = load(text).map(|_| ()).expect_err(text);
        assert_eq!(said.first().map(String::as_str), Some(*expected), "{text}");
    }
}

#[test]
fn services_of_upstreams_are_checked() {
    for (server, expected) in [
        ("a.test service=http", "service upstream \"a.test\" requires \"resolve\" parameter"),
        ("a.test:80 service=http resolve", "service upstream \"a.test:80\" may not have port"),
        ("127.0.0.1 service=http resolve", "service upstream \"127.0.0.1\" requires domain name"),
        ("a.test service= resolve", "service is empty"),
    ] {
        let text = format!("events {{}} http {{ upstream u {{ zone u 64k; server {server}; }} }}");
        let said = load(&text).map(|_| ()).expect_err(server);
        assert!(said[0].starts_with(&format!("{expected} in ")), "{said:?}");
    }
}

#[test]
fn protocols_that_lines_of_one_address_disagree_about_are_told() {
    let warned = |lines: &[&str]| {
        let servers: String =
            lines.iter().map(|l| format!("server {{ listen 127.0.0.1:8080 {l}; }} ")).collect();
        let folder = Folder::new();
        // Nobody needs a certificate then.
        let text = format!("events {{}} http {{ ssl_reject_handshake on; {servers} }}");
        folder.write("conf/nginx.conf", &text);
        let loaded = conf::load(&folder.options()).unwrap_or_else(|_| panic!("{lines:?}"));
        let said = |(_, text): &(_, String)| text.contains("protocol options redefined for 127.0.0.1:8080");
        loaded.config.warnings.iter().filter(|w| said(w)).count()
    };
    // As nginx counts them.
    for (lines, expected) in [
        (&["proxy_protocol", ""][..], 0),
        (&["", "proxy_protocol"], 0),
        (&["proxy_protocol", "proxy_protocol"], 0),
        (&["proxy_protocol", "backlog=100"], 1),
        (&["backlog=100", "proxy_protocol"], 1),
        (&["backlog=100 proxy_protocol", ""], 0),
        (&["", "backlog=100 proxy_protocol", ""], 0),
        (&["proxy_protocol", "", "proxy_protocol"], 1),
        (&["", "proxy_protocol", "proxy_protocol"], 1),
        (&["", "", "proxy_protocol"], 0),
        (&["ssl", ""], 0),
        (&["", "ssl", "ssl"], 1),
        (&["ssl", "ssl proxy_protocol", "proxy_protocol"], 1),
        (&["ssl", "proxy_protocol"], 1),
    ] {
        assert_eq!(warned(lines), expected, "{lines:?}");
    }
}

/// As OpenResty says it.
#[test]
fn settings_of_encrypted_cosockets_are_checked_at_the_start() {
    let rows = [
        (
            "events {} http { lua_ssl_trusted_certificate /no/x.pem; }",
            "cannot load certificate \"/no/x.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/no/x.pem, r) error:10000080:BIO routines::no such file)",
        ),
        (
            "events {} http { lua_ssl_trusted_certificate part.conf; }",
            "cannot load certificate \"PREFIX/conf/part.conf\": PEM_read_bio_X509_AUX() failed (SSL: error:0480006C:PEM routines::no start line:Expecting: TRUSTED CERTIFICATE)",
        ),
        (
            "events {} http { lua_ssl_ciphers FOO; }",
            "SSL_CTX_set_cipher_list(\"FOO\") failed (SSL: error:0A0000B9:SSL routines::no cipher match)",
        ),
        (
            "events {} http { lua_ssl_protocols TLSv9; }",
            "invalid value \"TLSv9\" in PREFIX/conf/nginx.conf:1",
        ),
        (
            "events {} http { lua_ssl_verify_depth 1; lua_ssl_verify_depth 2; }",
            "\"lua_ssl_verify_depth\" directive is duplicate in PREFIX/conf/nginx.conf:1",
        ),
        (
            "events {} http { lua_ssl_certificate /no/x.pem; }",
            "no \"lua_ssl_certificate_key\" is defined for certificate \"/no/x.pem\"",
        ),
        (
            "events {} http { lua_ssl_crl /no/x.pem; }",
            "cannot load CRL \"/no/x.pem\": BIO_new_file() failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/no/x.pem, r) error:10000080:BIO routines::no such file)",
        ),
        ("events {} http { lua_ssl_key_log /no/dir/x; }", "open()(\"/no/dir/x\") failed"),
        (
            "events {} http { lua_ssl_verify_depth x; }",
            "\"lua_ssl_verify_depth\" directive invalid number in PREFIX/conf/nginx.conf:1",
        ),
        (
            "events {} http { lua_ssl_protocols SSLv3; }",
            "\"lua_ssl_protocols\" leaves no supported protocol in PREFIX/conf/nginx.conf:1",
        ),
    ];
    for (text, expected) in rows {
        let said = load(text).map(|_| ()).expect_err(text);
        assert_eq!(said.last().map(String::as_str), Some(expected), "{text}");
    }
    assert!(load("events {} http { lua_ssl_protocols TLSv1 TLSv1.2; lua_ssl_ciphers HIGH:!aNULL; }").is_ok());
}

/// As nginx says it.
#[test]
fn settings_of_encrypted_servers_are_checked_at_the_start() {
    let at = "in PREFIX/conf/nginx.conf:1";
    let listens = "server { listen 127.0.0.1:8443 ssl; }";
    for (text, expected) in [
        (listens.to_owned(), format!("no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive {at}")),
        (
            "server { listen 127.0.0.1:8443 ssl; ssl_certificate a.crt; }".to_owned(),
            "no \"ssl_certificate_key\" is defined for certificate \"a.crt\"".to_owned(),
        ),
        (
            format!("ssl_reject_handshake on; {listens} server {{ listen 127.0.0.1:8443; ssl_reject_handshake off; }}"),
            format!("no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive {at}"),
        ),
        ("ssl_session_cache foo;".to_owned(), format!("invalid session cache \"foo\" {at}")),
        ("ssl_session_cache shared:S;".to_owned(), format!("invalid session cache \"shared:S\" {at}")),
        ("ssl_session_cache shared:S:10k;".to_owned(), format!("session cache \"shared:S:10k\" is too small {at}")),
        (
            "ssl_session_cache shared:S:1m; server { ssl_session_cache shared:S:2m; }".to_owned(),
            format!("the size 2097152 of shared memory zone \"S\" conflicts with already declared size 1048576 {at}"),
        ),
        (
            "lua_shared_dict S 1m; ssl_session_cache shared:S:1m;".to_owned(),
            format!("the shared memory zone \"S\" is already declared for a different use {at}"),
        ),
        ("ssl_verify_client maybe;".to_owned(), format!("invalid value \"maybe\" {at}")),
        (
            "server { ssl_verify_client on; ssl_reject_handshake on; }".to_owned(),
            "no ssl_client_certificate or ssl_trusted_certificate for ssl_verify_client".to_owned(),
        ),
        (
            "server { ssl_ecdh_curve nope; ssl_reject_handshake on; }".to_owned(),
            "SSL_CTX_set1_curves_list(\"nope\") failed (SSL: error:0A080106:SSL routines::passed invalid argument:group 'nope' cannot be set)".to_owned(),
        ),
        ("ssl_session_ticket_key part.conf;".to_owned(), format!("\"PREFIX/conf/part.conf\" must be 48 or 80 bytes {at}")),
        (
            "ssl_session_ticket_key /no/key;".to_owned(),
            format!("open() \"/no/key\" failed (2: No such file or directory) {at}"),
        ),
        (
            "ssl_dhparam /no/dh;".to_owned(),
            "BIO_new_file(\"/no/dh\") failed (SSL: error:80000002:system library::No such file or directory:calling fopen(/no/dh, r) error:10000080:BIO routines::no such file)".to_owned(),
        ),
        (
            "server { location / { proxy_pass https://127.0.0.1; proxy_ssl_verify on; } }".to_owned(),
            "no proxy_ssl_trusted_certificate for proxy_ssl_verify".to_owned(),
        ),
        (
            "proxy_ssl_certificate a.crt; server { location / { proxy_pass https://127.0.0.1; } }".to_owned(),
            "no \"proxy_ssl_certificate_key\" is defined for certificate \"a.crt\"".to_owned(),
        ),
        ("server { location / { proxy_pass ftp://127.0.0.1; } }".to_owned(), format!("invalid URL prefix {at}")),
        ("ssl_certificate $ssl_server_name.crt;".to_owned(), format!("variables in \"ssl_certificate\" are not supported yet {at}")),
        ("server { listen 127.0.0.1:8443 ssl=on; }".to_owned(), format!("invalid parameter \"ssl=on\" {at}")),
    ] {
        let text = format!("events {{}} http {{ {text} }}");
        let said = load(&text).map(|_| ()).expect_err(&text);
        assert_eq!(said.last(), Some(&expected), "{text}");
    }
    // A default server's certificate serves for those without; a server that refuses all needs none.
    for text in [
        "server { listen 127.0.0.1:8443 ssl; ssl_reject_handshake on; }",
        "proxy_ssl_verify on; server { location / { proxy_pass http://127.0.0.1; } }",
        "ssl_reject_handshake on; server { listen 127.0.0.1:8443 ssl; ssl_session_cache builtin:0 shared:S:1m; }",
    ] {
        assert!(load(&format!("events {{}} http {{ {text} }}")).is_ok(), "{text}");
    }
}

#[test]
fn installed_nginx_says_the_same() {
    if Command::new("nginx").arg("-v").output().is_err() {
        eprintln!("SKIPPED: no nginx is installed to compare with");
        return;
    }
    let folder = Folder::new();
    let shown = folder.0.display().to_string();
    let mut wrong = Vec::new();
    for (text, expected) in COMPLAINTS {
        folder.write("conf/nginx.conf", text);
        let output = Command::new("nginx")
            .args(["-e", "stderr", "-t", "-c", "conf/nginx.conf", "-p"])
            .arg(folder.0.join(""))
            .output()
            .expect("nginx was there a moment ago");
        let said = String::from_utf8_lossy(&output.stderr).replace(&shown, "PREFIX");
        let line = said.lines().find_map(|line| line.split_once("[emerg] ")?.1.split_once(": "));
        if line.map(|(_, message)| message) != Some(*expected) {
            wrong.push(format!("{text}\n  ours:  {expected}\n  nginx: {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unknown_directive_has_a_hint_on_a_line_of_its_own() {
    let said = load("events {} http { server { lisen 80; } }").map(|_| ()).expect_err("unknown");
    assert_eq!(said, ["unknown directive \"lisen\" in PREFIX/conf/nginx.conf:1", "did you mean \"listen\"?"]);
    let said = load("events {} http { ssi on; }").map(|_| ()).expect_err("unsupported");
    assert_eq!(said[0], "unknown directive \"ssi\" in PREFIX/conf/nginx.conf:1");
    assert!(said[1].contains("known, but this server does not support it yet"), "{said:?}");
    let said =
        load("events {} http { ssl_certificate_by_lua_block { } }").map(|_| ()).expect_err("unsupported");
    assert_eq!(said[0], "unknown directive \"ssl_certificate_by_lua_block\" in PREFIX/conf/nginx.conf:1");
}

fn http(config: &Config) -> &HttpConf {
    config.http.as_ref().expect("there is an http block")
}

fn only_server(config: &Config) -> &Server {
    &http(config).servers[0]
}

fn found(config: &Config, uri: &str) -> String {
    let mut data = MatchData::new();
    match only_server(config).locations.find(uri.as_bytes(), &mut data) {
        None => "-".to_owned(),
        Some(found) => {
            let name = String::from_utf8_lossy(&found.location.name).into_owned();
            if found.by_pattern { format!("~{name} {:?}", data.get(1)) } else { name }
        }
    }
}

#[test]
fn locations_are_found_as_nginx_finds_them() {
    let config = load(
        "events {} http { server {
            location = / { }
            location / { }
            location /documents/ { location ~ \\.txt$ { } location /documents/deep/ { } }
            location ^~ /images/ { }
            location ~* \\.(gif|jpg)$ { }
            location ~ ^/(\\d+) { location ~ y$ { } }
            location @named { }
        } }",
    )
    .expect("loads");
    for (uri, expected) in [
        ("/", "/"),
        ("/index.html", "/"),
        ("/documents/a.html", "/documents/"),
        ("/documents/a.txt", "~\\.txt$ None"),
        ("/documents/a.jpg", "~\\.(gif|jpg)$ Some((13, 16))"),
        ("/documents/deep/x", "/documents/deep/"),
        ("/images/1.gif", "/images/"),
        ("/other/1.GIF", "~\\.(gif|jpg)$ Some((9, 12))"),
        ("/77x", "~^/(\\d+) Some((1, 3))"),
        ("/77y", "~y$ None"),
        ("/documents", "/"),
        ("nothing", "-"),
    ] {
        assert_eq!(found(&config, uri), expected, "{uri}");
    }
    assert!(only_server(&config).named.contains_key(&b"@named"[..]));
    assert!(only_server(&config).locations.find_with_slash(b"/documents").is_some());
}

#[test]
fn levels_inherit_what_they_do_not_give() {
    let config = load(
        "events {} http {
            send_timeout 5s; add_header A 1; add_header B 2; error_page 404 /404;
            access_by_lua_block { outer() }
            server {
                send_timeout 7s;
                location /a { add_header C 3; access_by_lua 'inner()'; error_page 500 /500; }
                location /b { send_timeout 1m; if ($arg_x) { lua_socket_read_timeout 9s; return 403; } }
            }
        }",
    )
    .expect("loads");
    let server = only_server(&config);
    let mut data = MatchData::new();
    let at = |uri: &str, data: &mut MatchData| {
        server.locations.find(uri.as_bytes(), data).expect("found").location
    };
    let (a, b) = (at("/a", &mut data), at("/b", &mut data));
    assert_eq!((server.level.send_timeout, a.send_timeout, b.send_timeout), (7_000, 7_000, 60_000));
    assert_eq!((a.add_headers.len(), b.add_headers.len()), (1, 2));
    assert_eq!((a.error_pages[0].codes[0], b.error_pages[0].codes[0]), (500, 404));
    let code = |location: &moonlit_server::conf::model::Location| {
        let code = location.lua.get(Phase::Access).expect("inherited or given").clone();
        match &code.source {
            LuaSource::Inline(text) => String::from_utf8_lossy(text).trim().to_owned(),
            LuaSource::File(_) => unreachable!("the code is inline"),
        }
    };
    assert_eq!((code(&a), code(&b)), ("inner()".to_owned(), "outer()".to_owned()));
    let RewriteOp::If { level, body, .. } = &b.rewrite[0] else { panic!("{:?}", b.rewrite) };
    assert_eq!((level.send_timeout, level.lua_socket_read_timeout), (60_000, 9_000));
    assert!(matches!(&body[..], [RewriteOp::Return(ret)] if ret.status == 403));
}

#[test]
fn lua_code_keeps_its_text_and_line() {
    let config = load(
        "events {} http { lua_shared_dict d 1m; init_by_lua_file a/init.lua; server {\n location / {\n  \
         content_by_lua_block {\n local t = {} -- }\n }\n  log_by_lua '\n x() '; } } }",
    )
    .expect("loads");
    let mut data = MatchData::new();
    let location = only_server(&config).locations.find(b"/", &mut data).expect("found").location;
    let Some(Content::Lua(code)) = &location.content else { panic!("{:?}", location.content) };
    assert_eq!(code.chunk_name, "=content_by_lua(nginx.conf:3)");
    assert!(matches!(&code.source, LuaSource::Inline(text) if **text == *b"\n local t = {} -- }\n "));
    let log = location.lua.get(Phase::Log).expect("given");
    assert_eq!(log.chunk_name, "=log_by_lua(nginx.conf:7)");
    let init = http(&config).lua.init.as_ref().expect("given");
    assert!(init.chunk_name.ends_with("/a/init.lua") && init.chunk_name.starts_with("@/"));
    assert_eq!(http(&config).lua.shared_dicts[0].size_bytes, 1 << 20);
    assert!(http(&config).lua.used[Phase::Log as usize] && !http(&config).lua.used[Phase::Access as usize]);
}

#[test]
fn server_is_chosen_by_name() {
    let config = load(
        "events {} http {
            server { listen 81; server_name first; }
            server { listen 81; server_name a.example .example.org; }
            server { listen 81; server_name *.a.example www.*; }
            server { listen 81; server_name ~^(?<user>\\w+)\\.net$; }
            server { listen 127.0.0.1:81; server_name local; }
        }",
    )
    .expect("loads");
    let http = http(&config);
    let listen = &http.listens[0];
    let mut data = MatchData::new();
    for (host, expected) in [
        ("first", "first"),
        ("nobody", "first"),
        ("a.example", "a.example"),
        ("example.org", "a.example"),
        ("x.example.org", "a.example"),
        ("y.a.example", "*.a.example"),
        ("www.com", "*.a.example"),
        ("joe.net", "~^(?<user>\\w+)\\.net$"),
    ] {
        assert_eq!(
            http.server_of(listen, listen.default_server, host.as_bytes(), &mut data).name,
            expected,
            "{host}"
        );
    }
    // The address of its own is served by the wildcard's socket.
    assert!(http.listens[0].bind && !http.listens[1].bind);
    let local = "127.0.0.1:81".parse().ok();
    assert_eq!(config.listen_of(0, local).expect("there").default_server, 4);
    assert_eq!(config.listen_of(0, "127.0.0.2:81".parse().ok()).expect("there").default_server, 0);
}

#[test]
fn include_takes_masks_and_any_context() {
    let config = load("events {} http { server { include part*.conf; include none*.conf; location / { include part.conf; } } }")
        .expect("loads");
    assert_eq!(only_server(&config).rewrite.len(), 1);
    assert_eq!(config.sources.len(), 2);
}

#[test]
fn mime_types_of_the_system_load() {
    let text = "events {} http { types { text/plain txt; application/json json JSON5; } default_type x/y; server { location / { } } }";
    let config = load(text).expect("loads");
    let level = &only_server(&config).level;
    assert_eq!(level.types.get(&b"json5"[..]).map(|mime| &**mime), Some(&b"application/json"[..]));
    assert!(!level.types.contains_key(&b"html"[..]), "a types block replaces the built-in ones");
}

#[test]
fn map_finds_exact_masks_patterns_default() {
    let config = load(
        "events {} http { map $host $m { hostnames; default d; a.com exact; *.a.com suffix; b.* prefix; ~^x(?<n>\\d)$ re$n; \\default esc; } server { } }",
    )
    .expect("loads");
    let map = &http(&config).maps[0];
    let mut data = MatchData::new();
    for (key, expected) in
        [("A.com", "exact"), ("x.a.com", "suffix"), ("b.org", "prefix"), ("zzz", "d"), ("default", "esc")]
    {
        let moonlit_server::conf::model::MapFound::Value(value) = map.find(key.as_bytes(), &mut data) else {
            panic!("{key}")
        };
        assert_eq!(value.as_literal(), Some(expected.as_bytes()), "{key}");
    }
    let found = map.find(b"x7", &mut data);
    assert!(
        matches!(found, moonlit_server::conf::model::MapFound::Pattern(pattern, _) if pattern.named.len() == 1)
    );
    assert_eq!(data.get(1), Some((1, 2)));
}

#[test]
fn lua_search_path_knows_the_prefix() {
    let config =
        load("events {} http { lua_package_path '$prefix/lua/?.lua;${prefix}/x.lua;;'; }").expect("loads");
    let path = String::from_utf8_lossy(&http(&config).lua.settings.lua_package_path).into_owned();
    let prefix = config.prefix.display().to_string();
    let prefix = prefix.trim_end_matches('/');
    assert_eq!(path, format!("{prefix}/lua/?.lua;{prefix}/x.lua;;"));
}

#[test]
fn log_format_joins_its_arguments_as_they_are() {
    let config =
        load("events {} http { log_format m '$uri' 'x $status' y; access_log logs/a m; }").expect("loads");
    let parts = http(&config).level.access_logs[0].format.script.parts().len();
    assert_eq!(parts, 4, "uri, literal, status, literal");
}

#[test]
fn flag_without_its_work_is_refused_when_on() {
    assert!(load("events {} http { proxy_pass_trailers off; }").is_ok());
    let said = load("events {} http { proxy_pass_trailers on; }").map(|_| ()).expect_err("refused");
    assert_eq!(said[0], "unknown directive \"proxy_pass_trailers\" in PREFIX/conf/nginx.conf:1");
    assert!(said[1].starts_with("\"proxy_pass_trailers on\" is known"), "{said:?}");
}

#[test]
fn older_event_types_start_with_a_warning() {
    let folder = Folder::new();
    folder.write("conf/nginx.conf", "events { use poll; } http {}");
    let loaded = conf::load(&folder.options()).unwrap_or_else(|failed| panic!("{}", failed.error));
    let said = &loaded.config.warnings[0].1;
    assert!(said.starts_with("event type \"poll\" is not built in, \"epoll\" is used in "), "{said}");
    assert!(load("events { use kqueue; } http {}").is_err());
}
