//! `limit_req`, `limit_conn` and the zones they count in.

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::{ConfError, Fail};
use crate::conf::tree::Node;
use crate::conf::value;
use crate::conf::variables::Script;
use crate::phase::Contexts;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);

/// Least size of a zone: eight pages.
const ZONE_BYTES_MIN: u64 = 8 * 4096;

/// A zone of shared memory in which something is counted per key.
#[derive(Clone, Debug)]
pub struct LimitZone {
    /// Its name.
    pub name: String,
    /// Its size.
    pub size_bytes: usize,
    /// What is counted by; an empty value is not counted.
    pub key: Script,
    /// The key as written.
    pub key_text: Box<[u8]>,
    /// Requests per 1000 seconds; `None` for connections.
    pub rate: Option<u64>,
}

/// A `limit_req` line.
#[derive(Clone, Copy, Debug)]
pub struct LimitReq {
    /// Index of the zone.
    pub zone: usize,
    /// How many may wait, times 1000.
    pub burst: u64,
    /// From how many on they wait, times 1000.
    pub delay: u64,
}

/// A `limit_conn` line.
#[derive(Clone, Copy, Debug)]
pub struct LimitConn {
    /// Index of the zone.
    pub zone: usize,
    /// How many at a time.
    pub max: u64,
}

/// The rows.
pub const ROWS: &[Row] = &[
    simple("limit_req_zone", Contexts::HTTP, Arity::Between(3, 4), req_zone),
    simple("limit_req", LEVELS, Arity::Between(1, 3), limit_req),
    simple("limit_conn_zone", Contexts::HTTP, Arity::Exactly(2), conn_zone),
    simple("limit_conn", LEVELS, Arity::Exactly(2), limit_conn),
];

/// `zone=NAME:SIZE`.
fn zone_of(text: &str) -> Result<(String, usize), Fail> {
    let shown = format!("zone={text}");
    let invalid = || Fail::Message(format!("invalid zone size \"{shown}\""));
    let (name, size) = text.split_once(':').ok_or_else(invalid)?;
    let size = value::size(size.as_bytes()).ok_or_else(invalid)?;
    if size < ZONE_BYTES_MIN {
        return Err(Fail::Message(format!("zone \"{shown}\" is too small")));
    }
    Ok((name.to_owned(), usize::try_from(size).map_err(|_| invalid())?))
}

fn add_zone(
    cx: &mut Cx<'_>,
    node: &Node,
    zone: Option<(String, usize)>,
    rate: Option<u64>,
) -> Result<(), Fail> {
    let Some((name, size_bytes)) = zone else {
        let directive = node.name();
        return Err(Fail::Message(format!("\"{directive}\" must have \"zone\" parameter")));
    };
    let key = cx.script(node.arg(0))?;
    if let Some(known) = cx.all.limit_zones.iter().find(|z| z.name == name) {
        let bound = String::from_utf8_lossy(&known.key_text);
        return Err(Fail::Message(format!("{} \"{name}\" is already bound to key \"{bound}\"", node.name())));
    }
    cx.all.limit_zones.push(LimitZone { name, size_bytes, key, key_text: node.arg(0).into(), rate });
    Ok(())
}

fn req_zone(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (mut zone, mut rate) = (None, 1000);
    for arg in &node.args[1..] {
        let text = String::from_utf8_lossy(arg);
        if let Some(text) = text.strip_prefix("zone=") {
            zone = Some(zone_of(text)?);
        } else if let Some(text) = text.strip_prefix("rate=") {
            let (number, scale) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
                (Some(n), _) => (n, 1),
                (_, Some(n)) => (n, 60),
                _ => (text, 1),
            };
            let n = value::number(number.as_bytes()).filter(|n| *n > 0 && *n < u64::from(u32::MAX));
            let n = n.ok_or_else(|| Fail::Message(format!("invalid rate \"rate={text}\"")))?;
            rate = n * 1000 / scale;
        } else {
            return Err(Fail::parameter(arg));
        }
    }
    add_zone(cx, node, zone, Some(rate.max(1)))
}

fn conn_zone(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let text = node.text(1);
    let Some(zone) = text.strip_prefix("zone=") else { return Err(Fail::parameter(node.arg(1))) };
    let zone = Some(zone_of(zone)?);
    add_zone(cx, node, zone, None)
}

/// The zone of a name, which must have been defined before.
fn find_zone(cx: &Cx<'_>, name: &str, requests: bool) -> Result<usize, Fail> {
    let zones = &cx.all.limit_zones;
    match zones.iter().position(|z| z.name == name && z.rate.is_some() == requests) {
        Some(at) => Ok(at),
        None => Err(ConfError::whole(format!("zero size shared memory zone \"{name}\"")).into()),
    }
}

fn limit_req(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let (mut name, mut burst, mut delay) = (None, 0, 0);
    for arg in &node.args {
        let text = String::from_utf8_lossy(arg);
        let number = |word: &str, what: &str| {
            value::number(word.as_bytes())
                .filter(|n| *n < u64::from(u32::MAX))
                .ok_or_else(|| Fail::Message(format!("invalid {what} value \"{text}\"")))
        };
        if let Some(zone) = text.strip_prefix("zone=") {
            name = Some(zone.to_owned());
        } else if let Some(n) = text.strip_prefix("burst=") {
            burst = number(n, "burst")?;
            if burst == 0 {
                return Err(Fail::Message(format!("invalid burst value \"{text}\"")));
            }
        } else if let Some(n) = text.strip_prefix("delay=") {
            delay = number(n, "delay")?;
            if delay == 0 {
                return Err(Fail::Message(format!("invalid delay value \"{text}\"")));
            }
        } else if text == "nodelay" {
            delay = u64::from(u32::MAX);
        } else {
            return Err(Fail::parameter(arg));
        }
    }
    let Some(name) = name else {
        return Err(Fail::Message(format!("\"{}\" must have \"zone\" parameter", node.name())));
    };
    let zone = find_zone(cx, &name, true)?;
    if cx.scope.parts.limit_reqs.iter().any(|l| l.zone == zone) {
        return Err(Fail::duplicate());
    }
    cx.scope.parts.limit_reqs.push(LimitReq { zone, burst: burst * 1000, delay: delay * 1000 });
    Ok(())
}

fn limit_conn(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let max = value::number(node.arg(1))
        .filter(|n| *n > 0)
        .ok_or_else(|| Fail::Message(format!("invalid number of connections \"{}\"", node.text(1))))?;
    if max > 65535 {
        return Err(Fail::Message("connection limit must be less 65536".to_owned()));
    }
    let zone = find_zone(cx, &node.text(0), false)?;
    if cx.scope.parts.limit_conns.iter().any(|l| l.zone == zone) {
        return Err(Fail::duplicate());
    }
    cx.scope.parts.limit_conns.push(LimitConn { zone, max });
    Ok(())
}
