//! Servers that speak TLS to their clients.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use moonlit_server::tls::verify::HasKey;
use rustls::client::Resumption;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned, SupportedProtocolVersion};

use super::tls::{Issuer, issuer, leaf};
use super::{Server, start};

const TLS12: &SupportedProtocolVersion = &rustls::version::TLS12;
const TLS13: &SupportedProtocolVersion = &rustls::version::TLS13;

/// A client of that version; with a certificate of its own, if one is given.
fn client(
    version: &'static SupportedProtocolVersion,
    own: Option<&(rcgen::Certificate, rcgen::KeyPair)>,
) -> ClientConfig {
    let provider = moonlit_server::tls::provider().clone();
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_protocol_versions(&[version]).expect("a version");
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(HasKey(provider)));
    match own {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
            builder.with_client_auth_cert(vec![cert.der().clone()], key).expect("a key that fits")
        }
    }
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(s: &Server, config: &ClientConfig, name: &str) -> Stream {
    let mut config = config.clone();
    config.enable_sni = name != "nobody.test";
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let socket = TcpStream::connect(s.addr).expect("the server listens");
    socket.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), socket)
}

/// One request, and all that comes until the other side says that it is the end.
fn ask(s: &Server, config: &ClientConfig, name: &str, request: &str) -> String {
    let mut io = connect(s, config, name);
    io.write_all(request.as_bytes()).expect("a handshake");
    let mut all = Vec::new();
    io.read_to_end(&mut all).expect("an end that is told");
    String::from_utf8_lossy(&all).into_owned()
}

fn get(s: &Server, config: &ClientConfig, name: &str, path: &str) -> String {
    let all = ask(s, config, name, &format!("GET {path} HTTP/1.0\r\nHost: {name}\r\n\r\n"));
    all.split_once("\r\n\r\n").map_or(all.clone(), |(_, body)| body.to_owned())
}

/// Waits until the log has a line with this text: some are written when the client knows already.
fn logged(s: &Server, text: &str) {
    let begun = std::time::Instant::now();
    while !s.error_log().contains(text) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no {text:?} in {}", s.error_log());
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Files {
    ca: Issuer,
    texts: Vec<(String, String)>,
}

impl Files {
    /// Certificates for these names, in `NAME.pem` and `NAME.key`, and the issuer's in `ca.pem`.
    fn of(names: &[&str]) -> Files {
        let ca = issuer("our issuer");
        let mut texts = vec![("ca.pem".to_owned(), ca.pem())];
        for name in names {
            let (cert, key) = leaf(&ca, &format!("{name}.test"));
            texts.push((format!("{name}.pem"), cert.pem()));
            texts.push((format!("{name}.key"), key.serialize_pem()));
        }
        Files { ca, texts }
    }

    fn start(&self, http: &str) -> Server {
        let files: Vec<(&str, &str)> = self.texts.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        start(http, &files)
    }
}

/// The line of `ssl_certificate` and the one of its key.
fn shown(name: &str) -> String {
    format!("ssl_certificate {name}.pem; ssl_certificate_key {name}.key;")
}

#[test]
fn names_choose_servers_and_variables_tell_of_the_connection() {
    let files = Files::of(&["a", "b"]);
    let says = "location / { return 200 '$server_name $scheme $https $ssl_protocol $ssl_cipher $ssl_curve $ssl_server_name $ssl_session_reused $ssl_client_verify'; }";
    let s = files.start(&format!(
        "{} ssl_ecdh_curve X25519:prime256v1;
         server {{ listen 8443 ssl; server_name a.test; {says}
           location /move {{ return 301 /there; }}
           location /copied {{ mirror /copy; content_by_lua_block {{ ngx.print('copied') }} }}
           location /copy {{ internal; content_by_lua_block {{ ngx.log(ngx.WARN, 'the copy came by ', ngx.var.scheme) }} }}
           location /offered {{ return 200 '$ssl_ciphers $ssl_curves'; }}
           location /slow {{ client_body_buffer_size 1m; content_by_lua_block {{
             ngx.req.read_body()
             for i = 1, 20 do ngx.print(('x'):rep(10000)) ngx.flush(true) ngx.sleep(0.001) end
             ngx.print(ngx.req.get_body_data()) }} }}
         }}
         server {{ listen 8443; server_name *.b.test; {} {says} }}",
        shown("a"),
        shown("b"),
    ));
    let (old, new) = (client(TLS12, None), client(TLS13, None));
    assert_eq!(
        get(&s, &new, "a.test", "/"),
        "a.test https on TLSv1.3 TLS_AES_256_GCM_SHA384 X25519 a.test . NONE"
    );
    assert_eq!(
        get(&s, &old, "x.b.test", "/"),
        "*.b.test https on TLSv1.2 ECDHE-ECDSA-AES256-GCM-SHA384 X25519 x.b.test . NONE"
    );
    assert_eq!(
        get(&s, &new, "nobody.test", "/"),
        "a.test https on TLSv1.3 TLS_AES_256_GCM_SHA384 X25519  . NONE"
    );
    assert!(
        get(&s, &new, "a.test", "/offered").starts_with("TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:")
    );
    get(&s, &new, "a.test", "/copied");
    let moved = ask(&s, &new, "a.test", "GET /move HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let port = s.addr.port();
    assert!(moved.contains(&format!("Location: https://a.test:{port}/there\r\n")), "{moved}");
    let body = "y".repeat(300_000);
    let request = format!(
        "POST /slow HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let answer = ask(&s, &new, "a.test", &request);
    assert_eq!(answer.matches("xxxxxxxxxx").count(), 20_000);
    assert_eq!(answer.matches("yyyyyyyyyy").count(), 30_000);
    logged(&s, "the copy came by https");
    // The certificate that is shown is that of the name.
    for (name, owner) in [("a.test", "a.test"), ("x.b.test", "b.test"), ("nobody.test", "a.test")] {
        let mut io = connect(&s, &new, name);
        io.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .expect("a handshake");
        let mut all = String::new();
        io.read_to_string(&mut all).expect("an end that is told");
        assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
        let cert = &io.conn.peer_certificates().expect("a certificate")[0];
        assert!(moonlit_server::tls::verify::check_name(cert, owner), "{name}");
    }
}

#[test]
fn sessions_go_on_where_they_are_kept() {
    let files = Files::of(&["a"]);
    for (kept, settings) in [
        (true, ""),
        (false, "ssl_session_tickets off;"),
        (true, "ssl_session_tickets off; ssl_session_cache builtin:10;"),
        (true, "ssl_session_tickets off; ssl_session_cache builtin shared:S:1m;"),
    ] {
        let s = files.start(&format!(
            "server {{ listen 8443 ssl; {} {settings} location / {{ return 200 $ssl_session_reused; }} }}",
            shown("a")
        ));
        for version in [TLS12, TLS13] {
            let mut config = client(version, None);
            config.resumption = Resumption::in_memory_sessions(8);
            assert_eq!(get(&s, &config, "a.test", "/"), ".", "{settings}");
            assert_eq!(
                get(&s, &config, "a.test", "/"),
                if kept { "r" } else { "." },
                "{settings} {version:?}"
            );
        }
    }
}

#[test]
fn clients_show_certificates_where_they_have_to() {
    let files = Files::of(&["a"]);
    let stranger = issuer("a stranger");
    let (own, foreign) = (leaf(&files.ca, "client.test"), leaf(&stranger, "client.test"));
    let says = "location / { return 200 '$ssl_client_verify|$ssl_client_s_dn|$ssl_client_i_dn|$ssl_client_serial'; }";
    let s = files.start(&format!(
        "{} ssl_client_certificate ca.pem;
         server {{ listen 8443 ssl; server_name on.test; ssl_verify_client on; {says} }}
         server {{ listen 8443 ssl; server_name optional.test; ssl_verify_client optional; {says} }}
         server {{ listen 8443 ssl; server_name any.test; ssl_verify_client optional_no_ca; {says} }}
         server {{ listen 8443 ssl; server_name off.test; {says} }}",
        shown("a"),
    ));
    for version in [TLS12, TLS13] {
        let config = |who| client(version, who);
        let told = |who, name: &str| get(&s, &config(who), name, "/");
        let good = told(Some(&own), "on.test");
        assert!(good.starts_with("SUCCESS|CN=rcgen self signed cert|CN=our issuer"), "{good}");
        assert_eq!(told(Some(&own), "optional.test"), good);
        assert_eq!(told(None, "optional.test"), "NONE|||");
        assert!(told(None, "on.test").contains("<center>No required SSL certificate was sent</center>"));
        for name in ["on.test", "optional.test"] {
            assert!(told(Some(&foreign), name).contains("<center>The SSL certificate error</center>"));
        }
        let any = told(Some(&foreign), "any.test");
        assert!(any.starts_with("FAILED:unable to get local issuer certificate|"), "{any}");
        assert_eq!(told(Some(&own), "off.test"), "NONE|||");
        // A certificate is asked for by the name of the handshake.
        let request = "GET / HTTP/1.0\r\nHost: on.test\r\n\r\n";
        assert!(ask(&s, &config(None), "off.test", request).starts_with("HTTP/1.1 421 Misdirected Request"));
        assert!(ask(&s, &config(None), "nobody.test", request).starts_with("HTTP/1.1 400 Bad Request"));
    }
    logged(&s, "client sent no required SSL certificate while reading client request headers");
    logged(&s, "client SSL certificate verify error: (20:unable to get local issuer certificate)");
    logged(&s, "client attempted to request the server name different from the one that was negotiated");
}

/// All that comes until the end, of a connection that speaks as it likes.
fn raw(s: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut io = TcpStream::connect(s.addr).expect("the server listens");
    io.set_read_timeout(Some(Duration::from_secs(30))).expect("a time");
    // The server may have had enough before all is sent.
    let _ = io.write_all(bytes);
    let mut all = Vec::new();
    match io.read_to_end(&mut all) {
        Ok(_) => all,
        Err(e) if e.kind() == ErrorKind::ConnectionReset => all,
        Err(e) => panic!("{e}"),
    }
}

#[test]
fn what_is_no_handshake_is_answered_or_ended() {
    let files = Files::of(&["a"]);
    let s = files.start(&format!(
        "client_header_timeout 500ms; {}
         server {{ listen 8443 ssl; error_page 497 https://$host$request_uri; }}
         server {{ listen 8443 ssl; server_name plain.test; }}
         server {{ listen 8443 ssl; server_name no.test; ssl_reject_handshake on; }}",
        shown("a")
    ));
    let text = |bytes: &[u8]| String::from_utf8_lossy(&raw(&s, bytes)).into_owned();
    let moved = text(b"GET /x?y HTTP/1.0\r\nHost: h\r\n\r\n");
    assert!(moved.starts_with("HTTP/1.1 302") && moved.contains("Location: https://h/x?y\r\n"), "{moved}");
    let page = text(b"GET / HTTP/1.0\r\nHost: plain.test\r\n\r\n");
    assert!(page.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{page}");
    assert!(page.contains("<center>The plain HTTP request was sent to HTTPS port</center>"), "{page}");
    // An alert, or nothing: the end comes in any case.
    for bytes in [
        &b"\x16\x03\x01\x00\x05hello"[..],
        b"\x80\x2e\x01",
        b"\x16",
        b"\x16\x03\x01\xff\xff\x01",
        &[0xff; 70_000],
    ] {
        let got = raw(&s, bytes);
        assert!(got.is_empty() || got[0] == 21, "{got:?}");
    }
    let mut io = connect(&s, &client(TLS13, None), "no.test");
    let refused = io.write_all(b"GET / HTTP/1.0\r\n\r\n").and_then(|()| io.read_to_end(&mut Vec::new()));
    assert!(refused.expect_err("no handshake").to_string().contains("UnrecognisedName"));
    logged(&s, "client sent plain HTTP request to HTTPS port while reading client request headers");
    logged(&s, "handshake rejected while SSL handshaking, client: 127.0.0.1");
    logged(&s, "client timed out (110: Connection timed out) while SSL handshaking, client: 127.0.0.1");
    logged(&s, "SSL_do_handshake() failed (SSL: ");
}

#[test]
fn a_proxys_header_precedes_the_handshake() {
    let files = Files::of(&["a"]);
    let s = files.start(&format!(
        "server {{ listen 8443 ssl proxy_protocol; {}
           location / {{ return 200 '$proxy_protocol_addr $ssl_protocol'; }} }}",
        shown("a")
    ));
    for apart in [false, true] {
        let mut io = connect(&s, &client(TLS13, None), "a.test");
        io.sock.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 1234 443\r\n").expect("sent");
        if apart {
            std::thread::sleep(Duration::from_millis(50));
        }
        io.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a handshake");
        let mut all = String::new();
        io.read_to_string(&mut all).expect("an end that is told");
        assert!(all.ends_with("\r\n\r\n192.0.2.7 TLSv1.3"), "{all}");
    }
}

#[test]
fn requests_are_passed_on_over_tls() {
    let files = Files::of(&["up", "own"]);
    let back = files.start(&format!(
        "{} ssl_client_certificate ca.pem; ssl_verify_client optional;
         server {{ listen 8443 ssl; server_name up.test; location / {{ client_body_buffer_size 1m; content_by_lua_block {{
           ngx.req.read_body()
           local v = ngx.var
           local said = ngx.req.get_body_data() or ''
           ngx.print(table.concat({{v.ssl_server_name or '-', v.http_host, v.ssl_protocol, v.ssl_client_verify,
                                   v.ssl_session_reused, v.connection_requests, #said}}, ' ')) }} }}
           location /big {{ content_by_lua_block {{ for i = 1, 100 do ngx.print(('x'):rep(20000)) end }} }} }}",
        shown("up")
    ));
    let plain = files.start("server { listen 8080; location / { return 200 plain; } }");
    let (to, other) = (back.addr.port(), plain.addr.port());
    let front = files.start(&format!(
        "error_log logs/error.log debug; server {{ listen 8080; proxy_ssl_protocols TLSv1.2 TLSv1.3;
         location /plain {{ proxy_pass https://127.0.0.1:{to}/; proxy_ssl_session_reuse off; }}
         location /named {{ proxy_pass https://127.0.0.1:{to}/; proxy_ssl_server_name on; proxy_ssl_name up.test:1;
           proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem; proxy_set_header Host up.test; }}
         location /own {{ proxy_pass https://127.0.0.1:{to}/; proxy_ssl_protocols TLSv1.2;
           proxy_ssl_certificate own.pem; proxy_ssl_certificate_key own.key; }}
         location /kept {{ proxy_pass https://kept/; }}
         location /big {{ proxy_pass https://127.0.0.1:{to}; }}
         location /slowly {{ proxy_pass https://127.0.0.1:{to}/big; proxy_buffering off; }}
         location /var {{ set $to https://127.0.0.1:{to}; proxy_pass $to; }}
         location /stranger {{ proxy_pass https://127.0.0.1:{to}/; proxy_ssl_verify on; proxy_ssl_trusted_certificate own.pem; }}
         location /misnamed {{ proxy_pass https://127.0.0.1:{to}/; proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem; }}
         location /deaf {{ proxy_pass https://127.0.0.1:{other}/; }}
         }}
         upstream kept {{ server 127.0.0.1:{to}; keepalive 4; }}"
    ));
    let ask = |request: String| String::from_utf8_lossy(&raw(&front, request.as_bytes())).into_owned();
    let get = |path: &str| {
        let all = ask(format!("GET {path} HTTP/1.0\r\n\r\n"));
        all.split_once("\r\n\r\n").map_or(all.clone(), |(_, body)| body.to_owned())
    };
    let host = format!("127.0.0.1:{to}");
    for _ in 0..2 {
        assert_eq!(get("/plain"), format!("- {host} TLSv1.3 NONE . 1 0"));
    }
    assert_eq!(get("/named"), "up.test up.test TLSv1.3 NONE . 1 0");
    assert_eq!(get("/named"), "up.test up.test TLSv1.3 NONE r 1 0");
    assert_eq!(get("/own"), format!("- {host} TLSv1.2 SUCCESS . 1 0"));
    assert_eq!(get("/own"), format!("- {host} TLSv1.2 SUCCESS r 1 0"));
    assert_eq!(get("/var"), format!("- {host} TLSv1.3 NONE . 1 0"));
    for n in 1..4 {
        assert_eq!(get("/kept"), format!("- kept TLSv1.3 NONE . {n} 0"));
    }
    let body = "y".repeat(500_000);
    let posted = ask(format!("POST /kept HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
    assert!(posted.ends_with(&format!("- kept TLSv1.3 NONE . 4 {}", body.len())), "{posted}");
    assert_eq!((get("/big").len(), get("/slowly").len()), (2_000_000, 2_000_000));
    for path in ["/stranger", "/misnamed", "/deaf"] {
        assert!(
            ask(format!("GET {path} HTTP/1.0\r\n\r\n")).starts_with("HTTP/1.1 502 Bad Gateway"),
            "{path}"
        );
    }
    logged(&front, "upstream SSL server name: \"up.test\"");
    logged(
        &front,
        "upstream SSL certificate verify error: (20:unable to get local issuer certificate) while SSL handshaking to upstream, client: 127.0.0.1",
    );
    logged(
        &front,
        &format!(
            "upstream SSL certificate does not match \"127.0.0.1\" while SSL handshaking to upstream, client: 127.0.0.1, server: , request: \"GET /misnamed HTTP/1.0\", upstream: \"https://127.0.0.1:{to}/\""
        ),
    );
    logged(&front, "SSL_do_handshake() failed (SSL: ");
}
