//! LuaJIT's command line. Its flag shapes (`-joff`, `-O3`, `-eCHUNK`) fit no argument parser, so they are read here.

use std::ffi::OsString;

/// One thing to do before the script, in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `-e chunk`
    Execute(String),
    /// `-l name`
    Require(String),
    /// `-j cmd`
    Jit(String),
    /// `-O arg`
    Opt(String),
}

/// A parsed command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// Steps before the script.
    pub steps: Vec<Step>,
    /// `-v`
    pub version: bool,
    /// `-i`
    pub interactive: bool,
    /// `-E`
    pub no_env: bool,
    /// `-b...` and everything behind it.
    pub bytecode: Option<Vec<OsString>>,
    /// Index of the script in the arguments (`-` for standard input), if there is one.
    pub script: Option<usize>,
}

/// Parses; `Err` is the argument that is not understood, or empty for a missing value.
pub fn parse(args: &[OsString]) -> Result<Args, String> {
    let mut out = Args::default();
    let mut i = 1;
    while i < args.len() {
        let arg = args[i].to_string_lossy().into_owned();
        if !arg.starts_with('-') || arg == "-" {
            out.script = Some(i);
            return Ok(out);
        }
        let (flag, rest) = arg[1..].split_at(arg[1..].chars().next().map_or(0, char::len_utf8));
        let mut value = |rest: &str| -> Result<String, String> {
            if !rest.is_empty() {
                return Ok(rest.to_string());
            }
            i += 1;
            args.get(i).map(|a| a.to_string_lossy().into_owned()).ok_or_else(|| arg.clone())
        };
        match flag {
            "-" if rest.is_empty() => {
                i += 1;
                out.script = (i < args.len()).then_some(i);
                return Ok(out);
            }
            "e" => out.steps.push(Step::Execute(value(rest)?)),
            "l" => out.steps.push(Step::Require(value(rest)?)),
            "j" => out.steps.push(Step::Jit(value(rest)?)),
            "O" => out.steps.push(Step::Opt(rest.to_string())),
            "i" if rest.is_empty() => {
                out.interactive = true;
                out.version = true;
            }
            "v" if rest.is_empty() => out.version = true,
            "E" if rest.is_empty() => out.no_env = true,
            "b" => {
                out.bytecode = Some(args[i..].to_vec());
                return Ok(out);
            }
            _ => return Err(arg),
        }
        i += 1;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Args, String> {
        parse(&words.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_take_their_value_joined_or_apart() {
        let a = parse_words("moonlit -e x -ey -joff -O3 -l m s.lua -e z").expect("parses");
        let want = [
            Step::Execute("x".into()),
            Step::Execute("y".into()),
            Step::Jit("off".into()),
            Step::Opt("3".into()),
            Step::Require("m".into()),
        ];
        assert_eq!(a.steps, want);
        assert_eq!(a.script, Some(8));
    }

    #[test]
    fn unknown_flag_is_named() {
        assert_eq!(parse_words("moonlit -x"), Err("-x".into()));
    }
}
