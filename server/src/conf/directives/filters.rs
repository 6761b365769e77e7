//! Lists of the response modules: `expires`, `add_trailer`, `sub_filter`, `*_types`, `gzip_*`, `charset`.

use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::{AddHeader, Level as LogLevel};
use crate::conf::tree::Node;
use crate::conf::value;
use crate::conf::variables::Script;
use crate::phase::Contexts;
use crate::regex::{Options, Regex};

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);
const LEVELS_IF: Contexts = LEVELS.or(Contexts::LOCATION_IF);

/// Content types that a filter is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeSet {
    /// Every type.
    All,
    /// These, in lower case.
    Some(Vec<Box<[u8]>>),
}

impl TypeSet {
    /// Whether a content type (without parameters) is among them.
    pub fn has(&self, media_type: &[u8]) -> bool {
        match self {
            TypeSet::All => true,
            TypeSet::Some(list) => list.iter().any(|t| t.eq_ignore_ascii_case(media_type)),
        }
    }
}

/// When a response goes stale.
#[derive(Clone, Debug)]
pub struct Expires {
    /// The time, `epoch`, `max`, `off` or `@TIME`; with variables perhaps.
    pub value: Script,
    /// Counted from the file's own time.
    pub modified: bool,
}

/// What an `expires` value means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// Nothing is said.
    Off,
    /// Long ago.
    Epoch,
    /// In 2037.
    Max,
    /// After so many seconds.
    After(i64),
    /// At this second of the day.
    Daily(i64),
}

impl Expiry {
    /// Reads a value. `None` when it is none.
    pub fn of(text: &[u8], modified: bool) -> Option<Expiry> {
        let plain = match text {
            b"off" => Expiry::Off,
            b"epoch" => Expiry::Epoch,
            b"max" => Expiry::Max,
            [b'@', time @ ..] => {
                let seconds = i64::try_from(value::time_s(time)?).ok()?;
                if modified || seconds > 24 * 60 * 60 {
                    return None;
                }
                return Some(Expiry::Daily(seconds));
            }
            [b'-', time @ ..] => return Some(Expiry::After(-i64::try_from(value::time_s(time)?).ok()?)),
            [b'+', time @ ..] => return Some(Expiry::After(i64::try_from(value::time_s(time)?).ok()?)),
            time => return Some(Expiry::After(i64::try_from(value::time_s(time)?).ok()?)),
        };
        (!modified).then_some(plain)
    }
}

/// A `sub_filter` line.
#[derive(Clone, Debug)]
pub struct SubFilter {
    /// What is looked for, whatever its case.
    pub pattern: Script,
    /// What takes its place.
    pub replacement: Script,
}

/// When responses to proxies are compressed: `gzip_proxied`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxied(pub u16);

/// The words of `gzip_proxied`, each a bit; `off` is none of them.
const PROXIED: &[(&str, u16)] = &[
    ("off", 0),
    ("expired", 1),
    ("no-cache", 2),
    ("no-store", 4),
    ("private", 8),
    ("no_last_modified", 16),
    ("no_etag", 32),
    ("auth", 64),
    ("any", 128),
];

impl Proxied {
    /// Whether the word was given.
    pub fn has(self, word: &str) -> bool {
        PROXIED.iter().any(|(known, bit)| *known == word && self.0 & bit != 0)
    }
}

/// The rows.
pub const ROWS: &[Row] = &[
    simple("expires", LEVELS_IF, Arity::Between(1, 2), expires),
    simple("add_trailer", LEVELS_IF, Arity::Between(2, 3), add_trailer),
    simple("sub_filter", LEVELS, Arity::Exactly(2), sub_filter),
    simple("gzip_types", LEVELS, Arity::AtLeast(1), |cx, node| types(cx, node, |p| &mut p.gzip_types, HTML)),
    simple("sub_filter_types", LEVELS, Arity::AtLeast(1), |cx, node| {
        types(cx, node, |p| &mut p.sub_types, HTML)
    }),
    simple("charset_types", LEVELS, Arity::AtLeast(1), |cx, node| {
        types(cx, node, |p| &mut p.charset_types, HTML)
    }),
    simple("gzip_disable", LEVELS, Arity::AtLeast(1), gzip_disable),
    simple("gzip_proxied", LEVELS, Arity::AtLeast(1), gzip_proxied),
];

const HTML: &[&[u8]] = &[b"text/html"];

/// What `charset_types` is when it is not given.
pub const CHARSET_TYPES: &[&[u8]] = &[
    b"text/html",
    b"text/xml",
    b"text/plain",
    b"text/vnd.wap.wml",
    b"application/javascript",
    b"application/rss+xml",
];

fn types(
    cx: &mut Cx<'_>,
    node: &Node,
    field: fn(&mut crate::conf::parts::Parts) -> &mut Option<TypeSet>,
    always: &[&[u8]],
) -> Result<(), Fail> {
    let fresh = || TypeSet::Some(always.iter().map(|t| Box::from(*t)).collect());
    let mut set = field(&mut cx.scope.parts).take().unwrap_or_else(fresh);
    for arg in &node.args {
        if **arg == *b"*" {
            set = TypeSet::All;
        } else if let TypeSet::Some(list) = &mut set {
            let lower: Box<[u8]> = arg.to_ascii_lowercase().into();
            if list.contains(&lower) {
                let shown = String::from_utf8_lossy(arg).into_owned();
                cx.warn(LogLevel::Warn, node, &format!("duplicate MIME type \"{shown}\""));
                continue;
            }
            list.push(lower);
        }
    }
    *field(&mut cx.scope.parts) = Some(set);
    Ok(())
}

fn expires(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.scope.parts.expires.is_some() {
        return Err(Fail::duplicate());
    }
    let modified = node.args.len() == 2;
    if modified && node.arg(0) != b"modified" {
        return Err(Fail::invalid_value());
    }
    let text = node.arg(node.args.len() - 1);
    let value = cx.script(text)?;
    if modified && text.starts_with(b"@") {
        let words = "daily time cannot be used with \"modified\" parameter";
        return Err(Fail::Directive(words.to_owned()));
    }
    if value.as_literal().is_some() && Expiry::of(text, modified).is_none() {
        return Err(Fail::invalid_value());
    }
    cx.scope.parts.expires = Some(Expires { value, modified });
    Ok(())
}

fn add_trailer(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let always = match node.args.get(2) {
        None => false,
        Some(word) if **word == *b"always" => true,
        Some(word) => return Err(Fail::parameter(word)),
    };
    let value = cx.script(node.arg(1))?;
    cx.scope.parts.add_trailers.push(AddHeader { name: node.arg(0).into(), value, always });
    Ok(())
}

fn sub_filter(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if node.arg(0).is_empty() {
        return Err(Fail::Message("empty search pattern".to_owned()));
    }
    let pattern = cx.script(node.arg(0))?;
    let replacement = cx.script(node.arg(1))?;
    cx.scope.parts.sub_filters.push(SubFilter { pattern, replacement });
    Ok(())
}

fn gzip_disable(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let mut list: Vec<Arc<Regex>> = cx.scope.parts.gzip_disable.take().unwrap_or_default();
    for arg in &node.args {
        let text: &[u8] = match &**arg {
            b"msie6" => br"MSIE [4-6]\.(?!.*SV1)",
            b"degradation" => {
                return Err(Fail::Message("the \"degradation\" parameter is not supported".to_owned()));
            }
            text => text,
        };
        let regex = Regex::new(text, Options { caseless: true, ..Options::default() })
            .map_err(|error| Fail::Message(error.describe(text)))?;
        list.push(Arc::new(regex));
    }
    cx.scope.parts.gzip_disable = Some(list);
    Ok(())
}

fn gzip_proxied(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if cx.scope.parts.gzip_proxied.is_some() {
        return Err(Fail::duplicate());
    }
    let mut bits = 0;
    for arg in &node.args {
        let word = String::from_utf8_lossy(arg);
        match PROXIED.iter().find(|(known, _)| *known == word) {
            Some((_, bit)) => bits |= bit,
            None => return Err(Fail::Message(format!("invalid value \"{word}\""))),
        }
    }
    cx.scope.parts.gzip_proxied = Some(Proxied(bits));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expiry_values() {
        for (text, modified, want) in [
            ("off", false, Some(Expiry::Off)),
            ("1h", false, Some(Expiry::After(3600))),
            ("-1", false, Some(Expiry::After(-1))),
            ("@15h30m", false, Some(Expiry::Daily(55_800))),
            ("@25h", false, None),
            ("@1h", true, None),
            ("epoch", true, None),
            ("2d", true, Some(Expiry::After(172_800))),
            ("x", false, None),
        ] {
            assert_eq!(Expiry::of(text.as_bytes(), modified), want, "{text}");
        }
    }
}
