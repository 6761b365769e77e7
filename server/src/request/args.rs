//! Query arguments: looking one up, splitting them for tables.

use super::escape::unescape;

/// One argument of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    /// The decoded name.
    pub name: Vec<u8>,
    /// The decoded value; `None` without `=`.
    pub value: Option<Vec<u8>>,
}

/// The arguments of a query in order, at most `max` (0: all). The flag tells that there were more.
/// An argument without a name is left out, but counts if it has a value.
pub fn split(query: &[u8], max: usize) -> (Vec<Arg>, bool) {
    let mut args = Vec::new();
    let mut count = 0;
    for part in query.split(|&b| b == b'&') {
        let eq = memchr::memchr(b'=', part);
        let name = &part[..eq.unwrap_or(part.len())];
        if part.is_empty() {
            continue;
        }
        if max != 0 && count == max {
            return (args, true);
        }
        count += 1;
        if name.is_empty() {
            continue;
        }
        let decode = |s: &[u8]| {
            let mut out = Vec::new();
            unescape(s, true, &mut out);
            out
        };
        args.push(Arg { name: decode(name), value: eq.map(|n| decode(&part[n + 1..])) });
    }
    (args, false)
}

/// The raw value of the first argument of that name, whatever its case; for `$arg_NAME`.
pub fn find<'a>(query: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    query.split(|&b| b == b'&').find_map(|part| {
        let eq = memchr::memchr(b'=', part)?;
        part[..eq].eq_ignore_ascii_case(name).then(|| &part[eq + 1..])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_follow_openresty() {
        let (args, more) = split(b"a=1&b=&c&=x&&d%20e=f+g&a=2", 0);
        let text: Vec<String> = args
            .iter()
            .map(|a| {
                let v =
                    a.value.as_ref().map_or("true".into(), |v| format!("{:?}", String::from_utf8_lossy(v)));
                format!("{}:{v}", String::from_utf8_lossy(&a.name))
            })
            .collect();
        assert_eq!(text, ["a:\"1\"", "b:\"\"", "c:true", "d e:\"f g\"", "a:\"2\""]);
        assert!(!more);
        let (args, more) = split(b"a&b&c", 2);
        assert_eq!((args.len(), more), (2, true));
        assert_eq!(find(b"x=1&Foo=a%20b", b"foo"), Some(&b"a%20b"[..]));
        assert_eq!(find(b"foo", b"foo"), None);
    }
}
