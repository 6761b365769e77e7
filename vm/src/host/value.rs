//! Values as an embedder sees them.

use std::fmt;

use super::function::{Function, Thread};
use super::lua::{Lua, Ref};
use super::table::Table;
use crate::string::Str;
use crate::value::Value as Raw;
use crate::value::tag;

/// A Lua value with handles for everything that lives on the heap.
#[derive(Clone, Debug)]
pub enum Value {
    /// `nil`.
    Nil,
    /// A boolean.
    Boolean(bool),
    /// A number.
    Number(f64),
    /// A string.
    String(LuaString),
    /// A table.
    Table(Table),
    /// A function.
    Function(Function),
    /// A coroutine.
    Thread(Thread),
    /// A light userdata.
    LightUserData(LightUserData),
    /// A full userdata or C data object, opaque here.
    Other(Other),
}

/// A light userdata's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LightUserData(pub u64);

/// A value of a kind this door does not open.
#[derive(Clone)]
pub struct Other(pub(super) Ref);

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.raw().type_name())
    }
}

impl Value {
    /// Name of the Lua type.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Nil => "nil",
            Value::Boolean(_) => "boolean",
            Value::Number(_) => "number",
            Value::String(_) => "string",
            Value::Table(_) => "table",
            Value::Function(_) => "function",
            Value::Thread(_) => "thread",
            Value::LightUserData(_) => "userdata",
            Value::Other(o) => o.0.raw().type_name(),
        }
    }

    /// Is it `nil`?
    pub fn is_nil(&self) -> bool {
        matches!(self, Value::Nil)
    }

    pub(super) fn from_raw(lua: &Lua, v: Raw) -> Value {
        match v.tag() {
            tag::NIL => Value::Nil,
            tag::FALSE => Value::Boolean(false),
            tag::TRUE => Value::Boolean(true),
            tag::STR => Value::String(LuaString(lua.root(v))),
            tag::TAB => Value::Table(Table(lua.root(v))),
            tag::FUNC => Value::Function(Function(lua.root(v))),
            tag::THREAD => Value::Thread(Thread(lua.root(v))),
            tag::LIGHTUD => Value::LightUserData(LightUserData(v.payload())),
            _ => v.as_num().map_or_else(|| Value::Other(Other(lua.root(v))), Value::Number),
        }
    }

    pub(super) fn to_raw(&self, lua: &Lua) -> super::Result<Raw> {
        match self {
            Value::Nil => Ok(Raw::NIL),
            Value::Boolean(b) => Ok(Raw::bool(*b)),
            Value::Number(n) => Ok(Raw::num(*n)),
            Value::String(s) => s.0.raw_for(lua),
            Value::Table(t) => t.0.raw_for(lua),
            Value::Function(f) => f.0.raw_for(lua),
            Value::Thread(t) => t.0.raw_for(lua),
            Value::LightUserData(l) => Ok(Raw::lightud_raw(l.0)),
            Value::Other(o) => o.0.raw_for(lua),
        }
    }
}

/// A Lua string: bytes, not necessarily UTF-8.
#[derive(Clone)]
pub struct LuaString(pub(super) Ref);

impl LuaString {
    /// A copy of the bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.lua.with(|vm| match self.0.raw_in(vm).as_obj::<Str>() {
            Some(s) => s.bytes(&vm.heap).to_vec(),
            None => Vec::new(),
        })
    }

    /// The text, with anything that is not UTF-8 replaced.
    pub fn to_string_lossy(&self) -> String {
        String::from_utf8_lossy(&self.to_bytes()).into_owned()
    }
}

impl fmt::Debug for LuaString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string_lossy())
    }
}
