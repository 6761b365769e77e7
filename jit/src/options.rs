//! Optimisation flags and parameters of `-O` and `jit.opt.start`, one table with defaults.

use crate::opt::Passes;

/// Expands the table of parameters: calls `$m!` with all rows.
macro_rules! for_each_param {
    ($m:ident) => {
        $m! {
            /// Most traces.
            maxtrace = 1000;
            /// Most recorded IR instructions of a trace.
            maxrecord = 4000;
            /// Most IR constants of a trace.
            maxirconst = 500;
            /// Most side traces of a root trace.
            maxside = 100;
            /// Most snapshots of a trace.
            maxsnap = 500;
            /// Iterations until a loop or a function is hot.
            hotloop = 56;
            /// Taken exits until a side trace is made.
            hotexit = 10;
            /// Attempts to make a side trace.
            tryside = 4;
            /// Unrolls of an instable loop.
            instunroll = 4;
            /// Unrolls of an inner loop.
            loopunroll = 15;
            /// Unrolls of recursion.
            callunroll = 3;
            /// Unrolls until recursion is linked.
            recunroll = 2;
            /// IR instructions in front of a call of a library function that has no recorder; with fewer, the trace is given up.
            minstitch = 0;
            /// Size in KiB of the parts of code memory that go back to the system when nothing in them is in use. Read when
            /// the first trace is ready.
            sizemcode = 64;
            /// Code memory in KiB.
            maxmcode = 16384;
        }
    };
}

macro_rules! define_params {
    ($($(#[$doc:meta])* $name:ident = $default:literal;)*) => {
        /// Parameters.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Params { $($(#[$doc])* pub $name: u32,)* }

        impl Default for Params {
            fn default() -> Params {
                Params { $($name: $default,)* }
            }
        }

        impl Params {
            /// All names, in order.
            pub const NAMES: &'static [&'static str] = &[$(stringify!($name),)*];

            /// Sets a parameter by name; whether it exists.
            pub fn set(&mut self, name: &str, value: u32) -> bool {
                match name {
                    $(stringify!($name) => self.$name = value,)*
                    _ => return false,
                }
                true
            }

            /// Reads a parameter by name.
            pub fn get(&self, name: &str) -> Option<u32> {
                match name {
                    $(stringify!($name) => Some(self.$name),)*
                    _ => None,
                }
            }
        }
    };
}
for_each_param!(define_params);

/// Everything that can be set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Is the JIT on?
    pub on: bool,
    /// Compile in place instead of on the compilation thread (tests).
    pub jitsync: bool,
    /// Print one line per trace and abort (`-jv`).
    pub verbose: bool,
    /// Where that goes: empty standard error, `-` standard output, else a file to append to.
    pub output: String,
    /// Passes.
    pub passes: Passes,
    /// Parameters.
    pub params: Params,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            on: true,
            jitsync: false,
            verbose: false,
            output: String::new(),
            passes: Passes::ALL,
            params: Params::default(),
        }
    }
}

/// An option that does not exist or has no valid value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownOption(pub String);

/// Names of the flags that `jit.status()` reports, in LuaJIT's order.
pub const FLAG_NAMES: &[&str] =
    &["fold", "cse", "dce", "fwd", "dse", "narrow", "loop", "abc", "sink", "fuse", "fma"];

impl Options {
    /// The switch behind a flag's name.
    fn flag(&mut self, name: &str) -> Option<&mut bool> {
        let p = &mut self.passes;
        Some(match name {
            "fold" => &mut p.fold,
            "cse" => &mut p.cse,
            "dce" => &mut p.dce,
            "fwd" => &mut p.fwd,
            "dse" => &mut p.dse,
            "narrow" => &mut p.narrow,
            "loop" => &mut p.loop_,
            "abc" => &mut p.abc,
            "sink" => &mut p.sink,
            "fuse" => &mut p.fuse,
            "fma" => &mut p.fma,
            "jitsync" => &mut self.jitsync,
            _ => return None,
        })
    }

    /// Start value of hot counters: a back edge takes two.
    pub fn hot_count(&self) -> u16 {
        (self.params.hotloop as u16).saturating_mul(2).saturating_sub(1)
    }

    /// Is a flag set?
    pub fn has(&self, name: &str) -> bool {
        self.clone().flag(name).is_some_and(|f| *f)
    }

    /// One word of `-O` or `jit.opt.start`: a level (one digit), a flag (`fold`, `+cse`, `-loop`, `nofwd`, `no-fwd`), or a
    /// parameter (`hotloop=10`; no digits are 0, and digits that are too many lose the upper bits).
    pub fn set(&mut self, word: &str) -> Result<(), UnknownOption> {
        if let &[digit @ b'0'..=b'9'] = word.as_bytes() {
            self.passes = Passes::level(u32::from(digit - b'0'));
            return Ok(());
        }
        let known = match word.split_once('=') {
            Some((name, value)) => parameter(value).is_some_and(|n| self.params.set(name, n)),
            None => {
                let off = word.strip_prefix('-').or(word.strip_prefix("no-")).or(word.strip_prefix("no"));
                let (name, on) = off.map_or((word.strip_prefix('+').unwrap_or(word), true), |n| (n, false));
                self.flag(name).map(|f| *f = on).is_some()
            }
        };
        if known { Ok(()) } else { Err(UnknownOption(word.to_string())) }
    }
}

/// Value of a parameter.
fn parameter(digits: &str) -> Option<u32> {
    let n = digits.bytes().try_fold(0u32, |n, c| {
        c.is_ascii_digit().then(|| n.wrapping_mul(10).wrapping_add(u32::from(c - b'0')))
    })?;
    (n <= i32::MAX as u32).then_some(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_set_levels_flags_and_parameters() {
        let mut o = Options::default();
        o.set("hotloop=1").expect("parameter");
        o.set("-loop").expect("flag");
        o.set("nofwd").expect("flag");
        o.set("jitsync").expect("flag");
        assert_eq!((o.params.hotloop, o.passes.loop_, o.passes.fwd, o.jitsync), (1, false, false, true));
        o.set("3").expect("level");
        assert!(o.passes.loop_ && o.passes.fwd);
        for name in FLAG_NAMES {
            assert_eq!(o.has(name), *name != "fma", "{name} at level 3");
            let on = !o.has(name);
            o.set(&format!("{}{name}", if on { '+' } else { '-' })).expect("flag");
            assert_eq!(o.has(name), on, "{name}");
        }
        assert_eq!(o.set("hotloop=x"), Err(UnknownOption("hotloop=x".into())));
        o.set("no-cse").expect("flag");
        o.set("maxtrace=4294967303").expect("parameter");
        o.set("maxside=").expect("parameter");
        assert_eq!((o.passes.cse, o.params.maxtrace, o.params.maxside), (false, 7, 0));
        for word in [
            "speed",
            "",
            "-",
            "+",
            "01",
            "33",
            "=1",
            "hotloop",
            "hotloop=1x",
            "hotloop=2147483648",
            "+fold=1",
        ] {
            assert_eq!(o.set(word), Err(UnknownOption(word.into())));
        }
    }
}
