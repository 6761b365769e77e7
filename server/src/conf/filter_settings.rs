//! Scalar settings of the modules that make, filter and guard responses: one row per directive.

use std::sync::Arc;

use super::directive::{Arity, Cx, Row};
use super::directives::set_misc::BASE32;
use super::error::Fail;
use super::model::Level;
use super::settings::settings;
use super::tree::Node;
use super::value::{buffers_arg, flag_arg, number, number_arg, size_arg, time_s};
use super::variables::Script;
use crate::phase::Contexts;

const LEVELS_EXCEPT: Contexts = LEVELS.or(Contexts::LIMIT_EXCEPT);
const LOCATIONS: Contexts = Contexts::LOCATION.or(Contexts::LOCATION_IF);
const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_IF: Contexts = LEVELS.or(Contexts::LOCATION_IF);
const LEVELS_IFS: Contexts = LEVELS.or(Contexts::SERVER_IF).or(Contexts::LOCATION_IF);

/// A status, or another number that fits 16 bits.
fn status_arg(cx: &mut Cx<'_>, node: &Node) -> Result<u16, Fail> {
    let number = number_arg(cx, node)?;
    u16::try_from(number).map_err(|_| Fail::invalid_value())
}

fn alphabet(_: &mut Cx<'_>, node: &Node) -> Result<Box<[u8]>, Fail> {
    let alphabet = node.arg(0);
    if alphabet.len() != 32 {
        return Err(Fail::Message(format!(
            "\"set_base32_alphabet\" directive takes an alphabet of {} bytes but 32 expected",
            alphabet.len()
        )));
    }
    Ok(alphabet.into())
}

/// Where the client's address comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RealIpHeader {
    /// `X-Real-IP`.
    XRealIp,
    /// `X-Forwarded-For`: the last address that is not trusted.
    XForwardedFor,
    /// The address that a proxy gave with the PROXY protocol.
    ProxyProtocol,
    /// Another header.
    Other(Box<[u8]>),
}

fn real_ip_header(_: &mut Cx<'_>, node: &Node) -> Result<RealIpHeader, Fail> {
    let name = node.arg(0);
    Ok(if name == b"proxy_protocol" {
        RealIpHeader::ProxyProtocol
    } else if name.eq_ignore_ascii_case(b"x-real-ip") {
        RealIpHeader::XRealIp
    } else if name.eq_ignore_ascii_case(b"x-forwarded-for") {
        RealIpHeader::XForwardedFor
    } else {
        RealIpHeader::Other(name.into())
    })
}

fn script_arg(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    cx.script(node.arg(0)).map(Some)
}

fn conf_path_arg(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    cx.conf_path_script(node.arg(0)).map(Some)
}

fn secret_arg(_: &mut Cx<'_>, node: &Node) -> Result<Option<Box<[u8]>>, Fail> {
    Ok(Some(node.arg(0).into()))
}

/// A URI, or `off`.
fn uri_or_off(_: &mut Cx<'_>, node: &Node) -> Result<Option<Box<[u8]>>, Fail> {
    Ok((node.arg(0) != b"off").then(|| node.arg(0).into()))
}

/// The level of a refusal's line.
fn limit_log_level(_: &mut Cx<'_>, node: &Node) -> Result<Level, Fail> {
    match node.arg(0) {
        b"info" => Ok(Level::Info),
        b"notice" => Ok(Level::Notice),
        b"warn" => Ok(Level::Warn),
        b"error" => Ok(Level::Error),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

/// The status of a refusal.
fn limit_status(cx: &mut Cx<'_>, node: &Node) -> Result<u16, Fail> {
    match status_arg(cx, node)? {
        status @ 400..=599 => Ok(status),
        _ => Err(Fail::Message("value must be between 400 and 599".to_owned())),
    }
}

/// `gzip_static`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GzipStatic {
    /// Compressed files are not looked for.
    Off,
    /// They are sent to clients that take them.
    On,
    /// They are sent to everybody.
    Always,
}

/// `autoindex_format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoindexFormat {
    /// A page.
    Html,
    /// XML.
    Xml,
    /// JSON.
    Json,
    /// JSON in a call of the function that the argument `callback` names.
    Jsonp,
}

fn gzip_static(_: &mut Cx<'_>, node: &Node) -> Result<GzipStatic, Fail> {
    match node.arg(0) {
        b"off" => Ok(GzipStatic::Off),
        b"on" => Ok(GzipStatic::On),
        b"always" => Ok(GzipStatic::Always),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

fn autoindex_format(_: &mut Cx<'_>, node: &Node) -> Result<AutoindexFormat, Fail> {
    match node.arg(0) {
        b"html" => Ok(AutoindexFormat::Html),
        b"xml" => Ok(AutoindexFormat::Xml),
        b"json" => Ok(AutoindexFormat::Json),
        b"jsonp" => Ok(AutoindexFormat::Jsonp),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

/// `1.0` or `1.1`, as 1000 or 1001.
fn http_version(_: &mut Cx<'_>, node: &Node) -> Result<u32, Fail> {
    match node.arg(0) {
        b"1.0" => Ok(1000),
        b"1.1" => Ok(1001),
        _ => Err(Fail::Message(format!("invalid value \"{}\"", node.text(0)))),
    }
}

fn comp_level(cx: &mut Cx<'_>, node: &Node) -> Result<u8, Fail> {
    match number_arg(cx, node)? {
        level @ 1..=9 => Ok(level as u8),
        _ => Err(Fail::Message("value must be between 1 and 9".to_owned())),
    }
}

/// A rate or size with variables: bytes per second.
fn rate_arg(cx: &mut Cx<'_>, node: &Node) -> Result<Option<Script>, Fail> {
    let script = cx.script(node.arg(0))?;
    if script.as_literal().is_some() && super::value::size(node.arg(0)).is_none() {
        return Err(Fail::invalid_value());
    }
    Ok(Some(script))
}

/// `source_charset`: without tables for converting it can only be the one of the response.
fn source_charset(_: &mut Cx<'_>, node: &Node) -> Result<Option<Box<[u8]>>, Fail> {
    Err(Fail::Message(format!("no \"charset_map\" between the charsets \"{}\" and any other", node.text(0))))
}

/// `open_file_cache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileCacheSize {
    /// Files remembered at most.
    pub max: usize,
    /// How long one may go unused.
    pub inactive_ms: u64,
}

fn open_file_cache(_: &mut Cx<'_>, node: &Node) -> Result<Option<Arc<FileCacheSize>>, Fail> {
    let (mut max, mut inactive_ms) = (None, 60_000);
    for arg in &node.args {
        let text = String::from_utf8_lossy(arg);
        let invalid = || Fail::Message(format!("invalid \"open_file_cache\" parameter \"{text}\""));
        match text.split_once('=') {
            Some(("max", n)) => {
                let n = number(n.as_bytes()).filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
                max = Some(n.ok_or_else(invalid)?);
            }
            Some(("inactive", t)) => {
                inactive_ms = time_s(t.as_bytes()).and_then(|s| s.checked_mul(1000)).ok_or_else(invalid)?;
            }
            None if text == "off" && node.args.len() == 1 => return Ok(None),
            _ => return Err(invalid()),
        }
    }
    match max {
        Some(max) => Ok(Some(Arc::new(FileCacheSize { max, inactive_ms }))),
        None => Err(Fail::Message("\"open_file_cache\" must have the \"max\" parameter".to_owned())),
    }
}

/// A time in whole seconds, kept in milliseconds.
fn seconds_arg(_: &mut Cx<'_>, node: &Node) -> Result<u64, Fail> {
    time_s(node.arg(0)).and_then(|s| s.checked_mul(1000)).ok_or_else(Fail::invalid_value)
}

settings! {
    /// Settings of response modules in force in a location.
    FilterSettings, FilterDraft in scope.filters; FILTER_ROWS {
        /// The status that `echo` commands answer with.
        echo_status: u16 = 200, status_arg, LOCATIONS, Arity::Exactly(1);
        /// Whether base 32 is padded with `=`.
        set_base32_padding: bool = true, flag_arg, LEVELS_IFS, Arity::Exactly(1);
        /// The 32 letters of base 32.
        set_base32_alphabet: Box<[u8]> = (*BASE32).into(), alphabet, LEVELS_IFS, Arity::Exactly(1);
        /// The realm of a password check; its value `off` switches the check off.
        auth_basic: Option<Script> = None, script_arg, LEVELS_EXCEPT, Arity::Exactly(1);
        /// The file of users and password hashes.
        auth_basic_user_file: Option<Script> = None, conf_path_arg, LEVELS_EXCEPT, Arity::Exactly(1);
        /// Whether copies of a request have its body.
        mirror_request_body: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// A subrequest that decides whether the client may.
        auth_request: Option<Box<[u8]>> = None, uri_or_off, LEVELS, Arity::Exactly(1);
        /// Where the client's address comes from.
        real_ip_header: RealIpHeader = RealIpHeader::XRealIp, real_ip_header, LEVELS, Arity::Exactly(1);
        /// Whether trusted addresses in the header are skipped.
        real_ip_recursive: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// The status of a request that is one too many.
        limit_req_status: u16 = 503, limit_status, LEVELS, Arity::Exactly(1);
        /// The level of its line.
        limit_req_log_level: Level = Level::Error, limit_log_level, LEVELS, Arity::Exactly(1);
        /// Whether requests are only counted.
        limit_req_dry_run: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// The status of a connection that is one too many.
        limit_conn_status: u16 = 503, limit_status, LEVELS, Arity::Exactly(1);
        /// The level of its line.
        limit_conn_log_level: Level = Level::Error, limit_log_level, LEVELS, Arity::Exactly(1);
        /// Whether connections are only counted.
        limit_conn_dry_run: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether responses are compressed.
        gzip: bool = false, flag_arg, LEVELS_IF, Arity::Exactly(1);
        /// How well: 1 is fast, 9 is small.
        gzip_comp_level: u8 = 1, comp_level, LEVELS, Arity::Exactly(1);
        /// Responses shorter than this stay as they are.
        gzip_min_length: u64 = 20, size_arg, LEVELS, Arity::Exactly(1);
        /// The version from which on clients get compressed responses.
        gzip_http_version: u32 = 1001, http_version, LEVELS, Arity::Exactly(1);
        /// Whether `Vary: Accept-Encoding` is sent.
        gzip_vary: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Accepted: the compressed output grows as it needs.
        gzip_buffers: (u64, u64) = (32, 4096), buffers_arg, LEVELS, Arity::Exactly(2);
        /// Whether files are sent that are compressed already.
        gzip_static: GzipStatic = GzipStatic::Off, gzip_static, LEVELS, Arity::Exactly(1);
        /// Whether compressed responses are unpacked for clients that do not take them.
        gunzip: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Accepted as above.
        gunzip_buffers: (u64, u64) = (32, 4096), buffers_arg, LEVELS, Arity::Exactly(2);
        /// The character set that content types get; `off` for none.
        charset: Option<Script> = None, script_arg, LEVELS_IF, Arity::Exactly(1);
        /// Refused: there is no converting.
        source_charset: Option<Box<[u8]>> = None, source_charset, LEVELS_IF, Arity::Exactly(1);
        /// Whether each text is replaced only once.
        sub_filter_once: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether a changed response keeps its date.
        sub_filter_last_modified: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// The digest that a link brings, with the time it is good for: `MD5,TIME`.
        secure_link: Option<Script> = None, script_arg, LEVELS, Arity::Exactly(1);
        /// What the digest is of.
        secure_link_md5: Option<Script> = None, script_arg, LEVELS, Arity::Exactly(1);
        /// The secret of links in the older form.
        secure_link_secret: Option<Box<[u8]>> = None, secret_arg, LEVELS, Arity::Exactly(1);
        /// Whether directories are listed.
        autoindex: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether sizes are shown to the byte.
        autoindex_exact_size: bool = true, flag_arg, LEVELS, Arity::Exactly(1);
        /// Whether times are local.
        autoindex_localtime: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// Open files and what is known of them; nothing remembers none.
        open_file_cache: Option<Arc<FileCacheSize>> = None, open_file_cache, LEVELS, Arity::Between(1, 2);
        /// How long what is known of a file is believed.
        open_file_cache_valid: u64 = 60_000, seconds_arg, LEVELS, Arity::Exactly(1);
        /// Uses from which on a file stays open.
        open_file_cache_min_uses: u64 = 1, number_arg, LEVELS, Arity::Exactly(1);
        /// Whether errors are remembered.
        open_file_cache_errors: bool = false, flag_arg, LEVELS, Arity::Exactly(1);
        /// How lists look.
        autoindex_format: AutoindexFormat = AutoindexFormat::Html, autoindex_format, LEVELS, Arity::Exactly(1);
        /// Bytes per second that a response may take; nothing is no limit.
        limit_rate: Option<Script> = None, rate_arg, LEVELS_IF, Arity::Exactly(1);
        /// Bytes of a response before the limit holds.
        limit_rate_after: Option<Script> = None, rate_arg, LEVELS_IF, Arity::Exactly(1);
    }
}
