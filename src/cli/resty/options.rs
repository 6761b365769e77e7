//! What the command line of `resty` says, with resty-cli's words for what is wrong with it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// Why the command line is refused: a text for standard error, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// The text, with its line end.
    pub text: String,
    /// Whether the usage follows.
    pub usage: bool,
    /// The exit code.
    pub code: u8,
}

impl Refused {
    fn new(text: impl Into<String>) -> Refused {
        Refused { text: text.into(), usage: false, code: 255 }
    }
}

/// Another program that runs the server: a debugger or the like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// `--gdb`.
    Gdb,
    /// `--rr`.
    Rr,
    /// `--valgrind`.
    Valgrind,
    /// `--user-runner`.
    User,
}

/// The command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `-h`.
    pub help: bool,
    /// `-v` or `-V`.
    pub version: bool,
    /// `--dump-nginx-conf`.
    pub dump: bool,
    /// `-c`.
    pub connections: Option<String>,
    /// `-I`.
    pub include_dirs: Vec<OsString>,
    /// `-j`, `-e` and `-l`, as Lua code.
    pub code: Vec<Vec<u8>>,
    /// The script.
    pub file: Option<OsString>,
    /// What follows the script.
    pub args: Vec<OsString>,
    /// How many arguments stand in front of those.
    pub before_args: usize,
    /// `--errlog-level`.
    pub log_level: Option<String>,
    /// `--http-conf`.
    pub http_conf: Vec<OsString>,
    /// `--http-include`.
    pub http_include: Vec<OsString>,
    /// `--main-conf`.
    pub main_conf: Vec<OsString>,
    /// `--main-include`.
    pub main_include: Vec<OsString>,
    /// `--load-module`.
    pub modules: Vec<OsString>,
    /// `--shdict`.
    pub dicts: Vec<String>,
    /// `--ns`.
    pub name_servers: Vec<String>,
    /// `--resolve-ipv6`.
    pub ipv6: bool,
    /// `--nginx`.
    pub nginx: Option<OsString>,
    /// What the server runs under, with its options.
    pub tool: Option<(Tool, Option<String>)>,
}

/// A Lua string literal for any bytes.
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![b'"'];
    for b in bytes {
        match b {
            b'"' | b'\\' => out.extend([b'\\', *b]),
            b' '..=b'~' => out.push(*b),
            _ => out.extend(format!("\\{b:03}").bytes()),
        }
    }
    out.push(b'"');
    out
}

impl Options {
    /// Reads the arguments behind the program's name.
    pub fn parse(all: &[OsString]) -> Result<Options, Refused> {
        let mut o = Options::default();
        let mut jit: Option<OsString> = None;
        let mut at = 0;
        while let Some(arg) = all.get(at) {
            let bytes = arg.as_bytes();
            if !bytes.starts_with(b"-") || bytes == b"-" {
                break;
            }
            at += 1;
            if bytes == b"--" {
                break;
            }
            // `--name=value`, `-Xvalue` and `-X=value`, or the value as an argument of its own.
            let (name, own) = match bytes {
                [b'-', b'-', ..] => match memchr(b'=', bytes) {
                    Some(cut) => (&bytes[..cut], Some(&bytes[cut + 1..])),
                    None => (bytes, None),
                },
                [b'-', b'I' | b'e' | b'l' | b'j' | b'c', rest @ ..] if !rest.is_empty() => {
                    (&bytes[..2], Some(rest.strip_prefix(b"=").unwrap_or(rest)))
                }
                _ => (bytes, None),
            };
            let name = String::from_utf8_lossy(name).into_owned();
            let mut value = || match own {
                Some(own) => Ok(OsString::from_vec(own.to_vec())),
                None => {
                    at += 1;
                    let missing =
                        || Refused::new(format!("option {name} takes an argument but found none.\n"));
                    all.get(at - 1).cloned().ok_or_else(missing)
                }
            };
            match name.as_str() {
                "-I" => o.include_dirs.push(value()?),
                "-e" => o.code.push(value()?.into_vec()),
                "-l" => {
                    let lib = quoted(value()?.as_bytes());
                    o.code.push([b"require(", &lib[..], b")"].concat());
                }
                "-j" => {
                    if jit.is_some() {
                        return Err(Refused::new("duplicate -j option found.\n"));
                    }
                    jit = Some(value()?);
                }
                "-c" => o.connections = Some(text(value()?)),
                "--ns" => o.name_servers.push(text(value()?)),
                "--shdict" => o.dicts.push(text(value()?)),
                "--nginx" => o.nginx = Some(value()?),
                "--http-conf" => o.http_conf.push(value()?),
                "--main-conf" => o.main_conf.push(value()?),
                "--http-include" => o.http_include.push(value()?),
                "--main-include" => o.main_include.push(value()?),
                "--load-module" => o.modules.push(value()?),
                "--errlog-level" => o.log_level = Some(text(value()?)),
                "--user-runner" => o.run_under(Tool::User, Some(text(value()?)))?,
                "--valgrind-opts" => o.run_under(Tool::Valgrind, Some(text(value()?)))?,
                "--gdb-opts" => o.run_under(Tool::Gdb, Some(text(value()?)))?,
                "--stream-conf" | "--stap-opts" => {
                    value()?;
                    return Err(unsupported(&name));
                }
                _ if own.is_some() => return Err(unknown(arg)),
                "--resolve-ipv6" => o.ipv6 = true,
                // There is no such block to be left out.
                "--no-stream" => {}
                "--stap" => return Err(unsupported(&name)),
                "--gdb" => o.run_under(Tool::Gdb, None)?,
                "--rr" => o.run_under(Tool::Rr, None)?,
                "--valgrind" => o.run_under(Tool::Valgrind, None)?,
                "--help" | "-h" => {
                    o.help = true;
                    return Ok(o);
                }
                "-v" | "-V" => o.version = true,
                "--dump-nginx-conf" => o.dump = true,
                _ => return Err(unknown(arg)),
            }
        }
        o.check(jit)?;
        o.file = all.get(at).cloned();
        o.args = all.get(at + 1..).unwrap_or_default().to_vec();
        o.before_args = all.len() - o.args.len();
        if !o.version && o.code.is_empty() && o.file.is_none() {
            return Err(Refused {
                code: 2,
                ..Refused::new("Neither Lua input file nor -e \"\" option specified.\n")
            });
        }
        Ok(o)
    }

    fn run_under(&mut self, tool: Tool, options: Option<String>) -> Result<(), Refused> {
        match &mut self.tool {
            Some((known, _)) if *known != tool => Err(Refused::new(
                "ERROR: only one program can run the server: --gdb, --rr, --valgrind or --user-runner\n",
            )),
            Some((_, Some(_))) if options.is_some() => {
                let name = match tool {
                    Tool::Gdb => "--gdb-opts",
                    Tool::Rr => "--rr",
                    Tool::Valgrind => "--valgrind-opts",
                    Tool::User => "--user-runner",
                };
                Err(Refused::new(format!("ERROR: duplicate {name} options\n")))
            }
            known => {
                let before = known.take().and_then(|(_, options)| options);
                *known = Some((tool, options.or(before)));
                Ok(())
            }
        }
    }

    fn check(&mut self, jit: Option<OsString>) -> Result<(), Refused> {
        if let Some(n) = &self.connections
            && (n.is_empty() || !n.bytes().all(|b| b.is_ascii_digit()))
        {
            return Err(Refused::new(format!("option -c value must be a number but found '{n}'.\n")));
        }
        if let Some(level) = &self.log_level
            && (level.is_empty() || !level.bytes().all(|b| b.is_ascii_lowercase()))
        {
            return Err(Refused::new(format!("bad --errlog-level option value: {level}\n")));
        }
        if let Some(v) = self.name_servers.iter().find(|v| !is_address(v)) {
            return Err(Refused::new(format!(
                "ERROR: Invalid --ns option value: {v}\n  (expecting an IP address)\n"
            )));
        }
        if let Some(v) = self.dicts.iter().find(|v| !is_dict(v)) {
            return Err(Refused::new(format!(
                "ERROR: invalid --shdict option value: {v}\n  (expecting NAME SIZE)\n"
            )));
        }
        if let Some(mode) = jit {
            let code: &[u8] = match mode.as_bytes() {
                b"v" => b"require 'jit.v'.on()",
                b"dump" => b"require 'jit.dump'.on()",
                b"off" => b"require 'jit'.off()",
                _ => {
                    let text = format!("ERROR: unknown -j option value: {}.\n", mode.to_string_lossy());
                    return Err(Refused { text, usage: true, code: 1 });
                }
            };
            self.code.insert(0, code.to_vec());
        }
        Ok(())
    }
}

fn memchr(b: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|x| *x == b)
}

fn text(value: OsString) -> String {
    value.to_string_lossy().into_owned()
}

fn unknown(arg: &OsStr) -> Refused {
    Refused { text: format!("ERROR: unknown option {}\n\n", arg.to_string_lossy()), usage: true, code: 1 }
}

fn unsupported(name: &str) -> Refused {
    Refused { text: format!("ERROR: the option {name} is not supported\n"), usage: false, code: 1 }
}

/// As resty-cli looks at it: four numbers with dots, or hexadecimal digits and colons in brackets.
fn is_address(v: &str) -> bool {
    if let Some(v6) = v.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        return !v6.is_empty() && v6.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    let parts: Vec<&str> = v.split('.').collect();
    parts.len() == 4
        && parts.iter().all(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit()))
}

fn is_dict(v: &str) -> bool {
    let mut words = v.split_ascii_whitespace();
    let (Some(name), Some(size), None) = (words.next(), words.next(), words.next()) else { return false };
    let digits = size.strip_suffix(['k', 'K', 'm', 'M']).unwrap_or(size);
    v.starts_with(name)
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Splits options as a shell does: quotes, and backslashes outside of them.
pub fn split(text: &str) -> Result<Vec<String>, Refused> {
    let mut words: Vec<String> = Vec::new();
    let mut open = false;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c.is_whitespace() {
            open = false;
            continue;
        }
        if !open {
            words.push(String::new());
            open = true;
        }
        let word = words.last_mut().expect("one is open");
        match c {
            '"' | '\'' => loop {
                match chars.next() {
                    Some(end) if end == c => break,
                    Some(inner) => word.push(inner),
                    None => return Err(Refused::new(format!("syntax error: {text}\n"))),
                }
            },
            '\\' => word.push(chars.next().unwrap_or('\\')),
            _ => word.push(c),
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, Refused> {
        Options::parse(&args.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn values_stand_in_the_option_or_behind_it() {
        for args in [
            &["-I", "d", "-e", "x", "--ns", "1.2.3.4", "--shdict", "a 1m", "f", "1", "-e"][..],
            &["-Id", "-e=x", "--ns=1.2.3.4", "--shdict=a 1m", "f", "1", "-e"],
        ] {
            let o = parse(args).expect("is right");
            assert_eq!((o.include_dirs, o.code), (vec!["d".into()], vec![b"x".to_vec()]));
            assert_eq!((o.name_servers, o.dicts), (vec!["1.2.3.4".to_owned()], vec!["a 1m".to_owned()]));
            assert_eq!((o.file, o.args), (Some("f".into()), vec!["1".into(), "-e".into()]));
        }
        let o = parse(&["-j", "off", "-l", "a\"b", "--", "-f"]).expect("is right");
        assert_eq!(o.code, [b"require 'jit'.off()".to_vec(), b"require(\"a\\\"b\")".to_vec()]);
        assert_eq!(o.file, Some("-f".into()));
    }

    #[test]
    fn refusals_have_their_words_and_codes() {
        for (args, text, code) in [
            (&["-I"][..], "option -I takes an argument but found none.\n", 255),
            (&["--foo"], "ERROR: unknown option --foo\n\n", 1),
            (&["-c", "x"], "option -c value must be a number but found 'x'.\n", 255),
            (&["--ns", "foo"], "ERROR: Invalid --ns option value: foo\n  (expecting an IP address)\n", 255),
            (&["--shdict", "a"], "ERROR: invalid --shdict option value: a\n  (expecting NAME SIZE)\n", 255),
            (&["-j", "x"], "ERROR: unknown -j option value: x.\n", 1),
            (&["-jv", "-jv"], "duplicate -j option found.\n", 255),
            (&["--errlog-level", "3"], "bad --errlog-level option value: 3\n", 255),
            (&["--stap"], "ERROR: the option --stap is not supported\n", 1),
            (&["--stream-conf", "x"], "ERROR: the option --stream-conf is not supported\n", 1),
            (
                &["--gdb", "--rr"],
                "ERROR: only one program can run the server: --gdb, --rr, --valgrind or --user-runner\n",
                255,
            ),
            (&[], "Neither Lua input file nor -e \"\" option specified.\n", 2),
        ] {
            let refused = parse(args).expect_err("is wrong");
            assert_eq!((refused.text.as_str(), refused.code), (text, code));
        }
    }

    #[test]
    fn options_of_tools_are_split_as_a_shell_does() {
        assert_eq!(split("-a 'b c'\"d\" e\\ f").expect("is right"), ["-a", "b cd", "e f"]);
        assert!(split("'a").is_err());
    }
}
