//! From the target of a request line to the normalised path that locations are matched on.

use super::escape::hex_pair;

/// A normalised target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The decoded path without `.` and `..`.
    pub uri: Vec<u8>,
    /// What stands behind `?`, as sent.
    pub args: Vec<u8>,
    /// Whether there was a `?`.
    pub has_args: bool,
}

/// The target is no path: it climbs above the root or has a zero byte or a broken escape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadUri;

/// Normalises `path?args#fragment`: decodes escapes, resolves dots, merges slashes if asked.
pub fn normalise(raw: &[u8], merge_slashes: bool) -> Result<Target, BadUri> {
    let (mut uri, mut args) = (Vec::with_capacity(raw.len().max(1)), Vec::new());
    let has_args = normalise_into(raw, merge_slashes, &mut uri, &mut args)?;
    Ok(Target { uri, args, has_args })
}

/// The same into buffers that are there already; tells whether there was a `?`.
pub fn normalise_into(
    raw: &[u8],
    merge_slashes: bool,
    uri: &mut Vec<u8>,
    args: &mut Vec<u8>,
) -> Result<bool, BadUri> {
    uri.clear();
    args.clear();
    // The first byte that is more than a part of the path ends the easy part.
    let easy = |pair: &[u8]| pair[0] != b'/' || !matches!(pair[1], b'/' | b'.');
    let special = |b: &u8| matches!(b, b'%' | b'?' | b'#' | 0);
    if raw.first() == Some(&b'/') && !raw.iter().any(special) && raw.windows(2).all(easy) {
        uri.extend_from_slice(raw);
        return Ok(false);
    }
    let end = memchr::memchr(b'#', raw).unwrap_or(raw.len());
    let raw = &raw[..end];
    let (path, has_args) = match memchr::memchr(b'?', raw) {
        Some(n) => {
            args.extend_from_slice(&raw[n + 1..]);
            (&raw[..n], true)
        }
        None => (raw, false),
    };
    if !path.starts_with(b"/") {
        uri.push(b'/');
    }
    // A slash is put in front of what has none: a dot there is a segment of its own.
    let simple = !path.starts_with(b".") && !path.contains(&b'%') && path.windows(2).all(easy);
    if simple {
        uri.extend_from_slice(path);
        return if uri.contains(&0) { Err(BadUri) } else { Ok(has_args) };
    }
    let mut at = 0;
    while at < path.len() {
        let mut b = path[at];
        at += 1;
        if b == b'%' {
            b = hex_pair(path, at).ok_or(BadUri)?;
            at += 2;
        }
        if b == 0 {
            return Err(BadUri);
        }
        if b == b'/' {
            let resolved = close_segment(uri)?;
            if resolved || (merge_slashes && uri.last() == Some(&b'/')) {
                continue;
            }
        }
        uri.push(b);
    }
    close_segment(uri)?;
    Ok(has_args)
}

/// Resolves a `.` or `..` at the end of `uri`; the slash in front stays. Tells whether there was one.
fn close_segment(uri: &mut Vec<u8>) -> Result<bool, BadUri> {
    if uri.ends_with(b"/.") {
        uri.pop();
        return Ok(true);
    }
    if uri.ends_with(b"/..") {
        uri.truncate(uri.len() - 3);
        let parent = uri.iter().rposition(|&b| b == b'/').ok_or(BadUri)?;
        uri.truncate(parent + 1);
        return Ok(true);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(s: &str) -> Result<String, BadUri> {
        normalise(s.as_bytes(), true).map(|t| String::from_utf8_lossy(&t.uri).into_owned())
    }

    #[test]
    fn paths_are_decoded_and_resolved() {
        for (from, to) in [
            ("/", "/"),
            ("", "/"),
            ("/a/b?c", "/a/b"),
            ("/a%20b", "/a b"),
            ("//a///b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/..", "/a/"),
            ("/a%2f..%2fb", "/b"),
            ("/a%3fb", "/a?b"),
            ("/...", "/..."),
            ("/a/..b", "/a/..b"),
            ("/a#f?x", "/a"),
            (".", "/"),
            ("./a", "/a"),
        ] {
            assert_eq!(uri(from).as_deref(), Ok(to), "{from}");
        }
        for bad in ["/..", "/../a", "/a/../../b", "/%00", "/%2", "/%zz", "/%2e%2e/"] {
            assert_eq!(uri(bad), Err(BadUri), "{bad}");
        }
        let t = normalise(b"/a?b=%20&c", true).unwrap();
        assert_eq!((&t.args[..], t.has_args), (&b"b=%20&c"[..], true));
    }

    #[test]
    fn slashes_stay_when_asked() {
        assert_eq!(normalise(b"//a//b", false).unwrap().uri, b"//a//b");
        assert_eq!(normalise(b"/a/./b", false).unwrap().uri, b"/a/b");
    }
}
