//! `more_set_headers`, `more_clear_headers` and their forms for request headers.

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::tree::Node;
use crate::conf::variables::Script;
use crate::phase::Contexts;

const LEVELS_IF: Contexts =
    Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION).or(Contexts::LOCATION_IF);

/// One line of the family.
#[derive(Clone, Debug)]
pub struct HeaderCommand {
    /// It is about request headers.
    pub input: bool,
    /// `-t`: only for these content types; empty is any.
    pub types: Vec<Box<[u8]>>,
    /// `-s`: only for these statuses; empty is any.
    pub statuses: Vec<u16>,
    /// The headers to set, or to clear when the value is empty.
    pub headers: Vec<HeaderChange>,
    /// `-a`: the header is added beside those of its name.
    pub append: bool,
    /// `-r`: only a header that is there is changed.
    pub replace: bool,
}

/// What becomes of one header.
#[derive(Clone, Debug)]
pub struct HeaderChange {
    /// Its name, without the `*` of a wildcard.
    pub name: Box<[u8]>,
    /// Every header that begins with the name.
    pub wildcard: bool,
    /// The value; one that is empty clears.
    pub value: Script,
}

/// The rows.
pub const ROWS: &[Row] = &[
    simple("more_set_headers", LEVELS_IF, Arity::AtLeast(1), |cx, node| add(cx, node, false, false)),
    simple("more_clear_headers", LEVELS_IF, Arity::AtLeast(1), |cx, node| add(cx, node, false, true)),
    simple("more_set_input_headers", LEVELS_IF, Arity::AtLeast(1), |cx, node| add(cx, node, true, false)),
    simple("more_clear_input_headers", LEVELS_IF, Arity::AtLeast(1), |cx, node| add(cx, node, true, true)),
];

fn add(cx: &mut Cx<'_>, node: &Node, input: bool, clear: bool) -> Result<(), Fail> {
    let name = node.name();
    let mut command = HeaderCommand {
        input,
        types: Vec::new(),
        statuses: Vec::new(),
        headers: Vec::new(),
        append: false,
        replace: false,
    };
    let mut at = 0;
    while let Some(arg) = node.args.get(at) {
        at += 1;
        let takes_argument = |letter: char| {
            node.args
                .get(at)
                .ok_or_else(|| Fail::Message(format!("{name}: option -{letter} takes an argument.")))
        };
        match &**arg {
            [] => {}
            b"-t" => {
                let list = takes_argument('t')?;
                let types = list.split(|b| b.is_ascii_whitespace() || *b == b';').filter(|t| !t.is_empty());
                command.types.extend(types.map(Box::from));
                at += 1;
            }
            b"-s" if !input => {
                let list = takes_argument('s')?;
                for word in list.split(u8::is_ascii_whitespace).filter(|w| !w.is_empty()) {
                    if let Some(bad) = word.iter().find(|b| !b.is_ascii_digit()) {
                        return Err(Fail::Message(format!(
                            "{name}: invalid digit \"{}\" found in the status code list \"{}\"",
                            *bad as char,
                            String::from_utf8_lossy(list)
                        )));
                    }
                    let status = std::str::from_utf8(word).expect("digits are ASCII").parse();
                    // A number that is no status matches none.
                    command.statuses.push(status.unwrap_or(u16::MAX));
                }
                at += 1;
            }
            b"-a" if !input && !clear => command.append = true,
            b"-r" if input => command.replace = true,
            [b'-', ..] => {
                let shown = String::from_utf8_lossy(arg);
                return Err(Fail::Message(format!("{name}: invalid option name: \"{shown}\"")));
            }
            header => {
                let change = change(cx, &name, header, clear)?;
                command.headers.push(change);
            }
        }
    }
    if command.append {
        const SINGLE: &[&[u8]] = &[
            b"server",
            b"date",
            b"content-encoding",
            b"location",
            b"refresh",
            b"last-modified",
            b"content-range",
            b"accept-ranges",
            b"www-authenticate",
            b"expires",
            b"e-tag",
            b"content-length",
            b"content-type",
            b"cache-control",
        ];
        if let Some(h) =
            command.headers.iter().find(|h| SINGLE.iter().any(|s| h.name.eq_ignore_ascii_case(s)))
        {
            let shown = String::from_utf8_lossy(&h.name);
            return Err(Fail::Message(format!("{name}: can not append builtin headers \"{shown}\"")));
        }
    }
    cx.scope.parts.more_headers.push(command);
    Ok(())
}

/// `Name: value`, `Name`, `Na*`.
fn change(cx: &mut Cx<'_>, directive: &str, header: &[u8], clear: bool) -> Result<HeaderChange, Fail> {
    let text = header.trim_ascii_start();
    let key_len = text.iter().position(|b| *b == b':' || b.is_ascii_whitespace()).unwrap_or(text.len());
    let (key, rest) = (&text[..key_len.max(1).min(text.len())], &text[key_len..]);
    let shown = || String::from_utf8_lossy(header).into_owned();
    if key.is_empty() {
        return Err(Fail::Message(format!("{directive}: no key found in the header argument: {}", shown())));
    }
    let wildcard = key.ends_with(b"*");
    if wildcard && key.len() < 2 {
        return Err(Fail::Message(format!("{directive}: wildcard key too short: {}", shown())));
    }
    let skip = rest.iter().position(|b| *b != b':' && !b.is_ascii_whitespace()).unwrap_or(rest.len());
    let value = if clear { Script::default() } else { cx.script(&rest[skip..])? };
    let name = if wildcard { &key[..key.len() - 1] } else { key };
    Ok(HeaderChange { name: name.into(), wildcard, value })
}
