//! Lua patterns: compiled once per call, matched by backtracking with a depth limit. Knows bytes only, no VM.
//!
//! Errors of a pattern surface when the matcher reaches the faulty item, as in Lua: a pattern whose
//! beginning does not match is never found to be malformed.

use crate::limits::PATTERN_CAPTURES_MAX;

/// Nested attempts before "pattern too complex".
const DEPTH_MAX: u32 = 200;

/// What is wrong with a pattern.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatternError {
    /// Ends with `%`.
    EndsWithPercent,
    /// `[` without `]`.
    MissingBracket,
    /// `%b` without its two characters.
    Unbalanced,
    /// `%f` without a set.
    FrontierSet,
    /// `)` without `(`.
    CloseCapture,
    /// `%1` to a capture that does not exist or is open.
    CaptureIndex,
    /// `(` without `)`.
    UnfinishedCapture,
    /// More than 32 captures.
    TooManyCaptures,
    /// Nested too deeply.
    TooComplex,
    /// Whoever watches does not want it to go on.
    Stopped,
}

impl PatternError {
    /// The message.
    pub fn text(self) -> &'static str {
        match self {
            PatternError::EndsWithPercent => "malformed pattern (ends with '%')",
            PatternError::MissingBracket => "malformed pattern (missing ']')",
            PatternError::Unbalanced => "unbalanced pattern",
            PatternError::FrontierSet => "missing '[' after '%f' in pattern",
            PatternError::CloseCapture => "invalid pattern capture",
            PatternError::CaptureIndex => "invalid capture index",
            PatternError::UnfinishedCapture => "unfinished capture",
            PatternError::TooManyCaptures => "too many captures",
            PatternError::TooComplex => "pattern too complex",
            PatternError::Stopped => "pattern matching stopped",
        }
    }
}

/// A set of bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Bits([u64; 4]);

impl Bits {
    const EMPTY: Bits = Bits([0; 4]);

    #[inline(always)]
    fn has(&self, c: u8) -> bool {
        self.0[c as usize >> 6] >> (c & 63) & 1 != 0
    }

    fn add(&mut self, c: u8) {
        self.0[c as usize >> 6] |= 1 << (c & 63);
    }

    fn add_range(&mut self, from: u8, to: u8) {
        for c in from..=to {
            self.add(c);
        }
    }

    fn join(&mut self, o: Bits) {
        for (a, b) in self.0.iter_mut().zip(o.0) {
            *a |= b;
        }
    }

    fn inverted(self) -> Bits {
        Bits(self.0.map(|w| !w))
    }

    const fn of(class: u8) -> Option<Bits> {
        let mut bits = [0u64; 4];
        let mut i = 0;
        while i < 256 {
            let c = i as u8;
            let is = match class {
                b'a' => c.is_ascii_alphabetic(),
                b'c' => c.is_ascii_control(),
                b'd' => c.is_ascii_digit(),
                b'g' => c.is_ascii_graphic(),
                b'l' => c.is_ascii_lowercase(),
                b'p' => c.is_ascii_punctuation(),
                b's' => matches!(c, b' ' | 9..=13),
                b'u' => c.is_ascii_uppercase(),
                b'w' => c.is_ascii_alphanumeric(),
                b'x' => c.is_ascii_hexdigit(),
                b'z' => c == 0,
                _ => return None,
            };
            if is {
                bits[i >> 6] |= 1 << (i & 63);
            }
            i += 1;
        }
        Some(Bits(bits))
    }

    /// The set of class letter `c`; `None` if `%c` is the character itself.
    fn class(c: u8) -> Option<Bits> {
        let mut i = 0;
        let low = c.to_ascii_lowercase();
        while i < CLASSES.len() {
            if CLASS_LETTERS[i] == low {
                return Some(if c.is_ascii_uppercase() { CLASSES[i].inverted() } else { CLASSES[i] });
            }
            i += 1;
        }
        None
    }
}

const CLASS_LETTERS: [u8; 11] = *b"wdsapluxgcz";
static CLASSES: [Bits; 11] = {
    let mut all = [Bits::EMPTY; 11];
    let mut i = 0;
    while i < 11 {
        if let Some(b) = Bits::of(CLASS_LETTERS[i]) {
            all[i] = b;
        }
        i += 1;
    }
    all
};

/// What one character is tested for.
#[derive(Clone, Copy)]
enum Test {
    Any,
    Byte(u8),
    /// Index into [`Pattern::sets`].
    Set(u32),
}

/// One item of a compiled pattern.
#[derive(Clone, Copy)]
enum Item {
    One(Test),
    Optional(Test),
    /// At least so many, longest first.
    Greedy(Test, usize),
    /// Shortest first.
    Lazy(Test),
    Open,
    Position,
    Close,
    Back(u8),
    Balance(u8, u8),
    /// Index into [`Pattern::sets`].
    Frontier(u32),
    /// `$` at the end.
    End,
    Fail(PatternError),
}

/// A compiled pattern.
pub struct Pattern {
    items: Vec<Item>,
    sets: Vec<Bits>,
    /// Begins with `^` (and the caller allows that).
    pub anchored: bool,
}

/// Has the text any magic character? If not, `find` is a plain search.
pub fn has_magic(pattern: &[u8]) -> bool {
    pattern.iter().any(|c| b"^$*+?.([%-".contains(c))
}

impl Pattern {
    /// Compiles; `anchors` says whether a leading `^` is an anchor (not so in `gmatch`). A zero byte ends the pattern,
    /// as in LuaJIT: `%z` is how one is looked for.
    pub fn new(text: &[u8], anchors: bool) -> Pattern {
        let text = text.split(|&c| c == 0).next().unwrap_or_default();
        let mut p =
            Pattern { items: Vec::with_capacity(text.len().min(16)), sets: Vec::new(), anchored: false };
        let mut s = text;
        if anchors && let [b'^', rest @ ..] = s {
            p.anchored = true;
            s = rest;
        }
        while let Some(rest) = p.item(s) {
            s = rest;
        }
        p
    }

    fn fail(&mut self, e: PatternError) -> Option<&'static [u8]> {
        self.items.push(Item::Fail(e));
        None
    }

    fn set(&mut self, bits: Bits) -> u32 {
        if let Some(i) = self.sets.iter().position(|b| *b == bits) {
            return i as u32;
        }
        self.sets.push(bits);
        self.sets.len() as u32 - 1
    }

    /// Compiles one item; answers what is left, `None` at the end or after a fault.
    fn item<'a>(&mut self, s: &'a [u8]) -> Option<&'a [u8]> {
        let (test, rest) = match s {
            [] => return None,
            [b'(', b')', rest @ ..] => {
                self.items.push(Item::Position);
                return Some(rest);
            }
            [b'(', rest @ ..] => {
                self.items.push(Item::Open);
                return Some(rest);
            }
            [b')', rest @ ..] => {
                self.items.push(Item::Close);
                return Some(rest);
            }
            [b'$'] => {
                self.items.push(Item::End);
                return None;
            }
            [b'%', b'b', rest @ ..] => {
                let [open, close, rest @ ..] = rest else { return self.fail(PatternError::Unbalanced) };
                self.items.push(Item::Balance(*open, *close));
                return Some(rest);
            }
            [b'%', b'f', rest @ ..] => {
                let [b'[', ..] = rest else { return self.fail(PatternError::FrontierSet) };
                let Some((bits, rest)) = bracket_set(rest) else {
                    return self.fail(PatternError::MissingBracket);
                };
                let i = self.set(bits);
                self.items.push(Item::Frontier(i));
                return Some(rest);
            }
            [b'%', d @ b'0'..=b'9', rest @ ..] => {
                self.items.push(Item::Back(*d));
                return Some(rest);
            }
            [b'%'] => return self.fail(PatternError::EndsWithPercent),
            [b'%', c, rest @ ..] => match Bits::class(*c) {
                Some(bits) => (Test::Set(self.set(bits)), rest),
                None => (Test::Byte(*c), rest),
            },
            [b'[', ..] => {
                let Some((bits, rest)) = bracket_set(s) else {
                    return self.fail(PatternError::MissingBracket);
                };
                (Test::Set(self.set(bits)), rest)
            }
            [b'.', rest @ ..] => (Test::Any, rest),
            [c, rest @ ..] => (Test::Byte(*c), rest),
        };
        let (item, rest) = match rest {
            [b'?', rest @ ..] => (Item::Optional(test), rest),
            [b'*', rest @ ..] => (Item::Greedy(test, 0), rest),
            [b'+', rest @ ..] => (Item::Greedy(test, 1), rest),
            [b'-', rest @ ..] => (Item::Lazy(test), rest),
            _ => (Item::One(test), rest),
        };
        self.items.push(item);
        Some(rest)
    }
}

/// Parses `[...]` at the start of `s`; `None` if it is not closed.
fn bracket_set(s: &[u8]) -> Option<(Bits, &[u8])> {
    let mut p = 1;
    let negated = s.get(p) == Some(&b'^');
    if negated {
        p += 1;
    }
    let first = p;
    // The end is looked for first: a `]` directly after the bracket is an ordinary member.
    loop {
        let c = *s.get(p)?;
        p += 1;
        if c == b'%' && p < s.len() {
            p += 1;
        }
        if *s.get(p)? == b']' {
            break;
        }
    }
    let end = p;
    let mut bits = Bits::EMPTY;
    p = first;
    while p < end {
        if s[p] == b'%' {
            p += 1;
            match Bits::class(s[p]) {
                Some(class) => bits.join(class),
                None => bits.add(s[p]),
            }
            p += 1;
        } else if s[p + 1] == b'-' && p + 2 < end {
            bits.add_range(s[p], s[p + 2]);
            p += 3;
        } else {
            bits.add(s[p]);
            p += 1;
        }
    }
    Some((if negated { bits.inverted() } else { bits }, &s[end + 1..]))
}

/// Length of a capture while it is open. No subject is that long.
const OPEN: u32 = u32::MAX;
/// "Length" of a position capture.
const POSITION: u32 = u32::MAX - 1;

/// One capture of a finished match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// Bytes `start..end` of the subject.
    Range(usize, usize),
    /// One-based position.
    Position(usize),
}

/// The captures of a match, without its subject.
///
/// The caller keeps one for all its searches: filling and copying it costs more than a short search.
pub struct Captures {
    level: usize,
    /// Start and length of each; those from `level` on mean nothing.
    at: [(u32, u32); PATTERN_CAPTURES_MAX],
}

impl Default for Captures {
    fn default() -> Captures {
        Captures { level: 0, at: [(0, 0); PATTERN_CAPTURES_MAX] }
    }
}

impl Captures {
    /// Number of captures in the pattern.
    pub fn len(&self) -> usize {
        self.level
    }

    /// Has the pattern none?
    pub fn is_empty(&self) -> bool {
        self.level == 0
    }

    /// Capture `i`; number 0 of a pattern without captures is the whole match.
    pub fn get(&self, i: usize, start: usize, end: usize) -> Result<Capture, PatternError> {
        if i >= self.level {
            return if i == 0 { Ok(Capture::Range(start, end)) } else { Err(PatternError::CaptureIndex) };
        }
        match self.at[i] {
            (_, OPEN) => Err(PatternError::UnfinishedCapture),
            (at, POSITION) => Ok(Capture::Position(at as usize + 1)),
            (at, len) => Ok(Capture::Range(at as usize, (at + len) as usize)),
        }
    }
}

/// A matcher: a pattern applied to a subject.
pub struct Matcher<'a> {
    src: &'a [u8],
    pattern: &'a Pattern,
    depth: u32,
    /// Work done so far: attempts, and sixteen bytes looked at in a row.
    pub steps: u64,
    /// When to ask again whether to go on.
    ask_at: u64,
    watch: Option<&'a dyn Fn(u64) -> bool>,
    /// Gets the captures of the last match.
    captures: &'a mut Captures,
}

/// A matcher asks whether to go on once in so many steps.
const WATCH_STEPS: u64 = 1 << 14;

type MatchResult = Result<Option<usize>, PatternError>;

impl<'a> Matcher<'a> {
    /// A matcher for `src`, which is shorter than 2^31 bytes as every string is; the captures of a match are left in
    /// `captures`.
    #[inline]
    pub fn new(src: &'a [u8], pattern: &'a Pattern, captures: &'a mut Captures) -> Matcher<'a> {
        debug_assert!(src.len() <= crate::limits::STR_LEN_MAX);
        Matcher { src, pattern, depth: 0, steps: 0, ask_at: WATCH_STEPS, watch: None, captures }
    }

    /// Lets `watch` decide now and then, by the steps made so far, whether to go on: backtracking may take for ever.
    pub fn watched(mut self, watch: &'a dyn Fn(u64) -> bool) -> Matcher<'a> {
        self.watch = Some(watch);
        self
    }

    #[cold]
    fn ask(&mut self) -> Result<(), PatternError> {
        self.ask_at = self.steps + WATCH_STEPS;
        if self.watch.is_none_or(|w| w(self.steps)) { Ok(()) } else { Err(PatternError::Stopped) }
    }

    /// Matches at `at` exactly; answers the end.
    pub fn match_at(&mut self, at: usize) -> MatchResult {
        self.captures.level = 0;
        self.depth = 0;
        self.run(at, 0)
    }

    /// Looks for the first match from `at` on (only there if anchored); answers `(start, end)`.
    pub fn search(&mut self, at: usize) -> Result<Option<(usize, usize)>, PatternError> {
        if self.pattern.anchored {
            return Ok(self.match_at(at)?.map(|e| (at, e)));
        }
        let mut s = at;
        loop {
            // What the first item asks for rules out most starts without an attempt.
            let skip = match self.pattern.items.first() {
                Some(Item::One(t) | Item::Greedy(t, 1)) => self.position(*t, s),
                _ => Some(s),
            };
            let Some(start) = skip else { return Ok(None) };
            if let Some(e) = self.match_at(start)? {
                return Ok(Some((start, e)));
            }
            if start >= self.src.len() {
                return Ok(None);
            }
            s = start + 1;
        }
    }

    /// First position from `s` on whose byte passes the test.
    fn position(&self, t: Test, s: usize) -> Option<usize> {
        let tail = &self.src[s..];
        let at = match t {
            Test::Any => {
                if tail.is_empty() {
                    None
                } else {
                    Some(0)
                }
            }
            Test::Byte(b) => memchr::memchr(b, tail),
            Test::Set(i) => {
                let bits = &self.pattern.sets[i as usize];
                tail.iter().position(|&c| bits.has(c))
            }
        };
        at.map(|i| s + i)
    }

    /// How many bytes from `s` on pass the test.
    fn span(&self, t: Test, s: usize) -> usize {
        let tail = &self.src[s..];
        match t {
            Test::Any => tail.len(),
            Test::Byte(b) => tail.iter().position(|&c| c != b).unwrap_or(tail.len()),
            Test::Set(i) => {
                let bits = &self.pattern.sets[i as usize];
                tail.iter().position(|&c| !bits.has(c)).unwrap_or(tail.len())
            }
        }
    }

    #[inline(always)]
    fn passes(&self, t: Test, s: usize) -> bool {
        match self.src.get(s) {
            None => false,
            Some(&c) => match t {
                Test::Any => true,
                Test::Byte(b) => b == c,
                Test::Set(i) => self.pattern.sets[i as usize].has(c),
            },
        }
    }

    fn run(&mut self, s: usize, p: usize) -> MatchResult {
        self.depth += 1;
        self.steps += 1;
        if self.steps >= self.ask_at {
            self.ask()?;
        }
        if self.depth > DEPTH_MAX {
            return Err(PatternError::TooComplex);
        }
        let r = self.step(s, p);
        self.depth -= 1;
        r
    }

    fn step(&mut self, mut s: usize, mut p: usize) -> MatchResult {
        let pattern = self.pattern;
        loop {
            let Some(&item) = pattern.items.get(p) else { return Ok(Some(s)) };
            p += 1;
            match item {
                Item::One(t) => {
                    if !self.passes(t, s) {
                        return Ok(None);
                    }
                    s += 1;
                }
                Item::Optional(t) => {
                    if self.passes(t, s)
                        && let Some(e) = self.run(s + 1, p)?
                    {
                        return Ok(Some(e));
                    }
                }
                Item::Greedy(t, least) => return self.greedy(t, least, s, p),
                Item::Lazy(t) => return self.lazy(t, s, p),
                Item::Open => return self.open(s, p, OPEN),
                Item::Position => return self.open(s, p, POSITION),
                Item::Close => return self.close(s, p),
                Item::Back(digit) => match self.back_reference(digit, s)? {
                    Some(e) => s = e,
                    None => return Ok(None),
                },
                Item::Balance(open, close) => match self.balance(open, close, s) {
                    Some(e) => {
                        self.steps += (e - s) as u64 / 16;
                        s = e;
                    }
                    None => return Ok(None),
                },
                Item::Frontier(i) => {
                    let set = &pattern.sets[i as usize];
                    let before = if s == 0 { 0 } else { self.src[s - 1] };
                    let after = self.src.get(s).copied().unwrap_or(0);
                    if set.has(before) || !set.has(after) {
                        return Ok(None);
                    }
                }
                Item::End => return Ok(if s == self.src.len() { Some(s) } else { None }),
                Item::Fail(e) => return Err(e),
            }
        }
    }

    fn greedy(&mut self, t: Test, least: usize, s: usize, p: usize) -> MatchResult {
        let mut n = self.span(t, s);
        self.steps += n as u64 / 16;
        if n < least {
            return Ok(None);
        }
        match self.pattern.items.get(p) {
            None => return Ok(Some(s + n)),
            Some(Item::End) => return Ok(if s + n == self.src.len() { Some(s + n) } else { None }),
            Some(&Item::One(next)) => loop {
                if self.passes(next, s + n)
                    && let Some(e) = self.run(s + n, p)?
                {
                    return Ok(Some(e));
                }
                if n == least {
                    return Ok(None);
                }
                n -= 1;
            },
            _ => {}
        }
        loop {
            if let Some(e) = self.run(s + n, p)? {
                return Ok(Some(e));
            }
            if n == least {
                return Ok(None);
            }
            n -= 1;
        }
    }

    fn lazy(&mut self, t: Test, mut s: usize, p: usize) -> MatchResult {
        if let (Test::Any, Some(&Item::One(next))) = (t, self.pattern.items.get(p)) {
            while let Some(at) = self.position(next, s) {
                if let Some(e) = self.run(at, p)? {
                    return Ok(Some(e));
                }
                s = at + 1;
            }
            return Ok(None);
        }
        loop {
            if let Some(e) = self.run(s, p)? {
                return Ok(Some(e));
            }
            if !self.passes(t, s) {
                return Ok(None);
            }
            s += 1;
        }
    }

    fn open(&mut self, s: usize, p: usize, what: u32) -> MatchResult {
        let level = self.captures.level;
        if level >= PATTERN_CAPTURES_MAX {
            return Err(PatternError::TooManyCaptures);
        }
        self.captures.at[level] = (s as u32, what);
        self.captures.level = level + 1;
        let r = self.run(s, p)?;
        if r.is_none() {
            self.captures.level -= 1;
        }
        Ok(r)
    }

    fn close(&mut self, s: usize, p: usize) -> MatchResult {
        let open = self.captures.at[..self.captures.level].iter().rposition(|c| c.1 == OPEN);
        let Some(i) = open else { return Err(PatternError::CloseCapture) };
        self.captures.at[i].1 = s as u32 - self.captures.at[i].0;
        let r = self.run(s, p)?;
        if r.is_none() {
            self.captures.at[i].1 = OPEN;
        }
        Ok(r)
    }

    fn back_reference(&self, digit: u8, s: usize) -> MatchResult {
        let i = (digit as usize).wrapping_sub(b'1' as usize);
        if i >= self.captures.level || self.captures.at[i].1 == OPEN {
            return Err(PatternError::CaptureIndex);
        }
        let (at, len) = self.captures.at[i];
        if len == POSITION {
            // Its length reads as a huge number: never enough subject left.
            return Ok(None);
        }
        let (at, len) = (at as usize, len as usize);
        Ok(if self.src[s..].starts_with(&self.src[at..at + len]) { Some(s + len) } else { None })
    }

    fn balance(&self, open: u8, close: u8, s: usize) -> Option<usize> {
        if self.src.get(s) != Some(&open) {
            return None;
        }
        let mut depth = 1;
        for (i, &c) in self.src[s + 1..].iter().enumerate() {
            if c == close {
                depth -= 1;
                if depth == 0 {
                    return Some(s + 1 + i + 1);
                }
            } else if c == open {
                depth += 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(s: &str, p: &str) -> Result<Option<(usize, usize)>, PatternError> {
        let p = Pattern::new(p.as_bytes(), true);
        Matcher::new(s.as_bytes(), &p, &mut Captures::default()).search(0)
    }

    fn captures(s: &str, p: &str) -> Vec<String> {
        let p = Pattern::new(p.as_bytes(), true);
        let mut caps = Captures::default();
        let (start, end) = Matcher::new(s.as_bytes(), &p, &mut caps).search(0).unwrap().expect("a match");
        (0..caps.len().max(1))
            .map(|i| match caps.get(i, start, end).unwrap() {
                Capture::Range(a, b) => s[a..b].to_string(),
                Capture::Position(n) => format!("@{n}"),
            })
            .collect()
    }

    #[test]
    fn quantifiers_backtrack() {
        assert_eq!(captures("  hello  ", "^%s*(.-)%s*$"), ["hello"]);
        assert_eq!(captures("key = value", "^(%w+)%s*=%s*(%w+)$"), ["key", "value"]);
        assert_eq!(captures("aaab", "a-b"), ["aaab"]);
        assert_eq!(captures("aaa", "a?a?a?"), ["aaa"]);
        assert_eq!(captures("xaab", "(a*)ab"), ["a"]);
        assert_eq!(find("abc", "x*"), Ok(Some((0, 0))));
        assert_eq!(find("abc", "b-$"), Ok(Some((3, 3))));
    }

    #[test]
    fn sets_take_ranges_classes_and_brackets() {
        assert_eq!(captures("x]y", "[]]"), ["]"]);
        assert_eq!(captures("a-b", "[a%-]+"), ["a-"]);
        assert_eq!(captures("a-b", "[a-]+"), ["a-"]);
        assert_eq!(captures("12ab", "[^%d]+"), ["ab"]);
        assert_eq!(captures("x^", "[x^]+"), ["x^"]);
        assert_eq!(captures("foo_bar9 ", "[%w_]+"), ["foo_bar9"]);
        assert_eq!(find("b", "[c-a]"), Ok(None));
    }

    #[test]
    fn special_items_match() {
        assert_eq!(captures("f(a(b)c)d", "%b()"), ["(a(b)c)"]);
        assert_eq!(captures("THE (quick) fox", "%f[%a]%a+%f[%A]"), ["THE"]);
        assert_eq!(captures("say 'hi' \"x\"", "(['\"])(.-)%1"), ["'", "hi"]);
        assert_eq!(captures("abc", "()b()"), ["@2", "@3"]);
        assert_eq!(find("a$b", "a$b"), Ok(Some((0, 3))));
    }

    #[test]
    fn malformed_patterns_fail_only_when_reached() {
        assert_eq!(find("a", "[a"), Err(PatternError::MissingBracket));
        assert_eq!(find("a", "%"), Err(PatternError::EndsWithPercent));
        assert_eq!(find("b", "a%"), Ok(None));
        assert_eq!(find("a", "a)"), Err(PatternError::CloseCapture));
        assert_eq!(find("a", "%1"), Err(PatternError::CaptureIndex));
        assert_eq!(find("a", "%b"), Err(PatternError::Unbalanced));
        assert_eq!(find("a", "%fa"), Err(PatternError::FrontierSet));
        assert_eq!(find("a", &"()".repeat(33)), Err(PatternError::TooManyCaptures));
        assert_eq!(find("aaaa", &"a?".repeat(300)), Ok(Some((0, 4))));
        assert_eq!(find(&"a".repeat(300), &"a?".repeat(300)), Err(PatternError::TooComplex));
    }

    #[test]
    fn open_captures_are_reported_when_read() {
        let p = Pattern::new(b"(a", true);
        let mut caps = Captures::default();
        assert_eq!(Matcher::new(b"a", &p, &mut caps).search(0), Ok(Some((0, 1))));
        assert_eq!(caps.get(0, 0, 1), Err(PatternError::UnfinishedCapture));
    }
}
