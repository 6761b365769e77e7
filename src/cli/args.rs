//! LuaJIT's command line. Its flag shapes (`-joff`, `-O3`, `-eCHUNK`) fit no argument parser, so they are read here.

use std::ffi::OsString;

/// One thing to do before the script, in the order given. Values are bytes, as the system passes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// `-e chunk`
    Execute(Vec<u8>),
    /// `-l name`
    Require(Vec<u8>),
    /// `-j cmd`
    Jit(Vec<u8>),
    /// `-O arg`
    Opt(Vec<u8>),
}

/// A parsed command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// Steps before the script.
    pub steps: Vec<Step>,
    /// `-v`, or implied by `-i`.
    pub version: bool,
    /// `-i`
    pub interactive: bool,
    /// `-E`
    pub no_env: bool,
    /// `-b...`: index of the word itself; what follows belongs to it.
    pub bytecode: Option<usize>,
    /// Index of the first word that is no option: the script (`-` for standard input), or the number of words.
    pub script: usize,
}

impl Args {
    /// Whether there was an `-e` or `-b`: without a script there is nothing more to do then.
    pub fn executes(&self) -> bool {
        self.bytecode.is_some() || self.steps.iter().any(|s| matches!(s, Step::Execute(_)))
    }
}

/// Parses the words of a command line, the program's name first; `Err` is the word that is not understood.
pub fn parse(args: &[OsString]) -> Result<Args, Vec<u8>> {
    let mut out = Args { script: args.len(), ..Args::default() };
    let mut i = 1;
    while i < args.len() {
        let arg = args[i].as_encoded_bytes();
        let &[b'-', flag, ref rest @ ..] = arg else {
            // A plain word, or `-` alone.
            out.script = i;
            return Ok(out);
        };
        let bad = || Err(arg.to_vec());
        let mut value = || match rest {
            [] => {
                i += 1;
                args.get(i).map(|a| a.as_encoded_bytes().to_vec()).ok_or_else(|| arg.to_vec())
            }
            _ => Ok(rest.to_vec()),
        };
        match flag {
            b'e' => out.steps.push(Step::Execute(value()?)),
            b'l' => out.steps.push(Step::Require(value()?)),
            b'j' => out.steps.push(Step::Jit(value()?)),
            b'O' => out.steps.push(Step::Opt(rest.to_vec())),
            b'b' => {
                // Only `-O` may stand before it.
                if out.version || out.no_env || !out.steps.iter().all(|s| matches!(s, Step::Opt(_))) {
                    return bad();
                }
                out.bytecode = Some(i);
                out.script = (i + 1).min(args.len());
                return Ok(out);
            }
            b'E' => out.no_env = true,
            _ if !rest.is_empty() => return bad(),
            b'-' => {
                out.script = i + 1;
                return Ok(out);
            }
            b'i' => {
                out.interactive = true;
                out.version = true;
            }
            b'v' => out.version = true,
            _ => return bad(),
        }
        i += 1;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &str) -> Result<Args, Vec<u8>> {
        parse(&words.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn flags_take_their_value_joined_or_apart() {
        let a = parse_words("moonlit -e x -ey -joff -O3 -l m s.lua -e z").expect("parses");
        let want = [
            Step::Execute(b"x".into()),
            Step::Execute(b"y".into()),
            Step::Jit(b"off".into()),
            Step::Opt(b"3".into()),
            Step::Require(b"m".into()),
        ];
        assert_eq!(a.steps, want);
        assert_eq!(a.script, 8);
        assert!(a.executes());
    }

    #[test]
    fn unknown_flag_is_named() {
        assert_eq!(parse_words("moonlit -x"), Err(b"-x".into()));
        assert_eq!(parse_words("moonlit -vx"), Err(b"-vx".into()));
        assert_eq!(parse_words("moonlit --x"), Err(b"--x".into()));
        assert_eq!(parse_words("moonlit -e"), Err(b"-e".into()));
    }

    #[test]
    fn bytecode_flag_comes_first() {
        assert_eq!(parse_words("moonlit -O3 -bl x").map(|a| a.bytecode), Ok(Some(2)));
        assert_eq!(parse_words("moonlit -v -bl x"), Err(b"-bl".into()));
    }

    #[test]
    fn dash_dash_ends_the_options() {
        assert_eq!(parse_words("moonlit -- -e").map(|a| a.script), Ok(2));
        assert_eq!(parse_words("moonlit - x").map(|a| a.script), Ok(1));
        assert_eq!(parse_words("moonlit -v").map(|a| a.script), Ok(2));
    }
}
