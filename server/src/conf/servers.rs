//! Which server a host name means: exact names, then masks, then expressions.

use super::hash::NameMap;
use super::variables::Pattern;
use crate::regex::MatchData;

/// The names of one listen address. Values are indices into `HttpConf::servers`.
#[derive(Debug, Default)]
pub struct ServerNames {
    exact: NameMap<usize>,
    /// `*.x` kept as `.x`, longest first.
    suffixes: Vec<(Box<[u8]>, usize)>,
    /// `x.*` kept as `x.`, longest first.
    prefixes: Vec<(Box<[u8]>, usize)>,
    patterns: Vec<(Pattern, usize)>,
}

/// A `server_name` argument.
#[derive(Clone, Debug)]
pub enum ServerName {
    /// A name in lower case; may be empty.
    Exact(Box<[u8]>),
    /// `*.x`, kept as `.x`.
    Suffix(Box<[u8]>),
    /// `.x`: `x` and `*.x`; kept as `.x`.
    Domain(Box<[u8]>),
    /// `x.*`, kept as `x.`.
    Prefix(Box<[u8]>),
    /// `~regex`.
    Pattern(Pattern),
    /// A `*` in the wrong place; refused when the addresses are known.
    Invalid(Box<[u8]>),
}

impl ServerNames {
    /// Adds a name. False when the name was taken.
    pub fn add(&mut self, name: &ServerName, server: usize) -> bool {
        match name {
            ServerName::Exact(name) => add_exact(&mut self.exact, name, server),
            ServerName::Suffix(suffix) => add_mask(&mut self.suffixes, suffix, server),
            ServerName::Domain(suffix) => {
                let mask = add_mask(&mut self.suffixes, suffix, server);
                add_exact(&mut self.exact, &suffix[1..], server) && mask
            }
            ServerName::Prefix(prefix) => add_mask(&mut self.prefixes, prefix, server),
            ServerName::Pattern(pattern) => {
                self.patterns.push((pattern.clone(), server));
                true
            }
            ServerName::Invalid(_) => false,
        }
    }

    /// The server of a host name in lower case, without port and trailing dot.
    pub fn find(&self, host: &[u8], data: &mut MatchData) -> Option<usize> {
        if let Some(server) = self.exact.get(host) {
            return Some(*server);
        }
        let suffix = self.suffixes.iter().find(|(mask, _)| host.len() > mask.len() && host.ends_with(mask));
        if let Some((_, server)) = suffix {
            return Some(*server);
        }
        let prefix = self.prefixes.iter().find(|(mask, _)| host.len() > mask.len() && host.starts_with(mask));
        if let Some((_, server)) = prefix {
            return Some(*server);
        }
        if host.is_empty() {
            return None;
        }
        self.patterns
            .iter()
            .find(|(pattern, _)| pattern.regex.find_at(host, 0, data) == Ok(true))
            .map(|(_, server)| *server)
    }

    /// The expression by which a server is found, for its named groups: matches anew. `None` where a name or
    /// mask comes first.
    pub fn pattern_of(&self, host: &[u8], data: &mut MatchData) -> Option<&Pattern> {
        let masked = self.exact.contains_key(host)
            || self.suffixes.iter().any(|(mask, _)| host.len() > mask.len() && host.ends_with(mask))
            || self.prefixes.iter().any(|(mask, _)| host.len() > mask.len() && host.starts_with(mask));
        if masked || host.is_empty() {
            return None;
        }
        self.patterns
            .iter()
            .find(|(pattern, _)| pattern.regex.find_at(host, 0, data) == Ok(true))
            .map(|(pattern, _)| pattern)
    }

    /// Whether any name is an expression.
    pub fn has_patterns(&self) -> bool {
        !self.patterns.is_empty()
    }
}

fn add_exact(names: &mut NameMap<usize>, name: &[u8], server: usize) -> bool {
    if let Some(known) = names.get(name) {
        // A server may name itself twice.
        return *known == server;
    }
    names.insert(name.into(), server);
    true
}

fn add_mask(masks: &mut Vec<(Box<[u8]>, usize)>, mask: &[u8], server: usize) -> bool {
    if let Some((_, known)) = masks.iter().find(|(known, _)| **known == *mask) {
        return *known == server;
    }
    let at = masks.partition_point(|(known, _)| known.len() >= mask.len());
    masks.insert(at, (mask.into(), server));
    true
}
