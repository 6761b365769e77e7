//! What compilation may cost: a short program must not spend its time on traces that it hardly runs. Of side traces only;
//! loops and functions are few, and a program that has none of its hot ones compiled is slow.

use std::time::Duration;

/// Compilation that a program may have whatever time it takes.
const FREE: Duration = Duration::from_millis(64);
/// The part of its time that it may have besides.
const SHARE: u32 = 5;

/// May one more trace be ordered? `spent` went into `traces` traces since the start, `passed` ago; as many as `open` are
/// waiting for the compiler, and will cost as much as those before.
pub(super) fn allows(spent: Duration, traces: u32, open: u32, passed: Duration) -> bool {
    let waiting = spent / traces.max(1) * open;
    spent + waiting <= FREE + passed / SHARE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilation_stays_in_proportion_to_the_time_that_has_passed() {
        let ms = Duration::from_millis;
        assert!(allows(ms(0), 0, 0, ms(0)));
        assert!(allows(FREE, 20, 0, ms(0)));
        assert!(!allows(FREE + ms(1), 20, 0, ms(1)));
        assert!(!allows(FREE, 20, 1, ms(0)), "what waits counts");
        assert!(allows(FREE + ms(100), 50, 0, ms(100) * SHARE));
        assert!(!allows(FREE + ms(101), 50, 0, ms(100) * SHARE));
        assert!(allows(ms(1), 1, 40, ms(0)));
    }
}
