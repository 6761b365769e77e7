//! Conversions between Rust and Lua values.

use std::collections::HashMap;
use std::ops::{Deref, DerefMut};

use super::error::{Error, Result};
use super::function::{Function, Thread};
use super::lua::Lua;
use super::table::Table;
use super::value::{LuaString, Value};

/// Any number of values: arguments or results.
#[derive(Debug, Clone, Default)]
pub struct MultiValue(pub Vec<Value>);

impl MultiValue {
    /// No values.
    pub fn new() -> MultiValue {
        MultiValue::default()
    }
}

impl Deref for MultiValue {
    type Target = Vec<Value>;
    fn deref(&self) -> &Vec<Value> {
        &self.0
    }
}

impl FromIterator<Value> for MultiValue {
    fn from_iter<I: IntoIterator<Item = Value>>(iter: I) -> MultiValue {
        MultiValue(iter.into_iter().collect())
    }
}

impl IntoIterator for MultiValue {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl IntoLuaMulti for MultiValue {
    fn into_lua_multi(self, _: &Lua) -> Result<MultiValue> {
        Ok(self)
    }
}

impl FromLuaMulti for MultiValue {
    fn from_lua_multi(values: MultiValue, _: &Lua) -> Result<MultiValue> {
        Ok(values)
    }
}

/// Becomes one Lua value.
pub trait IntoLua {
    /// Converts.
    fn into_lua(self, lua: &Lua) -> Result<Value>;
}

/// Comes from one Lua value.
pub trait FromLua: Sized {
    /// Converts; a missing value arrives as `Nil`.
    fn from_lua(value: Value, lua: &Lua) -> Result<Self>;
}

/// Becomes any number of Lua values.
pub trait IntoLuaMulti {
    /// Converts.
    fn into_lua_multi(self, lua: &Lua) -> Result<MultiValue>;
}

/// Comes from any number of Lua values.
pub trait FromLuaMulti: Sized {
    /// Converts; surplus values are dropped.
    fn from_lua_multi(values: MultiValue, lua: &Lua) -> Result<Self>;
}

/// All remaining values, of one type.
#[derive(Debug, Clone, Default)]
pub struct Variadic<T>(pub Vec<T>);

impl<T> Deref for Variadic<T> {
    type Target = Vec<T>;
    fn deref(&self) -> &Vec<T> {
        &self.0
    }
}

impl<T> DerefMut for Variadic<T> {
    fn deref_mut(&mut self) -> &mut Vec<T> {
        &mut self.0
    }
}

fn mismatch<T>(v: &Value, to: &str, message: Option<&str>) -> Result<T> {
    Err(Error::FromLuaConversionError {
        from: v.type_name(),
        to: to.to_string(),
        message: message.map(str::to_string),
    })
}

impl IntoLua for Value {
    fn into_lua(self, _: &Lua) -> Result<Value> {
        Ok(self)
    }
}

impl FromLua for Value {
    fn from_lua(value: Value, _: &Lua) -> Result<Value> {
        Ok(value)
    }
}

macro_rules! handle {
    ($($ty:ident)*) => { $(
        impl IntoLua for $ty {
            fn into_lua(self, _: &Lua) -> Result<Value> {
                Ok(Value::$ty(self))
            }
        }

        impl FromLua for $ty {
            fn from_lua(value: Value, _: &Lua) -> Result<$ty> {
                match value {
                    Value::$ty(v) => Ok(v),
                    other => mismatch(&other, stringify!($ty), None),
                }
            }
        }
    )* };
}
handle!(Table Function Thread);

impl IntoLua for LuaString {
    fn into_lua(self, _: &Lua) -> Result<Value> {
        Ok(Value::String(self))
    }
}

impl FromLua for LuaString {
    fn from_lua(value: Value, lua: &Lua) -> Result<LuaString> {
        match value {
            Value::String(s) => Ok(s),
            Value::Number(n) => lua.create_string(crate::value::number::to_text(n)),
            other => mismatch(&other, "String", None),
        }
    }
}

macro_rules! number {
    ($($ty:ty)*) => { $(
        impl IntoLua for $ty {
            fn into_lua(self, _: &Lua) -> Result<Value> {
                Ok(Value::Number(self as f64))
            }
        }

        impl FromLua for $ty {
            fn from_lua(value: Value, lua: &Lua) -> Result<$ty> {
                let n = f64::from_lua_number(&value, lua, stringify!($ty))?;
                let as_int = n as $ty;
                if as_int as f64 == n { Ok(as_int) } else { mismatch(&value, stringify!($ty), Some("out of range")) }
            }
        }
    )* };
}
number!(i8 i16 i32 i64 isize u8 u16 u32 u64 usize);

trait FromLuaNumber: Sized {
    fn from_lua_number(value: &Value, lua: &Lua, to: &str) -> Result<Self>;
}

impl FromLuaNumber for f64 {
    fn from_lua_number(value: &Value, _: &Lua, to: &str) -> Result<f64> {
        match value {
            Value::Number(n) => Ok(*n),
            Value::String(s) => match crate::value::number::parse(&s.to_bytes()) {
                Some(n) => Ok(n),
                None => mismatch(value, to, Some("not a number")),
            },
            other => mismatch(other, to, None),
        }
    }
}

impl IntoLua for f64 {
    fn into_lua(self, _: &Lua) -> Result<Value> {
        Ok(Value::Number(self))
    }
}

impl FromLua for f64 {
    fn from_lua(value: Value, lua: &Lua) -> Result<f64> {
        f64::from_lua_number(&value, lua, "f64")
    }
}

impl IntoLua for f32 {
    fn into_lua(self, _: &Lua) -> Result<Value> {
        Ok(Value::Number(self as f64))
    }
}

impl FromLua for f32 {
    fn from_lua(value: Value, lua: &Lua) -> Result<f32> {
        f64::from_lua_number(&value, lua, "f32").map(|n| n as f32)
    }
}

impl IntoLua for bool {
    fn into_lua(self, _: &Lua) -> Result<Value> {
        Ok(Value::Boolean(self))
    }
}

impl FromLua for bool {
    fn from_lua(value: Value, _: &Lua) -> Result<bool> {
        Ok(!matches!(value, Value::Nil | Value::Boolean(false)))
    }
}

impl IntoLua for &str {
    fn into_lua(self, lua: &Lua) -> Result<Value> {
        lua.create_string(self).map(Value::String)
    }
}

impl IntoLua for String {
    fn into_lua(self, lua: &Lua) -> Result<Value> {
        lua.create_string(self).map(Value::String)
    }
}

impl FromLua for String {
    fn from_lua(value: Value, lua: &Lua) -> Result<String> {
        let s = LuaString::from_lua(value, lua)?;
        String::from_utf8(s.to_bytes()).map_err(|_| Error::FromLuaConversionError {
            from: "string",
            to: "String".into(),
            message: Some("not UTF-8".into()),
        })
    }
}

impl<T: IntoLua> IntoLua for Option<T> {
    fn into_lua(self, lua: &Lua) -> Result<Value> {
        self.map_or(Ok(Value::Nil), |v| v.into_lua(lua))
    }
}

impl<T: FromLua> FromLua for Option<T> {
    fn from_lua(value: Value, lua: &Lua) -> Result<Option<T>> {
        if value.is_nil() { Ok(None) } else { T::from_lua(value, lua).map(Some) }
    }
}

impl<T: IntoLua> IntoLua for Vec<T> {
    fn into_lua(self, lua: &Lua) -> Result<Value> {
        let t = lua.create_table()?;
        for (i, v) in self.into_iter().enumerate() {
            t.raw_set(i as f64 + 1.0, v)?;
        }
        Ok(Value::Table(t))
    }
}

impl<T: FromLua> FromLua for Vec<T> {
    fn from_lua(value: Value, lua: &Lua) -> Result<Vec<T>> {
        let t = Table::from_lua(value, lua)?;
        (1..=t.raw_len()).map(|i| t.raw_get(i as f64)).collect()
    }
}

impl<K: IntoLua, V: IntoLua> IntoLua for HashMap<K, V> {
    fn into_lua(self, lua: &Lua) -> Result<Value> {
        let t = lua.create_table()?;
        for (k, v) in self {
            t.raw_set(k, v)?;
        }
        Ok(Value::Table(t))
    }
}

impl<T: IntoLua> IntoLuaMulti for T {
    fn into_lua_multi(self, lua: &Lua) -> Result<MultiValue> {
        Ok(MultiValue(vec![self.into_lua(lua)?]))
    }
}

impl<T: FromLua> FromLuaMulti for T {
    fn from_lua_multi(values: MultiValue, lua: &Lua) -> Result<T> {
        T::from_lua(values.into_iter().next().unwrap_or(Value::Nil), lua)
    }
}

impl FromLuaMulti for () {
    fn from_lua_multi(_: MultiValue, _: &Lua) -> Result<()> {
        Ok(())
    }
}

impl IntoLuaMulti for () {
    fn into_lua_multi(self, _: &Lua) -> Result<MultiValue> {
        Ok(MultiValue::new())
    }
}

impl<T: FromLua> FromLuaMulti for Variadic<T> {
    fn from_lua_multi(values: MultiValue, lua: &Lua) -> Result<Variadic<T>> {
        values.into_iter().map(|v| T::from_lua(v, lua)).collect::<Result<Vec<T>>>().map(Variadic)
    }
}

impl<T: IntoLua> IntoLuaMulti for Variadic<T> {
    fn into_lua_multi(self, lua: &Lua) -> Result<MultiValue> {
        self.0.into_iter().map(|v| v.into_lua(lua)).collect()
    }
}

macro_rules! tuple {
    ($($t:ident)+) => {
        #[allow(non_snake_case)]
        impl<$($t: IntoLua),+> IntoLuaMulti for ($($t,)+) {
            fn into_lua_multi(self, lua: &Lua) -> Result<MultiValue> {
                let ($($t,)+) = self;
                Ok(MultiValue(vec![$($t.into_lua(lua)?),+]))
            }
        }

        #[allow(non_snake_case)]
        impl<$($t: FromLua),+> FromLuaMulti for ($($t,)+) {
            fn from_lua_multi(values: MultiValue, lua: &Lua) -> Result<Self> {
                let mut it = values.into_iter();
                Ok(($($t::from_lua(it.next().unwrap_or(Value::Nil), lua)?,)+))
            }
        }
    };
}
tuple!(A);
tuple!(A B);
tuple!(A B C);
tuple!(A B C D);
tuple!(A B C D E);
tuple!(A B C D E F);
