//! Values the host holds: a slab of rooted slots.

use crate::value::Value;

/// Number of a rooted slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RootId(u32);

impl RootId {
    /// Its number, for logs.
    pub fn number(self) -> u32 {
        self.0
    }
}

/// The rooted slots of one heap.
#[derive(Default)]
pub struct Roots {
    slots: Vec<Value>,
    free: Vec<u32>,
}

impl Roots {
    /// Keeps `v` alive until [`Roots::remove`].
    pub fn add(&mut self, v: Value) -> RootId {
        match self.free.pop() {
            Some(i) => {
                self.slots[i as usize] = v;
                RootId(i)
            }
            None => {
                self.slots.push(v);
                RootId(self.slots.len() as u32 - 1)
            }
        }
    }

    /// The value of a slot; `nil` if the slot does not exist.
    pub fn get(&self, id: RootId) -> Value {
        self.slots.get(id.0 as usize).copied().unwrap_or(Value::NIL)
    }

    /// Replaces the value of a slot.
    pub fn set(&mut self, id: RootId, v: Value) {
        if let Some(s) = self.slots.get_mut(id.0 as usize) {
            *s = v;
        }
    }

    /// Gives the slot back; its number must not be used again.
    pub fn remove(&mut self, id: RootId) -> Value {
        match self.slots.get_mut(id.0 as usize) {
            Some(s) => {
                self.free.push(id.0);
                std::mem::replace(s, Value::NIL)
            }
            None => Value::NIL,
        }
    }

    /// All slots, free ones as `nil`.
    pub fn values(&self) -> &[Value] {
        &self.slots
    }
}
