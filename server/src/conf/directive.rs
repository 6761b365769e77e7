//! The directive table's row type, the state a setter works on, and the walk over the tree.
//!
//! A directive is one row: name, contexts, number of arguments, block or not, setter. The checks
//! common to all (known? allowed here? terminated? arity?) and their texts are here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::directives;
use super::directives::geo::{Geo, Split};
use super::directives::limits::LimitZone;
use super::error::{ConfError, Fail, Place};
use super::level::Level;
use super::model::SharedDict;
use super::model::{ErrorLog, Level as LogLevel, LogFile, LogFileId, LogFormat, LuaCode, LuaSource, Map};
use super::settings::{LuaDraft, MainDraft};
use super::tree::{Body, Item, Node};
use super::upstream::UpstreamDraft;
use super::variables::{Pattern, Script, VarId, VarKind, VarTable};
use crate::phase::{self, Contexts, Phase};
use crate::regex::{Options, Regex};

/// How many arguments a directive takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// Just so many.
    Exactly(usize),
    /// From so many to so many.
    Between(usize, usize),
    /// So many or more.
    AtLeast(usize),
}

impl Arity {
    fn allows(self, count: usize) -> bool {
        match self {
            Arity::Exactly(n) => count == n,
            Arity::Between(from, to) => (from..=to).contains(&count),
            Arity::AtLeast(n) => count >= n,
        }
    }
}

/// What a setter does with a directive.
pub type Set = fn(&mut Cx<'_>, &Node) -> Result<(), Fail>;

/// A directive.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// Where it may stand.
    pub contexts: Contexts,
    /// How many arguments it takes.
    pub arity: Arity,
    /// Whether a block follows.
    pub block: bool,
    /// What it does.
    pub set: Set,
}

/// A directive without block.
pub const fn simple(name: &'static str, contexts: Contexts, arity: Arity, set: Set) -> Row {
    Row { name, contexts, arity, block: false, set }
}

/// A directive with a block.
pub const fn block(name: &'static str, contexts: Contexts, arity: Arity, set: Set) -> Row {
    Row { name, contexts, arity, block: true, set }
}

/// What a whole configuration gathers while it is read.
#[derive(Debug, Default)]
pub struct Build {
    /// The prefix, with `/` at its end.
    pub prefix: PathBuf,
    /// The main file.
    pub file: PathBuf,
    /// Scalar settings outside blocks.
    pub main: MainDraft,
    /// Process-wide `lua_*` settings.
    pub lua: LuaDraft,
    /// `env` lines.
    pub env: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// `thread_pool` lines.
    pub thread_pools: Vec<super::model::ThreadPool>,
    /// `error_log` lines outside blocks.
    pub error_logs: Vec<ErrorLog>,
    /// Log files by path.
    pub log_files: Vec<LogFile>,
    /// `log_format`s by name.
    pub log_formats: HashMap<String, Arc<LogFormat>>,
    /// Every variable named so far.
    pub vars: VarTable,
    /// Every `map` so far.
    pub maps: Vec<Map>,
    /// Every `limit_req_zone` and `limit_conn_zone` so far.
    pub limit_zones: Vec<LimitZone>,
    /// Every zone of `ssl_session_cache` so far.
    pub session_zones: Vec<std::sync::Arc<crate::tls::cache::Zone>>,
    /// Every `geo` so far.
    pub geos: Vec<Geo>,
    /// Every `split_clients` so far.
    pub splits: Vec<Split>,
    /// Every `lua_shared_dict` so far.
    pub shared_dicts: Vec<SharedDict>,
    /// `init_by_lua`, `init_worker_by_lua`, `exit_worker_by_lua`.
    pub process_handlers: HashMap<Phase, Arc<LuaCode>>,
    /// Which phases have a handler anywhere.
    pub phases_used: [bool; phase::COUNT],
    /// Every piece of Lua code so far, with its place.
    pub lua_codes: Vec<(Arc<LuaCode>, Place)>,
    /// Whether `events {}` was seen.
    pub events_seen: bool,
    /// Whether `events {}` or `http {}` was seen: what modules there are is settled.
    pub modules_closed: bool,
    /// Every group of upstream servers so far.
    pub upstreams: Vec<UpstreamDraft>,
    /// The level of `http {}`, once seen.
    pub http: Option<Level>,
    /// Lines to be logged that are no errors.
    pub warnings: Vec<(LogLevel, String)>,
}

/// What a setter may change: the whole, and the level that its directive stands in.
#[derive(Debug)]
pub struct Cx<'a> {
    /// The whole.
    pub all: &'a mut Build,
    /// The level.
    pub scope: &'a mut Level,
}

impl Cx<'_> {
    /// Compiles a string with variables.
    pub fn script(&mut self, text: &[u8]) -> Result<Script, Fail> {
        Script::compile(text, &mut self.all.vars).map_err(|error| Fail::Message(error.to_string()))
    }

    /// The variable of an argument `$name` that the directive reads.
    pub fn variable(&mut self, arg: &[u8]) -> Result<VarId, Fail> {
        Ok(self.all.vars.refer(variable_name(arg)?))
    }

    /// The variable of an argument `$name` that the directive assigns.
    pub fn declare(&mut self, arg: &[u8], kind: VarKind) -> Result<VarId, Fail> {
        let name = variable_name(arg)?;
        let id = self
            .all
            .vars
            .declare(name, kind)
            .map_err(|_| Fail::Message(format!("the duplicate \"{name}\" variable")))?;
        if kind == VarKind::User {
            self.all.vars.mark_assigned(id);
        }
        Ok(id)
    }

    /// Compiles an expression; its named groups become variables.
    pub fn pattern(&mut self, text: &[u8], caseless: bool) -> Result<Pattern, Fail> {
        let regex = Regex::new(text, Options { caseless, ..Options::default() })
            .map_err(|error| Fail::Message(error.describe(text)))?;
        let mut named = Vec::new();
        for (name, group) in regex.names() {
            let id = self
                .all
                .vars
                .declare(name, VarKind::User)
                .map_err(|_| Fail::Message(format!("the duplicate \"{name}\" variable")))?;
            named.push((id, *group as usize));
        }
        Ok(Pattern { regex: Arc::new(regex), source: text.into(), named })
    }

    /// A path, made absolute with the prefix unless it begins with a variable.
    pub fn path_script(&mut self, path: &[u8]) -> Result<Script, Fail> {
        let mut script = self.script(path)?;
        if !matches!(path.first(), Some(b'/' | b'$')) {
            script.prepend(prefix_bytes(&self.all.prefix));
        }
        Ok(script)
    }

    /// A path, made absolute with the folder of the main file unless it begins with a variable.
    pub fn conf_path_script(&mut self, path: &[u8]) -> Result<Script, Fail> {
        let mut script = self.script(path)?;
        if !matches!(path.first(), Some(b'/' | b'$')) {
            let folder = self.all.file.parent().map(|f| f.join("")).unwrap_or_default();
            script.prepend(prefix_bytes(&folder));
        }
        Ok(script)
    }

    /// A path without variables, made absolute with the prefix.
    pub fn path(&self, path: &[u8]) -> PathBuf {
        full_path(&self.all.prefix, path)
    }

    /// The number of a log file; `stderr` and paths.
    pub fn log_file(&mut self, path: &[u8]) -> LogFileId {
        let path = if path == b"stderr" { PathBuf::new() } else { self.path(path) };
        intern_log_file(&mut self.all.log_files, path)
    }

    /// A piece of Lua code of this directive.
    pub fn lua_code(&mut self, phase: Phase, source: LuaSource, node: &Node) -> Arc<LuaCode> {
        let chunk_name = match &source {
            LuaSource::Inline(_) => {
                let stem = phase.info().stem;
                let file = shown_file(&self.all.file, &node.place.file, stem, node.place.line);
                format!("={stem}({file}:{})", node.place.line)
            }
            LuaSource::File(path) => match path.as_literal() {
                Some(path) => format!("@{}", String::from_utf8_lossy(path)),
                None => String::new(),
            },
        };
        let code = Arc::new(LuaCode { id: self.all.lua_codes.len(), phase, source, chunk_name });
        self.all.lua_codes.push((code.clone(), node.place.clone()));
        self.all.phases_used[phase as usize] = true;
        code
    }

    /// A line for the log that does not stop the server.
    pub fn warn(&mut self, level: LogLevel, node: &Node, message: &str) {
        let place = &node.place;
        self.all.warnings.push((level, format!("{message} in {}:{}", place.file.display(), place.line)));
    }
}

/// Longest name of a chunk.
const CHUNK_NAME_BYTES_MAX: usize = 56;

/// How a configuration file is shown in the name of a chunk: the end of a path that is too long.
fn shown_file(main: &Path, file: &Path, stem: &str, line: u32) -> String {
    let name = file.to_string_lossy();
    if name.ends_with("/nginx.conf") {
        return "nginx.conf".to_owned();
    }
    let folder = main.parent().map(|f| f.join("").to_string_lossy().into_owned()).unwrap_or_default();
    let short = name.strip_prefix(&folder).unwrap_or(&name);
    let reserved = stem.len() + line.to_string().len();
    if short.len() + reserved <= CHUNK_NAME_BYTES_MAX {
        return short.to_owned();
    }
    let keep = CHUNK_NAME_BYTES_MAX.saturating_sub(reserved + 3);
    let from = (short.len() - keep.min(short.len())..short.len()).find(|n| short.is_char_boundary(*n));
    format!("...{}", &short[from.unwrap_or(short.len())..])
}

/// The name behind a `$`.
pub fn variable_name(arg: &[u8]) -> Result<&str, Fail> {
    match arg {
        [b'$', name @ ..] if !name.is_empty() => std::str::from_utf8(name).map_err(|_| invalid_variable(arg)),
        _ => Err(invalid_variable(arg)),
    }
}

fn invalid_variable(arg: &[u8]) -> Fail {
    Fail::Message(format!("invalid variable name \"{}\"", String::from_utf8_lossy(arg)))
}

/// The number of a log file's path, made known when new.
pub fn intern_log_file(files: &mut Vec<LogFile>, path: PathBuf) -> LogFileId {
    let same = |known: &LogFile| known.path == path && known.syslog.is_none();
    LogFileId(files.iter().position(same).unwrap_or_else(|| {
        files.push(LogFile { path, syslog: None });
        files.len() - 1
    }))
}

/// The prefix as bytes.
pub fn prefix_bytes(prefix: &Path) -> &[u8] {
    use std::os::unix::ffi::OsStrExt;
    prefix.as_os_str().as_bytes()
}

/// A path relative to the prefix, made absolute.
pub fn full_path(prefix: &Path, path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    prefix.join(std::ffi::OsStr::from_bytes(path))
}

fn table() -> &'static HashMap<&'static str, Vec<Row>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Row>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<&'static str, Vec<Row>> = HashMap::new();
        for row in directives::rows() {
            table.entry(row.name).or_default().push(row);
        }
        table
    })
}

/// Sets every directive of a block, in order; stops at the first error.
pub fn walk(all: &mut Build, scope: &mut Level, items: &[Item]) -> Result<(), ConfError> {
    for item in items {
        match item {
            Item::Error(error) => return Err(error.clone()),
            Item::Node(node) => set(all, scope, node)?,
        }
    }
    Ok(())
}

fn set(all: &mut Build, scope: &mut Level, node: &Node) -> Result<(), ConfError> {
    let name = node.name();
    let at = |message: String| ConfError::at(&node.place, message);
    let Some(rows) = table().get(&*name) else {
        return Err(at(format!("unknown directive \"{name}\"")).with_hint(hint_for(&name)));
    };
    let Some(row) = rows.iter().find(|row| row.contexts.has(scope.context)) else {
        return Err(at(format!("\"{name}\" directive is not allowed here")));
    };
    let has_block = !matches!(node.body, Body::None);
    if row.block && !has_block {
        return Err(at(format!("directive \"{name}\" has no opening \"{{\"")));
    }
    if !row.block && has_block {
        return Err(at(format!("directive \"{name}\" is not terminated by \";\"")));
    }
    // The end of a Lua block is found before anything else is said about its directive.
    if name.ends_with("_by_lua_block")
        && let [Item::Error(error)] = node.items()
    {
        return Err(error.clone());
    }
    if !row.arity.allows(node.args.len()) {
        return Err(at(format!("invalid number of arguments in \"{name}\" directive")));
    }
    (row.set)(&mut Cx { all, scope }, node).map_err(|fail| match fail {
        Fail::Message(message) => at(message),
        Fail::Directive(words) => at(format!("\"{name}\" directive {words}")),
        Fail::Inner(error) => *error,
    })
}

/// What to say below an unknown directive: that it is one of nginx's which this server does not
/// have yet, or which one was meant.
fn hint_for(name: &str) -> Option<String> {
    if directives::is_unsupported(name) {
        return Some(format!("the directive \"{name}\" is known, but this server does not support it yet"));
    }
    let near = table()
        .keys()
        .map(|known| (distance(name, known), *known))
        .filter(|(distance, known)| *distance <= 1 + known.len() / 6)
        .min();
    near.map(|(_, known)| format!("did you mean \"{known}\"?"))
}

/// How many letters differ: insertions, deletions, replacements, swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let cost = usize::from(a[i - 1] != b[j - 1]);
                let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_suggested() {
        assert_eq!(hint_for("server_nmae").as_deref(), Some("did you mean \"server_name\"?"));
        assert_eq!(hint_for("lisen").as_deref(), Some("did you mean \"listen\"?"));
        assert_eq!(hint_for("zzz"), None);
    }

    #[test]
    fn no_row_is_both_there_and_unsupported() {
        for name in table().keys() {
            assert!(!directives::is_unsupported(name), "{name}");
        }
    }

    #[test]
    fn rows_of_one_name_share_no_context() {
        for rows in table().values() {
            for (at, row) in rows.iter().enumerate() {
                assert!(rows[at + 1..].iter().all(|other| !other.contexts.meets(row.contexts)), "{row:?}");
            }
        }
    }
}
