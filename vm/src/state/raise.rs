//! Raising errors: storing the value, adding the position, naming the culprit. Unwinds nothing: `interp` does,
//! when it sees [`Raised`].

use crate::error::messages as msg;
use crate::error::varname::{NameKind, slot_name};
use crate::state::Vm;
use crate::state::native::Raised;
use crate::thread::stack::StackError;
use crate::value::Value;

impl Vm {
    /// Raises a value.
    #[inline]
    pub fn throw(&mut self, v: Value) -> Raised {
        self.err = v;
        Raised(())
    }

    /// Raises a message as it is.
    pub fn throw_plain(&mut self, message: &[u8]) -> Raised {
        let s = self.heap.str(message);
        self.throw(Value::obj(s))
    }

    /// Raises a message with the position of the code that called the running native.
    pub fn throw_str(&mut self, message: &[u8]) -> Raised {
        let mut text = self.position(1);
        text.extend_from_slice(message);
        self.throw_plain(&text)
    }

    /// Raises a message with the position of the running code itself (errors of instructions).
    pub(crate) fn throw_here(&mut self, message: &[u8]) -> Raised {
        let mut text = self.position(0);
        text.extend_from_slice(message);
        self.throw_plain(&text)
    }

    /// `source:line: ` of the frame at a level of the running coroutine; empty when there is none or it is native.
    pub fn position(&self, level: usize) -> Vec<u8> {
        match self.frame_at(self.cur, level) {
            Some(f) => self.frame_where(f),
            None => Vec::new(),
        }
    }

    /// Takes the pending error value.
    pub fn take_error(&mut self) -> Value {
        self.no_handler = false;
        std::mem::replace(&mut self.err, Value::NIL)
    }

    /// `bad argument #i+1 to 'name' (message)`, or the text for a bad `self`.
    pub fn arg_error(&mut self, i: usize, message: &[u8]) -> Raised {
        let named = self.innermost(self.cur).and_then(|f| self.frame_name(f));
        let (kind, name) = match named {
            Some((k, n)) => (Some(k), n),
            None => (None, b"?".to_vec()),
        };
        let mut number = i + 1;
        if kind == Some(NameKind::Method) {
            number -= 1;
            if number == 0 {
                let text = msg::fill(msg::BAD_SELF, &[&name, message]);
                return self.throw_str(&text);
            }
        }
        let text = msg::fill(msg::BAD_ARG, &[number.to_string().as_bytes(), &name, message]);
        self.throw_str(&text)
    }

    /// `bad argument #i+1 to 'name' (expected expected, got type)`.
    pub fn type_error(&mut self, i: usize, expected: &str) -> Raised {
        let got = match self.arg_opt(i) {
            Some(v) => v.type_name(),
            None => "no value",
        };
        let text = msg::fill(msg::BAD_TYPE, &[expected.as_bytes(), got.as_bytes()]);
        self.arg_error(i, &text)
    }

    /// A stack that cannot grow, as an error.
    pub(crate) fn raise_stack(&mut self, e: StackError) -> Raised {
        match e {
            StackError::Overflow => self.throw_here(msg::STACK_OVERFLOW.as_bytes()),
            StackError::ErrorInError => {
                self.no_handler = true;
                self.throw_plain(msg::STACK_OVERFLOW.as_bytes())
            }
        }
    }

    /// An operand of the current instruction has the wrong type. `slot` is its register, if it is in one.
    pub(crate) fn operand_error(&mut self, op: &str, v: Value, slot: Option<u32>) -> Raised {
        let named = slot.and_then(|slot| {
            let f = self.innermost(self.cur)?;
            let pt = self.frame_proto(f)?;
            let pos = self.frame_pos(f)?;
            slot_name(&self.heap, pt.get(&self.heap), pos, slot)
        });
        let ty = v.type_name();
        let text = match named {
            Some((kind, name)) => {
                let args: &[&[u8]] = &[op.as_bytes(), kind.word().as_bytes(), &name, ty.as_bytes()];
                msg::fill(msg::BAD_OPERAND_NAMED, args)
            }
            None => msg::fill(msg::BAD_OPERAND, &[op.as_bytes(), ty.as_bytes()]),
        };
        self.throw_here(&text)
    }

    /// Two values that cannot be compared.
    pub fn compare_error(&mut self, a: Value, b: Value) -> Raised {
        let (ta, tb) = (a.type_name(), b.type_name());
        let text = if ta == tb {
            msg::fill(msg::COMPARE_SAME, &[ta.as_bytes()])
        } else {
            msg::fill(msg::COMPARE_MIXED, &[ta.as_bytes(), tb.as_bytes()])
        };
        self.throw_here(&text)
    }
}
