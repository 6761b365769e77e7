//! Does the tree of a function that calls itself pay? Where its traces are left all the time, entering and leaving costs more
//! than the code saves, and no side trace will mend that any more.

use std::time::{Duration, Instant};

/// Leaves that are looked at together.
const WINDOW: u32 = 4096;
/// Time from leave to leave, on average, that is too short.
const OFTEN: Duration = Duration::from_micros(2);
/// Windows of that kind after which a tree is given up. Some tenths of a second are lost until then, but while the side traces of
/// a function that pays come one by one it is left as often.
const BAD_MAX: u8 = 200;

/// How often the traces of a tree were left.
#[derive(Debug, Default)]
pub(super) struct Leaves {
    count: u32,
    since: Option<Instant>,
    bad: u8,
}

impl Leaves {
    /// One more leave. Does the tree pay? `waits`: a trace is being compiled, which may change everything.
    pub(super) fn count(&mut self, waits: bool) -> bool {
        self.count += 1;
        if waits {
            self.count = 0;
            return true;
        }
        if self.count == 1 {
            self.since = Some(Instant::now());
        }
        if self.count < WINDOW {
            return true;
        }
        let passed = self.since.map_or(Duration::MAX, |s| s.elapsed());
        self.judge(passed)
    }

    /// The end of a window.
    fn judge(&mut self, passed: Duration) -> bool {
        self.count = 0;
        if passed > OFTEN * WINDOW {
            self.bad /= 2;
            return true;
        }
        self.bad += 1;
        self.bad < BAD_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_that_are_left_all_the_time_are_given_up() {
        let (short, long) = (OFTEN * WINDOW / 2, OFTEN * WINDOW * 2);
        let mut l = Leaves::default();
        for _ in 1..BAD_MAX {
            assert!(l.judge(short));
        }
        assert!(l.judge(long), "a quiet time makes good for it");
        for _ in l.bad..BAD_MAX - 1 {
            assert!(l.judge(short));
        }
        assert!(!l.judge(short));
    }

    #[test]
    fn nothing_counts_while_a_trace_is_compiled() {
        let mut l = Leaves::default();
        for _ in 0..10 * WINDOW {
            assert!(l.count(true));
        }
        assert_eq!((l.count, l.bad), (0, 0));
    }
}
