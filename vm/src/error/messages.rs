//! The one table of run-time message texts. `%s` marks an insertion. Scripts match on these texts, so they
//! are LuaJIT's to the byte.

/// Inserts `args` into the `%s` places of a template, in order.
pub fn fill(template: &str, args: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(template.len() + args.iter().map(|a| a.len()).sum::<usize>());
    let mut args = args.iter();
    let mut rest = template;
    while let Some(at) = rest.find("%s") {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        if let Some(a) = args.next() {
            out.extend_from_slice(a);
        }
        rest = &rest[at + 2..];
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: &str = $text;)*
        /// Every text, for tests over the table.
        pub const ALL: &[&str] = &[$($text),*];
    };
}

messages! {
    /// Argument number, function name, what is wrong.
    BAD_ARG = "bad argument #%s to '%s' (%s)";
    /// Function name, what is wrong.
    BAD_SELF = "calling '%s' on bad self (%s)";
    /// Expected type, actual type.
    BAD_TYPE = "%s expected, got %s";
    /// A required argument is missing.
    NO_VALUE = "value expected";
    /// Operation, kind of variable, name, type.
    BAD_OPERAND_NAMED = "attempt to %s %s '%s' (a %s value)";
    /// Operation, type.
    BAD_OPERAND = "attempt to %s a %s value";
    /// Operation name.
    OP_INDEX = "index";
    /// Operation name.
    OP_CALL = "call";
    /// Operation name.
    OP_ARITH = "perform arithmetic on";
    /// Operation name.
    OP_CONCAT = "concatenate";
    /// Operation name.
    OP_LEN = "get length of";
    /// Both have the same type.
    COMPARE_SAME = "attempt to compare two %s values";
    /// Two types.
    COMPARE_MIXED = "attempt to compare %s with %s";
    /// Numeric for.
    FOR_INIT = "'for' initial value must be a number";
    /// Numeric for.
    FOR_LIMIT = "'for' limit must be a number";
    /// Numeric for.
    FOR_STEP = "'for' step must be a number";
    /// `__index` chain too long.
    LOOP_GET = "loop in gettable";
    /// `__newindex` chain too long.
    LOOP_SET = "loop in settable";
    /// Table store with a nil key.
    INDEX_NIL = "table index is nil";
    /// Table store with a NaN key.
    INDEX_NAN = "table index is NaN";
    /// Table too large.
    TABLE_OVERFLOW = "table overflow";
    /// `next` with a key that is not in the table.
    NEXT_KEY = "invalid key to 'next'";
    /// String too long.
    STRING_OVERFLOW = "string length overflow";
    /// Heap limit reached.
    NO_MEMORY = "not enough memory";
    /// Lua stack full.
    STACK_OVERFLOW = "stack overflow";
    /// Too many nested native runs.
    C_STACK_OVERFLOW = "C stack overflow";
    /// An error while handling an error.
    ERROR_IN_ERROR = "error in error handling";
    /// A yield would have to cross a nested native run.
    YIELD_BOUNDARY = "attempt to yield across C-call boundary";
    /// Resume of a finished coroutine.
    CO_DEAD = "cannot resume dead coroutine";
    /// Resume of the running coroutine.
    CO_RUNNING = "cannot resume running coroutine";
    /// Argument is no coroutine.
    CO_EXPECTED = "coroutine expected";
    /// Wall-clock limit.
    DEADLINE = "time limit exceeded";
    /// Instruction limit.
    FUEL = "instruction limit exceeded";
    /// The host's limit of time on CPU.
    CPU_LIMIT = "CPU time limit exceeded";
    /// Ctrl-C.
    INTERRUPTED = "interrupted!";
    /// Native function name, panic text.
    NATIVE_PANIC = "panic in native function '%s': %s";
    /// Native function name.
    NATIVE_BAD_OUTCOME = "native function '%s' returned an outcome that does not fit its frame";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fill_inserts_in_order() {
        assert_eq!(fill(BAD_ARG, &[b"1", b"rep", b"x"]), b"bad argument #1 to 'rep' (x)");
        assert_eq!(fill("plain", &[]), b"plain");
    }
}
