//! `location`, and what a location has beyond scalars: files, error pages, headers, types.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, block, simple, walk};
use crate::conf::error::Fail;
use crate::conf::level::Level;
use crate::conf::model::{
    AddHeader, Content, ErrorPage, ErrorPageStatus, Level as LogLevel, LocationKind, Resolver, Root, TryFile,
    TryFiles, TryLast,
};
use crate::conf::tree::{Body, Item, Node};
use crate::conf::value;
use crate::conf::variables::Script;
use crate::phase::Contexts;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_IF: Contexts = LEVELS.or(Contexts::LOCATION_IF);

/// The rows.
pub const ROWS: &[Row] = &[
    block("location", Contexts::SERVER.or(Contexts::LOCATION), Arity::Between(1, 2), location),
    block("limit_except", Contexts::LOCATION, Arity::AtLeast(1), limit_except),
    block("types", LEVELS, Arity::Exactly(0), types),
    simple("root", LEVELS_IF, Arity::Exactly(1), root),
    simple("alias", Contexts::LOCATION, Arity::Exactly(1), root),
    simple("index", LEVELS, Arity::AtLeast(1), index),
    simple("try_files", Contexts::SERVER.or(Contexts::LOCATION), Arity::AtLeast(2), try_files),
    simple("internal", Contexts::LOCATION, Arity::Exactly(0), internal),
    simple("error_page", LEVELS_IF, Arity::AtLeast(2), error_page),
    simple("add_header", LEVELS_IF, Arity::Between(2, 3), add_header),
    simple("resolver", LEVELS, Arity::AtLeast(1), resolver),
    simple("stub_status", Contexts::SERVER.or(Contexts::LOCATION), Arity::Between(0, 1), stub_status),
    simple("empty_gif", Contexts::LOCATION, Arity::Exactly(0), empty_gif),
];

fn location(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (modifier, path): (&[u8], &[u8]) = match node.args.as_slice() {
        [modifier, path] => (modifier, path),
        [one] => split_modifier(one),
        _ => unreachable!("the arity is one or two"),
    };
    let kind = match modifier {
        b"" if path.first() == Some(&b'@') => LocationKind::Named,
        b"" => LocationKind::Prefix,
        b"=" => LocationKind::Exact,
        b"^~" => LocationKind::PrefixNoRegex,
        b"~" => LocationKind::Regex(cx.pattern(path, false)?),
        b"~*" => LocationKind::Regex(cx.pattern(path, true)?),
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(Fail::Message(format!("invalid location modifier \"{other}\"")));
        }
    };
    check_nesting(cx.scope, &kind, path)?;
    let mut level = Level::new(Contexts::LOCATION, kind);
    level.name = path.into();
    level.place = Some(node.place.clone());
    walk(cx.all, &mut level, node.items())?;
    cx.scope.inner.push(level);
    Ok(())
}

/// A modifier may stand before its path without a space.
fn split_modifier(arg: &[u8]) -> (&[u8], &[u8]) {
    for modifier in [&b"^~"[..], b"~*", b"~", b"="] {
        if let Some(path) = arg.strip_prefix(modifier) {
            return (modifier, path);
        }
    }
    (b"", arg)
}

fn check_nesting(outer: &Level, kind: &LocationKind, path: &[u8]) -> Result<(), Fail> {
    if outer.context != Contexts::LOCATION {
        return Ok(());
    }
    let (name, outer_name) = (String::from_utf8_lossy(path), String::from_utf8_lossy(&outer.name));
    let message = if matches!(outer.kind, LocationKind::Exact) {
        format!("location \"{name}\" cannot be inside the exact location \"{outer_name}\"")
    } else if matches!(outer.kind, LocationKind::Named) {
        format!("location \"{name}\" cannot be inside the named location \"{outer_name}\"")
    } else if matches!(kind, LocationKind::Named) {
        format!("named location \"{name}\" can be on the server level only")
    } else if !matches!(kind, LocationKind::Regex(_)) && !path.starts_with(&outer.name) {
        format!("location \"{name}\" is outside location \"{outer_name}\"")
    } else {
        return Ok(());
    };
    Err(Fail::Message(message))
}

fn limit_except(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    const METHODS: &[&str] = &[
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "MKCOL",
        "COPY",
        "MOVE",
        "OPTIONS",
        "PROPFIND",
        "PROPPATCH",
        "LOCK",
        "UNLOCK",
        "PATCH",
    ];
    if cx.scope.limit_except.is_some() {
        return Err(Fail::duplicate());
    }
    let mut methods: Vec<Box<[u8]>> = Vec::new();
    for arg in &node.args {
        let method = String::from_utf8_lossy(arg).to_ascii_uppercase();
        if !METHODS.contains(&&*method) {
            return Err(Fail::Message(format!("invalid method \"{}\"", String::from_utf8_lossy(arg))));
        }
        methods.push(method.into_bytes().into());
    }
    let mut level = Level::new(Contexts::LIMIT_EXCEPT, LocationKind::LimitExcept);
    level.name = cx.scope.name.clone();
    walk(cx.all, &mut level, node.items())?;
    cx.scope.limit_except = Some((methods, Box::new(level)));
    Ok(())
}

fn types(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut types = cx.scope.types.take().unwrap_or_default();
    for item in node.items() {
        let entry = match item {
            Item::Error(error) => return Err(error.clone().into()),
            Item::Node(entry) => entry,
        };
        if !matches!(entry.body, Body::None) {
            let message = "unexpected \"{\"".to_owned();
            return Err(crate::conf::error::ConfError::at(&entry.place, message).into());
        }
        for extension in &entry.args {
            let extension: Box<[u8]> = extension.to_ascii_lowercase().into();
            if let Some(before) = types.insert(extension.clone(), entry.word.clone())
                && before != entry.word
            {
                let message = format!(
                    "duplicate extension \"{}\", content type: \"{}\", previous content type: \"{}\"",
                    String::from_utf8_lossy(&extension),
                    entry.name(),
                    String::from_utf8_lossy(&before)
                );
                cx.warn(LogLevel::Warn, entry, &message);
            }
        }
    }
    cx.scope.types = Some(types);
    Ok(())
}

fn root(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let alias = &*node.word == b"alias";
    if let Some(before) = &cx.scope.root {
        if before.alias == alias {
            return Err(Fail::duplicate());
        }
        let earlier = if before.alias { "alias" } else { "root" };
        let words = format!("is duplicate, \"{earlier}\" directive was specified earlier");
        return Err(Fail::Directive(words));
    }
    if alias && matches!(cx.scope.kind, LocationKind::Named) {
        let message = "the \"alias\" directive cannot be used inside the named location";
        return Err(Fail::Message(message.to_owned()));
    }
    let mut path = node.arg(0);
    for name in ["document_root", "realpath_root"] {
        let text = node.text(0);
        if text.contains(&format!("${name}")) || text.contains(&format!("${{{name}}}")) {
            let message = format!("the ${name} variable cannot be used in the \"{}\" directive", node.name());
            return Err(Fail::Message(message));
        }
    }
    if !alias && path.len() > 1 && path.last() == Some(&b'/') {
        path = &path[..path.len() - 1];
    }
    cx.scope.root = Some(Root { path: cx.path_script(path)?, alias });
    Ok(())
}

fn index(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut names = cx.scope.index.take().unwrap_or_default();
    for (at, arg) in node.args.iter().enumerate() {
        if arg.is_empty() {
            return Err(Fail::Message(format!(
                "index \"{}\" in \"index\" directive is invalid",
                node.text(at)
            )));
        }
        if arg[0] == b'/' && at + 1 != node.args.len() {
            let message = "only the last index in \"index\" directive should be absolute";
            cx.warn(LogLevel::Warn, node, message);
        }
        names.push(cx.script(arg)?);
    }
    cx.scope.index = Some(names);
    Ok(())
}

fn try_files(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.scope.try_files.is_some() {
        return Err(Fail::duplicate());
    }
    let (last, names) = node.args.split_last().expect("the arity is two or more");
    let mut files = Vec::new();
    for name in names {
        let directory = name.last() == Some(&b'/');
        let name = if directory { &name[..name.len() - 1] } else { name };
        files.push(TryFile { name: cx.script(name)?, directory });
    }
    let last = match &**last {
        [b'=', code @ ..] => TryLast::Code(
            value::number(code)
                .and_then(|code| u16::try_from(code).ok())
                .filter(|code| *code <= 999)
                .ok_or_else(|| {
                    Fail::Message(format!("invalid code \"{}\"", String::from_utf8_lossy(last)))
                })?,
        ),
        [b'@', ..] => TryLast::Named(last.clone()),
        uri => TryLast::Uri(cx.script(uri)?),
    };
    cx.scope.try_files = Some(TryFiles { files, last });
    Ok(())
}

fn internal(cx: &mut Cx<'_>, _: &Node) -> Result<(), Fail> {
    if std::mem::replace(&mut cx.scope.internal, true) {
        return Err(Fail::duplicate());
    }
    Ok(())
}

fn error_page(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (uri, mut codes) = node.args.split_last().expect("the arity is two or more");
    let mut status = ErrorPageStatus::Keep;
    if let Some((last, before)) = codes.split_last()
        && let [b'=', code @ ..] = &**last
    {
        if before.is_empty() {
            return Err(Fail::Message(format!("invalid value \"{}\"", String::from_utf8_lossy(last))));
        }
        status = if code.is_empty() {
            ErrorPageStatus::Handler
        } else {
            let code = value::number(code).and_then(|code| u16::try_from(code).ok()).ok_or_else(|| {
                Fail::Message(format!("invalid value \"{}\"", String::from_utf8_lossy(last)))
            })?;
            ErrorPageStatus::Fixed(code)
        };
        codes = before;
    }
    let mut numbers = Vec::new();
    for code in codes {
        let shown = String::from_utf8_lossy(code);
        let number =
            value::number(code).ok_or_else(|| Fail::Message(format!("invalid value \"{shown}\"")))?;
        if number == 499 {
            return Err(Fail::Message(format!("invalid value \"{shown}\"")));
        }
        let number = u16::try_from(number).ok().filter(|number| (300..=599).contains(number));
        numbers.push(
            number.ok_or_else(|| Fail::Message(format!("value \"{shown}\" must be between 300 and 599")))?,
        );
    }
    let uri: Script = cx.script(uri)?;
    cx.scope.error_pages.push(ErrorPage { codes: numbers, status, uri });
    Ok(())
}

fn add_header(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let always = match node.args.get(2) {
        None => false,
        Some(word) if **word == *b"always" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    let header = AddHeader { name: node.arg(0).into(), value: cx.script(node.arg(1))?, always };
    cx.scope.add_headers.push(header);
    Ok(())
}

/// `resolver` of a level or of an `upstream {}` block.
pub fn resolver(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.scope.resolver.is_some() {
        return Err(Fail::duplicate());
    }
    let mut resolver = Resolver { servers: Vec::new(), valid_ms: None, ipv4: true, ipv6: true, local: None };
    for arg in &node.args {
        let text = String::from_utf8_lossy(arg);
        let flag = |val: &str| match val {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(Fail::Message(format!("invalid parameter: {text}"))),
        };
        match text.split_once('=') {
            Some(("valid", val)) => {
                let valid = value::time_s(val.as_bytes())
                    .ok_or_else(|| Fail::Message(format!("invalid parameter: {text}")))?;
                resolver.valid_ms = Some(valid * 1000);
            }
            Some(("ipv4", val)) => resolver.ipv4 = flag(val)?,
            Some(("ipv6", val)) => resolver.ipv6 = flag(val)?,
            Some(("local", "off")) => resolver.local = None,
            Some(("local", "on")) => resolver.local = Some(PathBuf::from("/etc/resolv.conf")),
            Some(("local", path)) => resolver.local = Some(PathBuf::from(path)),
            Some(("status_zone", _)) => {
                return Err(Fail::Message(
                    "\"status_zone\" is known, but this server does not support it".into(),
                ));
            }
            Some(_) | None => resolver.servers.push(
                name_server(&text)
                    .ok_or_else(|| Fail::Message(format!("host not found in resolver \"{text}\"")))?,
            ),
        }
    }
    if !resolver.ipv4 && !resolver.ipv6 {
        return Err(Fail::Message("\"ipv4\" and \"ipv6\" cannot both be \"off\"".to_owned()));
    }
    if resolver.servers.is_empty() && resolver.local.is_none() {
        return Err(Fail::Message("no name servers defined".to_owned()));
    }
    cx.scope.resolver = Some(Arc::new(resolver));
    Ok(())
}

fn name_server(text: &str) -> Option<SocketAddr> {
    const DNS_PORT: u16 = 53;
    if let Ok(addr) = text.parse::<SocketAddr>() {
        return Some(addr);
    }
    let host = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Some(SocketAddr::new(ip, DNS_PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (text, DNS_PORT),
    };
    std::net::ToSocketAddrs::to_socket_addrs(&(host, port)).ok()?.next()
}

fn stub_status(cx: &mut Cx<'_>, _: &Node) -> Result<(), Fail> {
    cx.scope.content = Some(Content::StubStatus);
    Ok(())
}

fn empty_gif(cx: &mut Cx<'_>, _: &Node) -> Result<(), Fail> {
    cx.scope.content = Some(Content::EmptyGif);
    Ok(())
}
