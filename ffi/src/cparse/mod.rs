//! C declarations to types.
//!
//! Knows no VM and no heap: it reads bytes and fills a `CTypeTable`. Errors carry LuaJIT's texts.
//!
//! ```text
//! bytes --lexer--> tokens --ty (specifiers), decl (declarators, members)--> CTypeTable
//!                             \--expr (array sizes, enum values)
//! ```

use std::borrow::Cow;

mod decl;
mod error;
mod expr;
mod lexer;
mod ty;

pub use error::CdeclError;

use crate::ctype::{CTypeId, CTypeTable, Name};

/// What a `$` in a declaration stands for.
#[derive(Clone, Debug)]
pub enum Param {
    /// A type.
    Type(CTypeId),
    /// An identifier.
    Name(Name),
    /// An integer constant.
    Number(i32),
}

/// The source without backslashes at line ends: what they join may be one identifier.
fn joined_lines(source: &[u8]) -> Cow<'_, [u8]> {
    if !source.windows(2).any(|w| matches!(w, b"\\\n" | b"\\\r")) {
        return Cow::Borrowed(source);
    }
    let mut out = Vec::with_capacity(source.len());
    let mut rest = source;
    while let Some((&b, tail)) = rest.split_first() {
        rest = match rest {
            [b'\\', b'\r', b'\n', tail @ ..] | [b'\\', b'\n' | b'\r', tail @ ..] => tail,
            _ => {
                out.push(b);
                tail
            }
        };
    }
    Cow::Owned(out)
}

/// Types that one table holds; asked before each source.
const TYPES_MAX: u32 = 1 << 20;

/// Whether the table has room for more types.
fn check_room(table: &CTypeTable) -> Result<(), CdeclError> {
    if table.len() < TYPES_MAX {
        return Ok(());
    }
    Err(CdeclError { message: error::text::TABLE_OVERFLOW.to_owned(), near: None, line: 1, offset: 0 })
}

/// Declares everything in `source`.
///
/// Each `$` takes the next of `params`; all must be used. On an error nothing of it is declared.
pub fn declare(table: &mut CTypeTable, source: &[u8], params: &[Param]) -> Result<(), CdeclError> {
    check_room(table)?;
    let joined = joined_lines(source);
    table.begin();
    let done = decl::Parser::new(table, &joined, params, decl::Mode::Declarations).and_then(|mut parser| {
        parser.declarations()?;
        parser.all_params_used()
    });
    if done.is_err() {
        table.take_back();
    }
    done
}

/// Reads one abstract type, as in `ffi.typeof("int *[3]")`.
///
/// A tag must be declared already or come with a body.
pub fn parse_type(table: &mut CTypeTable, source: &[u8], params: &[Param]) -> Result<CTypeId, CdeclError> {
    check_room(table)?;
    let joined = joined_lines(source);
    table.begin();
    let done = decl::Parser::new(table, &joined, params, decl::Mode::SingleType).and_then(|mut parser| {
        let id = parser.single_type()?;
        parser.all_params_used()?;
        Ok(id)
    });
    if done.is_err() {
        table.take_back();
    }
    done
}
