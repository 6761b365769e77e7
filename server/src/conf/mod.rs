//! Configuration: nginx's language, typed.
//!
//! `load` reads the main file and gives a `Config` or the first error, in nginx's words.
//! The steps: `lexer` finds words, `tree` blocks, `include` splices files, `directive` walks the tree
//! and calls the rows of `directives`, `level` applies inheritance, `model` is the result.
//!
//! Must not know: sockets, Lua, requests. Files are read, none is written.

pub mod directive;
pub mod directives;
pub mod error;
pub mod filter_settings;
pub mod hash;
pub mod include;
pub mod level;
pub mod lexer;
pub mod locations;
pub mod model;
pub mod net;
pub mod parts;
pub mod proxy;
pub mod proxy_ssl;
pub mod servers;
pub mod settings;
pub mod ssl;
pub mod tls;
pub mod tree;
pub mod upstream;
pub mod url;
pub mod value;
pub mod variables;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use directive::Build;
use error::{COMMAND_LINE, ConfError};
use include::Reader;
use level::{Inherited, Level};
use model::{
    AccessLog, Config, ErrorLog, HttpConf, Level as LogLevel, LocationKind, LuaCode, LuaMain, LuaSource,
    Root, Server,
};
use variables::Script;

use crate::phase::{Contexts, Phase};

/// Where relative paths start from when `-p` does not say.
pub const DEFAULT_PREFIX: &str = "/usr/local/openresty/nginx/";

/// The options of nginx's configure script that what there is would take.
pub const CONFIGURE_ARGUMENTS: &str = "--prefix=/usr/local/openresty/nginx/ --with-pcre-jit \
    --with-http_stub_status_module --with-http_auth_request_module --with-http_gunzip_module \
    --with-http_gzip_static_module --with-http_realip_module --with-http_secure_link_module \
    --with-http_sub_module --without-http_fastcgi_module --without-http_scgi_module \
    --without-http_uwsgi_module --without-http_grpc_module";

/// What the command line says about the configuration.
#[derive(Clone, Debug)]
pub struct Options {
    /// `-p`: what relative paths start from.
    pub prefix: PathBuf,
    /// `-c`: the main file, absolute or relative to the prefix.
    pub file: PathBuf,
    /// `-e`: the error log until the configuration names one.
    pub error_log: PathBuf,
    /// `-g`: directives in front of the main file.
    pub globals: String,
}

/// A loaded configuration, and what only the start-up needs of it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every piece of Lua code in it, with its place.
    pub lua_codes: Vec<(Arc<LuaCode>, error::Place)>,
}

/// Why there is no configuration, and what was worth a line before that.
#[derive(Debug)]
pub struct Failed {
    /// The error.
    pub error: ConfError,
    /// Lines that are no errors.
    pub warnings: Vec<(LogLevel, String)>,
}

/// Looks whether Lua code compiles; implemented by whoever has a Lua.
pub trait ChunkCheck {
    /// Compiles `source` under `chunk_name` and forgets it. The error is the compiler's message.
    fn check(&mut self, source: &[u8], chunk_name: &str) -> Result<(), String>;
}

/// Reads and understands the configuration.
pub fn load(options: &Options) -> Result<Loaded, Failed> {
    let mut prefix = options.prefix.clone();
    prefix.push("");
    let file = prefix.join(&options.file);
    let folder = file.parent().map(|folder| folder.join("")).unwrap_or_default();
    let mut build = Build { prefix, file: file.clone(), ..Build::default() };
    let mut reader = Reader::new(folder);
    match read_all(options, &file, &mut reader, &mut build) {
        Ok(()) => {}
        Err(error) => return Err(Failed { error, warnings: build.warnings }),
    }
    if !build.events_seen {
        let mut error = ConfError::whole("no \"events\" section in configuration");
        error.syntax_ok = true;
        return Err(Failed { error, warnings: build.warnings });
    }
    finish(options, build, reader)
}

fn read_all(options: &Options, file: &Path, reader: &mut Reader, build: &mut Build) -> Result<(), ConfError> {
    let mut main = Level::new(Contexts::MAIN, LocationKind::Http);
    if !options.globals.is_empty() {
        let items = reader.read_text(options.globals.as_bytes(), COMMAND_LINE);
        directive::walk(build, &mut main, &items)?;
    }
    let items = reader.read_main(file)?;
    directive::walk(build, &mut main, &items)
}

fn finish(options: &Options, mut build: Build, reader: Reader) -> Result<Loaded, Failed> {
    if build.error_logs.is_empty() {
        let path = if options.error_log.as_os_str() == "stderr" {
            PathBuf::new()
        } else {
            build.prefix.join(&options.error_log)
        };
        let file = directive::intern_log_file(&mut build.log_files, path);
        build.error_logs.push(ErrorLog { file, level: LogLevel::Error });
    }
    let error_logs: model::ErrorLogs = build.error_logs.clone().into();
    let http = match build.http.take() {
        None => None,
        Some(level) => match finish_http(&mut build, level, &error_logs) {
            Ok(http) => Some(http),
            Err(error) => return Err(Failed { error, warnings: build.warnings }),
        },
    };
    let main = build.main.finish();
    let listening = http.as_ref().map_or(0, |http| http.listens.len());
    if main.worker_connections <= listening as u64 {
        let most = main.worker_connections;
        let mut error = ConfError::whole(format!(
            "{most} worker_connections are not enough for {listening} listening sockets"
        ));
        error.syntax_ok = true;
        return Err(Failed { error, warnings: build.warnings });
    }
    let config = Config {
        main,
        prefix: build.prefix,
        file: build.file,
        env: build.env,
        thread_pools: build.thread_pools,
        error_logs,
        log_files: build.log_files,
        http,
        sources: reader.sources,
        warnings: build.warnings,
    };
    Ok(Loaded { config, lua_codes: build.lua_codes })
}

fn finish_http(
    build: &mut Build,
    mut http: Level,
    error_logs: &model::ErrorLogs,
) -> Result<HttpConf, ConfError> {
    let servers = std::mem::take(&mut http.inner);
    let listens = directives::http::listens(build, &servers)?;
    let places: Vec<Option<error::Place>> = servers.iter().map(|s| s.place.clone()).collect();
    let outermost = outermost(build, error_logs);
    let http_server = http.server.clone();
    let (http_ssl, http_ssl_lists) = (std::mem::take(&mut http.ssl), std::mem::take(&mut http.ssl_lists));
    let http = level::finish(http, &outermost)?;
    let mut finished = Vec::with_capacity(servers.len());
    for mut level in servers {
        let mut settings = std::mem::take(&mut level.server);
        settings.inherit(&http_server);
        let lists = std::mem::take(&mut level.ssl_lists);
        let ssl = ssl::finish(std::mem::take(&mut level.ssl), lists, (&http_ssl, &http_ssl_lists));
        let ssl = ssl.map_err(ConfError::whole)?;
        let name = level.server_part.first_name.take().unwrap_or_default();
        let mut server = level::finish(level, &http.inherited)?;
        let rewrite = server.location.rewrite.clone();
        // The locations of a server are its own, not those of the level that stands for it.
        let level = Arc::get_mut(&mut server.location).expect("nobody else has the level yet");
        let locations = std::mem::take(&mut level.locations);
        finished.push(Arc::new(Server {
            name,
            settings: settings.finish(),
            level: server.location,
            rewrite,
            locations,
            ssl,
            named: server.named,
        }));
    }
    let outer = (http.location.resolver.as_ref(), http.location.resolver_timeout);
    let upstreams = std::mem::take(&mut build.upstreams)
        .into_iter()
        .map(|group| group.finish(outer).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    check_ssl(&listens, &finished, &places)?;
    let dicts = build.shared_dicts.iter().map(|dict| dict.name.as_str());
    let mut taken: Vec<&str> = dicts.chain(build.limit_zones.iter().map(|zone| zone.name.as_str())).collect();
    for zone in &build.session_zones {
        if taken.contains(&zone.name.as_str()) {
            let name = &zone.name;
            return Err(ConfError::whole(format!(
                "the shared memory zone \"{name}\" is already declared for a different use"
            )));
        }
    }
    taken.extend(build.session_zones.iter().map(|zone| zone.name.as_str()));
    directives::upstream::check_zones(&upstreams, &taken)?;
    let mut handlers = std::mem::take(&mut build.process_handlers);
    Ok(HttpConf {
        vars: std::mem::take(&mut build.vars),
        maps: std::mem::take(&mut build.maps),
        servers: finished,
        geos: std::mem::take(&mut build.geos),
        splits: std::mem::take(&mut build.splits),
        session_zones: build.session_zones.clone(),
        limit_zones: std::mem::take(&mut build.limit_zones),
        upstreams,
        listens,
        lua: LuaMain {
            settings: build.lua.finish(),
            init: handlers.remove(&Phase::Init),
            init_worker: handlers.remove(&Phase::InitWorker),
            exit_worker: handlers.remove(&Phase::ExitWorker),
            shared_dicts: std::mem::take(&mut build.shared_dicts),
            used: build.phases_used,
        },
        level: http.location,
    })
}

/// Addresses that speak TLS have a certificate: that of the default server serves for those without, but where that one
/// refuses every handshake.
fn check_ssl(
    listens: &[model::Listen],
    servers: &[Arc<Server>],
    places: &[Option<error::Place>],
) -> Result<(), ConfError> {
    let has = |at: &usize| servers[*at].ssl.is_some();
    for listen in listens.iter().filter(|l| l.options.ssl) {
        let default = &listen.default_server;
        let rejects = servers[*default].ssl.as_ref().is_some_and(|s| s.reject);
        let lacks = match (has(default), rejects) {
            (false, _) => Some(default),
            (true, true) => listen.servers.iter().find(|s| !has(s)),
            (true, false) => None,
        };
        if let Some(at) = lacks {
            let place = places[*at].as_ref();
            let place = place.map_or_else(String::new, |p| format!("{}:{}", p.file.display(), p.line));
            return Err(ConfError::whole(format!(
                "no \"ssl_certificate\" is defined for the \"listen ... ssl\" directive in {place}"
            )));
        }
    }
    Ok(())
}

/// What holds around `http {}`: nginx's defaults.
fn outermost(build: &mut Build, error_logs: &model::ErrorLogs) -> Inherited {
    let mut root = Script::literal(b"html");
    root.prepend(directive::prefix_bytes(&build.prefix));
    let path = build.prefix.join("logs/access.log");
    let format = match build.log_formats.get("combined") {
        Some(format) => format.clone(),
        None => directives::log::combined(&mut build.vars),
    };
    let file = directive::intern_log_file(&mut build.log_files, path);
    let access_log =
        AccessLog { file, format, buffer_bytes: 0, flush_ms: 0, gzip_level: 0, path: None, condition: None };
    Inherited::defaults(Root { path: root, alias: false }, error_logs.clone(), access_log)
}

/// Compiles every piece of Lua code whose text is known without a request. The first failure is
/// reported where the directive stands.
pub fn check_lua(loaded: &Loaded, check: &mut dyn ChunkCheck) -> Result<(), ConfError> {
    for (code, place) in &loaded.lua_codes {
        let result = match &code.source {
            LuaSource::Inline(text) => check
                .check(text, &code.chunk_name)
                .map_err(|why| format!("failed to load inlined Lua code: {why}")),
            LuaSource::File(path) => {
                use std::os::unix::ffi::OsStrExt;
                let Some(path) = path.as_literal() else { continue };
                let path = Path::new(std::ffi::OsStr::from_bytes(path));
                // A file that is not there yet is the request's 404, as it is upstream.
                let Ok(text) = std::fs::read(path) else { continue };
                check
                    .check(&text, &code.chunk_name)
                    .map_err(|why| format!("failed to load external Lua file \"{}\": {why}", path.display()))
            }
        };
        if let Err(message) = result {
            return Err(ConfError::at(place, message));
        }
    }
    Ok(())
}
