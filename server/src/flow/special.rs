//! nginx's own pages for redirects and errors, and the way there through `error_page`.

use std::rc::Rc;

use super::filters::submit;
use super::{Verdict, Worker};
use crate::conf::model::ErrorPageStatus;
use crate::conf::settings::ServerTokens;
use crate::request::Request;
use crate::request::response::{Chunk, SERVER_FULL, SERVER_PLAIN};

/// What happens after an error status.
pub enum After {
    /// A page has been submitted.
    Sent,
    /// The request goes on elsewhere.
    Go(Verdict),
}

/// Ends a request with a status: through `error_page` if one is set, else with the built-in page.
pub fn respond(w: &Rc<Worker>, req: &Rc<Request>, status: u16) -> After {
    if matches!(status, 400 | 413 | 414 | 494..=497 | 500 | 501) {
        req.keepalive.set(false);
    }
    if req.head_sent() {
        // Too late for a page: the response ends as it is.
        if status >= 400 {
            req.keepalive.set(false);
        }
        if !req.response.borrow().eof {
            submit(w, req, Chunk { last: status < 400, ..Chunk::default() });
            if status >= 400 && req.is_main() {
                req.conn.break_off();
            }
        }
        return After::Sent;
    }
    req.err_status.set(reported(status));
    let (level, recursive) = {
        let level = req.level.borrow().clone();
        let recursive = level.recursive_error_pages;
        (level, recursive)
    };
    if (!req.error_page.get() || recursive) && status >= 300 && !req.cycled.get() {
        let page = level.error_pages.iter().find(|p| p.codes.contains(&status));
        if let Some(page) = page {
            req.error_page.set(true);
            let target = req.eval(&page.uri);
            let kept = match page.status {
                ErrorPageStatus::Keep => reported(status),
                ErrorPageStatus::Handler => 0,
                ErrorPageStatus::Fixed(s) => s,
            };
            if target.starts_with(b"/") || target.starts_with(b"@") {
                req.err_status.set(kept);
                let mut res = req.response.borrow_mut();
                if status == 416 {
                    res.content_type = None;
                }
                // What has been set stays, but for what is about the body that there is not.
                res.clear_length();
                if res.last_modified.take().is_some() {
                    res.headers.remove(b"last-modified");
                }
                res.skip_scripts = false;
                drop(res);
                if target.starts_with(b"@") {
                    return After::Go(Verdict::Named(target));
                }
                if *req.method.borrow() != b"HEAD" {
                    *req.method.borrow_mut() = b"GET".to_vec();
                }
                let cut = memchr::memchr(b'?', &target);
                let args = cut.map(|n| target[n + 1..].to_vec());
                let uri = target[..cut.unwrap_or(target.len())].to_vec();
                return After::Go(Verdict::Internal { uri, args });
            }
            let redirect = if matches!(kept, 301 | 302 | 303 | 307 | 308) { kept } else { 302 };
            req.err_status.set(redirect);
            req.response.borrow_mut().set_own_location(&target);
            send_page(w, req, redirect);
            return After::Sent;
        }
    }
    send_page(w, req, status);
    After::Sent
}

/// The status that the client sees for nginx's inner ones.
pub fn reported(status: u16) -> u16 {
    if (494..=497).contains(&status) { 400 } else { status }
}

/// Submits the built-in page of a status.
pub fn send_page(w: &Rc<Worker>, req: &Rc<Request>, status: u16) {
    let (found, mut body) = page(status, &req.location().server_tokens);
    if found
        && status >= 400
        && status != 444
        && req.version >= 1000
        && req.location().msie_padding
        && shows_own_pages(req)
    {
        for _ in 0..6 {
            body.extend_from_slice(PADDING);
        }
    }
    let mut res = req.response.borrow_mut();
    res.status = reported(status);
    if res.last_modified.take().is_some() {
        res.headers.remove(b"last-modified");
    }
    res.headers.remove(b"content-length");
    res.headers.remove(b"etag");
    res.headers.remove(b"accept-ranges");
    if found {
        res.content_type = Some(b"text/html".to_vec());
        res.content_length = Some(body.len() as u64);
    } else {
        res.content_type = None;
        res.content_length = Some(0);
    }
    if matches!(status, 204 | 304) {
        res.content_length = None;
        res.header_only = true;
    }
    drop(res);
    submit(w, req, Chunk { data: body, last: true, ..Chunk::default() });
}

/// A line of padding: a page of more than 512 bytes is shown instead of the browser's own.
const PADDING: &[u8] = b"<!-- a padding to disable MSIE and Chrome friendly error page -->\r\n";

/// Whether the client is a browser that shows pages of its own in the place of short ones.
fn shows_own_pages(req: &Request) -> bool {
    let headers = req.headers.borrow();
    let Some(agent) = headers.get(b"user-agent") else { return false };
    let has = |what: &[u8]| memchr::memmem::find(agent, what).is_some();
    if has(b"Opera") {
        return false;
    }
    has(b"MSIE ") || (!has(b"Gecko/") && has(b"Chrome/"))
}

/// Submits a whole response.
pub fn send_response(
    w: &Rc<Worker>,
    req: &Rc<Request>,
    status: u16,
    content_type: Option<&[u8]>,
    body: Vec<u8>,
) {
    let mut res = req.response.borrow_mut();
    res.status = status;
    res.content_length = Some(body.len() as u64);
    if let Some(t) = content_type {
        res.content_type = Some(t.to_vec());
    }
    drop(res);
    submit(w, req, Chunk { data: body, last: true, ..Chunk::default() });
}

/// The page of a status, and whether there is one.
pub fn page(status: u16, tokens: &ServerTokens) -> (bool, Vec<u8>) {
    let Some((title, heading)) = titles(status) else { return (false, Vec::new()) };
    let server = if *tokens == ServerTokens::Off { SERVER_PLAIN } else { SERVER_FULL };
    let detail = heading.map_or(String::new(), |h| format!("<center>{h}</center>\r\n"));
    let body = format!(
        "<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{}</h1></center>\r\n{detail}\
         <hr><center>{server}</center>\r\n</body>\r\n</html>\r\n",
        if heading.is_some() { "400 Bad Request" } else { title },
    );
    (true, body.into_bytes())
}

fn titles(status: u16) -> Option<(&'static str, Option<&'static str>)> {
    let title = match status {
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400 => "400 Bad Request",
        401 => "401 Authorization Required",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Not Allowed",
        406 => "406 Not Acceptable",
        408 => "408 Request Time-out",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Request Entity Too Large",
        414 => "414 Request-URI Too Large",
        415 => "415 Unsupported Media Type",
        416 => "416 Requested Range Not Satisfiable",
        421 => "421 Misdirected Request",
        429 => "429 Too Many Requests",
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Temporarily Unavailable",
        504 => "504 Gateway Time-out",
        505 => "505 HTTP Version Not Supported",
        507 => "507 Insufficient Storage",
        494 => "400 Request Header Or Cookie Too Large",
        495 => "400 The SSL certificate error",
        496 => "400 No required SSL certificate was sent",
        497 => "400 The plain HTTP request was sent to HTTPS port",
        _ => return None,
    };
    let heading = (494..=497).contains(&status).then(|| &title["400 ".len()..]);
    Some((title, heading))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_nginx_text() {
        let (_, body) = page(404, &ServerTokens::Off);
        let want = "<html>\r\n<head><title>404 Not Found</title></head>\r\n<body>\r\n<center><h1>404 Not Found</h1></center>\r\n\
                    <hr><center>openresty</center>\r\n</body>\r\n</html>\r\n";
        assert_eq!(String::from_utf8(body).unwrap(), want);
        let (_, body) = page(494, &ServerTokens::Off);
        assert!(String::from_utf8(body).unwrap().contains(
            "<center><h1>400 Bad Request</h1></center>\r\n<center>Request Header Or Cookie Too Large</center>\r\n<hr>"
        ));
        for status in 494..=497 {
            let (_, body) = page(status, &ServerTokens::Off);
            let body = String::from_utf8(body).unwrap();
            let (title, heading) = titles(status).unwrap();
            let heading = heading.unwrap();
            assert_eq!(title.strip_prefix("400 "), Some(heading));
            assert!(
                body.contains(&format!("<h1>400 Bad Request</h1></center>\r\n<center>{heading}</center>"))
            );
        }
        assert!(!page(499, &ServerTokens::On).0);
    }
}
