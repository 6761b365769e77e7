//! Dates in a format of the user's: the conversions of `strftime` in the C locale.

use std::fmt::Write as _;

use super::clock::{DAYS, Fields, MONTHS, sign_minutes};

const LONG_DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const LONG_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Longest result; a longer one is empty, as with C.
const RESULT_BYTES_MAX: usize = 256;

/// The time in this format, that many seconds east of UTC. Unknown conversions stay as they are.
pub fn formatted(unix_s: i64, offset_s: i32, format: &[u8]) -> Vec<u8> {
    let t = Fields::of(unix_s + i64::from(offset_s));
    let mut out = String::new();
    let mut at = 0;
    while at < format.len() {
        if format[at] != b'%' || at + 1 == format.len() {
            let end = memchr::memchr(b'%', &format[at + 1..]).map_or(format.len(), |n| at + 1 + n);
            out.push_str(&String::from_utf8_lossy(&format[at..end]));
            at = end;
            continue;
        }
        convert(format[at + 1], &t, unix_s, offset_s, &mut out);
        at += 2;
    }
    if out.len() >= RESULT_BYTES_MAX { Vec::new() } else { out.into_bytes() }
}

fn convert(letter: u8, t: &Fields, unix_s: i64, offset_s: i32, out: &mut String) {
    let hour12 = if t.hour.is_multiple_of(12) { 12 } else { t.hour % 12 };
    let (weekday, month) = (t.weekday as usize, t.month as usize - 1);
    // What is written cannot fail: it goes into a string.
    let _ = match letter {
        b'a' => write!(out, "{}", DAYS[weekday]),
        b'A' => write!(out, "{}", LONG_DAYS[weekday]),
        b'b' | b'h' => write!(out, "{}", MONTHS[month]),
        b'B' => write!(out, "{}", LONG_MONTHS[month]),
        b'C' => write!(out, "{:02}", t.year / 100),
        b'c' => write!(
            out,
            "{} {} {:2} {:02}:{:02}:{:02} {}",
            DAYS[weekday], MONTHS[month], t.day, t.hour, t.minute, t.second, t.year
        ),
        b'd' => write!(out, "{:02}", t.day),
        b'D' | b'x' => write!(out, "{:02}/{:02}/{:02}", t.month, t.day, t.year % 100),
        b'e' => write!(out, "{:2}", t.day),
        b'F' => write!(out, "{:04}-{:02}-{:02}", t.year, t.month, t.day),
        b'H' => write!(out, "{:02}", t.hour),
        b'I' => write!(out, "{hour12:02}"),
        b'j' => write!(out, "{:03}", t.year_day() + 1),
        b'k' => write!(out, "{:2}", t.hour),
        b'l' => write!(out, "{hour12:2}"),
        b'm' => write!(out, "{:02}", t.month),
        b'M' => write!(out, "{:02}", t.minute),
        b'n' => write!(out, "\n"),
        b't' => write!(out, "\t"),
        b'p' => write!(out, "{}", if t.hour < 12 { "AM" } else { "PM" }),
        b'r' => write!(
            out,
            "{hour12:02}:{:02}:{:02} {}",
            t.minute,
            t.second,
            if t.hour < 12 { "AM" } else { "PM" }
        ),
        b'R' => write!(out, "{:02}:{:02}", t.hour, t.minute),
        b's' => write!(out, "{unix_s}"),
        b'S' => write!(out, "{:02}", t.second),
        b'T' | b'X' => write!(out, "{:02}:{:02}:{:02}", t.hour, t.minute, t.second),
        b'u' => write!(out, "{}", if t.weekday == 0 { 7 } else { t.weekday }),
        b'U' => write!(out, "{:02}", (t.year_day() + 7 - t.weekday) / 7),
        b'w' => write!(out, "{}", t.weekday),
        b'W' => write!(out, "{:02}", (t.year_day() + 7 - (t.weekday + 6) % 7) / 7),
        b'y' => write!(out, "{:02}", t.year % 100),
        b'Y' => write!(out, "{}", t.year),
        b'z' => {
            let (sign, minutes) = sign_minutes(offset_s);
            write!(out, "{sign}{:02}{:02}", minutes / 60, minutes % 60)
        }
        b'Z' if offset_s == 0 => write!(out, "GMT"),
        b'Z' => Ok(()),
        b'%' => write!(out, "%"),
        other => write!(out, "%{}", other as char),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversions_are_those_of_c() {
        let text = |f: &str| String::from_utf8(formatted(1_290_079_655, 0, f.as_bytes())).unwrap();
        assert_eq!(text("%Y-%m-%d %H:%M:%S"), "2010-11-18 11:27:35");
        assert_eq!(text("%a %A %b %B %j %U %W %u %y"), "Thu Thursday Nov November 322 46 46 4 10");
        assert_eq!(
            text("%c|%D|%r|%R|%e|%s|%z|%%|%q"),
            "Thu Nov 18 11:27:35 2010|11/18/10|11:27:35 AM|11:27|18|1290079655|+0000|%|%q"
        );
        assert_eq!(text(&"%c".repeat(20)), "");
        assert_eq!(text("é%"), "é%");
    }
}
