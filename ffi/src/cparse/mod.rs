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

/// Types that one table holds. LuaJIT has room for 32,768.
const TYPES_MAX: u32 = 1 << 20;

/// Runs a parser over the table. On an error nothing of what it has read is declared; an error it is also when the table
/// grows beyond its limit. What names types that are there needs no room.
fn read<T>(
    table: &mut CTypeTable,
    parse: impl FnOnce(&mut CTypeTable) -> Result<T, CdeclError>,
) -> Result<T, CdeclError> {
    let before = table.len();
    table.begin();
    let done = parse(table).and_then(|done| match table.len() {
        n if n > TYPES_MAX && n > before => Err(CdeclError {
            message: error::text::TABLE_OVERFLOW.to_owned(),
            near: None,
            line: 1,
            offset: 0,
        }),
        _ => Ok(done),
    });
    if done.is_err() {
        table.take_back();
    }
    done
}

/// Declares everything in `source`.
///
/// Each `$` takes the next of `params`; all must be used. On an error nothing of it is declared.
pub fn declare(table: &mut CTypeTable, source: &[u8], params: &[Param]) -> Result<(), CdeclError> {
    let joined = joined_lines(source);
    read(table, |table| {
        let mut parser = decl::Parser::new(table, &joined, params, decl::Mode::Declarations)?;
        parser.declarations()?;
        parser.all_params_used()
    })
}

/// Reads one abstract type, as in `ffi.typeof("int *[3]")`.
///
/// A tag must be declared already or come with a body.
pub fn parse_type(table: &mut CTypeTable, source: &[u8], params: &[Param]) -> Result<CTypeId, CdeclError> {
    let joined = joined_lines(source);
    read(table, |table| {
        let mut parser = decl::Parser::new(table, &joined, params, decl::Mode::SingleType)?;
        let id = parser.single_type()?;
        parser.all_params_used()?;
        Ok(id)
    })
}
