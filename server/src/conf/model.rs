//! What the configuration means: the typed, immutable result that everything else reads.
//!
//! A `Config` is made once by `conf::load` and shared as `Arc<Config>`. Inheritance has been
//! applied: a `Location` holds every setting in force in it.
//!
//! Must not know: how it was written down; sockets; Lua.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use super::directives::echo::EchoScript;
use super::directives::geo::{Geo, Split};
use super::directives::limits::LimitZone;
use super::directives::set_misc::SetStep;
use super::filter_settings::FilterSettings;
use super::locations::Locations;
use super::parts::Parts;
use super::servers::ServerNames;
use super::settings::{LocationSettings, MainSettings, ServerSettings};
use super::variables::{Pattern, Script, VarId, VarTable};
use crate::phase::{self, Phase};
use crate::tls::client::Client;

/// A whole configuration.
#[derive(Debug)]
pub struct Config {
    /// Scalar settings outside any block and of `events {}`.
    pub main: MainSettings,
    /// The prefix that relative paths start from, ends in `/`.
    pub prefix: PathBuf,
    /// The main file.
    pub file: PathBuf,
    /// `env` lines: name, and the value when one is given.
    pub env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// `thread_pool` lines.
    pub thread_pools: Vec<ThreadPool>,
    /// Where messages outside requests go; never empty.
    pub error_logs: ErrorLogs,
    /// Every log file that any directive names; `LogFileId` indexes it.
    pub log_files: Vec<LogFile>,
    /// `http {}`, if there is one.
    pub http: Option<HttpConf>,
    /// Every file read, with its text, in the order of reading (for `-T`).
    pub sources: Vec<(PathBuf, Arc<[u8]>)>,
    /// Lines that are no errors, to be logged once the logs are open.
    pub warnings: Vec<(Level, String)>,
}

/// A `thread_pool`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadPool {
    /// Its name.
    pub name: Box<[u8]>,
    /// Tasks that run at a time.
    pub threads: usize,
    /// Tasks that wait for that.
    pub max_queue: usize,
}

/// Severity of a message; smaller is graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Level {
    /// Written whatever the level.
    Stderr = 0,
    /// The system is unusable.
    Emerg = 1,
    /// Action must be taken at once.
    Alert = 2,
    /// Critical.
    Crit = 3,
    /// Something failed.
    Error = 4,
    /// Something odd.
    Warn = 5,
    /// Worth knowing.
    Notice = 6,
    /// Ordinary.
    Info = 7,
    /// For developers.
    Debug = 8,
}

impl Level {
    /// Every level that can be configured, gravest first.
    pub const NAMED: [(Level, &'static str); 8] = [
        (Level::Emerg, "emerg"),
        (Level::Alert, "alert"),
        (Level::Crit, "crit"),
        (Level::Error, "error"),
        (Level::Warn, "warn"),
        (Level::Notice, "notice"),
        (Level::Info, "info"),
        (Level::Debug, "debug"),
    ];

    /// The level's name as it stands in the log.
    pub fn name(self) -> &'static str {
        // The gravest level has no name in the log.
        Self::NAMED.iter().find(|(level, _)| *level == self).map_or("", |(_, name)| name)
    }

    /// The level of a name.
    pub fn of(name: &[u8]) -> Option<Level> {
        Self::NAMED.iter().find(|(_, known)| known.as_bytes() == name).map(|(level, _)| *level)
    }

    /// The level of Lua's `ngx.STDERR` (0) ... `ngx.DEBUG` (8).
    pub fn from_number(number: i64) -> Option<Level> {
        match number {
            0 => Some(Level::Stderr),
            1..=8 => Some(Self::NAMED[usize::try_from(number - 1).ok()?].0),
            _ => None,
        }
    }
}

/// Index into `Config::log_files`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogFileId(pub usize);

/// A log file by its path, or a syslog server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Absolute path, or empty for standard error and syslog.
    pub path: PathBuf,
    /// The server that gets the lines instead.
    pub syslog: Option<Syslog>,
}

/// `syslog:server=...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Syslog {
    /// Where it listens.
    pub server: ListenAddr,
    /// The facility's number.
    pub facility: u8,
    /// The severity's number, for access logs.
    pub severity: u8,
    /// The tag in front of the line.
    pub tag: String,
    /// Whether the host's name is sent.
    pub hostname: bool,
}

/// One `error_log` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorLog {
    /// Where to.
    pub file: LogFileId,
    /// The least grave level that is written.
    pub level: Level,
}

/// The `error_log` lines in force somewhere.
pub type ErrorLogs = Arc<[ErrorLog]>;

/// How values are escaped in an access log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEscape {
    /// `\xHH` for quotes, backslashes and bytes outside printable ASCII.
    Default,
    /// JSON's escapes.
    Json,
    /// None.
    None,
}

/// A `log_format`.
#[derive(Clone, Debug)]
pub struct LogFormat {
    /// Its name.
    pub name: String,
    /// How values are escaped.
    pub escape: LogEscape,
    /// The line, without newline.
    pub script: Script,
}

/// One `access_log` line.
#[derive(Clone, Debug)]
pub struct AccessLog {
    /// Where to.
    pub file: LogFileId,
    /// The line's format.
    pub format: Arc<LogFormat>,
    /// Bytes gathered before a write; 0 writes each line.
    pub buffer_bytes: usize,
    /// How long a line may wait in the buffer; 0 is for ever.
    pub flush_ms: u64,
    /// `gzip=`: how well the buffer is compressed; 0 is not at all.
    pub gzip_level: u8,
    /// The path where it has variables; `file` means nothing then.
    pub path: Option<Script>,
    /// `if=`: only when this is neither empty nor "0".
    pub condition: Option<Script>,
}

/// `http {}`.
#[derive(Debug)]
pub struct HttpConf {
    /// Every variable the configuration names.
    pub vars: VarTable,
    /// Every `map`, indexed by `VarKind::Map`.
    pub maps: Vec<Map>,
    /// Every `geo`, indexed by `VarKind::Geo`.
    pub geos: Vec<Geo>,
    /// Every `split_clients`, indexed by `VarKind::Split`.
    pub splits: Vec<Split>,
    /// Every zone of `ssl_session_cache`.
    pub session_zones: Vec<Arc<crate::tls::cache::Zone>>,
    /// Every zone of `limit_req_zone` and `limit_conn_zone`.
    pub limit_zones: Vec<LimitZone>,
    /// The servers, in the order of the file.
    pub servers: Vec<Arc<Server>>,
    /// Every group of upstream servers; `UpstreamId` indexes it.
    pub upstreams: Vec<Arc<super::upstream::Upstream>>,
    /// Each address that is listened on, with its servers.
    pub listens: Vec<Listen>,
    /// Settings of `lua_*` that hold for the whole process.
    pub lua: LuaMain,
    /// The level of `http {}` itself, for code that runs outside requests.
    pub level: Arc<Location>,
}

/// Process-wide Lua settings.
#[derive(Debug, Default)]
pub struct LuaMain {
    /// Scalar settings.
    pub settings: super::settings::LuaSettings,
    /// `init_by_lua*`.
    pub init: Option<Arc<LuaCode>>,
    /// `init_worker_by_lua*`.
    pub init_worker: Option<Arc<LuaCode>>,
    /// `exit_worker_by_lua*`.
    pub exit_worker: Option<Arc<LuaCode>>,
    /// `lua_shared_dict NAME SIZE`, in order.
    pub shared_dicts: Vec<SharedDict>,
    /// Whether any handler of the phase exists anywhere.
    pub used: [bool; phase::COUNT],
}

impl LuaMain {
    /// Whether any code runs that may make subrequests: their responses are watched.
    pub fn captures(&self) -> bool {
        [Phase::Rewrite, Phase::Access, Phase::Content].iter().any(|p| self.used[*p as usize])
    }
}

/// A `lua_shared_dict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedDict {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: usize,
}

/// An address that is listened on.
#[derive(Debug)]
pub struct Listen {
    /// The address.
    pub addr: ListenAddr,
    /// Socket options.
    pub options: ListenOptions,
    /// Index of the default server in `HttpConf::servers`.
    pub default_server: usize,
    /// All servers of this address, indices into `HttpConf::servers`.
    pub servers: Vec<usize>,
    /// From names to servers.
    pub names: ServerNames,
    /// Whether a socket of its own is bound. If not, a wildcard address of the same port serves it,
    /// and the connection's local address chooses between the two.
    pub bind: bool,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// TCP.
    Inet(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ListenAddr::Inet(addr) => write!(f, "{addr}"),
            ListenAddr::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Options of a `listen` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    /// Length of the accept queue.
    pub backlog: i32,
    /// SO_RCVBUF, if set.
    pub rcvbuf_bytes: Option<usize>,
    /// SO_SNDBUF, if set.
    pub sndbuf_bytes: Option<usize>,
    /// One socket per worker.
    pub reuseport: bool,
    /// TCP_DEFER_ACCEPT.
    pub deferred: bool,
    /// IPV6_V6ONLY.
    pub ipv6only: bool,
    /// TCP_FASTOPEN queue length, if set.
    pub fastopen: Option<i32>,
    /// SO_KEEPALIVE: `None` leaves the system's default.
    pub so_keepalive: Option<KeepaliveProbe>,
    /// The PROXY protocol is expected.
    pub proxy_protocol: bool,
    /// TLS is spoken.
    pub ssl: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        ListenOptions {
            backlog: 511,
            rcvbuf_bytes: None,
            sndbuf_bytes: None,
            reuseport: false,
            deferred: false,
            ipv6only: true,
            fastopen: None,
            so_keepalive: None,
            proxy_protocol: false,
            ssl: false,
        }
    }
}

/// `so_keepalive=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepaliveProbe {
    /// Whether probes are sent.
    pub on: bool,
    /// Seconds before the first.
    pub idle_s: Option<u32>,
    /// Seconds between two.
    pub interval_s: Option<u32>,
    /// How many before the peer counts as dead.
    pub count: Option<u32>,
}

/// A `server {}` of `http {}`.
#[derive(Debug)]
pub struct Server {
    /// The first `server_name`; empty when none is given.
    pub name: String,
    /// Scalar settings that hold before a location is known.
    pub settings: ServerSettings,
    /// The server level as a location: what holds where no location matches.
    pub level: Arc<Location>,
    /// Rewrite script of the server.
    pub rewrite: Arc<[RewriteOp]>,
    /// Its locations.
    pub locations: Locations,
    /// Named locations, by name with `@`.
    pub named: HashMap<Box<[u8]>, Arc<Location>>,
    /// How it speaks TLS; `None` without a certificate.
    pub ssl: Option<Arc<crate::tls::server::Side>>,
}

impl Deref for Server {
    type Target = ServerSettings;

    fn deref(&self) -> &ServerSettings {
        &self.settings
    }
}

/// How a location is matched, or which other block the level stands for.
#[derive(Clone, Debug)]
pub enum LocationKind {
    /// The level of `http {}`.
    Http,
    /// The level of a server.
    Server,
    /// `location /prefix`.
    Prefix,
    /// `location ^~ /prefix`.
    PrefixNoRegex,
    /// `location = /path`.
    Exact,
    /// `location ~ regex`.
    Regex(Pattern),
    /// `location @name`.
    Named,
    /// `if (...) {}` of a server or location.
    If,
    /// `limit_except {}`.
    LimitExcept,
}

/// A location, or another level that settings hold in.
#[derive(Debug)]
pub struct Location {
    /// The path, regex text or `@name` as written.
    pub name: Box<[u8]>,
    /// How it is matched.
    pub kind: LocationKind,
    /// `internal`.
    pub internal: bool,
    /// Scalar settings.
    pub settings: LocationSettings,
    /// Scalar settings of response modules.
    pub filters: FilterSettings,
    /// How Lua's sockets speak TLS.
    pub lua_tls: Arc<Client>,
    /// How requests are passed on over TLS; `None` where none are.
    pub proxy_ssl: Option<Arc<super::proxy_ssl::ProxySsl>>,
    /// What modules beyond the core have.
    pub parts: Arc<Parts>,
    /// `root` or `alias`.
    pub root: Root,
    /// `index` names.
    pub index: Arc<[Script]>,
    /// `try_files`.
    pub try_files: Option<TryFiles>,
    /// What makes the content; `None` serves files.
    pub content: Option<Content>,
    /// Rewrite script of this level only.
    pub rewrite: Arc<[RewriteOp]>,
    /// Lua handlers by phase, inherited ones included.
    pub lua: LuaHandlers,
    /// How requests are passed on.
    pub proxy: Arc<super::proxy::ProxyConf>,
    /// `error_log` lines.
    pub error_logs: ErrorLogs,
    /// `access_log` lines; empty means `off`.
    pub access_logs: Arc<[AccessLog]>,
    /// `error_page` lines, in the order of the file.
    pub error_pages: Arc<[ErrorPage]>,
    /// `add_header` lines.
    pub add_headers: Arc<[AddHeader]>,
    /// MIME types by file name extension (lower case).
    pub types: Arc<HashMap<Box<[u8]>, Box<[u8]>>>,
    /// `resolver`.
    pub resolver: Option<Arc<Resolver>>,
    /// `limit_except` of the location: methods let through, and the level for all others.
    pub limit_except: Option<LimitExcept>,
    /// Nested locations.
    pub locations: Locations,
}

impl Deref for Location {
    type Target = LocationSettings;

    fn deref(&self) -> &LocationSettings {
        &self.settings
    }
}

/// `root` and `alias`.
#[derive(Clone, Debug)]
pub struct Root {
    /// The directory, absolute unless it begins with a variable.
    pub path: Script,
    /// `alias`: the matched prefix is replaced, not kept.
    pub alias: bool,
}

/// `try_files`.
#[derive(Clone, Debug)]
pub struct TryFiles {
    /// The names to test, in order, with `dir` for names that ended in `/`.
    pub files: Vec<TryFile>,
    /// What happens when none is there.
    pub last: TryLast,
}

/// A name to test.
#[derive(Clone, Debug)]
pub struct TryFile {
    /// The name, a URI below the root; a trailing `/` is removed.
    pub name: Script,
    /// Whether a directory is wanted.
    pub directory: bool,
}

/// The last argument of `try_files`.
#[derive(Clone, Debug)]
pub enum TryLast {
    /// `=CODE`.
    Code(u16),
    /// `@name`.
    Named(Box<[u8]>),
    /// A URI, perhaps with arguments.
    Uri(Script),
}

/// What makes a location's content.
#[derive(Clone, Debug)]
pub enum Content {
    /// `content_by_lua*`.
    Lua(Arc<LuaCode>),
    /// `stub_status`.
    StubStatus,
    /// `empty_gif`.
    EmptyGif,
    /// `echo*`.
    Echo(Arc<EchoScript>),
    /// `proxy_pass`.
    Proxy(Arc<super::proxy::ProxyPass>),
}

/// Lua handlers by phase.
#[derive(Clone, Debug, Default)]
pub struct LuaHandlers(pub [Option<Arc<LuaCode>>; phase::COUNT]);

impl LuaHandlers {
    /// The handler of a phase.
    pub fn get(&self, phase: Phase) -> Option<&Arc<LuaCode>> {
        self.0[phase as usize].as_ref()
    }
}

/// A piece of Lua code in the configuration.
#[derive(Debug)]
pub struct LuaCode {
    /// Its number, unique in the configuration; for caches.
    pub id: usize,
    /// The phase it runs in.
    pub phase: Phase,
    /// The code or its file.
    pub source: LuaSource,
    /// The chunk name: `=content_by_lua(nginx.conf:40)`, `@/path/file.lua`; empty when the path has variables.
    pub chunk_name: String,
}

/// Where Lua code is.
#[derive(Debug)]
pub enum LuaSource {
    /// In the configuration.
    Inline(Box<[u8]>),
    /// In a file; the path is absolute unless it begins with a variable.
    File(Script),
}

/// A step of a rewrite script.
#[derive(Debug)]
pub enum RewriteOp {
    /// `set $var value`.
    Set {
        /// The variable.
        var: VarId,
        /// The value.
        value: Script,
    },
    /// `set_by_lua* $var ...`.
    SetByLua {
        /// The variable.
        var: VarId,
        /// The code.
        code: Arc<LuaCode>,
        /// `ngx.arg[1]`...
        args: Vec<Script>,
    },
    /// `set_md5 $var ...` and its kin.
    SetMisc {
        /// The variable.
        var: VarId,
        /// What is made.
        step: Box<SetStep>,
    },
    /// `if (condition) {...}`.
    If {
        /// The condition.
        condition: Condition,
        /// Steps inside the block.
        body: Arc<[RewriteOp]>,
        /// The level that holds from then on.
        level: Arc<Location>,
    },
    /// `rewrite regex replacement [flag]`.
    Rewrite(Rewrite),
    /// `return`.
    Return(Return),
    /// `break`.
    Break,
}

/// A `rewrite` line.
#[derive(Debug)]
pub struct Rewrite {
    /// The expression, matched on the URI.
    pub pattern: Pattern,
    /// The new URI, or the target of a redirect.
    pub uri: Script,
    /// New arguments, from `?` in the replacement.
    pub args: Option<Script>,
    /// Whether the request's own arguments are appended.
    pub keep_args: bool,
    /// What happens next.
    pub flag: RewriteFlag,
}

/// What follows a matching `rewrite`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RewriteFlag {
    /// The next step.
    None,
    /// The script ends; a location is looked up for the new URI.
    Last,
    /// The script ends; the location stays.
    Break,
    /// A redirect with this status (301 or 302).
    Redirect(u16),
}

/// A `return` line.
#[derive(Clone, Debug)]
pub struct Return {
    /// The status.
    pub status: u16,
    /// The body or, for 301, 302, 303, 307 and 308, the target.
    pub text: Option<Script>,
}

impl Return {
    /// Whether `text` is the target of a redirect.
    pub fn is_redirect(&self) -> bool {
        self.text.is_some() && matches!(self.status, 301 | 302 | 303 | 307 | 308)
    }
}

/// The condition of an `if`.
#[derive(Debug)]
pub enum Condition {
    /// `$var`: neither empty nor "0".
    True(VarId),
    /// `$var = text`, `$var != text`.
    Equal {
        /// The variable.
        var: VarId,
        /// The text.
        text: Script,
        /// `!=`.
        negate: bool,
    },
    /// `$var ~ regex` and its kin.
    Match {
        /// The variable.
        var: VarId,
        /// The expression.
        pattern: Pattern,
        /// `!~`, `!~*`.
        negate: bool,
    },
    /// `-f`, `-d`, `-e`, `-x`.
    File {
        /// What is asked.
        test: FileTest,
        /// The path.
        path: Script,
        /// With `!`.
        negate: bool,
    },
}

/// A question about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileTest {
    /// Is a file.
    File,
    /// Is a directory.
    Directory,
    /// Exists.
    Exists,
    /// May be executed.
    Executable,
}

/// An `error_page` line.
#[derive(Clone, Debug)]
pub struct ErrorPage {
    /// The statuses it is for.
    pub codes: Vec<u16>,
    /// `=`: the status sent.
    pub status: ErrorPageStatus,
    /// The page: a URI, `@name`, or a URL.
    pub uri: Script,
}

/// The status of an error page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorPageStatus {
    /// The one of the error.
    Keep,
    /// `=`: the one that the page's handler gives.
    Handler,
    /// `=CODE`.
    Fixed(u16),
}

/// An `add_header` line.
#[derive(Clone, Debug)]
pub struct AddHeader {
    /// Name.
    pub name: Box<[u8]>,
    /// Value; an empty one is not sent.
    pub value: Script,
    /// Whatever the status.
    pub always: bool,
}

/// A `resolver` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolver {
    /// The name servers.
    pub servers: Vec<SocketAddr>,
    /// `valid=`: how long answers are kept; `None` follows their TTL.
    pub valid_ms: Option<u64>,
    /// Whether A records are asked for.
    pub ipv4: bool,
    /// Whether AAAA records are asked for.
    pub ipv6: bool,
    /// `local=on`: the servers of this resolv.conf come first.
    pub local: Option<PathBuf>,
}

/// `limit_except`.
#[derive(Clone, Debug)]
pub struct LimitExcept {
    /// Methods let through (GET lets HEAD through).
    pub methods: Vec<Box<[u8]>>,
    /// The level that holds for the others.
    pub level: Arc<Location>,
}

/// A `map`.
#[derive(Debug)]
pub struct Map {
    /// What is looked up.
    pub source: Script,
    /// Keys are host names: `*.x`, `x.*`, `.x` are masks.
    pub hostnames: bool,
    /// The value is computed anew on each use.
    pub volatile: bool,
    /// Values by key (lower case).
    pub exact: HashMap<Box<[u8]>, Script>,
    /// Masks `*.x` (kept as `.x`), longest first.
    pub suffixes: Vec<(Box<[u8]>, Script)>,
    /// Masks `x.*` (kept as `x.`), longest first.
    pub prefixes: Vec<(Box<[u8]>, Script)>,
    /// Expressions, in order.
    pub patterns: Vec<(Pattern, Script)>,
    /// The value of `default`; empty when none.
    pub default: Script,
}

/// What a map found.
pub enum MapFound<'a> {
    /// A value.
    Value(&'a Script),
    /// A value by an expression, whose captures are in the match data handed in.
    Pattern(&'a Pattern, &'a Script),
}

impl Map {
    /// The value for `key`.
    pub fn find<'a>(&'a self, key: &[u8], data: &mut crate::regex::MatchData) -> MapFound<'a> {
        let mut lower = key.to_ascii_lowercase();
        if self.hostnames && lower.last() == Some(&b'.') {
            lower.pop();
        }
        if let Some(value) = self.exact.get(lower.as_slice()) {
            return MapFound::Value(value);
        }
        for (suffix, value) in &self.suffixes {
            if lower.len() > suffix.len() && lower.ends_with(suffix) {
                return MapFound::Value(value);
            }
        }
        for (prefix, value) in &self.prefixes {
            if lower.len() > prefix.len() && lower.starts_with(prefix) {
                return MapFound::Value(value);
            }
        }
        for (pattern, value) in &self.patterns {
            if pattern.regex.find_at(key, 0, data) == Ok(true) {
                return MapFound::Pattern(pattern, value);
            }
        }
        MapFound::Value(&self.default)
    }
}

impl Config {
    /// The listen entry that serves a connection accepted on `bound` with this local address.
    pub fn listen_of(&self, bound: usize, local: Option<SocketAddr>) -> Option<&Listen> {
        let http = self.http.as_ref()?;
        let listen = http.listens.get(bound)?;
        let (Some(local), ListenAddr::Inet(addr)) = (local, &listen.addr) else { return Some(listen) };
        if !addr.ip().is_unspecified() {
            return Some(listen);
        }
        let exact = ListenAddr::Inet(SocketAddr::new(local.ip().to_canonical(), local.port()));
        Some(http.listens.iter().find(|other| !other.bind && other.addr == exact).unwrap_or(listen))
    }

    /// The address of the bound socket that a connection with this local address came through.
    pub fn listening_on(&self, local: Option<SocketAddr>) -> Option<&ListenAddr> {
        let local = local?;
        let bound = self.http.as_ref()?.listens.iter().filter(|l| l.bind).map(|l| &l.addr);
        let fits = |addr: &&ListenAddr| match addr {
            ListenAddr::Inet(a) => {
                a.port() == local.port() && (a.ip().is_unspecified() || a.ip() == local.ip().to_canonical())
            }
            ListenAddr::Unix(_) => false,
        };
        bound.filter(fits).min_by_key(|a| matches!(a, ListenAddr::Inet(a) if a.ip().is_unspecified()))
    }
}

impl HttpConf {
    /// The server for a host name on a listen entry: the named one, else that of index `default`.
    pub fn server_of(
        &self,
        listen: &Listen,
        default: usize,
        host: &[u8],
        data: &mut crate::regex::MatchData,
    ) -> &Arc<Server> {
        let at = listen.names.find(host, data).unwrap_or(default);
        &self.servers[at]
    }
}
