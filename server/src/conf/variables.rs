//! Variables and scripts: `$name` resolved at configuration time.
//!
//! A string with variables becomes a `Script`, a list of literals, variable
//! numbers and captures. Whoever evaluates one hands in a `Variables`, the
//! source of values; what a variable means is the request's business, not ours.

use std::collections::HashMap;
use std::sync::Arc;

use crate::regex::Regex;

/// Number of a variable used in the configuration; index into `VarTable::defs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VarId(u32);

impl VarId {
    /// The number, for arrays with one slot per variable.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// How a variable gets its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VarKind {
    /// Computed by the server on demand: `$host`, `$request_uri`.
    Builtin(Builtin),
    /// A family with the rest of the name behind the prefix: `$http_user_agent`.
    Family(Family),
    /// A slot filled by `set`, named captures and Lua.
    User,
    /// Computed by the `map` with this index in `HttpConf::maps`.
    Map(usize),
    /// Computed by the `geo` with this index in `HttpConf::geos`.
    Geo(usize),
    /// Computed by the `split_clients` with this index in `HttpConf::splits`.
    Split(usize),
    /// Known, and without a value: see [`ABSENT`].
    Absent,
}

/// What has been declared about one variable.
#[derive(Clone, Debug)]
pub struct VarDef {
    /// Name in lower case, without `$`.
    pub name: String,
    /// Where the value comes from.
    pub kind: VarKind,
    /// Whether a `set` or `set_by_lua*` anywhere assigns it: then it is empty, not absent, before.
    pub assigned: bool,
}

macro_rules! builtins {
    ($( $variant:ident $name:literal $write:ident; )*) => {
        /// A variable that the server computes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Builtin {
            $( #[doc = concat!("`$", $name, "`.")] $variant, )*
        }

        impl Builtin {
            /// The variable of this name (lower case).
            pub fn of(name: &str) -> Option<Builtin> {
                match name { $( $name => Some(Builtin::$variant), )* _ => None }
            }

            /// The name, without `$`.
            pub fn name(self) -> &'static str {
                match self { $( Builtin::$variant => $name, )* }
            }

            /// Whether `set` and Lua may assign it.
            pub fn writable(self) -> bool {
                match self { $( Builtin::$variant => builtins!(@ $write), )* }
            }
        }
    };
    (@ ro) => { false };
    (@ rw) => { true };
}

builtins! {
    Args "args" rw;
    BinaryRemoteAddr "binary_remote_addr" ro;
    BodyBytesSent "body_bytes_sent" ro;
    BytesSent "bytes_sent" ro;
    Connection "connection" ro;
    ConnectionRequests "connection_requests" ro;
    ConnectionTime "connection_time" ro;
    ConnectionsActive "connections_active" ro;
    ConnectionsReading "connections_reading" ro;
    ConnectionsWaiting "connections_waiting" ro;
    ConnectionsWriting "connections_writing" ro;
    ContentLength "content_length" ro;
    ContentType "content_type" ro;
    DateGmt "date_gmt" ro;
    DateLocal "date_local" ro;
    DocumentRoot "document_root" ro;
    DocumentUri "document_uri" ro;
    EchoCacheableRequestUri "echo_cacheable_request_uri" ro;
    EchoClientRequestHeaders "echo_client_request_headers" ro;
    EchoClientRequestMethod "echo_client_request_method" ro;
    EchoIncr "echo_incr" ro;
    EchoIt "echo_it" ro;
    EchoRequestBody "echo_request_body" ro;
    EchoRequestMethod "echo_request_method" ro;
    EchoRequestUri "echo_request_uri" ro;
    EchoResponseStatus "echo_response_status" ro;
    EchoTimerElapsed "echo_timer_elapsed" ro;
    GzipRatio "gzip_ratio" ro;
    Host "host" ro;
    Hostname "hostname" ro;
    Http2 "http2" ro;
    Http3 "http3" ro;
    Https "https" ro;
    InvalidReferer "invalid_referer" ro;
    IsArgs "is_args" ro;
    IsRequestPort "is_request_port" ro;
    LimitConnStatus "limit_conn_status" ro;
    LimitRate "limit_rate" rw;
    LimitReqStatus "limit_req_status" ro;
    Msec "msec" ro;
    Msie "msie" ro;
    NginxVersion "nginx_version" ro;
    Pid "pid" ro;
    Pipe "pipe" ro;
    ProxyAddXForwardedFor "proxy_add_x_forwarded_for" ro;
    ProxyHost "proxy_host" ro;
    ProxyPort "proxy_port" ro;
    ProxyProtocolAddr "proxy_protocol_addr" ro;
    ProxyProtocolPort "proxy_protocol_port" ro;
    ProxyProtocolServerAddr "proxy_protocol_server_addr" ro;
    ProxyProtocolServerPort "proxy_protocol_server_port" ro;
    QueryString "query_string" ro;
    RealipRemoteAddr "realip_remote_addr" ro;
    RealipRemotePort "realip_remote_port" ro;
    RealpathRoot "realpath_root" ro;
    RemoteAddr "remote_addr" ro;
    RemotePort "remote_port" ro;
    RemoteUser "remote_user" ro;
    Request "request" ro;
    RequestBody "request_body" ro;
    RequestBodyFile "request_body_file" ro;
    RequestCompletion "request_completion" ro;
    RequestFilename "request_filename" ro;
    RequestId "request_id" ro;
    RequestLength "request_length" ro;
    RequestMethod "request_method" ro;
    RequestPort "request_port" ro;
    RequestTime "request_time" ro;
    RequestUri "request_uri" ro;
    Scheme "scheme" ro;
    SecureLink "secure_link" ro;
    SecureLinkExpires "secure_link_expires" ro;
    ServerAddr "server_addr" ro;
    ServerName "server_name" ro;
    ServerPort "server_port" ro;
    ServerProtocol "server_protocol" ro;
    SslAlpnProtocol "ssl_alpn_protocol" ro;
    SslCipher "ssl_cipher" ro;
    SslCiphers "ssl_ciphers" ro;
    SslClientCert "ssl_client_cert" ro;
    SslClientEscapedCert "ssl_client_escaped_cert" ro;
    SslClientFingerprint "ssl_client_fingerprint" ro;
    SslClientIDn "ssl_client_i_dn" ro;
    SslClientIDnLegacy "ssl_client_i_dn_legacy" ro;
    SslClientRawCert "ssl_client_raw_cert" ro;
    SslClientSDn "ssl_client_s_dn" ro;
    SslClientSDnLegacy "ssl_client_s_dn_legacy" ro;
    SslClientSerial "ssl_client_serial" ro;
    SslClientVEnd "ssl_client_v_end" ro;
    SslClientVRemain "ssl_client_v_remain" ro;
    SslClientVStart "ssl_client_v_start" ro;
    SslClientVerify "ssl_client_verify" ro;
    SslCurve "ssl_curve" ro;
    SslCurves "ssl_curves" ro;
    SslProtocol "ssl_protocol" ro;
    SslServerName "ssl_server_name" ro;
    SslSessionReused "ssl_session_reused" ro;
    Status "status" ro;
    TcpinfoRcvSpace "tcpinfo_rcv_space" ro;
    TcpinfoRtt "tcpinfo_rtt" ro;
    TcpinfoRttvar "tcpinfo_rttvar" ro;
    TcpinfoSndCwnd "tcpinfo_snd_cwnd" ro;
    TimeIso8601 "time_iso8601" ro;
    TimeLocal "time_local" ro;
    UpstreamAddr "upstream_addr" ro;
    UpstreamBytesReceived "upstream_bytes_received" ro;
    UpstreamBytesSent "upstream_bytes_sent" ro;
    UpstreamCacheStatus "upstream_cache_status" ro;
    UpstreamConnectTime "upstream_connect_time" ro;
    UpstreamHeaderTime "upstream_header_time" ro;
    UpstreamResponseLength "upstream_response_length" ro;
    UpstreamResponseTime "upstream_response_time" ro;
    UpstreamStatus "upstream_status" ro;
    Uri "uri" ro;
}

/// Variables of TLS and of caches that never have a value here: a format that is made for those, too, writes `-`.
pub const ABSENT: &[&str] = &[
    "ssl_client_sigalg",
    "ssl_early_data",
    "ssl_ech_outer_server_name",
    "ssl_ech_status",
    "ssl_session_id",
    "ssl_sigalg",
    "ssl_sigalgs",
    "upstream_cache_etag",
    "upstream_cache_last_modified",
];

/// A family of variables with a common prefix. The rest of the name is `name[prefix.len()..]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// `$http_NAME`: a request header.
    Http,
    /// `$sent_http_NAME`: a response header.
    SentHttp,
    /// `$sent_trailer_NAME`: a response trailer.
    SentTrailer,
    /// `$cookie_NAME`: a request cookie.
    Cookie,
    /// `$arg_NAME`: a query argument.
    Arg,
    /// `$upstream_http_NAME`: a header of the upstream's response.
    UpstreamHttp,
    /// `$upstream_cookie_NAME`: a cookie of the upstream's response.
    UpstreamCookie,
    /// `$upstream_trailer_NAME`: a trailer of the upstream's response.
    UpstreamTrailer,
    /// `$proxy_protocol_tlv_NAME`: an entry of the PROXY protocol's header.
    ProxyProtocolTlv,
}

const FAMILIES: &[(&str, Family)] = &[
    ("http_", Family::Http),
    ("sent_http_", Family::SentHttp),
    ("sent_trailer_", Family::SentTrailer),
    ("cookie_", Family::Cookie),
    ("arg_", Family::Arg),
    ("upstream_http_", Family::UpstreamHttp),
    ("upstream_cookie_", Family::UpstreamCookie),
    ("upstream_trailer_", Family::UpstreamTrailer),
    ("proxy_protocol_tlv_", Family::ProxyProtocolTlv),
];

impl Family {
    /// The family that a name belongs to, and the rest of the name.
    pub fn of(name: &str) -> Option<(Family, &str)> {
        FAMILIES.iter().find_map(|(prefix, family)| Some((*family, name.strip_prefix(prefix)?)))
    }
}

/// Every variable that the configuration names.
#[derive(Debug, Default)]
pub struct VarTable {
    ids: HashMap<String, VarId>,
    defs: Vec<VarDef>,
    declared: Vec<bool>,
}

/// Why a variable cannot be declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOnly;

impl VarTable {
    /// How many variables there are: the number of slots a request needs.
    pub fn len(&self) -> usize {
        self.defs.len()
    }

    /// Whether the configuration names no variable.
    pub fn is_empty(&self) -> bool {
        self.defs.is_empty()
    }

    /// What is known about a variable.
    pub fn def(&self, id: VarId) -> &VarDef {
        &self.defs[id.index()]
    }

    /// The variable of this name (lower case), if the configuration names it.
    pub fn find(&self, name: &str) -> Option<VarId> {
        self.ids.get(name).copied()
    }

    /// The number of a variable that a directive reads; made known when new.
    pub fn refer(&mut self, name: &str) -> VarId {
        let name = name.to_ascii_lowercase();
        if let Some(id) = self.ids.get(&name) {
            return *id;
        }
        let kind = if let Some(builtin) = Builtin::of(&name) {
            Some(VarKind::Builtin(builtin))
        } else if ABSENT.contains(&&*name) {
            Some(VarKind::Absent)
        } else {
            Family::of(&name).map(|(family, _)| VarKind::Family(family))
        };
        let id = VarId(u32::try_from(self.defs.len()).expect("fewer than 2^32 variables"));
        self.ids.insert(name.clone(), id);
        self.declared.push(kind.is_some());
        self.defs.push(VarDef { name, kind: kind.unwrap_or(VarKind::User), assigned: false });
        id
    }

    /// Declares a variable that a directive assigns. Fails for those which only the server computes.
    pub fn declare(&mut self, name: &str, kind: VarKind) -> Result<VarId, ReadOnly> {
        let id = self.refer(name);
        let def = &mut self.defs[id.index()];
        match def.kind {
            VarKind::Builtin(builtin) if !builtin.writable() => return Err(ReadOnly),
            VarKind::Absent => return Err(ReadOnly),
            VarKind::Builtin(_) => {}
            VarKind::Family(_) | VarKind::User | VarKind::Map(_) | VarKind::Geo(_) | VarKind::Split(_) => {
                // `set` on a map's variable leaves the map's value as the one before the first `set`.
                if !(self.declared[id.index()] && kind == VarKind::User) {
                    def.kind = kind;
                }
            }
        }
        self.declared[id.index()] = true;
        Ok(id)
    }

    /// Notes that a script assigns the variable.
    pub fn mark_assigned(&mut self, id: VarId) {
        self.defs[id.index()].assigned = true;
    }

    /// The first variable that is read but nowhere declared.
    pub fn undeclared(&self) -> Option<&str> {
        let at = self.declared.iter().position(|declared| !declared)?;
        Some(&self.defs[at].name)
    }
}

/// Where a script's values come from.
pub trait Variables {
    /// Appends the variable's value to `out`. False when it has none ("not found").
    fn variable(&mut self, id: VarId, out: &mut Vec<u8>) -> bool;

    /// Appends the text of capture group `n` of the last match. False when it took no part.
    fn capture(&mut self, n: usize, out: &mut Vec<u8>) -> bool;
}

/// No variables and no captures: evaluates literals.
pub struct NoVariables;

impl Variables for NoVariables {
    fn variable(&mut self, _id: VarId, _out: &mut Vec<u8>) -> bool {
        false
    }

    fn capture(&mut self, _n: usize, _out: &mut Vec<u8>) -> bool {
        false
    }
}

/// A piece of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes taken as they are.
    Literal(Box<[u8]>),
    /// A variable's value.
    Var(VarId),
    /// `$1` ... `$9`.
    Capture(u8),
}

/// A string with variables, ready to be evaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script {
    parts: Vec<Part>,
}

/// Why a string with variables does not compile. The texts are nginx's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScriptError {
    /// A `$` without a name behind it.
    InvalidName,
    /// `${name` without `}`.
    MissingBracket(String),
}

impl std::fmt::Display for ScriptError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ScriptError::InvalidName => f.write_str("invalid variable name"),
            ScriptError::MissingBracket(name) => {
                write!(f, "the closing bracket in \"{name}\" variable is missing")
            }
        }
    }
}

impl Script {
    /// A script that always gives these bytes.
    pub fn literal(text: &[u8]) -> Script {
        let parts = if text.is_empty() { Vec::new() } else { vec![Part::Literal(text.into())] };
        Script { parts }
    }

    /// Compiles `text`; names are made known to `vars`.
    pub fn compile(text: &[u8], vars: &mut VarTable) -> Result<Script, ScriptError> {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut at = 0;
        while at < text.len() {
            if text[at] != b'$' {
                literal.push(text[at]);
                at += 1;
                continue;
            }
            at += 1;
            if let Some(digit @ b'1'..=b'9') = text.get(at) {
                flush(&mut literal, &mut parts);
                parts.push(Part::Capture(digit - b'0'));
                at += 1;
                continue;
            }
            let bracket = text.get(at) == Some(&b'{');
            if bracket {
                at += 1;
            }
            let start = at;
            while text.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                at += 1;
            }
            let name = std::str::from_utf8(&text[start..at]).expect("letters, digits and _ are ASCII");
            if bracket {
                if text.get(at) != Some(&b'}') {
                    return Err(ScriptError::MissingBracket(name.to_owned()));
                }
                at += 1;
            }
            if name.is_empty() {
                return Err(ScriptError::InvalidName);
            }
            flush(&mut literal, &mut parts);
            parts.push(match name.as_bytes() {
                [digit @ b'1'..=b'9'] => Part::Capture(digit - b'0'),
                _ => Part::Var(vars.refer(name)),
            });
        }
        flush(&mut literal, &mut parts);
        Ok(Script { parts })
    }

    /// The pieces, in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The bytes of a script without variables and captures.
    pub fn as_literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(&[]),
            [Part::Literal(bytes)] => Some(bytes),
            _ => None,
        }
    }

    /// Whether the script is the empty string.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Whether the script reads `$1`...`$9`.
    pub fn uses_captures(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Capture(_)))
    }

    /// Appends the value to `out`. What has no value adds nothing.
    pub fn eval(&self, from: &mut dyn Variables, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Literal(bytes) => out.extend_from_slice(bytes),
                Part::Var(id) => {
                    from.variable(*id, out);
                }
                Part::Capture(n) => {
                    from.capture(usize::from(*n), out);
                }
            }
        }
    }

    /// The value as a string of its own.
    pub fn text(&self, from: &mut dyn Variables) -> Vec<u8> {
        let mut out = Vec::new();
        self.eval(from, &mut out);
        out
    }

    /// Puts another script behind.
    pub fn append(&mut self, more: Script) {
        for part in more.parts {
            match (self.parts.last_mut(), part) {
                (Some(Part::Literal(last)), Part::Literal(bytes)) => {
                    *last = [&**last, &*bytes].concat().into()
                }
                (_, part) => self.parts.push(part),
            }
        }
    }

    /// Puts bytes in front, as a prefix directory of a path.
    pub fn prepend(&mut self, bytes: &[u8]) {
        if let Some(Part::Literal(first)) = self.parts.first_mut() {
            *first = [bytes, first].concat().into();
        } else if !bytes.is_empty() {
            self.parts.insert(0, Part::Literal(bytes.into()));
        }
    }
}

fn flush(literal: &mut Vec<u8>, parts: &mut Vec<Part>) {
    if !literal.is_empty() {
        parts.push(Part::Literal(std::mem::take(literal).into()));
    }
}

/// A regular expression of the configuration. Its named groups are variables.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// The compiled expression.
    pub regex: Arc<Regex>,
    /// Its text.
    pub source: Box<[u8]>,
    /// Variables set by a match, with the group that each gets.
    pub named: Vec<(VarId, usize)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed;

    impl Variables for Fixed {
        fn variable(&mut self, id: VarId, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(format!("<{}>", id.index()).as_bytes());
            true
        }

        fn capture(&mut self, n: usize, out: &mut Vec<u8>) -> bool {
            out.extend_from_slice(format!("({n})").as_bytes());
            true
        }
    }

    fn compiled(text: &str) -> (Script, VarTable) {
        let mut vars = VarTable::default();
        let script = Script::compile(text.as_bytes(), &mut vars).expect("compiles");
        (script, vars)
    }

    #[test]
    fn names_brackets_and_captures() {
        let (script, vars) = compiled("a${host}b$URI-$1${2}x$http_user_agent");
        assert_eq!(script.text(&mut Fixed), b"a<0>b<1>-(1)(2)x<2>");
        assert_eq!(vars.def(VarId(1)).kind, VarKind::Builtin(Builtin::Uri));
        assert_eq!(vars.def(VarId(2)).kind, VarKind::Family(Family::Http));
        assert!(script.as_literal().is_none() && script.uses_captures());
    }

    #[test]
    fn same_name_same_number_in_any_case() {
        let (script, vars) = compiled("$Host$host");
        assert_eq!((script.parts().len(), vars.len()), (2, 1));
    }

    #[test]
    fn malformed_names_have_nginx_texts() {
        let fail = |text: &str| {
            Script::compile(text.as_bytes(), &mut VarTable::default()).expect_err("malformed").to_string()
        };
        assert_eq!(fail("a$"), "invalid variable name");
        assert_eq!(fail("a$ {b"), "invalid variable name");
        assert_eq!(fail("${}"), "invalid variable name");
        assert_eq!(fail("a${b"), r#"the closing bracket in "b" variable is missing"#);
    }

    #[test]
    fn declared_after_use_is_known() {
        let (_, mut vars) = compiled("$foo$bar");
        assert_eq!(vars.undeclared(), Some("foo"));
        vars.declare("foo", VarKind::User).expect("free name");
        assert_eq!(vars.undeclared(), Some("bar"));
        assert_eq!(vars.declare("host", VarKind::User), Err(ReadOnly));
        assert!(vars.declare("args", VarKind::User).is_ok());
    }

    #[test]
    fn prepend_joins_the_first_literal() {
        let (mut script, _) = compiled("lua/$host.lua");
        script.prepend(b"/srv/");
        assert_eq!(script.text(&mut Fixed), b"/srv/lua/<0>.lua");
    }
}
