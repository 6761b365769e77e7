//! Where a trace leads at its end.

/// Kind of link.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Link {
    /// Still recording.
    #[default]
    None,
    /// To its own loop.
    Loop,
    /// To the entry of another root trace.
    Root(u32),
    /// Back to the interpreter through the last snapshot.
    Interp,
}

impl Link {
    /// Name in `-jv` output.
    pub const fn name(self) -> &'static str {
        match self {
            Link::None => "none",
            Link::Loop => "loop",
            Link::Root(_) => "root",
            Link::Interp => "interpreter",
        }
    }
}
