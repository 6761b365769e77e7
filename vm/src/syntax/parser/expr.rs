//! Expressions.

use super::*;
use crate::syntax::number::Literal;

/// Priority with which a binary operator binds to its left and right operand.
fn priority(op: BinOp) -> (u8, u8) {
    match op {
        BinOp::Or | BinOp::Coalesce => (1, 1),
        BinOp::And => (2, 2),
        BinOp::Ne | BinOp::Eq | BinOp::Lt | BinOp::Ge | BinOp::Le | BinOp::Gt => (3, 3),
        BinOp::BitOr => (4, 4),
        BinOp::BitXor => (5, 5),
        BinOp::BitAnd => (6, 6),
        BinOp::Shl | BinOp::Shr | BinOp::Sar => (7, 7),
        BinOp::Concat => (9, 8),
        BinOp::Add | BinOp::Sub => (10, 10),
        BinOp::Mul | BinOp::Div | BinOp::Mod => (11, 11),
        BinOp::Pow => (14, 13),
    }
}

/// Priority of unary operators.
const UNARY_PRIORITY: u8 = 12;

fn binary_operator(token: Token) -> Option<BinOp> {
    Some(match token {
        Token::Plus => BinOp::Add,
        Token::Minus => BinOp::Sub,
        Token::Star => BinOp::Mul,
        Token::Slash => BinOp::Div,
        Token::Percent => BinOp::Mod,
        Token::Caret => BinOp::Pow,
        Token::Concat => BinOp::Concat,
        Token::Ne | Token::BangEq => BinOp::Ne,
        Token::EqEq => BinOp::Eq,
        Token::Lt => BinOp::Lt,
        Token::Le => BinOp::Le,
        Token::Gt => BinOp::Gt,
        Token::Ge => BinOp::Ge,
        Token::And | Token::AmpAmp => BinOp::And,
        Token::Or | Token::PipePipe => BinOp::Or,
        Token::QuestionQuestion => BinOp::Coalesce,
        Token::Amp => BinOp::BitAnd,
        Token::Pipe => BinOp::BitOr,
        Token::Tilde => BinOp::BitXor,
        Token::Shl => BinOp::Shl,
        Token::Shr => BinOp::Shr,
        Token::Sar => BinOp::Sar,
        _ => return None,
    })
}

impl Parser<'_> {
    /// A whole expression.
    pub(super) fn expr(&mut self) -> Result<ExprId> {
        let cond = self.binary(0)?;
        if !self.at(Token::Question) {
            return Ok(cond);
        }
        self.enter()?;
        self.advance()?;
        let outer = std::mem::replace(&mut self.in_conditional, true);
        let yes = self.expr()?;
        self.in_conditional = outer;
        self.expect(Token::Colon)?;
        let no = self.expr()?;
        self.leave();
        Ok(self.push(ExprKind::Conditional { cond, yes, no }))
    }

    /// Something inside brackets of its own, where a colon is a method call again.
    fn bracketed<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let outer = std::mem::replace(&mut self.in_conditional, false);
        let result = parse(self)?;
        self.in_conditional = outer;
        Ok(result)
    }

    /// One or more expressions separated by commas.
    pub(super) fn expr_list(&mut self) -> Result<List<ExprId>> {
        let first = self.open_exprs.len();
        let e = self.expr()?;
        self.open_exprs.push(e);
        while self.accept(Token::Comma)? {
            let e = self.expr()?;
            self.open_exprs.push(e);
        }
        Ok(List::append(&mut self.tree.expr_lists, self.open_exprs.drain(first..)))
    }

    /// Operators that bind tighter than `limit`.
    fn binary(&mut self, limit: u8) -> Result<ExprId> {
        self.enter()?;
        let mut lhs = self.unary()?;
        while let Some(op) = binary_operator(self.cur.token) {
            let (left, right) = priority(op);
            if left <= limit {
                break;
            }
            let op_tok = self.idx;
            self.advance()?;
            let rhs = self.binary(right)?;
            lhs = self.push(ExprKind::Binary { op, op_tok, lhs, rhs });
        }
        self.leave();
        Ok(lhs)
    }

    fn unary(&mut self) -> Result<ExprId> {
        let op = match self.cur.token {
            Token::Not | Token::Bang => UnOp::Not,
            Token::Minus => UnOp::Neg,
            Token::Hash => UnOp::Len,
            Token::Tilde => UnOp::BitNot,
            _ => return self.simple(),
        };
        self.advance()?;
        let operand = self.binary(UNARY_PRIORITY)?;
        Ok(self.push(ExprKind::Unary { op, operand }))
    }

    fn simple(&mut self) -> Result<ExprId> {
        let kind = match (self.cur.token, self.cur.payload) {
            (Token::Number, Payload::Number(value)) => match value {
                Literal::Num(n) => ExprKind::Number(n),
                Literal::Int64(n) => ExprKind::Int64(n),
                Literal::UInt64(n) => ExprKind::UInt64(n),
                Literal::Imag(n) => ExprKind::Imag(n),
            },
            (Token::String, Payload::Str(id)) => ExprKind::Str(id),
            (Token::Nil, _) => ExprKind::Nil,
            (Token::True, _) => ExprKind::True,
            (Token::False, _) => ExprKind::False,
            (Token::Dots, _) => {
                if !self.vararg {
                    return Err(self.error_near("cannot use '...' outside a vararg function"));
                }
                ExprKind::Vararg
            }
            (Token::LBrace, _) => return self.table(),
            (Token::Function, _) => {
                self.advance()?;
                let line = self.cur.line;
                let func = self.function_body(line, false)?;
                return Ok(self.push(ExprKind::Function(func)));
            }
            (Token::Pipe | Token::PipePipe, _) => return self.short_function(),
            (Token::Name | Token::Goto, Payload::Str(id)) if self.options.extensions && self.at_name() => {
                let line = self.cur.line;
                self.advance()?;
                if self.at(Token::Arrow) {
                    let params = List::append(&mut self.tree.name_lists, [id]);
                    return self.short_body(params, false, line);
                }
                let base = self.push(ExprKind::Name(id));
                return self.suffixes(base, true);
            }
            _ => return self.primary(),
        };
        self.advance()?;
        Ok(self.push(kind))
    }

    /// A name or parenthesised expression with indexing and calls.
    pub(super) fn primary(&mut self) -> Result<ExprId> {
        self.primary_with(true)
    }

    /// The same; without `navigation` it ends before a `?.` of its own.
    pub(super) fn primary_with(&mut self, navigation: bool) -> Result<ExprId> {
        let base = if self.at(Token::LParen) {
            let line = self.cur.line;
            self.advance()?;
            let inner = self.bracketed(Self::expr)?;
            self.expect_match(Token::RParen, Token::LParen, line)?;
            self.push(ExprKind::Paren(inner))
        } else if self.at_name() {
            let name = self.name()?;
            self.push(ExprKind::Name(name))
        } else if self.failed.is_some() {
            // The condition of a `repeat` whose body was not whole.
            return Ok(self.push(ExprKind::Nil));
        } else {
            return Err(self.error_near("unexpected symbol"));
        };
        self.suffixes(base, navigation)
    }

    fn suffixes(&mut self, base: ExprId, navigation: bool) -> Result<ExprId> {
        let first = self.open_suffixes.len();
        loop {
            let start = self.idx;
            let safe = navigation && self.at(Token::QuestionDot);
            let kind = if safe {
                self.advance()?;
                match self.cur.token {
                    Token::LBracket => SuffixKind::Index(self.bracket_key()?),
                    Token::Colon => self.method()?,
                    Token::LParen | Token::String | Token::LBrace => SuffixKind::Call(self.args()?),
                    _ => SuffixKind::Field(self.name()?),
                }
            } else {
                match self.cur.token {
                    Token::Dot => {
                        self.advance()?;
                        SuffixKind::Field(self.name()?)
                    }
                    Token::LBracket => SuffixKind::Index(self.bracket_key()?),
                    Token::Colon if !self.in_conditional => self.method()?,
                    Token::LParen | Token::String | Token::LBrace => SuffixKind::Call(self.args()?),
                    _ => break,
                }
            };
            let end = self.last();
            self.open_suffixes.push(Suffix { kind, safe, start, end });
        }
        if self.open_suffixes.len() == first {
            return Ok(base);
        }
        let suffixes = List::append(&mut self.tree.suffixes, self.open_suffixes.drain(first..));
        Ok(self.push(ExprKind::Suffixed { base, suffixes }))
    }

    /// `.name` in the name of a function statement.
    pub(super) fn field_suffix(&mut self) -> Result<Suffix> {
        let start = self.idx;
        self.advance()?;
        let name = self.name()?;
        Ok(Suffix { kind: SuffixKind::Field(name), safe: false, start, end: self.last() })
    }

    /// Makes a suffixed expression of parts.
    pub(super) fn suffixed(&mut self, base: ExprId, list: Vec<Suffix>) -> ExprId {
        if list.is_empty() {
            return base;
        }
        let suffixes = List::append(&mut self.tree.suffixes, list);
        self.push(ExprKind::Suffixed { base, suffixes })
    }

    /// `[key]`
    fn bracket_key(&mut self) -> Result<ExprId> {
        self.advance()?;
        let key = self.bracketed(Self::expr)?;
        self.expect(Token::RBracket)?;
        Ok(key)
    }

    fn method(&mut self) -> Result<SuffixKind> {
        self.advance()?;
        let name_tok = self.idx;
        let name = self.name()?;
        let safe = self.accept(Token::QuestionDot)?;
        let args = self.args()?;
        Ok(SuffixKind::Method { name, name_tok, safe, args })
    }

    fn args(&mut self) -> Result<Args> {
        let open = self.idx;
        let line = self.cur.line;
        match self.cur.token {
            Token::LParen => {
                if !self.options.compat52 && open > 0 && self.tree.lines.get(open - 1) != line {
                    return Err(self.error_near("ambiguous syntax (function call x new statement)"));
                }
                self.advance()?;
                let list =
                    if self.at(Token::RParen) { List::EMPTY } else { self.bracketed(Self::expr_list)? };
                self.expect_match(Token::RParen, Token::LParen, line)?;
                Ok(Args { list, open })
            }
            Token::LBrace => {
                let table = self.table()?;
                Ok(Args { list: List::append(&mut self.tree.expr_lists, [table]), open })
            }
            Token::String => {
                let string = self.simple()?;
                Ok(Args { list: List::append(&mut self.tree.expr_lists, [string]), open })
            }
            _ => Err(self.error_near("function arguments expected")),
        }
    }

    fn table(&mut self) -> Result<ExprId> {
        let open = self.idx;
        let line = self.cur.line;
        let first = self.open_fields.len();
        self.advance()?;
        let outer = std::mem::replace(&mut self.in_conditional, false);
        while !self.at(Token::RBrace) {
            let key = if self.at(Token::LBracket) {
                let key = self.bracket_key()?;
                self.expect(Token::Assign)?;
                FieldKey::Expr(key)
            } else if self.at_name() && self.peek_moving_line()? == Token::Assign {
                let place = self.idx;
                let name = self.name()?;
                self.expect(Token::Assign)?;
                FieldKey::Name(name, place)
            } else {
                FieldKey::Position
            };
            let value = self.expr()?;
            self.open_fields.push(Field { key, value, end: self.idx });
            if !self.accept(Token::Comma)? && !self.accept(Token::Semicolon)? {
                break;
            }
        }
        self.in_conditional = outer;
        self.expect_match(Token::RBrace, Token::LBrace, line)?;
        let fields = List::append(&mut self.tree.fields, self.open_fields.drain(first..));
        Ok(self.push(ExprKind::Table { fields, open }))
    }

    // -- Functions.

    /// Parameters and body, up to and with `end`.
    pub(super) fn function_body(&mut self, line: u32, is_method: bool) -> Result<FuncId> {
        self.expect(Token::LParen)?;
        let (mut params, mut is_vararg) = (List::EMPTY, false);
        if !self.at(Token::RParen) {
            (params, is_vararg) = self.parameters()?;
        }
        self.expect(Token::RParen)?;
        self.function_block(params, is_method, is_vararg, line)
    }

    /// The parameters' names, and whether there is a `...`.
    fn parameters(&mut self) -> Result<(List<StrId>, bool)> {
        // Nothing else is named in between: they go to their pool at once.
        let first = self.tree.name_lists.len();
        let is_vararg = loop {
            if self.at_name() {
                let name = self.name()?;
                self.tree.name_lists.push(name);
            } else if self.accept(Token::Dots)? {
                break true;
            } else {
                return Err(self.error_near("<name> or '...' expected"));
            }
            if !self.accept(Token::Comma)? {
                break false;
            }
        };
        Ok((List::since(&self.tree.name_lists, first), is_vararg))
    }

    /// Statements up to and with `end`.
    fn function_block(
        &mut self,
        params: List<StrId>,
        is_method: bool,
        is_vararg: bool,
        line: u32,
    ) -> Result<FuncId> {
        let head_end = self.last();
        let outer_vararg = std::mem::replace(&mut self.vararg, is_vararg);
        let outer_line = std::mem::replace(&mut self.func_line, line);
        let body = self.bracketed(Self::block)?;
        self.vararg = outer_vararg;
        self.func_line = outer_line;
        let end = self.idx;
        self.expect_match(Token::End, Token::Function, line)?;
        Ok(self.push_func(Func {
            params,
            is_method,
            is_vararg,
            body,
            line,
            head_end,
            is_expr: false,
            end,
            truncated: false,
        }))
    }

    fn push_func(&mut self, func: Func) -> FuncId {
        self.tree.funcs.push(Func { truncated: self.failed.is_some(), ..func });
        FuncId(self.tree.funcs.len() as u32 - 1)
    }

    /// `|a, b| -> body` or `|| -> body`
    fn short_function(&mut self) -> Result<ExprId> {
        let line = self.cur.line;
        let (mut params, mut is_vararg) = (List::EMPTY, false);
        if !self.accept(Token::PipePipe)? {
            self.advance()?;
            if !self.at(Token::Pipe) {
                (params, is_vararg) = self.parameters()?;
            }
            self.expect(Token::Pipe)?;
        }
        if !self.at(Token::Arrow) {
            return Err(self.expected(Token::Arrow));
        }
        self.short_body(params, is_vararg, line)
    }

    /// `-> expr` or `-> do ... end`
    fn short_body(&mut self, params: List<StrId>, is_vararg: bool, line: u32) -> Result<ExprId> {
        self.advance()?;
        if self.at(Token::Do) {
            self.advance()?;
            let func = self.function_block(params, false, is_vararg, line)?;
            return Ok(self.push(ExprKind::Function(func)));
        }
        let head_end = self.last();
        let start = self.idx;
        let outer_vararg = std::mem::replace(&mut self.vararg, is_vararg);
        let value = self.expr()?;
        self.vararg = outer_vararg;
        let end = self.last();
        let values = List::append(&mut self.tree.expr_lists, [value]);
        let stat = Stat { kind: StatKind::Return(values), start, end, next: end };
        let body = Block { stats: List::append(&mut self.tree.stats, [stat]) };
        let func = self.push_func(Func {
            params,
            is_method: false,
            is_vararg,
            body,
            line,
            head_end,
            is_expr: true,
            truncated: false,
            end,
        });
        Ok(self.push(ExprKind::Function(func)))
    }
}
