//! `autoindex`: the list of a directory as a page, JSON or XML.

use std::fmt::Write as _;
use std::rc::Rc;

use super::filters::submit;
use super::{Verdict, Worker};
use crate::conf::filter_settings::AutoindexFormat;
use crate::conf::model::Level;
use crate::http1::clock;
use crate::request::Request;
use crate::request::body::bytes_to_path;
use crate::request::escape::{Place, escape};
use crate::request::response::Chunk;
use crate::request::vars;

/// Most entries that are listed.
const ENTRIES_MAX: usize = 1_000_000;
/// Width of the column of names.
const NAME_COLUMNS: usize = 50;

struct Entry {
    name: Vec<u8>,
    directory: bool,
    size: u64,
    modified_s: i64,
}

/// Lists the directory that the URI names. `Verdict::Next` when that is not asked for.
pub fn serve(w: &Rc<Worker>, req: &Rc<Request>) -> Verdict {
    let level = req.level.borrow().clone();
    if !level.filters.autoindex || !matches!(&req.method.borrow()[..], b"GET" | b"HEAD") {
        return Verdict::Next;
    }
    let path = vars::filename(req);
    let entries = match std::fs::read_dir(bytes_to_path(&path)) {
        Ok(entries) => entries,
        Err(e) => {
            let (status, log_level) = match e.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => (404, Level::Error),
                std::io::ErrorKind::PermissionDenied => (403, Level::Error),
                _ => (500, Level::Crit),
            };
            let mut line = b"opendir() \"".to_vec();
            line.extend_from_slice(&path);
            line.extend_from_slice(format!("\" failed {}", crate::conf::error::os_text(&e)).as_bytes());
            req.log(log_level, &line);
            return Verdict::Status(status);
        }
    };
    let mut list = Vec::new();
    for entry in entries.flatten().take(ENTRIES_MAX) {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::MetadataExt;
        let name = entry.file_name().as_bytes().to_vec();
        if name.starts_with(b".") {
            continue;
        }
        // A link that leads nowhere is shown as what it is.
        let Ok(meta) = std::fs::metadata(entry.path()).or_else(|_| entry.metadata()) else { continue };
        list.push(Entry { name, directory: meta.is_dir(), size: meta.len(), modified_s: meta.mtime() });
    }
    list.sort_by(|a, b| b.directory.cmp(&a.directory).then_with(|| a.name.cmp(&b.name)));
    let (content_type, body) = match level.filters.autoindex_format {
        AutoindexFormat::Html => (&b"text/html"[..], html(req, &list)),
        AutoindexFormat::Json => (&b"application/json"[..], json(&list)),
        AutoindexFormat::Jsonp => {
            let callback = crate::request::args::find(&req.args.borrow(), b"callback").map(<[u8]>::to_vec);
            match callback.filter(|name| !name.is_empty()) {
                None => (&b"application/json"[..], json(&list)),
                Some(name) if name.iter().all(|b| b.is_ascii_alphanumeric() || b"_.$".contains(b)) => {
                    let parts = [&b"/* callback */\r\n"[..], &name, b"(", &json(&list), b");"];
                    (&b"application/javascript"[..], parts.concat())
                }
                Some(name) => {
                    let shown = String::from_utf8_lossy(&name);
                    req.log(
                        Level::Info,
                        format!("client sent invalid callback name: \"{shown}\"").as_bytes(),
                    );
                    return Verdict::Status(400);
                }
            }
        }
        AutoindexFormat::Xml => (&b"text/xml; charset=utf-8"[..], xml(&list)),
    };
    {
        let mut res = req.response.borrow_mut();
        res.status = 200;
        res.content_type = Some(content_type.to_vec());
    }
    submit(w, req, Chunk { data: body, last: true, ..Chunk::default() });
    Verdict::Done
}

fn escape_html(text: &[u8], out: &mut Vec<u8>) {
    for b in text {
        match b {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'"' => out.extend_from_slice(b"&quot;"),
            _ => out.push(*b),
        }
    }
}

fn html(req: &Request, list: &[Entry]) -> Vec<u8> {
    let level = req.level.borrow().clone();
    let charset = level.filters.charset.as_ref().map(|c| req.eval(c));
    let utf8 = charset.is_some_and(|c| c.eq_ignore_ascii_case(b"utf-8"));
    let mut out = b"<html>\r\n<head><title>Index of ".to_vec();
    escape_html(&req.uri.borrow(), &mut out);
    out.extend_from_slice(b"</title></head>\r\n<body>\r\n<h1>Index of ");
    escape_html(&req.uri.borrow(), &mut out);
    out.extend_from_slice(b"</h1><hr><pre><a href=\"../\">../</a>\r\n");
    for e in list {
        out.extend_from_slice(b"<a href=\"");
        escape(&e.name, Place::Component, &mut out);
        if e.directory {
            out.push(b'/');
        }
        out.extend_from_slice(b"\">");
        let text = String::from_utf8_lossy(&e.name);
        let width = if utf8 { text.chars().count() } else { e.name.len() };
        if width > NAME_COLUMNS {
            let kept: String = text.chars().take(NAME_COLUMNS - 3).collect();
            let bytes = &e.name[..NAME_COLUMNS - 3];
            escape_html(if utf8 { kept.as_bytes() } else { bytes }, &mut out);
            out.extend_from_slice(b"..&gt;</a>");
        } else {
            escape_html(&e.name, &mut out);
            let slash = e.directory && width < NAME_COLUMNS;
            if slash {
                out.push(b'/');
            }
            out.extend_from_slice(b"</a>");
            out.resize(out.len() + NAME_COLUMNS - width - usize::from(slash), b' ');
        }
        let offset = if level.filters.autoindex_localtime { clock::zone_offset() } else { 0 };
        let date = crate::http1::strftime::formatted(e.modified_s, offset, b" %d-%b-%Y %H:%M ");
        out.extend_from_slice(&date);
        let size = match (level.filters.autoindex_exact_size, e.directory) {
            (true, true) => format!("{:>19}", "-"),
            (true, false) => format!("{:>19}", e.size),
            (false, true) => format!("{:>7}", "-"),
            (false, false) => short_size(e.size),
        };
        out.extend_from_slice(size.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"</pre><hr></body>\r\n</html>\r\n");
    out
}

/// A size in few letters: `1K`, `20M`.
fn short_size(size: u64) -> String {
    for (bits, unit, from) in [(30, 'G', 1 << 30), (20, 'M', 1 << 20), (10, 'K', 10_000)] {
        if size >= from {
            let rounded = (size >> bits) + (size >> (bits - 1) & 1);
            return format!("{rounded:>6}{unit}");
        }
    }
    format!(" {size:>6}")
}

fn json(list: &[Entry]) -> Vec<u8> {
    let mut out = String::from("[");
    for (at, e) in list.iter().enumerate() {
        let mut name = String::new();
        for c in String::from_utf8_lossy(&e.name).chars() {
            match c {
                '"' | '\\' => {
                    name.push('\\');
                    name.push(c);
                }
                '\u{0}'..='\u{1f}' => {
                    // Writing into a string cannot fail.
                    let _ = write!(name, "\\u{:04X}", u32::from(c));
                }
                _ => name.push(c),
            }
        }
        let kind = if e.directory { "directory" } else { "file" };
        let _ = write!(
            out,
            "{}\r\n{{ \"name\":\"{name}\", \"type\":\"{kind}\", \"mtime\":\"{}\"",
            if at > 0 { "," } else { "" },
            clock::http_time(e.modified_s)
        );
        if !e.directory {
            let _ = write!(out, ", \"size\":{}", e.size);
        }
        out.push_str(" }");
    }
    out.push_str("\r\n]");
    out.into_bytes()
}

fn xml(list: &[Entry]) -> Vec<u8> {
    let mut out = b"<?xml version=\"1.0\"?>\r\n<list>\r\n".to_vec();
    for e in list {
        let kind = if e.directory { "directory" } else { "file" };
        let time = crate::http1::strftime::formatted(e.modified_s, 0, b"%Y-%m-%dT%H:%M:%SZ");
        out.extend_from_slice(format!("<{kind} mtime=\"").as_bytes());
        out.extend_from_slice(&time);
        out.push(b'"');
        if !e.directory {
            out.extend_from_slice(format!(" size=\"{}\"", e.size).as_bytes());
        }
        out.push(b'>');
        escape_html(&e.name, &mut out);
        out.extend_from_slice(format!("</{kind}>\r\n").as_bytes());
    }
    out.extend_from_slice(b"</list>\r\n");
    out
}
