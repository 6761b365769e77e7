//! From a server's response headers to ours: what is hidden, what is rewritten, what has a meaning here.

use std::rc::Rc;

use super::head::ResponseHead;
use crate::conf::proxy::{CookieFlags, ProxyConf, ProxyPass, ProxyTarget, Redirects, RewriteRule, Rule};
use crate::flow::Verdict;
use crate::request::headers::{Headers, is_name};
use crate::request::vars::set_named;
use crate::request::{Request, with_match};

/// Headers that an `X-Accel-Redirect` takes along.
const KEPT_ON_REDIRECT: [&[u8]; 6] =
    [b"Content-Type", b"Set-Cookie", b"Content-Disposition", b"Cache-Control", b"Expires", b"Accept-Ranges"];

/// The internal redirect that the server asks for, if it does; the headers that go along are set.
pub fn accel_redirect(req: &Rc<Request>, conf: &ProxyConf, head: &ResponseHead) -> Option<Verdict> {
    if conf.proxy_ignore_headers.redirect {
        return None;
    }
    let to = head.headers.get(b"x-accel-redirect")?.to_vec();
    for (name, value) in head.headers.iter() {
        if !KEPT_ON_REDIRECT.iter().any(|kept| kept.eq_ignore_ascii_case(name)) {
            continue;
        }
        let cookie = if is_name(name, b"set-cookie") { rewrite_cookie(req, conf, value) } else { None };
        req.response.borrow_mut().add_header(name, cookie.as_deref().unwrap_or(value));
    }
    if to.first() == Some(&b'@') {
        return Some(Verdict::Named(to));
    }
    let Ok(target) = crate::request::uri::normalise(&to, false) else {
        let mut text = b"unsafe URI \"".to_vec();
        text.extend_from_slice(&to);
        text.extend_from_slice(b"\" was detected");
        req.log(crate::conf::model::Level::Error, &text);
        return Some(Verdict::Status(404));
    };
    if *req.method.borrow() != b"HEAD" {
        *req.method.borrow_mut() = b"GET".to_vec();
    }
    Some(Verdict::Internal { uri: target.uri, args: Some(target.args) })
}

/// Whether the response is read ahead of the client.
pub fn buffering(conf: &ProxyConf, head: &ResponseHead) -> bool {
    if conf.proxy_ignore_headers.buffering {
        return conf.proxy_buffering;
    }
    match head.headers.get(b"x-accel-buffering") {
        Some(v) if v.eq_ignore_ascii_case(b"no") => false,
        Some(v) if v.eq_ignore_ascii_case(b"yes") => true,
        _ => conf.proxy_buffering,
    }
}

/// Makes the server's status and headers those of the response.
pub fn copy(req: &Rc<Request>, conf: &ProxyConf, pass: &ProxyPass, head: &ResponseHead) {
    // Rules may read variables, of the response too: it is filled in afterwards.
    let mut out = Headers::with_capacity(256, head.headers.len());
    let mut content_type = None;
    let mut own_location = false;
    let scheme_rules = !matches!(conf.redirects, Redirects::Off);
    for (name, value) in head.headers.iter() {
        match name.len() {
            // These have their own meaning on each connection.
            10 if is_name(name, b"connection") || is_name(name, b"keep-alive") => {
                continue;
            }
            14 if is_name(name, b"content-length") => continue,
            17 if is_name(name, b"transfer-encoding") => continue,
            _ => {}
        }
        if conf.is_hidden(name) {
            continue;
        }
        match name.len() {
            12 if is_name(name, b"content-type") => {
                content_type = Some(value.to_vec());
                continue;
            }
            8 if scheme_rules && is_name(name, b"location") => {
                if let Some(to) = redirect(req, conf, pass, value, 0) {
                    // A rewritten path is made absolute like our own.
                    own_location = to.starts_with(b"/");
                    out.push(name, &to);
                    continue;
                }
            }
            7 if scheme_rules && is_name(name, b"refresh") => {
                let at = value.windows(4).position(|w| w.eq_ignore_ascii_case(b"url="));
                if let Some(to) = at.and_then(|at| redirect(req, conf, pass, value, at + 4)) {
                    out.push(name, &to);
                    continue;
                }
            }
            10 if conf.rewrites_cookies() && is_name(name, b"set-cookie") => {
                if let Some(cookie) = rewrite_cookie(req, conf, value) {
                    out.push(name, &cookie);
                    continue;
                }
            }
            _ => {}
        }
        out.push(name, value);
    }
    if !conf.proxy_ignore_headers.limit_rate
        && let Some(rate) = head.headers.get(b"x-accel-limit-rate").and_then(crate::conf::value::number)
    {
        req.limit_rate.set(Some(rate));
    }
    let mut res = req.response.borrow_mut();
    res.status = head.status;
    res.bare = head.bare;
    res.reason.clone_from(&head.reason);
    res.content_length = if head.chunked { None } else { head.content_length };
    res.content_type = content_type;
    res.own_location = own_location;
    if res.headers.is_empty() {
        res.headers = out;
    } else {
        for (name, value) in out.iter() {
            res.headers.push(name, value);
        }
    }
}

/// The rewritten form of a redirect's target, which begins at `from`.
fn redirect(
    req: &Rc<Request>,
    conf: &ProxyConf,
    pass: &ProxyPass,
    value: &[u8],
    from: usize,
) -> Option<Vec<u8>> {
    let Redirects::Rules(rules) = &conf.redirects else { return None };
    rules.iter().find_map(|rule| match rule {
        Some(rule) => apply(req, rule, value, from),
        None => {
            let ProxyTarget::Fixed { uri, .. } = &pass.target else { return None };
            let (mut prefix, replacement): (Vec<u8>, &[u8]) = if uri.is_empty() {
                ([&pass.url[..], b"/"].concat(), b"/")
            } else {
                (pass.url.to_vec(), &pass.location)
            };
            let rest = value[from..].strip_prefix(&prefix[..])?;
            prefix.clear();
            prefix.extend_from_slice(&value[..from]);
            prefix.extend_from_slice(replacement);
            prefix.extend_from_slice(rest);
            Some(prefix)
        }
    })
}

/// Applies a rule to what stands from `from` on: a text is a prefix there, an expression replaces all of it.
fn apply(req: &Rc<Request>, rule: &RewriteRule, value: &[u8], from: usize) -> Option<Vec<u8>> {
    let subject = &value[from..];
    let mut out = value[..from].to_vec();
    match &rule.rule {
        Rule::Text(script) => {
            let prefix = req.eval(script);
            let rest = subject.strip_prefix(&prefix[..])?;
            out.extend_from_slice(&req.eval(&rule.replacement));
            out.extend_from_slice(rest);
        }
        Rule::Pattern(pattern) => {
            matches(req, pattern, subject).then_some(())?;
            out.extend_from_slice(&req.eval(&rule.replacement));
        }
    }
    Some(out)
}

fn matches(req: &Rc<Request>, pattern: &crate::conf::variables::Pattern, subject: &[u8]) -> bool {
    with_match(|data| {
        let hit = pattern.regex.find_at(subject, 0, data) == Ok(true);
        if hit {
            req.keep_captures(subject, data);
            set_named(req, pattern, subject, data);
        }
        hit
    })
}

/// The rewritten form of a cookie, when a rule applies.
fn rewrite_cookie(req: &Rc<Request>, conf: &ProxyConf, value: &[u8]) -> Option<Vec<u8>> {
    type Attribute = (Vec<u8>, Option<Vec<u8>>);
    let mut attributes: Vec<Attribute> = value
        .split(|b| *b == b';')
        .map(|part| {
            let part = part.trim_ascii();
            match memchr::memchr(b'=', part) {
                Some(at) => (part[..at].to_vec(), Some(part[at + 1..].to_vec())),
                None => (part.to_vec(), None),
            }
        })
        .collect();
    attributes.first()?.1.as_ref()?;
    let mut changed = false;
    for (name, value) in attributes.iter_mut().skip(1) {
        let Some(value) = value else { continue };
        let new = if is_name(name, b"domain") {
            conf.cookie_domains.iter().find_map(|rule| rewrite_domain(req, rule, value))
        } else if is_name(name, b"path") {
            conf.cookie_paths.iter().find_map(|rule| apply(req, rule, value, 0))
        } else {
            None
        };
        if let Some(new) = new {
            *value = new;
            changed = true;
        }
    }
    if let Some(flags) = conf.cookie_flags.iter().find(|f| is_for(req, f, &attributes[0].0)) {
        changed |= set_flags(req, flags, &mut attributes);
    }
    if !changed {
        return None;
    }
    let mut out = Vec::with_capacity(value.len() + 16);
    for (at, (name, value)) in attributes.iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(b"; ");
        }
        out.extend_from_slice(name);
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value);
        }
    }
    Some(out)
}

/// A domain is compared whole, without regard to case and to a dot in front.
fn rewrite_domain(req: &Rc<Request>, rule: &RewriteRule, value: &[u8]) -> Option<Vec<u8>> {
    let Rule::Text(script) = &rule.rule else { return apply(req, rule, value, 0) };
    let bare = value.strip_prefix(b".").unwrap_or(value);
    if !req.eval(script).eq_ignore_ascii_case(bare) {
        return None;
    }
    let mut out = value[..value.len() - bare.len()].to_vec();
    out.extend_from_slice(&req.eval(&rule.replacement));
    Some(out)
}

fn is_for(req: &Rc<Request>, flags: &CookieFlags, cookie: &[u8]) -> bool {
    match &flags.rule {
        Rule::Text(script) => req.eval(script).eq_ignore_ascii_case(cookie),
        Rule::Pattern(pattern) => matches(req, pattern, cookie),
    }
}

fn set_flags(
    req: &Rc<Request>,
    flags: &CookieFlags,
    attributes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>,
) -> bool {
    let mut wanted: Vec<Vec<u8>> = Vec::new();
    for script in &flags.flags {
        let word = req.eval(script).to_ascii_lowercase();
        let known = [
            &b"secure"[..],
            b"nosecure",
            b"httponly",
            b"nohttponly",
            b"samesite=strict",
            b"samesite=lax",
            b"samesite=none",
            b"nosamesite",
        ];
        if known.contains(&&word[..]) {
            wanted.push(word);
        }
    }
    if wanted.is_empty() {
        return false;
    }
    let asks = |word: &[u8]| wanted.iter().any(|w| w == word);
    let set = |attributes: &mut Vec<(Vec<u8>, Option<Vec<u8>>)>, on: bool, off: bool, name: &str| {
        let at = attributes.iter().skip(1).position(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        match at {
            Some(at) if off => {
                attributes.remove(at + 1);
            }
            None if on && !off => attributes.push((name.as_bytes().to_vec(), None)),
            _ => {}
        }
    };
    set(attributes, asks(b"secure"), asks(b"nosecure"), "Secure");
    set(attributes, asks(b"httponly"), asks(b"nohttponly"), "HttpOnly");
    let same_site =
        [("Strict", &b"samesite=strict"[..]), ("Lax", b"samesite=lax"), ("None", b"samesite=none")]
            .into_iter()
            .find(|(_, word)| asks(word));
    if let Some((value, _)) = same_site {
        attributes.retain(|(n, _)| !n.eq_ignore_ascii_case(b"samesite"));
        attributes.push((b"SameSite".to_vec(), Some(value.as_bytes().to_vec())));
    } else if asks(b"nosamesite") {
        attributes.retain(|(n, _)| !n.eq_ignore_ascii_case(b"samesite"));
    }
    true
}
