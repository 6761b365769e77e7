//! `proxy_pass` and those `proxy_*` directives that add to a list; the scalars are rows of `conf::proxy`.

use std::sync::Arc;

use crate::conf::directive::{Arity, Cx, Row, simple};
use crate::conf::error::Fail;
use crate::conf::model::{Content, LocationKind};
use crate::conf::proxy::{CookieFlags, ProxyPass, ProxyTarget, Redirects, RewriteRule, Rule, scheme_of};
use crate::conf::tree::Node;
use crate::conf::url;
use crate::phase::Contexts;

use super::upstream::refer;

const LEVELS: Contexts = Contexts::HTTP.or(Contexts::SERVER).or(Contexts::LOCATION);

/// The rows.
pub const ROWS: &[Row] = &[
    simple(
        "proxy_pass",
        Contexts::LOCATION.or(Contexts::LOCATION_IF).or(Contexts::LIMIT_EXCEPT),
        Arity::Exactly(1),
        proxy_pass,
    ),
    simple("proxy_set_header", LEVELS, Arity::Exactly(2), set_header),
    simple("proxy_hide_header", LEVELS, Arity::Exactly(1), hide_header),
    simple("proxy_pass_header", LEVELS, Arity::Exactly(1), pass_header),
    simple("proxy_redirect", LEVELS, Arity::Between(1, 2), redirect),
    simple("proxy_cookie_domain", LEVELS, Arity::Between(1, 2), cookie_domain),
    simple("proxy_cookie_path", LEVELS, Arity::Between(1, 2), cookie_path),
    simple("proxy_cookie_flags", LEVELS, Arity::AtLeast(1), cookie_flags),
    simple("fastcgi_temp_path", LEVELS, Arity::Between(1, 4), unused_folder),
    simple("scgi_temp_path", LEVELS, Arity::Between(1, 4), unused_folder),
    simple("uwsgi_temp_path", LEVELS, Arity::Between(1, 4), unused_folder),
];

/// Folders of gateways that are refused themselves: packaged configurations name them, and nothing is ever
/// put there.
fn unused_folder(_: &mut Cx<'_>, _: &Node) -> Result<(), Fail> {
    Ok(())
}

fn proxy_pass(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if matches!(cx.scope.content, Some(Content::Proxy(_))) {
        return Err(Fail::duplicate());
    }
    let text = node.arg(0);
    let script = cx.script(text)?;
    // Expressions, names and nameless levels have no prefix that a path could take the place of.
    let has_prefix =
        matches!(cx.scope.kind, LocationKind::Prefix | LocationKind::PrefixNoRegex | LocationKind::Exact);
    let target = if script.as_literal().is_none() {
        ProxyTarget::Script(script)
    } else {
        let (rest, usual_port, ssl) =
            scheme_of(text).ok_or_else(|| Fail::Message("invalid URL prefix".to_owned()))?;
        let url = url::parse(rest, usual_port).map_err(|why| {
            Fail::Message(format!("{why} in upstream \"{}\"", String::from_utf8_lossy(rest)))
        })?;
        let upstream = refer(cx.all, &url, &node.place)?;
        if !url.uri.is_empty() && !has_prefix {
            return Err(Fail::Message(
                "\"proxy_pass\" cannot have URI part in location given by regular expression, or inside \
                 named location, or inside \"if\" statement, or inside \"limit_except\" block"
                    .to_owned(),
            ));
        }
        ProxyTarget::Fixed {
            upstream,
            host: url.host_header(usual_port).into_bytes().into(),
            port: url.port,
            ssl,
            uri: url.uri.into(),
        }
    };
    let location = if has_prefix { cx.scope.name.clone() } else { Box::default() };
    cx.scope.content = Some(Content::Proxy(Arc::new(ProxyPass { target, location, url: text.into() })));
    Ok(())
}

fn set_header(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let value = cx.script(node.arg(1))?;
    cx.scope.proxy_lists.set_headers.push((node.arg(0).into(), value));
    Ok(())
}

fn hide_header(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    cx.scope.proxy_lists.hide.push(node.arg(0).into());
    Ok(())
}

fn pass_header(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    cx.scope.proxy_lists.pass.push(node.arg(0).into());
    Ok(())
}

fn rule(cx: &mut Cx<'_>, text: &[u8], always_caseless: bool) -> Result<Rule, Fail> {
    match text {
        [b'~', b'*', rest @ ..] if !always_caseless => Ok(Rule::Pattern(cx.pattern(rest, true)?)),
        [b'~', rest @ ..] => Ok(Rule::Pattern(cx.pattern(rest, always_caseless)?)),
        _ => Ok(Rule::Text(cx.script(text)?)),
    }
}

fn redirect(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    if matches!(cx.scope.proxy_lists.redirects, Some(Redirects::Off)) {
        return Err(Fail::duplicate());
    }
    let entry = match (node.arg(0), node.args.len()) {
        (b"off", 1) => {
            if cx.scope.proxy_lists.redirects.is_some() {
                return Err(Fail::duplicate());
            }
            cx.scope.proxy_lists.redirects = Some(Redirects::Off);
            return Ok(());
        }
        (b"default", 1) => match &cx.scope.content {
            Some(Content::Proxy(pass)) if matches!(pass.target, ProxyTarget::Script(_)) => {
                return Err(Fail::Message(
                    "\"proxy_redirect default\" cannot be used with \"proxy_pass\" directive with variables"
                        .to_owned(),
                ));
            }
            Some(Content::Proxy(_)) => None,
            _ => {
                return Err(Fail::Message(
                    "\"proxy_redirect default\" should be placed after the \"proxy_pass\" directive"
                        .to_owned(),
                ));
            }
        },
        (_, 1) => return Err(Fail::parameter(node.arg(0))),
        (from, _) => Some(RewriteRule { rule: rule(cx, from, false)?, replacement: cx.script(node.arg(1))? }),
    };
    match &mut cx.scope.proxy_lists.redirects {
        Some(Redirects::Rules(rules)) => rules.push(entry),
        other => *other = Some(Redirects::Rules(vec![entry])),
    }
    Ok(())
}

/// Adds to a list of rules that `off` closes.
fn add<T>(list: &mut Option<Vec<T>>, entry: Option<T>) -> Result<(), Fail> {
    match (list, entry) {
        (Some(list), _) if list.is_empty() => Err(Fail::duplicate()),
        (Some(_), None) => Err(Fail::duplicate()),
        (Some(list), Some(entry)) => {
            list.push(entry);
            Ok(())
        }
        (list, entry) => {
            *list = Some(entry.into_iter().collect());
            Ok(())
        }
    }
}

fn cookie_rule(cx: &mut Cx<'_>, node: &Node, domain: bool) -> Result<Option<RewriteRule>, Fail> {
    if node.args.len() == 1 {
        return if node.arg(0) == b"off" { Ok(None) } else { Err(Fail::parameter(node.arg(0))) };
    }
    // A dot in front of a domain is not part of what is compared.
    let from = node.arg(0);
    let from = if domain { from.strip_prefix(b".").unwrap_or(from) } else { from };
    let to = node.arg(1);
    Ok(Some(RewriteRule { rule: rule(cx, from, domain)?, replacement: cx.script(to)? }))
}

fn cookie_domain(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let entry = cookie_rule(cx, node, true)?;
    add(&mut cx.scope.proxy_lists.cookie_domains, entry)
}

fn cookie_path(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let entry = cookie_rule(cx, node, false)?;
    add(&mut cx.scope.proxy_lists.cookie_paths, entry)
}

fn cookie_flags(cx: &mut Cx<'_>, node: &Node) -> Result<(), Fail> {
    let entry = if node.args.len() == 1 {
        if node.arg(0) != b"off" {
            return Err(Fail::parameter(node.arg(0)));
        }
        None
    } else {
        let rule = rule(cx, node.arg(0), true)?;
        let mut flags = Vec::new();
        for arg in &node.args[1..] {
            flags.push(cx.script(arg)?);
        }
        Some(CookieFlags { rule, flags })
    };
    add(&mut cx.scope.proxy_lists.cookie_flags, entry)
}
