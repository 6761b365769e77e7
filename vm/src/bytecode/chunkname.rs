//! How a chunk name is shown in messages and tracebacks.

/// Room for a shown name, terminator included.
const SIZE: usize = 60;

/// Shortens a chunk name to at most 59 bytes: `=name` is shown as it is, `@file` by its end,
/// anything else as `[string "first line..."]`.
pub fn shorten(name: &[u8]) -> Vec<u8> {
    // Names are shown as C strings.
    let name = &name[..memchr::memchr(0, name).unwrap_or(name.len())];
    match name.first() {
        Some(b'=') => name[1..].iter().copied().take(SIZE - 1).collect(),
        Some(b'@') => {
            let file = &name[1..];
            if file.len() < SIZE {
                return file.to_vec();
            }
            let mut out = b"...".to_vec();
            out.extend_from_slice(&file[file.len() - (SIZE - 4)..]);
            out
        }
        _ => {
            let mut len = name.iter().take(SIZE - 12).take_while(|&&c| c >= b' ').count();
            let mut out = b"[string \"".to_vec();
            if len < name.len() {
                len = len.min(SIZE - 15);
                out.extend_from_slice(&name[..len]);
                out.extend_from_slice(b"...");
            } else {
                out.extend_from_slice(name);
            }
            out.extend_from_slice(b"\"]");
            out
        }
    }
}

/// Name and line as listings show them: a file without its folders, other names in full or, when they are long, as the
/// prototype's address.
pub fn location(name: &[u8], line: u32, addr: u64) -> Vec<u8> {
    // Names are shown as C strings.
    let shown = &name[..memchr::memchr(0, name).unwrap_or(name.len())];
    let mut out = match shown {
        [b'@', file @ ..] => {
            let folders = file.iter().skip(1).rposition(|&c| c == b'/' || c == b'\\').map_or(0, |i| i + 2);
            file[folders..].to_vec()
        }
        _ if name.len() > 40 => format!("{addr:#014x}").into_bytes(),
        [b'=', rest @ ..] => rest.to_vec(),
        _ => [b"\"", shown, b"\""].concat(),
    };
    out.extend_from_slice(format!(":{line}").as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::{location, shorten};

    #[test]
    fn names_are_cut_as_messages_show_them() {
        assert_eq!(shorten(b"=stdin"), b"stdin");
        assert_eq!(shorten(b"@a.lua"), b"a.lua");
        assert_eq!(shorten(b"return 1"), b"[string \"return 1\"]");
        assert_eq!(shorten(b"a\nb"), b"[string \"a...\"]");
        let long = vec![b'x'; 100];
        assert_eq!(shorten(&long).len(), 9 + 45 + 3 + 2);
        let mut file = b"@".to_vec();
        file.extend_from_slice(&long);
        assert_eq!(shorten(&file).len(), 59);
        assert!(shorten(&file).starts_with(b"...x"));
    }

    #[test]
    fn locations_name_the_file_alone() {
        assert_eq!(location(b"@a/b.lua", 3, 0), b"b.lua:3");
        assert_eq!(location(b"=stdin", 3, 0), b"stdin:3");
        assert_eq!(location(b"x = 1", 0, 0), b"\"x = 1\":0");
        assert_eq!(location(&[b'x'; 50], 1, 0x1234), b"0x000000001234:1");
    }
}
