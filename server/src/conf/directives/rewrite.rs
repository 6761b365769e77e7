//! `set`, `if`, `rewrite`, `return`, `break`; `map`.

use std::collections::HashMap;

use crate::conf::directive::{Arity, Cx, Row, block, simple, walk};
use crate::conf::error::{ConfError, Fail};
use crate::conf::level::{Level, Step};
use crate::conf::model::{Condition, FileTest, LocationKind, Map, Return, Rewrite, RewriteFlag, RewriteOp};
use crate::conf::tree::{Body, Item, Node};
use crate::conf::value;
use crate::conf::variables::{Script, VarKind};
use crate::phase::Contexts;

const REWRITE: Contexts =
    Contexts::SERVER.or(Contexts::SERVER_IF).or(Contexts::LOCATION).or(Contexts::LOCATION_IF);

/// The rows.
pub const ROWS: &[Row] = &[
    simple("set", REWRITE, Arity::Exactly(2), set),
    block("if", Contexts::SERVER.or(Contexts::LOCATION), Arity::AtLeast(1), if_block),
    simple("rewrite", REWRITE, Arity::Between(2, 3), rewrite),
    simple("return", REWRITE, Arity::Between(1, 2), return_now),
    simple("break", REWRITE, Arity::Exactly(0), break_now),
    block("map", Contexts::HTTP, Arity::Exactly(2), map),
];

fn push(cx: &mut Cx<'_>, op: RewriteOp) {
    cx.scope.rewrite.push(Step::Op(op));
}

fn set(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let var = cx.declare(node.arg(0), VarKind::User)?;
    let value = cx.script(node.arg(1))?;
    push(cx, RewriteOp::Set { var, value });
    Ok(())
}

fn if_block(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let context =
        if cx.scope.context == Contexts::SERVER { Contexts::SERVER_IF } else { Contexts::LOCATION_IF };
    let condition = condition(cx, node)?;
    let mut level = Level::new(context, LocationKind::If);
    level.name = cx.scope.name.clone();
    walk(cx.all, &mut level, node.items())?;
    cx.scope.rewrite.push(Step::If(condition, Box::new(level)));
    Ok(())
}

fn condition(cx: &mut Cx<'_>, node: &Node) -> Result<Condition, Fail> {
    let invalid =
        |word: &[u8]| Fail::Message(format!("invalid condition \"{}\"", String::from_utf8_lossy(word)));
    let mut words: Vec<&[u8]> = node.args.iter().map(|word| &**word).collect();
    let Some(first) = words[0].strip_prefix(b"(") else { return Err(invalid(words[0])) };
    if first.is_empty() {
        words.remove(0);
    } else {
        words[0] = first;
    }
    let Some(last) = words.pop() else { return Err(invalid(b"(")) };
    let Some(rest) = last.strip_suffix(b")") else { return Err(invalid(last)) };
    // A word that is the bracket alone is no part of the condition, but is shown when there is no other.
    if !rest.is_empty() {
        words.push(rest);
    }
    let shown = words.first().copied().unwrap_or(last);
    match words.as_slice() {
        [name] if name.first() == Some(&b'$') && name.len() > 1 => Ok(Condition::True(cx.variable(name)?)),
        [name, op, text] if name.first() == Some(&b'$') && name.len() > 1 => {
            let var = cx.variable(name)?;
            let negate = op.first() == Some(&b'!');
            match *op {
                b"=" | b"!=" => Ok(Condition::Equal { var, text: cx.script(text)?, negate }),
                b"~" | b"!~" => Ok(Condition::Match { var, pattern: cx.pattern(text, false)?, negate }),
                b"~*" | b"!~*" => Ok(Condition::Match { var, pattern: cx.pattern(text, true)?, negate }),
                other => {
                    let other = String::from_utf8_lossy(other);
                    Err(Fail::Message(format!("unexpected \"{other}\" in condition")))
                }
            }
        }
        [test, path] if matches!(test.first(), Some(b'-' | b'!')) => {
            let negate = test.first() == Some(&b'!');
            let test = match test.strip_prefix(b"!").unwrap_or(test) {
                b"-f" => FileTest::File,
                b"-d" => FileTest::Directory,
                b"-e" => FileTest::Exists,
                b"-x" => FileTest::Executable,
                _ => return Err(invalid(shown)),
            };
            Ok(Condition::File { test, path: cx.script(path)?, negate })
        }
        _ => Err(invalid(shown)),
    }
}

fn rewrite(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let pattern = cx.pattern(node.arg(0), false)?;
    let mut replacement = node.arg(1);
    let mut flag = RewriteFlag::None;
    if [&b"http://"[..], b"https://", b"$scheme"].iter().any(|scheme| replacement.starts_with(scheme)) {
        flag = RewriteFlag::Redirect(302);
    }
    if let Some(word) = node.args.get(2) {
        flag = match &**word {
            b"last" => RewriteFlag::Last,
            b"break" => RewriteFlag::Break,
            b"redirect" => RewriteFlag::Redirect(302),
            b"permanent" => RewriteFlag::Redirect(301),
            _ => return Err(Fail::parameter(word)),
        };
    }
    let keep_args = match replacement.strip_suffix(b"?") {
        Some(rest) => {
            replacement = rest;
            false
        }
        None => true,
    };
    let (uri, args) = match replacement.iter().position(|byte| *byte == b'?') {
        Some(at) => (&replacement[..at], Some(&replacement[at + 1..])),
        None => (replacement, None),
    };
    let uri = cx.script(uri)?;
    let args = args.map(|args| cx.script(args)).transpose()?;
    push(cx, RewriteOp::Rewrite(Rewrite { pattern, uri, args, keep_args, flag }));
    Ok(())
}

fn return_now(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let first = node.arg(0);
    let status = value::number(first).filter(|code| *code <= 999).and_then(|code| u16::try_from(code).ok());
    let (status, text) = match status {
        Some(status) => (status, node.args.get(1).map(|text| cx.script(text)).transpose()?),
        None if node.args.len() == 1
            && [&b"http://"[..], b"https://", b"$scheme"].iter().any(|scheme| first.starts_with(scheme)) =>
        {
            (302, Some(cx.script(first)?))
        }
        None => return Err(Fail::Message(format!("invalid return code \"{}\"", node.text(0)))),
    };
    push(cx, RewriteOp::Return(Return { status, text }));
    Ok(())
}

fn break_now(cx: &mut Cx<'_>, _: &Node) -> Result<(), Fail> {
    push(cx, RewriteOp::Break);
    Ok(())
}

fn map(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let source = cx.script(node.arg(0))?;
    cx.declare(node.arg(1), VarKind::Map(cx.all.maps.len()))?;
    let mut map = Map {
        source,
        hostnames: false,
        volatile: false,
        exact: HashMap::new(),
        suffixes: Vec::new(),
        prefixes: Vec::new(),
        patterns: Vec::new(),
        default: Script::default(),
    };
    let mut has_default = false;
    for item in node.items() {
        let entry = match item {
            Item::Error(error) => return Err(error.clone().into()),
            Item::Node(entry) => entry,
        };
        map_entry(cx, &mut map, &mut has_default, entry).map_err(|fail| match fail {
            Fail::Message(message) => Fail::from(ConfError::at(&entry.place, message)),
            other => other,
        })?;
    }
    map.suffixes.sort_by_key(|(mask, _)| std::cmp::Reverse(mask.len()));
    map.prefixes.sort_by_key(|(mask, _)| std::cmp::Reverse(mask.len()));
    cx.all.maps.push(map);
    Ok(())
}

fn map_entry(cx: &mut Cx<'_>, map: &mut Map, has_default: &mut bool, entry: &Node) -> Result<(), Fail> {
    if !matches!(entry.body, Body::None) {
        return Err(Fail::Message("unexpected \"{\"".to_owned()));
    }
    match (&*entry.word, entry.args.len()) {
        (b"hostnames", 0) => {
            map.hostnames = true;
            return Ok(());
        }
        (b"volatile", 0) => {
            map.volatile = true;
            return Ok(());
        }
        (_, 1) => {}
        _ => return Err(Fail::Message("invalid number of the map parameters".to_owned())),
    }
    let value = cx.script(entry.arg(0))?;
    let conflict =
        |key: &[u8]| Fail::Message(format!("conflicting parameter \"{}\"", String::from_utf8_lossy(key)));
    let key = match &*entry.word {
        b"default" => {
            if std::mem::replace(has_default, true) {
                return Err(Fail::Message("duplicate default map parameter".to_owned()));
            }
            map.default = value;
            return Ok(());
        }
        [b'~', b'*', regex @ ..] => {
            map.patterns.push((cx.pattern(regex, true)?, value));
            return Ok(());
        }
        [b'~', regex @ ..] => {
            map.patterns.push((cx.pattern(regex, false)?, value));
            return Ok(());
        }
        [b'\\', key @ ..] => key,
        key => key,
    };
    let lower: Box<[u8]> = key.to_ascii_lowercase().into();
    if map.hostnames {
        if let Some(suffix) = lower.strip_prefix(b"*") {
            return add_mask(&mut map.suffixes, suffix, value).then_some(()).ok_or_else(|| conflict(key));
        }
        if let Some(prefix) = lower.strip_suffix(b"*") {
            return add_mask(&mut map.prefixes, prefix, value).then_some(()).ok_or_else(|| conflict(key));
        }
        if lower.first() == Some(&b'.') {
            let plain: Box<[u8]> = lower[1..].into();
            let free = map.exact.insert(plain, value.clone()).is_none();
            let free = add_mask(&mut map.suffixes, &lower, value) && free;
            return free.then_some(()).ok_or_else(|| conflict(key));
        }
    }
    if map.exact.insert(lower, value).is_some() {
        return Err(conflict(key));
    }
    Ok(())
}

fn add_mask(masks: &mut Vec<(Box<[u8]>, Script)>, mask: &[u8], value: Script) -> bool {
    if masks.iter().any(|(known, _)| **known == *mask) {
        return false;
    }
    masks.push((mask.into(), value));
    true
}
