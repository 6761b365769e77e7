//! Colours for a line of Lua in the interactive mode. Knows tokens by their first bytes only: a wrong guess is a
//! wrong colour, nothing more.

use std::borrow::Cow;

use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::{Completer, Helper, Hinter, Validator};

/// Colours what is typed.
#[derive(Completer, Helper, Hinter, Validator)]
pub struct Colours;

impl Highlighter for Colours {
    fn highlight<'l>(&self, line: &'l str, _pos: usize) -> Cow<'l, str> {
        Cow::Owned(paint(line))
    }

    fn highlight_char(&self, _line: &str, _pos: usize, _kind: CmdKind) -> bool {
        true
    }
}

const KEYWORDS: &[&str] = &[
    "and", "break", "const", "continue", "do", "else", "elseif", "end", "false", "for", "function", "goto",
    "if", "in", "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

const KEYWORD: &str = "\x1b[34m";
const STRING: &str = "\x1b[32m";
const NUMBER: &str = "\x1b[36m";
const COMMENT: &str = "\x1b[90m";
const PLAIN: &str = "\x1b[0m";

/// The line with colours in it.
pub fn paint(line: &str) -> String {
    let mut out = String::with_capacity(line.len() * 2);
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let (len, colour) = token(rest, first);
        let (text, behind) = rest.split_at(len);
        match colour {
            Some(c) => {
                out.push_str(c);
                out.push_str(text);
                out.push_str(PLAIN);
            }
            None => out.push_str(text),
        }
        rest = behind;
    }
    out
}

/// Length and colour of the token at the start of `rest`.
fn token(rest: &str, first: char) -> (usize, Option<&'static str>) {
    let run = |ok: fn(char) -> bool| rest.find(|c| !ok(c)).unwrap_or(rest.len());
    match first {
        '-' if rest.starts_with("--") => (rest.len(), Some(COMMENT)),
        '"' | '\'' => {
            let mut escaped = false;
            for (i, c) in rest.char_indices().skip(1) {
                match c {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    _ if c == first => return (i + 1, Some(STRING)),
                    _ => {}
                }
            }
            (rest.len(), Some(STRING))
        }
        '[' if rest.starts_with("[[") => (rest.find("]]").map_or(rest.len(), |i| i + 2), Some(STRING)),
        '0'..='9' => (run(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_'), Some(NUMBER)),
        c if c.is_alphabetic() || c == '_' => {
            let len = run(|c| c.is_alphanumeric() || c == '_');
            (len, KEYWORDS.contains(&&rest[..len]).then_some(KEYWORD))
        }
        c => (c.len_utf8(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        [KEYWORD, STRING, NUMBER, COMMENT, PLAIN].iter().fold(text.to_string(), |t, c| t.replace(c, ""))
    }

    #[test]
    fn paint_changes_colours_only() {
        for line in ["local x = 'a\\'b' .. 1.5e3 -- c", "if \"open", "[[long]] é ünd", "x==[[", "-", ""] {
            assert_eq!(stripped(&paint(line)), line);
        }
    }

    #[test]
    fn paint_knows_words_from_names() {
        assert_eq!(paint("end"), format!("{KEYWORD}end{PLAIN}"));
        assert_eq!(paint("ending"), "ending");
    }
}
