//! Declarators and whole declarations, and the parser's state.
//!
//! A declarator reads from the inside out: `*(*f[3])(int)` is "array of 3 pointers to function returning pointer". The
//! reader collects derivations in the order in which they apply to the base type:
//!
//! ```text
//!   pointers first, then suffixes from right to left, then what the parentheses held
//! ```

use super::error::text;
use super::lexer::{Lexer, Token};
use super::ty::{Attrs, Keyword, Specifiers, Storage, keyword};
use super::{CdeclError, Param};
use crate::ctype::{ArrayLen, CType, CTypeId, CTypeTable, CallConv, FuncType, Kind, Name, Quals, Symbol};

/// Nesting of parentheses, records and expressions.
const DEPTH_MAX: u32 = 100;
/// Derivations of one declarator.
const DERIVATIONS_MAX: usize = 100;
/// Nested `#pragma pack(push)`.
const PACK_STACK_MAX: usize = 6;

/// What is being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// `ffi.cdef`
    Declarations,
    /// `ffi.typeof` and its relatives: one abstract type; tags must be known
    SingleType,
}

/// What a declarator may look like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum DeclaratorMode {
    /// Needs a name.
    Named,
    /// A record member: the name may be missing before a bit width.
    Member,
    /// A parameter: with or without a name.
    Parameter,
    /// Never a name.
    Abstract,
}

/// A declarator applied to its base type.
pub(super) struct Declarator {
    pub name: Option<Name>,
    pub ty: CTypeId,
    pub attrs: Attrs,
}

/// One step from a type to a derived one.
enum Derivation {
    Ptr { quals: Quals, bytes: u8 },
    Ref,
    Array(ArrayLen),
    Func { params: Vec<CTypeId>, variadic: bool, conv: CallConv },
}

/// The state of one parse.
pub(super) struct Parser<'t, 's> {
    table: &'t mut CTypeTable,
    lexer: Lexer<'s>,
    params: &'s [Param],
    next_param: usize,
    mode: Mode,
    depth: u32,
    pack: Option<u8>,
    pack_stack: Vec<Option<u8>>,
    link_name: Option<Name>,
}

impl<'t, 's> Parser<'t, 's> {
    pub(super) fn new(
        table: &'t mut CTypeTable,
        source: &'s [u8],
        params: &'s [Param],
        mode: Mode,
    ) -> Result<Self, CdeclError> {
        Ok(Parser {
            table,
            lexer: Lexer::new(source)?,
            params,
            next_param: 0,
            mode,
            depth: 0,
            pack: None,
            pack_stack: Vec::new(),
            link_name: None,
        })
    }

    // State.

    pub(super) fn table(&self) -> &CTypeTable {
        self.table
    }

    pub(super) fn table_mut(&mut self) -> &mut CTypeTable {
        self.table
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn pragma_pack(&self) -> Option<u8> {
        self.pack
    }

    pub(super) fn set_link_name(&mut self, name: Name) {
        self.link_name = Some(name);
    }

    pub(super) fn enter(&mut self) -> Result<(), CdeclError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { Err(self.error(text::LEVELS)) } else { Ok(()) }
    }

    pub(super) fn leave(&mut self) {
        self.depth -= 1;
    }

    // Tokens.

    pub(super) fn token(&self) -> Token {
        self.lexer.token
    }

    pub(super) fn slice(&self) -> &'s [u8] {
        self.lexer.slice()
    }

    pub(super) fn advance(&mut self) -> Result<(), CdeclError> {
        self.lexer.advance()
    }

    pub(super) fn keyword(&self) -> Option<Keyword> {
        if self.token() == Token::Ident { keyword(self.slice()) } else { None }
    }

    pub(super) fn accept(&mut self, token: Token) -> Result<bool, CdeclError> {
        if self.token() != token {
            return Ok(false);
        }
        self.advance()?;
        Ok(true)
    }

    pub(super) fn expect(&mut self, token: Token) -> Result<(), CdeclError> {
        if self.accept(token)? {
            return Ok(());
        }
        Err(self.error_expected(match token {
            Token::LParen => b"(",
            Token::RParen => b")",
            Token::RBracket => b"]",
            Token::LBrace => b"{",
            Token::RBrace => b"}",
            Token::Semicolon => b";",
            Token::Colon => b":",
            Token::Assign => b"=",
            Token::Dot => b".",
            Token::Eof => b"<eof>",
            _ => b"<token>",
        }))
    }

    // Errors.

    /// An error that names no token.
    pub(super) fn error(&self, message: &str) -> CdeclError {
        CdeclError {
            message: message.to_owned(),
            near: None,
            line: self.lexer.line,
            offset: self.lexer.offset(),
        }
    }

    /// An error at the current token.
    pub(super) fn error_near(&self, message: &str) -> CdeclError {
        CdeclError { near: Some(self.lexer.shown()), ..self.error(message) }
    }

    pub(super) fn error_expected(&self, what: &[u8]) -> CdeclError {
        self.error_near(&format!("'{}' expected", String::from_utf8_lossy(what)))
    }

    pub(super) fn error_redefinition(&self, name: &[u8]) -> CdeclError {
        self.error(&format!("attempt to redefine '{}'", String::from_utf8_lossy(name)))
    }

    // Parameters.

    fn peek_param(&self) -> Result<&'s Param, CdeclError> {
        self.params.get(self.next_param).ok_or_else(|| self.error(text::PARAM_COUNT))
    }

    pub(super) fn take_param(&mut self) {
        self.next_param += 1;
    }

    pub(super) fn peek_param_type(&self) -> Result<Option<CTypeId>, CdeclError> {
        Ok(if let Param::Type(id) = self.peek_param()? { Some(*id) } else { None })
    }

    pub(super) fn peek_param_name(&self) -> Result<Option<Name>, CdeclError> {
        Ok(if let Param::Name(name) = self.peek_param()? { Some(name.clone()) } else { None })
    }

    pub(super) fn param_number(&mut self) -> Result<i32, CdeclError> {
        match self.peek_param()? {
            Param::Number(n) => {
                let n = *n;
                self.take_param();
                Ok(n)
            }
            Param::Type(_) | Param::Name(_) => Err(self.error_near(text::UNEXPECTED)),
        }
    }

    pub(super) fn all_params_used(&self) -> Result<(), CdeclError> {
        if self.next_param < self.params.len() { Err(self.error(text::PARAM_COUNT)) } else { Ok(()) }
    }

    /// Whether a type begins here.
    pub(super) fn at_type(&self) -> bool {
        match self.token() {
            Token::Ident => match self.keyword() {
                Some(kw) => kw.begins_type(),
                None => matches!(self.table.symbol(self.slice()), Some(Symbol::Type(_))),
            },
            Token::Dollar => matches!(self.params.get(self.next_param), Some(Param::Type(_))),
            _ => false,
        }
    }

    // Declarators.

    /// An abstract type inside an expression: `sizeof(int *)`.
    pub(super) fn type_name(&mut self) -> Result<CTypeId, CdeclError> {
        let specs = self.specifiers(Storage::NONE)?;
        Ok(self.declarator(specs.ty, &specs.attrs, DeclaratorMode::Abstract)?.ty)
    }

    /// Reads a declarator and applies it to `base`.
    pub(super) fn declarator(
        &mut self,
        base: CTypeId,
        base_attrs: &Attrs,
        mode: DeclaratorMode,
    ) -> Result<Declarator, CdeclError> {
        let mut steps = Vec::new();
        let mut attrs = Attrs::default();
        let mut name = None;
        self.declarator_steps(&mut steps, &mut attrs, &mut name, base_attrs.conv, mode)?;
        if name.is_none() && mode == DeclaratorMode::Named {
            return Err(self.error_expected(b"<identifier>"));
        }
        let mut ty = base;
        if attrs.mode.is_some() || attrs.vector_bytes.is_some() {
            ty = self.apply_type_attrs(ty, &attrs)?;
        }
        for step in steps {
            ty = self.derive(ty, step)?;
        }
        Ok(Declarator { name, ty, attrs })
    }

    fn declarator_steps(
        &mut self,
        steps: &mut Vec<Derivation>,
        attrs: &mut Attrs,
        name: &mut Option<Name>,
        conv: Option<CallConv>,
        mode: DeclaratorMode,
    ) -> Result<(), CdeclError> {
        self.enter()?;
        let conv = self.pointers(steps, attrs)?.or(conv);
        let mut inner = Vec::new();
        let mut suffixes = Vec::new();
        let may_be_abstract = matches!(mode, DeclaratorMode::Parameter | DeclaratorMode::Abstract);
        if self.token() == Token::LParen {
            self.advance()?;
            let mut inner_attrs = Attrs::default();
            self.attributes(&mut inner_attrs)?;
            let inner_conv = inner_attrs.conv;
            attrs.merge(inner_attrs);
            if may_be_abstract
                && (self.token() == Token::RParen || self.token() == Token::Dot || self.at_type())
            {
                // It was the parameter list of a function without a name.
                let func = self.parameters(inner_conv.or(conv))?;
                suffixes.push(func);
            } else {
                self.declarator_steps(&mut inner, attrs, name, inner_conv.or(conv), mode)?;
                self.expect(Token::RParen)?;
            }
        } else if mode != DeclaratorMode::Abstract {
            if self.token() == Token::Ident && self.keyword().is_none() {
                *name = Some(self.slice().into());
                self.advance()?;
            } else if self.token() == Token::Dollar
                && let Some(given) = self.peek_param_name()?
            {
                *name = Some(given);
                self.take_param();
                self.advance()?;
            }
        }
        let conv = attrs.conv.or(conv);
        loop {
            if suffixes.len() + inner.len() > DERIVATIONS_MAX {
                return Err(self.error(text::LEVELS));
            }
            match self.token() {
                Token::LBracket => {
                    self.advance()?;
                    suffixes.push(Derivation::Array(self.array_len()?));
                }
                Token::LParen => {
                    self.advance()?;
                    let func = self.parameters(conv)?;
                    suffixes.push(func);
                }
                _ => break,
            }
        }
        self.attributes(attrs)?;
        steps.extend(suffixes.into_iter().rev());
        steps.extend(inner);
        if steps.len() > DERIVATIONS_MAX {
            return Err(self.error(text::LEVELS));
        }
        self.leave();
        Ok(())
    }

    /// `*`, `&` and qualifiers before a name. Returns a calling convention met on the way.
    fn pointers(
        &mut self,
        steps: &mut Vec<Derivation>,
        attrs: &mut Attrs,
    ) -> Result<Option<CallConv>, CdeclError> {
        let mut conv = None;
        loop {
            match self.token() {
                Token::Star => {
                    self.advance()?;
                    steps.push(Derivation::Ptr { quals: Quals::NONE, bytes: 8 });
                }
                Token::Amp => {
                    self.advance()?;
                    steps.push(Derivation::Ref);
                }
                Token::AndAnd => {
                    self.advance()?;
                    steps.push(Derivation::Ref);
                    steps.push(Derivation::Ref);
                }
                Token::Ident => {
                    let mut added = Quals::NONE;
                    match self.keyword() {
                        Some(Keyword::Const) => added = Quals::CONST,
                        Some(Keyword::Volatile) => added = Quals::VOLATILE,
                        Some(Keyword::Restrict | Keyword::Extension) => {}
                        Some(Keyword::PtrSize(size)) => {
                            if let Some(Derivation::Ptr { bytes, .. }) = steps.last_mut() {
                                *bytes = size;
                            }
                        }
                        Some(Keyword::Conv(c)) => conv = Some(c),
                        Some(Keyword::Attribute | Keyword::Declspec | Keyword::Asm) => {
                            let mut here = Attrs::default();
                            self.attributes(&mut here)?;
                            conv = here.conv.or(conv);
                            if let (Some(size), Some(Derivation::Ptr { bytes, .. })) =
                                (here.ptr_bytes, steps.last_mut())
                            {
                                *bytes = size;
                            }
                            attrs.merge(here);
                            continue;
                        }
                        _ => break,
                    }
                    if let Some(Derivation::Ptr { quals, .. }) = steps.last_mut() {
                        *quals = quals.with(added);
                    }
                    self.advance()?;
                }
                _ => break,
            }
            if steps.len() > DERIVATIONS_MAX {
                return Err(self.error(text::LEVELS));
            }
        }
        Ok(conv)
    }

    /// What follows `[`.
    fn array_len(&mut self) -> Result<ArrayLen, CdeclError> {
        while matches!(
            self.keyword(),
            Some(Keyword::Const | Keyword::Volatile | Keyword::Restrict | Keyword::Static)
        ) {
            self.advance()?;
        }
        let len = match self.token() {
            Token::RBracket => ArrayLen::Unknown,
            Token::Question => {
                self.advance()?;
                ArrayLen::Variable
            }
            _ => ArrayLen::Fixed(self.constant_size()?),
        };
        self.expect(Token::RBracket)?;
        Ok(len)
    }

    /// A parameter list; the opening parenthesis is behind us.
    fn parameters(&mut self, conv: Option<CallConv>) -> Result<Derivation, CdeclError> {
        let mut params = Vec::new();
        let mut variadic = false;
        if self.token() != Token::RParen {
            loop {
                if self.token() == Token::Dot {
                    self.advance()?;
                    self.expect(Token::Dot)?;
                    self.expect(Token::Dot)?;
                    variadic = true;
                    break;
                }
                let specs = self.specifiers(Storage::REGISTER)?;
                let d = self.declarator(specs.ty, &specs.attrs, DeclaratorMode::Parameter)?;
                let ty = match self.table.kind(d.ty) {
                    // `(void)`; with a name too, as LuaJIT reads it.
                    Kind::Void => break,
                    Kind::Func(_) => self.table.ptr_to(d.ty),
                    Kind::Array { elem, .. } => self.table.ptr_to(elem),
                    _ => d.ty,
                };
                params.push(ty);
                if !self.accept(Token::Comma)? {
                    break;
                }
            }
        }
        self.expect(Token::RParen)?;
        Ok(Derivation::Func { params, variadic, conv: conv.unwrap_or_default() })
    }

    fn derive(&mut self, ty: CTypeId, step: Derivation) -> Result<CTypeId, CdeclError> {
        let kind = self.table.kind(ty);
        match step {
            Derivation::Ptr { quals, bytes } => {
                if let Kind::Ref { .. } = kind {
                    return Err(self.error(text::INVALID_TYPE));
                }
                Ok(self.table.intern(CType { quals, ..CType::plain(Kind::Ptr { to: ty, bytes }) }))
            }
            Derivation::Ref => Ok(self.table.ref_to(ty)),
            Derivation::Array(len) => {
                if self.table.is_variable(ty) || matches!(kind, Kind::Ref { .. }) {
                    return Err(self.error(text::INVALID_SIZE));
                }
                self.table.array_of(ty, len).map_err(|_| self.error(text::INVALID_SIZE))
            }
            Derivation::Func { params, variadic, conv } => {
                if matches!(kind, Kind::Func(_) | Kind::Array { .. }) {
                    return Err(self.error(text::INVALID_TYPE));
                }
                Ok(self.table.func(FuncType { ret: ty, params: params.into(), variadic, conv }))
            }
        }
    }

    // Whole inputs.

    /// One abstract type and nothing else.
    pub(super) fn single_type(&mut self) -> Result<CTypeId, CdeclError> {
        let specs = self.specifiers(Storage::NONE)?;
        let d = self.declarator(specs.ty, &specs.attrs, DeclaratorMode::Abstract)?;
        if self.token() != Token::Eof {
            return Err(self.error_expected(b"<eof>"));
        }
        Ok(self.with_alignment(&specs, &d))
    }

    fn with_alignment(&mut self, specs: &Specifiers, d: &Declarator) -> CTypeId {
        let mut attrs = specs.attrs;
        attrs.merge(d.attrs);
        match attrs.align_log2 {
            Some(log2) if !matches!(self.table.kind(d.ty), Kind::Func(_) | Kind::Void) => {
                self.table.aligned(d.ty, log2)
            }
            _ => d.ty,
        }
    }

    /// Declarations up to the end of the source.
    pub(super) fn declarations(&mut self) -> Result<(), CdeclError> {
        let mut first = true;
        while self.token() != Token::Eof {
            match self.token() {
                Token::Semicolon => self.advance()?,
                Token::Hash => self.directive()?,
                _ => {
                    self.declaration(first)?;
                    first = false;
                }
            }
        }
        Ok(())
    }

    fn declaration(&mut self, first: bool) -> Result<(), CdeclError> {
        self.link_name = None;
        let specs = self.specifiers(Storage::FILE)?;
        if !(specs.tagged && matches!(self.token(), Token::Semicolon | Token::Eof)) {
            loop {
                self.link_name = None;
                let d = self.declarator(specs.ty, &specs.attrs, DeclaratorMode::Named)?;
                let is_func = matches!(self.table.kind(d.ty), Kind::Func(_));
                let Some(name) = d.name.clone() else { return Err(self.error_expected(b"<identifier>")) };
                let symbol = if specs.storage.has(Storage::TYPEDEF) {
                    Symbol::Type(self.with_alignment(&specs, &d))
                } else if is_func {
                    if self.token() == Token::LBrace {
                        // The body of an inline function: nothing in it declares anything here.
                        self.skip_balanced(Token::LBrace, Token::RBrace)?;
                        self.table.declare(name, Symbol::Extern { ty: d.ty, link_name: None });
                        return Ok(());
                    }
                    Symbol::Extern { ty: d.ty, link_name: self.link_name.take() }
                } else if specs.storage.has(Storage::STATIC) {
                    Symbol::Const(self.static_const(d.ty)?)
                } else {
                    Symbol::Extern { ty: d.ty, link_name: self.link_name.take() }
                };
                self.table.declare(name, symbol);
                if !self.accept(Token::Comma)? {
                    break;
                }
            }
        }
        // The semicolon may be left out after a single declaration.
        if first && self.token() == Token::Eof {
            return Ok(());
        }
        self.expect(Token::Semicolon)
    }

    /// `#pragma pack`, `#line n`, `# n "file"`; other pragmas are passed over.
    pub(super) fn directive(&mut self) -> Result<(), CdeclError> {
        let line = self.lexer.line;
        self.advance()?;
        match self.token() {
            Token::Ident if self.slice() == b"pragma" => {
                self.advance()?;
                if self.token() == Token::Ident && self.slice() == b"pack" && self.lexer.line == line {
                    self.advance()?;
                    self.pragma_pack_arguments()?;
                }
            }
            Token::Ident if self.slice() == b"line" => {
                self.advance()?;
                self.line_number(line)?;
                return Ok(());
            }
            Token::Integer => {
                self.line_number(line)?;
                return Ok(());
            }
            _ => return Err(self.error_near(text::UNEXPECTED)),
        }
        while self.token() != Token::Eof && self.lexer.line == line {
            self.advance()?;
        }
        Ok(())
    }

    fn line_number(&mut self, line: u32) -> Result<(), CdeclError> {
        let Some((number, _)) = super::lexer::integer(self.slice()) else {
            return Err(self.error_near(text::UNEXPECTED));
        };
        while self.token() != Token::Eof && self.lexer.line == line {
            self.advance()?;
        }
        // The line after the directive has the given number.
        let passed = self.lexer.line.saturating_sub(line).saturating_sub(1);
        self.lexer.line = number.saturating_add(passed);
        Ok(())
    }

    fn pragma_pack_arguments(&mut self) -> Result<(), CdeclError> {
        self.expect(Token::LParen)?;
        if self.token() == Token::Ident {
            match self.slice() {
                b"push" => {
                    if self.pack_stack.len() >= PACK_STACK_MAX {
                        return Err(self.error_near(text::LEVELS));
                    }
                    self.pack_stack.push(self.pack);
                }
                b"pop" => self.pack = self.pack_stack.pop().unwrap_or(None),
                _ => return Err(self.error_near(text::UNEXPECTED)),
            }
            self.advance()?;
            if !self.accept(Token::Comma)? {
                return self.expect(Token::RParen);
            }
        }
        if self.token() == Token::Integer {
            let value = super::lexer::integer(self.slice()).map_or(0, |(v, _)| v);
            if !matches!(value, 0 | 1 | 2 | 4 | 8 | 16) {
                return Err(self.error_near(text::BAD_VALUE));
            }
            self.pack = (value != 0).then(|| value.trailing_zeros() as u8);
            self.advance()?;
        } else {
            self.pack = None;
        }
        self.expect(Token::RParen)
    }
}
