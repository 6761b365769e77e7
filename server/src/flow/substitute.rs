//! `charset` on content types, and `sub_filter`: texts replaced in the body.

use std::rc::Rc;

use super::compress::weaken_etag;
use super::more_headers::media_type;
use crate::conf::directives::filters::CHARSET_TYPES;
use crate::request::Request;
use crate::request::response::{BodyFilter, Chunk};

/// Adds the character set to the content type.
pub fn charset_header_filter(req: &Request) {
    let level = req.level.borrow().clone();
    let Some(charset) = &level.filters.charset else { return };
    if charset.as_literal() == Some(b"off") {
        return;
    }
    let charset = req.eval(charset);
    let mut res = req.response.borrow_mut();
    // Some clients take the character set of a redirect for the one of its target.
    if charset.is_empty() || matches!(res.status, 301 | 302) {
        return;
    }
    let Some(content_type) = res.content_type.clone().filter(|t| !t.is_empty()) else { return };
    let media = media_type(&content_type);
    let right_type = match &level.parts.charset_types {
        Some(types) => types.has(media),
        None => CHARSET_TYPES.contains(&media),
    };
    let lower = content_type.to_ascii_lowercase();
    let has_own = memchr::memmem::find(&lower, b"charset=").is_some();
    if !right_type || has_own {
        return;
    }
    let mut out = content_type;
    out.extend_from_slice(b"; charset=");
    out.extend_from_slice(&charset);
    res.content_type = Some(out);
}

/// The header filter of `sub_filter`.
pub fn sub_header_filter(req: &Request) {
    let level = req.level.borrow().clone();
    if level.parts.sub_filters.is_empty() {
        return;
    }
    {
        let res = req.response.borrow();
        let media = media_type(res.content_type.as_deref().unwrap_or_default());
        let right_type = match &level.parts.sub_types {
            Some(types) => types.has(media),
            None => media == b"text/html",
        };
        if !right_type || res.content_length == Some(0) {
            return;
        }
    }
    let mut rules = Vec::new();
    for rule in &level.parts.sub_filters {
        let pattern = req.eval(&rule.pattern).to_ascii_lowercase();
        // A pattern that is empty matches nothing.
        let spent = pattern.is_empty();
        rules.push(Rule { pattern, replacement: None, spent });
    }
    if rules.iter().all(|r| r.spent) {
        return;
    }
    let mut res = req.response.borrow_mut();
    res.clear_length();
    res.clear_ranges();
    if level.filters.sub_filter_last_modified {
        weaken_etag(&mut res);
    } else {
        res.last_modified = None;
        res.headers.remove(b"last-modified");
        res.headers.remove(b"etag");
    }
    let longest = rules.iter().map(|r| r.pattern.len()).max().unwrap_or(0);
    let once = level.filters.sub_filter_once;
    res.filters.push(Box::new(Sub { rules, once, longest, held: Vec::new() }));
}

struct Rule {
    /// In lower case.
    pattern: Vec<u8>,
    /// Made when it is first needed.
    replacement: Option<Vec<u8>>,
    /// Replaced once, where once is enough.
    spent: bool,
}

struct Sub {
    rules: Vec<Rule>,
    once: bool,
    longest: usize,
    /// The end of what came so far, which may begin a match.
    held: Vec<u8>,
}

impl BodyFilter for Sub {
    fn run(&mut self, req: &Rc<Request>, chunk: &mut Chunk) -> Result<(), &'static str> {
        self.held.append(&mut chunk.data);
        let input = std::mem::take(&mut self.held);
        // A match may still become longer than what is there, except at the end.
        let safe = if chunk.last || self.rules.iter().all(|r| r.spent) {
            input.len()
        } else {
            (input.len() + 1).saturating_sub(self.longest)
        };
        let lower = input.to_ascii_lowercase();
        let mut out = Vec::with_capacity(input.len());
        let mut at = 0;
        while at < safe {
            let hit = self.rules.iter().position(|r| !r.spent && lower[at..].starts_with(&r.pattern));
            let Some(n) = hit else {
                out.push(input[at]);
                at += 1;
                continue;
            };
            let rule = &mut self.rules[n];
            let replacement = rule.replacement.get_or_insert_with(|| {
                let level = req.level.borrow().clone();
                level.parts.sub_filters.get(n).map_or_else(Vec::new, |r| req.eval(&r.replacement))
            });
            out.extend_from_slice(replacement);
            at += rule.pattern.len();
            rule.spent = self.once;
        }
        // What cannot begin a match is not held back.
        while at < input.len()
            && !self.rules.iter().any(|r| !r.spent && !chunk.last && r.pattern.starts_with(&lower[at..]))
        {
            out.push(input[at]);
            at += 1;
        }
        self.held = input[at.min(input.len())..].to_vec();
        chunk.data = out;
        Ok(())
    }
}
