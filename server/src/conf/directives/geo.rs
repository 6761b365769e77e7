//! `geo` and `split_clients`: variables that depend on an address, or on chance.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::conf::directive::{Arity, Cx, Row, block};
use crate::conf::directives::access::network;
use crate::conf::error::{ConfError, Fail};
use crate::conf::model::Level as LogLevel;
use crate::conf::net::Net;
use crate::conf::tree::{Body, Item, Node};
use crate::conf::value;
use crate::conf::variables::{Script, VarId, VarKind};
use crate::phase::Contexts;

/// The rows.
pub const ROWS: &[Row] = &[
    block("geo", Contexts::HTTP, Arity::Between(1, 2), geo),
    block("split_clients", Contexts::HTTP, Arity::Exactly(2), split_clients),
];

/// A `geo`.
#[derive(Debug, Default)]
pub struct Geo {
    /// The variable that holds the address; `None` is the client's.
    pub address: Option<VarId>,
    /// Proxies whose `X-Forwarded-For` is looked at.
    pub proxies: Vec<Net>,
    /// Whether trusted addresses in it are skipped.
    pub recursive: bool,
    /// Values by network, by number of bits, the most bits first.
    v4: Vec<(u8, HashMap<u32, Box<[u8]>>)>,
    v6: Vec<(u8, HashMap<u128, Box<[u8]>>)>,
    /// Ranges in order, where the block begins with `ranges`.
    ranges: Option<Vec<(u32, u32, Box<[u8]>)>>,
    default: Box<[u8]>,
}

impl Geo {
    /// The value for an address; `None`, which is no address, counts as 255.255.255.255.
    pub fn find(&self, addr: Option<IpAddr>) -> &[u8] {
        let addr = Some(addr.unwrap_or(IpAddr::V4(std::net::Ipv4Addr::BROADCAST)));
        let found = match (addr.map(|a| a.to_canonical()), &self.ranges) {
            (Some(IpAddr::V4(a)), Some(ranges)) => {
                let a = u32::from(a);
                let at = ranges.partition_point(|r| r.0 <= a);
                at.checked_sub(1).map(|n| &ranges[n]).filter(|r| a <= r.1).map(|r| &r.2)
            }
            (Some(IpAddr::V4(a)), None) => {
                let a = u32::from(a);
                let kept = |bits: u8| if bits == 0 { 0 } else { a & (u32::MAX << (32 - bits)) };
                self.v4.iter().find_map(|(bits, nets)| nets.get(&kept(*bits)))
            }
            (Some(IpAddr::V6(a)), None) => {
                let a = u128::from(a);
                let kept = |bits: u8| if bits == 0 { 0 } else { a & (u128::MAX << (128 - bits)) };
                self.v6.iter().find_map(|(bits, nets)| nets.get(&kept(*bits)))
            }
            _ => None,
        };
        found.unwrap_or(&self.default)
    }

    /// Adds a network; the value that stood there before is returned.
    fn add(&mut self, net: Net, value: Box<[u8]>) -> Option<Box<[u8]>> {
        match net {
            Net::V4 { addr, bits } => by_bits(&mut self.v4, bits).insert(addr, value),
            Net::V6 { addr, bits } => by_bits(&mut self.v6, bits).insert(addr, value),
            Net::All | Net::Unix => None,
        }
    }

    fn remove(&mut self, net: Net) -> bool {
        match net {
            Net::V4 { addr, bits } => by_bits(&mut self.v4, bits).remove(&addr).is_some(),
            Net::V6 { addr, bits } => by_bits(&mut self.v6, bits).remove(&addr).is_some(),
            Net::All | Net::Unix => false,
        }
    }
}

type ByBits<K> = Vec<(u8, HashMap<K, Box<[u8]>>)>;

fn by_bits<K>(list: &mut ByBits<K>, bits: u8) -> &mut HashMap<K, Box<[u8]>> {
    let at = list.partition_point(|(known, _)| *known > bits);
    if list.get(at).is_none_or(|(known, _)| *known != bits) {
        list.insert(at, (bits, HashMap::new()));
    }
    &mut list[at].1
}

/// A `split_clients`.
#[derive(Debug)]
pub struct Split {
    /// What is hashed.
    pub key: Script,
    /// The highest hash of each part (the rest of all has none), and its value.
    parts: Vec<(Option<u32>, Script)>,
}

impl Split {
    /// The value for a key.
    pub fn find(&self, key: &[u8]) -> Option<&Script> {
        let hash = murmur2(key);
        self.parts.iter().find(|(end, _)| end.is_none_or(|end| hash < end)).map(|(_, value)| value)
    }
}

/// MurmurHash 2, 32 bits, seeded with the length.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = key.len() as u32;
    let mut chunks = key.chunks_exact(4);
    for c in &mut chunks {
        let mut k = u32::from_le_bytes([c[0], c[1], c[2], c[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (at, b) in rest.iter().enumerate() {
            h ^= u32::from(*b) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

fn entries<'a>(node: &'a Node) -> impl Iterator<Item = Result<&'a Node, Fail>> {
    node.items().iter().map(|item| match item {
        Item::Error(error) => Err(Fail::from(error.clone())),
        Item::Node(entry) if !matches!(entry.body, Body::None) => {
            Err(ConfError::at(&entry.place, "unexpected \"{\"").into())
        }
        Item::Node(entry) => Ok(entry),
    })
}

fn geo(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut geo = Geo::default();
    let name = match node.args.as_slice() {
        [source, name] => {
            geo.address = Some(cx.variable(source)?);
            name
        }
        [name, ..] => name,
        [] => unreachable!("the arity is one or two"),
    };
    cx.declare(name, VarKind::Geo(cx.all.geos.len()))?;
    let mut empty = true;
    for entry in entries(node) {
        let entry = entry?;
        geo_entry(cx, &mut geo, &mut empty, entry).map_err(|fail| match fail {
            Fail::Message(message) => Fail::from(ConfError::at(&entry.place, message)),
            other => other,
        })?;
    }
    if let Some(ranges) = &mut geo.ranges {
        ranges.sort_by_key(|r| r.0);
    }
    cx.all.geos.push(geo);
    Ok(())
}

fn geo_entry(cx: &mut Cx<'_>, geo: &mut Geo, empty: &mut bool, entry: &Node) -> Result<(), Fail> {
    match (&*entry.word, entry.args.len()) {
        (b"ranges", 0) => {
            if !*empty {
                let message = "the \"ranges\" directive must be the first directive inside \"geo\" block";
                return Err(Fail::Message(message.to_owned()));
            }
            geo.ranges = Some(Vec::new());
            return Ok(());
        }
        (b"proxy_recursive", 0) => {
            geo.recursive = true;
            return Ok(());
        }
        (_, 1) => {}
        _ => return Err(Fail::Message("invalid number of the geo parameters".to_owned())),
    }
    *empty = false;
    let invalid =
        |text: &[u8]| Fail::Message(format!("invalid network \"{}\"", String::from_utf8_lossy(text)));
    let value: Box<[u8]> = entry.arg(0).into();
    match &*entry.word {
        b"default" => geo.default = value,
        b"proxy" => {
            let net = network(cx, entry, entry.arg(0)).ok_or_else(|| invalid(entry.arg(0)))?;
            geo.proxies.push(net);
        }
        b"delete" if geo.ranges.is_some() => {
            let (from, to) = range(entry.arg(0))?;
            let ranges = geo.ranges.as_mut().expect("the guard has seen it");
            let before = ranges.len();
            ranges.retain(|r| (r.0, r.1) != (from, to));
            if ranges.len() == before {
                let shown = entry.text(0).into_owned();
                cx.warn(LogLevel::Warn, entry, &format!("no address range \"{shown}\" to delete"));
            }
        }
        b"delete" => {
            let net = network(cx, entry, entry.arg(0)).ok_or_else(|| invalid(entry.arg(0)))?;
            if !geo.remove(net) {
                let shown = entry.text(0).into_owned();
                cx.warn(LogLevel::Warn, entry, &format!("no network \"{shown}\" to delete"));
            }
        }
        text => {
            let shown = String::from_utf8_lossy(text).into_owned();
            if let Some(ranges) = &mut geo.ranges {
                let (from, to) = range(text)?;
                if let Some(other) = ranges.iter_mut().find(|r| r.0 <= to && from <= r.1) {
                    if (other.0, other.1) != (from, to) {
                        let (a, b) = (std::net::Ipv4Addr::from(other.0), std::net::Ipv4Addr::from(other.1));
                        return Err(Fail::Message(format!("range \"{shown}\" overlaps \"{a}-{b}\"")));
                    }
                    let old = std::mem::replace(&mut other.2, value);
                    duplicate(cx, entry, "range", &shown, &old);
                    return Ok(());
                }
                ranges.push((from, to, value));
                return Ok(());
            }
            let net = network(cx, entry, text).ok_or_else(|| invalid(text))?;
            if let Some(old) = geo.add(net, value) {
                duplicate(cx, entry, "network", &shown, &old);
            }
        }
    }
    Ok(())
}

fn duplicate(cx: &mut Cx<'_>, entry: &Node, what: &str, shown: &str, old: &[u8]) {
    let text = format!(
        "duplicate {what} \"{shown}\", value: \"{}\", old value: \"{}\"",
        entry.text(0),
        String::from_utf8_lossy(old)
    );
    cx.warn(LogLevel::Warn, entry, &text);
}

/// `FROM-TO`, both IPv4 addresses.
fn range(text: &[u8]) -> Result<(u32, u32), Fail> {
    let shown = String::from_utf8_lossy(text);
    let ends = shown.split_once('-').and_then(|(from, to)| {
        let from: std::net::Ipv4Addr = from.parse().ok()?;
        let to: std::net::Ipv4Addr = to.parse().ok()?;
        (from <= to).then_some((u32::from(from), u32::from(to)))
    });
    ends.ok_or_else(|| Fail::Message(format!("invalid range \"{shown}\"")))
}

fn split_clients(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let key = cx.script(node.arg(0))?;
    cx.declare(node.arg(1), VarKind::Split(cx.all.splits.len()))?;
    let mut parts = Vec::new();
    // Hundredths of a percent so far.
    let mut sum: u64 = 0;
    for entry in entries(node) {
        let entry = entry?;
        if entry.args.is_empty() {
            return Err(ConfError::at(&entry.place, "invalid number of parameters").into());
        }
        let script = cx.script(entry.arg(0))?;
        if &*entry.word == b"*" {
            parts.push((None, script));
            continue;
        }
        let percent = percent(&entry.word).ok_or_else(|| {
            ConfError::at(&entry.place, format!("invalid percent value \"{}\"", entry.name()))
        })?;
        sum += percent;
        if sum > 10_000 {
            return Err(ConfError::at(&node.place, "percent total is greater than 100%").into());
        }
        let end = u32::try_from(sum * 0xffff_ffff / 10_000).expect("at most all of 32 bits");
        parts.push((Some(end), script));
    }
    cx.all.splits.push(Split { key, parts });
    Ok(())
}

/// `N%` or `N.NN%` in hundredths of a percent, more than none.
fn percent(text: &[u8]) -> Option<u64> {
    let number = text.strip_suffix(b"%")?;
    let (whole, decimals) = match memchr::memchr(b'.', number) {
        Some(dot) => (&number[..dot], &number[dot + 1..]),
        None => (number, &b""[..]),
    };
    if decimals.len() > 2 || whole.len() > 3 {
        return None;
    }
    let mut hundredths = value::number(whole)? * 100;
    if !decimals.is_empty() {
        hundredths += value::number(decimals)? * if decimals.len() == 1 { 10 } else { 1 };
    }
    (hundredths > 0).then_some(hundredths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_and_percents() {
        // Reference values of the published function with the length as seed.
        assert_eq!(murmur2(b""), 0);
        assert_ne!(murmur2(b"abcd"), murmur2(b"abce"));
        assert_eq!(
            (percent(b"0.5%"), percent(b"12.34%"), percent(b"100%")),
            (Some(50), Some(1234), Some(10_000))
        );
        assert_eq!(
            (percent(b"0%"), percent(b"1"), percent(b"1.234%"), percent(b"x%")),
            (None, None, None, None)
        );
    }
}
