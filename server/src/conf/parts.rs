//! What a level has beyond scalars and beyond the core: lists of the header, echo and access modules.
//!
//! One struct that a level fills while it is read and that takes from the level around it what its
//! modules inherit; each field says how.

use super::directives::echo::EchoCommand;
use super::directives::more_headers::HeaderCommand;

/// The parts of one level.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// `echo_before_body` lines; replaced by an inner level that has any.
    pub echo_before: Vec<EchoCommand>,
    /// `echo_after_body` lines; replaced likewise.
    pub echo_after: Vec<EchoCommand>,
    /// `more_*_headers` and `more_*_input_headers` lines; those of outer levels come first.
    pub more_headers: Vec<HeaderCommand>,
}

/// Takes the outer list when there is none of its own.
fn replace<T: Clone>(own: &mut Vec<T>, outer: &[T]) {
    if own.is_empty() {
        own.extend_from_slice(outer);
    }
}

impl Parts {
    /// Takes from the level around what this one inherits.
    pub fn inherit(&mut self, outer: &Parts) {
        replace(&mut self.echo_before, &outer.echo_before);
        replace(&mut self.echo_after, &outer.echo_after);
        self.more_headers.splice(0..0, outer.more_headers.iter().cloned());
    }
}
