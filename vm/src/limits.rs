//! Every numeric limit, unit in the name.

/// Longest interned string, bytes.
pub const STR_INTERN_MAX: usize = 40;
/// Longest string, bytes.
pub const STR_LEN_MAX: usize = 0x7fff_ff00;
/// Stack slots of a fresh coroutine.
pub const STACK_START: usize = 48;
/// Slots kept free above `maxstack` for frames of natives, metamethod calls and error handling.
pub const STACK_EXTRA: usize = 40;
/// Most stack slots of one coroutine before "stack overflow".
pub const STACK_MAX: usize = 65500;
/// Slots above `STACK_MAX` for error handlers.
pub const STACK_ERR_EXTRA: usize = 4096;
/// Slots a native may push without asking.
pub const NATIVE_SLOTS: usize = 20;
/// Nested native runs (host to Lua to host ...) before "C stack overflow".
pub const NATIVE_RUNS_MAX: u32 = 190;
/// Coroutines that resume one another before "C stack overflow".
pub const COROUTINE_DEPTH_MAX: u32 = 10_000;
/// Length of an `__index` or `__newindex` chain.
pub const META_LOOP_MAX: usize = 100;
/// Bytes of the path of a library for `package.loadlib`.
pub const LIBRARY_PATH_MAX: usize = 4095;
/// Captures of a pattern.
pub const PATTERN_CAPTURES_MAX: usize = 32;
/// Locals of one function.
pub const LOCALS_MAX: usize = 200;
/// Upvalues of one function.
pub const UPVALUES_MAX: usize = 60;
/// Upvalues of one function in the 5.2 flavour, which is OpenResty's: its LuaJIT allows more.
pub const UPVALUES_MAX_COMPAT52: usize = 120;
/// Registers of one function.
pub const SLOTS_MAX: usize = 250;
/// Nesting levels of syntax.
pub const SYNTAX_LEVELS_MAX: usize = 200;
/// Array part, slots.
pub const TABLE_ARRAY_MAX: usize = (1 << 27) + 1;
/// log2 of the largest hash part.
pub const TABLE_HASH_BITS_MAX: u32 = 26;

const _: () = assert!(NATIVE_SLOTS + 8 <= STACK_EXTRA);
