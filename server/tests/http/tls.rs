//! Encrypted cosockets as scripts see them: trust, names, sessions, pools, a client's own certificate.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::debug::line_with;
use super::{Server, body, start};

pub type Issuer = CertifiedIssuer<'static, KeyPair>;

pub fn issuer(name: &str) -> Issuer {
    let mut ca = CertificateParams::new(Vec::new()).expect("no names");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(ca, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// A certificate for `name`, and its key.
pub fn leaf(issuer: &Issuer, name: &str) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
    (params.signed_by(&key, issuer).expect("a certificate"), key)
}

/// A server that answers each line with itself over TLS, and a line `who` with the number of certificates that the client
/// showed. Its certificate is for `some.test`.
fn line_echo(issuer: &Issuer) -> u16 {
    let (cert, key) = leaf(issuer, "some.test");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut roots = RootCertStore::empty();
    roots.add(issuer.der().clone()).expect("a certificate");
    let provider = moonlit_server::tls::provider().clone();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .expect("a verifier");
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(clients)
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a key that fits");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        for s in listener.incoming() {
            let Ok(s) = s else { return };
            let config = config.clone();
            std::thread::spawn(move || {
                let conn = ServerConnection::new(config).expect("a configuration");
                let mut io = BufReader::new(StreamOwned::new(conn, s));
                let mut line = String::new();
                while matches!(io.read_line(&mut line), Ok(1..)) {
                    if line == "who\n" {
                        let shown = io.get_ref().conn.peer_certificates().map_or(0, <[_]>::len);
                        line = format!("{shown}\n");
                    }
                    if io.get_mut().write_all(line.as_bytes()).and_then(|()| io.get_mut().flush()).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    port
}

fn get(s: &Server, path: &str) -> String {
    body(&s.raw(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())).to_owned()
}

#[test]
fn scripts_speak_tls() {
    let ca = issuer("our issuer");
    let port = line_echo(&ca);
    let (own, own_key) = leaf(&ca, "client.test");
    let code = |body: &str| {
        format!(
            "content_by_lua_block {{
               local function connect()
                 local s = ngx.socket.tcp() s:settimeouts(20000, 20000, 20000)
                 assert(s:connect('127.0.0.1', {port}, {{pool = 'p'}}))
                 return s
               end
               local function ask(s, line) s:send(line .. '\\n') return s:receive() end
               {body}
             }}"
        )
    };
    let locations = [
        ("/plain", "", "local s = connect() ngx.say(s:getsslsession()) ngx.say(s:sslhandshake(false)) ngx.say(ask(s, 'hello')) ngx.say(ask(s, 'who'))"),
        (
            "/verify",
            "lua_ssl_trusted_certificate ca.pem;",
            "ngx.say(type(connect():sslhandshake(nil, 'some.test', true)))
             ngx.say(connect():sslhandshake(nil, 'other.test', true))
             ngx.say(connect():sslhandshake(false, 'other.test', false))",
        ),
        ("/stranger", "", "local s = connect() ngx.say(s:sslhandshake(nil, 'some.test', true)) ngx.say(s:send('x'))"),
        (
            "/session",
            "",
            "local s = connect()
             local session = s:sslhandshake(nil, 'some.test')
             ngx.say(type(session), ' ', type(s:getsslsession()), ' ', ask(s, 'one'))
             local t = connect()
             ngx.say(type(t:sslhandshake(session, 'some.test')), ' ', ask(t, 'two'))",
        ),
        (
            "/pool",
            "",
            "local s = connect() s:sslhandshake(nil, 'some.test') ask(s, 'one') ngx.say(s:setkeepalive())
             local t = connect() ngx.say(t:getreusedtimes(), ' ', t:sslhandshake(false, 'some.test'), ' ', ask(t, 'two'))
             ngx.say(('x'):rep(300000) == ask(t, ('x'):rep(300000)))",
        ),
        (
            "/own",
            "lua_ssl_certificate own.pem; lua_ssl_certificate_key own.key; lua_ssl_protocols TLSv1 TLSv1.2;
             lua_ssl_ciphers ECDHE+AESGCM;",
            "local s = connect() s:sslhandshake(nil, 'some.test') ngx.say(ask(s, 'who'))",
        ),
        (
            "/odd",
            "",
            "ngx.say(pcall(connect().sslhandshake))
             local s = connect() ngx.say(s:sslhandshake(nil, nil, nil, true)) s:close() ngx.say(s:sslhandshake())
             ngx.say(ngx.socket.tcp():getsslpointer())",
        ),
    ];
    let locations: String =
        locations.iter().map(|(at, set, lua)| format!("location {at} {{ {set} {} }}\n", code(lua))).collect();
    let s = start(
        &format!("server {{ listen 8080; {locations} }}"),
        &[("ca.pem", &ca.pem()), ("own.pem", &own.pem()), ("own.key", &own_key.serialize_pem())],
    );
    assert_eq!(get(&s, "/plain"), "nilno session\ntrue\nhello\n0\n");
    assert_eq!(get(&s, "/verify"), "userdata\nnilcertificate host mismatch\ntrue\n");
    assert_eq!(get(&s, "/stranger"), "nil20: unable to get local issuer certificate\nnilclosed\n");
    assert_eq!(get(&s, "/session"), "userdata userdata one\nuserdata two\n");
    assert_eq!(get(&s, "/pool"), "1\n1 true two\ntrue\n");
    assert_eq!(get(&s, "/own"), "1\n");
    assert_eq!(
        get(&s, "/odd"),
        "falsengx.socket sslhandshake: expecting 1 ~ 5 arguments (including the object), but seen 0\n\
         nilOCSP status requests are not supported yet\nnilclosed\nnilpointers of OpenSSL are not supported\n"
    );
    let log = s.error_log();
    line_with(&log, "lua ssl server name: \"some.test\"");
    line_with(&log, "SSL reused session");
    line_with(&log, "lua ssl certificate does not match host \"other.test\"");
    line_with(&log, "lua ssl certificate verify error: (20: unable to get local issuer certificate)");
    line_with(&log, "attempt to send data on a closed socket");
}
