//! The scalar settings: one row per directive whose name is its field.
//!
//! A row gives type, default, setter, contexts and number of arguments. From it derive the field,
//! its inheritance (an outer level's value counts where the inner one has none), the refusal of a
//! duplicate, and the row of the directive table.

use super::directive::{Arity, Cx, Row};
use super::error::{Fail, Place};
use super::model::Level;
use super::tree::Node;
use super::value::{
    buffers_arg, flag_arg, ms_arg, number_arg, offset_arg, shown_number_arg, size_arg, text_arg,
};
use crate::phase::Contexts;

const MAIN: Contexts = Contexts::MAIN;
const EVENTS: Contexts = Contexts::EVENTS;
const HTTP: Contexts = Contexts::HTTP;
const HTTP_SERVER: Contexts = Contexts::HTTP.or(Contexts::SERVER);
const LEVELS: Contexts = HTTP_SERVER.or(Contexts::LOCATION);
const LEVELS_IF: Contexts = LEVELS.or(Contexts::LOCATION_IF);
const LEVELS_IFS: Contexts = LEVELS_IF.or(Contexts::SERVER_IF);

/// Makes a struct of scalar settings, its draft and its directive rows out of one row per directive.
macro_rules! settings {
    ($(#[$meta:meta])* $name:ident, $draft:ident in $base:ident . $part:ident ; $rows:ident {
        $( $(#[$doc:meta])* $field:ident : $ty:ty = $default:expr, $set:expr, $contexts:expr, $arity:expr; )*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        pub struct $name { $( $(#[$doc])* pub $field: $ty, )* }

        /// The same while the configuration is read: what is given on one level.
        #[derive(Clone, Debug, Default)]
        pub struct $draft { $( $(#[$doc])* pub $field: Option<$ty>, )* }

        impl $draft {
            /// Takes from an outer level what this one does not give.
            pub fn inherit(&mut self, outer: &Self) {
                $( if self.$field.is_none() { self.$field.clone_from(&outer.$field); } )*
            }

            /// Whether nothing is given.
            #[allow(dead_code, reason = "not every group of settings asks")]
            pub fn is_empty(&self) -> bool {
                $( self.$field.is_none() && )* true
            }

            /// The settings, with defaults for what nobody gave.
            pub fn finish(&self) -> $name {
                $name { $( $field: self.$field.clone().unwrap_or_else(|| $default), )* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                $draft::default().finish()
            }
        }

        /// The rows of the directive table.
        pub const $rows: &[Row] = &[ $( Row {
            name: stringify!($field),
            contexts: $contexts,
            arity: $arity,
            block: false,
            set: |cx, node| {
                if cx.$base.$part.$field.is_some() {
                    return Err(Fail::duplicate());
                }
                let value = $set(cx, node)?;
                cx.$base.$part.$field = Some(value);
                Ok(())
            },
        }, )* ];
    };
}
pub(super) use settings;

/// `worker_processes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerCount {
    /// As many as there are processors.
    Auto,
    /// This many.
    Fixed(u32),
}

fn worker_count(_: &mut Cx<'_>, node: &Node) -> Result<WorkerCount, Fail> {
    if node.arg(0) == b"auto" {
        return Ok(WorkerCount::Auto);
    }
    super::value::number(node.arg(0))
        .and_then(|count| u32::try_from(count).ok())
        .filter(|count| *count <= 1024)
        .map(WorkerCount::Fixed)
        .ok_or_else(Fail::invalid_value)
}

/// `user`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserName {
    /// The account.
    pub user: String,
    /// The group; the account's name when not given.
    pub group: String,
    /// Where the directive is.
    pub place: Place,
}

fn user_name(_: &mut Cx<'_>, node: &Node) -> Result<UserName, Fail> {
    let user = node.text(0).into_owned();
    let group = if node.args.len() > 1 { node.text(1).into_owned() } else { user.clone() };
    Ok(UserName { user, group, place: node.place.clone() })
}

fn optional<T>(
    set: fn(&mut Cx<'_>, &Node) -> Result<T, Fail>,
) -> impl Fn(&mut Cx<'_>, &Node) -> Result<Option<T>, Fail> {
    move |cx, node| set(cx, node).map(Some)
}

settings! {
    /// Settings outside any block, and of `events {}`.
    MainSettings, MainDraft in all.main; MAIN_ROWS {
        /// Whether the master leaves the terminal.
        daemon: bool = true, flag_arg, MAIN, Arity::Exactly(1);
        /// Whether there are worker processes at all.
        master_process: bool = true, flag_arg, MAIN, Arity::Exactly(1);
        /// The file that holds the master's process id; relative to the prefix.
        pid: Box<[u8]> = (*b"logs/nginx.pid").into(), text_arg, MAIN, Arity::Exactly(1);
        /// The account that workers run under.
        user: Option<UserName> = None, optional(user_name), MAIN, Arity::Between(1, 2);
        /// How many workers.
        worker_processes: WorkerCount = WorkerCount::Fixed(1), worker_count, MAIN, Arity::Exactly(1);
        /// RLIMIT_NOFILE of workers.
        worker_rlimit_nofile: Option<u64> = None, optional(number_arg), MAIN, Arity::Exactly(1);
        /// RLIMIT_CORE of workers.
        worker_rlimit_core: Option<u64> = None, optional(offset_arg), MAIN, Arity::Exactly(1);
        /// How long a worker may take to finish its requests after QUIT; 0 is for ever.
        worker_shutdown_timeout: u64 = 0, ms_arg, MAIN, Arity::Exactly(1);
        /// Working directory of workers.
        working_directory: Option<Box<[u8]>> = None, optional(text_arg), MAIN, Arity::Exactly(1);
        /// Accepted: the clock is read when it is needed.
        timer_resolution: u64 = 0, ms_arg, MAIN, Arity::Exactly(1);
        /// Accepted: there is no lock file.
        lock_file: Box<[u8]> = (*b"logs/nginx.lock").into(), text_arg, MAIN, Arity::Exactly(1);
        /// Whether expressions are compiled to machine code; they always are where it is possible.
        pcre_jit: bool = true, flag_arg, MAIN, Arity::Exactly(1);
        /// Connections per worker.
        worker_connections: u64 = 512, shown_number_arg, EVENTS, Arity::Exactly(1);
        /// Whether a worker takes many connections before running requests get their turn.
        multi_accept: bool = false, flag_arg, EVENTS, Arity::Exactly(1);
        /// Accepted: the kernel chooses the worker.
        accept_mutex: bool = false, flag_arg, EVENTS, Arity::Exactly(1);
        /// Accepted as above.
        accept_mutex_delay: u64 = 500, ms_arg, EVENTS, Arity::Exactly(1);
    }
}

settings! {
    /// Settings of `lua_*` that hold for the whole process.
    LuaSettings, LuaDraft in all.lua; LUA_ROWS {
        /// Accepted: resty.core is built in.
        lua_load_resty_core: bool = true, resty_core_arg, HTTP, Arity::Exactly(1);
        /// Finished coroutines kept for reuse.
        lua_thread_cache_max_entries: u64 = 1024, number_arg, HTTP, Arity::Exactly(1);
        /// Timer callbacks that may run at a time.
        lua_max_running_timers: u64 = 256, number_arg, HTTP, Arity::Exactly(1);
        /// Timers that may wait at a time.
        lua_max_pending_timers: u64 = 1024, number_arg, HTTP, Arity::Exactly(1);
        /// Whether interrupted system calls are restarted.
        lua_sa_restart: bool = true, flag_arg, HTTP, Arity::Exactly(1);
        /// Compiled expressions kept per worker.
        lua_regex_cache_max_entries: u64 = 1024, number_arg, HTTP, Arity::Exactly(1);
        /// Backtracking limit of `ngx.re`; 0 is the library's.
        lua_regex_match_limit: u64 = 0, number_arg, HTTP, Arity::Exactly(1);
        /// `package.cpath`; empty leaves the default.
        lua_package_cpath: Box<[u8]> = Box::default(), search_path, HTTP, Arity::Exactly(1);
        /// `package.path`; empty leaves the default.
        lua_package_path: Box<[u8]> = Box::default(), search_path, HTTP, Arity::Exactly(1);
        /// Bytes of the newest lines of the error log that are kept for `ngx.errlog`; 0 keeps none.
        lua_capture_error_log: u64 = 0, capture_size, HTTP, Arity::Exactly(1);
        /// Lua states for `ngx.run_worker_thread`, per worker.
        lua_worker_thread_vm_pool_size: u64 = 10, number_arg, HTTP, Arity::Exactly(1);
        /// Bytes that the VM of a worker may hold; 0 is no limit.
        lua_memory_limit: u64 = 0, offset_arg, HTTP, Arity::Exactly(1);
        /// Requests between two trims of the C heap.
        lua_malloc_trim: u64 = 1000, number_arg, HTTP, Arity::Exactly(1);
        /// Whether upstream's refusals to yield are restored.
        lua_strict_phases: bool = false, flag_arg, HTTP, Arity::Exactly(1);
        /// Whether rewrite_by_lua runs before the rewrite script.
        rewrite_by_lua_no_postpone: bool = false, flag_arg, HTTP, Arity::Exactly(1);
        /// Whether access_by_lua runs before the other access checks.
        access_by_lua_no_postpone: bool = false, flag_arg, HTTP, Arity::Exactly(1);
        /// Whether precontent_by_lua runs before try_files.
        precontent_by_lua_no_postpone: bool = false, flag_arg, HTTP, Arity::Exactly(1);
    }
}

settings! {
    /// Settings that hold before a location is known.
    ServerSettings, ServerDraft in scope.server; SERVER_ROWS {
        /// First buffer of a request header.
        client_header_buffer_size: u64 = 1024, size_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Number and size of the buffers for large headers.
        large_client_header_buffers: (u64, u64) = (4, 8192), buffers_arg, HTTP_SERVER, Arity::Exactly(2);
        /// How long a client may take for its header.
        client_header_timeout: u64 = 60_000, ms_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Whether header lines with odd names are dropped.
        ignore_invalid_headers: bool = true, flag_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Whether header names may have underscores.
        underscores_in_headers: bool = false, flag_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Whether `//` in a path becomes `/`.
        merge_slashes: bool = true, flag_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Header lines a request may have.
        max_headers: u64 = 1000, number_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Accepted: memory is not pooled by size.
        connection_pool_size: u64 = 512, size_arg, HTTP_SERVER, Arity::Exactly(1);
        /// Accepted as above.
        request_pool_size: u64 = 4096, size_arg, HTTP_SERVER, Arity::Exactly(1);
    }
}

/// `keepalive_timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long an idle connection is kept; 0 closes after each response.
    pub timeout_ms: u64,
    /// The `Keep-Alive: timeout=` header, in seconds; 0 sends none.
    pub header_s: u64,
}

fn keepalive(_: &mut Cx<'_>, node: &Node) -> Result<Keepalive, Fail> {
    let timeout_ms = super::value::time_ms(node.arg(0)).ok_or_else(Fail::invalid_value)?;
    let header_s = if node.args.len() > 1 {
        super::value::time_s(node.arg(1)).ok_or_else(Fail::invalid_value)?
    } else {
        0
    };
    Ok(Keepalive { timeout_ms, header_s })
}

/// `server_tokens`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerTokens {
    /// Name and version.
    On,
    /// The name.
    Off,
    /// Name, version and build name.
    Build,
}

/// `lingering_close`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LingeringClose {
    /// Never wait for what the client still sends.
    Off,
    /// Wait when more is expected.
    On,
    /// Always wait.
    Always,
}

/// `if_modified_since`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfModifiedSince {
    /// The header is ignored.
    Off,
    /// Times must be equal.
    Exact,
    /// The file's time may be before the header's.
    Before,
}

/// `client_body_in_file_only`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFileOnly {
    /// Only large bodies go to files.
    Off,
    /// Every body does, and the file stays.
    On,
    /// Every body does, and the file goes with the request.
    Clean,
}

/// A folder of temporary files, with the widths of the levels of folders inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TempPath {
    /// The folder; relative to the prefix.
    pub folder: Box<[u8]>,
    /// How many digits of a file's number name the folder of each level.
    pub levels: Vec<usize>,
}

impl TempPath {
    /// A folder without levels.
    pub fn new(folder: &[u8]) -> TempPath {
        TempPath { folder: folder.into(), levels: Vec::new() }
    }
}

pub(super) fn temp_path_arg(_: &mut Cx<'_>, node: &Node) -> Result<TempPath, Fail> {
    let mut path = TempPath::new(node.arg(0).strip_suffix(b"/").unwrap_or(node.arg(0)));
    for arg in &node.args[1..] {
        match super::value::number(arg) {
            Some(width @ 1..=9) => path.levels.push(width as usize),
            _ => return Err(Fail::invalid_value()),
        }
    }
    Ok(path)
}

/// `satisfy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Satisfy {
    /// Every access check must allow.
    All,
    /// One is enough.
    Any,
}

/// A search path of Lua; `$prefix` and `${prefix}` become the server's prefix.
/// Least size of the ring behind `lua_capture_error_log`.
const CAPTURE_BYTES_MIN: u64 = 4096;

fn capture_size(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    if node.arg(0).is_empty() {
        return Err(Fail::Message("invalid capture error log size \"\"".to_owned()));
    }
    super::value::size(node.arg(0)).filter(|n| *n >= CAPTURE_BYTES_MIN).ok_or_else(|| {
        Fail::Message(format!(
            "invalid capture error log size \"{}\", minimum size is {CAPTURE_BYTES_MIN}",
            node.text(0)
        ))
    })
}

fn search_path(cx: &mut Cx<'_>, node: &Node) -> Result<Box<[u8]>, Fail> {
    use super::directive::prefix_bytes;
    let prefix = prefix_bytes(&cx.all.prefix).strip_suffix(b"/").unwrap_or(prefix_bytes(&cx.all.prefix));
    let mut path = node.arg(0).to_vec();
    for name in [&b"${prefix}"[..], b"$prefix"] {
        while let Some(at) = memchr::memmem::find(&path, name) {
            path.splice(at..at + name.len(), prefix.iter().copied());
        }
    }
    Ok(path.into())
}

/// A flag whose work is not there yet: `on` is refused by name.
pub(super) fn only_off(cx: &mut Cx<'_>, node: &Node) -> Result<bool, Fail> {
    if !flag_arg(cx, node)? {
        return Ok(false);
    }
    let error = super::error::ConfError::at(&node.place, format!("unknown directive \"{}\"", node.name()));
    let hint = format!("\"{} on\" is known, but this server does not support it yet", node.name());
    Err(error.with_hint(Some(hint)).into())
}

fn send_lowat_arg(cx: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    let bytes = size_arg(cx, node)?;
    cx.warn(Level::Warn, node, "\"send_lowat\" is not supported, ignored");
    Ok(bytes)
}

fn resty_core_arg(cx: &mut Cx<'_>, node: &Node) -> Result<bool, Fail> {
    let text =
        "lua_load_resty_core is deprecated (the lua-resty-core library is required since ngx_lua v0.10.16)";
    cx.warn(Level::Warn, node, text);
    // Whatever is said changes nothing.
    Ok(true)
}

fn lua_send_lowat_arg(cx: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    let bytes = size_arg(cx, node)?;
    cx.warn(Level::Warn, node, "\"lua_send_lowat\" is not supported, ignored");
    Ok(bytes)
}

fn code_cache_arg(cx: &mut Cx<'_>, node: &Node) -> Result<bool, Fail> {
    let on = flag_arg(cx, node)?;
    if !on {
        cx.warn(Level::Alert, node, "lua_code_cache is off; this will hurt performance");
    }
    Ok(on)
}

/// A setter that takes one of some words.
macro_rules! words {
    ($name:ident -> $ty:ty { $($word:literal => $value:expr),* $(,)? }) => {
        fn $name(_: &mut Cx<'_>, node: &Node) -> Result<$ty, Fail> {
            match &*node.text(0).to_ascii_lowercase() {
                $( $word => Ok($value), )*
                other => Err(Fail::Message(format!("invalid value \"{other}\""))),
            }
        }
    };
}
words!(server_tokens_arg -> ServerTokens {
    "on" => ServerTokens::On, "off" => ServerTokens::Off, "build" => ServerTokens::Build,
});
words!(lingering_close_arg -> LingeringClose {
    "off" => LingeringClose::Off, "on" => LingeringClose::On, "always" => LingeringClose::Always,
});
words!(if_modified_since_arg -> IfModifiedSince {
    "off" => IfModifiedSince::Off, "exact" => IfModifiedSince::Exact, "before" => IfModifiedSince::Before,
});
words!(in_file_only_arg -> InFileOnly {
    "off" => InFileOnly::Off, "on" => InFileOnly::On, "clean" => InFileOnly::Clean,
});
words!(satisfy_arg -> Satisfy { "all" => Satisfy::All, "any" => Satisfy::Any });

settings! {
    /// Settings in force in a location.
    LocationSettings, LocationDraft in scope.settings; LOCATION_ROWS {
        /// Content type of what has no other.
        default_type: Box<[u8]> = (*b"text/plain").into(), text_arg, LEVELS, Arity::Exactly(1);
        /// Largest request body; 0 is no limit.
        client_max_body_size: u64 = 1 << 20, offset_arg, LEVELS, Arity::Exactly(1);
        /// Bytes of a body kept in memory; larger ones go to a file.
        client_body_buffer_size: u64 = 16 << 10, size_arg, LEVELS, Arity::Exactly(1);
        /// How long between two reads of a body.
        client_body_timeout: u64 = 60_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Where bodies go that do not fit in memory; relative to the prefix.
        client_body_temp_path: TempPath = TempPath::new(b"client_body_temp"), temp_path_arg, LEVELS, Arity::Between(1, 4);
        /// Whether every body goes to a file.
        client_body_in_file_only: InFileOnly = InFileOnly::Off, in_file_only_arg, LEVELS, Arity::Exactly(1);
        /// Accepted: a body in memory is always in one piece.
        client_body_in_single_buffer: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// How long an idle connection is kept.
        keepalive_timeout: Keepalive = Keepalive { timeout_ms: 75_000, header_s: 0 }, keepalive, LEVELS, Arity::Between(1, 2);
        /// Requests on one connection.
        keepalive_requests: u64 = 1000, number_arg, LEVELS, Arity::Exactly(1);
        /// How old a connection may grow.
        keepalive_time: u64 = 3_600_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// How long between two writes of a response.
        send_timeout: u64 = 60_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Accepted: nothing waits for a low-water mark.
        send_lowat: u64 = 0, send_lowat_arg, LEVELS, Arity::Exactly(1);
        /// Bytes gathered before a write.
        postpone_output: u64 = 1460, size_arg, LEVELS, Arity::Exactly(1);
        /// TCP_NODELAY.
        tcp_nodelay: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// TCP_CORK around a response with `sendfile`.
        tcp_nopush: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether files are sent by the kernel.
        sendfile: bool = false, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// Largest piece of one sendfile call.
        sendfile_max_chunk: u64 = 2 << 20, size_arg, LEVELS, Arity::Exactly(1);
        /// Buffers for reading large files that are not sent by the kernel: together one piece.
        output_buffers: (u64, u64) = (2, 32 << 10), buffers_arg, LEVELS, Arity::Exactly(2);
        /// Whether a connection is drained before it is closed.
        lingering_close: LingeringClose = LingeringClose::On, lingering_close_arg, LEVELS, Arity::Exactly(1);
        /// How long in all.
        lingering_time: u64 = 30_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// How long between two reads.
        lingering_timeout: u64 = 5_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Whether a timed-out connection is reset.
        reset_timedout_connection: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether a missing file is logged.
        log_not_found: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether subrequests have a log phase.
        log_subrequest: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether a response without length is chunked.
        chunked_transfer_encoding: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether files get an ETag.
        etag: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// How If-Modified-Since is compared.
        if_modified_since: IfModifiedSince = IfModifiedSince::Exact, if_modified_since_arg, LEVELS, Arity::Exactly(1);
        /// Ranges a request may ask for; 0 is none at all.
        max_ranges: u64 = i32::MAX as u64, number_arg, LEVELS, Arity::Exactly(1);
        /// What `Server` and error pages say.
        server_tokens: ServerTokens = ServerTokens::On, server_tokens_arg, LEVELS, Arity::Exactly(1);
        /// Whether `Location` is made absolute.
        absolute_redirect: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether its port is shown.
        port_in_redirect: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether its host is the server's name.
        server_name_in_redirect: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether an error page may have an error page.
        recursive_error_pages: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether all or any access checks must allow.
        satisfy: Satisfy = Satisfy::All, satisfy_arg, LEVELS, Arity::Exactly(1);
        /// Largest body of a subrequest kept in memory.
        subrequest_output_buffer_size: u64 = 4096, size_arg, LEVELS, Arity::Exactly(1);
        /// Whether small error pages are padded for MSIE.
        msie_padding: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// How long a name may take to resolve.
        resolver_timeout: u64 = 30_000, ms_arg, LEVELS, Arity::Exactly(1);
        /// Whether rewrites are logged at notice.
        rewrite_log: bool = false, flag_arg, LEVELS_IFS, Arity::Exactly(1);
        /// Whether reading an unset variable is logged.
        uninitialized_variable_warn: bool = true, flag_arg, LEVELS_IFS, Arity::Exactly(1);
        /// Whether modules and handlers stay loaded from request to request.
        lua_code_cache: bool = true, code_cache_arg, LEVELS_IF, Arity::Exactly(1);
        /// Time on CPU for the Lua code of a request; 0 is no limit.
        lua_cpu_limit: u64 = 0, ms_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether the body is read before the first Lua handler.
        lua_need_request_body: bool = false, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether `_` in response header names means `-`.
        lua_transform_underscores_in_response_headers: bool = true, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether cosocket failures are logged.
        lua_socket_log_errors: bool = true, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// How long a pooled cosocket is kept; 0 is for ever.
        lua_socket_keepalive_timeout: u64 = 60_000, ms_arg, LEVELS_IF, Arity::Exactly(1);
        /// Time limit of `connect`.
        lua_socket_connect_timeout: u64 = 60_000, ms_arg, LEVELS_IF, Arity::Exactly(1);
        /// Time limit between two writes.
        lua_socket_send_timeout: u64 = 60_000, ms_arg, LEVELS_IF, Arity::Exactly(1);
        /// Time limit between two reads.
        lua_socket_read_timeout: u64 = 60_000, ms_arg, LEVELS_IF, Arity::Exactly(1);
        /// Accepted: Linux has no low-water mark for sending.
        lua_socket_send_lowat: u64 = 0, lua_send_lowat_arg, LEVELS_IF, Arity::Exactly(1);
        /// Receive buffer of a cosocket.
        lua_socket_buffer_size: u64 = 4096, size_arg, LEVELS_IF, Arity::Exactly(1);
        /// Idle cosockets per pool.
        lua_socket_pool_size: u64 = 30, number_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether output to HTTP/1.0 clients is gathered for its length.
        lua_http10_buffering: bool = true, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether a client that goes away ends the handler.
        lua_check_client_abort: bool = false, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// Whether Lua's output gets `default_type`.
        lua_use_default_type: bool = true, flag_arg, LEVELS_IF, Arity::Exactly(1);
    }
}

/// Hash table sizes of nginx: our tables size themselves. Accepted when they are numbers.
pub const TUNING: &[(&str, Contexts)] = &[
    ("server_names_hash_bucket_size", HTTP),
    ("server_names_hash_max_size", HTTP),
    ("variables_hash_bucket_size", HTTP),
    ("variables_hash_max_size", HTTP),
    ("map_hash_bucket_size", HTTP),
    ("map_hash_max_size", HTTP),
    ("types_hash_bucket_size", LEVELS),
    ("types_hash_max_size", LEVELS),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_level_wins_and_default_fills() {
        let outer = LocationDraft { send_timeout: Some(1), etag: Some(false), ..Default::default() };
        let mut inner = LocationDraft { send_timeout: Some(2), ..Default::default() };
        inner.inherit(&outer);
        let settings = inner.finish();
        assert_eq!((settings.send_timeout, settings.etag, settings.keepalive_requests), (2, false, 1000));
    }

    #[test]
    fn pid_default() {
        assert_eq!(&*MainSettings::default().pid, b"logs/nginx.pid");
    }
}
