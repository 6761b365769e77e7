//! Constant expressions: array sizes, enum values, bit field widths.
//!
//! 32-bit arithmetic with C's operators and precedences. Knows types only through `sizeof`, `alignof` and casts.

use super::CdeclError;
use super::decl::Parser;
use super::error::text;
use super::lexer::{self, Token};
use super::ty::Keyword;
use crate::ctype::{CTypeId, Kind, Member, Symbol};

/// A constant: 32 bits and whether they have a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Const {
    pub bits: u32,
    pub unsigned: bool,
    /// The record (or pointer to one) whose scoped constants can be asked for with a dot or an arrow.
    scope: Option<CTypeId>,
}

impl Const {
    pub(super) fn int(value: i32) -> Const {
        Const::new(value as u32, false)
    }

    pub(super) fn new(bits: u32, unsigned: bool) -> Const {
        Const { bits, unsigned, scope: None }
    }

    fn bool(value: bool) -> Const {
        Const::int(i32::from(value))
    }

    /// The value, sign or zero extended.
    pub(super) fn value(self) -> i64 {
        if self.unsigned { i64::from(self.bits) } else { i64::from(self.bits as i32) }
    }
}

/// Binding strength of binary operators, C's.
fn precedence(token: Token) -> Option<u8> {
    Some(match token {
        Token::OrOr => 1,
        Token::AndAnd => 2,
        Token::Pipe => 3,
        Token::Caret => 4,
        Token::Amp => 5,
        Token::Equal | Token::NotEqual => 6,
        Token::Less | Token::Greater | Token::LessEqual | Token::GreaterEqual => 7,
        Token::Shl | Token::Shr => 8,
        Token::Plus | Token::Minus => 9,
        Token::Star | Token::Slash | Token::Percent => 10,
        _ => return None,
    })
}

impl Parser<'_, '_> {
    /// A whole constant expression (no comma operator).
    pub(super) fn constant(&mut self) -> Result<Const, CdeclError> {
        self.enter()?;
        let condition = self.binary(1)?;
        let result = if self.accept(Token::Question)? {
            let yes = self.constant()?;
            self.expect(Token::Colon)?;
            let no = self.constant()?;
            let chosen = if condition.bits != 0 { yes } else { no };
            Const { unsigned: yes.unsigned || no.unsigned, ..chosen }
        } else {
            condition
        };
        self.leave();
        Ok(result)
    }

    /// A size: not negative.
    pub(super) fn constant_size(&mut self) -> Result<u32, CdeclError> {
        let value = self.constant()?;
        if value.bits >= 0x8000_0000 {
            return Err(self.error(text::INVALID_SIZE));
        }
        Ok(value.bits)
    }

    fn binary(&mut self, min: u8) -> Result<Const, CdeclError> {
        let mut left = self.unary()?;
        while let Some(strength) = precedence(self.token()) {
            if strength < min {
                break;
            }
            let op = self.token();
            self.advance()?;
            let right = self.binary(strength + 1)?;
            left = self.apply(op, left, right)?;
        }
        Ok(left)
    }

    fn apply(&mut self, op: Token, a: Const, b: Const) -> Result<Const, CdeclError> {
        let unsigned = a.unsigned || b.unsigned;
        let wide = |c: Const| if unsigned { i64::from(c.bits) } else { i64::from(c.bits as i32) };
        let (x, y) = (wide(a), wide(b));
        let arith = |bits: u32| Const::new(bits, unsigned);
        Ok(match op {
            Token::OrOr => Const::bool(a.bits != 0 || b.bits != 0),
            Token::AndAnd => Const::bool(a.bits != 0 && b.bits != 0),
            Token::Pipe => arith(a.bits | b.bits),
            Token::Caret => arith(a.bits ^ b.bits),
            Token::Amp => arith(a.bits & b.bits),
            Token::Equal => Const::bool(x == y),
            Token::NotEqual => Const::bool(x != y),
            Token::Less => Const::bool(x < y),
            Token::Greater => Const::bool(x > y),
            Token::LessEqual => Const::bool(x <= y),
            Token::GreaterEqual => Const::bool(x >= y),
            Token::Shl => Const { bits: a.bits.wrapping_shl(b.bits), ..a },
            Token::Shr if a.unsigned => Const { bits: a.bits.wrapping_shr(b.bits), ..a },
            Token::Shr => Const::int((a.bits as i32).wrapping_shr(b.bits)),
            Token::Plus => arith(a.bits.wrapping_add(b.bits)),
            Token::Minus => arith(a.bits.wrapping_sub(b.bits)),
            Token::Star => arith(a.bits.wrapping_mul(b.bits)),
            Token::Slash | Token::Percent if b.bits == 0 => return Err(self.error(text::BAD_VALUE)),
            Token::Slash => arith((x / y) as u32),
            Token::Percent => arith((x % y) as u32),
            _ => return Err(self.error_near(text::UNEXPECTED)),
        })
    }

    fn unary(&mut self) -> Result<Const, CdeclError> {
        self.enter()?;
        let mut result = self.unary_inner()?;
        while matches!(self.token(), Token::Dot | Token::Arrow) {
            let Some(scope) = result.scope else { return Err(self.error_near(text::UNEXPECTED)) };
            result = self.scoped(scope)?;
        }
        self.leave();
        Ok(result)
    }

    /// `.name` or `->name`: only constants of a record have a value here.
    fn scoped(&mut self, scope: CTypeId) -> Result<Const, CdeclError> {
        self.advance()?;
        if self.token() != Token::Ident {
            return Err(self.error_expected(b"<identifier>"));
        }
        let record = match self.table().kind(scope) {
            Kind::Ptr { to, .. } | Kind::Ref { to } => to,
            _ => scope,
        };
        let Some(Member::Const(c)) = self.table().member(record, self.slice()) else {
            return Err(self.error(text::BAD_VALUE));
        };
        self.advance()?;
        Ok(Const::new(c.value as u32, c.value > 0x7fff_ffff))
    }

    fn unary_inner(&mut self) -> Result<Const, CdeclError> {
        match self.token() {
            Token::Plus => {
                self.advance()?;
                self.unary()
            }
            Token::Minus => {
                self.advance()?;
                let v = self.unary()?;
                Ok(Const { bits: v.bits.wrapping_neg(), ..v })
            }
            Token::Tilde => {
                self.advance()?;
                let v = self.unary()?;
                Ok(Const { bits: !v.bits, ..v })
            }
            Token::Bang => {
                self.advance()?;
                let v = self.unary()?;
                Ok(Const::bool(v.bits == 0))
            }
            Token::LParen => {
                self.advance()?;
                if self.at_type() {
                    let id = self.type_name()?;
                    self.expect(Token::RParen)?;
                    let v = self.unary()?;
                    return self.cast(id, v);
                }
                let v = self.constant()?;
                self.expect(Token::RParen)?;
                Ok(v)
            }
            Token::Integer => {
                let Some((bits, unsigned)) = lexer::integer(self.slice()) else {
                    return Err(self.error_near(text::BAD_NUMBER));
                };
                self.advance()?;
                Ok(Const::new(bits, unsigned))
            }
            Token::Char => {
                let slice = self.slice();
                let Ok(bytes) = lexer::unescape(&slice[1..slice.len() - 1]) else {
                    return Err(self.error_near(text::BAD_ESCAPE));
                };
                let [byte] = bytes[..] else { return Err(self.error_expected(b"'")) };
                self.advance()?;
                let unsigned = self.table().abi().char_unsigned;
                Ok(Const::int(if unsigned { i32::from(byte) } else { i32::from(byte as i8) }))
            }
            Token::Str => Err(self.error(text::BAD_VALUE)),
            Token::Dollar => {
                let value = self.param_number()?;
                self.advance()?;
                Ok(Const::int(value))
            }
            Token::Ident => match self.keyword() {
                Some(Keyword::Sizeof) => self.size_or_align(true),
                Some(Keyword::Alignof) => self.size_or_align(false),
                Some(Keyword::Extension) => {
                    self.advance()?;
                    self.unary()
                }
                _ => {
                    let value = match self.table().symbol(self.slice()) {
                        Some(Symbol::Const(c)) => {
                            Const::new(c.value as u32, c.ty == CTypeId::UINT32 && c.value > 0x7fff_ffff)
                        }
                        Some(&Symbol::Extern { ty, .. }) if self.table().record(ty).is_some() => {
                            Const { scope: Some(ty), ..Const::int(0) }
                        }
                        Some(Symbol::Type(_) | Symbol::Extern { .. }) | None => {
                            return Err(self.error_near(text::UNEXPECTED));
                        }
                    };
                    self.advance()?;
                    Ok(value)
                }
            },
            _ => Err(self.error_near(text::UNEXPECTED)),
        }
    }

    fn cast(&mut self, id: CTypeId, v: Const) -> Result<Const, CdeclError> {
        let kind = match self.table().enumeration(id) {
            Some(e) => self.table().kind(e.base),
            None => self.table().kind(id),
        };
        let value = v.value();
        Ok(match kind {
            Kind::Bool => Const::bool(v.bits != 0),
            Kind::Int { bytes: 1, unsigned: false } => Const::int(i32::from(value as i8)),
            Kind::Int { bytes: 1, unsigned: true } => Const::int(i32::from(value as u8)),
            Kind::Int { bytes: 2, unsigned: false } => Const::int(i32::from(value as i16)),
            Kind::Int { bytes: 2, unsigned: true } => Const::int(i32::from(value as u16)),
            Kind::Int { unsigned, .. } => Const::new(v.bits, unsigned),
            Kind::Ptr { .. } | Kind::Record(_) => Const { scope: Some(id), ..v },
            Kind::Float { .. } => v,
            _ => return Err(self.error(text::BAD_VALUE)),
        })
    }

    fn size_or_align(&mut self, size: bool) -> Result<Const, CdeclError> {
        self.advance()?;
        let layout = if self.token() == Token::Str {
            return self.string_size(size);
        } else if self.accept(Token::LParen)? {
            if self.token() == Token::Str {
                let inner = self.string_size(size)?;
                self.expect(Token::RParen)?;
                return Ok(inner);
            }
            let id = if self.at_type() {
                Some(self.type_name()?)
            } else if self.token() == Token::Ident {
                match self.table().symbol(self.slice()) {
                    Some(&Symbol::Extern { ty, .. }) => {
                        self.advance()?;
                        Some(ty)
                    }
                    _ => None,
                }
            } else {
                None
            };
            let layout = match id {
                Some(id) => {
                    let id = self.table().deref(id);
                    self.table().layout(id)
                }
                None => {
                    self.constant()?;
                    self.table().layout(CTypeId::INT32)
                }
            };
            self.expect(Token::RParen)?;
            layout
        } else {
            self.unary()?;
            self.table().layout(CTypeId::INT32)
        };
        let bits = if size {
            match layout.size {
                Some(size) => size,
                None => return Err(self.error(text::INVALID_SIZE)),
            }
        } else {
            1 << layout.align_log2
        };
        Ok(Const::new(bits, true))
    }

    /// Size or alignment of adjacent string constants.
    fn string_size(&mut self, size: bool) -> Result<Const, CdeclError> {
        let mut bytes = 1;
        while self.token() == Token::Str {
            let slice = self.slice();
            bytes += lexer::unescape(&slice[1..slice.len() - 1]).map_or(0, |b| b.len());
            self.advance()?;
        }
        Ok(Const::new(if size { bytes as u32 } else { 1 }, true))
    }
}
