//! Regular expressions: PCRE2 behind a safe wrapper, for configuration and `ngx.re`.
//!
//! A `Regex` is compiled once and shared; a `MatchData` belongs to one user and
//! is reused from match to match. This file is the only binding to PCRE2.
//!
//! Must not know: configuration, requests, Lua.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fmt;
use std::ptr::{self, NonNull};

use pcre2_sys as sys;

/// How a pattern is compiled. `Default` compiles bytes, case-sensitively, with JIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// `i`: letters match either case.
    pub caseless: bool,
    /// `m`: `^` and `$` match at line ends too.
    pub multiline: bool,
    /// `s`: `.` matches a newline.
    pub dotall: bool,
    /// `x`: white space and comments in the pattern are skipped.
    pub extended: bool,
    /// `a`: matches only at the start position.
    pub anchored: bool,
    /// `u`: pattern and subjects are UTF-8, and checked.
    pub utf: bool,
    /// `U`: as `u`, subjects unchecked.
    pub utf_unchecked: bool,
    /// `D`: a group name may stand several times.
    pub duplicate_names: bool,
    /// `J`: JavaScript's reading of escapes and unset references.
    pub javascript: bool,
    /// `j`: compile to machine code when the machine allows.
    pub jit: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            caseless: false,
            multiline: false,
            dotall: false,
            extended: false,
            anchored: false,
            utf: false,
            utf_unchecked: false,
            duplicate_names: false,
            javascript: false,
            jit: true,
        }
    }
}

impl Options {
    fn bits(self) -> u32 {
        let mut bits = 0;
        for (on, flag) in [
            (self.caseless, sys::PCRE2_CASELESS),
            (self.multiline, sys::PCRE2_MULTILINE),
            (self.dotall, sys::PCRE2_DOTALL),
            (self.extended, sys::PCRE2_EXTENDED),
            (self.anchored, sys::PCRE2_ANCHORED),
            (self.utf || self.utf_unchecked, sys::PCRE2_UTF),
            (self.utf_unchecked, sys::PCRE2_NO_UTF_CHECK),
            (self.duplicate_names, sys::PCRE2_DUPNAMES),
            (self.javascript, sys::PCRE2_ALT_BSUX | sys::PCRE2_MATCH_UNSET_BACKREF),
        ] {
            if on {
                bits |= flag;
            }
        }
        bits
    }
}

/// Why a pattern does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompileError {
    /// PCRE2's text, `missing closing parenthesis`.
    pub message: String,
    /// Byte offset into the pattern.
    pub offset: usize,
}

impl CompileError {
    /// nginx's sentence for the error, with the pattern and the place.
    pub fn describe(&self, pattern: &[u8]) -> String {
        let source = String::from_utf8_lossy(pattern);
        let message = &self.message;
        match pattern.get(self.offset..) {
            None | Some([]) => format!("pcre2_compile() failed: {message} in \"{source}\""),
            Some(rest) => {
                let rest = String::from_utf8_lossy(rest);
                format!("pcre2_compile() failed: {message} in \"{source}\" at \"{rest}\"")
            }
        }
    }
}

/// A match that ended with neither a match nor a mismatch: PCRE2's number, always negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MatchError(pub i32);

impl MatchError {
    /// PCRE2's text for the number.
    pub fn message(self) -> String {
        error_text(self.0)
    }
}

fn error_text(code: c_int) -> String {
    let mut text = [0u8; 256];
    // SAFETY: the pointer and the length describe `text`; PCRE2 writes at most that many bytes.
    let len = unsafe { sys::pcre2_get_error_message_8(code, text.as_mut_ptr(), text.len()) };
    let len = usize::try_from(len).unwrap_or(0).min(text.len());
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// A compiled pattern.
pub struct Regex {
    code: NonNull<sys::pcre2_code_8>,
    options: Options,
    captures: u32,
    names: Vec<(String, u32)>,
}

// SAFETY: PCRE2 never writes to compiled code after `jit_compile`, which `new` calls before the value exists elsewhere.
unsafe impl Send for Regex {}
// SAFETY: as above: matching reads the code only, all state is in the caller's `MatchData`.
unsafe impl Sync for Regex {}

impl Regex {
    /// Compiles `pattern`.
    pub fn new(pattern: &[u8], options: Options) -> Result<Regex, CompileError> {
        let mut code = 0;
        let mut offset = 0;
        // SAFETY: pointer and length describe `pattern`; the two out pointers are locals; no context is given.
        let compiled = unsafe {
            sys::pcre2_compile_8(
                pattern.as_ptr(),
                pattern.len(),
                options.bits(),
                &mut code,
                &mut offset,
                ptr::null_mut(),
            )
        };
        let Some(handle) = NonNull::new(compiled) else {
            return Err(CompileError { message: error_text(code), offset });
        };
        if options.jit {
            // A refusal (no executable memory, no JIT built in) leaves the code interpretable.
            // SAFETY: `handle` is the live code made above, not shared yet.
            unsafe { sys::pcre2_jit_compile_8(handle.as_ptr(), sys::PCRE2_JIT_COMPLETE) };
        }
        let mut regex = Regex { code: handle, options, captures: 0, names: Vec::new() };
        regex.captures = regex.info_u32(sys::PCRE2_INFO_CAPTURECOUNT);
        regex.names = regex.read_names();
        Ok(regex)
    }

    fn info_u32(&self, what: u32) -> u32 {
        let mut value: u32 = 0;
        // SAFETY: the code is live; every `what` used in this file stores one u32.
        unsafe { sys::pcre2_pattern_info_8(self.code.as_ptr(), what, (&raw mut value).cast()) };
        value
    }

    fn read_names(&self) -> Vec<(String, u32)> {
        let count = self.info_u32(sys::PCRE2_INFO_NAMECOUNT) as usize;
        let size = self.info_u32(sys::PCRE2_INFO_NAMEENTRYSIZE) as usize;
        let mut table: *const u8 = ptr::null();
        // SAFETY: the code is live; PCRE2_INFO_NAMETABLE stores one pointer.
        unsafe {
            sys::pcre2_pattern_info_8(self.code.as_ptr(), sys::PCRE2_INFO_NAMETABLE, (&raw mut table).cast())
        };
        if count == 0 || table.is_null() {
            return Vec::new();
        }
        // SAFETY: PCRE2 documents the table as `count` entries of `size` bytes, owned by the live code.
        let table = unsafe { std::slice::from_raw_parts(table, count * size) };
        table
            .chunks_exact(size)
            .map(|entry| {
                let group = u32::from(entry[0]) << 8 | u32::from(entry[1]);
                let name = &entry[2..];
                let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
                (String::from_utf8_lossy(&name[..end]).into_owned(), group)
            })
            .collect()
    }

    /// How many capture groups the pattern has, the whole match not counted.
    pub fn captures(&self) -> u32 {
        self.captures
    }

    /// The group names with their numbers, sorted by name; a name may stand several times.
    pub fn names(&self) -> &[(String, u32)] {
        &self.names
    }

    /// How the pattern was compiled.
    pub fn options(&self) -> Options {
        self.options
    }

    /// Whether `subject` has a match at or after byte `start`. The groups are then in `data`.
    pub fn find_at(&self, subject: &[u8], start: usize, data: &mut MatchData) -> Result<bool, MatchError> {
        self.run(subject, start, data, false)
    }

    /// As `find_at`, by PCRE2's DFA algorithm: the longest match, no groups.
    pub fn find_longest_at(
        &self,
        subject: &[u8],
        start: usize,
        data: &mut MatchData,
    ) -> Result<bool, MatchError> {
        self.run(subject, start, data, true)
    }

    fn run(&self, subject: &[u8], start: usize, data: &mut MatchData, dfa: bool) -> Result<bool, MatchError> {
        data.reserve(self.captures as usize + 1);
        data.groups = 0;
        if start > subject.len() {
            return Ok(false);
        }
        let flags = if self.options.utf_unchecked { sys::PCRE2_NO_UTF_CHECK } else { 0 };
        let code = self.code.as_ptr();
        let matched = if dfa {
            let mut workspace = [0 as c_int; 512];
            // SAFETY: code, data and context are live; pointer and length describe `subject` and `workspace`; start <= len.
            unsafe {
                sys::pcre2_dfa_match_8(
                    code,
                    subject.as_ptr(),
                    subject.len(),
                    start,
                    flags,
                    data.data.as_ptr(),
                    data.context.as_ptr(),
                    workspace.as_mut_ptr(),
                    workspace.len(),
                )
            }
        } else {
            // SAFETY: code, data and context are live; pointer and length describe `subject`; start <= len.
            unsafe {
                sys::pcre2_match_8(
                    code,
                    subject.as_ptr(),
                    subject.len(),
                    start,
                    flags,
                    data.data.as_ptr(),
                    data.context.as_ptr(),
                )
            }
        };
        match matched {
            sys::PCRE2_ERROR_NOMATCH => Ok(false),
            failed if failed < 0 => Err(MatchError(failed)),
            // Zero says that a DFA match had more alternatives than pairs: the pairs are filled.
            _ => {
                data.groups = if dfa { 1 } else { self.captures as usize + 1 };
                data.set = if matched == 0 { data.groups } else { matched as usize };
                Ok(true)
            }
        }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: the code was made by `new`, and nobody else frees it.
        unsafe { sys::pcre2_code_free_8(self.code.as_ptr()) }
    }
}

impl fmt::Debug for Regex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Regex").field("captures", &self.captures).finish_non_exhaustive()
    }
}

/// The groups of the last match, and the memory a match works in.
pub struct MatchData {
    data: NonNull<sys::pcre2_match_data_8>,
    context: NonNull<sys::pcre2_match_context_8>,
    pairs: usize,
    groups: usize,
    set: usize,
    jit_stack: Option<NonNull<sys::pcre2_jit_stack_8>>,
}

// SAFETY: the memory is owned by this value alone and has no thread affinity.
unsafe impl Send for MatchData {}

impl MatchData {
    /// Room for matches of any pattern; grows when a pattern has more groups.
    pub fn new() -> MatchData {
        let pairs = 10;
        // SAFETY: no general context: PCRE2 uses malloc; the results are checked for null.
        let (data, context) = unsafe {
            (
                sys::pcre2_match_data_create_8(pairs, ptr::null_mut()),
                sys::pcre2_match_context_create_8(ptr::null_mut()),
            )
        };
        MatchData {
            data: NonNull::new(data).expect("out of memory for match data"),
            context: NonNull::new(context).expect("out of memory for a match context"),
            pairs: pairs as usize,
            groups: 0,
            set: 0,
            jit_stack: None,
        }
    }

    /// Limits the backtracking of each match; 0 is PCRE2's own limit.
    pub fn set_match_limit(&mut self, limit: u32) {
        let limit = if limit == 0 { 10_000_000 } else { limit };
        // SAFETY: the context is live and owned by `self`.
        unsafe { sys::pcre2_set_match_limit_8(self.context.as_ptr(), limit) };
    }

    /// Lets machine code use a stack of up to that many bytes (at least 32 KiB) instead of its own 32 KiB.
    /// False when there is no memory for it.
    pub fn set_jit_stack(&mut self, bytes: usize) -> bool {
        const BYTES_MIN: usize = 32 * 1024;
        // SAFETY: no general context: PCRE2 uses malloc; the result is checked for null.
        let stack =
            unsafe { sys::pcre2_jit_stack_create_8(BYTES_MIN, bytes.max(BYTES_MIN), ptr::null_mut()) };
        let Some(stack) = NonNull::new(stack) else { return false };
        // SAFETY: context and stack are live; the stack lives until it is replaced or `self` ends.
        unsafe { sys::pcre2_jit_stack_assign_8(self.context.as_ptr(), None, stack.as_ptr().cast()) };
        if let Some(old) = self.jit_stack.replace(stack) {
            // SAFETY: the context has a new stack, and no match is running: `self` is borrowed mutably.
            unsafe { sys::pcre2_jit_stack_free_8(old.as_ptr()) };
        }
        true
    }

    fn reserve(&mut self, pairs: usize) {
        if pairs <= self.pairs {
            return;
        }
        let pairs = u32::try_from(pairs).expect("PCRE2 has at most 65535 groups");
        // SAFETY: no general context: PCRE2 uses malloc; the result is checked for null.
        let data = unsafe { sys::pcre2_match_data_create_8(pairs, ptr::null_mut()) };
        let data = NonNull::new(data).expect("out of memory for match data");
        // SAFETY: the old block was made by `create`, and is not used after this line.
        unsafe { sys::pcre2_match_data_free_8(self.data.as_ptr()) };
        self.data = data;
        self.pairs = pairs as usize;
    }

    /// Groups of the last match, the whole match counted; 0 when it failed.
    pub fn len(&self) -> usize {
        self.groups
    }

    /// Whether the last match failed.
    pub fn is_empty(&self) -> bool {
        self.groups == 0
    }

    /// Byte range of group `n` (0 is the whole match); `None` when it took no part.
    pub fn get(&self, n: usize) -> Option<(usize, usize)> {
        if n >= self.set.min(self.groups) {
            return None;
        }
        // SAFETY: the vector has `pairs` pairs, `groups` <= `pairs` by `reserve`, and `n` < `groups`.
        let (from, to) = unsafe {
            let vector = sys::pcre2_get_ovector_pointer_8(self.data.as_ptr());
            (*vector.add(2 * n), *vector.add(2 * n + 1))
        };
        // A lookbehind with \K can put the start behind the end; such a group has no text.
        (from != usize::MAX && from <= to).then_some((from, to))
    }
}

impl Default for MatchData {
    fn default() -> Self {
        MatchData::new()
    }
}

impl Drop for MatchData {
    fn drop(&mut self) {
        // SAFETY: both were made by `new` or `reserve`, and nobody else frees them.
        unsafe {
            sys::pcre2_match_data_free_8(self.data.as_ptr());
            sys::pcre2_match_context_free_8(self.context.as_ptr());
            if let Some(stack) = self.jit_stack {
                sys::pcre2_jit_stack_free_8(stack.as_ptr());
            }
        }
    }
}

impl fmt::Debug for MatchData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.groups).map(|n| self.get(n))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_names() {
        let regex = Regex::new(br"(?<year>\d+)-(x)?(\d+)", Options::default()).expect("compiles");
        assert_eq!(regex.names(), &[("year".to_owned(), 1)]);
        let mut data = MatchData::new();
        assert_eq!(regex.find_at(b"on 2026-11", 0, &mut data), Ok(true));
        assert_eq!(
            (0..5).map(|n| data.get(n)).collect::<Vec<_>>(),
            [Some((3, 10)), Some((3, 7)), None, Some((8, 10)), None]
        );
        assert_eq!(regex.find_at(b"on 2026-11", 8, &mut data), Ok(false));
        assert!(data.is_empty());
    }

    #[test]
    fn compile_error_has_text_and_offset() {
        let failed = Regex::new(b"a(", Options::default()).expect_err("unbalanced");
        assert_eq!((failed.message.as_str(), failed.offset), ("missing closing parenthesis", 2));
    }

    #[test]
    fn many_groups_grow_the_data() {
        let pattern = "(a)".repeat(40);
        let regex = Regex::new(pattern.as_bytes(), Options::default()).expect("compiles");
        let mut data = MatchData::new();
        assert_eq!(regex.find_at("a".repeat(41).as_bytes(), 1, &mut data), Ok(true));
        assert_eq!(data.get(40), Some((40, 41)));
    }

    #[test]
    fn match_limit_is_an_error() {
        let regex = Regex::new(b"(a+)+$", Options { jit: false, ..Options::default() }).expect("compiles");
        let mut data = MatchData::new();
        data.set_match_limit(100);
        assert_eq!(
            regex.find_at(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 0, &mut data),
            Err(MatchError(sys::PCRE2_ERROR_MATCHLIMIT))
        );
    }

    #[test]
    fn a_larger_stack_for_machine_code_carries_further() {
        let regex = Regex::new(b"(?:a|b)*?c", Options::default()).expect("compiles");
        let nested = Regex::new(b"^(?:(a)|(b))*$", Options::default()).expect("compiles");
        let mut data = MatchData::new();
        let text = vec![b'a'; 200_000];
        let before = nested.find_at(&text, 0, &mut data);
        assert!(data.set_jit_stack(64 * 1024 * 1024) && data.set_jit_stack(128 * 1024 * 1024));
        let after = nested.find_at(&text, 0, &mut data);
        assert!(before.is_err() && after == Ok(true), "{before:?} {after:?}");
        assert_eq!(regex.find_at(b"abc", 0, &mut data), Ok(true));
    }

    #[test]
    fn longest_match_takes_the_longest_alternative() {
        let regex = Regex::new(b"a|ab|abc", Options::default()).expect("compiles");
        let mut data = MatchData::new();
        assert_eq!(regex.find_longest_at(b"xabcd", 0, &mut data), Ok(true));
        assert_eq!(data.get(0), Some((1, 4)));
    }
}
