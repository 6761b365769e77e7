//! The modes every case is run in.

use crate::header::Header;

/// One way to run a case.
#[derive(Debug, Clone)]
pub struct Mode {
    /// Name, in failure messages.
    pub name: &'static str,
    /// Command-line arguments before the script.
    pub args: &'static [&'static str],
    /// Environment.
    pub env: &'static [(&'static str, &'static str)],
    /// Whether it needs the JIT.
    pub jit: bool,
    /// Whether it is the collector's stress mode.
    pub zeal: bool,
}

/// All modes. The first is the one that blesses.
pub const MODES: &[Mode] = &[
    Mode { name: "interp", args: &["-joff"], env: &[], jit: false, zeal: false },
    Mode { name: "jit", args: &[], env: &[], jit: true, zeal: false },
    Mode {
        name: "jit-hot",
        args: &["-Ojitsync", "-Ohotloop=1", "-Ohotexit=1"],
        env: &[],
        jit: true,
        zeal: false,
    },
    Mode { name: "fuel", args: &[], env: &[("MOONLIT_FUEL_SLICE", "1")], jit: true, zeal: false },
    Mode { name: "steps", args: &["-joff"], env: &[("MOONLIT_ZEAL", "2")], jit: false, zeal: true },
    Mode { name: "zeal", args: &["-joff"], env: &[("MOONLIT_ZEAL", "1")], jit: false, zeal: true },
    Mode {
        name: "jit-zeal",
        args: &["-Ojitsync", "-Ohotloop=1", "-Ohotexit=1"],
        env: &[("MOONLIT_ZEAL", "1")],
        jit: true,
        zeal: true,
    },
];

impl Mode {
    /// Does a case with this header run in this mode?
    pub fn wants(&self, h: &Header) -> bool {
        (!self.jit || h.jit) && (!self.zeal || h.zeal)
    }
}
