//! `upstream {}` and what stands inside; the table of groups that `proxy_pass` refers to.

use std::sync::Arc;

use crate::conf::directive::{Arity, Build, Cx, Row, block, simple, walk};
use crate::conf::error::{ConfError, Fail};
use crate::conf::level::Level;
use crate::conf::model::{Level as LogLevel, LocationKind};
use crate::conf::tree::Node;
use crate::conf::upstream::{
    Balance, Upstream, UpstreamBlock, UpstreamDraft, UpstreamId, UpstreamServer, Zone, resolve,
};
use crate::conf::url::{self, Url};
use crate::conf::value;
use crate::phase::{Contexts, Phase};

const UPSTREAM: Contexts = Contexts::UPSTREAM;

/// The rows.
pub const ROWS: &[Row] = &[
    block("upstream", Contexts::HTTP, Arity::Exactly(1), upstream),
    simple("server", UPSTREAM, Arity::AtLeast(1), server),
    simple("keepalive", UPSTREAM, Arity::Between(1, 2), keepalive),
    simple("keepalive_requests", UPSTREAM, Arity::Exactly(1), keepalive_requests),
    simple("keepalive_time", UPSTREAM, Arity::Exactly(1), keepalive_time),
    simple("keepalive_timeout", UPSTREAM, Arity::Exactly(1), keepalive_timeout),
    simple("least_conn", UPSTREAM, Arity::Exactly(0), least_conn),
    simple("ip_hash", UPSTREAM, Arity::Exactly(0), ip_hash),
    simple("hash", UPSTREAM, Arity::Between(1, 2), hash),
    simple("random", UPSTREAM, Arity::Between(0, 2), random),
    simple("balancer_keepalive", UPSTREAM, Arity::Exactly(1), balancer_keepalive),
    simple("zone", UPSTREAM, Arity::Between(1, 2), zone),
    simple("resolver", UPSTREAM, Arity::AtLeast(1), super::location::resolver),
    simple("resolver_timeout", UPSTREAM, Arity::Exactly(1), resolver_timeout),
];

/// The group that a URL names: the block of that name, or an implicit group.
pub fn refer(all: &mut Build, url: &Url, place: &crate::conf::error::Place) -> Result<UpstreamId, Fail> {
    let no_port = url.port_text.is_none();
    for (at, known) in all.upstreams.iter().enumerate() {
        if !known.name.eq_ignore_ascii_case(&url.host) {
            continue;
        }
        if known.block.is_some() {
            if !no_port {
                return Err(Fail::Message(format!(
                    "upstream \"{}\" may not have port {}",
                    url.host, url.port
                )));
            }
            return Ok(UpstreamId(at));
        }
        if known.port == url.port {
            return Ok(UpstreamId(at));
        }
    }
    all.upstreams.push(UpstreamDraft {
        name: url.host.clone(),
        port: url.port,
        no_port,
        literal: url.addr.clone(),
        place: place.clone(),
        block: None,
    });
    Ok(UpstreamId(all.upstreams.len() - 1))
}

fn upstream(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let name = node.text(0).into_owned();
    let known = cx.all.upstreams.iter().position(|group| group.name.eq_ignore_ascii_case(&name));
    if let Some(at) = known {
        let group = &cx.all.upstreams[at];
        if group.block.is_some() {
            return Err(Fail::Message(format!("duplicate upstream \"{name}\"")));
        }
        if !group.no_port {
            let message = format!("upstream \"{name}\" may not have port {}", group.port);
            return Err(ConfError::at(&group.place, message).into());
        }
    }
    let mut level = Level::new(UPSTREAM, LocationKind::Http);
    level.upstream = Some(Box::default());
    walk(cx.all, &mut level, node.items())?;
    let mut block = level.upstream.take().expect("put there above");
    block.balancer = level.lua.get(Phase::Balancer).cloned();
    block.resolver = level.resolver.take();
    if block.servers.is_empty() && block.balancer.is_none() {
        return Err(Fail::Message("no servers are inside upstream".to_owned()));
    }
    let draft = UpstreamDraft {
        name,
        port: 0,
        no_port: true,
        literal: None,
        place: node.place.clone(),
        block: Some(*block),
    };
    match known {
        Some(at) => cx.all.upstreams[at] = draft,
        None => cx.all.upstreams.push(draft),
    }
    Ok(())
}

/// The block that the directive stands in.
fn block_of<'a>(cx: &'a mut Cx<'_>) -> &'a mut UpstreamBlock {
    cx.scope.upstream.as_deref_mut().expect("the row's context is upstream {}")
}

fn server(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut server = UpstreamServer::plain(node.text(0).into_owned(), Vec::new());
    let mut resolve_later = false;
    let no_backup =
        matches!(block_of(cx).balance, Some(Balance::IpHash | Balance::Hash { .. } | Balance::Random { .. }));
    for arg in &node.args[1..] {
        let text = String::from_utf8_lossy(arg);
        let number = |text: &str| value::number(text.as_bytes());
        let invalid = || Fail::parameter(arg);
        match text.split_once('=') {
            Some(("weight", val)) => {
                let weight = number(val).filter(|n| *n > 0).and_then(|n| i64::try_from(n).ok());
                server.weight = weight.ok_or_else(invalid)?;
            }
            Some(("max_conns", val)) => server.max_conns = number(val).ok_or_else(invalid)?,
            Some(("max_fails", val)) => server.max_fails = number(val).ok_or_else(invalid)?,
            Some(("fail_timeout", val)) => {
                server.fail_timeout_s = value::time_s(val.as_bytes()).ok_or_else(invalid)?;
            }
            None if text == "backup" && no_backup => {
                return Err(Fail::Message(format!("balancing method does not support parameter \"{text}\"")));
            }
            None if text == "backup" => server.backup = true,
            None if text == "down" => server.down = true,
            None if text == "resolve" => resolve_later = true,
            None if text == "drain" => {
                return Err(Fail::Message(format!("the \"{text}\" parameter is not supported yet")));
            }
            Some(("service", "")) => return Err(Fail::Message("service is empty".to_owned())),
            Some(("service", name)) => server.service = Some(name.to_owned()),
            Some(("route", _)) => {
                return Err(Fail::Message(format!("the \"{text}\" parameter is not supported yet")));
            }
            _ => return Err(invalid()),
        }
    }
    let fail = |why: &str| Fail::Message(format!("{why} in upstream \"{}\"", node.text(0)));
    let wrong = |why: &str| Err(Fail::Message(format!("service upstream \"{}\" {why}", node.text(0))));
    if server.service.is_some() && !resolve_later {
        return wrong("requires \"resolve\" parameter");
    }
    let url = url::parse(node.arg(0), 80).map_err(fail)?;
    if server.service.is_some() && (url.port_text.is_some() || url.is_unix()) {
        return wrong("may not have port");
    }
    if server.service.is_some() && url.addr.is_some() {
        return wrong("requires domain name");
    }
    if !url.uri.is_empty() {
        return Err(fail("invalid host"));
    }
    server.addrs = match url.addr {
        Some(addr) => vec![addr],
        None if resolve_later => {
            server.resolve = Some((url.host, url.port));
            Vec::new()
        }
        None => resolve(&url.host, url.port).ok_or_else(|| fail("host not found"))?,
    };
    block_of(cx).servers.push(server);
    Ok(())
}

fn method(cx: &mut Cx<'_>, node: &Node, balance: Balance) -> Result<(), Fail> {
    if block_of(cx).balance.is_some() {
        cx.warn(LogLevel::Warn, node, "load balancing method redefined");
    }
    block_of(cx).balance = Some(balance);
    Ok(())
}

fn least_conn(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    method(cx, node, Balance::LeastConn)
}

fn ip_hash(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    method(cx, node, Balance::IpHash)
}

fn hash(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let key = cx.script(node.arg(0))?;
    let consistent = match node.args.get(1) {
        None => false,
        Some(word) if **word == *b"consistent" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    method(cx, node, Balance::Hash { key, consistent })
}

fn random(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let two = match node.args.first() {
        None => false,
        Some(word) if **word == *b"two" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    if let Some(word) = node.args.get(1)
        && **word != *b"least_conn"
    {
        return Err(Fail::parameter(word));
    }
    method(cx, node, Balance::Random { two })
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Fail> {
    if slot.is_some() {
        return Err(Fail::duplicate());
    }
    *slot = Some(value);
    Ok(())
}

fn keepalive(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if block_of(cx).keepalive.is_some() {
        return Err(Fail::duplicate());
    }
    let max = value::number(node.arg(0)).and_then(|n| usize::try_from(n).ok()).ok_or_else(|| {
        Fail::Message(format!("invalid value \"{}\" in \"keepalive\" directive", node.text(0)))
    })?;
    let local = match node.args.get(1) {
        None => false,
        Some(word) if **word == *b"local" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    once(&mut block_of(cx).keepalive, (max, local))
}

fn keepalive_requests(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let n = value::number_arg(cx, node)?;
    once(&mut block_of(cx).keepalive_requests, n)
}

fn keepalive_time(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let ms = value::ms_arg(cx, node)?;
    once(&mut block_of(cx).keepalive_time_ms, ms)
}

fn keepalive_timeout(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let ms = value::ms_arg(cx, node)?;
    once(&mut block_of(cx).keepalive_timeout_ms, ms)
}

fn resolver_timeout(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let ms = value::ms_arg(cx, node)?;
    once(&mut block_of(cx).resolver_timeout_ms, ms)
}

fn balancer_keepalive(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let n = value::number(node.arg(0)).filter(|n| *n > 0).and_then(|n| usize::try_from(n).ok());
    let n = n.ok_or_else(|| {
        Fail::Message(format!("invalid value \"{}\" in \"balancer_keepalive\" directive", node.text(0)))
    })?;
    once(&mut block_of(cx).balancer_keepalive, n)
}

/// Least size of a zone: eight pages.
const ZONE_BYTES_MIN: u64 = 8 * 4096;

fn zone(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let name = node.text(0).into_owned();
    if name.is_empty() {
        return Err(Fail::Message("invalid zone name \"\"".to_owned()));
    }
    let size_bytes = match node.args.get(1) {
        None => 0,
        Some(text) => {
            let shown = String::from_utf8_lossy(text);
            let size =
                value::size(text).ok_or_else(|| Fail::Message(format!("invalid zone size \"{shown}\"")))?;
            if size < ZONE_BYTES_MIN {
                return Err(Fail::Message(format!("zone \"{name}\" is too small")));
            }
            usize::try_from(size).map_err(|_| Fail::Message(format!("invalid zone size \"{shown}\"")))?
        }
    };
    once(&mut block_of(cx).zone, Zone { name, size_bytes, place: node.place.clone() })
}

/// Groups may share a zone, which one of them must have given a size: no two sizes, and nobody else's zone.
pub fn check_zones(upstreams: &[Arc<Upstream>], taken: &[&str]) -> Result<(), ConfError> {
    let zones = || upstreams.iter().filter_map(|group| group.zone.as_ref());
    for zone in zones() {
        let name = &zone.name;
        let fail = |message: String| Err(ConfError::at(&zone.place, message));
        if taken.contains(&name.as_str()) {
            return fail(format!(
                "the shared memory zone \"{name}\" is already declared for a different use"
            ));
        }
        let mut sizes = zones().filter(|z| z.name == *name && z.size_bytes > 0).map(|z| z.size_bytes);
        let Some(first) = sizes.next() else {
            let mut error = ConfError::whole(format!("zero size shared memory zone \"{name}\""));
            error.syntax_ok = true;
            return Err(error);
        };
        if zone.size_bytes > 0 && zone.size_bytes != first {
            let size = zone.size_bytes;
            return fail(format!(
                "the size {size} of shared memory zone \"{name}\" conflicts with already declared size {first}"
            ));
        }
    }
    Ok(())
}
