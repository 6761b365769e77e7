//! What the `proxy_*` directives say: where requests are passed on, with which headers, under which limits.
//!
//! Scalars are rows of the `settings!` table; lists are gathered in `ProxyLists`; `finish` applies
//! inheritance. Must not know: connections, requests.

use std::ops::Deref;
use std::sync::Arc;

use super::directive::{Arity, Cx, Row};
use super::error::Fail;
use super::settings::{TempPath, only_off, settings, temp_path_arg};
use super::tree::Node;
use super::upstream::UpstreamId;
use super::value::{self, buffers_arg, flag_arg, ms_arg, number_arg, size_arg};
use super::variables::{Pattern, Script};
use crate::phase::Contexts;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);

/// Memory pages: nginx's unit for proxy buffers.
const PAGE_BYTES: u64 = 4096;

/// Reasons to ask the next server, a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextOn(pub u32);

impl NextOn {
    /// The connection failed.
    pub const ERROR: NextOn = NextOn(1);
    /// Time is over.
    pub const TIMEOUT: NextOn = NextOn(1 << 1);
    /// The response's head makes no sense.
    pub const INVALID_HEADER: NextOn = NextOn(1 << 2);
    /// Status 500.
    pub const HTTP_500: NextOn = NextOn(1 << 3);
    /// Status 502.
    pub const HTTP_502: NextOn = NextOn(1 << 4);
    /// Status 503.
    pub const HTTP_503: NextOn = NextOn(1 << 5);
    /// Status 504.
    pub const HTTP_504: NextOn = NextOn(1 << 6);
    /// Status 403.
    pub const HTTP_403: NextOn = NextOn(1 << 7);
    /// Status 404.
    pub const HTTP_404: NextOn = NextOn(1 << 8);
    /// Status 429.
    pub const HTTP_429: NextOn = NextOn(1 << 9);
    /// POST, LOCK and PATCH too, after they were sent.
    pub const NON_IDEMPOTENT: NextOn = NextOn(1 << 10);
    /// No server is left to be asked; never configured.
    pub const NO_LIVE: NextOn = NextOn(1 << 11);

    /// Whether every reason of `other` is in the set.
    pub const fn has(self, other: NextOn) -> bool {
        self.0 & other.0 == other.0
    }

    /// The number that nginx's debug lines show for a single reason.
    pub const fn number(self) -> u32 {
        if self.0 == NextOn::NO_LIVE.0 { 0x4000_0000 } else { self.0 << 1 }
    }

    /// Both sets together.
    pub const fn or(self, other: NextOn) -> NextOn {
        NextOn(self.0 | other.0)
    }
}

fn next_upstream(_: &mut Cx<'_>, node: &Node) -> Result<NextOn, Fail> {
    let mut set = NextOn(0);
    let mut off = false;
    for (at, arg) in node.args.iter().enumerate() {
        let reason = match &**arg {
            b"error" => NextOn::ERROR,
            b"timeout" => NextOn::TIMEOUT,
            b"invalid_header" => NextOn::INVALID_HEADER,
            b"http_500" => NextOn::HTTP_500,
            b"http_502" => NextOn::HTTP_502,
            b"http_503" => NextOn::HTTP_503,
            b"http_504" => NextOn::HTTP_504,
            b"http_403" => NextOn::HTTP_403,
            b"http_404" => NextOn::HTTP_404,
            b"http_429" => NextOn::HTTP_429,
            b"non_idempotent" => NextOn::NON_IDEMPOTENT,
            // Without a cache nothing is ever updated.
            b"updating" => NextOn(0),
            b"off" => {
                off = true;
                NextOn(0)
            }
            _ => return Err(Fail::Message(format!("invalid value \"{}\"", node.text(at)))),
        };
        set = set.or(reason);
    }
    Ok(if off { NextOn(0) } else { set })
}

/// Response headers without effect, a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IgnoredHeaders {
    /// `X-Accel-Redirect`.
    pub redirect: bool,
    /// `X-Accel-Limit-Rate`.
    pub limit_rate: bool,
    /// `X-Accel-Buffering`.
    pub buffering: bool,
    /// `X-Accel-Charset`.
    pub charset: bool,
}

fn ignore_headers(_: &mut Cx<'_>, node: &Node) -> Result<IgnoredHeaders, Fail> {
    let mut set = IgnoredHeaders::default();
    for (at, arg) in node.args.iter().enumerate() {
        match &*arg.to_ascii_lowercase() {
            b"x-accel-redirect" => set.redirect = true,
            b"x-accel-limit-rate" => set.limit_rate = true,
            b"x-accel-buffering" => set.buffering = true,
            b"x-accel-charset" => set.charset = true,
            // These concern caches, and there is none.
            b"x-accel-expires" | b"expires" | b"cache-control" | b"set-cookie" | b"vary" => {}
            _ => return Err(Fail::Message(format!("invalid value \"{}\"", node.text(at)))),
        }
    }
    Ok(set)
}

/// The version that requests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// HTTP/1.0.
    V10,
    /// HTTP/1.1.
    V11,
}

fn version(_: &mut Cx<'_>, node: &Node) -> Result<ProxyVersion, Fail> {
    match node.arg(0) {
        b"1.0" => Ok(ProxyVersion::V10),
        b"1.1" => Ok(ProxyVersion::V11),
        b"2" => Err(Fail::Message("\"proxy_http_version 2\" is not supported yet".to_owned())),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

/// Where connections come from.
#[derive(Clone, Debug)]
pub struct Bind {
    /// An address, perhaps with a port; `None` for `off`.
    pub address: Option<Script>,
    /// The address need not be the machine's own.
    pub transparent: bool,
}

fn bind(cx: &mut Cx<'_>, node: &Node) -> Result<Bind, Fail> {
    if node.args.len() == 1 && node.arg(0) == b"off" {
        return Ok(Bind { address: None, transparent: false });
    }
    let transparent = match node.args.get(1) {
        None => false,
        Some(word) if **word == *b"transparent" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    let script = cx.script(node.arg(0))?;
    if let Some(text) = script.as_literal() {
        let text = String::from_utf8_lossy(text);
        if bind_address(&text).is_none() {
            return Err(Fail::Message(format!("invalid address \"{text}\"")));
        }
    }
    Ok(Bind { address: Some(script), transparent })
}

/// The local address of a `proxy_bind` value; port 0 lets the system choose.
pub fn bind_address(text: &str) -> Option<std::net::SocketAddr> {
    if let Ok(addr) = text.parse() {
        return Some(addr);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    Some(std::net::SocketAddr::new(bare.parse().ok()?, 0))
}

fn script(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    cx.script(node.arg(0)).map(Some)
}

fn rate(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    let script = cx.script(node.arg(0))?;
    if let Some(text) = script.as_literal()
        && value::size(text).is_none()
    {
        return Err(Fail::Message(format!("invalid value \"{}\"", node.text(0))));
    }
    Ok(Some(script))
}

fn optional_size(cx: &mut Cx<'_>, node: &Node) -> Result<Option<u64>, Fail> {
    size_arg(cx, node).map(Some)
}

settings! {
    /// Scalar settings of passing requests on.
    ProxySettings, ProxyDraft in scope.proxy; PROXY_ROWS {
        /// Whether responses are read ahead of the client.
        proxy_buffering: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether the request's body is read whole before a server is asked.
        proxy_request_buffering: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether a client that goes away leaves the request to the server under way.
        proxy_ignore_client_abort: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Where connections come from.
        proxy_bind: Bind = Bind { address: None, transparent: false }, bind, LEVELS, Arity::Between(1, 2);
        /// SO_KEEPALIVE.
        proxy_socket_keepalive: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// SO_RCVBUF; 0 leaves the system's.
        proxy_socket_rcvbuf: u64 = 0, size_arg, LEVELS, Arity::Exactly(1);
        /// SO_SNDBUF; 0 leaves the system's.
        proxy_socket_sndbuf: u64 = 0, size_arg, LEVELS, Arity::Exactly(1);
        /// Time limit of a connect.
        proxy_connect_timeout: u64 = 60_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Time limit between two writes.
        proxy_send_timeout: u64 = 60_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Time limit between two reads.
        proxy_read_timeout: u64 = 60_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Largest head of a response.
        proxy_buffer_size: u64 = PAGE_BYTES, size_arg, LEVELS, Arity::Exactly(1);
        /// Number and size of the buffers of a response.
        proxy_buffers: (u64, u64) = (8, PAGE_BYTES), buffers_arg, LEVELS, Arity::Exactly(2);
        /// How much of them may be on its way to the client; twice the larger buffer when not given.
        proxy_busy_buffers_size: Option<u64> = None, optional_size, LEVELS, Arity::Exactly(1);
        /// Most of a response that goes to a file while the client is slow.
        proxy_max_temp_file_size: u64 = 1 << 30, size_arg, LEVELS, Arity::Exactly(1);
        /// Written to such a file at a time; twice the larger buffer when not given.
        proxy_temp_file_write_size: Option<u64> = None, optional_size, LEVELS, Arity::Exactly(1);
        /// Where such files are; relative to the prefix.
        proxy_temp_path: TempPath = TempPath::new(b"proxy_temp"), temp_path_arg, LEVELS, Arity::Between(1, 4);
        /// Bytes per second read from the server; 0 is no limit.
        proxy_limit_rate: Option<Script> = None, rate, LEVELS, Arity::Exactly(1);
        /// Whether errors of the server get our `error_page`.
        proxy_intercept_errors: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether the request's headers are passed on.
        proxy_pass_request_headers: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether the request's body is passed on.
        proxy_pass_request_body: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether trailers are passed on; they are not yet.
        proxy_pass_trailers: bool = false, only_off, LEVELS, Arity::Exactly(1);
        /// A method instead of the request's.
        proxy_method: Option<Script> = None, script, LEVELS, Arity::Exactly(1);
        /// The version that requests say.
        proxy_http_version: ProxyVersion = ProxyVersion::V11, version, LEVELS, Arity::Exactly(1);
        /// A body instead of the request's.
        proxy_set_body: Option<Script> = None, script, LEVELS, Arity::Exactly(1);
        /// When the next server is asked.
        proxy_next_upstream: NextOn = NextOn::ERROR.or(NextOn::TIMEOUT), next_upstream, LEVELS, Arity::AtLeast(1);
        /// Servers asked at most; 0 is no limit.
        proxy_next_upstream_tries: u64 = 0, number_arg, LEVELS, Arity::Exactly(1);
        /// How long others are asked; 0 is no limit.
        proxy_next_upstream_timeout: u64 = 0, ms_arg, LEVELS, Arity::Exactly(1);
        /// Response headers without effect.
        proxy_ignore_headers: IgnoredHeaders = IgnoredHeaders::default(), ignore_headers, LEVELS, Arity::AtLeast(1);
        /// Accepted: there is no such table.
        proxy_headers_hash_max_size: u64 = 512, number_arg, LEVELS, Arity::Exactly(1);
        /// Accepted as above.
        proxy_headers_hash_bucket_size: u64 = 64, number_arg, LEVELS, Arity::Exactly(1);
        /// Accepted: Linux has no low-water mark for sending.
        proxy_send_lowat: u64 = 0, size_arg, LEVELS, Arity::Exactly(1);
    }
}

/// `proxy_pass`.
#[derive(Debug)]
pub struct ProxyPass {
    /// Where to.
    pub target: ProxyTarget,
    /// The prefix that the URL's path takes the place of; empty where there is none to be replaced.
    pub location: Box<[u8]>,
    /// The URL as written, for `proxy_redirect default`.
    pub url: Box<[u8]>,
}

/// A URL, or what becomes one.
#[derive(Debug)]
pub enum ProxyTarget {
    /// Without variables.
    Fixed {
        /// The group.
        upstream: UpstreamId,
        /// `$proxy_host`.
        host: Arc<[u8]>,
        /// `$proxy_port`.
        port: u16,
        /// Whether TLS is spoken.
        ssl: bool,
        /// The path, if any.
        uri: Arc<[u8]>,
    },
    /// With variables.
    Script(Script),
}

impl ProxyTarget {
    /// Whether requests may go there over TLS.
    pub fn may_be_ssl(&self) -> bool {
        match self {
            ProxyTarget::Fixed { ssl, .. } => *ssl,
            ProxyTarget::Script(_) => true,
        }
    }
}

/// What stands in front of the host of a URL that requests can be passed on to, the usual port, and whether TLS is spoken.
const SCHEMES: [(&[u8], u16, bool); 2] = [(b"http://", 80, false), (b"https://", 443, true)];

/// The scheme of a URL: what is behind it, the usual port, whether TLS is spoken.
pub fn scheme_of(url: &[u8]) -> Option<(&[u8], u16, bool)> {
    SCHEMES.iter().find_map(|(scheme, port, ssl)| {
        let (head, rest) = url.split_at_checked(scheme.len())?;
        head.eq_ignore_ascii_case(scheme).then_some((rest, *port, *ssl))
    })
}

/// A header that is set in requests.
#[derive(Clone, Debug)]
pub struct SetHeader {
    /// Its name.
    pub name: Box<[u8]>,
    /// Its value; an empty one is not sent.
    pub value: HeaderValue,
}

/// Where a set header's value comes from.
#[derive(Clone, Debug)]
pub enum HeaderValue {
    /// A directive.
    Script(Script),
    /// `$proxy_host`.
    Host,
    /// The length of the body that is sent.
    BodyLength,
    /// `chunked` when the body is sent in chunks.
    Chunked,
    /// Nothing: the client's own is not passed on.
    Nothing,
}

/// What a rewriting rule is matched with.
#[derive(Clone, Debug)]
pub enum Rule {
    /// A text: a prefix of redirects and paths, a whole domain.
    Text(Script),
    /// An expression.
    Pattern(Pattern),
}

/// A rule of `proxy_redirect`, `proxy_cookie_domain`, `proxy_cookie_path`.
#[derive(Clone, Debug)]
pub struct RewriteRule {
    /// What is matched.
    pub rule: Rule,
    /// What takes its place.
    pub replacement: Script,
}

/// `proxy_redirect`.
#[derive(Clone, Debug)]
pub enum Redirects {
    /// `off`.
    Off,
    /// Rules in order; `None` is `default`.
    Rules(Vec<Option<RewriteRule>>),
}

/// A rule of `proxy_cookie_flags`.
#[derive(Clone, Debug)]
pub struct CookieFlags {
    /// Which cookies, by name without regard to case.
    pub rule: Rule,
    /// `secure`, `nosamesite`, ...
    pub flags: Vec<Script>,
}

/// What is gathered from several directives on one level. Empty or `None`: inherited.
#[derive(Clone, Debug, Default)]
pub struct ProxyLists {
    /// `proxy_set_header`.
    pub set_headers: Vec<(Box<[u8]>, Script)>,
    /// `proxy_hide_header`.
    pub hide: Vec<Box<[u8]>>,
    /// `proxy_pass_header`.
    pub pass: Vec<Box<[u8]>>,
    /// `proxy_redirect`.
    pub redirects: Option<Redirects>,
    /// `proxy_cookie_domain`; empty for `off`.
    pub cookie_domains: Option<Vec<RewriteRule>>,
    /// `proxy_cookie_path`; empty for `off`.
    pub cookie_paths: Option<Vec<RewriteRule>>,
    /// `proxy_cookie_flags`; empty for `off`.
    pub cookie_flags: Option<Vec<CookieFlags>>,
}

impl ProxyLists {
    fn is_empty(&self) -> bool {
        self.set_headers.is_empty()
            && self.hide.is_empty()
            && self.pass.is_empty()
            && self.redirects.is_none()
            && self.cookie_domains.is_none()
            && self.cookie_paths.is_none()
            && self.cookie_flags.is_none()
    }
}

/// Everything that is in force in a location.
#[derive(Debug)]
pub struct ProxyConf {
    /// Scalar settings.
    pub settings: ProxySettings,
    /// Headers set in requests, in order.
    pub set_headers: Vec<SetHeader>,
    /// Response headers not passed on.
    pub hide: Vec<Box<[u8]>>,
    /// `proxy_redirect`; a single `default` when none is given.
    pub redirects: Redirects,
    /// `proxy_cookie_domain`.
    pub cookie_domains: Vec<RewriteRule>,
    /// `proxy_cookie_path`.
    pub cookie_paths: Vec<RewriteRule>,
    /// `proxy_cookie_flags`.
    pub cookie_flags: Vec<CookieFlags>,
}

impl Deref for ProxyConf {
    type Target = ProxySettings;

    fn deref(&self) -> &ProxySettings {
        &self.settings
    }
}

impl ProxyConf {
    /// Whether the client's header of that name is not passed on as it is.
    pub fn is_set(&self, name: &[u8]) -> bool {
        self.set_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name))
    }

    /// Whether a response header is not passed on.
    pub fn is_hidden(&self, name: &[u8]) -> bool {
        self.hide.iter().any(|h| h.eq_ignore_ascii_case(name))
    }

    /// Whether rules about cookies exist.
    pub fn rewrites_cookies(&self) -> bool {
        !(self.cookie_domains.is_empty() && self.cookie_paths.is_empty() && self.cookie_flags.is_empty())
    }
}

/// Response headers that are ours to give.
const HIDDEN: [&[u8]; 8] = [
    b"Date",
    b"Server",
    b"X-Pad",
    b"X-Accel-Expires",
    b"X-Accel-Redirect",
    b"X-Accel-Limit-Rate",
    b"X-Accel-Buffering",
    b"X-Accel-Charset",
];

/// Request headers that have their own meaning on each connection.
const OWN: [(&[u8], HeaderValue); 9] = [
    (b"Host", HeaderValue::Host),
    (b"Connection", HeaderValue::Nothing),
    (b"Proxy-Connection", HeaderValue::Nothing),
    (b"Content-Length", HeaderValue::BodyLength),
    (b"Transfer-Encoding", HeaderValue::Chunked),
    (b"TE", HeaderValue::Nothing),
    (b"Keep-Alive", HeaderValue::Nothing),
    (b"Expect", HeaderValue::Nothing),
    (b"Upgrade", HeaderValue::Nothing),
];

/// What a level hands to the levels inside.
#[derive(Clone, Debug, Default)]
pub struct ProxyInherited {
    draft: ProxyDraft,
    lists: ProxyLists,
    finished: Option<Arc<ProxyConf>>,
}

/// Applies inheritance. The error is the message for the level's block.
pub fn finish(
    mut draft: ProxyDraft,
    own: ProxyLists,
    outer: &ProxyInherited,
) -> Result<(ProxyInherited, Arc<ProxyConf>), &'static str> {
    if let Some(conf) = &outer.finished
        && draft.is_empty()
        && own.is_empty()
    {
        return Ok((outer.clone(), conf.clone()));
    }
    draft.inherit(&outer.draft);
    let or = |own: Vec<Box<[u8]>>, outer: &Vec<Box<[u8]>>| if own.is_empty() { outer.clone() } else { own };
    let lists = ProxyLists {
        set_headers: if own.set_headers.is_empty() {
            outer.lists.set_headers.clone()
        } else {
            own.set_headers
        },
        hide: or(own.hide, &outer.lists.hide),
        pass: or(own.pass, &outer.lists.pass),
        redirects: own.redirects.or_else(|| outer.lists.redirects.clone()),
        cookie_domains: own.cookie_domains.or_else(|| outer.lists.cookie_domains.clone()),
        cookie_paths: own.cookie_paths.or_else(|| outer.lists.cookie_paths.clone()),
        cookie_flags: own.cookie_flags.or_else(|| outer.lists.cookie_flags.clone()),
    };
    let settings = draft.finish();
    check_buffers(&settings)?;
    let mut set_headers: Vec<SetHeader> = Vec::new();
    for (name, value) in &lists.set_headers {
        let value = if value.is_empty() { HeaderValue::Nothing } else { HeaderValue::Script(value.clone()) };
        set_headers.push(SetHeader { name: name.clone(), value });
    }
    for (name, value) in OWN {
        if !set_headers.iter().any(|h| h.name.eq_ignore_ascii_case(name)) {
            set_headers.push(SetHeader { name: name.into(), value });
        }
    }
    let mut hide: Vec<Box<[u8]>> = HIDDEN.iter().map(|name| Box::from(*name)).collect();
    hide.extend(lists.hide.iter().cloned());
    hide.retain(|name| !lists.pass.iter().any(|passed| passed.eq_ignore_ascii_case(name)));
    let conf = Arc::new(ProxyConf {
        settings,
        set_headers,
        hide,
        redirects: lists.redirects.clone().unwrap_or_else(|| Redirects::Rules(vec![None])),
        cookie_domains: lists.cookie_domains.clone().unwrap_or_default(),
        cookie_paths: lists.cookie_paths.clone().unwrap_or_default(),
        cookie_flags: lists.cookie_flags.clone().unwrap_or_default(),
    });
    Ok((ProxyInherited { draft, lists, finished: Some(conf.clone()) }, conf))
}

fn check_buffers(s: &ProxySettings) -> Result<(), &'static str> {
    let (count, size) = s.proxy_buffers;
    if count < 2 {
        return Err("there must be at least 2 \"proxy_buffers\"");
    }
    let larger = size.max(s.proxy_buffer_size);
    let busy = s.proxy_busy_buffers_size.unwrap_or(2 * larger);
    if busy < larger {
        return Err(
            "\"proxy_busy_buffers_size\" must be equal to or greater than the maximum of the value of \
                    \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if busy > (count - 1) * size {
        return Err(
            "\"proxy_busy_buffers_size\" must be less than the size of all \"proxy_buffers\" minus one buffer",
        );
    }
    if s.proxy_temp_file_write_size.is_some_and(|write| write < larger) {
        return Err(
            "\"proxy_temp_file_write_size\" must be equal to or greater than the maximum of the value of \
                    \"proxy_buffer_size\" and one of the \"proxy_buffers\"",
        );
    }
    if s.proxy_max_temp_file_size != 0 && s.proxy_max_temp_file_size < larger {
        return Err(
            "\"proxy_max_temp_file_size\" must be equal to zero to disable temporary files usage or \
                    must be equal to or greater than the maximum of the value of \"proxy_buffer_size\" and \
                    one of the \"proxy_buffers\"",
        );
    }
    Ok(())
}
