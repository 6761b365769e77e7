//! Chunks: source on its way to becoming a function.

use super::convert::{FromLuaMulti, MultiValue};
use super::error::{Error, Result};
use super::function::Function;
use super::lua::Lua;
use crate::value::Value as Raw;

/// Source text or bytecode with a name, made by [`Lua::load`].
pub struct Chunk {
    lua: Lua,
    source: Vec<u8>,
    name: Vec<u8>,
}

impl Chunk {
    pub(super) fn new(lua: Lua, source: Vec<u8>) -> Chunk {
        let name = source.clone();
        Chunk { lua, source, name }
    }

    /// Names the chunk: `=name` as it is, `@file` for a file, anything else as source text.
    pub fn set_name(mut self, name: impl AsRef<[u8]>) -> Chunk {
        self.name = name.as_ref().to_vec();
        self
    }

    /// Compiles it.
    pub fn into_function(self) -> Result<Function> {
        let f = self.lua.with(|vm| vm.load(&self.source, &self.name, b"bt", None));
        match f {
            Ok(f) => Ok(Function(self.lua.root(Raw::obj(f)))),
            Err(message) => {
                let message = String::from_utf8_lossy(&message).into_owned();
                let incomplete_input = message.ends_with("near '<eof>'");
                Err(Error::SyntaxError { message, incomplete_input })
            }
        }
    }

    /// Runs it and drops its results.
    pub fn exec(self) -> Result<()> {
        self.into_function()?.call::<()>(())
    }

    /// Runs it as an expression if it is one, else as a block, and converts its results.
    pub fn eval<R: FromLuaMulti>(self) -> Result<R> {
        let mut expr = b"return ".to_vec();
        expr.extend_from_slice(&self.source);
        let as_expr = Chunk { lua: self.lua.clone(), source: expr, name: self.name.clone() };
        let f = match as_expr.into_function() {
            Ok(f) => f,
            Err(_) => self.into_function()?,
        };
        f.call(MultiValue::new())
    }
}
