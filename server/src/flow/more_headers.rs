//! `more_set_headers` and its kin, on responses and on requests.

use crate::conf::directives::more_headers::{HeaderChange, HeaderCommand};
use crate::http1::clock;
use crate::request::Request;
use crate::request::headers::Headers;
use crate::request::response::Response;

/// Changes the response's headers.
pub fn change_output(req: &Request) {
    if req.location().parts.more_headers.is_empty() {
        return;
    }
    let level = req.level.borrow().clone();
    for command in level.parts.more_headers.iter().filter(|c| !c.input) {
        if !applies(&req.response.borrow(), command) {
            continue;
        }
        for change in &command.headers {
            let value = req.eval(&change.value);
            set_output(&mut req.response.borrow_mut(), change, &value, command.append);
        }
    }
}

fn applies(res: &Response, command: &HeaderCommand) -> bool {
    if !command.statuses.is_empty() && !command.statuses.contains(&res.status) {
        return false;
    }
    let plain = media_type(res.content_type.as_deref().unwrap_or_default());
    command.types.is_empty() || command.types.iter().any(|t| **t == *plain)
}

/// A content type without its parameters.
pub fn media_type(value: &[u8]) -> &[u8] {
    value.split(|b| *b == b';').next().unwrap_or_default().trim_ascii()
}

fn set_output(res: &mut Response, change: &HeaderChange, value: &[u8], append: bool) {
    if change.wildcard {
        set_matching(&mut res.headers, change, value);
        return;
    }
    let is = |name: &[u8]| change.name.eq_ignore_ascii_case(name);
    if is(b"content-type") {
        res.content_type = (!value.is_empty()).then(|| value.to_vec());
        return;
    }
    if is(b"content-length") {
        let length = std::str::from_utf8(value).ok().and_then(|v| v.parse().ok());
        res.content_length = length;
        match length {
            Some(_) => res.headers.set(&change.name, value),
            None => {
                res.headers.remove(&change.name);
            }
        }
        return;
    }
    if is(b"server") {
        res.hide_server = value.is_empty();
    } else if is(b"date") {
        res.hide_date = value.is_empty();
    } else if is(b"last-modified") {
        res.last_modified = clock::parse_http_time(value);
    } else if is(b"accept-ranges") && value.is_empty() {
        res.allow_ranges = false;
    } else if is(b"location") {
        res.own_location = value.starts_with(b"/");
    }
    if append && !value.is_empty() {
        res.headers.push(&change.name, value);
    } else if value.is_empty() {
        res.headers.remove(&change.name);
    } else {
        res.headers.set(&change.name, value);
    }
}

/// All headers that begin with the name: the first keeps its place with the new value, the others go.
fn set_matching(headers: &mut Headers, change: &HeaderChange, value: &[u8]) {
    let names: Vec<Vec<u8>> = headers
        .iter()
        .filter(|(n, _)| {
            n.len() >= change.name.len() && n[..change.name.len()].eq_ignore_ascii_case(&change.name)
        })
        .map(|(n, _)| n.to_vec())
        .collect();
    for (at, name) in names.iter().enumerate() {
        if at == 0 && !value.is_empty() {
            headers.set(name, value);
        } else if at == 0 || !name.eq_ignore_ascii_case(&names[0]) || value.is_empty() {
            headers.remove(name);
        }
    }
}

/// Changes the request's headers.
pub fn change_input(req: &Request) {
    if req.location().parts.more_headers.is_empty() {
        return;
    }
    let level = req.level.borrow().clone();
    if req.version < 1000 {
        return;
    }
    for command in level.parts.more_headers.iter().filter(|c| c.input) {
        let right_type = {
            let headers = req.headers.borrow();
            let actual = headers.get(b"content-type").unwrap_or_default();
            command.types.is_empty() || command.types.iter().any(|t| **t == *actual)
        };
        if !right_type {
            continue;
        }
        for change in &command.headers {
            let value = req.eval(&change.value);
            set_input(req, change, &value, command.replace);
        }
    }
}

fn set_input(req: &Request, change: &HeaderChange, value: &[u8], replace: bool) {
    let mut headers = req.headers.borrow_mut();
    if change.wildcard {
        if value.is_empty() {
            set_matching(&mut headers, change, value);
        }
        return;
    }
    let there = headers.get(&change.name).is_some();
    if value.is_empty() {
        headers.remove(&change.name);
    } else if there || !replace {
        headers.set(&change.name, value);
    } else {
        return;
    }
    drop(headers);
    if change.name.eq_ignore_ascii_case(b"host") {
        let end = memchr::memrchr(b':', value).filter(|_| !value.ends_with(b"]")).unwrap_or(value.len());
        *req.host.borrow_mut() = value[..end].to_ascii_lowercase();
    } else if change.name.eq_ignore_ascii_case(b"connection") && req.is_main() {
        let lower = value.to_ascii_lowercase();
        if memchr::memmem::find(&lower, b"close").is_some() {
            req.keepalive.set(false);
        }
    }
}
