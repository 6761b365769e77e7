//! Numbers to integers as C compilers for x86-64 do it, defined for all inputs.

/// Truncates; what does not fit gives the most negative integer.
#[inline]
pub fn num_to_i64(n: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&n) { n as i64 } else { i64::MIN }
}

/// Truncates; negative numbers wrap around.
#[inline]
pub fn num_to_u64(n: f64) -> u64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if n >= LIMIT { num_to_i64(n - LIMIT - LIMIT) as u64 } else { num_to_i64(n) as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_outside_the_range_have_defined_results() {
        assert_eq!(num_to_i64(f64::NAN), i64::MIN);
        assert_eq!(num_to_i64(1e300), i64::MIN);
        assert_eq!(num_to_i64(-3.9), -3);
        assert_eq!(num_to_u64(-1.0), u64::MAX);
        assert_eq!(num_to_u64(9_223_372_036_854_775_808.0), 1 << 63);
        assert_eq!(num_to_u64(18_446_744_073_709_549_568.0), 18_446_744_073_709_549_568);
    }
}
