//! Bytes to tokens. Knows lines, strings, comments and literals; knows no grammar.

use logos::Logos;

use super::SyntaxOptions;
use super::ast::{StrId, StrPool};
use super::error::SyntaxError;
use super::number::{self, Literal};
use super::token::Token;

/// What a name, string or number token carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Payload {
    /// Nothing.
    None,
    /// Name, or contents of a string.
    Str(StrId),
    /// Value of a number.
    Number(Literal),
}

/// One token with its place.
#[derive(Clone, Copy, Debug)]
pub struct Lexeme {
    /// Kind.
    pub token: Token,
    /// Contents.
    pub payload: Payload,
    /// First byte.
    pub start: usize,
    /// Byte after the last one.
    pub end: usize,
    /// Line on which it ends.
    pub line: u32,
}

/// A long bracket has fewer `=` than this.
const LONG_LEVEL_MAX: usize = 0x2000_0000;

/// Cuts a source into tokens.
pub struct Lexer<'s> {
    source: &'s [u8],
    pos: usize,
    line: u32,
    chunkname: &'s [u8],
    options: SyntaxOptions,
    /// Names and string contents met so far.
    pub strings: StrPool,
    /// String contents under construction, as messages about the token show them.
    buf: Vec<u8>,
}

type Result<T> = std::result::Result<T, Box<SyntaxError>>;

/// The bytes that are a token by themselves, whatever follows.
static LONE: [Option<Token>; 256] = {
    let mut t = [None; 256];
    t[b'(' as usize] = Some(Token::LParen);
    t[b')' as usize] = Some(Token::RParen);
    t[b'{' as usize] = Some(Token::LBrace);
    t[b'}' as usize] = Some(Token::RBrace);
    t[b'[' as usize] = Some(Token::LBracket);
    t[b']' as usize] = Some(Token::RBracket);
    t[b';' as usize] = Some(Token::Semicolon);
    t[b',' as usize] = Some(Token::Comma);
    t[b'^' as usize] = Some(Token::Caret);
    t[b'#' as usize] = Some(Token::Hash);
    t
};

fn is_ident(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c >= 0x80
}

impl<'s> Lexer<'s> {
    /// Starts at line 1. A byte order mark and a first line that starts with `#` are skipped.
    pub fn new(source: &'s [u8], chunkname: &'s [u8], options: SyntaxOptions) -> Lexer<'s> {
        let pos = source.len() - super::skip_file_prelude(source).len();
        Lexer { source, pos, line: 1, chunkname, options, strings: StrPool::default(), buf: Vec::new() }
    }

    /// Line of the last byte read.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Chunk name as given.
    pub fn chunkname(&self) -> &'s [u8] {
        self.chunkname
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.source.get(self.pos + ahead).copied()
    }

    fn lexeme(&self, token: Token, start: usize) -> Lexeme {
        Lexeme { token, payload: Payload::None, start, end: self.pos, line: self.line }
    }

    /// Reads the next token.
    pub fn next_token(&mut self) -> Result<Lexeme> {
        loop {
            let start = self.pos;
            let Some(c) = self.peek(0) else { return Ok(self.lexeme(Token::Eof, start)) };
            match c {
                b'\n' | b'\r' => self.newline(),
                b' ' | b'\t' | 0x0b | 0x0c => self.pos += 1,
                b'-' if self.peek(1) == Some(b'-') => {
                    self.pos += 2;
                    self.comment()?;
                }
                b'[' if matches!(self.peek(1), Some(b'[' | b'=')) => {
                    let level = self.long_bracket_level(b'[');
                    let Some(level) = level else {
                        self.buf.clear();
                        while self.peek(0) == Some(b'=') || self.pos == start {
                            self.pos += 1;
                        }
                        let text = self.source[start..self.pos].to_vec();
                        return Err(self.error("invalid long string delimiter", Some(&text)));
                    };
                    self.long_text(level, true)?;
                    let id = self.strings.intern(&self.buf[level + 2..self.buf.len() - level - 2]);
                    return Ok(Lexeme { payload: Payload::Str(id), ..self.lexeme(Token::String, start) });
                }
                b'"' | b'\'' => {
                    self.short_string(c)?;
                    let id = self.strings.intern(&self.buf[1..self.buf.len() - 1]);
                    return Ok(Lexeme { payload: Payload::Str(id), ..self.lexeme(Token::String, start) });
                }
                b'0'..=b'9' => return self.number(),
                b'.' if self.peek(1).is_some_and(|d| d.is_ascii_digit()) => return self.number(),
                _ => {
                    if let Some(token) = LONE[c as usize] {
                        self.pos += 1;
                        return Ok(self.lexeme(token, start));
                    }
                    return Ok(self.word_or_symbol(start));
                }
            }
        }
    }

    fn word_or_symbol(&mut self, start: usize) -> Lexeme {
        let mut automaton = Token::lexer(&self.source[start..]);
        let token = match automaton.next() {
            Some(Ok(token)) => token,
            _ => Token::Other(self.source[start]),
        };
        let mut len = automaton.span().end.max(1);
        let mut token = token;
        if let Token::Other(_) = token {
            len = 1;
        } else if token.is_extension() && !self.options.extensions {
            // Plain Lua cuts the first byte off and looks again.
            let (t, l) = match token {
                Token::ConcatEq => (Token::Concat, 2),
                Token::PlusEq => (Token::Plus, 1),
                Token::MinusEq | Token::Arrow => (Token::Minus, 1),
                Token::StarEq => (Token::Star, 1),
                Token::SlashEq => (Token::Slash, 1),
                Token::PercentEq => (Token::Percent, 1),
                Token::Shl | Token::ShlEq => (Token::Lt, 1),
                Token::Shr | Token::ShrEq => (Token::Gt, 1),
                _ => (Token::Other(self.source[start]), 1),
            };
            (token, len) = (t, l);
        }
        self.pos = start + len;
        let payload = match token {
            Token::Name => Payload::Str(self.strings.intern(&self.source[start..self.pos])),
            // May serve as a name.
            Token::Goto => Payload::Str(self.strings.intern(b"goto")),
            _ => Payload::None,
        };
        Lexeme { payload, ..self.lexeme(token, start) }
    }

    /// Skips one line end: `\n`, `\r`, `\r\n` or `\n\r`.
    fn newline(&mut self) {
        let first = self.peek(0);
        self.pos += 1;
        if let Some(second @ (b'\n' | b'\r')) = self.peek(0)
            && Some(second) != first
        {
            self.pos += 1;
        }
        self.line += 1;
    }

    fn comment(&mut self) -> Result<()> {
        if self.peek(0) == Some(b'[')
            && let Some(level) = self.long_bracket_level(b'[')
        {
            return self.long_text(level, false);
        }
        let rest = &self.source[self.pos..];
        self.pos += memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        Ok(())
    }

    /// At a bracket: the number of `=` up to the matching bracket, if there is one.
    fn long_bracket_level(&self, bracket: u8) -> Option<usize> {
        let mut level = 0;
        while self.peek(1 + level) == Some(b'=') {
            level += 1;
        }
        (self.peek(1 + level) == Some(bracket) && level < LONG_LEVEL_MAX).then_some(level)
    }

    /// Reads a long string (kept, with its brackets, in `buf`) or a long comment.
    fn long_text(&mut self, level: usize, is_string: bool) -> Result<()> {
        self.buf.clear();
        self.buf.extend_from_slice(&self.source[self.pos..self.pos + level + 2]);
        self.pos += level + 2;
        if matches!(self.peek(0), Some(b'\n' | b'\r')) {
            self.newline();
        }
        loop {
            let rest = &self.source[self.pos..];
            let plain = memchr::memchr3(b']', b'\n', b'\r', rest).unwrap_or(rest.len());
            if is_string {
                self.buf.extend_from_slice(&rest[..plain]);
            }
            self.pos += plain;
            match self.peek(0) {
                None => {
                    let what = if is_string { "unfinished long string" } else { "unfinished long comment" };
                    return Err(self.error(what, Some(b"<eof>")));
                }
                Some(b']') => {
                    if self.long_bracket_level(b']') == Some(level) {
                        self.buf.extend_from_slice(&self.source[self.pos..self.pos + level + 2]);
                        self.pos += level + 2;
                        return Ok(());
                    }
                    if is_string {
                        self.buf.push(b']');
                    }
                    self.pos += 1;
                }
                Some(_) => {
                    self.newline();
                    if is_string {
                        self.buf.push(b'\n');
                    }
                }
            }
        }
    }

    /// Reads a quoted string into `buf`, quotes included.
    fn short_string(&mut self, quote: u8) -> Result<()> {
        self.buf.clear();
        self.buf.push(quote);
        self.pos += 1;
        loop {
            let Some(c) = self.peek(0) else {
                return Err(self.error("unfinished string", Some(b"<eof>")));
            };
            match c {
                b'\n' | b'\r' => {
                    let text = std::mem::take(&mut self.buf);
                    return Err(self.error("unfinished string", Some(&text)));
                }
                b'\\' => {
                    self.pos += 1;
                    self.escape()?;
                }
                _ => {
                    self.buf.push(c);
                    self.pos += 1;
                    if c == quote {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn escape(&mut self) -> Result<()> {
        // At the end of the source the caller reports the unfinished string.
        let Some(c) = self.peek(0) else { return Ok(()) };
        let plain = match c {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'"' | b'\'' => c,
            b'\n' | b'\r' => {
                self.buf.push(b'\n');
                self.newline();
                return Ok(());
            }
            b'x' => {
                let (Some(hi), Some(lo)) = (self.hex_digit(1), self.hex_digit(2)) else {
                    return Err(self.bad_escape());
                };
                self.buf.push((hi << 4 | lo) as u8);
                self.pos += 3;
                return Ok(());
            }
            b'z' => {
                self.pos += 1;
                while let Some(c) = self.peek(0) {
                    match c {
                        b'\n' | b'\r' => self.newline(),
                        b' ' | b'\t' | 0x0b | 0x0c => self.pos += 1,
                        _ => break,
                    }
                }
                return Ok(());
            }
            b'u' => return self.unicode_escape(),
            b'0'..=b'9' => {
                let mut v = 0u32;
                let mut n = 0;
                while n < 3
                    && let Some(d @ b'0'..=b'9') = self.peek(n)
                {
                    v = v * 10 + (d - b'0') as u32;
                    n += 1;
                }
                if v > 255 {
                    return Err(self.bad_escape());
                }
                self.buf.push(v as u8);
                self.pos += n;
                return Ok(());
            }
            _ => return Err(self.bad_escape()),
        };
        self.buf.push(plain);
        self.pos += 1;
        Ok(())
    }

    fn hex_digit(&self, ahead: usize) -> Option<u32> {
        (self.peek(ahead)? as char).to_digit(16)
    }

    fn unicode_escape(&mut self) -> Result<()> {
        if self.peek(1) != Some(b'{') {
            return Err(self.bad_escape());
        }
        let mut n = 2;
        let mut code = 0u32;
        while let Some(d) = self.hex_digit(n) {
            code = code << 4 | d;
            if code >= 0x11_0000 {
                return Err(self.bad_escape());
            }
            n += 1;
        }
        // Surrogates are no characters.
        let Some(ch) = char::from_u32(code).filter(|_| n > 2 && self.peek(n) == Some(b'}')) else {
            return Err(self.bad_escape());
        };
        self.buf.extend_from_slice(ch.encode_utf8(&mut [0; 4]).as_bytes());
        self.pos += n + 1;
        Ok(())
    }

    fn bad_escape(&mut self) -> Box<SyntaxError> {
        let text = std::mem::take(&mut self.buf);
        self.error("invalid escape sequence", Some(&text))
    }

    fn number(&mut self) -> Result<Lexeme> {
        let start = self.pos;
        // Also behind a point, where it is wrong all the same.
        let point = (self.peek(0) == Some(b'.')) as usize;
        let hex = self.peek(point) == Some(b'0') && self.peek(point + 1).is_some_and(|c| c | 0x20 == b'x');
        let marker = if hex { b'p' } else { b'e' };
        let mut last = 0;
        while let Some(c) = self.peek(0) {
            if !(is_ident(c) || c == b'.' || (c == b'+' || c == b'-') && last | 0x20 == marker) {
                break;
            }
            // A concatenation operator may follow a number only after a blank, as in Lua.
            last = c;
            self.pos += 1;
        }
        let text = &self.source[start..self.pos];
        let digits: std::borrow::Cow<[u8]> = if self.options.extensions && text.contains(&b'_') {
            text.iter().copied().filter(|&c| c != b'_').collect::<Vec<u8>>().into()
        } else {
            text.into()
        };
        match number::literal(&digits) {
            Some(v) => Ok(Lexeme { payload: Payload::Number(v), ..self.lexeme(Token::Number, start) }),
            None => Err(self.error("malformed number", Some(&digits))),
        }
    }

    /// An error at the current line.
    pub fn error(&self, text: &str, near: Option<&[u8]>) -> Box<SyntaxError> {
        let mut e = SyntaxError::new(self.chunkname, self.line, text.as_bytes(), near);
        e.inside = self.pos < self.source.len();
        e
    }

    /// How messages show a token: its own text for names and numbers, the processed contents
    /// within their delimiters for strings.
    pub fn show(&self, lexeme: &Lexeme) -> Vec<u8> {
        let raw = &self.source[lexeme.start..lexeme.end];
        match (lexeme.token, lexeme.payload) {
            (Token::String, Payload::Str(id)) => {
                let delimiter = match raw {
                    [b'[', rest @ ..] => 2 + rest.iter().take_while(|&&c| c == b'=').count(),
                    _ => 1,
                };
                let mut out = raw[..delimiter].to_vec();
                out.extend_from_slice(self.strings.get(id));
                out.extend_from_slice(&raw[raw.len() - delimiter..]);
                out
            }
            (Token::Name | Token::Number, _) => raw.to_vec(),
            (Token::Other(c), _) if c < b' ' || c == 0x7f => format!("char({c})").into_bytes(),
            (Token::Other(c), _) => vec![c],
            (token, _) => {
                let text = token.text().unwrap_or("").as_bytes();
                // A compound assignment is shown as its operator.
                let compare: [&[u8]; 6] = [b"=", b"==", b"~=", b"<=", b">=", b"!="];
                match text {
                    [operator @ .., b'='] if !compare.contains(&text) => operator.to_vec(),
                    _ => text.to_vec(),
                }
            }
        }
    }
}
