//! The phase table: every context in which Lua code runs, one row each.
//!
//! A row gives the directive stem and its spellings, the name that
//! `ngx.get_phase()` returns, the order, the context bit, and the powers that
//! upstream grants there. Directives, masks, `API disabled in the context of
//! X*` texts and the generic handler all derive from the rows.
//!
//! Must not know: configuration, requests, Lua.

use std::fmt;

/// Where in the configuration a directive may stand: a set of contexts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Contexts(u16);

impl Contexts {
    /// No context at all: a phase without directive.
    pub const NONE: Contexts = Contexts(0);
    /// Outside any block.
    pub const MAIN: Contexts = Contexts(1);
    /// Inside `events {}`.
    pub const EVENTS: Contexts = Contexts(1 << 1);
    /// Inside `http {}`.
    pub const HTTP: Contexts = Contexts(1 << 2);
    /// Inside `server {}` of `http {}`.
    pub const SERVER: Contexts = Contexts(1 << 3);
    /// Inside `location {}`.
    pub const LOCATION: Contexts = Contexts(1 << 4);
    /// Inside `if {}` of a server.
    pub const SERVER_IF: Contexts = Contexts(1 << 5);
    /// Inside `if {}` of a location.
    pub const LOCATION_IF: Contexts = Contexts(1 << 6);
    /// Inside `limit_except {}`.
    pub const LIMIT_EXCEPT: Contexts = Contexts(1 << 7);
    /// Inside `upstream {}`.
    pub const UPSTREAM: Contexts = Contexts(1 << 8);

    /// The contexts of both sets.
    pub const fn or(self, other: Contexts) -> Contexts {
        Contexts(self.0 | other.0)
    }

    /// Whether every context of `other` is in this set, and `other` is not empty.
    pub const fn has(self, other: Contexts) -> bool {
        other.0 != 0 && self.0 & other.0 == other.0
    }

    /// Whether the two sets share a context.
    pub const fn meets(self, other: Contexts) -> bool {
        self.0 & other.0 != 0
    }
}

impl fmt::Debug for Contexts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 9] = [
            "main",
            "events",
            "http",
            "server",
            "location",
            "if in server",
            "if in location",
            "limit_except",
            "upstream",
        ];
        let mut list = f.debug_set();
        for (bit, name) in NAMES.iter().enumerate() {
            if self.0 & (1 << bit) != 0 {
                list.entry(name);
            }
        }
        list.finish()
    }
}

/// What `ngx.exit` does in a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitRule {
    /// `ngx.exit` raises "API disabled in the context of X*".
    Disabled,
    /// The handler ends at once; `ngx.exit` never returns to its caller.
    Ends,
    /// `ngx.exit` returns; its effect comes when the handler has returned.
    Later,
}

/// What a phase's `ngx.ctx` belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtxOwner {
    /// There is none.
    None,
    /// A table of this one handler run.
    Run,
    /// The connection's table.
    Connection,
    /// The request's table.
    Request,
}

/// How many ways a phase's code may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spellings {
    /// It has no directive.
    None,
    /// `X_by_lua_block {}` and `X_by_lua_file`.
    BlockFile,
    /// Those two and the quoted `X_by_lua '...'`.
    All,
}

/// One way of writing a phase's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spelling {
    /// `X_by_lua '...'`.
    Quoted,
    /// `X_by_lua_block {...}`.
    Block,
    /// `X_by_lua_file PATH`.
    File,
}

/// THE phase table. Columns: variant, directive stem, `get_phase` name, order, context bit,
/// contexts, spellings, then the powers upstream grants: yields, output, exit, capture,
/// cosocket, ctx; and whether this server runs it yet.
#[macro_export]
macro_rules! for_each_phase { ($m:ident) => { $m! {
    /// Once per configuration, in the master, before the fork.
    Init { "init_by_lua", "init", 0, 0, [HTTP], All,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: None, ready: true }
    /// When a worker starts.
    InitWorker { "init_worker_by_lua", "init_worker", 1, 0x100, [HTTP], All,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: Run, ready: true }
    /// After the ClientHello, before anything that depends on the server name.
    SslClientHello { "ssl_client_hello_by_lua", "ssl_client_hello", 2, 0x4000, [HTTP SERVER], BlockFile,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Connection, ready: false }
    /// Looks up a session by its id.
    SslSessionFetch { "ssl_session_fetch_by_lua", "ssl_session_fetch", 3, 0x1000, [HTTP], BlockFile,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Connection, ready: false }
    /// Chooses the certificate; skipped on resumption.
    SslCert { "ssl_certificate_by_lua", "ssl_cert", 4, 0x400, [HTTP SERVER], BlockFile,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Connection, ready: false }
    /// Stores a new session.
    SslSessionStore { "ssl_session_store_by_lua", "ssl_session_store", 5, 0x800, [HTTP], BlockFile,
        yields: false, output: false, exit: Later, capture: false, cosocket: false, ctx: Connection, ready: false }
    /// Before the location is looked up, again after each internal redirect.
    ServerRewrite { "server_rewrite_by_lua", "server_rewrite", 6, 0x8000, [HTTP SERVER], BlockFile,
        yields: true, output: true, exit: Ends, capture: false, cosocket: true, ctx: Request, ready: true }
    /// A step of the rewrite script.
    Set { "set_by_lua", "set", 7, 0x1, [SERVER SERVER_IF LOCATION LOCATION_IF], All,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: Request, ready: true }
    /// At the end of the rewrite phase; in subrequests too.
    Rewrite { "rewrite_by_lua", "rewrite", 8, 0x2, [HTTP SERVER LOCATION LOCATION_IF], All,
        yields: true, output: true, exit: Ends, capture: true, cosocket: true, ctx: Request, ready: true }
    /// At the end of the access phase; main requests only.
    Access { "access_by_lua", "access", 9, 0x4, [HTTP SERVER LOCATION LOCATION_IF], All,
        yields: true, output: true, exit: Ends, capture: true, cosocket: true, ctx: Request, ready: true }
    /// After try_files and mirror.
    Precontent { "precontent_by_lua", "precontent", 10, 0x20000, [HTTP SERVER LOCATION LOCATION_IF], BlockFile,
        yields: true, output: true, exit: Ends, capture: false, cosocket: true, ctx: Request, ready: true }
    /// The content handler of a location.
    Content { "content_by_lua", "content", 11, 0x8, [LOCATION LOCATION_IF], All,
        yields: true, output: true, exit: Ends, capture: true, cosocket: true, ctx: Request, ready: true }
    /// Chooses an upstream peer, on each try.
    Balancer { "balancer_by_lua", "balancer", 12, 0x200, [UPSTREAM], BlockFile,
        yields: false, output: false, exit: Later, capture: false, cosocket: false, ctx: Request, ready: true }
    /// Verifies an upstream's certificate.
    ProxySslVerify { "proxy_ssl_verify_by_lua", "proxy_ssl_verify", 13, 0x10000, [LOCATION LOCATION_IF], BlockFile,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Request, ready: false }
    /// Answers an upstream's certificate request.
    ProxySslCert { "proxy_ssl_certificate_by_lua", "proxy_ssl_cert", 14, 0x40000, [LOCATION LOCATION_IF], BlockFile,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Request, ready: false }
    /// Before the response header goes out, whoever made it.
    HeaderFilter { "header_filter_by_lua", "header_filter", 15, 0x20, [HTTP SERVER LOCATION LOCATION_IF], All,
        yields: false, output: false, exit: Later, capture: false, cosocket: false, ctx: Request, ready: true }
    /// On each chunk of the response body.
    BodyFilter { "body_filter_by_lua", "body_filter", 16, 0x40, [HTTP SERVER LOCATION LOCATION_IF], All,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: Request, ready: true }
    /// When the request is over, before the access log.
    Log { "log_by_lua", "log", 17, 0x10, [HTTP SERVER LOCATION LOCATION_IF], All,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: Request, ready: true }
    /// A callback of `ngx.timer`; no directive.
    Timer { "", "timer", 18, 0x80, [], None,
        yields: true, output: false, exit: Ends, capture: false, cosocket: true, ctx: Run, ready: true }
    /// When a worker exits.
    ExitWorker { "exit_worker_by_lua", "exit_worker", 99, 0x2000, [HTTP], BlockFile,
        yields: false, output: false, exit: Disabled, capture: false, cosocket: false, ctx: Run, ready: true }
} } }

/// What upstream grants a phase, and how it is written.
#[derive(Clone, Copy, Debug)]
pub struct PhaseInfo {
    /// Directive stem, `content_by_lua`; empty when the phase has no directive.
    pub stem: &'static str,
    /// What `ngx.get_phase()` returns.
    pub name: &'static str,
    /// Place among the others.
    pub order: u8,
    /// Upstream's context bit; 0 for `init`.
    pub bit: u32,
    /// Where the directive may stand.
    pub contexts: Contexts,
    /// Which spellings the directive has.
    pub spellings: Spellings,
    /// Whether upstream lets the handler yield. Here every phase may, unless strict.
    pub yields: bool,
    /// Whether headers and body may be written.
    pub output: bool,
    /// What `ngx.exit` does.
    pub exit: ExitRule,
    /// Whether `ngx.location.capture` works.
    pub capture: bool,
    /// Whether upstream has cosockets here.
    pub cosocket: bool,
    /// What `ngx.ctx` belongs to.
    pub ctx: CtxOwner,
    /// Whether this server runs the phase; if not, configuration refuses it by name.
    pub ready: bool,
}

macro_rules! define_phases {
    ($( $(#[$doc:meta])* $variant:ident { $stem:literal, $name:literal, $order:literal, $bit:literal,
        [$($place:ident)*], $spell:ident, yields: $yields:literal, output: $output:literal, exit: $exit:ident,
        capture: $capture:literal, cosocket: $cosocket:literal, ctx: $ctx:ident, ready: $ready:literal } )*) => {
        /// A context in which Lua code runs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Phase { $( $(#[$doc])* $variant ),* }

        /// Every phase, in the order of the table.
        pub const ALL: &[Phase] = &[ $( Phase::$variant ),* ];

        const INFO: &[PhaseInfo] = &[ $( PhaseInfo {
            stem: $stem, name: $name, order: $order, bit: $bit,
            contexts: Contexts::NONE $( .or(Contexts::$place) )*,
            spellings: Spellings::$spell, yields: $yields, output: $output, exit: ExitRule::$exit,
            capture: $capture, cosocket: $cosocket, ctx: CtxOwner::$ctx, ready: $ready,
        } ),* ];

        /// Every directive of the table: its name, phase and spelling.
        pub const DIRECTIVES: &[(&str, Phase, Spelling)] = &[ $(
            ($stem, Phase::$variant, Spelling::Quoted),
            (concat!($stem, "_block"), Phase::$variant, Spelling::Block),
            (concat!($stem, "_file"), Phase::$variant, Spelling::File),
        )* ];
    };
}
for_each_phase!(define_phases);

/// How many phases there are: the length of an array indexed by `Phase`.
pub const COUNT: usize = ALL.len();

impl Phase {
    /// The phase's row.
    pub const fn info(self) -> &'static PhaseInfo {
        &INFO[self as usize]
    }

    /// What `ngx.get_phase()` returns.
    pub const fn name(self) -> &'static str {
        self.info().name
    }

    /// How messages call the context: `content_by_lua*`, `ngx.timer`.
    pub fn context_name(self) -> String {
        match self.info().stem {
            "" => "ngx.timer".to_owned(),
            stem => format!("{stem}*"),
        }
    }

    /// The message of a call that this phase does not offer.
    pub fn disabled_message(self) -> String {
        format!("API disabled in the context of {}", self.context_name())
    }

    /// Whether code of this phase may be written in this spelling.
    pub fn allows(self, spelling: Spelling) -> bool {
        match (self.info().spellings, spelling) {
            (Spellings::All, _) => true,
            (Spellings::BlockFile, Spelling::Block | Spelling::File) => true,
            (Spellings::BlockFile, Spelling::Quoted) | (Spellings::None, _) => false,
        }
    }

    /// The phase and spelling of a `*_by_lua*` directive name.
    pub fn of_directive(name: &str) -> Option<(Phase, Spelling)> {
        DIRECTIVES
            .iter()
            .find(|(directive, phase, spelling)| *directive == name && phase.allows(*spelling))
            .map(|(_, phase, spelling)| (*phase, *spelling))
    }
}

/// A set of phases, for API rows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Phases(u32);

/// The set of phases whose row passes a test, at compile time.
macro_rules! select {
    ($info:ident, $test:expr) => {{
        let mut set = 0;
        let mut at = 0;
        while at < INFO.len() {
            let $info = &INFO[at];
            if $test {
                set |= 1 << at;
            }
            at += 1;
        }
        Phases(set)
    }};
}

impl Phases {
    /// No phase.
    pub const NONE: Phases = Phases(0);
    /// Every phase.
    pub const ANY: Phases = select!(_info, true);
    /// Where upstream lets code yield.
    pub const YIELDABLE: Phases = select!(info, info.yields);
    /// Where headers and body may be written, and the request sent elsewhere.
    pub const OUTPUT: Phases = select!(info, info.output);
    /// Where `ngx.location.capture` works.
    pub const CAPTURE: Phases = select!(info, info.capture);
    /// Where upstream has cosockets.
    pub const COSOCKET: Phases = select!(info, info.cosocket);
    /// Where `ngx.exit` works.
    pub const EXIT: Phases = select!(info, !matches!(info.exit, ExitRule::Disabled));
    /// Where there is a request: not `init*`, `exit_worker`, timers, TLS.
    pub const REQUEST: Phases = select!(info, matches!(info.ctx, CtxOwner::Request));

    /// The set of one phase.
    pub const fn of(phase: Phase) -> Phases {
        Phases(1 << phase as u32)
    }

    /// Phases of both sets.
    pub const fn or(self, other: Phases) -> Phases {
        Phases(self.0 | other.0)
    }

    /// This set without the phases of the other.
    pub const fn without(self, other: Phases) -> Phases {
        Phases(self.0 & !other.0)
    }

    /// Whether the phase is in the set.
    pub const fn has(self, phase: Phase) -> bool {
        self.0 & (1 << phase as u32) != 0
    }
}

impl fmt::Debug for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(ALL.iter().filter(|phase| self.has(**phase)).map(|phase| phase.name())).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_derive_from_the_rows() {
        let yieldable = format!("{:?}", Phases::YIELDABLE);
        assert_eq!(
            yieldable,
            r#"{"ssl_client_hello", "ssl_session_fetch", "ssl_cert", "server_rewrite", "rewrite", "access", "precontent", "content", "proxy_ssl_verify", "proxy_ssl_cert", "timer"}"#
        );
        assert_eq!(format!("{:?}", Phases::CAPTURE), r#"{"rewrite", "access", "content"}"#);
        assert!(Phases::OUTPUT.has(Phase::ServerRewrite) && !Phases::OUTPUT.has(Phase::HeaderFilter));
        assert!(!Phases::REQUEST.has(Phase::Timer) && Phases::REQUEST.has(Phase::Log));
    }

    #[test]
    fn directive_names_in_all_spellings() {
        assert_eq!(Phase::of_directive("content_by_lua"), Some((Phase::Content, Spelling::Quoted)));
        assert_eq!(Phase::of_directive("set_by_lua_file"), Some((Phase::Set, Spelling::File)));
        assert_eq!(
            Phase::of_directive("exit_worker_by_lua_block"),
            Some((Phase::ExitWorker, Spelling::Block))
        );
        assert_eq!(Phase::of_directive("exit_worker_by_lua"), None);
        assert_eq!(Phase::of_directive(""), None);
        assert_eq!(Phase::of_directive("_block"), None);
    }

    #[test]
    fn refusal_names_the_context() {
        assert_eq!(Phase::Log.disabled_message(), "API disabled in the context of log_by_lua*");
        assert_eq!(Phase::Timer.disabled_message(), "API disabled in the context of ngx.timer");
    }

    #[test]
    fn names_bits_and_orders_are_unique() {
        for (i, a) in ALL.iter().enumerate() {
            for b in &ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
                assert_ne!(a.info().bit, b.info().bit);
                assert!(a.info().order < b.info().order, "{a:?} stands before {b:?}");
            }
        }
    }
}
