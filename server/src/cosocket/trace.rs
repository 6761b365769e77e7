//! Where lines of level debug go.
//!
//! Off for everybody whose log does not take them: then a line costs one test
//! and its text is never made.

use std::rc::Rc;

/// A place for debug lines, or none.
#[derive(Clone, Default)]
pub struct Trace(Option<Rc<dyn Fn(&str)>>);

impl Trace {
    /// Lines go to `sink`.
    pub fn to(sink: Rc<dyn Fn(&str)>) -> Trace {
        Trace(Some(sink))
    }

    /// Whether lines go anywhere.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Writes a line if somebody reads it.
    pub fn line(&self, text: impl FnOnce() -> String) {
        if let Some(sink) = &self.0 {
            sink(&text());
        }
    }

    /// The same for a fixed text.
    pub fn text(&self, text: &str) {
        if let Some(sink) = &self.0 {
            sink(text);
        }
    }
}
