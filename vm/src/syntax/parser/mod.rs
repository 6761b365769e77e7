//! Recursive descent over the tokens. Builds the tree and reports the first syntax error; what
//! needs scopes and registers is the compiler's. Depth is limited, so hostile input cannot overflow
//! the native stack.

mod expr;
mod stat;

use super::SyntaxOptions;
use super::ast::*;
use super::error::SyntaxError;
use super::lexer::{Lexeme, Lexer, Payload};
use super::token::Token;
use crate::limits::SYNTAX_LEVELS_MAX;

type Result<T> = std::result::Result<T, Box<SyntaxError>>;

/// Parser state.
struct Parser<'s> {
    lexer: Lexer<'s>,
    options: SyntaxOptions,
    /// Current token.
    cur: Lexeme,
    /// Number of the current token.
    idx: Tok,
    /// The token after it, if it was needed already.
    ahead: Option<Lexeme>,
    level: usize,
    /// The function being parsed takes `...`.
    vararg: bool,
    /// Line of its definition, 0 for the main chunk.
    func_line: u32,
    /// Between `?` and `:` a colon is not a method call.
    in_conditional: bool,
    /// Items of the lists that are being parsed, outermost first: they move to the pools when
    /// their list is complete.
    open_exprs: Vec<ExprId>,
    open_suffixes: Vec<Suffix>,
    open_fields: Vec<Field>,
    open_stats: Vec<Stat>,
    /// The tree so far, without the names, which the lexer has.
    tree: Ast,
    /// The first error: from there on every block ends where it stands.
    failed: Option<Box<SyntaxError>>,
}

/// Checks a chunk.
///
/// # Errors
/// The first syntax error.
pub fn check(source: &[u8], chunkname: &[u8], options: SyntaxOptions) -> Result<()> {
    let mut parsing = Parsing::start(source, chunkname, options, Ast::default())?;
    loop {
        match parsing.next(usize::MAX)? {
            Batch { failed: Some(e), .. } => return Err(e),
            Batch { end: Some(_), .. } => return Ok(()),
            _ => {}
        }
    }
}

/// A chunk that is parsed some of its outermost statements at a time.
pub struct Parsing<'s>(Parser<'s>);

/// Some outermost statements of a chunk.
pub struct Batch {
    /// They, in the tree.
    pub stats: Block,
    /// The last token of the chunk, when there are no more.
    pub end: Option<Tok>,
    /// The first syntax error. Then the tree has all whole statements before it, also those inside others: the
    /// compiler may find an earlier error among them.
    pub failed: Option<Box<SyntaxError>>,
}

impl<'s> Parsing<'s> {
    /// Begins with a chunk. `tree` is empty; its memory is used, and the names it knows already keep their numbers.
    ///
    /// # Errors
    /// The chunk's first bytes are no token.
    pub fn start(
        source: &'s [u8],
        chunkname: &'s [u8],
        options: SyntaxOptions,
        mut tree: Ast,
    ) -> Result<Parsing<'s>> {
        let mut lexer = Lexer::new(source, chunkname, options);
        lexer.strings = std::mem::take(&mut tree.strings);
        let cur = lexer.next_token()?;
        tree.lines.push(cur.line);
        let mut p = Parser {
            lexer,
            options,
            cur,
            idx: 0,
            ahead: None,
            level: 0,
            vararg: true,
            func_line: 0,
            in_conditional: false,
            open_exprs: Vec::new(),
            open_suffixes: Vec::new(),
            open_fields: Vec::new(),
            open_stats: Vec::new(),
            tree,
            failed: None,
        };
        p.enter()?;
        Ok(Parsing(p))
    }

    /// Parses statements until there are `nodes` nodes, or to the end. Those of the batch before are forgotten.
    ///
    /// # Errors
    /// An error of the lexer behind a whole statement.
    pub fn next(&mut self, nodes: usize) -> Result<Batch> {
        let p = &mut self.0;
        p.tree.clear_nodes();
        // A statement may ask for the token before it.
        p.tree.lines.forget_before(p.last());
        let (stats, more) = p.statements(nodes)?;
        if more {
            return Ok(Batch { stats, end: None, failed: None });
        }
        p.leave();
        if p.cur.token != Token::Eof && p.failed.is_none() {
            p.failed = Some(p.expected(Token::Eof));
        }
        Ok(Batch { stats, end: Some(p.idx), failed: p.failed.take() })
    }

    /// The tree with the names, for work on a batch.
    pub fn lend(&mut self) -> Ast {
        let mut tree = std::mem::take(&mut self.0.tree);
        tree.strings = std::mem::take(&mut self.0.lexer.strings);
        tree
    }

    /// Takes the tree back, to parse on.
    pub fn give_back(&mut self, mut tree: Ast) {
        self.0.lexer.strings = std::mem::take(&mut tree.strings);
        self.0.tree = tree;
    }
}

/// How messages show token number `tok`: for errors found after parsing. The source is read again.
pub fn show_token(source: &[u8], options: SyntaxOptions, tok: Tok) -> Vec<u8> {
    let mut lexer = Lexer::new(source, b"", options);
    let mut shown = b"<eof>".to_vec();
    for n in 0..=tok {
        let Ok(lexeme) = lexer.next_token() else { break };
        if n == tok || lexeme.token == Token::Eof {
            shown = lexer.show(&lexeme);
            break;
        }
    }
    shown
}

impl<'s> Parser<'s> {
    // -- Tokens.

    fn advance(&mut self) -> Result<()> {
        if self.failed.is_some() {
            return Ok(());
        }
        self.cur = match self.ahead.take() {
            Some(lexeme) => lexeme,
            None => self.lexer.next_token()?,
        };
        self.idx += 1;
        self.tree.lines.push(self.cur.line);
        Ok(())
    }

    /// The token after the current one.
    fn peek(&mut self) -> Result<Token> {
        if self.ahead.is_none() {
            self.ahead = Some(self.lexer.next_token()?);
        }
        Ok(self.ahead.as_ref().map_or(Token::Eof, |l| l.token))
    }

    /// [`Self::peek`] where the reference implementation looks ahead too: the current token then
    /// counts as standing on the line of the next one.
    fn peek_moving_line(&mut self) -> Result<Token> {
        let token = self.peek()?;
        if let Some(ahead) = &self.ahead {
            self.cur.line = ahead.line;
            self.tree.lines.set(self.idx, ahead.line);
        }
        Ok(token)
    }

    /// Number of the last consumed token.
    fn last(&self) -> Tok {
        self.idx.saturating_sub(1)
    }

    fn at(&self, token: Token) -> bool {
        self.cur.token == token
    }

    /// Consumes the token if it is the current one.
    fn accept(&mut self, token: Token) -> Result<bool> {
        if self.at(token) {
            self.advance()?;
            Ok(true)
        } else {
            Ok(false)
        }
    }

    fn expect(&mut self, token: Token) -> Result<()> {
        if self.accept(token)? || self.failed.is_some() { Ok(()) } else { Err(self.expected(token)) }
    }

    /// Expects the token that closes what `opener` opened on `line`.
    fn expect_match(&mut self, closer: Token, opener: Token, line: u32) -> Result<()> {
        if self.accept(closer)? || self.failed.is_some() {
            return Ok(());
        }
        if line == self.lexer.line() {
            return Err(self.expected(closer));
        }
        let (closer, opener) = (closer.text().unwrap_or(""), opener.text().unwrap_or(""));
        Err(self.error_near(&format!("'{closer}' expected (to close '{opener}' at line {line})")))
    }

    /// Whether the current token may serve as a name.
    fn at_name(&self) -> bool {
        self.at(Token::Name) || self.at(Token::Goto) && !self.options.compat52
    }

    /// Whether the token after the current one may serve as a name.
    fn peeks_name(&mut self, peek: fn(&mut Self) -> Result<Token>) -> Result<bool> {
        let next = peek(self)?;
        Ok(next == Token::Name || next == Token::Goto && !self.options.compat52)
    }

    fn name(&mut self) -> Result<StrId> {
        match self.cur.payload {
            Payload::Str(id) if self.at_name() => {
                self.advance()?;
                Ok(id)
            }
            _ => Err(self.expected(Token::Name)),
        }
    }

    /// Whether the current token is the name `word`.
    fn at_word(&self, word: &[u8]) -> bool {
        self.at(Token::Name)
            && matches!(self.cur.payload, Payload::Str(id) if self.lexer.strings.get(id) == word)
    }

    // -- Errors.

    fn error_near(&self, text: &str) -> Box<SyntaxError> {
        // A NUL byte has the number of "no token".
        if self.cur.token == Token::Other(0) {
            return self.lexer.error(text, None);
        }
        let near = self.lexer.show(&self.cur);
        self.lexer.error(text, Some(&near))
    }

    fn expected(&self, token: Token) -> Box<SyntaxError> {
        self.error_near(&format!("'{}' expected", token.text().unwrap_or("")))
    }

    /// Enters one level of nesting.
    fn enter(&mut self) -> Result<()> {
        self.level += 1;
        if self.level >= SYNTAX_LEVELS_MAX {
            return Err(self.too_deep());
        }
        Ok(())
    }

    fn too_deep(&self) -> Box<SyntaxError> {
        self.lexer.error("chunk has too many syntax levels", None)
    }

    fn leave(&mut self) {
        self.level -= 1;
    }

    /// How much of the open lists there is, and the nesting.
    fn open_marks(&self) -> [usize; 4] {
        [self.open_exprs.len(), self.open_suffixes.len(), self.open_fields.len(), self.level]
    }

    /// Keeps the first error, drops what was open beyond the marks, and ends every block here.
    fn fail(&mut self, e: Box<SyntaxError>, open: [usize; 4]) {
        self.failed.get_or_insert(e);
        self.open_exprs.truncate(open[0]);
        self.open_suffixes.truncate(open[1]);
        self.open_fields.truncate(open[2]);
        self.level = open[3];
        self.cur.token = Token::Eof;
        self.cur.payload = Payload::None;
        self.ahead = None;
    }

    // -- Nodes.

    fn push(&mut self, kind: ExprKind) -> ExprId {
        let end = self.last();
        self.tree.exprs.push(Expr { kind, end });
        ExprId(self.tree.exprs.len() as u32 - 1)
    }
}
