//! Statements.

use super::*;

impl Parser<'_> {
    /// Statements up to a token that ends a block.
    pub(super) fn block(&mut self) -> Result<Block> {
        self.enter()?;
        let (block, _) = self.statements(usize::MAX)?;
        self.leave();
        Ok(block)
    }

    /// Statements up to a token that ends a block, or until the tree has so many nodes; whether there may be more.
    pub(super) fn statements(&mut self, nodes: usize) -> Result<(Block, bool)> {
        let first = self.open_stats.len();
        let mut is_last = false;
        while !is_last && !self.at_block_end() && self.tree.nodes() < nodes {
            let open = self.open_marks();
            let done = self.open_stats.len();
            match self.statement() {
                Ok(last) => is_last = last,
                Err(e) => {
                    // The statement at hand is lost, those before it stay.
                    self.fail(e, open);
                    self.open_stats.truncate(done);
                    break;
                }
            }
            if self.accept(Token::Semicolon)? {
                let next = self.last();
                if let Some(stat) = self.open_stats[first..].last_mut() {
                    stat.next = next;
                }
            }
        }
        let more = !is_last && !self.at_block_end();
        Ok((Block { stats: List::append(&mut self.tree.stats, self.open_stats.drain(first..)) }, more))
    }

    fn at_block_end(&self) -> bool {
        ends_block(self.cur.token)
    }

    /// Parses one statement; true if it must be the last of its block.
    fn statement(&mut self) -> Result<bool> {
        let start = self.idx;
        let line = self.cur.line;
        let mut is_last = false;
        let token = self.cur.token;
        let kind = match token {
            Token::If => self.if_statement(line)?,
            Token::While => {
                self.advance()?;
                let cond = self.expr()?;
                self.expect(Token::Do)?;
                let body = self.block()?;
                self.expect_match(Token::End, Token::While, line)?;
                StatKind::While { cond, body }
            }
            Token::Do => {
                self.advance()?;
                let body = self.block()?;
                self.expect_match(Token::End, Token::Do, line)?;
                StatKind::Do(body)
            }
            Token::For => self.for_statement(line)?,
            Token::Repeat => {
                self.advance()?;
                let body = self.block()?;
                let until = self.idx;
                self.expect_match(Token::Until, Token::Repeat, line)?;
                let open = self.open_marks();
                let cond = match self.expr() {
                    Ok(c) => c,
                    Err(e) => {
                        // What the body holds stays.
                        self.fail(e, open);
                        self.push(ExprKind::Nil)
                    }
                };
                StatKind::Repeat { body, cond, until }
            }
            Token::Function => self.function_statement(line)?,
            Token::Local => {
                self.advance()?;
                self.declaration(false)?
            }
            Token::Return => {
                self.advance()?;
                is_last = true;
                if self.at_block_end() || self.at(Token::Semicolon) {
                    StatKind::Return(List::EMPTY)
                } else {
                    StatKind::Return(self.expr_list()?)
                }
            }
            Token::Break => {
                self.advance()?;
                is_last = !self.options.compat52;
                StatKind::Break
            }
            Token::Semicolon if self.options.compat52 => {
                self.advance()?;
                StatKind::Empty
            }
            Token::DoubleColon => {
                self.labels()?;
                return Ok(false);
            }
            Token::Goto if self.options.compat52 || self.peeks_name(Self::peek_moving_line)? => {
                self.advance()?;
                StatKind::Goto(self.name()?)
            }
            Token::Name if self.options.extensions && self.at_word(b"continue") => {
                let next = self.peek()?;
                if ends_block(next) {
                    self.advance()?;
                    is_last = true;
                    StatKind::Continue
                } else {
                    self.call_or_assignment()?
                }
            }
            Token::Name if self.options.extensions && self.at_word(b"const") => {
                if self.peek()? == Token::Function || self.peeks_name(Self::peek)? {
                    self.advance()?;
                    self.declaration(true)?
                } else {
                    self.call_or_assignment()?
                }
            }
            _ => self.call_or_assignment()?,
        };
        let end = self.last();
        self.open_stats.push(Stat { kind, start, end, next: end });
        Ok(is_last)
    }

    fn if_statement(&mut self, line: u32) -> Result<StatKind> {
        let mut arms = Vec::new();
        loop {
            self.advance()?;
            let cond = self.expr()?;
            self.expect(Token::Then)?;
            let body = self.block()?;
            arms.push(IfArm { cond, body, end: self.last() });
            if !self.at(Token::Elseif) {
                break;
            }
        }
        let otherwise = if self.accept(Token::Else)? { Some(self.block()?) } else { None };
        self.expect_match(Token::End, Token::If, line)?;
        Ok(StatKind::If { arms: List::append(&mut self.tree.arms, arms), otherwise })
    }

    fn for_statement(&mut self, line: u32) -> Result<StatKind> {
        self.advance()?;
        let names_start = self.idx;
        let first = self.name()?;
        let kind = match self.cur.token {
            Token::Assign => {
                self.advance()?;
                let mut range = vec![self.expr()?];
                self.expect(Token::Comma)?;
                range.push(self.expr()?);
                if self.accept(Token::Comma)? {
                    range.push(self.expr()?);
                }
                self.expect(Token::Do)?;
                let range = List::append(&mut self.tree.expr_lists, range);
                let body = self.block()?;
                StatKind::ForNum { var: first, var_tok: names_start, range, body }
            }
            Token::Comma | Token::In => {
                let names = self.names_after(first)?;
                self.expect(Token::In)?;
                let exprs_start = self.idx;
                let exprs = self.expr_list()?;
                self.expect(Token::Do)?;
                let body = self.block()?;
                StatKind::ForIn { names, names_start, exprs, exprs_start, body }
            }
            _ => return Err(self.error_near("'=' or 'in' expected")),
        };
        self.expect_match(Token::End, Token::For, line)?;
        Ok(kind)
    }

    fn function_statement(&mut self, line: u32) -> Result<StatKind> {
        self.advance()?;
        let name = self.name()?;
        let base = self.push(ExprKind::Name(name));
        let mut fields = Vec::new();
        let mut is_method = false;
        while self.at(Token::Dot) {
            fields.push(self.field_suffix()?);
        }
        if self.at(Token::Colon) {
            is_method = true;
            fields.push(self.field_suffix()?);
        }
        let target = self.suffixed(base, fields);
        let func = self.function_body(line, is_method)?;
        Ok(StatKind::Function { target, func })
    }

    /// After `local` or `const`.
    fn declaration(&mut self, is_const: bool) -> Result<StatKind> {
        if self.accept(Token::Function)? {
            let name_tok = self.idx;
            let name = self.name()?;
            let line = self.cur.line;
            let func = self.function_body(line, false)?;
            return Ok(StatKind::LocalFunction { name, name_tok, func, is_const });
        }
        let first = self.name()?;
        let names = self.names_after(first)?;
        let names_end = self.last();
        let exprs = if self.accept(Token::Assign)? { self.expr_list()? } else { List::EMPTY };
        Ok(StatKind::Local { names, names_end, exprs, is_const })
    }

    /// `first` and the names that follow after commas.
    fn names_after(&mut self, first: StrId) -> Result<List<StrId>> {
        let start = self.tree.name_lists.len();
        self.tree.name_lists.push(first);
        while self.accept(Token::Comma)? {
            let name = self.name()?;
            self.tree.name_lists.push(name);
        }
        Ok(List::since(&self.tree.name_lists, start))
    }

    /// A run of labels. Each knows whether it stands at the end of its block.
    fn labels(&mut self) -> Result<()> {
        let first = self.open_stats.len();
        loop {
            if self.at(Token::DoubleColon) {
                if self.level + (self.open_stats.len() - first) >= SYNTAX_LEVELS_MAX {
                    return Err(self.too_deep());
                }
                let start = self.idx;
                self.advance()?;
                let name = self.name()?;
                self.expect(Token::DoubleColon)?;
                let kind = StatKind::Label { name, is_last: false };
                let end = self.last();
                self.open_stats.push(Stat { kind, start, end, next: end });
            } else if !(self.options.compat52 && self.accept(Token::Semicolon)?) {
                break;
            }
        }
        let at_end = self.at_block_end() && !self.at(Token::Until);
        for stat in &mut self.open_stats[first..] {
            if let StatKind::Label { is_last, .. } = &mut stat.kind {
                *is_last = at_end;
            }
        }
        Ok(())
    }

    fn call_or_assignment(&mut self) -> Result<StatKind> {
        let first = self.primary()?;
        if self.is_call(first) {
            return Ok(StatKind::Call(first));
        }
        self.check_assignable(first)?;
        if self.options.extensions
            && let Some(op) = self.cur.token.compound_operator()
        {
            let op_tok = self.idx;
            self.advance()?;
            let value = self.expr()?;
            return Ok(StatKind::Compound { target: first, op, op_tok, value });
        }
        if self.at(Token::Comma) && self.is_navigated(first) {
            return Err(self.error_near("syntax error"));
        }
        let open = self.open_exprs.len();
        self.open_exprs.push(first);
        while self.accept(Token::Comma)? {
            // What is assigned to several targets at once cannot be skipped for one of them.
            let target = self.primary_with(false)?;
            if self.level + (self.open_exprs.len() - open) >= SYNTAX_LEVELS_MAX {
                let whose = match self.func_line {
                    0 => "main function".to_string(),
                    line => format!("function at line {line}"),
                };
                let text = format!("{whose} has more than {SYNTAX_LEVELS_MAX} variable names");
                return Err(self.lexer.error(&text, None));
            }
            self.check_assignable(target)?;
            self.open_exprs.push(target);
        }
        self.expect(Token::Assign)?;
        let exprs = self.expr_list()?;
        let targets = List::append(&mut self.tree.expr_lists, self.open_exprs.drain(open..));
        Ok(StatKind::Assign { targets, exprs })
    }

    fn last_suffix(&self, id: ExprId) -> Option<SuffixKind> {
        match self.tree.exprs[id.0 as usize].kind {
            ExprKind::Suffixed { suffixes, .. } => {
                self.tree.suffixes[suffixes.range()].last().map(|s| s.kind)
            }
            _ => None,
        }
    }

    fn is_navigated(&self, id: ExprId) -> bool {
        match self.tree.exprs[id.0 as usize].kind {
            ExprKind::Suffixed { suffixes, .. } => {
                self.tree.suffixes[suffixes.range()].iter().any(|s| s.safe)
            }
            _ => false,
        }
    }

    fn is_call(&self, id: ExprId) -> bool {
        matches!(self.last_suffix(id), Some(SuffixKind::Call(_) | SuffixKind::Method { .. }))
    }

    fn check_assignable(&self, id: ExprId) -> Result<()> {
        let ok = matches!(self.tree.exprs[id.0 as usize].kind, ExprKind::Name(_))
            || matches!(self.last_suffix(id), Some(SuffixKind::Field(_) | SuffixKind::Index(_)));
        if ok { Ok(()) } else { Err(self.error_near("syntax error")) }
    }
}

fn ends_block(token: Token) -> bool {
    matches!(token, Token::Else | Token::Elseif | Token::End | Token::Until | Token::Eof)
}
