//! Who may: `allow`, `deny`, `auth_request*`; the client's real address; `mirror`.

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::Level as LogLevel;
use crate::conf::net::{self, Net};
use crate::conf::tree::Node;
use crate::conf::variables::{Script, VarId, VarKind};
use crate::phase::Contexts;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_EXCEPT: Contexts = LEVELS.or(Contexts::LIMIT_EXCEPT);

/// An `allow` or `deny` line.
#[derive(Clone, Copy, Debug)]
pub struct AccessRule {
    /// Whom it is about.
    pub net: Net,
    /// `deny`.
    pub deny: bool,
}

/// An `auth_request_set` line.
#[derive(Clone, Debug)]
pub struct AuthSet {
    /// The variable.
    pub var: VarId,
    /// Its value once the subrequest is over.
    pub value: Script,
}

/// The rows.
pub const ROWS: &[Row] = &[
    simple("allow", LEVELS_EXCEPT, Arity::Exactly(1), |cx, node| rule(cx, node, false)),
    simple("deny", LEVELS_EXCEPT, Arity::Exactly(1), |cx, node| rule(cx, node, true)),
    simple("auth_request_set", LEVELS, Arity::Exactly(2), auth_request_set),
    simple("mirror", LEVELS, Arity::Exactly(1), mirror),
    simple("set_real_ip_from", LEVELS, Arity::Exactly(1), real_ip_from),
];

/// A network of a directive; warns of bits behind the mask.
pub fn network(cx: &mut Cx<'_>, node: &Node, text: &[u8]) -> Option<Net> {
    let parsed = net::parse(text)?;
    if parsed.low_bits {
        let shown = String::from_utf8_lossy(text);
        cx.warn(LogLevel::Warn, node, &format!("low address bits of {shown} are meaningless"));
    }
    Some(parsed.net)
}

fn rule(cx: &mut Cx<'_>, node: &Node, deny: bool) -> Result<(), Fail> {
    let net = match node.arg(0) {
        b"all" => Net::All,
        b"unix:" => Net::Unix,
        text => network(cx, node, text).ok_or_else(|| Fail::parameter(text))?,
    };
    cx.scope.parts.access.push(AccessRule { net, deny });
    Ok(())
}

fn mirror(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if node.arg(0) == b"off" {
        if !cx.scope.parts.mirrors.is_empty() {
            return Err(Fail::duplicate());
        }
        cx.scope.parts.mirrors.push(None);
        return Ok(());
    }
    if matches!(cx.scope.parts.mirrors.first(), Some(None)) {
        return Err(Fail::duplicate());
    }
    cx.scope.parts.mirrors.push(Some(node.arg(0).into()));
    Ok(())
}

fn auth_request_set(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let var = cx.declare(node.arg(0), VarKind::User)?;
    let value = cx.script(node.arg(1))?;
    cx.scope.parts.auth_sets.push(AuthSet { var, value });
    Ok(())
}

fn real_ip_from(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let text = node.arg(0);
    if text == b"unix:" {
        cx.scope.parts.real_ip_from.push(Net::Unix);
        return Ok(());
    }
    if let Some(net) = network(cx, node, text) {
        cx.scope.parts.real_ip_from.push(net);
        return Ok(());
    }
    // A name stands for all its addresses.
    let shown = String::from_utf8_lossy(text).into_owned();
    let found = std::net::ToSocketAddrs::to_socket_addrs(&(&*shown, 0))
        .map_err(|_| Fail::Message(format!("host not found in set_real_ip_from \"{shown}\"")))?;
    for addr in found {
        let ip = addr.ip().to_string();
        let parsed = net::parse(ip.as_bytes()).expect("an address prints as one");
        if !cx.scope.parts.real_ip_from.contains(&parsed.net) {
            cx.scope.parts.real_ip_from.push(parsed.net);
        }
    }
    Ok(())
}
