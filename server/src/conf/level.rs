//! One level of the configuration while it is read, and what becomes of it: inheritance.
//!
//! `http`, each `server`, `location`, `if` and `limit_except` block is a `Level`. When everything was
//! read, `finish` lets each level take from the one around it what it does not give itself, and
//! turns it into the `Location` that requests see.

use std::collections::HashMap;
use std::sync::Arc;

use super::error::ConfError;
use super::error::Place;
use super::filter_settings::FilterDraft;
use super::locations::Locations;
use super::model::{
    AccessLog, AddHeader, Condition, Content, ErrorLog, ErrorPage, LimitExcept, ListenAddr, ListenOptions,
    Location, LocationKind, LuaHandlers, Resolver, RewriteOp, Root, TryFiles,
};
use super::parts::Parts;
use super::proxy::{self, ProxyDraft, ProxyInherited, ProxyLists};
use super::proxy_ssl::{self, ProxySslDraft, ProxySslInherited};
use super::servers::ServerName;
use super::settings::{LocationDraft, ServerDraft};
use super::ssl::{SslDraft, SslLists};
use super::tls::{self, LuaTlsDraft, OwnFiles, TlsInherited};
use super::upstream::UpstreamBlock;
use super::variables::Script;
use crate::phase::{Contexts, Phase};

/// A `listen` line.
#[derive(Clone, Debug)]
pub struct ListenLine {
    /// The address.
    pub addr: ListenAddr,
    /// Its options.
    pub options: ListenOptions,
    /// Whether an option asks for a socket of its own.
    pub bind: bool,
    /// Whether any socket option is given.
    pub set: bool,
    /// `default_server`.
    pub default_server: bool,
    /// Where the line is.
    pub place: Place,
}

/// What only a `server {}` has.
#[derive(Debug, Default)]
pub struct ServerPart {
    /// `listen` lines.
    pub listens: Vec<ListenLine>,
    /// `server_name`s.
    pub names: Vec<ServerName>,
    /// The first name as written.
    pub first_name: Option<String>,
}

/// A step of a rewrite script while levels are unfinished.
#[derive(Debug)]
pub enum Step {
    /// A finished step.
    Op(RewriteOp),
    /// An `if` with its block.
    If(Condition, Box<Level>),
}

/// A level while it is read.
#[derive(Debug)]
pub struct Level {
    /// Which block this is.
    pub context: Contexts,
    /// What kind of location it becomes.
    pub kind: LocationKind,
    /// The path, regex text or name as written.
    pub name: Box<[u8]>,
    /// Where the block begins.
    pub place: Option<Place>,
    /// Scalar settings.
    pub settings: LocationDraft,
    /// Directives that tune what is not there, as far as they were given.
    pub tuned: Vec<String>,
    /// Scalar settings of response modules.
    pub filters: FilterDraft,
    /// What modules beyond the core have.
    pub parts: Parts,
    /// Scalar settings of servers; given on `http` and `server` only.
    pub server: ServerDraft,
    /// `listen` and `server_name` of a server.
    pub server_part: ServerPart,
    /// `root` or `alias`.
    pub root: Option<Root>,
    /// `index`.
    pub index: Option<Vec<Script>>,
    /// `try_files`.
    pub try_files: Option<TryFiles>,
    /// What makes the content.
    pub content: Option<Content>,
    /// The directive that gave it.
    pub content_directive: String,
    /// The rewrite script.
    pub rewrite: Vec<Step>,
    /// Lua handlers by phase.
    pub lua: LuaHandlers,
    /// `internal`.
    pub internal: bool,
    /// `error_log`s.
    pub error_logs: Vec<ErrorLog>,
    /// `access_log`s; `None` when no line is given, empty for `off`.
    pub access_logs: Option<Vec<AccessLog>>,
    /// `error_page`s.
    pub error_pages: Vec<ErrorPage>,
    /// `add_header`s.
    pub add_headers: Vec<AddHeader>,
    /// `types`.
    pub types: Option<HashMap<Box<[u8]>, Box<[u8]>>>,
    /// `resolver`.
    pub resolver: Option<Arc<Resolver>>,
    /// `limit_except`.
    pub limit_except: Option<(Vec<Box<[u8]>>, Box<Level>)>,
    /// Scalar `proxy_*` settings.
    pub proxy: ProxyDraft,
    /// `proxy_*` lists.
    pub proxy_lists: ProxyLists,
    /// `proxy_ssl_*` settings.
    pub proxy_ssl: ProxySslDraft,
    /// `lua_ssl_*` settings.
    pub lua_tls: LuaTlsDraft,
    /// `lua_ssl_certificate*` lines.
    pub lua_tls_files: OwnFiles,
    /// `ssl_*` settings; given on `http` and `server` only.
    pub ssl: SslDraft,
    /// `ssl_certificate*` lines and the like.
    pub ssl_lists: SslLists,
    /// What an `upstream {}` says.
    pub upstream: Option<Box<UpstreamBlock>>,
    /// Blocks inside: servers of `http`, locations of the others.
    pub inner: Vec<Level>,
}

impl Level {
    /// An empty level.
    pub fn new(context: Contexts, kind: LocationKind) -> Level {
        Level {
            context,
            kind,
            name: Box::default(),
            place: None,
            settings: LocationDraft::default(),
            tuned: Vec::new(),
            filters: FilterDraft::default(),
            parts: Parts::default(),
            server: ServerDraft::default(),
            server_part: ServerPart::default(),
            root: None,
            index: None,
            try_files: None,
            content: None,
            content_directive: String::new(),
            rewrite: Vec::new(),
            lua: LuaHandlers::default(),
            internal: false,
            error_logs: Vec::new(),
            access_logs: None,
            error_pages: Vec::new(),
            add_headers: Vec::new(),
            types: None,
            resolver: None,
            limit_except: None,
            proxy: ProxyDraft::default(),
            proxy_lists: ProxyLists::default(),
            proxy_ssl: ProxySslDraft::default(),
            lua_tls: LuaTlsDraft::default(),
            lua_tls_files: OwnFiles::default(),
            ssl: SslDraft::default(),
            ssl_lists: SslLists::default(),
            upstream: None,
            inner: Vec::new(),
        }
    }
}

/// What an inner level takes from the level around it.
#[derive(Clone, Debug)]
pub struct Inherited {
    settings: LocationDraft,
    filters: FilterDraft,
    parts: Arc<Parts>,
    root: Root,
    index: Arc<[Script]>,
    lua: LuaHandlers,
    error_logs: Arc<[ErrorLog]>,
    access_logs: Arc<[AccessLog]>,
    error_pages: Arc<[ErrorPage]>,
    add_headers: Arc<[AddHeader]>,
    types: Arc<HashMap<Box<[u8]>, Box<[u8]>>>,
    resolver: Option<Arc<Resolver>>,
    content: Option<Content>,
    internal: bool,
    limit_except: Option<LimitExcept>,
    try_files: Option<TryFiles>,
    proxy: ProxyInherited,
    proxy_ssl: ProxySslInherited,
    tls: TlsInherited,
}

impl Inherited {
    /// What holds outside `http {}`: the defaults.
    pub fn defaults(root: Root, error_logs: Arc<[ErrorLog]>, access_log: AccessLog) -> Inherited {
        let types = [("html", "text/html"), ("gif", "image/gif"), ("jpg", "image/jpeg")]
            .into_iter()
            .map(|(extension, mime)| (extension.as_bytes().into(), mime.as_bytes().into()))
            .collect();
        Inherited {
            settings: LocationDraft::default(),
            filters: FilterDraft::default(),
            parts: Arc::default(),
            root,
            index: Arc::from([Script::literal(b"index.html")]),
            lua: LuaHandlers::default(),
            error_logs,
            access_logs: Arc::from([access_log]),
            error_pages: Arc::from([]),
            add_headers: Arc::from([]),
            types: Arc::new(types),
            resolver: None,
            content: None,
            internal: false,
            limit_except: None,
            try_files: None,
            proxy: ProxyInherited::default(),
            proxy_ssl: ProxySslInherited::default(),
            tls: TlsInherited::default(),
        }
    }
}

/// A list that an inner level replaces when it has any entry.
fn replaced<T>(own: Vec<T>, outer: &Arc<[T]>) -> Arc<[T]> {
    if own.is_empty() { outer.clone() } else { own.into() }
}

/// A finished level, with what its own inner levels inherit.
pub struct Finished {
    /// The level as requests see it.
    pub location: Arc<Location>,
    /// Named locations inside (of a server).
    pub named: HashMap<Box<[u8]>, Arc<Location>>,
    /// What inner levels inherit.
    pub inherited: Inherited,
}

/// Finishes a level and everything inside. The servers of `http {}` must have been taken out of `inner`.
///
/// The error is that of settings which do not go together.
pub fn finish(level: Level, outer: &Inherited) -> Result<Finished, ConfError> {
    let mut settings = level.settings;
    settings.inherit(&outer.settings);
    let mut filters = level.filters;
    filters.inherit(&outer.filters);
    let mut parts = level.parts;
    parts.inherit(&outer.parts);
    let mut lua = level.lua;
    for (own, outer) in lua.0.iter_mut().zip(&outer.lua.0) {
        if own.is_none() {
            own.clone_from(outer);
        }
    }
    // An `if` and a `limit_except` serve the same location: what makes the content holds in them too.
    let same_location = matches!(level.kind, LocationKind::If | LocationKind::LimitExcept);
    let content =
        if level.content.is_none() && same_location { outer.content.clone() } else { level.content };
    lua.0[Phase::Content as usize] = match &content {
        Some(Content::Lua(code)) => Some(code.clone()),
        _ => None,
    };
    let (proxy, proxy_conf) =
        proxy::finish(level.proxy, level.proxy_lists, &outer.proxy).map_err(|text| match &level.place {
            Some(place) => ConfError::at(place, text),
            None => ConfError::whole(text),
        })?;
    let wants_ssl = matches!(&content, Some(Content::Proxy(pass)) if pass.target.may_be_ssl());
    let proxy_ssl =
        proxy_ssl::finish(level.proxy_ssl, wants_ssl, &outer.proxy_ssl).map_err(ConfError::whole)?;
    let tls = tls::finish(level.lua_tls, level.lua_tls_files, &outer.tls).map_err(ConfError::whole)?;
    let mut inherited = Inherited {
        proxy,
        proxy_ssl,
        tls,
        settings,
        filters,
        parts: Arc::new(parts),
        root: level.root.unwrap_or_else(|| outer.root.clone()),
        index: level.index.map_or_else(|| outer.index.clone(), Into::into),
        lua,
        error_logs: replaced(level.error_logs, &outer.error_logs),
        access_logs: level.access_logs.map_or_else(|| outer.access_logs.clone(), Into::into),
        error_pages: replaced(level.error_pages, &outer.error_pages),
        add_headers: replaced(level.add_headers, &outer.add_headers),
        types: level.types.map_or_else(|| outer.types.clone(), Arc::new),
        resolver: level.resolver.or_else(|| outer.resolver.clone()),
        content,
        internal: level.internal || (same_location && outer.internal),
        limit_except: if same_location { outer.limit_except.clone() } else { None },
        try_files: if same_location && level.try_files.is_none() {
            outer.try_files.clone()
        } else {
            level.try_files
        },
    };
    if let Some((methods, inner)) = level.limit_except {
        inherited.limit_except = Some(LimitExcept { methods, level: finish(*inner, &inherited)?.location });
    }
    let rewrite: Vec<RewriteOp> =
        level.rewrite.into_iter().map(|step| finish_step(step, &inherited)).collect::<Result<_, _>>()?;
    let mut named = HashMap::new();
    let mut locations = Vec::new();
    for inner in level.inner {
        let finished = finish(inner, &inherited)?;
        if matches!(finished.location.kind, LocationKind::Named) {
            named.insert(finished.location.name.clone(), finished.location);
        } else {
            locations.push(finished.location);
        }
    }
    let location = Location {
        name: level.name,
        kind: level.kind,
        internal: inherited.internal,
        settings: inherited.settings.finish(),
        filters: inherited.filters.finish(),
        parts: inherited.parts.clone(),
        root: inherited.root.clone(),
        index: inherited.index.clone(),
        try_files: inherited.try_files.clone(),
        content: inherited.content.clone(),
        rewrite: rewrite.into(),
        proxy: proxy_conf,
        proxy_ssl: inherited.proxy_ssl.made.clone(),
        lua_tls: inherited.tls.client.clone(),
        lua: inherited.lua.clone(),
        error_logs: inherited.error_logs.clone(),
        access_logs: inherited.access_logs.clone(),
        error_pages: inherited.error_pages.clone(),
        add_headers: inherited.add_headers.clone(),
        types: inherited.types.clone(),
        resolver: inherited.resolver.clone(),
        limit_except: inherited.limit_except.clone(),
        locations: Locations::new(locations),
    };
    // What makes the content of a level is not passed on to locations inside.
    Ok(Finished { location: Arc::new(location), named, inherited })
}

fn finish_step(step: Step, outer: &Inherited) -> Result<RewriteOp, ConfError> {
    Ok(match step {
        Step::Op(op) => op,
        Step::If(condition, level) => {
            let level = finish(*level, outer)?.location;
            RewriteOp::If { condition, body: level.rewrite.clone(), level }
        }
    })
}
