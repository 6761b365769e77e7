//! `valid_referers`: from which pages requests may come.

use std::collections::HashMap;
use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::tree::Node;
use crate::phase::Contexts;
use crate::regex::{MatchData, Options, Regex};

/// The rows.
pub const ROWS: &[Row] =
    &[simple("valid_referers", Contexts::SERVER.or(Contexts::LOCATION), Arity::AtLeast(1), valid_referers)];

/// The pages that count as valid.
#[derive(Clone, Debug, Default)]
pub struct Referers {
    /// `none`: requests without the header.
    pub none: bool,
    /// `blocked`: headers without `http://` or `https://`.
    pub blocked: bool,
    /// `server_names`: pages of the server itself.
    pub server_names: bool,
    /// What the path must begin with, by host; empty is any path.
    exact: HashMap<Box<[u8]>, Box<[u8]>>,
    suffixes: Vec<(Box<[u8]>, Box<[u8]>)>,
    prefixes: Vec<(Box<[u8]>, Box<[u8]>)>,
    patterns: Vec<Arc<Regex>>,
}

impl Referers {
    /// Whether a page is among the names and expressions: `host` in lower case, `path` with its slash, `rest`
    /// everything behind the scheme.
    pub fn has(&self, host: &[u8], path: &[u8], rest: &[u8], data: &mut MatchData) -> bool {
        let longest = |list: &'_ [(Box<[u8]>, Box<[u8]>)], fits: &dyn Fn(&[u8]) -> bool| -> Option<usize> {
            (0..list.len()).filter(|n| fits(&list[*n].0)).max_by_key(|n| list[*n].0.len())
        };
        let suffix = longest(&self.suffixes, &|mask| host.len() > mask.len() && host.ends_with(mask));
        let prefix = longest(&self.prefixes, &|mask| host.len() > mask.len() && host.starts_with(mask));
        let wanted = match self.exact.get(host) {
            Some(path) => Some(path),
            None => suffix.map(|n| &self.suffixes[n].1).or(prefix.map(|n| &self.prefixes[n].1)),
        };
        match wanted {
            Some(wanted) => path.starts_with(wanted),
            None => self.patterns.iter().any(|p| p.find_at(rest, 0, data) == Ok(true)),
        }
    }
}

fn valid_referers(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut list = cx.scope.parts.referers.take().unwrap_or_default();
    let known = Arc::make_mut(&mut list);
    for arg in &node.args {
        match &**arg {
            b"none" => known.none = true,
            b"blocked" => known.blocked = true,
            b"server_names" => known.server_names = true,
            [b'~', regex @ ..] => {
                if regex.is_empty() {
                    let shown = String::from_utf8_lossy(arg);
                    return Err(Fail::Message(format!("empty regex in \"{shown}\"")));
                }
                let regex = Regex::new(regex, Options { caseless: true, ..Options::default() })
                    .map_err(|error| Fail::Message(error.describe(regex)))?;
                known.patterns.push(Arc::new(regex));
            }
            text => {
                let shown = String::from_utf8_lossy(text);
                if text.starts_with(b"http://") {
                    return Err(Fail::Message(format!("invalid server name or wildcard \"{shown}\"")));
                }
                let cut = memchr::memchr(b'/', text).unwrap_or(text.len());
                let (host, path) = (text[..cut].to_ascii_lowercase(), Box::from(&text[cut..]));
                if let Some(mask) = host.strip_prefix(b"*").filter(|m| m.starts_with(b".")) {
                    known.suffixes.push((mask.into(), path));
                } else if let Some(mask) = host.strip_suffix(b"*").filter(|m| m.ends_with(b".")) {
                    known.prefixes.push((mask.into(), path));
                } else if host.starts_with(b".") {
                    known.suffixes.push((host.as_slice().into(), path.clone()));
                    known.exact.insert(host[1..].into(), path);
                } else if host.contains(&b'*') || host.is_empty() {
                    return Err(Fail::Message(format!("invalid server name or wildcard \"{shown}\"")));
                } else {
                    known.exact.insert(host.into(), path);
                }
            }
        }
    }
    cx.scope.parts.referers = Some(list);
    Ok(())
}
