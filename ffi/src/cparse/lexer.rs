//! Tokens of C declarations.
//!
//! Knows no grammar beyond the shape of tokens. Works on bytes: identifiers may contain any byte above 0x7f.

use logos::{FilterResult, Lexer as Logos, Logos as _};

use super::error::{CdeclError, text};

/// Why a token could not be formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum LexError {
    /// A byte that begins no token.
    #[default]
    Stray,
    /// A string or character constant without an end.
    Unfinished,
    /// A backslash followed by something unknown.
    Escape,
}

/// Kind of a token.
#[derive(logos::Logos, Clone, Copy, PartialEq, Eq, Debug)]
#[logos(utf8 = false)]
#[logos(error = LexError)]
#[logos(skip r"[ \t\r\n\x0b\x0c]+")]
#[logos(skip r"\\\r?\n")]
pub enum Token {
    /// `/* ... */`, skipped; without an end it reaches to the end of the source
    #[token("/*", skip_block)]
    #[token("//", skip_line)]
    Comment,
    /// An identifier or keyword
    #[regex(r"(?-u:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)")]
    Ident,
    /// An integer, not yet checked
    #[regex(r"(?-u:[0-9][A-Za-z0-9_\x80-\xff]*)")]
    Integer,
    /// `"..."` as written, quotes included
    #[token("\"", quoted)]
    Str,
    /// `'...'` as written, quotes included
    #[token("'", quoted)]
    Char,
    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token(",")]
    Comma,
    #[token(";")]
    Semicolon,
    #[token(":")]
    Colon,
    #[token("?")]
    Question,
    #[token(".")]
    Dot,
    #[token("->")]
    Arrow,
    #[token("*")]
    Star,
    #[token("&")]
    Amp,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("~")]
    Tilde,
    #[token("!")]
    Bang,
    #[token("^")]
    Caret,
    #[token("|")]
    Pipe,
    #[token("=")]
    Assign,
    #[token("<")]
    Less,
    #[token(">")]
    Greater,
    #[token("<<")]
    Shl,
    #[token(">>")]
    Shr,
    #[token("<=")]
    LessEqual,
    #[token(">=")]
    GreaterEqual,
    #[token("==")]
    Equal,
    #[token("!=")]
    NotEqual,
    #[token("&&")]
    AndAnd,
    #[token("||")]
    OrOr,
    #[token("$")]
    Dollar,
    #[token("#")]
    Hash,
    /// A byte with no meaning here; the grammar refuses it where it stands
    Stray,
    /// The end of the source
    Eof,
}

fn skip_block(lex: &mut Logos<'_, Token>) -> FilterResult<(), LexError> {
    let rest = lex.remainder();
    let n = rest.windows(2).position(|w| w == b"*/").map_or(rest.len(), |i| i + 2);
    lex.bump(n);
    FilterResult::Skip
}

fn skip_line(lex: &mut Logos<'_, Token>) -> FilterResult<(), LexError> {
    let rest = lex.remainder();
    let n = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
    lex.bump(n);
    FilterResult::Skip
}

fn quoted(lex: &mut Logos<'_, Token>) -> Result<(), LexError> {
    let quote = lex.slice()[0];
    let rest = lex.remainder();
    let mut i = 0;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b if b == quote => {
                lex.bump(i + 1);
                return Ok(());
            }
            _ => i += 1,
        }
    }
    lex.bump(rest.len());
    Err(LexError::Unfinished)
}

/// A token reader with one token in hand.
pub struct Lexer<'s> {
    source: &'s [u8],
    inner: Logos<'s, Token>,
    /// Kind of the current token.
    pub token: Token,
    start: usize,
    end: usize,
    /// Line of the current token, from 1.
    pub line: u32,
    counted_to: usize,
}

impl<'s> Lexer<'s> {
    /// A reader that stands on the first token of `source`.
    pub fn new(source: &'s [u8]) -> Result<Lexer<'s>, CdeclError> {
        let mut lexer = Lexer {
            source,
            inner: Token::lexer(source),
            token: Token::Eof,
            start: 0,
            end: 0,
            line: 1,
            counted_to: 0,
        };
        lexer.advance()?;
        Ok(lexer)
    }

    /// Goes to the next token.
    pub fn advance(&mut self) -> Result<(), CdeclError> {
        let next = self.inner.next();
        let span = self.inner.span();
        (self.start, self.end) =
            if next.is_none() { (self.source.len(), self.source.len()) } else { (span.start, span.end) };
        let newlines = self.source[self.counted_to..self.start].iter().filter(|&&b| b == b'\n').count();
        self.line += newlines as u32;
        self.counted_to = self.start;
        self.token = match next {
            None => Token::Eof,
            Some(Ok(token)) => token,
            Some(Err(LexError::Stray)) => Token::Stray,
            Some(Err(LexError::Unfinished)) => {
                return Err(CdeclError {
                    message: text::UNFINISHED_STRING.to_owned(),
                    near: Some(b"<eof>".to_vec()),
                    line: self.line,
                    offset: self.start,
                });
            }
            Some(Err(LexError::Escape)) => Token::Stray,
        };
        Ok(())
    }

    /// Text of the current token as written.
    pub fn slice(&self) -> &'s [u8] {
        &self.source[self.start..self.end]
    }

    /// Byte offset of the current token.
    pub fn offset(&self) -> usize {
        self.start
    }

    /// The current token as error messages show it.
    pub fn shown(&self) -> Vec<u8> {
        match self.token {
            Token::Eof => b"<eof>".to_vec(),
            Token::Str | Token::Char => {
                let slice = self.slice();
                unescape(&slice[1..slice.len() - 1]).unwrap_or_else(|_| slice.to_vec())
            }
            _ => self.slice().to_vec(),
        }
    }
}

/// Decodes the inside of a string or character constant.
pub fn unescape(body: &[u8]) -> Result<Vec<u8>, LexError> {
    let mut out = Vec::with_capacity(body.len());
    let mut i = 0;
    while i < body.len() {
        let b = body[i];
        i += 1;
        if b != b'\\' {
            out.push(b);
            continue;
        }
        let Some(&b) = body.get(i) else { return Err(LexError::Escape) };
        i += 1;
        match b {
            b'a' => out.push(7),
            b'b' => out.push(8),
            b't' => out.push(9),
            b'n' => out.push(10),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'r' => out.push(13),
            b'e' => out.push(27),
            b'x' => {
                let mut value = 0u32;
                while let Some(digit) = body.get(i).and_then(|&d| (d as char).to_digit(16)) {
                    value = (value << 4 | digit) & 0xff;
                    i += 1;
                }
                out.push(value as u8);
            }
            b'0'..=b'7' => {
                let mut value = u32::from(b - b'0');
                let end = (i + 2).min(body.len());
                while i < end && (b'0'..=b'7').contains(&body[i]) {
                    value = value * 8 + u32::from(body[i] - b'0');
                    i += 1;
                }
                out.push(value as u8);
            }
            b'\n' => {}
            other => out.push(other),
        }
    }
    Ok(out)
}

/// The value of an integer token: `(bits, unsigned)`. Only 32-bit values exist in declarations.
pub fn integer(slice: &[u8]) -> Option<(u32, bool)> {
    let digits_end = slice.iter().rposition(|b| !matches!(b, b'u' | b'U' | b'l' | b'L')).map_or(0, |i| i + 1);
    let (digits, suffix) = slice.split_at(digits_end);
    let unsigned_marks = suffix.iter().filter(|b| matches!(b, b'u' | b'U')).count();
    if unsigned_marks > 1 || suffix.len() - unsigned_marks > 2 {
        return None;
    }
    let (radix, digits) = match digits {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', b'b' | b'B', rest @ ..] => (2, rest),
        [b'0', rest @ ..] if !rest.is_empty() => (8, rest),
        _ => (10, digits),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &b in digits {
        let digit = (b as char).to_digit(radix)?;
        value = value * u64::from(radix) + u64::from(digit);
        if value > u64::from(u32::MAX) {
            return None;
        }
    }
    Some((value as u32, unsigned_marks > 0 || value > i32::MAX as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(source: &[u8]) -> Vec<Token> {
        let mut lexer = Lexer::new(source).expect("tokens");
        let mut out = Vec::new();
        while lexer.token != Token::Eof {
            out.push(lexer.token);
            lexer.advance().expect("tokens");
        }
        out
    }

    #[test]
    fn comments_and_line_continuations_vanish() {
        use Token::*;
        assert_eq!(
            tokens(b"int /* * / */ a; // rest\n b\\\n c /* open"),
            [Ident, Ident, Semicolon, Ident, Ident]
        );
    }

    #[test]
    fn lines_are_counted_inside_comments() {
        let mut lexer = Lexer::new(b"/*\n\n*/ a\nb").expect("tokens");
        assert_eq!(lexer.line, 3);
        lexer.advance().expect("tokens");
        assert_eq!(lexer.line, 4);
    }

    #[test]
    fn integers_have_c_bases_and_suffixes() {
        assert_eq!(integer(b"0x7fffffff"), Some((0x7fff_ffff, false)));
        assert_eq!(integer(b"4294967295"), Some((u32::MAX, true)));
        assert_eq!(integer(b"017u"), Some((15, true)));
        assert_eq!(integer(b"5LL"), Some((5, false)));
        assert_eq!(integer(b"4294967296"), None);
        assert_eq!(integer(b"09"), None);
        assert_eq!(integer(b"1x"), None);
        assert_eq!(integer(b"0x"), None);
    }

    #[test]
    fn stray_bytes_are_tokens_of_their_own() {
        assert_eq!(tokens(b"@ \x01"), [Token::Stray, Token::Stray]);
    }

    #[test]
    fn escapes_decode_as_in_c() {
        assert_eq!(unescape(b"a\\n\\x41\\101\\e").expect("valid"), b"a\nAA\x1b");
    }
}
