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

#[cfg(test)]
mod tests {
    use super::shorten;

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
}
