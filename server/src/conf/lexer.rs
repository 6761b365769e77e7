//! nginx's words: white space, quotes, escapes, comments; and the end of a Lua block.
//!
//! Knows bytes and lines, no directive. Words follow nginx's rules to the letter: a quote counts
//! only at the start of a word, `\` keeps the next byte out of the grammar, `${` does not open a block.

use logos::Logos;

/// What ended a list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `;`
    Semicolon,
    /// `{`
    BlockStart,
    /// `}` with no word before it.
    BlockEnd,
    /// The end of the text with no word before it.
    File,
}

/// The words up to a `;`, `{` or `}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    /// The words, unescaped.
    pub words: Vec<Box<[u8]>>,
    /// What ended them.
    pub end: End,
}

/// nginx's length limit of a word: what is longer and never ends is reported where it started.
const WORD_BYTES_MAX: usize = 4096;

/// A place in a text.
#[derive(Clone, Debug)]
pub struct Lexer<'t> {
    text: &'t [u8],
    at: usize,
    line: u32,
}

/// A byte of a message, as nginx prints it.
fn shown(byte: u8) -> String {
    String::from_utf8_lossy(&[byte]).into_owned()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

impl<'t> Lexer<'t> {
    /// At the start of `text`, on line 1.
    pub fn new(text: &'t [u8]) -> Lexer<'t> {
        Lexer { text, at: 0, line: 1 }
    }

    /// The line of the last byte read, as messages give it.
    pub fn line(&self) -> u32 {
        self.line
    }

    fn next_byte(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    /// Reads words up to the next `;`, `{` or `}`. The error is nginx's text; `line` tells where.
    pub fn words(&mut self) -> Result<Words, String> {
        let mut words: Vec<Box<[u8]>> = Vec::new();
        loop {
            let Some(byte) = self.next_byte() else {
                if words.is_empty() {
                    return Ok(Words { words, end: End::File });
                }
                return Err(unexpected_end());
            };
            match byte {
                _ if is_space(byte) => {}
                b'#' => self.skip_comment(),
                b';' | b'{' if words.is_empty() => return Err(format!("unexpected \"{}\"", shown(byte))),
                b';' => return Ok(Words { words, end: End::Semicolon }),
                b'{' => return Ok(Words { words, end: End::BlockStart }),
                b'}' if words.is_empty() => return Ok(Words { words, end: End::BlockEnd }),
                b'}' => return Err("unexpected \"}\"".to_owned()),
                b'"' | b'\'' => {
                    if let Some(end) = self.quoted(byte, &mut words)? {
                        return Ok(Words { words, end });
                    }
                }
                _ => {
                    if let Some(end) = self.bare(byte, &mut words)? {
                        return Ok(Words { words, end });
                    }
                }
            }
        }
    }

    fn skip_comment(&mut self) {
        while let Some(byte) = self.next_byte() {
            if byte == b'\n' {
                return;
            }
        }
    }

    /// A word without quotes, whose first byte was read already. Also tells what ended it.
    fn bare(&mut self, first: u8, words: &mut Vec<Box<[u8]>>) -> Result<Option<End>, String> {
        let start = self.at - 1;
        let start_line = self.line;
        let mut escaped = first == b'\\';
        let mut after_dollar = first == b'$';
        loop {
            let Some(byte) = self.next_byte() else {
                return Err(self.unterminated(start, start_line, None));
            };
            if escaped {
                escaped = false;
                continue;
            }
            if byte == b'{' && after_dollar {
                continue;
            }
            after_dollar = false;
            let end = match byte {
                b'\\' => {
                    escaped = true;
                    continue;
                }
                b'$' => {
                    after_dollar = true;
                    continue;
                }
                b';' => Some(End::Semicolon),
                b'{' => Some(End::BlockStart),
                _ if is_space(byte) => None,
                _ => continue,
            };
            words.push(unescape(&self.text[start..self.at - 1]));
            return Ok(end);
        }
    }

    /// A quoted word, whose opening quote was read already, and the byte that must follow it.
    fn quoted(&mut self, quote: u8, words: &mut Vec<Box<[u8]>>) -> Result<Option<End>, String> {
        let start = self.at;
        let start_line = self.line;
        let mut escaped = false;
        loop {
            let Some(byte) = self.next_byte() else {
                return Err(self.unterminated(start, start_line, Some(quote)));
            };
            if escaped {
                escaped = false;
            } else if byte == b'\\' {
                escaped = true;
            } else if byte == quote {
                break;
            }
        }
        words.push(unescape(&self.text[start..self.at - 1]));
        match self.next_byte() {
            None => Err(unexpected_end()),
            Some(b';') => Ok(Some(End::Semicolon)),
            Some(b'{') => Ok(Some(End::BlockStart)),
            Some(byte) if is_space(byte) => Ok(None),
            // A `)` may follow at once, for `if ($a = "b")`; it starts a word of its own.
            Some(b')') => self.bare(b')', words),
            Some(byte) => Err(format!("unexpected \"{}\"", shown(byte))),
        }
    }

    fn unterminated(&mut self, start: usize, start_line: u32, quote: Option<u8>) -> String {
        if self.at - start < WORD_BYTES_MAX {
            return unexpected_end();
        }
        self.line = start_line;
        match quote {
            Some(quote) => format!(
                "too long parameter, probably missing terminating \"{}\" character",
                char::from(quote)
            ),
            None => format!(
                "too long parameter \"{}...\" started",
                String::from_utf8_lossy(&self.text[start..start + 10])
            ),
        }
    }

    /// Reads Lua code up to the `}` that matches the `{` read last. The bytes in between are the code.
    /// An error gives the line that the message names.
    pub fn lua_block(&mut self) -> Result<Box<[u8]>, (u32, String)> {
        let rest = &self.text[self.at..];
        let start_line = self.line;
        let mut tokens = LuaToken::lexer(rest);
        let mut depth = 1;
        while let Some(token) = tokens.next() {
            match token {
                Ok(LuaToken::Open) => depth += 1,
                Ok(LuaToken::Close) => {
                    depth -= 1;
                    if depth == 0 {
                        let end = tokens.span().start;
                        self.advance(end + 1);
                        return Ok(rest[..end].into());
                    }
                }
                Ok(_) => {}
                // Only a long bracket that never closes is no token.
                Err(()) => {
                    let bracket: Vec<u8> = rest[tokens.span().start..]
                        .iter()
                        .copied()
                        .skip_while(|byte| *byte == b'-')
                        .scan(0, |brackets, byte| {
                            *brackets += usize::from(byte == b'[');
                            (*brackets <= 2 && matches!(byte, b'[' | b'=')).then_some(byte)
                        })
                        .map(|byte| if byte == b'[' { b']' } else { byte })
                        .collect();
                    self.advance(rest.len());
                    return Err((
                        self.line,
                        format!(
                            "Lua code block missing the closing long bracket \"{}\", \
                             the inlined Lua code may be too long",
                            String::from_utf8_lossy(&bracket)
                        ),
                    ));
                }
            }
        }
        self.advance(rest.len());
        let message = "unexpected end of file, expecting terminating characters for lua code block";
        Err((start_line, message.to_owned()))
    }

    fn advance(&mut self, bytes: usize) {
        for _ in 0..bytes {
            self.next_byte();
        }
    }
}

fn unexpected_end() -> String {
    "unexpected end of file, expecting \";\" or \"}\"".to_owned()
}

/// The word of its raw bytes: `\"`, `\'`, `\\`, `\t`, `\r`, `\n` are replaced, other escapes stay.
fn unescape(raw: &[u8]) -> Box<[u8]> {
    let mut word = Vec::with_capacity(raw.len());
    let mut at = 0;
    while at < raw.len() {
        let byte = match (raw[at], raw.get(at + 1)) {
            (b'\\', Some(next @ (b'"' | b'\'' | b'\\'))) => *next,
            (b'\\', Some(b't')) => b'\t',
            (b'\\', Some(b'r')) => b'\r',
            (b'\\', Some(b'n')) => b'\n',
            (other, _) => {
                word.push(other);
                at += 1;
                continue;
            }
        };
        word.push(byte);
        at += 2;
    }
    word.into()
}

/// As much of Lua's grammar as tells which braces count.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq)]
#[logos(utf8 = false)]
enum LuaToken {
    #[token(b"{")]
    Open,
    #[token(b"}")]
    Close,
    #[regex(br#""(?:[^"\\]|\\(?s:.))*""#)]
    #[regex(br"'(?:[^'\\]|\\(?s:.))*'")]
    String,
    #[regex(br"(?:--)?\[=*\[", long_bracket)]
    Long,
    #[regex(br"--", line_comment)]
    Comment,
    #[regex(br#"[^{}"'\[\-]+"#)]
    Other,
    #[token(b"[")]
    #[token(b"-")]
    #[token(b"\"")]
    #[token(b"'")]
    Single,
}

/// Goes on to the end of a long bracket; none is an error.
fn long_bracket(lexer: &mut logos::Lexer<'_, LuaToken>) -> Option<()> {
    let level = lexer.slice().iter().filter(|byte| **byte == b'=').count();
    let closing = [&b"]"[..], &b"=".repeat(level), b"]"].concat();
    let end = memchr::memmem::find(lexer.remainder(), &closing)?;
    lexer.bump(end + closing.len());
    Some(())
}

/// Goes on to the end of the line.
fn line_comment(lexer: &mut logos::Lexer<'_, LuaToken>) {
    let rest = lexer.remainder();
    lexer.bump(memchr::memchr(b'\n', rest).unwrap_or(rest.len()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(text: &str) -> Vec<String> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut lines = Vec::new();
        loop {
            match lexer.words() {
                Ok(Words { end: End::File, .. }) => return lines,
                Ok(Words { words, end }) => {
                    let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
                    lines.push(format!("{}: {} {end:?}", lexer.line(), words.join("|")));
                }
                Err(message) => {
                    lines.push(format!("{}: {message}", lexer.line()));
                    return lines;
                }
            }
        }
    }

    #[test]
    fn quotes_escapes_and_comments() {
        assert_eq!(
            lists("a 'b c' \"d\\\"e\\n\" f\\;g # x;\n#y\n ; h${x}{ i }"),
            ["3: a|b c|d\"e\n|f\\;g Semicolon", "3: h${x} BlockStart", "3: unexpected \"}\"",]
        );
        assert_eq!(lists("if ($a = \"b\") {}"), ["1: if|($a|=|b|) BlockStart", "1:  BlockEnd"]);
        assert_eq!(lists("a#b c'd;"), ["1: a#b|c'd Semicolon"]);
    }

    #[test]
    fn line_is_that_of_the_end() {
        assert_eq!(lists("a\n b\n;\nc;"), ["3: a|b Semicolon", "4: c Semicolon"]);
    }

    #[test]
    fn complaints() {
        let end = "unexpected end of file, expecting \";\" or \"}\"";
        assert_eq!(lists("a"), [format!("1: {end}")]);
        assert_eq!(lists("a 'b\nc"), [format!("2: {end}")]);
        assert_eq!(lists("a \"b\"c;"), ["1: unexpected \"c\""]);
        assert_eq!(lists(";"), ["1: unexpected \";\""]);
        assert_eq!(lists("{"), ["1: unexpected \"{\""]);
        let long = format!("a;\nb 'x{}\n", "y".repeat(5000));
        assert_eq!(lists(&long)[1], "2: too long parameter, probably missing terminating \"'\" character");
    }

    fn block(text: &str) -> Result<String, (u32, String)> {
        let mut lexer = Lexer::new(text.as_bytes());
        lexer.words().expect("starts with `x {`");
        let code = lexer.lua_block()?;
        Ok(format!("{}@{}", String::from_utf8_lossy(&code), lexer.line()))
    }

    #[test]
    fn lua_block_ends_at_its_own_brace() {
        assert_eq!(block("x { a = {} } y"), Ok(" a = {} @1".to_owned()));
        assert_eq!(block("x {'}' \"}\\\"}\" }"), Ok("'}' \"}\\\"}\" @1".to_owned()));
        assert_eq!(block("x {-- }\n}"), Ok("-- }\n@2".to_owned()));
        assert_eq!(
            block("x {--[[ }\n]] [==[ } ]] ]==] a[1]-1 }"),
            Ok("--[[ }\n]] [==[ } ]] ]==] a[1]-1 @2".to_owned())
        );
    }

    #[test]
    fn lua_block_without_end() {
        let end = "unexpected end of file, expecting terminating characters for lua code block";
        assert_eq!(block("\nx {\n a\n"), Err((2, end.to_owned())));
        assert_eq!(
            block("x {\n --[==[ \n").map_err(|(line, text)| format!("{line}: {text}")),
            Err("3: Lua code block missing the closing long bracket \"]==]\", \
                 the inlined Lua code may be too long"
                .to_owned())
        );
    }
}
