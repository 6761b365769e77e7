//! The worker's cached clock and the texts that depend on it.
//!
//! `update` is called when the worker wakes for work; everything else reads
//! what it left. The offset of local time is the one that the logs use.

use std::cell::{Cell, RefCell};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

thread_local! {
    static NOW_MS: Cell<u64> = const { Cell::new(0) };
    /// What `monotonic_ms` gives; 0 before the first look.
    static MONOTONIC_MS: Cell<u64> = const { Cell::new(0) };
    /// The wall clock's time at monotonic zero, and when it was last looked at.
    static WALL: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    static DATE: RefCell<(u64, [u8; 29])> = const { RefCell::new((0, [0; 29])) };
    static EPOCH: Instant = Instant::now();
}

/// How often the wall clock itself is asked; in between it follows the monotonic one.
const WALL_MS: u64 = 100;

/// Reads the system's clock into the cache; returns the wall clock's time.
pub fn update() -> u64 {
    let elapsed = EPOCH.with(Instant::elapsed);
    // The first millisecond is 1: 0 stands for a clock never read.
    let ms = elapsed.as_secs() * 1000 + u64::from(elapsed.subsec_millis()) + 1;
    MONOTONIC_MS.set(ms);
    let (mut base, seen) = WALL.get();
    if base == 0 || ms - seen >= WALL_MS {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        base = (wall.as_millis() as u64).saturating_sub(ms);
        WALL.set((base, ms));
    }
    let now = base + ms;
    NOW_MS.set(now);
    now
}

/// The cached time in milliseconds since 1970.
pub fn now_ms() -> u64 {
    match NOW_MS.get() {
        0 => update(),
        t => t,
    }
}

/// Milliseconds that never jump, as of the last `update`; for deadlines.
pub fn monotonic_ms() -> u64 {
    match MONOTONIC_MS.get() {
        0 => {
            update();
            MONOTONIC_MS.get()
        }
        t => t,
    }
}

/// Appends the `Date` header's value, made once per second.
pub fn write_http_date(out: &mut Vec<u8>) {
    let second = now_ms() / 1000;
    DATE.with_borrow_mut(|(made, text)| {
        if *made != second {
            *made = second;
            *text = http_date(second as i64);
        }
        out.extend_from_slice(text);
    });
}

/// `Thu, 18 Nov 2010 11:27:35 GMT`; a year has four digits.
pub fn http_date(unix_s: i64) -> [u8; 29] {
    let t = Fields::of(unix_s);
    let mut text = *b"ddd, dd mmm yyyy hh:mm:ss GMT";
    let two = |n: u32| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    let year = t.year.rem_euclid(10_000) as u32;
    text[..3].copy_from_slice(DAYS[t.weekday as usize].as_bytes());
    text[5..7].copy_from_slice(&two(t.day));
    text[8..11].copy_from_slice(MONTHS[t.month as usize - 1].as_bytes());
    text[12..14].copy_from_slice(&two(year / 100));
    text[14..16].copy_from_slice(&two(year % 100));
    text[17..19].copy_from_slice(&two(t.hour));
    text[20..22].copy_from_slice(&two(t.minute));
    text[23..25].copy_from_slice(&two(t.second));
    text
}

/// The same as a text.
pub fn http_time(unix_s: i64) -> String {
    String::from_utf8_lossy(&http_date(unix_s)).into_owned()
}

/// `Thu, 18-Nov-10 11:27:35 GMT`; the year has four digits from 2038 on, as nginx writes it.
pub fn cookie_time(unix_s: i64) -> String {
    let t = Fields::of(unix_s);
    let year = if t.year > 2037 { format!("{}", t.year) } else { format!("{:02}", t.year % 100) };
    format!(
        "{}, {:02}-{}-{year} {:02}:{:02}:{:02} GMT",
        DAYS[t.weekday as usize],
        t.day,
        MONTHS[t.month as usize - 1],
        t.hour,
        t.minute,
        t.second
    )
}

/// Offset of local time in seconds.
pub fn zone_offset() -> i32 {
    crate::log::zone_offset_s()
}

/// `18/Nov/2010:11:27:35 +0100`.
pub fn log_time(unix_s: i64) -> String {
    let off = zone_offset();
    let t = Fields::of(unix_s + i64::from(off));
    let (sign, m) = sign_minutes(off);
    format!(
        "{:02}/{}/{:04}:{:02}:{:02}:{:02} {sign}{:02}{:02}",
        t.day,
        MONTHS[t.month as usize - 1],
        t.year,
        t.hour,
        t.minute,
        t.second,
        m / 60,
        m % 60
    )
}

/// `2010-11-18T11:27:35+01:00`.
pub fn iso8601(unix_s: i64) -> String {
    let off = zone_offset();
    let t = Fields::of(unix_s + i64::from(off));
    let (sign, m) = sign_minutes(off);
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{sign}{:02}:{:02}",
        t.year,
        t.month,
        t.day,
        t.hour,
        t.minute,
        t.second,
        m / 60,
        m % 60
    )
}

/// `2010-11-18 11:27:35` of the given offset from UTC.
pub fn plain_time(unix_s: i64, offset_s: i32) -> String {
    let t = Fields::of(unix_s + i64::from(offset_s));
    format!("{:04}-{:02}-{:02} {:02}:{:02}:{:02}", t.year, t.month, t.day, t.hour, t.minute, t.second)
}

/// Seconds since 1970 of an HTTP date in any of its three forms.
pub fn parse_http_time(text: &[u8]) -> Option<i64> {
    // `Sun, 06 Nov 1994 08:49:37 GMT`, `Sunday, 06-Nov-94 08:49:37 GMT`, `Sun Nov  6 08:49:37 1994`; the
    // name of the day is not looked at.
    let text = std::str::from_utf8(text).ok()?.trim();
    let words: Vec<&str> = match text.split_once(',') {
        Some((_, rest)) => rest.split([' ', '-']).filter(|w| !w.is_empty()).collect(),
        None => {
            let w: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
            let [_, month, day, time, year] = w[..] else { return None };
            vec![day, month, year, time]
        }
    };
    let [day, month, year, time, ..] = words[..] else { return None };
    let digits = |t: &str, max: usize| -> Option<i64> {
        let ok = !t.is_empty() && t.len() <= max && t.bytes().all(|b| b.is_ascii_digit());
        if ok { t.parse().ok() } else { None }
    };
    let month = MONTHS.iter().position(|m| *m == month)? as i64 + 1;
    let year = match (digits(year, 4)?, year.len()) {
        (y, 2) => y + if y < 70 { 2000 } else { 1900 },
        (y, 4) => y,
        _ => return None,
    };
    let mut clock = time.split(':').map(|t| digits(t, 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let day = digits(day, 2)?;
    if hour > 23 || minute > 59 || second > 59 || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let total = days_from_civil(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    (total >= 0).then_some(total)
}

fn days_in(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970 of a date.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let (era, yoe) = (y.div_euclid(400), y.rem_euclid(400));
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The sign of an offset, and its minutes.
pub(super) fn sign_minutes(offset_s: i32) -> (char, i32) {
    (if offset_s < 0 { '-' } else { '+' }, offset_s.abs() / 60)
}

/// Short names of weekdays.
pub(super) const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
/// Short names of months.
pub(super) const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A moment in calendar fields.
pub(super) struct Fields {
    pub year: i64,
    pub month: u32,
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// From Sunday, 0.
    pub weekday: u32,
}

impl Fields {
    /// Days since 1 January.
    pub(super) fn year_day(&self) -> u32 {
        const BEFORE: [u32; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        BEFORE[self.month as usize - 1] + self.day - 1 + u32::from(leap && self.month > 2)
    }

    /// The fields of a moment.
    pub(super) fn of(unix_s: i64) -> Fields {
        let (days, rest) = (unix_s.div_euclid(86_400), unix_s.rem_euclid(86_400) as u32);
        // Days are counted from 1 March of year 0, in eras of 400 years (146,097 days).
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = (doy - (153 * mp + 2) / 5 + 1) as u32;
        let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
        let year = yoe + era * 400 + i64::from(month <= 2);
        Fields {
            year,
            month,
            day,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: (days + 4).rem_euclid(7) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_nginx_does() {
        assert_eq!(http_time(1_290_079_655), "Thu, 18 Nov 2010 11:27:35 GMT");
        assert_eq!(cookie_time(1_290_079_655), "Thu, 18-Nov-10 11:27:35 GMT");
        assert_eq!(log_time(951_825_600), "29/Feb/2000:12:00:00 +0000");
        assert_eq!(iso8601(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(plain_time(-1, 3600), "1970-01-01 00:59:59");
        for text in [
            "Thu, 18-Nov-10 11:27:35 GMT",
            "Xyz, 18 Nov 2010 11:27:35 GMT",
            "Thu Nov 18 11:27:35 2010",
            "Thursday, 18-Nov-10 11:27:35 GMT",
        ] {
            assert_eq!(parse_http_time(text.as_bytes()), Some(1_290_079_655), "{text}");
        }
        for bad in [
            "",
            "x",
            "Thu, 31 Feb 2010 11:27:35 GMT",
            "Thu, 18 Nov 2010 25:00:00 GMT",
            "Thu, 18 Nov",
            "Thu, 18 Nov 2010 1:2",
        ] {
            assert_eq!(parse_http_time(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(parse_http_time(b"Thu, 18 Nov 2010 11:27:35 GMT"), Some(1_290_079_655));
    }
}
