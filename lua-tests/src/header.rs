//! The header line of a case.

/// What a case asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Run in compiled modes.
    pub jit: bool,
    /// Run under collector stress.
    pub zeal: bool,
    /// Switch the 5.2 extensions on.
    pub compat52: bool,
    /// The script ends with an error; stderr is part of the expected output.
    pub error: bool,
    /// Needs the ffi.
    pub ffi: bool,
}

impl Default for Header {
    fn default() -> Self {
        Header { jit: true, zeal: true, compat52: false, error: false, ffi: false }
    }
}

impl Header {
    /// Reads the header of a source text. Unknown words are an error: a typing mistake must not
    /// silently leave a mode out.
    pub fn parse(source: &str) -> Result<Header, String> {
        let mut h = Header::default();
        let Some(line) = source.lines().next().and_then(|l| l.strip_prefix("--- ")) else { return Ok(h) };
        for word in line.split_whitespace() {
            match word {
                "-jit" => h.jit = false,
                "-zeal" => h.zeal = false,
                "+compat52" => h.compat52 = true,
                "+error" => h.error = true,
                "+ffi" => h.ffi = true,
                other => return Err(format!("unknown header word `{other}`")),
            }
        }
        Ok(h)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_words_switch_modes() {
        let h = Header::parse("--- -jit +error\nprint(1)").expect("parses");
        assert!(!h.jit && h.zeal && h.error);
    }

    #[test]
    fn header_with_unknown_word_is_refused() {
        assert!(Header::parse("--- +jot").is_err());
    }
}
